//! Flag platforms: where a flip is written and read back. One small trait; a platform is one file.

pub mod builtin;
pub mod configcat;
pub mod file;
pub mod flagd;
pub mod goff;
pub mod launchdarkly;
pub mod ofrep;
pub mod remote;
pub mod statsig;
pub mod text;
pub mod unleash;
pub mod vendor;
pub mod webhook;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::client::Outbound;
use super::failure::Failure;
use super::receiver::Attempt;
use crate::clock::Clock;
use crate::model::flag::Served;
use crate::model::time::Timestamp;
use crate::store::Flip;

/// A system that decides who gets which variant.
///
/// A flip goes through it as read, write on condition, read back. Each of the three may be tried again at any time, after a
/// crash as well: what is read decides, never what was meant to have been written.
pub trait FlagPlatform: Send + Sync {
    /// Its name in the configuration and in outbox rows.
    fn name(&self) -> &str;

    /// The adapter, for metrics.
    fn adapter(&self) -> &'static str;

    /// Reads the flag as it is now, and whether what the flip wants is so already. May take `within` of real time.
    fn read<'a>(&'a self, wanted: &'a Wanted, within: Duration) -> Attempt<'a, Seen>;

    /// Pins control for everybody in scope, or holds the share where it stands, or takes either back: on condition that the
    /// flag still has the version that was read; otherwise [`Failure::Conflict`]. A platform on which only people undo
    /// says in [`read`](Self::read) that there is nothing left to do.
    fn write<'a>(
        &'a self,
        wanted: &'a Wanted,
        version: &'a str,
        now: Timestamp,
        within: Duration,
    ) -> Attempt<'a, ()>;

    /// Asks the evaluation plane, as gateways do, whether the flip is in force. What was seen, in a few words; a failure if
    /// it is not in force.
    fn verify<'a>(&'a self, wanted: &'a Wanted, within: Duration) -> Attempt<'a, String>;
}

/// A flip, and what the platform needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub flip: Flip,
    /// What the flag and its variations are called there; `None` for the built-in store.
    pub served: Option<Served>,
    /// When the flip was decided: what a human has changed since goes before it.
    pub since: Timestamp,
}

impl Wanted {
    /// What the flag is called on this platform; a failure if configuration says no longer that it is there.
    pub fn there(&self) -> Result<&Served> {
        let gone = || format!("flag `{}` is not served by this platform any more", self.flip.flag());
        self.served.as_ref().ok_or_else(|| Failure::permanent(gone()))
    }
}

/// A flag before a flip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The platform's own word for this state of the flag; [`FlagPlatform::write`] gets it back.
    pub version: String,
    /// What the flip wants has been written before.
    pub done: bool,
    /// For a pin: nobody in scope gets the treatment now, for whatever reason.
    pub safe: bool,
    /// What a human changed of this targeting since the decision, and who, where the platform tells: theirs is the word.
    pub changed: Option<String>,
    /// Why a write would wait for a human (an approval, a lock): nothing is written then, somebody is paged at once.
    pub locked: Option<String>,
    /// How a human puts back what stood before: a link, or the definition itself.
    pub undo: Option<String>,
}

/// Shorthand of the adapters.
pub type Result<T> = std::result::Result<T, Failure>;

/// A platform as configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformSpec {
    pub name: String,
    pub kind: PlatformKind,
}

/// The adapter of a platform and what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlatformKind {
    Flagd {
        path: PathBuf,
        /// Where flagd answers OFREP, for the read-back.
        ofrep: Option<String>,
    },
    GoFeatureFlag {
        path: PathBuf,
        /// The relay proxy, which is told to read the file anew and asked what it serves.
        relay: Option<goff::RelaySpec>,
    },
    /// A vendor's API.
    Remote(remote::RemoteSpec),
}

/// Opens a platform. Nothing is sent or written; addresses are checked against the allow-list.
pub fn open(spec: &PlatformSpec, outbound: &Outbound) -> Result<Arc<dyn FlagPlatform>> {
    let name = spec.name.clone();
    Ok(match &spec.kind {
        PlatformKind::Flagd { path, ofrep } => {
            let ask = ofrep.as_ref().map(|url| ofrep::Ofrep::new(outbound, url, None)).transpose()?;
            Arc::new(file::FlagFile::new(name, path.clone(), Box::new(flagd::Flagd { ask }))?)
        }
        PlatformKind::GoFeatureFlag { path, relay } => {
            let relay = relay.as_ref().map(|relay| goff::Relay::new(outbound, relay)).transpose()?;
            Arc::new(file::FlagFile::new(name, path.clone(), Box::new(goff::GoFeatureFlag { relay }))?)
        }
        PlatformKind::Remote(spec) => Arc::new(remote::Remote::new(name, spec.clone(), outbound)?),
    })
}

/// Tries whether a flag that stands in a file could be pinned there, without changing the file. `None` where flags do not stand in
/// files. It blocks.
pub fn rehearse(kind: &PlatformKind, served: &Served) -> Option<Result<()>> {
    let (path, dialect): (_, Box<dyn file::Dialect>) = match kind {
        PlatformKind::Flagd { path, .. } => (path, Box::new(flagd::Flagd { ask: None })),
        PlatformKind::GoFeatureFlag { path, .. } => (path, Box::new(goff::GoFeatureFlag { relay: None })),
        PlatformKind::Remote(_) => return None,
    };
    let opened = file::FlagFile::new(served.platform.clone(), path.clone(), dialect);
    Some(opened.and_then(|file| file.rehearse(served)))
}

/// Work that may take this much real time; when it is over, nobody knows what came of it.
async fn bounded<T>(what: &str, work: impl Future<Output = Result<T>>, within: Duration) -> Result<T> {
    match tokio::time::timeout(within, work).await {
        Ok(done) => done,
        Err(_) => Err(Failure::Unknown { why: format!("{what} did not answer in time") }),
    }
}

/// How often a platform is asked until what was written is served, and how long is waited in between (real time).
const LOOKS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(500);

/// Looks again while what is seen may still change: a written change takes a moment to be served.
async fn patiently<T, F: Future<Output = Result<T>>>(
    clock: &Clock,
    within: Duration,
    look: impl Fn(Duration) -> F,
) -> Result<T> {
    let watch = clock.stopwatch();
    let mut last = Failure::retryable("it was not asked");
    for _ in 0..LOOKS {
        let Some(left) = within.checked_sub(watch.elapsed()).filter(|left| *left > PAUSE) else { break };
        match look(left - PAUSE).await {
            Err(failure @ Failure::Retryable { .. }) => last = failure,
            ended => return ended,
        }
        clock.sleep_real(PAUSE).await;
    }
    Err(last)
}

/// A question changes nothing: one that got no answer can be asked again.
fn question(failure: Failure) -> Failure {
    match failure {
        Failure::Unknown { why } => Failure::retryable(why),
        failure => failure,
    }
}
