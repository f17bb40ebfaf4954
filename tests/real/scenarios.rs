//! The daemon end to end, one file per story. Each prints what it measured.

mod broker;
mod fleet;
mod kills;
mod llmdrift;
mod poison;
mod promise;
mod reload;
mod replay;
mod stage;
mod starts;
