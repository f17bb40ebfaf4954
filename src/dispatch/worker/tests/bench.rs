//! A worker on a real store with scripted surroundings.

use std::collections::VecDeque;

use tokio::sync::mpsc::Receiver as Answers;

pub use super::super::*;
use crate::dispatch::example;
use crate::dispatch::flag::builtin::Builtin;
use crate::dispatch::flag::file::FlagFile;
use crate::dispatch::flag::flagd::Flagd;
use crate::dispatch::flag::{Seen, Wanted};
use crate::dispatch::receiver::{Attempt, Content, Notice};
use crate::engine::input::FlipOutcome;
use crate::engine::output::LatchChange;
use crate::engine::output::{Decision, IncidentOrder, Message, Order, Output};
use crate::model::flag::{FlagSpec, Scope, Served};
use crate::model::id::{DecisionId, FlagKey};
use crate::store::{IncidentDetail, PlanContext, Position, Routes, StepRecord, Timing};

pub const RATE: f64 = 100.0;

/// One flag of ours, one of somebody else's.
pub const FLAGD: &str = r#"{
  "flags": { // ours
    "prompt": {
      "state": "ENABLED",
      "variants": { "v17": "v17", "v18": "v18" },
      "defaultVariant": "v18",
      "targeting": { "fractional": [["v17", 50], ["v18", 50]] }
    },
    "other": { "state": "ENABLED",  "variants": {"on": true}, "defaultVariant": "on" }
  }
}
"#;

/// A platform that behaves as scripted, then like the one inside.
pub struct Scripted {
    pub inner: Arc<dyn FlagPlatform>,
    /// What it says of people, whatever the one inside sees.
    pub says: Mutex<Seen>,
    pub script: Mutex<VecDeque<Step>>,
    pub writes: Mutex<u32>,
}

#[derive(Clone, Debug)]
pub enum Step {
    /// The write fails; nothing was written.
    Fail(Failure),
    /// The write takes effect, its answer gets lost.
    LoseAnswer,
    /// Says yes and does nothing.
    SayYes,
    /// Does not answer until the test says so.
    Hang(Arc<Notify>),
    /// The write takes effect and the daemon goes no further.
    Die,
}

impl FlagPlatform for Scripted {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn adapter(&self) -> &'static str {
        "scripted"
    }
    fn read<'a>(&'a self, wanted: &'a Wanted, within: Duration) -> Attempt<'a, Seen> {
        Box::pin(async move {
            let seen = self.inner.read(wanted, within).await?;
            let Seen { changed, locked, .. } = self.says.lock().unwrap().clone();
            Ok(Seen { changed, locked, ..seen })
        })
    }
    fn write<'a>(
        &'a self,
        wanted: &'a Wanted,
        version: &'a str,
        now: Timestamp,
        within: Duration,
    ) -> Attempt<'a, ()> {
        *self.writes.lock().unwrap() += 1;
        let step = {
            let mut script = self.script.lock().unwrap();
            // The last failure stays until the test clears the script.
            if script.len() == 1 && matches!(script[0], Step::Fail(Failure::Retryable { .. })) {
                script.front().cloned()
            } else {
                script.pop_front()
            }
        };
        Box::pin(async move {
            match step {
                None => self.inner.write(wanted, version, now, within).await,
                Some(Step::Fail(failure)) => Err(failure),
                Some(Step::SayYes) => Ok(()),
                Some(Step::Hang(gate)) => {
                    gate.notified().await;
                    self.inner.write(wanted, version, now, within).await
                }
                Some(Step::Die) => {
                    self.inner.write(wanted, version, now, within).await?;
                    std::future::pending().await
                }
                Some(Step::LoseAnswer) => {
                    self.inner.write(wanted, version, now, within).await?;
                    Err(Failure::Unknown { why: "timed out".into() })
                }
            }
        })
    }
    fn verify<'a>(&'a self, wanted: &'a Wanted, within: Duration) -> Attempt<'a, String> {
        self.inner.verify(wanted, within)
    }
}

/// A receiver that keeps what it was told.
pub struct Keeper {
    pub name: &'static str,
    pub told: Mutex<Vec<Notice>>,
    pub failures: Mutex<VecDeque<Failure>>,
    /// Hangs until this is notified.
    pub gate: Option<Arc<Notify>>,
    pub refresh: Option<Duration>,
}

impl Keeper {
    pub fn new(name: &'static str) -> Self {
        Self { name, told: Mutex::default(), failures: Mutex::default(), gate: None, refresh: None }
    }

