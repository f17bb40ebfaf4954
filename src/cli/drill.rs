//! `rearguard drill`: a whole rollback of a flag that is there to practise on, timed step by step against the ten minutes.

mod events;
mod report;
mod step;
mod watch;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::events::{Plan, Writer};
use self::report::{Left, Report};
use self::step::Sum;
use self::watch::Facts;
use super::client::{Client, ServerArgs};
use super::output::{Format, Trouble, end};
use crate::dispatch::advice::quoted;
use crate::model::time::Timestamp;
use crate::store::TokenScope;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// What asking costs beyond the sum before a drill is called over.
const GRACE: Duration = Duration::from_secs(3);
/// How long the flag may take to be served as before.
const UNPIN_WITHIN: Duration = Duration::from_secs(60);

/// Practise a rollback: decide, flip, read back, open the incident, page; every step timed against the ten minutes.
///
/// Only on a flag that the configuration marks with `drill: true`. All of it is real but the breach, and marked [DRILL]
/// wherever somebody reads it. Exit code 1 if a step failed or took longer than `rearguard check` has proven. Needs a token
/// that may read, operate, rearm and ack.
#[derive(Args, Clone, Debug)]
pub struct DrillArgs {
    /// The flag, as `flag list` names it
    flag: String,
    /// Why, for those who are paged and those who read the history
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Where it begins
    #[arg(long, value_enum, default_value_t)]
    from: From,
    /// The daemon's configuration: its topic, and the rule that has to decide. Only from events
    #[arg(long, short, value_name = "FILE", default_value = "rearguard.yaml")]
    config: PathBuf,
    /// The rule that has to decide; default: the first on the flag that events can be made for
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// Leave the incident open and the flag rolled back, to look at them
    #[arg(long)]
    keep: bool,
    /// Wait until a human acknowledges the page
    #[arg(long)]
    wait_ack: bool,
    /// How long to wait for a human, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, requires = "wait_ack")]
    ack_timeout: u64,
    #[command(flatten)]
    server: ServerArgs,
}

/// Where a drill begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// With bad events, written to the daemon's own topic: minutes, as in earnest
    #[default]
    Events,
    /// With the decision: seconds, no event is written
    Decision,
}

impl From {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Decision => "decision",
        }
    }
}

/// One client per right.
pub struct Api {
    read: Client,
    operate: Client,
    rearm: Client,
    ack: Client,
}

/// Rests between looks, and hears Ctrl-C meanwhile.
struct Pause {
    runtime: tokio::runtime::Runtime,
    interrupt: Signal,
}

impl Pause {
    fn new() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let interrupt = runtime.block_on(async { signal(SignalKind::interrupt()) })?;
        Ok(Self { runtime, interrupt })
    }

    /// False when somebody has interrupted.
    fn rest(&mut self) -> bool {
        let Self { runtime, interrupt } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => false,
                () = tokio::time::sleep(EVERY) => true,
            }
        })
    }
}

/// Runs the command; the result is the exit code.
pub fn run(args: &DrillArgs) -> anyhow::Result<u8> {
    end(args.server.format, drill(args))
}

fn drill(args: &DrillArgs) -> Result<u8, Trouble> {
    let client = |scope| Client::new(&args.server, scope);
    let api = Api {
        read: client(TokenScope::Read)?,
        operate: client(TokenScope::Operate)?,
        rearm: client(TokenScope::Rearm)?,
        ack: client(TokenScope::Ack)?,
    };
    let mut pause = Pause::new().map_err(|error| Trouble::new(format!("no signals: {error}")))?;
    let before = watch::flag(&api, &args.flag)?;
    if !before.drill {
        let text =
            format!("flag `{}` is no flag for drills: a real rollback would be practised on it", args.flag);
        return Err(Trouble::wrong(text).hint("mark a flag of its own with `drill: true` (docs/practice.md)"));
    }
    let plan = match args.from {
        From::Events => Some(Plan::read(&args.config, &args.flag, args.rule.as_deref())?),
        From::Decision => None,
    };
    let body = json!({"reason": args.reason, "from": args.from.as_str()});
    let answer = api.operate.send(Method::POST, &["v1", "flags", &args.flag, "drill"], &body)?;
    let sum =
        Sum::deserialize(&answer["budget"]).map_err(|error| api.operate.stranger(&error.to_string()))?;
    let mut report = Report::new(args, plan.as_ref().map_or(sum, |plan| plan.sum.clone()));
    report.begin(answer["done"].as_str().unwrap_or("begun"))?;
    let writer = plan.as_ref().map(|plan| Writer::open(plan, watch::now(&api)?)).transpose()?;
    if let (Some(plan), Some(writer)) = (&plan, &writer) {
        report.begin(&plan.said())?;
        report.facts.begun = Some(writer.begun());
    }
    let whole = follow(&api, args, &mut pause, &mut report, writer)?;
    if !whole {
        return report.interrupted();
    }
    report.missing()?;
    report.left =
        Some(if args.keep { kept(&api, args) } else { clean_up(&api, args, &report.facts, &mut pause) });
    report.end()
}

