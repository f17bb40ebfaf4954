//! Test files as written: every key read and checked on its own, all mistakes collected, nothing run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::expect::{self, Expectation, Moment};
use crate::config::{Config, read_file, rule_files};
use crate::engine::rule::RuleSet;
use crate::engine::rule::compile::compile_rules;
use crate::engine::rule::diagnostic::{Diagnostic, Span, nearest, one_of, position};
use crate::engine::rule::span::show;
use crate::engine::rule::yaml::{Document, Fields, Node, Value};
use crate::lab::recording::Recording;
use crate::lab::series::notation::{self, State, Written};
use crate::lab::series::{Segment, Series};
use crate::lab::setup::Bench;
use crate::model::flag::FlagSpec;
use crate::model::id::Variant;
use crate::model::time::{MINUTE_MS, Timestamp};

const FILE_KEYS: [&str; 5] = ["rules", "config", "baseline", "traffic", "tests"];
const TEST_KEYS: [&str; 7] = ["name", "input", "events", "seed", "start", "length", "expect"];
const MINUTE: Duration = Duration::from_secs(60);
/// The longest test.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);
/// The most events of a test with series.
const MOST_EVENTS: f64 = 20e6;
/// Where series begin: a Monday, at midnight, so that the clock shows the offset.
const START: &str = "2026-01-05T00:00:00Z";

/// One test file, ready to run.
#[derive(Debug)]
pub struct TestFile {
    pub name: String,
    pub rules: RuleSet,
    pub flags: Vec<FlagSpec>,
    pub bench: Bench,
    /// The file's `baseline:`.
    pub baselines: Vec<Variant>,
    pub tests: Vec<Test>,
}

/// One test.
#[derive(Debug)]
pub struct Test {
    pub name: String,
    /// Where it stands, counted from 1.
    pub line: usize,
    pub input: Input,
    pub expect: Vec<Expectation>,
}

/// Where the events of a test come from.
#[derive(Debug)]
pub enum Input {
    Series { start: Timestamp, length: Duration, seed: Option<u64>, series: Vec<Series> },
    Recorded(Vec<PathBuf>),
}

/// Reads one file, with its rules and its configuration.
///
/// # Errors
///
/// Every mistake in any of them.
pub fn read(path: &Path) -> Result<TestFile, Vec<Diagnostic>> {
    let name = path.display().to_string();
    let text = read_file(path).map_err(|error| vec![error])?;
    let mut doc = Document::new(&name, &text);
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    let mut others = Vec::new();
    let file = file(&mut doc, &folder, &mut others);
    doc.diagnostics.sort_by_key(|found| found.span.offset);
    others.append(&mut doc.diagnostics);
    match file {
        Some(file) if others.is_empty() => Ok(TestFile { name, ..file }),
        _ => Err(others),
    }
}

fn file(doc: &mut Document<'_>, folder: &Path, others: &mut Vec<Diagnostic>) -> Option<TestFile> {
    let root = doc.parse()?;
    let fields = doc.fields(&root, "a test file", &FILE_KEYS)?;
    let config = match fields.get("config").and_then(|n| doc.text(n, "`config`")) {
        Some(path) => Config::load(folder.join(path)).map_err(|mut found| others.append(&mut found)).ok(),
        None => Some(Config::built_in()),
    };
    let config = config.unwrap_or_else(Config::built_in);
    let rules = rules(doc, &fields, folder, &config, others);
    let baselines: Vec<Variant> =
        texts(doc, &fields, "baseline").into_iter().map(|(text, _)| text.into()).collect();
    let known = rules.as_ref().map(|rules| variants(rules, &baselines));
    let mut reader = Reader {
        doc,
        folder,
        config: &config,
        rules: rules.as_ref(),
        known,
        traffic: BTreeMap::new(),
        names: BTreeMap::new(),
    };
    if let Some(node) = fields.get("traffic") {
        reader.traffic(node);
    }
    let tests = reader.tests(&fields);
    Some(TestFile {
        name: String::new(),
        rules: rules?,
        flags: config.flags.clone(),
        bench: Bench {
            catalogue: config.catalogue.clone(),
            limits: config.limits,
            lateness: config.timing.lateness,
        },
        baselines,
        tests,
    })
}

