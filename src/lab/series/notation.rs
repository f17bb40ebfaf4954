//! A series as people write it: `60 events per minute, faithfulness 0.95, abstain 2% for 2h, then faithfulness 0.80 for 1h`.
//!
//! ```text
//! series  = segment { [","] "then" segment }
//! segment = part { "," part } [ "for" SPAN ]
//! part    = NUMBER [ "to" NUMBER ] "events per" ( "second" | "minute" | "hour" )
//!         | "no events" | "normal"
//!         | METRIC level | "no" METRIC | level                      a level alone is of the metric named last
//!         | ( "tenant" | "tier" | "region" ) NAME                    at the start
//! level   = NUMBER [ "%" ] [ "to" NUMBER [ "%" ] ] [ "±" NUMBER | "binary" ]
//!         | "p50" NUMBER ( "p90" | "p95" | "p99" ) NUMBER
//! ```
//!
//! What a segment does not name goes on as before, but for `no events`, which ends with its segment.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Level, Ramp, Segment};
use crate::engine::rule::diagnostic::{Span, nearest};
use crate::engine::rule::span;
use crate::engine::rule::yaml::{Document, Node};
use crate::model::flag::Dimension;
use crate::model::metric::{Catalogue, Kind, Metric};

/// More than any gateway sends, less than fills the memory within a minute.
const MOST_PER_MINUTE: f64 = 1_000_000.0;
/// Standard normal deviates of the quantiles that a level may name.
const UPPER: [(&str, f64); 3] = [("p90", 1.281_551_6), ("p95", 1.644_853_6), ("p99", 2.326_347_9)];
const DIMENSIONS: [(&str, Dimension); 3] =
    [("tenant", Dimension::Tenant), ("tier", Dimension::Tier), ("region", Dimension::Region)];
const UNITS: [(&str, f64); 3] = [("second", 60.0), ("minute", 1.0), ("hour", 1.0 / 60.0)];

/// What holds at one moment of a series: where the next segment begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Events per minute; `None` until it is said.
    pub rate: Option<f64>,
    pub levels: BTreeMap<String, Level>,
    pub labels: BTreeMap<Dimension, String>,
}

/// A series as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    pub labels: BTreeMap<Dimension, String>,
    pub segments: Vec<Segment>,
    /// The last segment has no `for`: it lasts as long as the test. Its length is zero.
    pub open: bool,
    /// What holds where the first segment ends.
    pub first: State,
}

/// Reads a series. `normal` is what it begins with.
pub fn read(doc: &mut Document<'_>, node: &Node, catalogue: &Catalogue, normal: &State) -> Option<Written> {
    let text = doc.text(node, "a series")?.to_owned();
    let tokens = tokens(doc, node, &text);
    let before = doc.diagnostics.len();
    let known = Some(normal).filter(|normal| normal.rate.is_some()).cloned();
    let mut reader = Reader {
        doc,
        catalogue,
        tokens: &tokens,
        at: 0,
        whole: node.at,
        last: None,
        normal: known,
        begun: false,
    };
    let written = reader.series(normal.clone());
    if doc.diagnostics.len() > before { None } else { written }
}

/// One word, number, comma or sign, and where it stands.
#[derive(Clone, Debug, PartialEq)]
struct Token {
    text: String,
    at: Span,
}

/// Takes a text apart. Folding and line ends change nothing but white space, so words are found again in the file.
fn tokens(doc: &Document<'_>, node: &Node, text: &str) -> Vec<Token> {
    let spaced = text.replace("+-", "±").replace(',', " , ").replace('±', " ± ").replace('%', " % ");
    let mut from = node.at.offset;
    let place = |word: &str, from: &mut usize| {
        let rest = doc.text.get(*from..node.at.end()).unwrap_or_default();
        let written = if word == "±" && !rest.contains('±') { "+-" } else { word };
        match rest.find(written) {
            Some(place) => {
                let at = Span::new(*from + place, written.len());
                *from = at.end();
                at
            }
            None => node.at,
        }
    };
    spaced
        .split_whitespace()
        .map(|word| Token { text: word.to_owned(), at: place(word, &mut from) })
        .collect()
}

struct Reader<'a, 'd> {
    doc: &'a mut Document<'d>,
    catalogue: &'a Catalogue,
    tokens: &'a [Token],
    at: usize,
    whole: Span,
    /// The metric named last.
    last: Option<String>,
    /// What `normal` goes back to.
    normal: Option<State>,
    /// Whether the first segment is over.
    begun: bool,
}

