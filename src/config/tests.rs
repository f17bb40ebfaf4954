use std::time::Duration;

use super::*;
use crate::model::incident::Severity;

const EXAMPLE: &str = include_str!("../../rearguard.example.yaml");
const LEAST: &str = "kafka: { brokers: 'localhost:9092', topics: [t] }\n";

fn environment(name: &str) -> Option<String> {
    match name {
        "PASSWORD" => Some("hunter2".to_owned()),
        "DATABASE_URL" => Some("postgres://me:hunter2@db:5432/rg".to_owned()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Config, Vec<Diagnostic>> {
    Config::parse(Path::new("etc/rearguard.yaml"), text, &environment)
}

/// Errors as `line:column message (help)`.
fn said(text: &str) -> Vec<String> {
    parse(text)
        .expect_err(text)
        .iter()
        .map(|d| {
            let help = d.help.as_ref().map(|h| format!(" ({h})")).unwrap_or_default();
            format!("{}:{} {}{help}", d.line, d.column, d.message)
        })
        .collect()
}

#[test]
fn the_example_loads_and_shows_the_defaults() {
    let config = parse(EXAMPLE).unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert_eq!(config.flags[0].share, 250_000);
    assert_eq!((config.timing, config.limits), (Timing::default(), Limits::default()));
    assert_eq!(config.receivers.len(), 2);
    let id = config.catalogue.find("latency").unwrap();
    assert_eq!(config.catalogue.get(id).max.to_bits(), 120_000f64.to_bits());
    assert_eq!(config.catalogue.get(id).unit, "ms");
    assert!(config.catalogue.find("retrieval.latency").is_some());
    // The commented lines are right as well.
    let all: String = EXAMPLE
        .lines()
        .map(|line| match line.trim_start().strip_prefix("# ") {
            Some(rest) if rest.contains(": ") && !rest.starts_with("Every") && !rest.starts_with('`') => {
                let indent = line.len() - line.trim_start().len();
                format!("{}{rest}\n", " ".repeat(indent))
            }
            Some(rest) if ["clock:", "chat:"].iter().any(|k| rest.starts_with(k)) => {
                format!("{}{rest}\n", " ".repeat(line.len() - line.trim_start().len()))
            }
            _ => format!("{line}\n"),
        })
        .filter(|line| !line.contains("security.protocol: plaintext") && !line.contains("file: /run"))
        .collect();
    let env = |name: &str| environment(name).or(Some("x".to_owned()));
    let errors = Config::parse(Path::new("r.yaml"), &all, &env)
        .expect_err("a clock beside a host that is not loopback");
    let said: Vec<String> = errors.iter().map(|e| e.message.clone()).collect();
    assert_eq!(said.len(), 4, "{said:#?}");
    assert!(said[..3].iter().all(|line| line.contains("not on the list")), "{said:#?}");
    assert!(said[3].contains("`canary`, receiver `chat` is not"), "{said:#?}");
}

#[test]
fn little_is_enough() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.kafka.dead_letter_topic, "t.dead-letter");
    assert_eq!((config.kafka.group.as_str(), config.kafka.start), ("rearguard", Start::OneLongestWindow));
    assert_eq!(config.rules, [PathBuf::from("etc/rules")]);
    assert_eq!(config.store, Store::Sqlite("etc/data/rearguard.db".into()));
    assert_eq!(config.data_dir, PathBuf::from("etc/data"));
    assert!(config.clock.is_real() && !config.dry_run);
}

#[test]
fn a_topic_of_decisions_is_structured_unless_it_says_otherwise() {
    let receivers = |mode: &str| {
        let text = format!("{LEAST}receivers: {{ stream: {{ kafka: {{ topic: ai.decisions{mode} }} }} }}\n");
        parse(&text).map(|config| config.receivers["stream"].clone())
    };
    for (text, mode) in [
        ("", EventMode::Structured),
        (", mode: structured", EventMode::Structured),
        (", mode: binary", EventMode::Binary),
    ] {
        assert_eq!(receivers(text).unwrap(), Receiver::Kafka { topic: "ai.decisions".into(), mode });
    }
    let wrong = receivers(", mode: batched").unwrap_err();
    assert!(format!("{wrong:?}").contains("it may be `structured` or `binary`"), "{wrong:?}");
}

#[test]
fn secrets_come_from_outside_and_are_never_shown() {
    let text = format!(
        "{}store: {{ url: '${{DATABASE_URL}}' }}\n",
        LEAST.replace("[t]", "[t], properties: { sasl.password: '${PASSWORD}', sasl.username: me }")
    );
    let config = parse(&text).unwrap();
    assert_eq!(config.kafka.properties["sasl.password"].expose(), "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!serde_json::to_string(&(&config.kafka, &config.store)).unwrap().contains("hunter2"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pw"), "from file\n").unwrap();
    let text = LEAST.replace("[t]", "[t], properties: { sasl.password: { file: pw } }");
    let config = Config::parse(&folder.path().join("r.yaml"), &text, &environment).unwrap();
    assert_eq!(config.kafka.properties["sasl.password"].expose(), "from file");
}

