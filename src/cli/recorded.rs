//! Recorded events for the commands that read them (`replay`, `explain`, `check`, `test`): from files or from a topic, with a progress bar,
//! and what is said of those that are no good events.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::output::{Trouble, time};
use crate::app::wiring;
use crate::config::Config;
use crate::engine::rule::diagnostic::Diagnostic;
use crate::engine::rule::{Rule, RuleSet};
use crate::ingest::config::{Config as Ingest, StartAt};
use crate::ingest::consumer::IngestError;
use crate::ingest::decode::Bounds;
use crate::ingest::fate::Fate;
use crate::ingest::range::Range;
use crate::lab::lines::Lines;
use crate::lab::recording::Recording;
use crate::lab::rig::{Rig, Watch};
use crate::lab::setup::{Bench, Census};
use crate::model::id::Variant;
use crate::model::time::Timestamp;

/// First places remembered per reason.
const PLACES: usize = 3;

/// Which recorded events, and what rules need beside them.
#[derive(Args, Clone, Debug)]
pub struct SourceArgs {
    /// Events as JSON Lines, in the order of arrival, plain or packed by gzip or zstd; `-` for standard input. Several are read
    /// one after the other
    #[arg(long, short, value_name = "FILE", conflicts_with = "kafka_topic")]
    events: Vec<PathBuf>,
    /// Events of a Kafka topic instead; partitions are read in step, nothing is committed
    #[arg(long, value_name = "TOPIC")]
    kafka_topic: Option<String>,
    /// The first time of the topic, by Kafka's timestamps (RFC 3339); default: the start of the log. Windows fill from here
    #[arg(long, value_name = "TIME", value_parser = time, requires = "kafka_topic", conflicts_with = "events")]
    from: Option<Timestamp>,
    /// The time at which to end, excluded; default: the end of the log as it is now
    #[arg(long, value_name = "TIME", value_parser = time, requires = "kafka_topic", conflicts_with = "events")]
    to: Option<Timestamp>,
    /// Brokers of the topic, with commas between them; default: those of the configuration
    #[arg(long, value_name = "HOST:PORT", requires = "kafka_topic", conflicts_with = "events")]
    brokers: Option<String>,
    /// The configuration, for its metrics, flags, limits and lateness; without one the defaults are used
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The baseline of rules of the same feature that have none. Default: the only other variant of the feature in the events
    #[arg(long, value_name = "VARIANT")]
    baseline: Vec<String>,
}

impl SourceArgs {
    /// Whether events were named at all.
    pub fn is_named(&self) -> bool {
        !self.events.is_empty() || self.kafka_topic.is_some()
    }

    /// The configuration named, or the defaults.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn configuration(&self) -> Result<Config, Vec<Diagnostic>> {
        self.config.as_ref().map_or_else(|| Ok(Config::built_in()), Config::load)
    }

    /// The rules of the configuration, where the command line names none.
    ///
    /// # Errors
    ///
    /// When there is no configuration either.
    pub fn own_rules<'a>(&self, config: &'a Config, command: &str) -> Result<&'a [PathBuf], Vec<Diagnostic>> {
        if self.config.is_some() {
            return Ok(&config.rules);
        }
        let missing = Diagnostic::whole_file(command, "no rules were named");
        Err(vec![missing.with_help("name a file or folder with `--rules`, or a `--config`")])
    }

    /// Where events come from, as far as it can be said before they are read.
    ///
    /// # Errors
    ///
    /// Files that are not there, a topic without brokers, times in the wrong order.
    pub fn events(&self, config: &Config) -> Result<Events, Trouble> {
        let Some(topic) = &self.kafka_topic else {
            let files: Vec<Recording> = self.events.iter().map(|path| Recording::new(path)).collect();
            check_files(&files)?;
            return Ok(Events::Files(files));
        };
        let mut ingest = wiring::ingest(config, self.from.unwrap_or_default());
        ingest.topics = vec![topic.clone()];
        ingest.group = "rearguard-replay".to_owned();
        ingest.instance = None;
        ingest.start = self.from.map_or(StartAt::Earliest, StartAt::Time);
        if let Some(brokers) = &self.brokers {
            ingest.brokers.clone_from(brokers);
        }
        if ingest.brokers.is_empty() {
            return Err(Trouble::wrong("no brokers are named").hint("use `--brokers`, or a `--config`"));
        }
        if self.from.zip(self.to).is_some_and(|(from, to)| from >= to) {
            return Err(Trouble::wrong("`--from` does not lie before `--to`"));
        }
        Ok(Events::Topic(Box::new(ingest), self.to))
    }

    /// The baselines named.
    ///
    /// # Errors
    ///
    /// One that no rule can be compared with.
    pub fn baselines(&self, sets: &[&RuleSet]) -> Result<Vec<Variant>, Trouble> {
        let given: Vec<Variant> = self.baseline.iter().map(|name| Variant::new(name.as_str())).collect();
        let rules = || sets.iter().flat_map(|set| &set.rules);
        for baseline in &given {
            if !rules().any(|rule| rule.variant.feature() == baseline.feature() && rule.variant != *baseline)
            {
                let wrong = format!("no rule is about another variant of `{}`", baseline.feature());
                return Err(Trouble::wrong(format!("`--baseline {baseline}`: {wrong}"))
                    .hint("name a variant of the same feature as the rules': <feature>.<change-id>"));
            }
        }
        Ok(given)
    }
}