/// A segment while it is read.
struct Draft {
    state: State,
    rate: Option<Ramp>,
    silent: bool,
    levels: BTreeMap<String, Level>,
    length: Option<Duration>,
}

/// Something was wrong and has been told.
struct Told;

impl Reader<'_, '_> {
    fn series(&mut self, mut state: State) -> Option<Written> {
        let told = self.doc.diagnostics.len();
        let mut first: Option<State> = None;
        let mut segments = Vec::new();
        let open = loop {
            let (began, before) = (self.at, self.doc.diagnostics.len());
            let draft = self.segment(state);
            let understood = self.doc.diagnostics.len() == before;
            // What follows from a mistake is not told.
            if self.doc.diagnostics.len() == told && !draft.silent && draft.state.rate.is_none() {
                let help = "begin with `60 events per minute`";
                self.wrong(began, "nothing says how many events there are", help);
            }
            let rate = match (draft.rate, draft.silent) {
                (_, true) => Ramp::steady(0.0),
                (Some(rate), false) => rate,
                (None, false) => Ramp::steady(draft.state.rate.unwrap_or_default()),
            };
            let more = self.take("then");
            if draft.length.is_none() && more && understood {
                self.wrong(self.at - 1, "the segment before this has no length", "end it with `for 1h`");
            }
            let open = draft.length.is_none();
            let length = draft.length.unwrap_or_default();
            segments.push(Segment { length, rate, levels: draft.levels });
            state = draft.state;
            first.get_or_insert_with(|| state.clone());
            self.normal.get_or_insert_with(|| state.clone());
            self.begun = true;
            if !more {
                break open;
            }
        };
        let first = first?;
        let bare = segments.iter().all(|segment| segment.levels.is_empty());
        if bare && self.doc.diagnostics.len() == told {
            let help = "add a metric and its level, such as `faithfulness 0.95`";
            self.doc.error_help(self.whole, "the events carry no metric", help);
        }
        Some(Written { labels: state.labels, segments, open, first })
    }

    fn segment(&mut self, state: State) -> Draft {
        let mut draft =
            Draft { levels: state.levels.clone(), state, rate: None, silent: false, length: None };
        if self.at > 0 && self.peek().is_none_or(|word| word == "then") {
            self.wrong(
                self.at - 1,
                "nothing follows",
                "say what happens then, such as `then faithfulness 0.80 for 1h`",
            );
        }
        while let Some(word) = self.peek() {
            let done = match word {
                "then" => break,
                "," => {
                    self.at += 1;
                    continue;
                }
                "for" => self.length(&mut draft),
                _ if draft.length.is_some() => Err(self.wrong(
                    self.at,
                    "`for` ends a segment",
                    "write `then` in front of what comes next",
                )),
                _ => self.part(&mut draft),
            };
            if done.is_err() {
                // The rest of the part says nothing.
                while self.peek().is_some_and(|word| ![",", "then", "for"].contains(&word)) {
                    self.at += 1;
                }
            }
        }
        draft
    }