#[test]
#[expect(clippy::too_many_lines, reason = "one file with every mistake, and what is said of each")]
fn every_mistake_is_told_with_its_place() {
    let text = "\
kafak: {}
kafka:
  brokers: [localhost]
  topics: [a b, t, t]
  dead_letter_topic: t
  start: latest
  properties:
    auto.offset.reset: earliest
    enable.auto.commit: true
    sasl.password: hunter2
    ssl.key.password: ${NOPE}
    sasl.username: { file: /does/not/exist }
flags:
  a.b: { control: x, treatment: x, share: 25 }
  c: { control: x, treatmnt: y }
  d: { control: x, treatment: x, share: 0.5 }
metrics:
  9lives: { kind: score, direction: lower_is_better }
  baseline: { kind: score, direction: lower_is_better }
  size: { kind: value, direction: up, max: 3 }
  depth: { kind: value, direction: lower_is_better }
  good: { kind: score, max: 5, direction: higher_is_better }
store: { url: mysql://x }
http: { listen: 8080 }
receivers:
  am: { alertmanager: { url: 'http://10.0.0.1:9093' } }
  hook: { webhook: { url: 'ftp://x', secret: plain } }
  two: { kafka: { topic: x }, webhook: {} }
routes: { page: [an] }
outbound: { allow: ['https://x/'] }
timing: { lateness: 20m, tick: 10 }
limits: { flips: 0, blind_after: 2m }
dry_run: yes
log: { format: text }
clock: { rate: -1, start: noon }
external_url: rearguard
";
    let expected = [
        "1:1 unknown key `kafak` in the configuration (did you mean `kafka`?)",
        "3:13 `localhost` is no broker address with a port (write `localhost:9092`)",
        "4:12 `a b` cannot be a topic: letters, digits, `.`, `_` and `-`, at most 249",
        "4:20 topic `t` is named twice",
        "5:22 the dead-letter topic is one of the topics that are read: poison would go round in circles",
        "6:10 `kafka.start` cannot be `latest` (it may be `one_longest_window` or `earliest`)",
        "8:5 `auto.offset.reset` cannot be set here (it is `error`: jumping over a gap would lose events silently; `kafka.start` says where the first start begins)",
        "9:5 `enable.auto.commit` cannot be set here (it is off: offsets are stored together with what was computed from them)",
        "10:20 `sasl.password` stands here in plain text (take it from the environment, `${NAME}`, or from a file, `{ file: path }`)",
        "11:23 the environment variable `NOPE` is not set (set it before the start, or write `ssl.key.password` as `{ file: path }`)",
        "12:28 the file of `sasl.username`, `/does/not/exist`, cannot be read: No such file or directory (os error 2)",
        "14:43 `share` must lie between 0 and 1, or 0% and 100% (write `25%`)",
        "15:3 flag `c` has no `treatment`",
        "15:3 flag `c` has no `share`",
        "15:20 unknown key `treatmnt` in flag `c` (did you mean `treatment`?)",
        "16:3 flag `d` serves the same variant as control and as treatment",
        "18:3 `9lives` cannot be the name of a metric (a name begins with a letter and holds letters, digits, `_` and `.`; `baseline`, `slo.…` and `rearguard.canary` are taken)",
        "19:3 `baseline` cannot be the name of a metric (a name begins with a letter and holds letters, digits, `_` and `.`; `baseline`, `slo.…` and `rearguard.canary` are taken)",
        "20:35 `direction` cannot be `up` (it may be `higher_is_better` or `lower_is_better`)",
        "21:12 metric `depth` has no `resolution` (values need `resolution`, the smallest step told apart, and `max`, the largest value)",
        "21:12 metric `depth` has no `max` (values need `resolution`, the smallest step told apart, and `max`, the largest value)",
        "22:29 metric `good` is no value: its `max` is 1",
        "23:15 `store.url` must be the path of an SQLite file or a PostgreSQL address (write `sqlite:data/rearguard.db` or `postgres://user@host:5432/database`)",
        "24:17 `http.listen` must be text, not a number (put it in quotes: \"8080\")",
        "26:30 receiver `am` is at `10.0.0.1:9093`, which is not on the list of hosts that Rearguard may talk to (add `- 10.0.0.1:9093` under `outbound: allow:`)",
        "26:30 receiver `am` is at `10.0.0.1:9093` without TLS: anybody on the way can read and change what is said (write `https://`, or add `- 10.0.0.1:9093` under `outbound: plain_http:` if the network is yours)",
        "27:27 `url` must be an http or https address (write `http://host:port`)",
        "28:3 receiver `two` must be exactly one thing (it may be `alertmanager`, `pagerduty`, `jsm`, `incidentio`, `slack`, `webhook` or `kafka`)",
        "29:18 there is no receiver `an` (did you mean `am`?)",
        "30:21 `https://x/` is no host (write `host` or `host:port`, without scheme, path or pattern)",
        "31:21 `lateness` must lie between 0s and 10m",
        "31:32 `tick` needs a unit (write `10m` for minutes or `10s` for seconds)",
        "32:18 `flips` must be a whole number from 1 to 1000",
        "33:10 `dry_run` must be true or false (write `true`)",
        "34:16 `log.format` cannot be `text` (it may be `human` or `json`)",
        "35:16 `clock.rate` must lie above 0, at most 10000",
        "35:27 `clock.start` is no time (write it as `2026-03-01T09:00:00Z`)",
        "36:15 `external_url` must be an http or https address (write `http://host:port`)",
    ];
    let got = said(text);
    for (got, expected) in got.iter().zip(&expected) {
        assert_eq!(got, expected);
    }
    assert_eq!(got.len(), expected.len(), "{got:#?}");
}

#[test]
fn a_fast_clock_stays_on_loopback() {
    let clock = format!("{LEAST}clock: {{ rate: 60 }}\n");
    assert!(!parse(&clock).unwrap().clock.is_real());
    let away = clock.replace("localhost", "kafka.example");
    assert_eq!(
        said(&away),
        [
            "2:8 a clock that is not the real one needs everything on loopback: broker `kafka.example:9092` is not (remove `clock:`, or use 127.0.0.1 throughout)"
        ]
    );
    let open = format!("{clock}http: {{ listen: '0.0.0.0:8080' }}\n");
    assert!(said(&open)[0].contains("`http.listen` is not"));
    assert!(parse(&format!("{LEAST}clock: {{ rate: 1 }}\n")).unwrap().clock.is_real());
}

#[test]
fn passwords_in_addresses_are_refused() {
    let text = format!("{LEAST}store: {{ url: 'postgres://me:pw@db/rg' }}\n");
    assert!(said(&text)[0].starts_with("2:15 `store.url` holds a password in plain text"));
    assert!(parse(&format!("{LEAST}store: {{ url: 'postgres://me@db/rg' }}\n")).is_ok());
    let text = format!("{LEAST}receivers: {{ a: {{ alertmanager: {{ url: 'http://u:p@x:1' }} }} }}\n");
    assert!(said(&text)[0].contains("must not hold credentials"));
}

#[test]
fn rule_files_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["b.yaml", "a.yml", ".hidden.yaml", "notes.txt"] {
        std::fs::write(at(name), name).unwrap();
    }
    let names = |places: &[PathBuf]| -> Vec<String> {
        rule_files(places).unwrap().into_iter().map(|(_, text)| text).collect()
    };
    assert_eq!(names(&[folder.path().to_owned()]), ["a.yml", "b.yaml"]);
    assert_eq!(names(&[at("*.yaml")]), ["b.yaml"]);
    assert_eq!(names(&[at("b.yaml"), folder.path().to_owned()]), ["b.yaml", "a.yml"]);
    std::fs::write(at("b.yaml"), b"ok\n\xff").unwrap();
    let errors = rule_files(&[at("b.yaml"), at("c.yaml"), at("*.json")]).unwrap_err();
    let said: Vec<String> = errors.iter().map(|e| format!("{}:{} {}", e.line, e.column, e.message)).collect();
    assert_eq!(
        said,
        ["0:0 there is no such rule file or folder", "0:0 no rule files here", "2:1 the file is not UTF-8",]
    );
    std::fs::write(at("big.yaml"), vec![b'#'; 2 << 20]).unwrap();
    assert!(rule_files(&[at("big.yaml")]).unwrap_err()[0].message.contains("1 MiB"));
}

