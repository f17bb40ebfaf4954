//! The daemon end to end, one file per story. Each prints what it measured.

mod aftermath;
mod broker;
mod canary;
mod commands;
mod drill;
mod fleet;
mod gap;
mod group;
mod kills;
mod llmdrift;
mod long;
mod poison;
mod promise;
mod receivers;
mod reload;
mod replay;
mod secrets;
mod stage;
mod starts;
mod unleash;
