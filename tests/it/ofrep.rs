//! What gateways are answered, against the OpenAPI description of OFREP: the trimmed copy in `tests/data/ofrep/`, and the whole
//! one where it lies beside the repository.

use std::path::Path;

use jsonschema::Validator;
use reqwest::{Client, Response};
use serde_json::{Value, json};

use crate::cli::daemon::Daemon;

const SINGLE: &str = "/ofrep/v1/evaluate/flags/{key}";
const BULK: &str = "/ofrep/v1/evaluate/flags";
const USER: &str =
    r#"{"context": {"targetingKey": "user-123", "tenant": "acme", "tier": 3, "more": {"a": []}}}"#;

/// The protocol's description, as `paths` and `components`.
struct Contract(Value);

impl Contract {
    fn read(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let mut document: Value = serde_saphyr::from_str(&text).unwrap();
        // By the letter every answer with a value fits `codeDefaultFlag` too, and so fails `oneOf`. Its description says what
        // is meant: "This schema has no `value` property."
        document["components"]["schemas"]["codeDefaultFlag"]["not"] = json!({"required": ["value"]});
        Some(Self(document))
    }

    /// The copy, and the whole description if it is there.
    fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let copy = Self::read(&root.join("tests/data/ofrep/openapi.yaml")).expect("the copy is there");
        let whole = Self::read(&root.join("../shared/contracts/ofrep/openapi.yaml"));
        if whole.is_none() {
            println!("skipped: ../shared/contracts is not there, so only the trimmed copy was used");
        }
        [Some(copy), whole].into_iter().flatten().collect()
    }

    /// What a route's answer with this status must look like; `None` if it has no body that is described.
    fn schema(&self, route: &str, status: u16) -> Option<Validator> {
        let answer = &self.0["paths"][route]["post"]["responses"][status.to_string()];
        assert!(answer.is_object(), "OFREP knows no answer {status} of {route}");
        let schema = answer["content"]["application/json"]["schema"].as_object()?;
        let mut document = json!({"components": self.0["components"]});
        document.as_object_mut().unwrap().extend(schema.clone());
        Some(jsonschema::draft202012::new(&document).unwrap())
    }

    fn check(&self, route: &str, status: u16, body: &str) {
        let Some(schema) = self.schema(route, status) else { return };
        let body: Value = serde_json::from_str(body).unwrap();
        let wrong: Vec<String> =
            schema.iter_errors(&body).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{route}, {status}: {body}\n{}", wrong.join("\n"));
    }
}

struct Gateway {
    daemon: Daemon,
    client: Client,
    contracts: Vec<Contract>,
}

impl Gateway {
    async fn start() -> Self {
        let client = Client::builder().no_proxy().build().unwrap();
        Self { daemon: Daemon::start().await, client, contracts: Contract::all() }
    }

    async fn send(&self, route: &str, key: &str, scope: &str, body: &str, tag: Option<&str>) -> Response {
        let url = format!("{}{}", self.daemon.url, route.replace("{key}", key));
        let mut request = self.client.post(url).body(body.to_owned());
        if scope != "none" {
            request = request.bearer_auth(self.daemon.token(scope));
        }
        if let Some(tag) = tag {
            request = request.header("if-none-match", tag);
        }
        request.send().await.unwrap()
    }

    /// Asks, checks the answer against every description, and gives it.
    async fn ask(&self, route: &str, key: &str, scope: &str, body: &str) -> (u16, Value) {
        let answer = self.send(route, key, scope, body, None).await;
        let status = answer.status().as_u16();
        assert!(answer.headers().get("retry-after").is_none(), "clients would pause every flag");
        let text = answer.text().await.unwrap();
        for contract in &self.contracts {
            contract.check(route, status, &text);
        }
        (status, serde_json::from_str(&text).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_as_the_protocol_describes_it() {
    let gateway = Gateway::start().await;
    let flag = "ai.support.v18";
    let (status, answer) = gateway.ask(SINGLE, flag, "evaluate", USER).await;
    assert_eq!((status, answer["reason"].as_str()), (200, Some("SPLIT")));
    let (status, answer) = gateway.ask(SINGLE, flag, "evaluate", r#"{"context": {}}"#).await;
    assert_eq!((status, answer["reason"].as_str()), (200, Some("UNKNOWN")));
    let huge = format!(r#"{{"context": {{"targetingKey": "{}"}}}}"#, "x".repeat(70_000));
    for (route, key, body, status, code) in [
        (SINGLE, "no.such", USER, 404, "FLAG_NOT_FOUND"),
        (SINGLE, flag, "", 400, "PARSE_ERROR"),
        (SINGLE, flag, "{", 400, "PARSE_ERROR"),
        (SINGLE, flag, &huge, 400, "PARSE_ERROR"),
        (SINGLE, flag, "[]", 400, "INVALID_CONTEXT"),
        (SINGLE, flag, r#"{"context": {"targetingKey": 7}}"#, 400, "INVALID_CONTEXT"),
        (BULK, "", "nonsense", 400, "PARSE_ERROR"),
        (BULK, "", r#"{"context": 1}"#, 400, "INVALID_CONTEXT"),
    ] {
        let (seen, answer) = gateway.ask(route, key, "evaluate", body).await;
        assert_eq!((seen, answer["errorCode"].as_str()), (status, Some(code)), "{route} {}", answer);
    }
    for route in [SINGLE, BULK] {
        assert_eq!(gateway.ask(route, flag, "none", USER).await.0, 401);
        assert_eq!(gateway.ask(route, flag, "read", USER).await.0, 403);
    }

    let killed = gateway.daemon.ask("operate", &["flag", "kill", flag, "--reason", "a test"]);
    assert_eq!(killed.code, 0, "{killed:?}");
    let (_, answer) = gateway.ask(SINGLE, flag, "evaluate", USER).await;
    assert_eq!((answer["value"].as_str(), answer["reason"].as_str()), (Some("off"), Some("DISABLED")));
    let (status, answer) = gateway.ask(BULK, "", "evaluate", USER).await;
    assert_eq!((status, answer["flags"][0]["reason"].as_str()), (200, Some("DISABLED")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_answer_is_not_sent_again() {
    let gateway = Gateway::start().await;
    let first = gateway.send(BULK, "", "evaluate", USER, None).await;
    assert_eq!(first.headers()["content-type"], "application/json");
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    let again = gateway.send(BULK, "", "evaluate", USER, Some(&tag)).await;
    assert_eq!((again.status().as_u16(), again.headers()["etag"].to_str().unwrap()), (304, &*tag));
    assert!(again.bytes().await.unwrap().is_empty());
    for contract in &gateway.contracts {
        assert!(contract.schema(BULK, 304).is_none(), "nothing but a status is described");
    }
}

#[test]
fn the_check_finds_what_is_wrong() {
    for contract in Contract::all() {
        let schema = contract.schema(SINGLE, 200).unwrap();
        let good =
            json!({"key": "f", "value": "a", "variant": "a", "reason": "STATIC", "metadata": {"x": 1}});
        assert!(
            schema.is_valid(&good),
            "{:?}",
            schema.iter_errors(&good).map(|e| e.to_string()).collect::<Vec<_>>()
        );
        for (field, value) in [
            ("reason", json!("PINNED")),
            ("key", Value::Null),
            ("value", json!([])),
            ("variant", json!(7)),
            ("metadata", json!({"x": {"nested": 1}})),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            assert!(!schema.is_valid(&bad), "{bad}");
        }
    }
}
