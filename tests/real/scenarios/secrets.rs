//! Every platform and every receiver at once, each of which repeats at first what it was sent: no secret comes out of the daemon.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::stage::Stage;
use crate::standin::incidentio::{IncidentIo, SOURCE};
use crate::standin::jsm::Jsm;
use crate::standin::pagerduty::PagerDuty;
use crate::standin::samples::{darkly_sample, gate, sample, setting};
use crate::standin::server::{Fault, Standin};
use crate::standin::slack::Slack;
use crate::standin::{Asked, Desk, Flags, Platform, SECRET};
use crate::timeline::eventually;

const RATE: f64 = 20.0;
const BOUND: Duration = Duration::from_secs(60);
/// What every secret has in it; not the word by which the stand-ins' answers could be found.
const PLANTED: &str = "planted";
const KEY: &str = "planted5ecret0planted5ecret0pl01";
const OTHER: &str = "planted5ecret0of0incidents";
const HOOK: &str = "/services/T0/B0/planted5ecret0";
const RULES: &str = "
- variant: f0.new
  rules:
    - { id: floor, condition: faithfulness_5m < 0.7, action: rollback, min_samples: 20 }
";

/// What other companies run.
struct World {
    unleash: Standin<crate::standin::unleash::Unleash>,
    darkly: Standin<crate::standin::launchdarkly::LaunchDarkly>,
    configcat: Standin<crate::standin::configcat::ConfigCat>,
    statsig: Standin<crate::standin::statsig::Statsig>,
    pagerduty: Standin<PagerDuty>,
    jsm: Standin<Jsm>,
    incidentio: Standin<IncidentIo>,
    slack: Standin<Slack>,
}

/// A stand-in that refuses twice, repeating what it was sent.
async fn start<P: Platform>(model: P) -> Standin<P> {
    let standin = Standin::start(model).await;
    standin.misbehave(&[Fault::Echo(503), Fault::Echo(500)]);
    standin
}

impl World {
    async fn start() -> Self {
        Self {
            unleash: start(sample()).await,
            darkly: start(darkly_sample()).await,
            configcat: start(setting()).await,
            statsig: start(gate()).await,
            pagerduty: start(PagerDuty::new(KEY)).await,
            jsm: start(Jsm::new(KEY, "/jsm")).await,
            incidentio: start(IncidentIo::new(KEY, OTHER)).await,
            slack: start(Slack::new(HOOK)).await,
        }
    }

    fn urls(&self) -> [&str; 8] {
        let flags = [&self.unleash.url, &self.darkly.url, &self.configcat.url, &self.statsig.url];
        let desks = [&self.pagerduty.url, &self.jsm.url, &self.incidentio.url, &self.slack.url];
        [flags, desks].concat().try_into().map(|urls: [&String; 8]| urls.map(String::as_str)).expect("eight")
    }

