//! Commands that work on the database itself, beside a running daemon or without one: which database, and how to report.

use std::path::{Path, PathBuf};

use clap::Args;

use super::output::{Format, Trouble};
use super::{WRONG, diagnostics};
use crate::app::wiring::store_url;
use crate::config::{Config, Secret};
use crate::store::StoreError;

/// Which database, and how to report.
#[derive(Args, Clone, Debug)]
pub struct DatabaseArgs {
    /// The configuration, which says where the database is
    #[arg(long, short, global = true, value_name = "FILE", default_value = "rearguard.yaml")]
    config: PathBuf,
    /// The database itself, as `store.url` names it, instead of a configuration
    #[arg(long, global = true, value_name = "URL", env = "REARGUARD_DATABASE", hide_env_values = true, value_parser = super::client::secret)]
    database: Option<Secret>,
    /// How to report
    #[arg(long, global = true, value_enum, default_value_t)]
    pub format: Format,
}

impl DatabaseArgs {
    /// Its address; where the configuration is wrong, the exit code once that has been told.
    pub fn url(&self) -> Result<String, u8> {
        if let Some(url) = &self.database {
            return Ok(url.expose().to_owned());
        }
        Config::load(&self.config).map(|config| store_url(&config)).map_err(|found| {
            diagnostics::print(&found);
            eprintln!("  help: name the configuration with `--config`, or the database with `--database`");
            WRONG
        })
    }

    /// Whether the configuration says where it is.
    pub fn is_configured(&self) -> bool {
        self.database.is_none()
    }
}

/// The file of a SQLite database.
pub fn file(url: &str) -> Option<&Path> {
    url.strip_prefix("sqlite:").map(|path| Path::new(path.strip_prefix("//").unwrap_or(path)))
}

/// A mistaken path must not become a new, empty database.
///
/// # Errors
///
/// When there is no such file.
pub fn must_exist(url: &str) -> Result<(), Trouble> {
    match file(url).filter(|path| !path.exists()) {
        Some(path) => Err(Trouble::new(format!("there is no database at {}", path.display()))
            .hint("the daemon, or `rearguard token create`, makes it; is --config right?")),
        None => Ok(()),
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Database { doing, source } => Self::new(format!("{doing}: {source}")),
            StoreError::BadAddress { .. } => Self::wrong(error.to_string()),
            _ => Self::new(error.to_string()),
        }
    }
}
