//! `rearguard run`: the daemon.

use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{FAILED, GOOD, WRONG, diagnostics};
use crate::app::{App, Running, rules};
use crate::clock::Clock;
use crate::config::{Config, LogFormat};
use crate::telemetry::{self, Metrics};

/// Run the daemon: read events, judge rules, flip, page.
///
/// SIGTERM or SIGINT stop it in an orderly way; SIGHUP reads rules and configuration again, as does a changed file.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The configuration
    #[arg(long, short, value_name = "FILE", default_value = "rearguard.yaml")]
    pub config: PathBuf,
    /// Log lines as JSON or for people; default: the configuration's `log.format`
    #[arg(long, value_enum)]
    pub log_format: Option<Lines>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Lines {
    Human,
    Json,
}

/// Runs the command; the result is the exit code.
pub fn run(args: &RunArgs) -> anyhow::Result<u8> {
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(found) => return Ok(wrong(&found)),
    };
    let (settings, warnings) = match rules::settings(&config, None) {
        Ok(compiled) => compiled,
        Err(found) => return Ok(wrong(&found)),
    };
    diagnostics::print(&config.warnings);
    diagnostics::print(&warnings);
    let format = match (args.log_format, config.log.format) {
        (Some(Lines::Json), _) | (None, LogFormat::Json) => telemetry::LogFormat::Json,
        (Some(Lines::Human), _) | (None, LogFormat::Human) => telemetry::LogFormat::Human,
    };
    telemetry::init_logs(format, &config.log.level)?;
    let metrics = Metrics::install()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let clock = match config.clock.is_real() {
            true => Clock::system(),
            false => {
                let start = config.clock.start.unwrap_or_else(|| Clock::system().now());
                Clock::scaled(start, config.clock.rate)
            }
        };
        let running = App::build(config, settings, clock, metrics).await?.spawn().await?;
        tracing::info!(address = %running.address, "listening");
        serve(running).await
    })
}

async fn serve(running: Running) -> anyhow::Result<u8> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        () = running.stopped() => {}
        _ = terminate.recv() => tracing::info!("told to stop"),
        _ = interrupt.recv() => tracing::info!("told to stop"),
    }
    match running.drain().await {
        Ok(()) => Ok(GOOD),
        Err(error) => {
            tracing::error!(%error, "stopped by an error");
            Ok(FAILED)
        }
    }
}

fn wrong(found: &[crate::engine::rule::diagnostic::Diagnostic]) -> u8 {
    diagnostics::print(found);
    WRONG
}
