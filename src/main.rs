//! Parse, call, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use rearguard::cli::{self, Cli};

fn main() -> ExitCode {
    // Wrong use ends in clap with its own message and exit code 2.
    let cli = Cli::parse();
    match cli::main(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("rearguard: {error:#}");
            ExitCode::from(cli::FAILED)
        }
    }
}
