//! `rearguard demo` as a newcomer runs it: the whole house, end to end, without a server. Takes about 45 s.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Twice what is promised, for a machine that does other things beside.
const BOUND: Duration = Duration::from_secs(120);

/// What must be told, in this order.
const STORY: [&str; 17] = [
    "armed: consumer group joined, 3 partitions",
    "1 Healthy traffic",
    "accuracy_1h < 0.75? It is 0.8",
    "2 One terrible minute",
    "a single bad minute never fires",
    "no decision, no page",
    "3 A real regression",
    "PAUSE: accuracy_1h",
    "paused, read back",
    "ROLLBACK: accuracy_1h",
    "t0: the breach that lasted begins",
    "flag flipped, read back where gateways ask",
    "page accepted by the on-call receiver",
    "second proof: not one answer",
    "math-assistant.gpt-4-0314, reason \"STATIC\"",
    "# math-assistant.gpt-4-latest rolled back: accuracy_1h < 0.75",
    "5 Done",
];

#[test]
fn the_demo_tells_its_story_and_every_event_counts() {
    let began = Instant::now();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_rearguard"))
        .args(["demo", "--plain", "--seed", "7"])
        // Nothing but loopback is needed, and a proxy must not be asked for that.
        .env("http_proxy", "http://192.0.2.1:9")
        .env("https_proxy", "http://192.0.2.1:9")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = loop {
        match demo.try_wait().unwrap() {
            Some(status) => break status,
            None if began.elapsed() < BOUND => std::thread::sleep(Duration::from_millis(50)),
            None => {
                demo.kill().unwrap();
                break demo.wait().unwrap();
            }
        }
    };
    let said = demo.wait_with_output().unwrap();
    let (told, complaints) =
        (String::from_utf8(said.stdout).unwrap(), String::from_utf8(said.stderr).unwrap());
    let all = format!("{told}\n{complaints}");
    assert_eq!(status.code(), Some(0), "{all}");
    assert_eq!(complaints, "", "{all}");
    assert!(!told.contains('\u{1b}'), "{all}");
    // Lines are broken at blanks.
    let words = told.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut rest = words.as_str();
    for line in STORY {
        let Some(at) = rest.find(line) else { panic!("`{line}` is missing after the lines before:\n{all}") };
        rest = &rest[at + line.len()..];
    }
    // "12,328 events produced = 12,328 consumed = 12,328 in windows": one number, three times.
    let numbers: Vec<&str> = rest.split_whitespace().filter(|word| word.contains(',')).take(3).collect();
    assert!(rest.trim_start().starts_with(&format!("{} events produced =", numbers[0])), "{rest}");
    assert!(numbers.len() == 3 && numbers.iter().all(|number| *number == numbers[0]), "{rest}");
    let folder = std::env::temp_dir().join(format!("rearguard-demo-{}", said_pid(&told)));
    assert!(!folder.exists(), "{} stayed behind", folder.display());
}

/// Whatever ends it, nothing stays behind: at its very start, and while everything runs.
#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    for (signal, moment) in
        [("INT", "gpt-4-0314"), ("TERM", "armed: consumer group joined"), ("HUP", "armed:")]
    {
        let temporary = tempfile::tempdir().unwrap();
        let mut demo = Command::new(env!("CARGO_BIN_EXE_rearguard"))
            .args(["demo", "--plain"])
            .env("TMPDIR", temporary.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Kept to the end: a demo that cannot write any more ends otherwise.
        let mut said = BufReader::new(demo.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains(moment) {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "it ended before it said `{moment}`");
        }
        let kill = format!("kill -{signal} {}", demo.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        let ended = demo.wait_with_output().unwrap();
        let complaints = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(
            (ended.status.code(), complaints.as_str()),
            (Some(1), "interrupted\n"),
            "{signal}: {rest}"
        );
        let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().collect();
        assert!(left.is_empty(), "SIG{signal} leaves {left:?}");
    }
}

/// The process number, from the path of the rule file that the incident names.
fn said_pid(told: &str) -> &str {
    let (_, rest) = told.split_once("rearguard-demo-").unwrap();
    rest.split('/').next().unwrap()
}
