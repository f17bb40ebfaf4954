//! `rearguard receivers list|test`: who is told, and whether they would hear it. Works from the configuration alone, with the
//! adapters, secrets and allow-list of the daemon, beside a running one or without.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::json;

use super::output::{Format, Ink, Paint, Trouble, end, show, show_json};
use super::table::{Side, Table, cell};
use super::{FAILED, GOOD, WRONG, diagnostics};
use crate::app::wiring;
use crate::clock::Clock;
use crate::config::{Config, Receiver as Configured};
use crate::dispatch::failure::Failure;
use crate::dispatch::receiver::{Content, Notice, Receiver};
use crate::engine::budget::ATTEMPT;
use crate::engine::output::{Message, MessageKind};
use crate::engine::rule::diagnostic::nearest;
use crate::model::incident::Severity;

/// See who is told, and try whether they hear it.
#[derive(Args, Clone, Debug)]
pub struct ReceiversArgs {
    #[command(subcommand)]
    command: ReceiversCommand,
    /// The configuration
    #[arg(long, short, global = true, value_name = "FILE", default_value = "rearguard.yaml")]
    config: PathBuf,
    /// How to report
    #[arg(long, global = true, value_enum, default_value_t)]
    format: Format,
}

#[derive(Subcommand, Clone, Debug)]
enum ReceiversCommand {
    /// List the configured receivers: what they are, whether they are paged, and whether what they are told is read back
    List,
    /// Send a test that is marked as one, read it back where the service allows that, and resolve it
    ///
    /// It goes the way of a page: the same adapter, address, key and allow-list, and for receivers that pages go to with the
    /// same request to wake somebody. Needs no running daemon, and a running one knows nothing of it.
    ///
    /// Exit codes: 0 all took it; 1 one did not; 2 wrong use or a wrong configuration, nothing was sent.
    Test(TestArgs),
}

#[derive(Args, Clone, Debug)]
struct TestArgs {
    /// Names of receivers, as the configuration has them
    #[arg(required_unless_present = "all", value_name = "NAME")]
    names: Vec<String>,
    /// Every configured receiver, one after the other
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// How bad the test says it is: services choose by it whether to ring
    #[arg(long, value_enum, default_value_t)]
    severity: How,
    /// Leave the test open, for somebody to look at or to acknowledge
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum How {
    #[default]
    Info,
    Warning,
    Critical,
}

impl From<How> for Severity {
    fn from(how: How) -> Self {
        match how {
            How::Info => Self::Info,
            How::Warning => Self::Warning,
            How::Critical => Self::Critical,
        }
    }
}

/// Runs the command; the result is the exit code.
pub fn run(args: &ReceiversArgs) -> anyhow::Result<u8> {
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(found) => {
            diagnostics::print(&found);
            return Ok(WRONG);
        }
    };
    end(
        args.format,
        match &args.command {
            ReceiversCommand::List => list(&config, args.format),
            ReceiversCommand::Test(test) => tests(&config, test, args.format),
        },
    )
}

/// A receiver as the list shows it.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    kind: &'static str,
    /// The address, without what is secret in it.
    at: String,
    pages: bool,
    notices: bool,
    proof: &'static str,
}

impl<'a> Listed<'a> {
    fn of(config: &'a Config, name: &'a str, receiver: &Configured) -> Self {
        let routes = &config.routes;
        let of = |usual: &[String], own: fn(&crate::model::route::Route) -> Option<&Vec<String>>| {
            let own = routes.matches.iter().filter_map(own).flatten();
            usual.iter().chain(own).any(|one| one == name)
        };
        Self {
            name,
            kind: receiver.as_str(),
            at: place(receiver),
            pages: of(&routes.page, |route| route.page.as_ref()),
            notices: of(&routes.notify, |route| route.notify.as_ref()),
            proof: proof(receiver),
        }
    }
}

