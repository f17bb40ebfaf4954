//! Adapters that publish decisions for other systems to read.

pub mod kafka;