/// The variants that events may be of: those that rules are about, and their baselines.
fn variants(rules: &RuleSet, baselines: &[Variant]) -> Vec<String> {
    let of_rules = rules.rules.iter().flat_map(|rule| std::iter::once(&rule.variant).chain(&rule.baseline));
    let mut known: Vec<String> = of_rules.chain(baselines).map(ToString::to_string).collect();
    known.sort_unstable();
    known.dedup();
    known
}

fn rules(
    doc: &mut Document<'_>,
    fields: &Fields<'_>,
    folder: &Path,
    config: &Config,
    others: &mut Vec<Diagnostic>,
) -> Option<RuleSet> {
    let named = texts(doc, fields, "rules");
    if fields.get("rules").is_none() {
        let help = "add `rules: ../support-copilot.yaml`: a path from this file, or a list of them";
        doc.error_help(fields.first_key_at(), "the file names no rules to test", help);
    }
    let places: Vec<PathBuf> = named.iter().map(|(place, _)| folder.join(place)).collect();
    if places.is_empty() {
        return None;
    }
    let compiled = rule_files(&places)
        .and_then(|files| compile_rules(&files, &config.catalogue, &config.flags))
        .map_err(|mut found| others.append(&mut found));
    compiled.ok().map(|compiled| compiled.rules)
}

/// One text or a list of texts, each with its place.
fn texts(doc: &mut Document<'_>, fields: &Fields<'_>, key: &str) -> Vec<(String, Span)> {
    let Some(node) = fields.get(key) else { return Vec::new() };
    one_or_list(node)
        .iter()
        .filter_map(|item| doc.text(item, &format!("`{key}`")).map(|text| (text.to_owned(), item.at)))
        .collect()
}

/// The items of a list, or the node itself.
pub(super) fn one_or_list(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(node),
    }
}

struct Reader<'a, 'd> {
    doc: &'a mut Document<'d>,
    folder: &'a Path,
    config: &'a Config,
    /// `None` when they did not compile: then only the other mistakes are of interest.
    rules: Option<&'a RuleSet>,
    /// Variants that events may be of.
    known: Option<Vec<String>>,
    /// What is normal, per variant.
    traffic: BTreeMap<String, (Written, Span)>,
    /// Names of tests, and their lines.
    names: BTreeMap<String, usize>,
}

/// A series of a test, its end still open.
struct Drawn {
    variant: String,
    written: Written,
    at: Span,
}

impl Drawn {
    /// How long all but an open last segment lasts.
    fn settled(&self) -> Duration {
        self.written.segments.iter().map(|segment| segment.length).sum()
    }
}

impl Reader<'_, '_> {
    fn traffic(&mut self, node: &Node) {
        for (variant, at, value) in self.doc.entries(node, "`traffic`").unwrap_or_default() {
            self.check_variant(variant, at);
            let Some(written) = notation::read(self.doc, value, &self.config.catalogue, &State::default())
            else {
                continue;
            };
            if written.segments.len() > 1 || !written.open {
                let help = "leave `for` and `then` to the tests: they begin with these levels";
                self.doc.error_help(value.at, "`traffic` says what is normal, and nothing of time", help);
            }
            self.traffic.insert(variant.to_owned(), (written, value.at));
        }
    }

    fn check_variant(&mut self, variant: &str, at: Span) {
        let Some(known) = &self.known else { return };
        if known.iter().any(|one| one == variant) {
            return;
        }
        let help = match nearest(variant, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the rules are about {}", one_of(known.iter().map(String::as_str))),
        };
        self.doc.error_help(at, format!("no rule looks at the variant `{variant}`"), help);
    }