/// Where it is; Slack's address is a secret but for its host.
fn place(receiver: &Configured) -> String {
    match receiver {
        Configured::Kafka { topic, .. } => format!("topic `{topic}`"),
        Configured::Slack { url } => reqwest::Url::parse(url.expose())
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_default(),
        other => other.url().unwrap_or_default().to_owned(),
    }
}

/// What it means that a receiver took something.
const fn proof(receiver: &Configured) -> &'static str {
    match receiver {
        Configured::Alertmanager { .. } => "read back: it stands as it was told",
        Configured::Kafka { .. } => "the brokers have it",
        Configured::Webhook { .. } => "answered with success; what it does with it, it alone knows",
        Configured::Slack { .. } => "posted; look at the channel",
        Configured::Pagerduty { .. } | Configured::Jsm { .. } | Configured::Incidentio { .. } => {
            "accepted, not confirmed: its key cannot read; look there, or at the phone"
        }
    }
}

fn list(config: &Config, format: Format) -> Result<u8, Trouble> {
    let listed: Vec<Listed<'_>> =
        config.receivers.iter().map(|(name, receiver)| Listed::of(config, name, receiver)).collect();
    if format == Format::Json {
        return show_json(&json!({ "receivers": listed })).map(|()| GOOD);
    }
    if listed.is_empty() {
        show("no receiver is configured: nobody is told of anything (`receivers:`, docs/integrations)\n")?;
        return Ok(GOOD);
    }
    let paint = Paint::stdout();
    let columns = ["receiver", "kind", "at", "gets", "what it means that it took something"];
    let mut table = Table::new(0, &columns.map(|name| (name, Side::Left)));
    for one in &listed {
        let gets = match (one.pages, one.notices) {
            (true, true) => "pages, notices",
            (true, false) => "pages",
            (false, true) => "notices",
            (false, false) if one.kind == "kafka" => "decisions",
            (false, false) => "what rules send it",
        };
        let cells = [one.name, one.kind, &one.at, gets, one.proof];
        table.row(cells.map(|text| cell(Ink::Plain, text)).into());
    }
    show(&table.render(paint)).map(|()| GOOD)
}

/// One thing that was tried.
#[derive(Serialize)]
struct Step {
    step: &'static str,
    seconds: f64,
    ok: bool,
    /// What came of it.
    said: String,
}

/// What became of the test of one receiver.
#[derive(Serialize)]
struct Tested {
    name: String,
    kind: &'static str,
    at: String,
    ok: bool,
    steps: Vec<Step>,
}

fn tests(config: &Config, args: &TestArgs, format: Format) -> Result<u8, Trouble> {
    let names: Vec<&str> = match args.all {
        true => config.receivers.keys().map(String::as_str).collect(),
        false => args.names.iter().map(String::as_str).collect(),
    };
    for name in &names {
        if !config.receivers.contains_key(*name) {
            return Err(unknown(config, name));
        }
    }
    if names.is_empty() {
        return Err(Trouble::wrong("no receiver is configured").hint("add one under `receivers:`"));
    }
    let clock = Clock::system();
    let cannot = |failure: Failure| Trouble::wrong(failure.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Trouble::new(format!("starting: {error}")))?;
    let outbound = wiring::outbound(config, clock).map_err(cannot)?;
    let opened = wiring::receivers(config, &outbound).map_err(cannot)?;
    let mut done = Vec::new();
    for name in names {
        let Some((configured, receiver)) =
            config.receivers.get(name).zip(opened.iter().find(|one| one.name() == name))
        else {
            continue;
        };
        let listed = Listed::of(config, name, configured);
        let tested = runtime.block_on(test(&listed, receiver, args, config, clock, format))?;
        done.push(tested);
    }
    let good = done.iter().all(|one| one.ok);
    if format == Format::Json {
        show_json(&json!({ "receivers": done, "ok": good }))?;
    }
    Ok(if good { GOOD } else { FAILED })
}