/// What all sets of rules have in common, as the configuration has it.
pub fn bench(config: &Config) -> Bench {
    Bench { catalogue: config.catalogue.clone(), limits: config.limits, lateness: config.timing.lateness }
}

/// What a reader should know of a rule without a baseline.
pub fn never_judged(rule: &Rule) -> String {
    format!(
        "`{}` of {} compares with a baseline and none is known, so it is never judged: name one with `--baseline`",
        rule.condition.source, rule.variant
    )
}

/// Where events come from.
pub enum Events {
    Files(Vec<Recording>),
    /// A part of a topic: from the configuration's start to a time.
    Topic(Box<Ingest>, Option<Timestamp>),
}

/// A place in the events: a file and a line, or a partition and an offset.
pub struct Place<'a> {
    pub name: &'a str,
    pub number: u64,
}

impl Events {
    /// What they are called.
    pub fn name(&self) -> String {
        match self {
            Self::Files(files) => files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>().join(", "),
            Self::Topic(config, _) => format!("topic {}", config.topics.join(", ")),
        }
    }

    /// Bytes as stored, where that is known.
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::Files(files) => files.iter().map(Recording::size).sum(),
            Self::Topic(..) => None,
        }
    }

    /// Makes them readable more than once: keeps what standard input holds.
    ///
    /// # Errors
    ///
    /// Standard input that cannot be read or kept.
    pub fn keep(&mut self) -> Result<(), Trouble> {
        let Self::Files(files) = self else { return Ok(()) };
        let failed = |error| Trouble::new(format!("standard input could not be kept: {error}"));
        files.iter_mut().try_for_each(|file| file.spool().map_err(failed))
    }

    /// The variants of all events. They can be read again afterwards.
    ///
    /// # Errors
    ///
    /// As for [`keep`](Self::keep) and [`each`](Self::each).
    pub fn census(&mut self, bar: &ProgressBar) -> Result<BTreeSet<Variant>, Trouble> {
        self.keep()?;
        let mut census = Census::default();
        bar.set_message("looking for baselines");
        self.each(bar, |message| census.look(message))?;
        bar.set_message("");
        Ok(census.finish())
    }

    /// Calls `take` for every message, whatever the order of partitions.
    ///
    /// # Errors
    ///
    /// Files that cannot be read to their end, brokers that do not answer.
    pub fn each(&self, bar: &ProgressBar, mut take: impl FnMut(&[u8])) -> Result<(), Trouble> {
        match self {
            Self::Files(files) => each_line(files, bar, |line, _| {
                take(line);
                Ok(())
            }),
            Self::Topic(config, to) => {
                let mut range = Range::open(config, *to)?;
                for partition in 0..range.partitions() {
                    while read(&mut range, partition, bar, |message, _| {
                        take(message);
                        Ok(())
                    })? {}
                }
                Ok(())
            }
        }
    }

    /// Runs every message through a rig, partitions in step, to the end. `told` hears of each fate.
    ///
    /// # Errors
    ///
    /// As for [`each`](Self::each), and what `told` says.
    pub fn run(
        &self,
        bar: &ProgressBar,
        rig: impl FnOnce(usize) -> Rig,
        watch: &mut Watch<'_>,
        mut told: impl FnMut(Fate, Place<'_>) -> Result<(), Trouble>,
    ) -> Result<Rig, Trouble> {
        let mut rig = match self {
            Self::Files(files) => {
                let mut rig = rig(1);
                each_line(files, bar, |line, place| told(rig.record(0, line, watch), place))?;
                rig
            }
            Self::Topic(config, to) => {
                let mut range = Range::open(config, *to)?;
                let mut rig = rig(range.partitions());
                while let Some(lane) = rig.furthest_behind() {
                    let name = range.name(lane);
                    let more = read(&mut range, lane, bar, |message, offset| {
                        let number = u64::try_from(offset).unwrap_or_default();
                        told(rig.record(lane, message, watch), Place { name: &name, number })
                    })?;
                    if !more {
                        rig.end_lane(lane, watch);
                    }
                }
                rig
            }
        };
        rig.finish(watch);
        Ok(rig)
    }
}