    fn tests(&mut self, fields: &Fields<'_>) -> Vec<Test> {
        let Some(node) = fields.get("tests") else {
            self.doc.error_help(fields.first_key_at(), "the file has no `tests`", "add `tests:` with a list");
            return Vec::new();
        };
        let items = self.doc.list(node, "`tests`").unwrap_or_default();
        if items.is_empty() && matches!(node.value, Value::List(_)) {
            self.doc.error(node.at, "`tests` is empty");
        }
        items.iter().filter_map(|item| self.test(item)).collect()
    }

    fn test(&mut self, node: &Node) -> Option<Test> {
        let fields = self.doc.fields(node, "a test", &TEST_KEYS)?;
        let at = fields.first_key_at();
        let (line, _) = position(self.doc.text, at.offset);
        let name = match fields.get("name") {
            Some(node) => self.name(node, line),
            None => {
                self.doc.error_help(at, "the test has no `name`", "say in a few words what must happen");
                None
            }
        };
        let expect = match fields.get("expect") {
            Some(node) => expect::read(self.doc, node, self.rules),
            None => {
                let help = "add `expect:` with a list, such as `- never: rollback`";
                self.doc.error_help(at, "the test expects nothing", help);
                Vec::new()
            }
        };
        let input = self.input(&fields, &expect);
        Some(Test { name: name?, line, input: input?, expect })
    }

    fn name(&mut self, node: &Node, line: usize) -> Option<String> {
        let name = self.doc.text(node, "`name`")?.to_owned();
        if let Some(line) = self.names.insert(name.clone(), line) {
            self.doc.error(node.at, format!("the name is taken by the test on line {line}"));
        }
        Some(name)
    }

    fn input(&mut self, fields: &Fields<'_>, expect: &[Expectation]) -> Option<Input> {
        if let Some(node) = fields.get("events") {
            for key in ["input", "seed", "start", "length"] {
                if let Some(at) = fields.key_at(key) {
                    let help =
                        "recorded events have their own times and values: a test has `events` or `input`";
                    self.doc.error_help(at, format!("`{key}` does not go with `events`"), help);
                }
            }
            return self.recorded(node);
        }
        let start = fields.get("start").and_then(|node| self.start(node));
        let seed = fields.get("seed").and_then(|n| self.doc.integer(n, "`seed`", 0, u64::from(u32::MAX)));
        let longest = LONGEST;
        let given = fields.get("length").and_then(|n| self.doc.minutes(n, "`length`", MINUTE, longest));
        let before = self.doc.diagnostics.len();
        let drawn = self.drawn(fields);
        if drawn.is_empty() {
            if self.doc.diagnostics.len() == before {
                let help = "add `input:` with a series per variant, or `events:` with a file";
                self.doc.error_help(fields.first_key_at(), "the test has no events", help);
            }
            return None;
        }
        let start = start.or_else(|| Timestamp::parse(START))?;
        let length = self.length(&drawn, given, start, expect)?;
        let series: Vec<Series> = drawn.into_iter().filter_map(|one| self.finish(one, length)).collect();
        self.check_size(&series, fields.first_key_at());
        Some(Input::Series { start, length, seed, series })
    }

    fn recorded(&mut self, node: &Node) -> Option<Input> {
        let mut paths = Vec::new();
        for item in one_or_list(node) {
            let Some(text) = self.doc.text(item, "`events`").map(str::to_owned) else { continue };
            let path = self.folder.join(&text);
            if !path.is_file() {
                let help = "write the path from this file: JSON Lines, plain or packed by gzip or zstd";
                self.doc.error_help(item.at, format!("there is no file `{}`", path.display()), help);
            }
            paths.push(path);
        }
        (!paths.is_empty()).then_some(Input::Recorded(paths))
    }

    fn start(&mut self, node: &Node) -> Option<Timestamp> {
        let text = self.doc.text(node, "`start`")?;
        let start = Timestamp::parse(text).filter(|at| at.as_millis().rem_euclid(MINUTE_MS) == 0);
        if start.is_none() {
            self.doc.error_help(
                node.at,
                "`start` must be a time at a full minute",
                format!("write `{START}`"),
            );
        }
        start
    }