#[test]
fn every_example_of_the_documentation_loads() {
    let text = include_str!("../../docs/configuration.md");
    let blocks: Vec<&str> = text.split("```yaml\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    assert_eq!(blocks.len(), 4);
    for block in blocks {
        assert!(parse(block).is_ok(), "{block}\n{:#?}", parse(block).unwrap_err());
    }
}

#[test]
fn a_vendors_platform_has_addresses_and_secrets_and_says_what_is_missing() {
    let text = |platform: &str, flag: &str| {
        format!(
            "{LEAST}outbound: {{ allow: [u.example.com, app.launchdarkly.com, sdk.launchdarkly.com] }}\nplatforms: {{ prod: {platform} }}\nflags: {{ ai.a: {{ control: a.v1, treatment: a.v2, platform: {flag} }} }}\n"
        )
    };
    let unleash = "{ unleash: { url: 'https://u.example.com/x/', environment: production, token: '${PASSWORD}', client_token: '${PASSWORD}' } }";
    let config = parse(&text(unleash, "prod")).unwrap();
    let PlatformKind::Vendor(vendor) = &config.platforms["prod"].kind else { panic!("{config:?}") };
    let environment = Service::Unleash { project: "default".into(), environment: "production".into() };
    assert_eq!(vendor.service, environment);
    let urls = ["https://u.example.com/x"; 2];
    assert_eq!([&*vendor.url, &*vendor.client_url], urls);
    assert_eq!(config.flags[0].served.as_ref().unwrap().worst, Duration::from_secs(103 + 20));
    let ld = "{ launchdarkly: { project: shop, environment: production, token: '${PASSWORD}', client_token: '${PASSWORD}', writes_as: rg } }";
    let config = parse(&text(ld, "{ name: prod, control: a.v1, treatment: a.v2 }")).unwrap();
    let urls = config.platforms["prod"].kind.urls();
    assert_eq!(urls, ["https://app.launchdarkly.com", "https://sdk.launchdarkly.com"]);
    assert!(!format!("{:?}", config.platforms).contains("hunter2"), "no secret is shown");
    let statsig = "{ statsig: { token: '${PASSWORD}', client_token: '${PASSWORD}' } }";
    let configcat = "{ configcat: { url: 'https://u.example.com', client_url: 'https://u.example.com', environment: e, user: u, token: '${PASSWORD}', client_token: '${PASSWORD}' } }";
    for (platform, flag, wanted) in [
        (unleash, "{ name: prod, id: 7 }", "flags on unleash have no `id`"),
        (
            "{ unleash: { url: 'https://u.example.com', token: '${PASSWORD}', client_token: '${PASSWORD}' } }",
            "prod",
            "has no `environment`",
        ),
        (
            "{ unleash: { environment: e, token: '${PASSWORD}', client_token: '${PASSWORD}' } }",
            "prod",
            "has no `url`",
        ),
        (
            "{ unleash: { url: 'https://u.example.com', environment: e, client_token: '${PASSWORD}' } }",
            "prod",
            "has no `token`",
        ),
        (
            "{ unleash: { url: 'https://u.example.com', environment: e, token: abc, client_token: '${PASSWORD}' } }",
            "prod",
            "in plain text",
        ),
        (statsig, "prod", "add `- statsigapi.net:443` under `outbound: allow:`"),
        (configcat, "prod", "needs the number of its setting"),
        (configcat, "{ name: prod, id: 1.5 }", "must be the setting's number"),
    ] {
        let found = said(&text(platform, flag)).join("; ");
        assert!(found.contains(wanted), "{platform} {flag}: {found}");
    }
    let config =
        parse(&text(configcat, "{ name: prod, id: 123, control: 'true', treatment: 'false' }")).unwrap();
    assert_eq!(config.flags[0].served.as_ref().unwrap().id.as_deref(), Some("123"));
}

#[test]
fn a_flag_may_be_served_by_a_platform() {
    let text = |platforms: &str, flag: &str| {
        format!(
            "{LEAST}outbound: {{ allow: [localhost] }}\nplatforms: {platforms}\nflags: {{ ai.a: {{ control: a.v1, treatment: a.v2, {flag} }} }}\n"
        )
    };
    let flagd = "{ prod: { flagd: { path: f.json, ofrep: 'http://localhost:8016' } } }";
    let config = parse(&text(flagd, "platform: { name: prod, key: a, control: v1 }")).unwrap();
    let served = config.flags[0].served.as_ref().unwrap();
    let names = (&*served.platform, &*served.kind, &*served.key, &*served.control, &*served.treatment);
    assert_eq!(names, ("prod", "flagd", "a", "v1", "a.v2"));
    assert_eq!(served.worst, Duration::from_secs(103 + 5));
    assert!(
        matches!(&config.platforms["prod"].kind, PlatformKind::Flagd { path, .. } if path == Path::new("etc/f.json"))
    );
    assert_eq!(parse(&text(flagd, "platform: prod")).unwrap().flags[0].served.as_ref().unwrap().key, "ai.a");
    for (platforms, flag, wanted) in [
        (flagd, "platform: pord", "there is no platform `pord` (did you mean `prod`?)"),
        (flagd, "platform: prod, share: 5%", "`share` of flag `ai.a` is for its platform to say"),
        ("{ prod: { flagd: { path: f.toml } } }", "share: 5%", "is no flag file"),
        ("{ prod: { flagdd: { path: f.json } } }", "share: 5%", "did you mean `flagd`?"),
        ("{ Prod: { flagd: { path: f.json } } }", "share: 5%", "cannot be the name of a platform"),
        (
            "{ p: { flagd: { path: f.json, ofrep: 'http://h:1' } } }",
            "share: 5%",
            "add `- h:1` under `outbound: allow:`",
        ),
        (
            "{ p: { gofeatureflag: { path: f.toml, relay: 'http://localhost', admin_key: k } } }",
            "share: 5%",
            "in plain text",
        ),
        (
            "{ p: { gofeatureflag: { path: f.toml, admin_key: '${PASSWORD}' } } }",
            "share: 5%",
            "`admin_key` and no `relay`",
        ),
    ] {
        let found = said(&text(platforms, flag)).join("; ");
        assert!(found.contains(wanted), "{platforms} {flag}: {found}");
    }
}

const TOKENS: &str = "outbound: { allow: [events.pagerduty.com, api.atlassian.com, api.opsgenie.com, api.incident.io, hooks.slack.com] }\n";

fn receivers(of: &str) -> String {
    format!("{LEAST}{TOKENS}receivers: {of}\n")
}

#[test]
fn paging_services_need_little_and_their_secrets_come_from_outside() {
    let hook = "https://hooks.slack.com/services/T0/B0/hunter2";
    let environment = |name: &str| (name == "HOOK").then(|| hook.to_owned()).or_else(|| environment(name));
    let text = receivers(
        "{ pd: { pagerduty: { routing_key: '${PASSWORD}' } }, jsm: { jsm: { api_key: '${PASSWORD}' } }, \
         og: { jsm: { api_key: '${PASSWORD}', url: 'https://api.opsgenie.com/' } }, \
         io: { incidentio: { alert_source: 01GW, token: '${PASSWORD}', incident: { api_key: '${PASSWORD}', visibility: private, severity: 01FH } } }, \
         chat: { slack: { url: '${HOOK}' } } }",
    );
    let config = Config::parse(Path::new("r.yaml"), &text, &environment).unwrap();
    let key = || Secret::new("hunter2");
    let pagerduty = Receiver::Pagerduty { url: "https://events.pagerduty.com".into(), routing_key: key() };
    let jsm = |url: &str| Receiver::Jsm { url: url.into(), api_key: key() };
    assert_eq!(config.receivers["pd"], pagerduty);
    assert_eq!(config.receivers["jsm"], jsm("https://api.atlassian.com/jsm/ops/integration"));
    assert_eq!(config.receivers["og"], jsm("https://api.opsgenie.com"));
    assert_eq!(config.receivers["chat"], Receiver::Slack { url: Secret::new(hook) });
    let incident = Incident { api_key: key(), private: true, severity: Some("01FH".into()) };
    assert_eq!(
        config.receivers["io"],
        Receiver::Incidentio {
            url: "https://api.incident.io".into(),
            alert_source: "01GW".into(),
            token: key(),
            incident: Some(incident)
        }
    );
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!serde_json::to_string(&config.receivers).unwrap().contains("hunter2"));
}

