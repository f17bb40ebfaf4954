//! The real binary: exit codes, what it says of mistakes, tokens beside a running daemon, and every client command against
//! the API in this process. Ports are given by the system.

pub mod daemon;
mod drill;
mod receivers;
mod run;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use daemon::Daemon;
use rearguard::engine::input::CommandKind;
use rearguard::store::{Store, TokenScope};
use serde_json::Value;

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// Whether all of this stands in the output.
    pub fn says(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.out.contains(part), "lacks `{part}`:\n{}", self.out);
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs the binary with nothing of this environment that it looks at.
pub fn rearguard(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rearguard"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    for name in ["URL", "TOKEN", "TOKEN_FILE", "DATABASE"] {
        command.env_remove(format!("REARGUARD_{name}"));
    }
    let ended = command.envs(variables.iter().copied()).output().unwrap();
    Ended {
        code: ended.status.code().expect("ended by itself"),
        out: String::from_utf8(ended.stdout).unwrap(),
        err: String::from_utf8(ended.stderr).unwrap(),
    }
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn wrong_use_ends_with_two_and_says_what_would_be_right() {
    for (arguments, said) in [
        (&[][..], "Usage: rearguard <COMMAND>"),
        (&["stauts"], "'status'"),
        (&["flag", "rearm", "ai.x"], "--reason <TEXT>"),
        (&["flag", "kill", "ai.x"], "--reason <TEXT>"),
        (&["automation", "off"], "--reason <TEXT>"),
        (&["flag", "rearm", "ai.x", "--reason", "y", "--scope", "planet:x"], "`planet:x` is no scope"),
        (&["incident", "list", "--limit", "0"], "1..=1000"),
        (&["token", "create", "a b", "--scope", "read"], "a name has 1 to 64 letters"),
        (&["token", "create", "config", "--scope", "read"], "not `rearguard`, `config` or `cli`"),
        (&["token", "create", "a", "--scope", "fly"], "possible values: evaluate, metrics, read"),
        (&["token", "list", "--config", "/none.yaml"], "--database"),
        (&["token", "list", "--database", "mysql://x"], "is no database address"),
        (&["status"], "REARGUARD_TOKEN"),
        (&["status", "--token", ""], "the token is empty"),
        (&["status", "--token-file", "/does/not/exist"], "/does/not/exist cannot be read"),
        (&["status", "--token", "rg_x", "--url", "ftp://x"], "no http or https address"),
        (&["status", "--token", "rg_x", "--url", "http://u:p@x"], "must not hold credentials"),
        (&["run", "--config", "/none.yaml"], "/none.yaml: cannot be read"),
    ] {
        let ended = rearguard(here(), &[], arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(said), "{arguments:?} lacks `{said}`: {}", ended.err);
        assert_eq!(ended.out, "", "{arguments:?}");
    }
}

