//! Long windows through `rearguard replay` and `rearguard test`, beside an oracle that knows nothing of roll-ups: it keeps every
//! minute of a stream, and adds up again at every closing.

use rearguard::model::time::{Minute, Timestamp};
use serde_json::Value;

use crate::cli::rearguard;

const CONFIG: &str = "kafka: { brokers: \"localhost:9092\", topics: [events] }
slos: { answers: { good: not error, objective: 99%, period: 2d } }
";
const RULES: &str = "- variant: shop.v2
  rules:
    - { id: day, condition: faithfulness_24h < 0.93, action: pause_rollout }
    - { id: burning, condition: slo.answers.burn_12h > 2, action: notify }
";
/// 2026-10-01T00:20Z, in the middle of an hour.
const START: i64 = 29_846_900;
const MINUTES: i64 = 2_160;
const PER_MINUTE: i64 = 4;

/// Faithfulness falls after 25 hours; errors come after 20, a burst of them in between.
fn faithfulness(minute: i64, i: i64) -> f64 {
    let wiggle = ((minute * 7 + i * 3) % 11) as f64 / 1_000.0;
    if minute < 1_500 { 0.945 + wiggle } else { 0.82 + wiggle }
}

fn error(minute: i64, i: i64) -> bool {
    (600..603).contains(&minute) || (minute >= 1_200 && (minute * PER_MINUTE + i) % 25 == 0)
}

fn events() -> String {
    let all = (0..MINUTES).flat_map(|minute| (0..PER_MINUTE).map(move |i| (minute, i)));
    let line = |(minute, i): (i64, i64)| {
        let ts = Timestamp::from_millis(Minute(START + minute).start().as_millis() + i * 15_000);
        format!(
            "{{\"id\":\"{minute}-{i}\",\"ts\":\"{ts}\",\"variant\":\"shop.v2\",\"metrics\":{{\"faithfulness\":{},\"error\":{}}}}}\n",
            faithfulness(minute, i),
            error(minute, i)
        )
    };
    all.map(line).collect()
}

/// A mean over a long window: (samples, sum) of each minute, the side that is bad (1: above) and the limit.
struct Oracle {
    minutes: Vec<(f64, f64)>,
    hours: i64,
    sign: f64,
    limit: f64,
}

impl Oracle {
    fn new(value: impl Fn(i64, i64) -> f64, hours: i64, sign: f64, limit: f64) -> Self {
        let minute = |m| (PER_MINUTE as f64, (0..PER_MINUTE).map(|i| value(m, i)).sum());
        Self { minutes: (0..MINUTES).map(minute).collect(), hours, sign, limit }
    }

    /// The window at the closing of a minute, cut into cells: whole hours where six hours have gone by, else minutes.
    fn cells(&self, closed: i64) -> Vec<(f64, f64)> {
        let hour = |minute: i64| (START + minute).div_euclid(60);
        let first = (hour(closed) + 1 - self.hours) * 60 - START;
        let seam = hour(closed - 360) * 60 - START;
        let mut cells = Vec::new();
        let mut at = first;
        while at <= closed {
            let end = if at < seam { at + 60 } else { at + 1 };
            let inside = (at.max(0)..end.min(closed + 1)).map(|m| self.minutes[m as usize]);
            cells.push(inside.fold((0.0, 0.0), |sum, m| (sum.0 + m.0, sum.1 + m.1)));
            at = end;
        }
        cells
    }

    /// Samples and mean.
    fn value(&self, closed: i64) -> (f64, f64) {
        let (n, sum) = self.cells(closed).iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        (n, sum / n)
    }

    fn is_bad(&self, n: f64, sum: f64) -> bool {
        self.sign * (sum - self.limit * n) > 1e-9
    }

