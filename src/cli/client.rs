//! The command line as a client of the admin API: where it is, who asks, and what to say when it does not answer.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use super::output::{Format, Trouble};
use crate::config::Secret;
use crate::store::TokenScope;

/// Longer than the server's own bound for a request.
const WITHIN: Duration = Duration::from_secs(20);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Which Rearguard is meant, who asks, and how the answer looks.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// Where Rearguard listens
    #[arg(
        long,
        global = true,
        env = "REARGUARD_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        help_heading = "Connection"
    )]
    url: String,
    /// The token, as `rearguard token create` printed it; other users of this machine can see a command line, so prefer the
    /// environment or a file
    #[arg(long, global = true, env = "REARGUARD_TOKEN", hide_env_values = true, value_parser = secret, help_heading = "Connection")]
    token: Option<Secret>,
    /// A file that holds nothing but the token; wins over `--token`
    #[arg(
        long,
        global = true,
        env = "REARGUARD_TOKEN_FILE",
        value_name = "FILE",
        help_heading = "Connection"
    )]
    token_file: Option<PathBuf>,
    /// How to report
    #[arg(long, global = true, value_enum, default_value_t)]
    pub format: Format,
}

/// A value that no help text and no error shows.
pub fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

/// A client of one Rearguard with one token.
pub struct Client {
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    base: Url,
    token: Secret,
    /// What the command needs, for hints.
    scope: TokenScope,
}

impl Client {
    /// Checks address and token; nothing is asked yet. `scope` is what the command needs.
    pub fn new(args: &ServerArgs, scope: TokenScope) -> Result<Self, Trouble> {
        let base = base(&args.url)?;
        let token = token(args, scope)?;
        let mut http = reqwest::Client::builder()
            .timeout(WITHIN)
            .connect_timeout(CONNECT_WITHIN)
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&base) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| Trouble::new(format!("no HTTP client: {error}")))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Trouble::new(format!("no runtime: {error}")))?;
        Ok(Self { http, runtime, base, token, scope })
    }

    /// The address, for people.
    pub fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Asks for a document.
    pub fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, Trouble> {
        self.json(self.call(Method::GET, path, query, None)?)
    }

    /// Asks for a text.
    pub fn text(&self, path: &[&str]) -> Result<String, Trouble> {
        let answer = self.call(Method::GET, path, &[], None)?;
        String::from_utf8(answer).map_err(|_| self.stranger("it is no text"))
    }

    /// Sends a command and gives its answer.
    pub fn send(&self, method: Method, path: &[&str], body: &Value) -> Result<Value, Trouble> {
        self.json(self.call(method, path, &[], Some(body))?)
    }

    fn json(&self, answer: Vec<u8>) -> Result<Value, Trouble> {
        serde_json::from_slice(&answer).map_err(|_| self.stranger("it is no JSON"))
    }

    fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Vec<u8>, Trouble> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method, url).bearer_auth(self.token.expose());
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = self.runtime.block_on(async {
            let response = request.send().await?;
            let status = response.status();
            Ok((status, response.bytes().await?.to_vec()))
        });
        match answer {
            Ok((status, bytes)) if status.is_success() => Ok(bytes),
            Ok((status, bytes)) => Err(self.refused(status, &bytes, path)),
            Err(error) => Err(self.unreachable(&error)),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Trouble {
        let at = self.address();
        if error.is_timeout() && !error.is_connect() {
            return Trouble::new(format!("{at} did not answer within {} s", WITHIN.as_secs()))
                .hint("whether it took effect is not known: look at `rearguard status` before asking again");
        }
        Trouble::new(format!("cannot reach Rearguard at {at}: {}", root(error))).hint(
            "is the daemon running (`rearguard run`)? If it listens elsewhere, say where with --url or REARGUARD_URL",
        )
    }

    fn refused(&self, status: StatusCode, body: &[u8], path: &[&str]) -> Trouble {
        let problem: Option<Value> = serde_json::from_slice(body).ok().filter(Value::is_object);
        let said = |key: &str| problem.as_ref()?.get(key)?.as_str().map(str::to_owned);
        let Some(detail) = said("detail") else {
            return self.stranger(&format!("status {status}"));
        };
        let create =
            format!("`rearguard token create NAME --scope {} --config rearguard.yaml`", self.scope.as_str());
        let hint = match (status.as_u16(), path.get(1).copied()) {
            (401, _) => Some(format!("set REARGUARD_TOKEN to a valid token; {create} makes one")),
            (403, _) => Some(format!(
                "use a token that has that scope, or `admin`; {create} makes one with this scope"
            )),
            (404, Some("flags")) => Some("`rearguard flag list` shows all flags".to_owned()),
            (404, Some("incidents")) => {
                Some("`rearguard incident list --all` shows all incidents".to_owned())
            }
            (409, Some("flags")) if path.last() != Some(&"drill") => {
                Some("`rearguard flag show KEY` shows which scopes are rolled back".to_owned())
            }
            (503, _) if said("type").is_some_and(|kind| kind.ends_with(":time-out")) => Some(
                "`rearguard status` shows how things stand; commands wait while windows are being restored"
                    .to_owned(),
            ),
            _ => said("hint"),
        };
        let trouble = if status.as_u16() == 400 { Trouble::wrong(detail) } else { Trouble::new(detail) };
        let trouble = match hint {
            Some(hint) => trouble.hint(hint),
            None => trouble,
        };
        match problem {
            Some(problem) => trouble.problem(problem),
            None => trouble,
        }
    }

    /// Something answers, and it is not Rearguard.
    pub fn stranger(&self, why: &str) -> Trouble {
        Trouble::new(format!(
            "{} answered, but not as Rearguard {} does: {why}",
            self.address(),
            env!("CARGO_PKG_VERSION")
        ))
        .hint("is --url right, and is the daemon of the same version?")
    }
}

fn base(text: &str) -> Result<Url, Trouble> {
    let wrong = |why: &str| {
        Trouble::wrong(format!("`{text}` {why}")).hint("write --url http://host:8080, or set REARGUARD_URL")
    };
    let mut url = Url::parse(text).map_err(|_| wrong("is no address"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("is no http or https address"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Trouble::wrong("--url must not hold credentials").hint("set REARGUARD_TOKEN instead"));
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn token(args: &ServerArgs, scope: TokenScope) -> Result<Secret, Trouble> {
    let (token, from) = match (&args.token_file, &args.token) {
        (Some(file), _) => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                Trouble::wrong(format!("the token file {} cannot be read: {error}", file.display()))
                    .hint("name a file that holds nothing but the token")
            })?;
            (Secret::new(text.trim()), format!("the token file {}", file.display()))
        }
        (None, Some(token)) => (Secret::new(token.expose().trim()), "the token".to_owned()),
        (None, None) => {
            return Err(Trouble::wrong("no token was given").hint(format!(
                "set REARGUARD_TOKEN or use --token-file; `rearguard token create NAME --scope {} --config rearguard.yaml` makes one",
                scope.as_str()
            )));
        }
    };
    let text = token.expose();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        let what = if text.is_empty() { "is empty" } else { "holds more than one word" };
        return Err(
            Trouble::wrong(format!("{from} {what}")).hint("a token is one word that begins with `rg_`")
        );
    }
    Ok(token)
}

/// The innermost cause: what the system said.
fn root(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