#[test]
fn check_tells_place_and_caret_and_ends_with_its_code() {
    let example = ["-c", "rearguard.example.yaml", "--runs", "0"];
    let good = rearguard(here(), &[], &[&["check", "rules/support-copilot.yaml"][..], &example].concat());
    assert_eq!((good.code, good.err.as_str()), (0, ""), "{good:?}");
    assert!(good.out.contains("5 rules: every rollback keeps the ten minutes"), "{}", good.out);

    let folder = tempfile::tempdir().unwrap();
    let rule = |more: &str| {
        let text = format!(
            "- variant: shop.v2\n  rules:\n    - condition: cost_1h > 1\n      action: rollback\n{more}"
        );
        std::fs::write(folder.path().join("r.yaml"), text).unwrap();
        rearguard(folder.path(), &[], &["check", "r.yaml"])
    };
    let broken = rule("      fro: 3m\n");
    assert_eq!(broken.code, 2);
    for said in [
        "unknown key `fro` in a rule",
        "r.yaml:5:7",
        "       fro: 3m\n   ·       ───",
        "did you mean `for`?",
        "1 mistake found",
    ] {
        assert!(broken.err.contains(said), "lacks `{said}`:\n{}", broken.err);
    }
    let slow = rule("      for: 20m\n");
    assert_eq!(slow.code, 1, "{slow:?}");
    assert!(slow.err.contains("more than the 600 s that are promised"), "{}", slow.err);
    let json = rearguard(folder.path(), &[], &["check", "r.yaml", "--format", "json"]);
    assert_eq!((json.code, json.json()["ok"].as_bool()), (1, Some(false)));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rearguard"))
        .args(["check", "rules", "-c", "rearguard.example.yaml", "--runs", "0"])
        .current_dir(here())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_made_beside_a_running_daemon_and_printed_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = "kafka: { brokers: \"localhost:9092\", topics: [events] }\n";
    std::fs::write(folder.path().join("rearguard.yaml"), config).unwrap();
    let list = || rearguard(folder.path(), &[], &["token", "list"]);
    let missing = list();
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("there is no database at"), "{}", missing.err);

    let create =
        |name: &str| rearguard(folder.path(), &[], &["token", "create", name, "--scope", "read,ack"]);
    let first = create("ann");
    assert_eq!(first.code, 0, "{first:?}");
    assert!(first.out.starts_with("rg_") && first.out.trim_end().len() == 67, "{first:?}");
    assert!(first.err.contains("token `ann` may: read, ack") && !first.err.contains(first.out.trim_end()));

    let url = format!("sqlite:{}", folder.path().join("data/rearguard.db").display());
    let running = Store::open_exclusive(&url, "a daemon").await.unwrap();
    std::thread::scope(|scope| {
        let both = ["ben", "eve"].map(|name| scope.spawn(move || create(name)));
        both.into_iter().for_each(|one| assert_eq!(one.join().unwrap().code, 0));
    });
    let known = running.verify_token(first.out.trim_end()).await.unwrap().unwrap();
    assert_eq!((known.name.as_str(), known.allows(TokenScope::Ack)), ("ann", true));

    let twice = create("ann");
    assert_eq!(twice.code, 1);
    assert!(twice.err.contains("rearguard token revoke ann"), "{}", twice.err);
    assert_eq!(rearguard(folder.path(), &[], &["token", "revoke", "ann"]).code, 0);
    assert!(running.verify_token(first.out.trim_end()).await.unwrap().is_none());
    let gone = rearguard(folder.path(), &[], &["token", "revoke", "ann"]);
    assert_eq!(gone.code, 1);
    let shown = list();
    for line in ["NAME  STATE", "ann   revoked 20", "ben   valid", "read, ack"] {
        assert!(shown.out.contains(line), "lacks `{line}`:\n{}", shown.out);
    }
    let json =
        rearguard(folder.path(), &[("REARGUARD_DATABASE", &url)], &["token", "list", "--format", "json"]);
    assert_eq!(json.json()["tokens"].as_array().unwrap().len(), 3);
    assert!(!json.out.contains("hash"));
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_how_things_stand() {
    let daemon = Daemon::start().await;
    let calm = daemon.ask("read", &["status"]);
    assert_eq!(calm.code, 0, "{calm:?}");
    for line in ["ARMED, nothing needs you\n", "automation  on", "faithfulness_1h < 0.92 → rollback"] {
        assert!(calm.out.contains(line), "lacks `{line}`:\n{}", calm.out);
    }
    assert!(!calm.out.contains('\x1b'), "no terminal, no colour");
    daemon.break_it().await;
    let broken = daemon.ask("read", &["status"]);
    assert_eq!(broken.code, 1);
    for line in [
        "ARMED; 1 incident is unresolved\n",
        "INCIDENTS\n  inc-1  open",
        "TAKEN BACK\n  ai.support.v18",
        "PAUSED BY HAND\n  ai.other.v2  its share is being held, not confirmed yet",
    ] {
        assert!(broken.out.contains(line), "lacks `{line}`:\n{}", broken.out);
    }
    let json = daemon.ask("read", &["status", "--format", "json"]);
    let document = json.json();
    assert_eq!(json.code, 1);
    assert_eq!(document["attention"][0], "1 incident is unresolved");
    assert_eq!(document["incidents"][0]["id"], "inc-1");
    assert_eq!(document["report"]["latches"][0]["flag"], "ai.support.v18");
    daemon.disarm("event time is 300 s behind");
    let blind = daemon.ask("read", &["status"]);
    assert_eq!(blind.code, 1);
    assert!(blind.out.starts_with("NOT ARMED, nothing is rolled back: event time is 300 s behind"));
}