    pub fn messages(&self) -> Vec<Message> {
        let told = self.told.lock().unwrap();
        told.iter()
            .filter_map(|notice| match &notice.content {
                Content::Message(message) => Some((**message).clone()),
                Content::Decision(_) => None,
            })
            .collect()
    }
}

impl Receiver for Keeper {
    fn name(&self) -> &str {
        self.name
    }
    fn adapter(&self) -> &'static str {
        "keeper"
    }
    fn tell<'a>(&'a self, notice: &'a Notice, _: Duration) -> Attempt<'a, ()> {
        Box::pin(async move {
            if let Some(gate) = &self.gate {
                gate.notified().await;
            }
            if let Some(failure) = self.failures.lock().unwrap().pop_front() {
                return Err(failure);
            }
            self.told.lock().unwrap().push(notice.clone());
            Ok(())
        })
    }
    fn refresh(&self) -> Option<Duration> {
        self.refresh
    }
}

pub struct Bench {
    pub store: Store,
    pub clock: Clock,
    pub platform: Arc<Scripted>,
    pub oncall: Arc<Keeper>,
    pub second: Arc<Keeper>,
    pub topic: Arc<Keeper>,
    pub answers: Answers<Answer>,
    sender: mpsc::Sender<Answer>,
    /// Short where a worker dies, so that its successor need not wait for long.
    lease: Duration,
    pub stop: CancellationToken,
    pub timing: Timing,
    pub flags: Vec<FlagSpec>,
    pub folder: tempfile::TempDir,
}

