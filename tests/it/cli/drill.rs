//! `rearguard drill` against a daemon of its own: the real binaries on both sides, a stand-in that pages, a database in a file.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rearguard::store::{Store, TokenScope};
use serde_json::{Value, json};

use super::run::{ended, start};
use super::{Ended, rearguard};
use crate::standin::Desk;
use crate::standin::alertmanager::Alertmanager;
use crate::standin::server::{Fault, Standin};
use crate::store_suite::fixture::{Base, at};

const BUILTIN: &str = "drill.builtin";
const FILE: &str = "drill.file";
const REAL: &str = "shop.v2";
/// As docs/practice.md has it.
const RULE: &str = "- variant: drill.builtin.2
  flag: drill.builtin
  rules:
    - { condition: faithfulness_5m < 0.8, action: rollback, for: 1m, min_samples: 20 }
";
const SCOPES: [TokenScope; 4] = [TokenScope::Read, TokenScope::Operate, TokenScope::Rearm, TokenScope::Ack];

/// A daemon with two flags for drills and a real one.
struct Ground {
    folder: tempfile::TempDir,
    base: Base,
    daemon: Option<Child>,
    url: String,
    store: Store,
    token: String,
    pager: Standin<Alertmanager>,
}

impl Ground {
    async fn new() -> Self {
        Self::with("").await
    }

    async fn with(more: &str) -> Self {
        let (base, folder) =
            (Base::new("sqlite", "drill", String::new()).await, tempfile::tempdir().unwrap());
        let pager = Standin::start(Alertmanager::default()).await;
        let flags = folder.path().join("flags.json");
        let flag = json!({"state": "ENABLED", "variants": {"v1": 1, "v2": 2}, "defaultVariant": "v2"});
        std::fs::write(&flags, json!({"flags": {"drill": flag}}).to_string()).unwrap();
        let flag =
            |key: &str, more: &str| format!("  {key}: {{ control: {key}.1, treatment: {key}.2, {more} }}\n");
        let config = [
            format!("platforms: {{ prod: {{ flagd: {{ path: \"{}\" }} }} }}\nflags:\n", flags.display()),
            flag(BUILTIN, "share: 50%, drill: true"),
            flag(FILE, "platform: { name: prod, key: drill, control: v1, treatment: v2 }, drill: true"),
            flag(REAL, "share: 50%"),
            format!("receivers: {{ oncall: {{ alertmanager: {{ url: \"{}\" }} }} }}\n", pager.url),
            format!("outbound: {{ allow: [\"{}\"] }}\n", pager.url.trim_start_matches("http://")),
            "routes: { match: [{ failure_class: drill, page: [oncall] }] }\n".to_owned(),
            more.to_owned(),
        ];
        std::fs::create_dir(folder.path().join("rules")).unwrap();
        std::fs::write(folder.path().join("rules/drill.yaml"), RULE).unwrap();
        let (daemon, url) = tokio::task::block_in_place(|| start(&base, &folder, &config.concat()));
        let store = Store::open(&base.url).await.unwrap();
        let token = store.create_token("ann", &SCOPES, at(0)).await.unwrap();
        Self { folder, base, daemon: Some(daemon), url, store, token, pager }
    }

    fn ask(&self, arguments: &[&str]) -> Ended {
        let variables = [("REARGUARD_URL", &*self.url), ("REARGUARD_TOKEN", &*self.token)];
        tokio::task::block_in_place(|| rearguard(self.folder.path(), &variables, arguments))
    }

    /// Waits for something that comes by itself.
    async fn until(&self, what: &str, is: impl Fn() -> bool) {
        for _ in 0..600 {
            if is() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("not so: {what}\n{}", self.ask(&["status"]).out);
    }

    fn drill(&self, flag: &str, more: &[&str]) -> Ended {
        self.ask(&[&["drill", flag, "--from", "decision", "--reason", "first Monday"], more].concat())
    }

    /// Does something to a drill that runs, once it has said so; how it ended, and what it said.
    fn meanwhile(
        &self,
        (flag, more): (&str, &[&str]),
        once: &str,
        act: impl Fn(&Child),
    ) -> (Option<i32>, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rearguard"))
            .args(["drill", flag, "--from", "decision", "--reason", "first Monday"])
            .args(more)
            .envs([("REARGUARD_URL", &self.url), ("REARGUARD_TOKEN", &self.token)])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains(once) {
            assert!(out.read_line(&mut said).unwrap() > 0, "it ended before `{once}`: {said}");
        }
        act(&child);
        out.read_to_string(&mut said).unwrap();
        (child.wait().unwrap().code(), said)
    }

    fn clean_up(&self, flag: &str, incident: &str) {
        let why = ["--reason", "drill over"];
        assert_eq!(self.ask(&[&["flag", "rearm", flag], &why[..]].concat()).code, 0);
        assert_eq!(self.ask(&[&["incident", "resolve", incident], &why[..]].concat()).code, 0);
    }

    /// Every line that receivers were told, or are to be told, is marked; gives how many there are.
    async fn all_marked(&self) -> i64 {
        let told = "SELECT count(*) FROM outbox WHERE kind IN ('page', 'notify')";
        let unmarked = format!("{told} AND payload NOT LIKE '%\"summary\":\"[DRILL] %'");
        assert_eq!(self.base.count(&unmarked).await, 0);
        self.base.count(told).await
    }

    async fn stop(mut self) {
        let daemon = self.daemon.take().unwrap();
        let stop = format!("kill -TERM {}", daemon.id());
        assert!(Command::new("sh").args(["-c", &stop]).status().unwrap().success());
        assert_eq!(ended(daemon).await.status.code(), Some(0));
    }
}

/// A test that fails leaves no daemon behind.
impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().ok();
            daemon.wait().ok();
        }
    }
}