#[test]
fn mistakes_about_paging_services_are_told() {
    for (of, wanted) in [
        (
            "{ a: { pagerduty: { routing_key: hunter2 } } }",
            "`routing_key` of receiver `a` stands here in plain text",
        ),
        ("{ a: { pagerduty: {} } }", "receiver `a` has no `routing_key`"),
        ("{ a: { pagerduty: { routing_key: '${PASSWORD} ' } } }", "is no key: it is empty, or holds spaces"),
        (
            "{ a: { pagerduty: { routing_key: '${PASSWORD}', url: 'https://events.eu.pagerduty.com' } } }",
            "add `- events.eu.pagerduty.com:443` under `outbound: allow:`",
        ),
        ("{ a: { jsm: { apikey: x } } }", "did you mean `api_key`?"),
        ("{ a: { incidentio: { token: '${PASSWORD}' } } }", "receiver `a` has no `alert_source`"),
        (
            "{ a: { incidentio: { alert_source: a/b, token: '${PASSWORD}' } } }",
            "`alert_source` of receiver `a` is no identifier",
        ),
        (
            "{ a: { incidentio: { alert_source: a, token: '${PASSWORD}', incident: { api_key: '${PASSWORD}', visibility: all } } } }",
            "`visibility` cannot be `all` (it may be `public` or `private`)",
        ),
        (
            "{ a: { slack: { url: 'https://hooks.slack.com/hunter3' } } }",
            "`url` of receiver `a` stands here in plain text",
        ),
    ] {
        let found = said(&receivers(of)).join("; ");
        assert!(found.contains(wanted), "{of}: {found}");
        assert!(!found.contains("hunter3"), "{found}");
    }
    let missing = format!("{LEAST}receivers: {{ a: {{ jsm: {{ api_key: '${{PASSWORD}}' }} }} }}\n");
    assert!(said(&missing)[0].contains("add `- api.atlassian.com:443`"), "{:?}", said(&missing));
}