impl Bench {
    /// Over flags of the built-in store.
    pub async fn new(script: Vec<Step>, oncall: Keeper) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::over(folder, None, script, oncall).await
    }

    /// Over a flag in a file of flagd, half of which is served the treatment.
    pub async fn over_a_file(script: Vec<Step>, oncall: Keeper) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flags.json");
        std::fs::write(&path, FLAGD).unwrap();
        let inner = FlagFile::new("prod".into(), path, Box::new(Flagd { ask: None })).unwrap();
        Self::over(folder, Some(Arc::new(inner)), script, oncall).await
    }

    async fn over(
        folder: tempfile::TempDir,
        elsewhere: Option<Arc<dyn FlagPlatform>>,
        script: Vec<Step>,
        oncall: Keeper,
    ) -> Self {
        let url = format!("sqlite:{}", folder.path().join("test.db").display());
        let store = Store::open_exclusive(&url, "test").await.unwrap();
        let clock = Clock::scaled(example::story().committed, RATE);
        let lease = match script.first() {
            Some(Step::Die) => Duration::from_secs(3),
            Some(Step::Hang(_)) => Duration::from_secs(36_000),
            _ => WorkerSettings::default().lease,
        };
        let served = elsewhere.as_ref().map(|platform| Served {
            platform: platform.name().to_owned(),
            kind: platform.adapter().to_owned(),
            key: "prompt".into(),
            id: None,
            control: "v17".into(),
            treatment: "v18".into(),
            worst: Duration::from_secs(20),
        });
        let spec = |key: &str| FlagSpec {
            key: key.into(),
            control: "support-copilot.prompt-v17".into(),
            treatment: "support-copilot.prompt-v18".into(),
            share: 1_000_000,
            frozen: false,
            served: served.clone(),
            drill: false,
        };
        let flags = vec![spec("ai.support-copilot.prompt-v18"), spec("ai.other.v2")];
        store.declare(&flags, clock.now()).await.unwrap();
        let platform = Arc::new(Scripted {
            inner: elsewhere.unwrap_or_else(|| Arc::new(Builtin::new(store.clone()))),
            says: Mutex::default(),
            script: Mutex::new(script.into()),
            writes: Mutex::new(0),
        });
        let oncall = Arc::new(oncall);
        let second = Arc::new(Keeper::new("second"));
        let topic = Arc::new(Keeper::new("topic"));
        let (sender, answers) = mpsc::channel(16);
        let bench = Self {
            store: store.clone(),
            clock,
            platform: Arc::clone(&platform),
            oncall: Arc::clone(&oncall),
            second: Arc::clone(&second),
            topic: Arc::clone(&topic),
            answers,
            sender,
            lease,
            stop: CancellationToken::new(),
            timing: Timing::default(),
            flags,
            folder,
        };
        bench.work();
        bench
    }

    /// The daemon died; it is started again.
    pub fn restart(&mut self) {
        self.stop.cancel();
        self.stop = CancellationToken::new();
        self.work();
    }

    fn work(&self) {
        let settings = WorkerSettings {
            poll: Duration::from_millis(10),
            lease: self.lease,
            second_channel: vec!["second".into()],
            link: Some("https://rg.example.com/i/{incident}".into()),
            ..WorkerSettings::default()
        };
        let receivers: Vec<Arc<dyn Receiver>> = vec![
            Arc::clone(&self.oncall) as Arc<dyn Receiver>,
            Arc::clone(&self.second) as _,
            Arc::clone(&self.topic) as _,
        ];
        let platforms: Vec<Arc<dyn FlagPlatform>> = vec![Arc::clone(&self.platform) as _];
        let (store, sender) = (self.store.clone(), self.sender.clone());
        let worker = Worker::new(store, self.clock, settings, platforms, receivers, Siren::default(), sender);
        tokio::spawn(Arc::new(worker).run(self.stop.clone()));
    }

    pub fn decision(&self) -> Decision {
        Decision { t0: self.clock.now() - Duration::from_secs(270), ..example::story().opener }
    }

    /// Commits a rollback decision: pin, incident, page.
    pub async fn roll_back(&self, decision: &Decision) {
        let incident = decision.incident.clone().unwrap();
        let output = Output {
            decisions: vec![decision.clone()],
            orders: vec![
                Order::Pin {
                    decision: decision.id.clone(),
                    flag: decision.key.flag.clone(),
                    scope: decision.scope.clone(),
                    control: "support-copilot.prompt-v17".into(),
                    by: None,
                },
                Order::OpenIncident(Box::new(IncidentOrder {
                    incident: incident.clone(),
                    flag: decision.key.flag.clone(),
                    variant: decision.variant.clone(),
                    decision: decision.id.clone(),
                    severity: decision.severity,
                    failure_class: decision.failure_class.clone(),
                    title: "it broke".into(),
                    at: decision.at,
                })),
                Order::Page(Message {
                    flag: Some(decision.key.flag.clone()),
                    decision: Some(decision.id.clone()),
                    incident: decision.incident.clone(),
                    dedup_key: format!("rollback/{}", decision.key.flag),
                    ..example::message()
                }),
            ],
            ..Output::default()
        };
        let latch = LatchChange::Open {
            flag: decision.key.flag.clone(),
            scope: decision.scope.clone(),
            decision: decision.id.clone(),
            incident,
            at: decision.at,
        };
        self.commit(1, &[output], vec![latch]).await;
    }

    pub async fn commit(&self, seq: u64, outputs: &[Output], latches: Vec<LatchChange>) {
        let routes =
            Routes { page: vec!["oncall".into()], publish: vec!["topic".into()], ..Routes::default() };
        let context = PlanContext { routes: &routes, timing: self.timing, flags: &self.flags };
        let now = self.clock.now();
        let position = Position::default();
        let mut record = StepRecord::new(seq, now, outputs, &[], position, &context);
        record.latches.extend(latches);
        self.store.commit(&record).await.unwrap();
    }

    /// `automation on|off`.
    pub async fn switch(&self, seq: u64, on: bool) {
        let (routes, timing) = (Routes::default(), self.timing);
        let context = PlanContext { routes: &routes, timing, flags: &[] };
        let mut record = StepRecord::new(seq, self.clock.now(), &[], &[], Position::default(), &context);
        record.automation = Some(on);
        self.store.commit(&record).await.unwrap();
    }

    pub async fn answer(&mut self) -> Answer {
        tokio::time::timeout(Duration::from_secs(30), self.answers.recv())
            .await
            .expect("the engine is told in time")
            .unwrap()
    }

    /// How the flip of a decision has ended, as stored: one that was made void answers only to the chores.
    pub async fn ended(&self, decision: &DecisionId) -> FlipOutcome {
        for _ in 0..3000 {
            if let Some(outcome) =
                self.store.flip_state(decision).await.unwrap().and_then(|state| state.outcome)
            {
                return outcome;
            }
            self.clock.sleep_real(Duration::from_millis(10)).await;
        }
        panic!("the flip of {decision} never ended");
    }

    /// Waits until something is so; real time bounds it, nothing depends on how long it takes.
    pub async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        for _ in 0..3000 {
            if so(self) {
                return;
            }
            self.clock.sleep_real(Duration::from_millis(10)).await;
        }
        panic!("never so: {what}; told: {:#?}", self.oncall.messages());
    }

    pub async fn incident(&self) -> IncidentDetail {
        let id = example::story().incident.as_str().into();
        self.store.incident(&id).await.unwrap()
    }

    /// The file of flags.
    pub fn file(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("flags.json")).unwrap()
    }

    pub fn pinned(&self) -> bool {
        let flag = FlagKey::from("ai.support-copilot.prompt-v18");
        let table = self.store.flags();
        table.get(&flag).unwrap().overlay.pins.contains(&Scope::All)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
