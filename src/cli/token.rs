//! `rearguard token create|list|revoke`: works on the database itself, beside a running daemon or without one, so that the
//! first token needs no other. Whoever can read the configuration and write the database may make tokens.

use std::path::Path;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Subcommand};
use serde_json::json;

use super::GOOD;
use super::database::{self, DatabaseArgs};
use super::output::{Format, Ink, Paint, Trouble, end, show, show_json, utc};
use super::table::{Side, Table, cell};
use crate::clock::Clock;
use crate::store::{CLI, Store, StoreError, TokenInfo, TokenScope};

/// Make, list and revoke access tokens, in the database itself.
///
/// Needs no running daemon and no other token. Over HTTP the same is possible with a token of scope `admin` (docs/api.md).
#[derive(Args, Clone, Debug)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Subcommand, Clone, Debug)]
enum TokenCommand {
    /// Make a token; it is printed once and stored as a hash
    ///
    /// For a gateway `--scope evaluate`, for yourself `--scope read,ack,operate,rearm`.
    Create {
        /// Whose it is: the actor in every history
        #[arg(value_parser = name)]
        name: String,
        /// What it may do; may be given several times, or as a list with commas
        #[arg(long, required = true, value_delimiter = ',', value_parser = scopes())]
        scope: Vec<String>,
    },
    /// List all tokens: names and scopes, never the tokens themselves
    List,
    /// End a token; a running daemon notices within five seconds
    Revoke {
        /// Whose it is
        name: String,
    },
}

fn scopes() -> PossibleValuesParser {
    PossibleValuesParser::new(TokenScope::ALL.map(|scope| {
        let word = PossibleValue::new(scope.as_str());
        match scope {
            TokenScope::Evaluate => word.help("gateways: ask which variant to serve"),
            TokenScope::Metrics => word.help("Prometheus: /metrics"),
            TokenScope::Read => word.help("people and dashboards: status, incidents, flags"),
            TokenScope::Ack => word.help("people: acknowledge and resolve incidents"),
            TokenScope::Operate => {
                word.help("people: `flag rollback|pause|resume|kill`, `automation on|off`, `drill`")
            }
            TokenScope::Rearm => {
                word.help("people: `flag rearm`, `flag unkill`, which serve a variant again")
            }
            TokenScope::Consent => word.hide(true),
            TokenScope::Admin => word.help("everything, and tokens over HTTP"),
        }
    }))
}

fn name(text: &str) -> Result<String, String> {
    match TokenInfo::is_name(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("a name has {}", TokenInfo::NAMES)),
    }
}

/// Runs the command; the result is the exit code.
pub fn run(args: &TokenArgs) -> anyhow::Result<u8> {
    let url = match args.database.url() {
        Ok(url) => url,
        Err(code) => return Ok(code),
    };
    if let (true, TokenCommand::Create { .. }) = (args.database.is_configured(), &args.command) {
        make_folder(&url)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    end(args.database.format, runtime.block_on(token(args, &url)))
}

/// As the daemon does at its first start.
fn make_folder(url: &str) -> std::io::Result<()> {
    match database::file(url).and_then(Path::parent) {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::create_dir_all(folder),
        _ => Ok(()),
    }
}

async fn token(args: &TokenArgs, url: &str) -> Result<u8, Trouble> {
    // Only the first token may make a database.
    if !matches!(args.command, TokenCommand::Create { .. }) {
        database::must_exist(url)?;
    }
    let store = Store::open(url).await.map_err(trouble)?;
    let done = work(args, &store).await;
    store.close().await.map_err(trouble)?;
    done
}

async fn work(args: &TokenArgs, store: &Store) -> Result<u8, Trouble> {
    let now = Clock::system().now();
    match &args.command {
        TokenCommand::Create { name, scope } => {
            let scopes: Vec<TokenScope> = scope.iter().filter_map(|word| TokenScope::parse(word)).collect();
            let text = store.create_token_by(CLI, name, &scopes, now).await.map_err(trouble)?;
            match args.database.format {
                Format::Json => show_json(&json!({"name": name, "scopes": scopes, "token": text}))?,
                // The token alone goes to standard output, so that it can be piped into a file.
                Format::Human => {
                    eprintln!("token `{name}` may: {}. It is shown this once:", scope.join(", "));
                    show(&format!("{text}\n"))?;
                }
            }
        }
        TokenCommand::List => {
            let tokens = store.tokens().await.map_err(trouble)?;
            match args.database.format {
                Format::Json => show_json(&json!({"tokens": tokens}))?,
                Format::Human => show(&render(&tokens, Paint::stdout()))?,
            }
        }
        TokenCommand::Revoke { name } => {
            store.revoke_token(name, CLI, now).await.map_err(trouble)?;
            let done = format!("token {name} is revoked; a running daemon refuses it within five seconds");
            super::say_done(args.database.format, &json!({"done": done}))?;
        }
    }
    Ok(GOOD)
}

fn trouble(error: StoreError) -> Trouble {
    match &error {
        StoreError::TokenExists(name) => Trouble::new(error.to_string())
            .hint(format!("choose another name, or `rearguard token revoke {name}` first")),
        StoreError::NoSuchToken(_) => {
            Trouble::new(error.to_string()).hint("`rearguard token list` shows all tokens")
        }
        _ => error.into(),
    }
}

fn render(tokens: &[TokenInfo], paint: Paint) -> String {
    if tokens.is_empty() {
        return "no token yet; `rearguard token create NAME --scope SCOPE` makes one\n".to_owned();
    }
    use Side::Left;
    let mut table =
        Table::new(0, &[("NAME", Left), ("STATE", Left), ("CREATED (UTC)", Left), ("SCOPES", Left)]);
    for token in tokens {
        let (ink, state) = match token.revoked {
            Some(at) => (Ink::Dim, format!("revoked {}", utc(at))),
            None => (Ink::Good, "valid".to_owned()),
        };
        let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
        table.row(vec![
            token.name.clone().into(),
            cell(ink, state),
            utc(token.created).into(),
            scopes.join(", ").into(),
        ]);
    }
    table.render(paint)
}
