//! `rearguard demo`: the whole daemon in one process, told as a story in less than a minute.
//!
//! Nothing is simulated but the world: librdkafka's in-process mock broker, an AI gateway with seeded users, and an on-call
//! receiver on loopback. Between them runs the daemon that `rearguard run` runs, on a clock that is 150 times faster.

mod gateway;
mod markdown;
mod news;
mod oncall;
mod screen;
mod story;
mod times;
mod traffic;
mod world;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::gateway::Gateway;
use self::news::News;
use self::oncall::Call;
use self::screen::{Mark, Screen};
use self::story::Story;
use self::traffic::Plan;
use self::world::{CONTROL, FLAG, Folder, RATE, TREATMENT};
use super::{FAILED, GOOD};
use crate::app::{App, Running, rules};
use crate::clock::{Clock, Stopwatch};
use crate::dispatch::words::count;
use crate::engine::input::Fates;
use crate::model::id::IncidentId;
use crate::store::TokenScope;
use crate::supervise::{OnError, Supervisor, Task};
use crate::telemetry::{self, LogFormat, Metrics};

const PARTITIONS: usize = 3;
/// How long the daemon may take to consume what the broker has acknowledged (real time).
const CATCH_UP: Duration = Duration::from_secs(5);

/// Show a rollback from the first bad answer to the page, in less than a minute; needs no server and no network.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Leave everything running at the end, HTTP port open, until Ctrl-C; says where its files are
    #[arg(long)]
    pub keep: bool,
    /// Other users, other luck
    #[arg(long, value_name = "N", default_value_t = 2023)]
    pub seed: u64,
    /// Plain lines, as on anything that is no terminal
    #[arg(long)]
    pub plain: bool,
}

/// Runs the command; the result is the exit code.
pub fn run(args: &DemoArgs) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let supervisor = Supervisor::new();
    // Before there is a folder that a signal could leave behind.
    let stop = runtime.block_on(async { stop_signals(&supervisor) })?;
    let mut folder = Folder::new()?;
    telemetry::init_logs_to_file(&folder.log(), LogFormat::Human, "info")?;
    let screen = Screen::new(args.plain);
    let told = runtime.block_on(async {
        let told = play(args, &screen, &folder, &supervisor, &stop).await;
        let drained = supervisor.drain().await.map_err(|why| anyhow::anyhow!(why));
        // A gateway or receiver that broke down is the cause of whatever the story ran into.
        drained.and(told)
    });
    screen.rest();
    match told {
        Ok(Ended::Told) => Ok(GOOD),
        Ok(Ended::Interrupted) => {
            eprintln!("interrupted");
            Ok(FAILED)
        }
        Err(error) => {
            folder.keep = true;
            eprintln!("\nrearguard demo: {error:#}\nThe daemon's log: {}", folder.log().display());
            Ok(FAILED)
        }
    }
}

/// Cancelled by Ctrl-C, SIGTERM, or a terminal that is closed.
fn stop_signals(supervisor: &Supervisor) -> anyhow::Result<CancellationToken> {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let stop = CancellationToken::new();
    for kind in kinds {
        let mut given = Some(signal(kind)?);
        let stop = stop.clone();
        let task = Task { name: "demo-signals", on_error: OnError::Stop, drain: Duration::from_secs(1) };
        supervisor.spawn(task, move |end| {
            let (given, stop) = (given.take(), stop.clone());
            async move {
                let Some(mut signal) = given else {
                    return Err("signals are heard only once".into());
                };
                tokio::select! {
                    _ = signal.recv() => stop.cancel(),
                    () = end.cancelled() => {}
                }
                Ok(())
            }
        });
    }
    Ok(stop)
}

/// How the demo ended, if nothing went wrong.
enum Ended {
    Told,
    Interrupted,
}

/// What is there once the daemon runs.
struct Stage<'a> {
    screen: &'a Screen,
    clock: Clock,
    running: &'a Running,
    real: Stopwatch,
}

/// What the story leaves behind.
struct Legacy {
    gateway: Gateway,
    calls: mpsc::Receiver<Call>,
    incident: IncidentId,
    url: String,
    token: String,
}

