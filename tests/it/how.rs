//! `docs/how-it-decides.md`: its pictures are cut from the page of `rearguard replay`, its numbers are those of replays.
//!
//! `REARGUARD_DRAW=1 cargo test --test it how::` draws the pictures anew.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::Duration;

use flate2::read::GzDecoder;
use rearguard::lab::series::{Generator, Level, Ramp, Segment, Series};
use rearguard::model::time::Timestamp;
use serde_json::Value;

use crate::cli::{Ended, rearguard};
use crate::readme::read;

const VARIANT: &str = "support-copilot.prompt-v18";
/// When every series begins.
const START: &str = "2026-01-05T00:00:00Z";
/// The seed of every series.
const SEED: u64 = 7;

/// A stretch of a series: seconds, events per minute, the share of good answers.
type Stretch = (u64, f64, f64);

/// What one picture shows.
struct Scene {
    name: &'static str,
    rule: &'static str,
    series: &'static [Stretch],
}

const SCENES: [Scene; 3] = [
    Scene {
        name: "regression",
        rule: "condition: faithfulness_1h < 0.92, action: rollback",
        series: &[(2 * 3600, 100.0, 0.95), (2400, 100.0, 0.70)],
    },
    Scene {
        name: "one-bad-minute",
        rule: "condition: faithfulness_1h < 0.92, action: rollback",
        series: &[(3 * 3600 / 2 + 30, 30.0, 0.95), (60, 300.0, 0.0), (5370, 30.0, 0.95)],
    },
    Scene {
        name: "masked",
        rule: "condition: faithfulness_1h < 0.92, action: rollback, confirm: persistence",
        series: &[
            (3600, 30.0, 0.96),
            (1200, 30.0, 0.82),
            (60, 3000.0, 1.0),
            (3600, 30.0, 0.82),
            (540, 30.0, 0.82),
        ],
    },
];

/// Events as a gateway would have sent them, in a folder with the rules.
fn recorded(rules: &str, series: &[Stretch]) -> tempfile::TempDir {
    let segment = |(seconds, rate, good): &Stretch| Segment {
        length: Duration::from_secs(*seconds),
        rate: Ramp::steady(*rate),
        levels: BTreeMap::from([("faithfulness".to_owned(), Level::Share(Ramp::steady(*good)))]),
    };
    let series = Series {
        variant: VARIANT.into(),
        labels: BTreeMap::new(),
        segments: series.iter().map(segment).collect(),
    };
    let length = series.segments.iter().map(|segment| segment.length).sum();
    let start = Timestamp::parse(START).unwrap();
    let mut events = Vec::new();
    Generator::new(start, &[series], Some(SEED)).each(length, |message| {
        events.extend_from_slice(message);
        events.push(b'\n');
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events.jsonl"), events).unwrap();
    let rules = format!("- variant: {VARIANT}\n  rules:\n{rules}");
    std::fs::write(folder.path().join("rules.yaml"), rules).unwrap();
    folder
}

fn replay(folder: &Path, more: &[&str]) -> Ended {
    let ended = rearguard(
        folder,
        &[],
        &[&["replay", "--events", "events.jsonl", "--rules", "rules.yaml"], more].concat(),
    );
    assert!(ended.code < 2, "{ended:?}");
    ended
}

/// The first picture of a page, as a file of its own.
fn cut(page: &str) -> String {
    let between = |from: &str, to: &str| {
        let start = page.find(from).unwrap() + from.len();
        &page[start..start + page[start..].find(to).unwrap()]
    };
    let (style, picture) = (between("<style>", "</style>"), between("<svg ", "</svg>"));
    let (head, inside) = picture.split_once('>').unwrap();
    let name = "xmlns=\"http://www.w3.org/2000/svg\"";
    format!(
        "<svg {name} width=\"960\" {head}><style>{style}svg{{background:var(--card)}}</style>{inside}</svg>\n"
    )
}

/// The words of a picture, its numbers left out, and the numbers: another machine's logarithms may differ in the last digit.
fn parts(picture: &str) -> (Vec<&str>, Vec<f64>) {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let numbers = picture.split(|c| !is_number(c)).filter_map(|part| part.parse().ok()).collect();
    (picture.split(is_number).filter(|part| !part.is_empty()).collect(), numbers)
}

#[test]
fn the_pictures_are_cut_from_replays_page() {
    for Scene { name, rule, series } in SCENES {
        let folder = recorded(&format!("    - {{ {rule} }}\n"), series);
        replay(folder.path(), &["--html", "page.html"]);
        let drawn = cut(&std::fs::read_to_string(folder.path().join("page.html")).unwrap());
        let file = format!("docs/img/{name}.svg");
        if std::env::var_os("REARGUARD_DRAW").is_some() {
            std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file), &drawn).unwrap();
        }
        let kept = read(&file);
        let ((words, numbers), (kept_words, kept_numbers)) = (parts(&drawn), parts(&kept));
        let near = numbers.iter().zip(&kept_numbers).all(|(a, b)| (a - b).abs() <= 0.2);
        let same = words == kept_words && numbers.len() == kept_numbers.len() && near;
        assert!(same, "{file} is not what the page shows: see the head of tests/it/how.rs");
    }
}

