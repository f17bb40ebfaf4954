//! The story, act by act. It tells what the daemon's report, store and HTTP port say, never what it expects them to say: an
//! act that does not come to its end in time fails the demo.

use std::time::Duration;

use anyhow::{bail, ensure};

use super::gateway::Gateway;
use super::news::News;
use super::screen::{Mark, Screen};
use super::times;
use super::traffic::{BURST, CALM, HEALTHY, JUNE, MARCH, Plan};
use super::world::FLAG;
use crate::app::Running;
use crate::clock::{Clock, Stopwatch};
use crate::dispatch::words::{count, number, span};
use crate::engine::output::{AlertReport, Decision, Gate, Report};
use crate::engine::rule::RuleAction;
use crate::model::flag::{SHARE_MAX, Scope};
use crate::model::id::FlagKey;
use crate::model::time::{Minute, Timestamp};
use crate::store::{IncidentFilter, IncidentSummary};

/// How often the daemon is asked how things stand (real time).
const LOOK: Duration = Duration::from_millis(40);
/// How far the daemon may be behind the clock before the demo gives up (virtual time; 12 s of real time).
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// The rollback must have been decided this long after the regression began (virtual time).
const ROLLBACK_BOUND: Duration = Duration::from_secs(45 * 60);
/// How long the gateway's traffic is watched after the flip (virtual time).
const AFTERMATH: Duration = Duration::from_secs(180);
/// About how long the story is, for the progress bar (virtual time).
const LENGTH: Duration = Duration::from_secs((HEALTHY + 1 + CALM + 25) as u64 * 60);
/// Without a spinner, healthy minutes are told this often.
const EVERY: i64 = 20;

/// Everything that the story is told about.
pub struct Story<'a> {
    pub screen: &'a Screen,
    pub clock: Clock,
    pub running: &'a Running,
    pub gateway: &'a Gateway,
    pub plan: Plan,
    pub news: News<'a>,
}