    /// The series of a test: its own, and normal traffic of the other variants.
    fn drawn(&mut self, fields: &Fields<'_>) -> Vec<Drawn> {
        let mut drawn = Vec::new();
        let entries = match fields.get("input") {
            Some(node) => self.doc.entries(node, "`input`").unwrap_or_default(),
            None => Vec::new(),
        };
        for (variant, at, value) in &entries {
            if value.value == Value::Null {
                let help = "within `{ }` a comma ends an entry: put the whole series in quotes";
                self.doc.error_help(*at, format!("`{variant}` has no series"), help);
                continue;
            }
            self.check_variant(variant, *at);
            let normal =
                self.traffic.get(*variant).map(|(written, _)| written.first.clone()).unwrap_or_default();
            for item in one_or_list(value) {
                let written = notation::read(self.doc, item, &self.config.catalogue, &normal);
                let variant = (*variant).to_owned();
                drawn.extend(written.map(|written| Drawn { variant, written, at: item.at }));
            }
        }
        for (variant, (written, at)) in &self.traffic {
            if !entries.iter().any(|(own, _, _)| own == variant) {
                drawn.push(Drawn { variant: variant.clone(), written: written.clone(), at: *at });
            }
        }
        drawn
    }

    /// How long a test lasts: as it says, else as long as its series and its latest expectation.
    fn length(
        &mut self,
        drawn: &[Drawn],
        given: Option<Duration>,
        start: Timestamp,
        expect: &[Expectation],
    ) -> Option<Duration> {
        let settled = drawn.iter().map(Drawn::settled).max().unwrap_or_default();
        let offset = |moment: &Moment| moment.on(start).since(start);
        let moments = || expect.iter().flat_map(Expectation::moments);
        let latest = moments().map(|(moment, _)| offset(moment)).max().unwrap_or_default();
        let is_open = drawn.iter().any(|one| one.written.open);
        let length = given.unwrap_or(if is_open { settled.max(latest) } else { settled });
        // Whole minutes are judged.
        let length = Duration::from_secs(length.as_secs().div_ceil(60) * 60);
        for (moment, at) in moments().filter(|(moment, _)| offset(moment) > length) {
            let help = format!("the events end at {}: make a series longer, or say `length:`", show(length));
            self.doc.error_help(*at, format!("{} comes after the end", show(offset(moment))), help);
        }
        for one in drawn {
            if one.written.open && one.settled() >= length {
                let message = "nothing says how long the last segment lasts";
                self.doc.error_help(one.at, message, "end it with `for 1h`, or give the test a `length:`");
                return None;
            }
        }
        if length > LONGEST {
            self.doc.error(drawn[0].at, format!("a test lasts at most {}", show(LONGEST)));
            return None;
        }
        Some(length)
    }

    /// An open end lasts as long as the test.
    fn finish(&mut self, one: Drawn, length: Duration) -> Option<Series> {
        let settled = one.settled();
        let Drawn { variant, mut written, .. } = one;
        if written.open {
            let last: &mut Segment = written.segments.last_mut()?;
            last.length = length.saturating_sub(settled);
        }
        Some(Series { variant: variant.into(), labels: written.labels, segments: written.segments })
    }

    fn check_size(&mut self, series: &[Series], at: Span) {
        let events =
            |segment: &Segment| segment.rate.from.max(segment.rate.to) * segment.length.as_secs_f64() / 60.0;
        let total: f64 = series.iter().flat_map(|series| &series.segments).map(events).sum();
        if total > MOST_EVENTS {
            let message = format!("the test makes up to {total:.0} events, more than {MOST_EVENTS:.0}");
            self.doc.error_help(at, message, "fewer events a minute show the same");
        }
    }
}

impl Input {
    /// The files as recordings.
    pub fn recordings(paths: &[PathBuf]) -> Vec<Recording> {
        paths.iter().map(|path| Recording::new(path)).collect()
    }
}