    fn part(&mut self, draft: &mut Draft) -> Result<(), Told> {
        let word = self.peek().unwrap_or_default().to_owned();
        if let Some((_, dimension)) = DIMENSIONS.iter().find(|(name, _)| *name == word) {
            return self.label(*dimension, draft);
        }
        match word.as_str() {
            "no" => return self.without(draft),
            "normal" => {
                self.at += 1;
                let Some(first) = self.normal.clone() else {
                    let help = "`normal` is what `traffic:` says, else the first segment: write that in full";
                    return Err(self.wrong(self.at - 1, "there is no normal yet", help));
                };
                draft.state.rate = first.rate;
                draft.levels.clone_from(&first.levels);
                draft.state.levels.clone_from(&first.levels);
                return Ok(());
            }
            _ => {}
        }
        let is_number = word.starts_with(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
        if is_number || word == "p50" {
            if self.is_rate() {
                return self.rate(draft);
            }
            let Some(metric) = self.last.clone() else {
                let help = "write the metric in front of its level, such as `faithfulness 0.95`";
                return Err(self.wrong(self.at, format!("`{word}` of what?"), help));
            };
            return self.metric(&metric, draft);
        }
        self.at += 1;
        self.metric(&word, draft)
    }

    fn label(&mut self, dimension: Dimension, draft: &mut Draft) -> Result<(), Told> {
        let (at, what) = (self.at, dimension.as_str());
        self.at += 1;
        if self.begun {
            let help = format!("write a second series for another {what}");
            return Err(self.wrong(at, format!("the {what} of a series does not change"), &help));
        }
        match self.peek() {
            Some(name) if name != "," && name != "then" && name != "for" => {
                draft.state.labels.insert(dimension, name.to_owned());
                self.at += 1;
                Ok(())
            }
            _ => Err(self.wrong(at, format!("`{what}` needs a name"), &format!("write `{what} acme`"))),
        }
    }

    /// `no events`, `no <metric>`.
    fn without(&mut self, draft: &mut Draft) -> Result<(), Told> {
        self.at += 1;
        let word = self.peek().unwrap_or_default().to_owned();
        if word == "events" {
            self.at += 1;
            draft.silent = true;
            return Ok(());
        }
        self.at += 1;
        self.known(&word, self.at - 1)?;
        draft.levels.remove(&word);
        draft.state.levels.remove(&word);
        Ok(())
    }

    fn length(&mut self, draft: &mut Draft) -> Result<(), Told> {
        let at = self.at;
        self.at += 1;
        let mut text = String::new();
        while let Some(word) = self.peek().filter(|word| *word != "," && *word != "then") {
            text.push_str(if text.is_empty() { "" } else { " " });
            text.push_str(word);
            self.at += 1;
        }
        match span::parse(&text) {
            Ok(length) if draft.length.is_none() && length >= Duration::from_secs(1) => {
                draft.length = Some(length);
                Ok(())
            }
            Ok(_) if draft.length.is_some() => Err(self.wrong(at, "`for` stands here twice", "remove one")),
            _ => {
                let wrong = format!("`for {text}` is no span of time of at least a second");
                Err(self.wrong(at, wrong, "write `for 10m`, `for 1h30m` or `for 90s`"))
            }
        }
    }

    /// Whether a number here is one of events.
    fn is_rate(&self) -> bool {
        let ahead = self.tokens[self.at..].iter().map(|token| token.text.as_str());
        ahead
            .take_while(|word| ![",", "then", "for"].contains(word))
            .any(|word| ["event", "events", "per"].contains(&word))
    }

    fn rate(&mut self, draft: &mut Draft) -> Result<(), Told> {
        let at = self.at;
        let from = self.number(MOST_PER_MINUTE * 60.0)?;
        let to = if self.take("to") { self.number(MOST_PER_MINUTE * 60.0)? } else { from };
        let words = (self.take("events") || self.take("event")) && (self.take("per") || self.take("a"));
        let unit = UNITS.iter().find(|(unit, _)| Some(*unit) == self.peek());
        let (true, Some((_, per_minute))) = (words, unit) else {
            return Err(self.wrong(
                self.at.min(self.tokens.len() - 1),
                "how many events in what time?",
                "write `60 events per minute`, `per second` or `per hour`",
            ));
        };
        self.at += 1;
        let rate = Ramp { from: from * per_minute, to: to * per_minute };
        if rate.from.max(rate.to) > MOST_PER_MINUTE {
            return Err(self.wrong(
                at,
                "more than a million events per minute",
                "a hundred a minute show what a million would",
            ));
        }
        draft.rate = Some(rate);
        draft.state.rate = Some(rate.to);
        Ok(())
    }

    fn metric(&mut self, name: &str, draft: &mut Draft) -> Result<(), Told> {
        let metric = self.known(name, self.at.saturating_sub(1))?;
        let level = self.level(&metric)?;
        self.last = Some(name.to_owned());
        let stays = match level {
            Level::Share(of) => Level::Share(Ramp::steady(of.to)),
            Level::Mean { mean, spread, top } => Level::Mean { mean: Ramp::steady(mean.to), spread, top },
            level @ Level::LogNormal { .. } => level,
        };
        draft.levels.insert(name.to_owned(), level);
        draft.state.levels.insert(name.to_owned(), stays);
        Ok(())
    }

    fn known(&mut self, name: &str, at: usize) -> Result<Metric, Told> {
        let catalogue = self.catalogue;
        if let Some(id) = catalogue.find(name) {
            return Ok(catalogue.get(id).clone());
        }
        let words = ["no", "normal", "then", "for", "events", "tenant", "tier", "region"];
        let names = catalogue.iter().map(|(_, metric)| metric.name.as_str());
        let help = match nearest(name, words.into_iter().chain(names)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                "metrics are those of the configuration; docs/testing-rules.md has the notation".to_owned()
            }
        };
        Err(self.wrong(at, format!("`{name}` is no metric, and no word of the notation"), &help))
    }