    /// What each of them was asked, by name.
    fn asked(&self) -> [(&'static str, Vec<Asked>); 8] {
        [
            ("unleash", self.unleash.asked()),
            ("launchdarkly", self.darkly.asked()),
            ("configcat", self.configcat.asked()),
            ("statsig", self.statsig.asked()),
            ("pagerduty", self.pagerduty.asked()),
            ("jsm", self.jsm.asked()),
            ("incident.io", self.incidentio.asked()),
            ("slack", self.slack.asked()),
        ]
    }

    fn receivers(&self, secrets: &Path) -> String {
        let file = |name: &str| format!("{{ file: '{}' }}", secrets.join(name).display());
        let mut yaml = String::new();
        let _ = writeln!(
            yaml,
            "  pd:\n    pagerduty: {{ url: '{}', routing_key: {} }}",
            self.pagerduty.url,
            file("key")
        );
        let _ =
            writeln!(yaml, "  jsm:\n    jsm: {{ url: '{}/jsm', api_key: {} }}", self.jsm.url, file("key"));
        let _ = writeln!(
            yaml,
            "  io:\n    incidentio: {{ url: '{}', alert_source: {SOURCE}, token: {}, incident: {{ api_key: {}, visibility: private }} }}",
            self.incidentio.url,
            file("key"),
            file("other"),
        );
        let _ = writeln!(yaml, "  chat:\n    slack: {{ url: {} }}", file("slack"));
        let _ =
            writeln!(yaml, "  hook:\n    webhook: {{ url: 'http://127.0.0.1:9/', secret: {} }}", file("key"));
        yaml
    }

    /// The log lies in the folder that is watched for changes, and does not feed on itself at any level.
    fn config(&self, secrets: &Path) -> String {
        let tokens = |more: &str| {
            let file = format!("{{ file: '{}' }}", secrets.join("secret").display());
            format!("{more}, token: {file}, client_token: {file}")
        };
        let at = |url: &str| format!("url: '{url}', client_url: '{url}'");
        format!(
            "log: {{ format: json, level: trace }}\n\
             routes: {{ page: [oncall, pd, jsm, io, hook], notify: [oncall, chat] }}\n\
             platforms:\n\
             \x20 un:\n    unleash: {{ {}, {} }}\n\
             \x20 ld:\n    launchdarkly: {{ {}, {} }}\n\
             \x20 cc:\n    configcat: {{ {}, {} }}\n\
             \x20 st:\n    statsig: {{ {}, {} }}\n\
             flags:\n\
             \x20 ai.f0.new: {{ control: f0.old, treatment: f0.new, share: 40% }}\n\
             \x20 ai.un: {{ control: un.old, treatment: un.new, platform: {{ name: un, key: ai.a, control: a.v1, treatment: a.v2 }} }}\n\
             \x20 ai.ld: {{ control: ld.old, treatment: ld.new, platform: {{ name: ld, key: ai.a, control: a.v1, treatment: a.v2 }} }}\n\
             \x20 ai.cc: {{ control: cc.old, treatment: cc.new, platform: {{ name: cc, key: ai.a, id: 7, control: a.v1, treatment: a.v2 }} }}\n\
             \x20 ai.st: {{ control: st.old, treatment: st.new, platform: {{ name: st, key: ai.a, control: 'false', treatment: 'true' }} }}\n",
            at(&self.unleash.url),
            tokens("environment: production"),
            at(&self.darkly.url),
            tokens("project: shop, environment: production"),
            at(&self.configcat.url),
            tokens("environment: 08d86d63-2726-47cd-8bfc-59608ecb91e2, user: api"),
            at(&self.statsig.url),
            tokens("writes_as: rearguard@example.com"),
        )
    }
}

#[test]
fn no_secret_comes_out_of_the_daemon() {
    let servers = tokio::runtime::Runtime::new().expect("a runtime");
    let world = servers.block_on(World::start());
    let secrets = tempfile::tempdir().expect("a folder");
    let slack = format!("{}{HOOK}", world.slack.url);
    for (name, secret) in [("secret", SECRET), ("key", KEY), ("other", OTHER), ("slack", &slack)] {
        assert!(secret.contains(PLANTED), "{secret}");
        std::fs::write(secrets.path().join(name), secret).expect("a secret");
    }
    let mut stage =
        Stage::prepare(RULES, &world.config(secrets.path()), (Duration::from_secs(3600), RATE), None);
    let hosts = world.urls().map(|url| url.trim_start_matches("http://").to_owned());
    stage.daemon.setup.hosts.extend(hosts);
    stage.daemon.setup.hosts.push("127.0.0.1:9".into());
    stage.daemon.setup.receivers = world.receivers(secrets.path());
    stage.start();
    stage.daemon.await_ready();

    let mut said = Vec::new();
    for flag in ["ai.un", "ai.ld", "ai.cc", "ai.st"] {
        said.push(stage.daemon.say(&["flag", "rollback", flag, "--reason", "a look at its words", "--wait"]));
        said.push(stage.daemon.say(&["flag", "show", flag]));
    }
    said.push(stage.daemon.say(&["flag", "pause", "ai.f0.new", "--reason", "a look at its words"]));
    let changes = [
        world.unleash.platform().changes(),
        world.darkly.platform().changes(),
        world.configcat.platform().changes(),
        world.statsig.platform().changes(),
    ];
    assert_eq!(changes, [1; 4], "each was rolled back once");
    eventually("everybody is told", BOUND, || {
        let open = [
            world.pagerduty.platform().open().len(),
            world.jsm.platform().open().len(),
            world.incidentio.platform().open().len(),
        ];
        (open == [4; 3] && !world.slack.platform().said.is_empty()).then_some(())
    });
    for (name, asked) in world.asked() {
        let sent = asked
            .iter()
            .any(|asked| format!("{asked:?} {}", String::from_utf8_lossy(&asked.bytes)).contains(PLANTED));
        assert!(sent, "{name} was sent a secret");
    }
    said.extend(everything(&stage));
    assert!(stage.daemon.log().contains("answered 503"), "the refusals are told: {}", stage.daemon.log());
    for said in said.into_iter().chain([stage.daemon.log()]) {
        let found =
            said.find(PLANTED).map(|at| said[at.saturating_sub(200)..].chars().take(300).collect::<String>());
        assert_eq!(found, None);
    }
    stage.daemon.terminate();
    stage.daemon.assert_healthy_log();
    let files = search(&stage.daemon.data());
    assert!(files >= 1, "the database was looked through");
    println!("secrets: {} lines of log, {files} files", stage.daemon.log().lines().count());
}

/// What people and machines can read of it.
fn everything(stage: &Stage) -> Vec<String> {
    let mut said = Vec::new();
    for path in [
        "/metrics",
        "/v1/status",
        "/v1/flags",
        "/v1/flags/ai.un",
        "/v1/flags/ai.st",
        "/v1/incidents",
        "/v1/tokens",
    ] {
        said.push(stage.daemon.get(path).text);
    }
    let incidents = stage.daemon.get("/v1/incidents").body;
    let incidents = incidents["incidents"].as_array().cloned().unwrap_or_default();
    assert_eq!(incidents.len(), 4, "{incidents:#?}");
    for incident in incidents {
        let id = incident["id"].as_str().expect("an id");
        said.push(stage.daemon.get(&format!("/v1/incidents/{id}")).text);
        said.push(stage.daemon.get(&format!("/v1/incidents/{id}/markdown")).text);
    }
    for args in [
        &["status"][..],
        &["status", "--format", "json"],
        &["flag", "list"],
        &["incident", "list"],
        &["check", "--config", "rearguard.yaml"],
        &["rules", "export", "--config", "rearguard.yaml"],
    ] {
        let (_, out, error) = stage.daemon.command_line(args);
        assert!(!out.is_empty(), "{args:?}: {error}");
        said.extend([out, error]);
    }
    said
}

/// Looks through every file of a folder; how many there are.
fn search(folder: &Path) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files += search(&path);
            continue;
        }
        let bytes = std::fs::read(&path).expect("a file");
        let found = bytes.windows(PLANTED.len()).any(|bytes| bytes == PLANTED.as_bytes());
        assert!(!found, "a secret in {}", path.display());
        files += 1;
    }
    files
}