#[test]
fn the_pages_about_paging_services_load() {
    for text in [
        include_str!("../../docs/integrations/pagerduty.md"),
        include_str!("../../docs/integrations/jsm.md"),
        include_str!("../../docs/integrations/incident-io.md"),
        include_str!("../../docs/integrations/slack.md"),
    ] {
        let block = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let environment = |name: &str| {
            Some(if name.ends_with("URL") { "https://hooks.slack.com/services/x" } else { "k3y" }.to_owned())
        };
        let config = Config::parse(Path::new("r.yaml"), &format!("{LEAST}{block}"), &environment);
        assert!(config.is_ok(), "{block}\n{:#?}", config.unwrap_err());
    }
}

#[test]
fn slack_is_no_pager() {
    let slack = "chat: { slack: { url: 'https://hooks.slack.com/${PASSWORD}' } }";
    let pager = "oncall: { pagerduty: { routing_key: '${PASSWORD}' } }";
    let alone = said(&receivers(&format!("{{ {slack} }}")));
    assert_eq!(alone.len(), 1, "{alone:?}");
    assert!(alone[0].contains("pages would go to Slack alone (receiver `chat`)"), "{alone:?}");
    let both = receivers(&format!("{{ {slack}, {pager} }}"));
    assert!(parse(&both).is_ok());
    for (routes, good) in [
        ("{ page: [chat] }", false),
        ("{ page: [chat, oncall] }", true),
        ("{ page: oncall, notify: chat }", true),
    ] {
        let text = format!("{both}routes: {routes}\n");
        assert_eq!(parse(&text).is_ok(), good, "{routes}");
    }
}

