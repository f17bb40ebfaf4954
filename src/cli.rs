//! The command line: one file per command. Parses, calls, and says how it ended: 0 good, 1 found something or failed, 2 wrong
//! use or bad input.

pub mod check;
mod demo;
pub mod diagnostics;
mod run;

use clap::{Parser, Subcommand};

/// All is well.
pub const GOOD: u8 = 0;
/// Something was found, or a command failed.
pub const FAILED: u8 = 1;
/// The command or a file is wrong; nothing was done.
pub const WRONG: u8 = 2;

/// Watches AI feature variants and takes them back when they hurt.
#[derive(Parser, Debug)]
#[command(name = "rearguard", version, about, long_about = None, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(run::RunArgs),
    Check(check::CheckArgs),
    Demo(demo::DemoArgs),
}

/// Runs a parsed command line; the result is the exit code.
pub fn main(cli: &Cli) -> anyhow::Result<u8> {
    match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Demo(args) => demo::run(args),
    }
}