fn unknown(config: &Config, name: &str) -> Trouble {
    let names = config.receivers.keys().map(String::as_str);
    let hint = match nearest(name, names.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    Trouble::wrong(format!("the configuration has no receiver `{name}`")).hint(hint)
}

/// Tells, and takes it back; told as it happens.
async fn test(
    listed: &Listed<'_>,
    receiver: &Arc<dyn Receiver>,
    args: &TestArgs,
    config: &Config,
    clock: Clock,
    format: Format,
) -> Result<Tested, Trouble> {
    let say = |text: &str| if format == Format::Human { show(text) } else { Ok(()) };
    let paint = Paint::stdout();
    let title = format!("{} ({}, {})", listed.name, listed.kind, listed.at);
    say(&format!("{}\n", paint.bold(&title)))?;
    let page = notice(listed, args, config, clock);
    let mut steps = Vec::new();
    let mut calls = vec![("told", page.clone(), listed.proof)];
    if !args.keep {
        calls.push(("resolved", ended(page), "so that nothing of it stays open"));
    }
    for (step, notice, proof) in calls {
        let began = Instant::now();
        let told = receiver.tell(&notice, ATTEMPT).await;
        let took = began.elapsed();
        let (ink, said) = match &told {
            Ok(()) => (Ink::Good, proof.to_owned()),
            Err(failure) => (Ink::Bad, why(failure)),
        };
        let ok = told.is_ok();
        let verdict = paint.ink(ink, if ok { "OK" } else { "FAILED" });
        say(&format!("{:>7.2} s  {step:<9} {verdict}  {said}\n", took.as_secs_f64()))?;
        steps.push(Step { step, seconds: rounded(took), ok, said });
        if !ok {
            break;
        }
    }
    if args.keep && steps.iter().all(|step| step.ok) {
        say("           kept      it stays open there until somebody closes it by hand\n")?;
    }
    let ok = steps.iter().all(|step| step.ok);
    Ok(Tested { name: listed.name.to_owned(), kind: listed.kind, at: listed.at.clone(), ok, steps })
}

fn rounded(took: Duration) -> f64 {
    (took.as_secs_f64() * 1000.0).round() / 1000.0
}

/// The test as a page would be told.
fn notice(listed: &Listed<'_>, args: &TestArgs, config: &Config, clock: Clock) -> Notice {
    let now = clock.now();
    let key = format!("rearguard/test/{}/{}", listed.name, now.as_millis());
    let message = Message {
        dedup_key: key.clone(),
        kind: MessageKind::Notice,
        severity: args.severity.into(),
        flag: None,
        variant: None,
        decision: None,
        incident: None,
        summary: format!("[TEST] Rearguard can reach receiver `{}`: nothing is wrong", listed.name),
        detail: format!(
            "Somebody tries whether pages arrive (`rearguard receivers test {}`). Nothing is broken and there is nothing to do.",
            listed.name
        ),
        receiver: None,
        at: now,
    };
    Notice {
        id: format!("{key}/0"),
        content: Content::Message(Box::new(message)),
        link: config.external_url.clone(),
        since: now,
        wakes: listed.pages,
        update: false,
        facts: None,
    }
}

/// The end of a test.
fn ended(test: Notice) -> Notice {
    let content = match test.content {
        Content::Message(message) => Content::Message(Box::new(Message {
            kind: MessageKind::Resolved,
            severity: Severity::Info,
            summary: "[TEST] The test of Rearguard is over".into(),
            detail: String::new(),
            ..*message
        })),
        decision @ Content::Decision(_) => decision,
    };
    Notice { id: format!("{}/end", test.id), content, wakes: false, ..test }
}

/// Why it was not told, and what the daemon would do about it.
fn why(failure: &Failure) -> String {
    let then = match failure {
        Failure::Permanent { .. } => "a page would go to the receivers of `routes: notify` at once",
        Failure::Unknown { .. } => "a page would be told again",
        Failure::Retryable { .. } | Failure::Conflict { .. } => {
            "a page would be tried again, and go to the receivers of `routes: notify` as well after 90 s"
        }
    };
    format!("{failure}; {then}")
}