/// Reads what has come of a partition; false at the end of the range.
fn read(
    range: &mut Range,
    partition: usize,
    bar: &ProgressBar,
    mut take: impl FnMut(&[u8], i64) -> Result<(), Trouble>,
) -> Result<bool, Trouble> {
    let mut bytes = 0;
    let more = range.read(partition, |message, offset| {
        bytes += message.len() as u64;
        take(message, offset)
    });
    bar.inc(bytes);
    more
}

impl From<IngestError> for Trouble {
    fn from(error: IngestError) -> Self {
        Self::wrong(format!("the topic cannot be read: {error}")).hint(
            "check `--brokers` or `kafka.brokers`, the topic's name, and that the broker still has that time",
        )
    }
}

/// Calls `take` for every line that is not blank.
fn each_line(
    recordings: &[Recording],
    bar: &ProgressBar,
    mut take: impl FnMut(&[u8], Place<'_>) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    for recording in recordings {
        let name = recording.name.as_str();
        let input = recording
            .open(|stored| Box::new(bar.wrap_read(stored)))
            .map_err(|error| Trouble::wrong(format!("{name}: cannot be read: {error}")))?;
        let mut lines = Lines::new(input, Bounds::default().max_bytes);
        let mut last = 0;
        loop {
            match lines.next_line() {
                Ok(Some(line)) => {
                    last = line.number;
                    if !line.is_blank() {
                        take(line.bytes, Place { name, number: line.number })?;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    let place = format!("{name}: cannot be read beyond line {last}: {error}");
                    return Err(Trouble::wrong(place).hint("the file seems to be cut off or damaged"));
                }
            }
        }
    }
    Ok(())
}

/// Lines that were no events, or held values that no measurement can have.
#[derive(Debug, Default)]
pub struct BadLines {
    /// By fate and reason.
    pub by_reason: BTreeMap<(&'static str, &'static str), Bad>,
}

/// Bad lines of one reason.
#[derive(Debug, Default, Serialize)]
pub struct Bad {
    pub count: u64,
    /// `file:line`, or `topic/partition:offset`, of the first few.
    pub first: Vec<String>,
}

impl BadLines {
    /// Notes what became of a line.
    ///
    /// # Errors
    ///
    /// If `strict`, the first bad line.
    #[inline]
    pub fn note(&mut self, fate: Fate, place: Place<'_>, strict: bool) -> Result<(), Trouble> {
        match fate {
            Fate::DeadLetter(_) | Fate::Refused(_) => self.note_bad(fate, place, strict),
            Fate::Windowed | Fate::Late | Fate::Duplicate | Fate::Other | Fate::Canary => Ok(()),
        }
    }

    #[cold]
    fn note_bad(&mut self, fate: Fate, place: Place<'_>, strict: bool) -> Result<(), Trouble> {
        let (word, reason) = fate.words();
        let place = format!("{}:{}", place.name, place.number);
        if strict {
            return Err(Trouble::wrong(format!("{place}: no good event: {word}, {reason}"))
                .hint("docs/events.md says what an event is; without `--strict` bad lines are counted"));
        }
        let bad = self.by_reason.entry((word, reason)).or_default();
        bad.count += 1;
        if bad.first.len() < PLACES {
            bad.first.push(place);
        }
        Ok(())
    }
}

/// Whether the files can be read, as far as their names tell.
///
/// # Errors
///
/// A file that is not there; standard input named twice.
pub fn check_files(recordings: &[Recording]) -> Result<(), Trouble> {
    if recordings.iter().filter(|recording| recording.is_stdin()).count() > 1 {
        return Err(Trouble::wrong("`--events -` stands there twice: standard input can be read once"));
    }
    for recording in recordings.iter().filter(|recording| !recording.is_stdin()) {
        if !Path::new(&recording.name).exists() {
            return Err(Trouble::wrong(format!("{}: there is no such file", recording.name)));
        }
    }
    Ok(())
}

/// Bytes read of those stored, on a terminal.
pub fn progress(events: &Events, passes: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let total = events.size().map(|bytes| bytes * passes);
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    let known = "{bar:30.cyan} {percent:>3} %  {bytes} of {total_bytes}, {bytes_per_sec}  {msg}";
    let unknown = "{spinner:.cyan} {bytes}, {bytes_per_sec}  {msg}";
    let style = ProgressStyle::with_template(if total.is_some() { known } else { unknown })
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style.progress_chars("━━╌"))
}