    /// Whether persistence confirms at a closing: without every pair of neighbouring cells, in three bad cells.
    fn persists(&self, closed: i64) -> bool {
        let cells = self.cells(closed);
        let (n, sum) = cells.iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        let cell = |at: usize| cells.get(at).copied().unwrap_or_default();
        let without = |at: usize| (n - cell(at).0 - cell(at + 1).0, sum - cell(at).1 - cell(at + 1).1);
        let holds = |(n, sum): (f64, f64)| n >= 100.0 && self.is_bad(n, sum);
        let singly = (0..cells.len()).all(|at| holds(without(at))) && holds((n - cell(0).0, sum - cell(0).1));
        singly && cells.iter().filter(|cell| self.is_bad(cell.0, cell.1)).count() >= 3
    }

    /// The first closing at which the condition is true, and the one from which on it persists.
    fn crossing_and_t0(&self) -> (i64, i64) {
        let true_at = |closed: &i64| {
            let (n, mean) = self.value(*closed);
            self.is_bad(n, mean * n)
        };
        // A crossing that a clearing follows is not the one of the decision.
        let t0 = (0..MINUTES).find(|closed| self.persists(*closed)).unwrap();
        let crossing = (0..=t0).rev().take_while(true_at).last().unwrap();
        (crossing, t0)
    }
}

/// Replays the stream: the first decision of each rule.
fn replayed() -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rearguard.yaml"), CONFIG).unwrap();
    std::fs::write(folder.path().join("r.yaml"), RULES).unwrap();
    std::fs::write(folder.path().join("events.jsonl"), events()).unwrap();
    let arguments = ["replay", "--events", "events.jsonl", "--rules", "r.yaml", "--config", "rearguard.yaml"];
    let ended = rearguard(folder.path(), &[], &[&arguments[..], &["--strict", "--format", "json"]].concat());
    assert_eq!(ended.code, 1, "{}{}", ended.out, ended.err);
    let lines: Vec<Value> = ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = lines.last().unwrap();
    assert_eq!(summary["events"]["windowed"], MINUTES * PER_MINUTE);
    lines.into_iter().filter(|line| line["type"] == "decision").collect()
}

#[test]
fn replay_decides_over_long_windows_as_adding_up_does() {
    let decisions = replayed();
    let minute = |line: &Value, key: &str| {
        let time = Timestamp::parse(line[key].as_str().unwrap()).unwrap();
        (time.as_millis() / 60_000) - START
    };
    let day = Oracle::new(faithfulness, 24, -1.0, 0.93);
    let burn = Oracle::new(|m, i| f64::from(error(m, i)), 12, 1.0, 0.02);
    for (rule, oracle, unit) in [("day", day, 1.0), ("burning", burn, 0.01)] {
        let mine: Vec<&Value> = decisions.iter().filter(|line| line["rule"] == rule).collect();
        assert_eq!(mine.len(), 1, "{mine:?}");
        let (crossing, t0) = oracle.crossing_and_t0();
        assert_eq!((minute(mine[0], "crossing"), minute(mine[0], "t0")), (crossing, t0), "{}", mine[0]);
        // It has persisted for three minutes when the minute closes that ends then.
        let closed = minute(mine[0], "at") - 1;
        assert_eq!(closed, t0 + 3, "{}", mine[0]);
        let (n, mean) = oracle.value(closed);
        assert_eq!(mine[0]["samples"].as_f64(), Some(n));
        let value = mine[0]["value"].as_f64().unwrap();
        assert!((value - mean / unit).abs() < 1e-6, "{value}, not {}", mean / unit);
    }
}

/// The same stream as a test file: what a rule on a day says hours after what it is about.
#[test]
fn a_test_file_sees_over_a_day() {
    let tests = "rules: r.yaml
config: rearguard.yaml
tests:
  - name: a day of good answers hides bad hours, for a while
    input: { shop.v2: '4 events per minute, faithfulness 0.95 for 25h, then 0.82 for 8h' }
    expect:
      - { rule: day, never: anything, by: 26h }
      - { rule: day, action: pause_rollout, within: 7h of 25h }
      - { at: 26h, rule: day, verdict: pass }
";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rearguard.yaml"), CONFIG).unwrap();
    std::fs::write(folder.path().join("r.yaml"), RULES).unwrap();
    std::fs::write(folder.path().join("t.yaml"), tests).unwrap();
    let ended = rearguard(folder.path(), &[], &["test", "t.yaml"]);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
}