    fn level(&mut self, metric: &Metric) -> Result<Level, Told> {
        let at = self.at;
        let top = if metric.kind == Kind::Value { f64::MAX } else { 1.0 };
        if self.peek() == Some("p50") {
            return self.quantiles(metric);
        }
        let from = self.number(top)?;
        let (mut to, mut spread, mut binary) = (from, 0.0, false);
        loop {
            if self.take("to") {
                to = self.number(top)?;
            } else if self.take("±") {
                spread = self.number(top)?;
            } else if self.take("binary") {
                binary = true;
            } else {
                break;
            }
        }
        if self.peek().is_some_and(|word| ![",", "then", "for"].contains(&word)) {
            let word = self.peek().unwrap_or_default().to_owned();
            let help = "a comma stands between parts; a level is `0.95`, `0.95 ± 0.03`, `0.95 binary`, `0.95 to 0.80`, `2%` or `p50 1200 p95 4000`";
            return Err(self.wrong(self.at, format!("`{word}` was not expected here"), help));
        }
        let mean = Ramp { from, to };
        match metric.kind {
            Kind::Score if binary && spread == 0.0 => Ok(Level::Share(mean)),
            _ if binary => {
                let help = "`binary` makes each sample of a score 0 or 1: write `faithfulness 0.84 binary`";
                Err(self.wrong(at, format!("`binary` does not fit `{}` here", metric.name), help))
            }
            Kind::Boolean if spread > 0.0 => {
                let help = "a `seed:` in the test draws them at random";
                Err(self.wrong(
                    at,
                    format!("`{}` is true or false: a share has no spread", metric.name),
                    help,
                ))
            }
            Kind::Boolean => Ok(Level::Share(mean)),
            Kind::Score | Kind::Value => Ok(Level::Mean { mean, spread, top }),
        }
    }

    /// `p50 1200 p95 4000`.
    fn quantiles(&mut self, metric: &Metric) -> Result<Level, Told> {
        let at = self.at;
        self.at += 1;
        if metric.kind != Kind::Value {
            let wrong = format!("`{}` is no value, so it has no quantiles to set", metric.name);
            return Err(self.wrong(at, wrong, "write a level such as `0.95 ± 0.03` or `2%`"));
        }
        let median = self.number(f64::MAX)?;
        let upper = UPPER.iter().find(|(name, _)| Some(*name) == self.peek());
        let Some((name, deviate)) = upper else {
            return Err(self.wrong(at, "`p50` needs a second quantile", "write `p50 1200 p95 4000`"));
        };
        self.at += 1;
        let above = self.number(f64::MAX)?;
        if median <= 0.0 || above < median {
            return Err(self.wrong(
                at,
                format!("`p50` must be above 0 and not above `{name}`"),
                "write `p50 1200 p95 4000`",
            ));
        }
        Ok(Level::LogNormal { median, sigma: (above / median).ln() / deviate })
    }

    /// A number from 0 to `most`, perhaps in percent.
    fn number(&mut self, most: f64) -> Result<f64, Told> {
        let word = self.peek().unwrap_or_default().to_owned();
        let Ok(number) = word.parse::<f64>() else {
            let at = self.at.min(self.tokens.len() - 1);
            let wrong = if word.is_empty() {
                "a number is missing".to_owned()
            } else {
                format!("`{word}` is no number")
            };
            return Err(self.wrong(at, wrong, "write `0.95`, `2%` or `1200`"));
        };
        let at = self.at;
        self.at += 1;
        let number = if self.take("%") { number / 100.0 } else { number };
        if !(0.0..=most).contains(&number) {
            let help = if most == 1.0 {
                "scores and shares lie between 0 and 1: write `0.95` or `95%`"
            } else {
                "numbers are not negative"
            };
            return Err(self.wrong(at, format!("`{word}` is out of range"), help));
        }
        Ok(number)
    }

    fn peek(&self) -> Option<&str> {
        self.tokens.get(self.at).map(|token| token.text.as_str())
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        self.at += usize::from(found);
        found
    }

    fn wrong(&mut self, at: usize, message: impl Into<String>, help: &str) -> Told {
        let span = self.tokens.get(at).map_or(self.whole, |token| token.at);
        self.doc.error_help(span, message, help);
        Told
    }
}