#[tokio::test(flavor = "multi_thread")]
async fn incidents_are_listed_shown_taken_on_and_closed() {
    let daemon = Daemon::start().await;
    let none = daemon.ask("read", &["incident", "list"]);
    assert_eq!((none.code, none.out.starts_with("no unresolved incident")), (0, true), "{none:?}");
    daemon.break_it().await;
    let list = daemon.ask("read", &["incident", "list"]);
    assert_eq!(list.code, 0);
    assert!(
        list.out.contains(
            "inc-1     open    2023-11-14 22:13:21  no rollback confirmed\n  support.v18 rolled back\n"
        ),
        "{}",
        list.out
    );
    let json = daemon.ask("read", &["incident", "list", "--flag", "no.such", "--format", "json"]);
    assert_eq!(json.json()["incidents"].as_array().unwrap().len(), 0);

    let shown = daemon.ask("read", &["incident", "show", "inc-1"]);
    assert_eq!(shown.code, 0);
    assert!(shown.out.contains("## What to do now"), "{}", shown.out);
    let json = daemon.ask("read", &["incident", "show", "inc-1", "--format", "json"]);
    assert_eq!(json.json()["incident"]["flag"], "ai.support.v18");
    let missing = daemon.ask("read", &["incident", "show", "inc-9"]);
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("no incident `inc-9`"), "{}", missing.err);
    assert!(missing.err.contains("rearguard incident list --all"), "{}", missing.err);

    let acked = daemon.ask("ack", &["incident", "ack", "inc-1", "--reason", "on it"]);
    assert_eq!((acked.code, acked.out.as_str()), (0, "incident inc-1 acknowledged by ack\n"));
    let list = daemon.ask("read", &["incident", "list", "--status", "acknowledged"]);
    assert!(list.out.contains("inc-1     acknowledged"), "{}", list.out);
    let resolved = daemon.ask("ack", &["incident", "resolve", "inc-1", "--reason", "fixed"]);
    assert_eq!((resolved.code, resolved.out.as_str()), (0, "done\n"));
    let commands = daemon.commands();
    assert_eq!(commands.len(), 1);
    assert_eq!((commands[0].actor.as_str(), commands[0].reason.as_str()), ("ack", "fixed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_are_shown_killed_and_rearmed() {
    let daemon = Daemon::start().await;
    let key = "ai.support.v18";
    let list = daemon.ask("read", &["flag", "list"]);
    assert!(
        list.out.contains("live   ai.support.v18\n       support.v18 for 50 %, support.v17 for the rest")
    );
    let killed = daemon.ask("operate", &["flag", "kill", key, "--reason", "leaks data"]);
    assert_eq!((killed.code, killed.out.as_str()), (0, "flag ai.support.v18 is off for everybody\n"));
    let again = daemon.ask("operate", &["flag", "kill", key, "--reason", "leaks data"]);
    assert_eq!(again.out, "flag ai.support.v18 is off for everybody (it was so already)\n");
    let shown = daemon.ask("read", &["flag", "show", key]);
    assert!(shown.out.starts_with("ai.support.v18  killed\n"), "{}", shown.out);
    assert!(shown.out.contains("operate  kill     leaks data"), "{}", shown.out);
    let json = daemon.ask("read", &["flag", "list", "--format", "json"]);
    assert_eq!(json.json()["flags"][0]["killed"], true);
    let status = daemon.ask("read", &["status"]);
    assert!(status.out.contains("turned off for everybody by `flag kill`"), "{}", status.out);
    let back = daemon.ask("rearm", &["flag", "unkill", key, "--reason", "mended", "--format", "json"]);
    assert_eq!(back.json()["changed"], true);

    let rearmed = daemon.ask("rearm", &["flag", "rearm", key, "--reason", "v19", "--scope", "tenant:acme"]);
    assert_eq!((rearmed.code, rearmed.out.as_str()), (0, "done\n"), "{rearmed:?}");
    let command = daemon.commands().remove(0);
    let CommandKind::Rearm { scope, .. } = command.kind else { panic!("{command:?}") };
    assert_eq!((scope.unwrap().to_string(), command.reason), ("tenant:acme".into(), "v19".into()));
    let rolled =
        daemon.ask("operate", &["flag", "rollback", key, "--reason", "leaks", "--scope", "tenant:acme"]);
    assert_eq!((rolled.code, rolled.out.as_str()), (0, "done\n"), "{rolled:?}");
    for what in ["pause", "resume"] {
        assert_eq!(daemon.ask("operate", &["flag", what, key, "--reason", "x"]).code, 0, "{what}");
    }
    let refused = daemon.ask("read", &["flag", "rollback", key, "--reason", "x"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    let wrong = daemon.ask("rearm", &["flag", "rearm", key, "--reason", "noise", "--false-alarm"]);
    assert_eq!(wrong.code, 0, "{wrong:?}");
    let kinds: Vec<CommandKind> = daemon.commands().into_iter().map(|command| command.kind).collect();
    assert!(matches!(
        &kinds[kinds.len() - 4..],
        [
            CommandKind::RollBack { .. },
            CommandKind::Pause { .. },
            CommandKind::Resume { .. },
            CommandKind::Rearm { false_alarm: true, .. }
        ]
    ));
    let near = daemon.ask("read", &["flag", "show", "ai.suport.v18"]);
    assert!(near.err.contains("did you mean `ai.support.v18`?"), "{}", near.err);
    let unknown = daemon.ask("rearm", &["flag", "rearm", "no.such", "--reason", "x"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("no flag `no.such` is known"), "{}", unknown.err);
    assert!(unknown.err.contains("rearguard flag list"), "{}", unknown.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn automation_is_switched_and_refusals_name_the_scope() {
    let daemon = Daemon::start().await;
    for (word, on) in [("off", false), ("on", true)] {
        let ended = daemon.ask("operate", &["automation", word, "--reason", "false alarms"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(daemon.commands().remove(0).kind, CommandKind::Automation { on });
    }
    let refused = daemon.ask("read", &["automation", "off", "--reason", "x"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("scope `operate` is missing"), "{}", refused.err);
    assert!(refused.err.contains("token create NAME --scope operate"), "{}", refused.err);

    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "rg_unknown").unwrap();
    let path = file.path().to_str().unwrap();
    let stranger = rearguard(here(), &[], &["status", "--url", &daemon.url, "--token-file", path]);
    assert_eq!(stranger.code, 1);
    assert!(stranger.err.contains("unknown or revoked"), "{}", stranger.err);
    assert!(!stranger.err.contains("rg_unknown"));
    let json = daemon.ask("read", &["flag", "show", "no.such", "--format", "json"]);
    assert_eq!((json.code, json.json()["error"]["status"].as_u64()), (1, Some(404)));

    let url = daemon.stop().await;
    let gone = rearguard(here(), &[("REARGUARD_TOKEN", "rg_x")], &["status", "--url", &url]);
    assert_eq!(gone.code, 1);
    assert!(gone.err.contains("is the daemon running"), "{}", gone.err);
    assert!(gone.err.contains(&url) && gone.err.contains("refused"), "{}", gone.err);
}