/// Looks until all has happened or the sum is used up; false when interrupted. Events are written until something is decided.
fn follow(
    api: &Api,
    args: &DrillArgs,
    pause: &mut Pause,
    report: &mut Report,
    mut writer: Option<Writer>,
) -> Result<bool, Trouble> {
    let real = |seconds: f64| {
        let span = Duration::from_secs_f64(seconds);
        writer.as_ref().map_or(span, |writer| writer.real_span(span)) + GRACE
    };
    let (to_page, to_decide) = (real(report.sum.after_decision()), real(report.sum.seconds));
    let to_decide = writer.as_ref().map_or(to_decide, Writer::patience);
    let mut until = Instant::now() + to_decide;
    let mut decided = false;
    loop {
        // The drill may go on behind a daemon that restarts; what was seen last stays.
        report.trouble = watch::look(api, &args.flag, &mut report.facts).err();
        if let (None, Some(writer)) = (report.facts.opened, &mut writer) {
            writer.write()?;
            report.trouble = watch::look_at_rule(api, writer.rule(), &mut report.facts).err();
        }
        report.news()?;
        if report.facts.opened.is_some() && !std::mem::replace(&mut decided, true) {
            until = Instant::now() + to_page;
        }
        if report.facts.complete(args.wait_ack) {
            return Ok(true);
        }
        let human = match args.wait_ack && report.facts.complete(false) {
            true => Duration::from_secs(args.ack_timeout),
            false => Duration::ZERO,
        };
        if Instant::now() >= until + human {
            return Ok(true);
        }
        if !pause.rest() {
            return Ok(false);
        }
    }
}

/// Re-arms, resolves, and waits until the flag is served as before.
fn clean_up(api: &Api, args: &DrillArgs, facts: &Facts, pause: &mut Pause) -> Left {
    let why = json!({"reason": format!("drill over: {}", args.reason)});
    let mut left = Left::default();
    let [rearm, resolve] = by_hand(&args.flag, &facts.incident);
    let quoted = quoted(&args.flag);
    if facts.opened.is_none() {
        left.todo
            .push(format!("look later for what it may have left: rearguard incident list --flag {quoted}"));
        return left;
    }
    // What was withheld has no rollback to take off.
    if facts.withheld.is_none()
        && let Err(trouble) = api.rearm.send(Method::POST, &["v1", "flags", &args.flag, "rearm"], &why)
    {
        left.todo.push(format!("{trouble}: {rearm}"));
    }
    let incident = ["v1", "incidents", &facts.incident, "resolve"];
    if let Err(trouble) = api.ack.send(Method::POST, &incident, &why) {
        left.todo.push(format!("{trouble}: {resolve}"));
    }
    let until = Instant::now() + UNPIN_WITHIN;
    let mut flag = watch::flag(api, &args.flag);
    while left.todo.is_empty()
        && flag.as_ref().is_ok_and(|flag| !flag.pins.is_empty())
        && Instant::now() < until
        && pause.rest()
    {
        flag = watch::flag(api, &args.flag);
    }
    match flag {
        Ok(flag) => {
            if !flag.pins.is_empty() && left.todo.is_empty() {
                left.todo.push(format!("the flag is not served as before yet: rearguard flag show {quoted}"));
            }
            if let Some(platform) = &flag.platform {
                let how = facts.undo.as_deref().unwrap_or("see its history there");
                left.by_hand = Some(format!("put the flag back at `{platform}` by hand: {how}"));
            }
            left.serving = Some(flag.serving);
        }
        Err(trouble) => left.todo.push(trouble.to_string()),
    }
    left
}

/// `--keep`: what stands, and how to end it.
fn kept(api: &Api, args: &DrillArgs) -> Left {
    Left {
        serving: watch::flag(api, &args.flag).ok().map(|flag| flag.serving),
        kept: true,
        ..Left::default()
    }
}

/// How to end a drill by hand.
fn by_hand(flag: &str, incident: &str) -> [String; 2] {
    let incident = if incident.is_empty() { "INCIDENT" } else { incident };
    [
        format!("rearguard flag rearm {} --reason 'drill over'", quoted(flag)),
        format!("rearguard incident resolve {incident} --reason 'drill over'"),
    ]
}

/// A document's time, for `--format json`.
fn shown(at: Timestamp) -> Value {
    json!(at.to_string())
}

/// Whether to speak while it happens.
fn speaks(format: Format) -> bool {
    format == Format::Human
}