impl Story<'_> {
    /// All acts; the incident that they end in.
    pub async fn tell(&mut self) -> anyhow::Result<IncidentSummary> {
        self.healthy().await?;
        self.terrible_minute().await?;
        let incident = self.regression().await?;
        self.aftermath(&incident).await?;
        Ok(incident)
    }

    async fn healthy(&mut self) -> anyhow::Result<()> {
        self.screen.act(1, "Healthy traffic");
        let started = self.plan.first.start();
        let levels = format!("both variants answer {:.0} of 1,000 questions right", MARCH.accuracy * 1000.0);
        self.screen.at(started, Mark::Note, &format!("traffic begins: {levels}"));
        let last = self.plan.first.plus(HEALTHY - 1);
        let mut told = self.plan.first;
        let mut healthy = self.running.report.load_full();
        loop {
            let report = self.running.report.load_full();
            let closed = report.closed.unwrap_or(Minute(0));
            // Several minutes may close at once: what is shown is the last report without the terrible one.
            if closed <= last {
                healthy = std::sync::Arc::clone(&report);
            }
            if closed >= last {
                break;
            }
            let minutes = (closed.0 - self.plan.first.0 + 1).max(0);
            let rule = rule(&report, RuleAction::Rollback);
            let value = rule.and_then(|r| r.value).map_or_else(|| "—".into(), number);
            let now = format!("{minutes} of {HEALTHY} minutes judged; accuracy_1h {value}");
            self.busy(&now);
            if !self.screen.is_live() && closed.0 >= told.0 + EVERY {
                self.screen.at(closed.end(), Mark::Note, &now);
                told = closed;
            }
            self.wait("a healthy hour to be judged", last.end()).await?;
        }
        self.nothing_decided().await?;
        let judged = healthy.closed.unwrap_or(self.plan.first).end();
        ensure!(!healthy.alerts.is_empty(), "no rule has been judged");
        for rule in &healthy.alerts {
            ensure!(rule.verdict == "pass", "healthy traffic was judged `{}`", rule.verdict);
            let text = format!(
                "{} rule: {}? It is {}, from {} answers: {}",
                word(rule.action),
                rule.condition,
                maybe(rule.value),
                count(rule.samples),
                rule.verdict
            );
            self.screen.at(judged, Mark::Good, &text);
        }
        Ok(())
    }

    async fn terrible_minute(&mut self) -> anyhow::Result<()> {
        self.screen.act(2, "One terrible minute");
        let minute = self.plan.terrible();
        let text = format!("for one minute every answer is wrong, and {BURST} times as many come");
        self.screen.at(minute.start(), Mark::Bad, &text);
        let report = self.judged(minute, "the terrible minute to be judged").await?;
        let rule = rule(&report, RuleAction::Rollback).ok_or_else(|| anyhow::anyhow!("no rollback rule"))?;
        ensure!(
            rule.value < rule.threshold,
            "the terrible minute was not terrible enough: {} against {}",
            maybe(rule.value),
            maybe(rule.threshold)
        );
        let breached = format!(
            "accuracy_1h is {} now, below both limits. What Rearguard says of it:",
            maybe(rule.value)
        );
        self.screen.at(minute.end(), Mark::Note, &breached);
        let single = |alert: &AlertReport| alert.verdict.contains("a single bad minute never fires");
        ensure!(report.alerts.iter().all(single), "the terrible minute was judged `{}`", rule.verdict);
        self.screen.more(&format!("“{}”", rule.verdict));
        let last = self.plan.regression().plus(-1);
        self.judged(last, "the minutes after to be judged").await?;
        self.nothing_decided().await?;
        let text = format!("{} minutes later: no decision, no page, the flag serves what it served", CALM);
        self.screen.at(last.end(), Mark::Good, &text);
        self.screen
            .more("A breach must stand without any two neighbouring minutes; at least three must be bad.");
        Ok(())
    }

    async fn regression(&mut self) -> anyhow::Result<IncidentSummary> {
        let began = self.plan.regression().start();
        self.screen.act(3, "A real regression");
        let text = format!(
            "the alias gets a new model: accuracy {:.3} → {:.3}, 4 times faster, 10 times cheaper",
            MARCH.accuracy, JUNE.accuracy
        );
        self.screen.at(began, Mark::Bad, &text);
        let (mut paused, mut rolled_back) = (false, None);
        loop {
            for decision in self.news.tell(self.screen).await? {
                self.decided(&decision)?;
            }
            self.busy("the window fills with bad minutes");
            if !paused && let Some(pause) = self.news.frozen().await? {
                times::pause(self.screen, &pause);
                paused = true;
            }
            if rolled_back.is_none() {
                rolled_back = self.incident().await?.filter(|incident| incident.t1().is_some());
            }
            if let (true, Some(incident)) = (paused, &rolled_back) {
                self.news.tell(self.screen).await?;
                let decision = self.news.stored(&incident.decision)?;
                times::rollback(self.screen, &decision, incident, self.clock);
                return Ok(incident.clone());
            }
            self.wait("pause, rollback and page", began + ROLLBACK_BOUND).await?;
        }
    }

    fn decided(&self, decision: &Decision) -> anyhow::Result<()> {
        match (&decision.gate, decision.action) {
            (Gate::Act, _) | (Gate::AlreadyLatched, RuleAction::PauseRollout) => Ok(()),
            (gate, action) => bail!("the {} was decided and not carried out: {gate:?}", word(action)),
        }
    }

    /// The variant's own traffic must fall to nothing: the second proof of a flip.
    async fn aftermath(&mut self, incident: &IncidentSummary) -> anyhow::Result<()> {
        let flipped = incident.flip_verified.unwrap_or(incident.opened);
        let until = flipped + AFTERMATH;
        while self.clock.now() < until {
            self.busy("watching the traffic of the variant that was taken back");
            self.news.tell(self.screen).await?;
            self.wait("traffic after the flip", until).await?;
        }
        let last = self.gateway.counts.last_treatment();
        // A request that was asked before the flip may carry the time of the gateway's last round.
        ensure!(
            last <= flipped + Duration::from_secs(10),
            "the gateway still served the variant {} after the flip",
            span(last.since(flipped))
        );
        let state = self.running.store.flags().get(&FlagKey::from(FLAG)).cloned();
        let pinned = state.is_some_and(|state| state.overlay.pins.contains(&Scope::All));
        ensure!(pinned, "the flag is not pinned to control");
        let text = format!("second proof: not one answer of the variant in the {} since", span(AFTERMATH));
        self.screen.at(self.clock.now(), Mark::Good, &text);
        Ok(())
    }

    async fn incident(&self) -> anyhow::Result<Option<IncidentSummary>> {
        let found = self.running.store.incidents(&IncidentFilter::default()).await?;
        Ok(found.into_iter().next())
    }

    /// The report after a minute was judged.
    async fn judged(&mut self, minute: Minute, what: &str) -> anyhow::Result<std::sync::Arc<Report>> {
        loop {
            let report = self.running.report.load_full();
            if report.closed.is_some_and(|closed| closed >= minute) {
                return Ok(report);
            }
            self.busy(what);
            self.wait(what, minute.end()).await?;
        }
    }

    /// Nothing has been decided, told or changed so far.
    async fn nothing_decided(&mut self) -> anyhow::Result<()> {
        let decisions = self.running.store.decisions(None, 1).await?;
        if let Some(stored) = decisions.first() {
            bail!("a {} was decided, and nothing had happened", word(stored.decision.action));
        }
        if let Some(call) = self.news.calls.try_recv().ok().filter(super::oncall::Call::is_page) {
            bail!("somebody was paged: {}", call.message.summary);
        }
        let flags = self.running.store.flags();
        let state = flags.get(&FlagKey::from(FLAG));
        let as_it_was = state.is_some_and(|state| {
            state.share() == SHARE_MAX / 2
                && state.overlay.pins.is_empty()
                && state.overlay.frozen_share.is_none()
        });
        ensure!(as_it_was, "the flag was changed");
        Ok(())
    }

    fn busy(&self, text: &str) {
        let sent = self.gateway.counts.sent.load(std::sync::atomic::Ordering::Relaxed);
        let now = crate::dispatch::words::clock_time(self.clock.now());
        let told = self.clock.now().since(self.plan.first.start()).as_secs_f64() / LENGTH.as_secs_f64();
        self.screen.busy(told, &format!("{now}  {} events  {text}", count(sent)));
    }

    async fn wait(&self, what: &str, due: Timestamp) -> anyhow::Result<()> {
        let now = self.clock.now();
        if now > due + PATIENCE {
            let report = self.running.report.load_full();
            let why = report.why_not_armed.as_deref().unwrap_or("armed");
            let closed = report.closed.map_or_else(|| "none".into(), |minute| minute.to_string());
            bail!("waited in vain for {what}: last minute judged {closed}, {why}");
        }
        self.clock.sleep_real(LOOK).await;
        Ok(())
    }
}