async fn play(
    args: &DemoArgs,
    screen: &Screen,
    folder: &Folder,
    supervisor: &Supervisor,
    stop: &CancellationToken,
) -> anyhow::Result<Ended> {
    let real = Clock::system().stopwatch();
    let secret = blake3::hash(folder.path.as_os_str().as_encoded_bytes()).to_hex();
    let (oncall, calls) = oncall::listen(secret.as_str(), supervisor).await?;
    let cluster = world::broker()?;
    let brokers = cluster.bootstrap_servers();
    let config = world::config(&folder.path, &brokers, oncall, secret.as_str())?;
    let (settings, _) =
        rules::settings(&config, None).map_err(|found| anyhow::anyhow!(world::all(&found)))?;
    introduce(screen);
    let start = config.clock.start.context("the demo's clock has no start")?;
    let clock = Clock::scaled(start, config.clock.rate);
    let running = App::build(config, settings, clock, Metrics::install()?).await?.spawn().await?;
    let stage = Stage { screen, clock, running: &running, real };
    let told = tokio::select! {
        told = stage.perform(args, &brokers, calls, supervisor) => told.map(Some),
        () = running.stopped() => Err(anyhow::anyhow!("the daemon stopped")),
        () = supervisor.stopped() => Err(anyhow::anyhow!("the demo's own world broke down")),
        () = stop.cancelled() => Ok(None),
    };
    let ended = match told {
        Ok(Some(legacy)) if args.keep => stage.keep(legacy, folder, stop).await,
        Ok(Some(legacy)) => stage.finish(&legacy).await,
        Ok(None) => Ok(Ended::Interrupted),
        Err(why) => Err(why),
    };
    let drained = running.drain().await;
    drop(cluster);
    drained.and(ended)
}

