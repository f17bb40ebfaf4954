//! `rearguard demo`: the whole daemon in one process, told as a story in less than a minute.
//!
//! Nothing is simulated but the world: librdkafka's in-process mock broker, an AI gateway with seeded users, and an on-call
//! receiver on loopback. Between them runs the daemon that `rearguard run` runs, on a clock that is 150 times faster.

mod gateway;
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
use tokio::sync::mpsc;

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
use crate::supervise::Supervisor;
use crate::telemetry::{self, LogFormat, Metrics};

const PARTITIONS: usize = 3;
/// How long the daemon may take to consume what the broker has acknowledged (real time).
const CATCH_UP: Duration = Duration::from_secs(5);

/// Show a rollback from the first bad answer to the page, in less than a minute; needs no server and no network.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Leave everything running at the end, HTTP port open, until Ctrl-C
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
    let mut folder = Folder::new()?;
    telemetry::init_logs_to_file(&folder.log(), LogFormat::Human, "info")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let screen = Screen::new(args.plain);
    let told = runtime.block_on(async {
        let supervisor = Supervisor::new();
        let told = tokio::select! {
            told = play(args, &screen, &folder, &supervisor) => told,
            () = supervisor.stopped() => Err(anyhow::anyhow!("the demo's own world broke down")),
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        };
        match supervisor.drain().await {
            Err(why) => told.and(Err(anyhow::anyhow!(why))),
            Ok(()) => told,
        }
    });
    screen.rest();
    match told {
        Ok(()) => Ok(GOOD),
        Err(error) => {
            folder.keep = true;
            eprintln!("\nrearguard demo: {error:#}\nThe daemon's log is {}", folder.log().display());
            Ok(FAILED)
        }
    }
}

/// What is needed after the story has been told.
struct Stage<'a> {
    screen: &'a Screen,
    clock: Clock,
    running: &'a Running,
    gateway: &'a Gateway,
}

async fn play(
    args: &DemoArgs,
    screen: &Screen,
    folder: &Folder,
    supervisor: &Supervisor,
) -> anyhow::Result<()> {
    let real = Clock::system().stopwatch();
    let secret = blake3::hash(folder.path.as_os_str().as_encoded_bytes()).to_hex();
    let (oncall, calls) = oncall::listen(secret.as_str(), supervisor).await?;
    let cluster = world::broker()?;
    let config = world::config(&folder.path, &cluster.bootstrap_servers(), oncall, secret.as_str())?;
    let (settings, _) =
        rules::settings(&config, None).map_err(|found| anyhow::anyhow!(world::all(&found)))?;
    introduce(screen, folder);
    let start = config.clock.start.context("the demo's clock has no start")?;
    let clock = Clock::scaled(start, config.clock.rate);
    let running = App::build(config, settings, clock, Metrics::install()?).await?.spawn().await?;
    let joined = story::armed(screen, clock, &running, PARTITIONS).await?;
    screen.at(clock.now(), Mark::Good, &welcome(&joined));
    // From the next whole minute on; the daemon is ready, so nothing is trimmed before it is read.
    let plan = Plan { first: clock.now().minute().plus(1) };
    let brokers = cluster.bootstrap_servers();
    let gateway = Gateway::open(&brokers, args.seed, plan, running.store.clone(), clock, supervisor)?;
    let stage = Stage { screen, clock, running: &running, gateway: &gateway };
    let told = tokio::select! {
        told = stage.perform(args, plan, calls, &real, folder) => told,
        () = running.stopped() => Ok(()),
    };
    let drained = running.drain().await;
    drop(cluster);
    told.and(drained)
}