#[test]
fn routes_may_have_exceptions() {
    let two = "{ a: { pagerduty: { routing_key: '${PASSWORD}' } }, b: { jsm: { api_key: '${PASSWORD}' } }, c: { slack: { url: 'https://hooks.slack.com/${PASSWORD}' } } }";
    let text = |entry: &str| format!("{}routes:\n  page: a\n  match:\n    - {entry}\n", receivers(two));
    let good = "{ severity: [critical, warning], flag: 'ai.*', tenant: acme, failure_class: cost, page: [b], notify: c }";
    let config = parse(&text(good)).unwrap();
    let route = &config.routes.matches[0];
    assert_eq!(route.severity, [Severity::Critical, Severity::Warning]);
    assert_eq!(
        (&route.flag[0], &route.tenant[0], &route.failure_class[0]),
        (&"ai.*".into(), &"acme".into(), &"cost".into())
    );
    assert_eq!((route.page.clone(), route.notify.clone()), (Some(vec!["b".into()]), Some(vec!["c".into()])));
    for (entry, wanted) in [
        ("{ page: b }", "has no condition"),
        ("{ flag: x }", "says neither `page` nor `notify`"),
        ("{ flag: x, page: d }", "there is no receiver `d`"),
        ("{ flag: x, page: c }", "pages would go to Slack alone"),
        ("{ severity: fatal, page: b }", "it may be `critical`, `warning` or `info`"),
        ("{ flag: 'a*b', page: b }", "a `*` that is not its end"),
        ("{ flagg: x, page: b }", "did you mean `flag`?"),
    ] {
        let found = said(&text(entry));
        assert!(found.iter().any(|one| one.contains(wanted)), "{entry}: {found:?}");
    }
    let no_list = format!("{}routes: {{ page: a, match: b }}\n", receivers(two));
    assert!(said(&no_list)[0].contains("`routes.match` must be a list"));
}