impl Stage<'_> {
    /// From the daemon's start to the incident.
    async fn perform(
        &self,
        args: &DemoArgs,
        brokers: &str,
        calls: mpsc::Receiver<Call>,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Legacy> {
        let Self { screen, clock, running, .. } = *self;
        let joined = story::armed(screen, clock, running, PARTITIONS).await?;
        screen.at(clock.now(), Mark::Good, &welcome(&joined));
        // From the next whole minute on; the daemon reads already, so the broker trims nothing unread.
        let plan = Plan { first: clock.now().minute().plus(1) };
        let gateway = Gateway::open(brokers, args.seed, plan, running.store.clone(), clock, supervisor)?;
        let news = News::new(&running.store, clock, FLAG, calls);
        let mut story = Story { screen, clock, running, gateway: &gateway, plan, news };
        let incident = story.tell().await?.id;
        let calls = story.news.calls;
        let token = running.store.create_token("demo", &[TokenScope::Admin], clock.now()).await?;
        let url = format!("http://{}", running.address);
        self.epilogue(&url, &token, &incident).await?;
        Ok(Legacy { gateway, calls, incident, url, token })
    }

    /// The incident as the daemon's own HTTP port serves it, and what a gateway is told now.
    async fn epilogue(&self, url: &str, token: &str, incident: &IncidentId) -> anyhow::Result<()> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        let asked = client
            .post(format!("{url}/ofrep/v1/evaluate/flags/{FLAG}"))
            .bearer_auth(token)
            .body(r#"{"context":{"targetingKey":"user-1"}}"#)
            .send();
        let answer: serde_json::Value = asked.await?.error_for_status()?.json().await?;
        let variant = answer["variant"].as_str().unwrap_or_default();
        ensure!(variant == CONTROL, "OFREP still answers {answer}");
        let text = format!("asked over HTTP (OFREP): {variant}, reason {}", answer["reason"]);
        self.screen.at(self.clock.now(), Mark::Good, &text);
        let page = client.get(format!("{url}/v1/incidents/{incident}/markdown")).bearer_auth(token).send();
        let markdown = page.await?.error_for_status()?.text().await?;
        self.screen.act(4, "The incident, as everybody reads it");
        self.screen.line("");
        markdown::show(self.screen, &markdown);
        Ok(())
    }

    /// The last accounts.
    async fn finish(&self, legacy: &Legacy) -> anyhow::Result<Ended> {
        let fates = self.balance(&legacy.gateway).await?;
        let screen = self.screen;
        screen.rest();
        screen.act(5, "Done");
        screen.line(&format!(
            "   {0} events produced = {0} consumed = {1} in windows ({2} late, {3} refused); {4:.0} s of real time",
            count(fates.consumed),
            count(fates.windowed),
            fates.late,
            fates.refused,
            self.real.elapsed().as_secs_f64()
        ));
        screen.line("   Next: `rearguard demo --keep` leaves it running to look around; docs/demo.md explains what you saw.");
        Ok(Ended::Told)
    }

    /// Produced must equal consumed: the mock broker forgets silently what it cannot keep.
    async fn balance(&self, gateway: &Gateway) -> anyhow::Result<Fates> {
        let produced = gateway.close(self.clock).await?;
        let watch = self.clock.stopwatch();
        loop {
            let mut fates = Fates::default();
            for source in &self.running.report.load().sources {
                fates.add(&source.fates);
            }
            if fates.consumed == produced {
                ensure!(fates.balance(), "events without a fate: {fates:?}");
                ensure!(fates.windowed == produced, "not every event was counted: {fates:?}");
                return Ok(fates);
            }
            ensure!(
                watch.elapsed() < CATCH_UP,
                "{produced} events were produced and {} consumed: the story rests on incomplete windows",
                fates.consumed
            );
            self.clock.sleep_real(Duration::from_millis(50)).await;
        }
    }

    /// Goes on until Ctrl-C; whoever is paged meanwhile is shown.
    async fn keep(
        &self,
        mut legacy: Legacy,
        folder: &Folder,
        stop: &CancellationToken,
    ) -> anyhow::Result<Ended> {
        let screen = self.screen;
        screen.rest();
        screen.act(5, &format!("Everything goes on, {RATE} times faster than real time, until Ctrl-C"));
        screen.line("   In another terminal:\n");
        let exe =
            std::env::current_exe().map_or_else(|_| "rearguard".into(), |exe| exe.display().to_string());
        screen.line(&format!("     alias rearguard='{exe}'"));
        screen.line(&format!("     export REARGUARD_URL={}", legacy.url));
        screen.line(&format!("     export REARGUARD_TOKEN={}\n", legacy.token));
        let metrics = "curl -sH \"Authorization: Bearer $REARGUARD_TOKEN\" $REARGUARD_URL/metrics";
        for (what, command) in [
            ("how things stand", "rearguard status".to_owned()),
            ("the incident, up to date", format!("rearguard incident show {}", legacy.incident)),
            ("the flag, and who changed it", format!("rearguard flag show {FLAG}")),
            ("metrics", metrics.to_owned()),
            ("serve it again", format!("rearguard flag rearm {FLAG} --reason 'show me'")),
        ] {
            screen.line(&format!("     {command}  {}", screen.dim(&format!("# {what}"))));
        }
        screen.line(&format!(
            "\n   Configuration, rules, database and log, until then: {}\n",
            folder.path.display()
        ));
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(Ended::Told),
                () = self.running.stopped() => anyhow::bail!("the daemon stopped"),
                call = legacy.calls.recv() => match call {
                    Some(call) => news::show(screen, self.clock, &call),
                    None => anyhow::bail!("the on-call receiver is gone"),
                },
            }
        }
    }
}

fn introduce(screen: &Screen) {
    let line =
        |name: &str, text: &str| screen.line(&format!("   {}  {text}", screen.dim(&format!("{name:<8}"))));
    screen.line(&screen.bold("Rearguard, from the first bad answer to the page"));
    screen.line("");
    line("flag", &format!("{FLAG}: half of the users get gpt-4-latest, the others gpt-4-0314"));
    line("rules", &format!("{TREATMENT}: accuracy_1h < 0.80 pauses the rollout, < 0.75 rolls back"));
    line("levels", "GPT-4 on prime numbers, March and June 2023: .840, then .502 (Chen et al., LLMDrift)");
    line("world", "the real daemon, SQLite, librdkafka's mock broker, a signed webhook; all on loopback");
    line("time", &format!("runs {RATE} times faster than real time; UTC"));
    screen.line("");
}

fn welcome(joined: &Stopwatch) -> String {
    format!(
        "armed: consumer group joined, {PARTITIONS} partitions, nothing missed ({:.1} s of real time)",
        joined.elapsed().as_secs_f64()
    )
}