/// Minutes from the onset to each decision of one mode, as the page's table shows them.
fn decisions(lines: &[Value], mode: &str, onset: u64) -> String {
    let of_mode = |line: &&Value| {
        line["type"] == "decision" && line["set"].as_str().is_some_and(|set| set.contains(mode))
    };
    let told = lines.iter().filter(of_mode).map(|line| {
        let at = Timestamp::parse(line["at"].as_str().unwrap()).unwrap();
        let since = at.since(Timestamp::parse(START).unwrap() + Duration::from_secs(onset)).as_secs() / 60;
        format!("{} after {since}", line["action"].as_str().unwrap().trim_end_matches("_rollout"))
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() { "nothing in 3 h".to_owned() } else { told.join(", ") }
}

#[test]
fn the_table_of_modes_is_what_replays_say() {
    const MODES: [&str; 4] = ["persistence", "either", "significant", "evidence"];
    let onset = 2 * 3600;
    let page = read("docs/how-it-decides.md");
    let mut table = Vec::new();
    for level in [0.95, 0.90, 0.80, 0.70] {
        let folder = recorded("", &[(onset, 60.0, 0.95), (3 * 3600, 60.0, level)]);
        let file = |mode: &str| folder.path().join(format!("{mode}.yaml"));
        for mode in MODES {
            let rule = format!("{{ condition: faithfulness_1h < 0.92, action: rollback, confirm: {mode} }}");
            std::fs::write(file(mode), format!("- variant: {VARIANT}\n  rules: [{rule}]\n")).unwrap();
        }
        let sets = MODES.map(|mode| format!("--rules={mode}.yaml"));
        let mut arguments = vec!["replay", "--events", "events.jsonl", "--format", "json"];
        arguments.extend(sets.iter().map(String::as_str));
        let ended = rearguard(folder.path(), &[], &arguments);
        let lines: Vec<Value> = ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let cells = MODES.map(|mode| decisions(&lines, mode, onset));
        table.push(format!(
            "| .95 → {} | {} |",
            format!("{level:.2}").trim_start_matches('0'),
            cells.join(" | ")
        ));
    }
    let table = table.join("\n");
    assert!(page.contains(&table), "the table comes out as:\n{table}");
}

/// One row of the example by hand, counted from the recorded events: the closing of a minute from the start of the recording.
fn by_hand(scores: &BTreeMap<i64, Vec<f64>>, closed: i64) -> String {
    let first = *scores.keys().next().unwrap();
    let sum = |skip: i64, of: &dyn Fn(&[f64]) -> f64| -> f64 {
        let kept = (first..=first + closed).filter(|minute| *minute != skip && *minute != skip + 1);
        kept.filter_map(|minute| scores.get(&minute)).map(|scores| of(scores)).sum()
    };
    let (count, right) = (|scores: &[f64]| scores.len() as f64, |scores: &[f64]| scores.iter().sum());
    let pairs = || first - 1..=first + closed;
    let fewest = pairs().map(|pair| sum(pair, &count)).fold(f64::INFINITY, f64::min);
    let worst = pairs().map(|pair| sum(pair, &right) / sum(pair, &count)).fold(0.0, f64::max);
    let bad = sum(-1, &|scores| f64::from(u8::from(right(scores) < 0.7 * count(scores))));
    let worst = format!("{worst:.3}");
    format!(
        "| 09:{closed} | {} | {} | {fewest} samples | {} | {bad} of {} |",
        sum(-1, &count),
        sum(-1, &right),
        worst.trim_start_matches('0'),
        closed + 1
    )
}

#[test]
fn the_example_by_hand_adds_up() {
    let page = read("docs/how-it-decides.md");
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/llmdrift-prime-gpt4.jsonl.gz");
    let events = BufReader::new(GzDecoder::new(File::open(packed).unwrap()));
    let mut scores: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for line in events.lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if event["variant"] == "math-assistant.gpt-4-0613" {
            let minute = Timestamp::parse(event["ts"].as_str().unwrap()).unwrap().minute();
            scores.entry(minute.0).or_default().push(event["metrics"]["faithfulness"].as_f64().unwrap());
        }
    }
    for closed in [27, 28, 31, 34] {
        let row = by_hand(&scores, closed);
        assert!(page.contains(&row), "the page lacks {row}");
    }
}