/// Every step was done. How fast a busy machine is says nothing; that the exit code follows from it does.
fn assert_done(drilled: &Ended) {
    let over = drilled.out.contains("OVER") || drilled.out.contains("\"over\"");
    assert!(!drilled.out.contains("FAILED") && !drilled.out.contains("\"failed\","), "{drilled:?}");
    assert_eq!(drilled.code, i32::from(over), "{drilled:?}");
}

fn names(document: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let steps = document["steps"].as_array().unwrap_or_else(|| panic!("{document}"));
    steps.iter().map(|step| (text(&step["name"]), text(&step["verdict"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_is_a_whole_rollback_marked_timed_and_cleaned_up() {
    let ground = Ground::new().await;
    let said = ground.drill(BUILTIN, &[]);
    assert_done(&said);
    said.says(&[
        "decided",
        "read back",
        "commit: ",
        "flip: ",
        "page: ",
        "by oncall",
        "of the 168 s",
        "cleaned up",
    ]);
    said.says(&["the flag now: drill.builtin.2 for 50 %, drill.builtin.1 for the rest"]);
    let paged = ground.pager.asked();
    let said_of = |body: &Value| body[0]["annotations"]["summary"].as_str().map(str::to_owned);
    let paged: Vec<String> =
        paged.iter().filter_map(|asked| asked.body.as_ref()).filter_map(said_of).collect();
    assert!(!paged.is_empty() && paged.iter().all(|line| line.starts_with("[DRILL] ")), "{paged:?}");
    ground
        .until("the page is resolved with its incident", || ground.pager.platform().open().is_empty())
        .await;
    assert!(ground.all_marked().await >= 2, "the page, and its end");
    let list = ground.ask(&["incident", "list", "--all"]);
    list.says(&["[DRILL] drill.builtin.2: rolled back by ann: first Monday", "resolved by ann"]);
    let log = ground.store.audit_log(50).await.unwrap();
    let row = log.iter().find(|row| row.kind == "drill").unwrap();
    let told = (&*row.actor, &*row.subject, &*row.detail);
    assert_eq!(told, ("ann", BUILTIN, "from the decision: first Monday"));

    // Again, and nothing of the first one is in its way.
    let again = ground.drill(BUILTIN, &["--format", "json"]);
    assert_done(&again);
    let document = again.json();
    assert_eq!(document["kept"], false);
    let wanted = ["decided", "incident opened", "flip written", "read back", "page accepted"];
    let found: Vec<String> = names(&document).into_iter().map(|(name, _)| name).collect();
    assert_eq!(found, wanted);
    ground.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_drill_leaves_is_said_with_the_commands_that_end_it() {
    let ground = Ground::new().await;
    let kept = ground.drill(BUILTIN, &["--keep", "--format", "json"]);
    assert_done(&kept);
    assert_eq!(kept.json()["kept"], true);
    let shown = ground.ask(&["flag", "show", BUILTIN]);
    shown.says(&["rolled back", "there for drills"]);
    assert_eq!(ground.pager.platform().open().len(), 1);
    let again = ground.drill(BUILTIN, &[]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.err.contains("re-arm it first"), "{again:?}");
    ground.clean_up(BUILTIN, kept.json()["incident"].as_str().unwrap());
    assert_done(&ground.drill(BUILTIN, &[]));

    // A human is waited for, who takes the incident on.
    let acknowledge = |_: &Child| {
        let list = ground.ask(&["incident", "list", "--format", "json"]).json();
        let id = list["incidents"][0]["id"].as_str().unwrap();
        assert_eq!(ground.ask(&["incident", "ack", id]).code, 0);
    };
    let waits = (BUILTIN, &["--wait-ack"][..]);
    let (code, said) = ground.meanwhile(waits, "page accepted", acknowledge);
    assert!(said.contains("acknowledged    by ann") && said.contains("cleaned up"), "{said}");
    assert_eq!(code, Some(i32::from(said.contains("OVER"))), "{said}");

    // People put back what a platform serves; until they have, nothing can be practised there.
    let elsewhere = ground.drill(FILE, &[]);
    assert_done(&elsewhere);
    elsewhere.says(&[
        "at `prod`",
        "to do: put the flag back at `prod` by hand: ",
        "\"defaultVariant\":\"v2\"",
    ]);
    let again = ground.drill(FILE, &["--format", "json"]);
    assert_eq!(again.code, 1, "{again:?}");
    let document = again.json();
    let read_back =
        document["steps"].as_array().unwrap().iter().find(|step| step["name"] == "read back").unwrap();
    assert!(read_back["detail"].as_str().unwrap().contains("no write was practised"), "{read_back}");
    ground.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_flags_are_refused_and_an_interrupted_drill_says_how_to_end_it() {
    let ground = Ground::new().await;
    for (flag, code, said) in [(REAL, 2, "no flag for drills"), ("no.such", 1, "no flag `no.such`")] {
        let refused = ground.drill(flag, &[]);
        assert_eq!(refused.code, code, "{refused:?}");
        assert!(refused.err.contains(said), "{refused:?}");
    }
    assert!(ground.store.incidents(&Default::default()).await.unwrap().is_empty());
    let rolled = ground.ask(&["flag", "rollback", BUILTIN, "--reason", "x", "--wait"]);
    assert_eq!(rolled.code, 0, "whatever is done to a flag for drills is one: {rolled:?}");
    let list = ground.ask(&["incident", "list", "--format", "json"]).json();
    assert_eq!(list["incidents"][0]["failure_class"], "drill");
    let false_alarm = ["flag", "rearm", BUILTIN, "--reason", "x", "--false-alarm"];
    let refused = ground.ask(&false_alarm);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("are no false alarms"), "{refused:?}");
    ground.clean_up(BUILTIN, list["incidents"][0]["id"].as_str().unwrap());

    // A platform that cannot be rolled back: that is what a drill is for.
    std::fs::write(ground.folder.path().join("flags.json"), r#"{"flags": {}}"#).unwrap();
    let failed = ground.drill(FILE, &[]);
    assert_eq!(failed.code, 1, "{failed:?}");
    failed.says(&[
        "ROLLBACK FAILED: ",
        "FAILED\n",
        "page accepted",
        "FAILED: this rollback would",
        "cleaned up",
    ]);
    let told = ground.pager.asked().into_iter().filter_map(|asked| asked.body);
    let mut told = told.filter_map(|body| body[0]["annotations"]["summary"].as_str().map(str::to_owned));
    let page = told.rfind(|line| line.contains("ROLLBACK FAILED"));
    assert!(page.is_some_and(|line| line.starts_with("[DRILL] drill.file.2 ROLLBACK FAILED, ACT BY HAND")));

    // The pager takes nothing, and somebody does not want to wait: what goes on is said, and how to end it.
    ground.pager.misbehave(&[Fault::Status(503); 400]);
    let interrupt = |drill: &Child| {
        let line = format!("kill -INT {}", drill.id());
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
    };
    let (code, said) =
        tokio::task::block_in_place(|| ground.meanwhile((BUILTIN, &[]), "read back", interrupt));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("goes on in the daemon"), "{said}");
    assert!(
        said.contains("rearguard flag rearm drill.builtin") && said.contains("incident resolve inc-"),
        "{said}"
    );
    ground.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_events_a_rule_decides_and_everything_after_it_follows() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("events", 2, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let kafka = format!("kafka: {{ brokers: \"{brokers}\", topics: [events] }}\nclock: {{ rate: 20 }}\n");
    let ground = Ground::with(&kafka).await;
    let armed = || ground.ask(&["status", "--format", "json"]).json()["report"]["armed"] == true;
    ground.until("armed, since it has read its topic to the end", armed).await;
    let drilled = ground.ask(&["drill", BUILTIN, "--reason", "first Monday", "--format", "json"]);
    let document = drilled.json();
    let steps = names(&document);
    // Being in breach may pass between two looks.
    let seen: Vec<&str> = steps.iter().map(|(name, _)| &**name).filter(|name| *name != "in breach").collect();
    let wanted = ["events seen", "decided", "incident opened", "flip written", "read back", "page accepted"];
    assert_eq!(seen, wanted, "{drilled:?}");
    assert_done(&drilled);
    let terms: Vec<&str> = document["budget"]["terms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|term| term["term"].as_str().unwrap())
        .collect();
    assert_eq!(terms, ["pane", "lateness", "tick", "for", "commit", "flip", "page"]);
    let list = ground.ask(&["incident", "list", "--all", "--format", "json"]).json();
    let incident = &list["incidents"][0];
    assert_eq!(
        (incident["failure_class"].as_str(), incident["status"].as_str()),
        (Some("drill"), Some("resolved"))
    );
    assert!(incident["title"].as_str().unwrap().starts_with("[DRILL] drill.builtin.2: "), "{incident}");
    let shown = ground.ask(&["flag", "show", BUILTIN, "--format", "json"]).json();
    assert_eq!(shown["pins"], json!([]), "it is served as before");

    // What would withhold the rollback is told before anything is written.
    assert_eq!(ground.ask(&["automation", "off", "--reason", "x"]).code, 0);
    let refused = ground.ask(&["drill", BUILTIN, "--reason", "x"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("automation is switched off"), "{refused:?}");
    let ruleless = ground.ask(&["drill", FILE, "--reason", "x"]);
    assert_eq!(ruleless.code, 2, "{ruleless:?}");
    assert!(ruleless.err.contains("has no rule on flag `drill.file`"), "{ruleless:?}");
    ground.stop().await;
}