impl Stage<'_> {
    async fn perform(
        &self,
        args: &DemoArgs,
        plan: Plan,
        calls: mpsc::Receiver<Call>,
        real: &Stopwatch,
        folder: &Folder,
    ) -> anyhow::Result<()> {
        let Self { screen, clock, running, gateway } = *self;
        let news = News::new(&running.store, clock, FLAG, calls);
        let mut story = Story { screen, clock, running, gateway, plan, news };
        let incident = story.tell().await?;
        let calls = story.news.calls;
        let scopes = [TokenScope::Admin];
        let token = running.store.create_token("demo", &scopes, clock.now()).await?;
        let url = format!("http://{}", running.address);
        self.epilogue(&url, &token, &incident.id).await?;
        if args.keep {
            self.farewell(real, None);
            return self.keep(&url, &token, &incident.id, calls, folder).await;
        }
        let fates = self.balance().await?;
        self.farewell(real, Some(fates));
        Ok(())
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
        for line in markdown.lines() {
            self.screen.line(&format!("   {}", self.screen.paint(line, "36")));
        }
        Ok(())
    }

    /// Produced must equal consumed: the mock broker forgets silently what it cannot keep.
    async fn balance(&self) -> anyhow::Result<Fates> {
        let produced = self.gateway.close(self.clock).await?;
        let watch = self.clock.stopwatch();
        loop {
            let fates = self.consumed();
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

    fn consumed(&self) -> Fates {
        let mut all = Fates::default();
        for source in &self.running.report.load().sources {
            all.add(&source.fates);
        }
        all
    }

    fn farewell(&self, real: &Stopwatch, fates: Option<Fates>) {
        let screen = self.screen;
        screen.act(5, "Done");
        if let Some(fates) = fates {
            let text = format!(
                "{} events produced = {} consumed = {} in windows; late {}, refused {}",
                count(fates.consumed),
                count(fates.consumed),
                count(fates.windowed),
                fates.late,
                fates.refused
            );
            screen.line(&format!("   {text}"));
        }
        screen.line(&format!("   real time: {:.1} s", real.elapsed().as_secs_f64()));
    }

    /// Goes on until Ctrl-C; whoever is paged meanwhile is shown.
    async fn keep(
        &self,
        url: &str,
        token: &str,
        incident: &IncidentId,
        mut calls: mpsc::Receiver<Call>,
        folder: &Folder,
    ) -> anyhow::Result<()> {
        let screen = self.screen;
        screen.rest();
        screen.line(&format!(
            "   Everything goes on at {RATE} times real time, until Ctrl-C. In another terminal:\n"
        ));
        screen.line(&format!("     URL={url}\n     TOKEN={token}"));
        for (what, path) in [
            ("how things stand", "/v1/status".to_owned()),
            ("the incident", format!("/v1/incidents/{incident}/markdown")),
            ("who changed the flag", format!("/v1/flags/{FLAG}")),
            ("metrics", "/metrics".to_owned()),
        ] {
            let line = format!("curl -sH \"Authorization: Bearer $TOKEN\" $URL{path}");
            screen.line(&format!("     {line}  {}", screen.dim(&format!("# {what}"))));
        }
        let rearm = format!(
            "curl -sH \"Authorization: Bearer $TOKEN\" -d '{{\"reason\":\"again\"}}' $URL/v1/flags/{FLAG}/rearm"
        );
        screen.line(&format!("     {rearm}  {}", screen.dim("# serve the bad variant again, and watch")));
        screen.line(&format!("\n   Files and the daemon's log: {}", folder.path.display()));
        loop {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return Ok(()),
                call = calls.recv() => match call {
                    Some(call) => news::show(screen, self.clock, &call),
                    None => return Ok(()),
                },
            }
        }
    }
}

fn introduce(screen: &Screen, folder: &Folder) {
    let line =
        |name: &str, text: &str| screen.line(&format!("   {}  {text}", screen.dim(&format!("{name:<8}"))));
    screen.line(&screen.bold("Rearguard, from the first bad answer to the page"));
    screen.line("");
    line("flag", &format!("{FLAG}: half of the users get gpt-4-latest, the others stay on gpt-4-0314"));
    line("rules", &format!("{TREATMENT}: accuracy_1h < 0.80 pauses the rollout, < 0.75 rolls back"));
    line("levels", "GPT-4 on prime numbers, March and June 2023: .840, then .502 (Chen et al., LLMDrift)");
    line("world", "the real daemon, SQLite, librdkafka's mock broker, a signed webhook; all on loopback");
    line("time", &format!("runs {RATE} times faster than real time; UTC"));
    line("files", &folder.path.display().to_string());
    screen.line("");
}

fn welcome(joined: &Stopwatch) -> String {
    format!(
        "armed: consumer group joined, {PARTITIONS} partitions, nothing missed ({:.1} s of real time)",
        joined.elapsed().as_secs_f64()
    )
}
