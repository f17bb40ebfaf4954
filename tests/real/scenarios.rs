//! The daemon end to end, one file per story. Each prints what it measured.

mod fleet;
mod kills;
mod llmdrift;
mod stage;
