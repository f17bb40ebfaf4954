//! The commands, one file each, and how they show what is wrong with a person's file.

pub mod check;
pub mod diagnostics;