/// Waits until the daemon has joined its group and may act.
pub async fn armed(
    screen: &Screen,
    clock: Clock,
    running: &Running,
    partitions: usize,
) -> anyhow::Result<Stopwatch> {
    /// Joining takes 3 s on the mock broker (real time).
    const BOUND: Duration = Duration::from_secs(20);
    let watch = clock.stopwatch();
    loop {
        let report = running.report.load_full();
        if report.armed && report.sources.len() >= partitions {
            return Ok(watch);
        }
        let why = report.why_not_armed.as_deref().unwrap_or("waiting for partitions");
        ensure!(watch.elapsed() < BOUND, "not armed after {}: {why}", span(BOUND));
        screen.busy(0.0, &format!("joining the consumer group ({why})"));
        clock.sleep_real(LOOK).await;
    }
}

fn rule(report: &Report, action: RuleAction) -> Option<&AlertReport> {
    report.alerts.iter().find(|alert| alert.action == action)
}

fn maybe(value: Option<f64>) -> String {
    crate::dispatch::words::maybe(value, "")
}

/// The word for an action.
pub fn word(action: RuleAction) -> &'static str {
    match action {
        RuleAction::Rollback => "rollback",
        RuleAction::PauseRollout => "pause",
        RuleAction::Notify => "notice",
    }
}
