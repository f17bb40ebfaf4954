//! The API over loopback, with a real store and a scripted engine.

mod bench;

use reqwest::{Method, Response as Answer, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::engine::input::{CommandKind, DrillFrom};
use crate::model::flag::Scope;
use crate::model::id::FlagKey;
use bench::Bench;

const USER: &str = r#"{"context": {"targetingKey": "user-123", "tenant": "acme"}}"#;

/// The shapes of the contract (openapi.yaml, `serverEvaluationSuccess`) and what clients need beyond it.
fn is_success(answer: &Value) {
    let reasons = ["STATIC", "TARGETING_MATCH", "SPLIT", "DISABLED", "UNKNOWN"];
    assert!(reasons.contains(&answer["reason"].as_str().unwrap()), "{answer}");
    assert!(answer["key"].is_string() && answer["value"].is_string());
    assert_eq!(answer["value"], answer["variant"]);
    for (name, value) in answer["metadata"].as_object().unwrap() {
        assert!(!value.is_object() && !value.is_array() && !value.is_null(), "{name}");
    }
}

#[tokio::test]
async fn ofrep_answers_one_flag_as_the_contract_says() {
    let bench = Bench::new().await;
    let (status, answer) = bench.evaluate("ai.bad.v18", USER).await;
    assert_eq!(status, 200);
    is_success(&answer);
    assert_eq!(
        (answer["variant"].as_str(), answer["reason"].as_str()),
        (Some("copilot.v18"), Some("STATIC"))
    );

    let (status, answer) = bench.evaluate("no.such", USER).await;
    assert_eq!(status, 404);
    assert_eq!(answer["errorCode"], "FLAG_NOT_FOUND");
    assert_eq!(answer["key"], "no.such");

    for (body, code) in [
        ("", "PARSE_ERROR"),
        ("{", "PARSE_ERROR"),
        ("{}", "INVALID_CONTEXT"),
        (r#"{"context": []}"#, "INVALID_CONTEXT"),
        (r#"{"context": {"targetingKey": 7}}"#, "INVALID_CONTEXT"),
    ] {
        let (status, answer) = bench.evaluate("ai.bad.v18", body).await;
        assert_eq!((status, answer["errorCode"].as_str()), (400, Some(code)), "{body}");
        assert_eq!(answer["key"], "ai.bad.v18");
    }
    let huge = format!(r#"{{"context": {{"targetingKey": "{}"}}}}"#, "x".repeat(9000));
    let (status, answer) = bench.evaluate("ai.bad.v18", &huge).await;
    assert_eq!((status, answer["errorCode"].as_str()), (400, Some("PARSE_ERROR")));

    // No key: control, and the metadata says why.
    let (status, answer) = bench.evaluate("ai.split.v1", r#"{"context": {}}"#).await;
    assert_eq!(status, 200);
    is_success(&answer);
    assert_eq!(answer["variant"], "copilot.v17");
    assert_eq!(answer["metadata"]["rearguard.targetingKey"], "missing");
}

#[tokio::test]
async fn ofrep_bulk_has_an_etag_that_follows_changes_and_contexts() {
    let bench = Bench::new().await;
    let path = "/ofrep/v1/evaluate/flags";
    let ask = |body: &'static str, tag: Option<String>| {
        let mut request = bench
            .client
            .post(format!("{}{path}", bench.url))
            .header("x-api-key", &bench.tokens["evaluate"])
            .body(body);
        if let Some(tag) = tag {
            request = request.header("if-none-match", tag);
        }
        request.send()
    };
    let tag_of = |answer: &Answer| answer.headers()["etag"].to_str().unwrap().to_owned();
    let first = ask(USER, None).await.unwrap();
    assert_eq!(first.status(), 200);
    let tag = tag_of(&first);
    let body: Value = first.json().await.unwrap();
    let flags = body["flags"].as_array().unwrap();
    assert_eq!(flags.len(), 3);
    flags.iter().for_each(is_success);

    for same in [tag.clone(), format!("W/{tag}"), tag.replace('"', ""), "*".into()] {
        let again = ask(USER, Some(same)).await.unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(tag_of(&again), tag);
        assert!(again.bytes().await.unwrap().is_empty());
    }
    let other = r#"{"context": {"targetingKey": "user-1"}}"#;
    assert_eq!(ask(other, Some(tag.clone())).await.unwrap().status(), 200);

    let now = Clock::system().now();
    bench.store.kill(&"ai.bad.v18".into(), "ann", "x", now).await.unwrap();
    let changed = ask(USER, Some(tag)).await.unwrap();
    assert_eq!(changed.status(), 200);
    let body: Value = changed.json().await.unwrap();
    let killed = &body["flags"][0];
    assert_eq!((killed["variant"].as_str(), killed["reason"].as_str()), (Some("off"), Some("DISABLED")));
    let bad = ask("[]", None).await.unwrap();
    assert_eq!(bad.status(), 400);
    let body: Value = bad.json().await.unwrap();
    assert_eq!(body["errorCode"], "INVALID_CONTEXT");
}

#[tokio::test]
async fn every_route_but_health_needs_its_scope() {
    let bench = Bench::new().await;
    let (post, put, get, del) = (Method::POST, Method::PUT, Method::GET, Method::DELETE);
    let routes = [
        (get.clone(), "/metrics", "metrics"),
        (post.clone(), "/ofrep/v1/evaluate/flags", "evaluate"),
        (post.clone(), "/ofrep/v1/evaluate/flags/x", "evaluate"),
        (get.clone(), "/v1/status", "read"),
        (get.clone(), "/v1/explain", "read"),
        (put, "/v1/automation", "operate"),
        (get.clone(), "/v1/incidents", "read"),
        (get.clone(), "/v1/incidents/x", "read"),
        (get.clone(), "/v1/incidents/x/markdown", "read"),
        (get.clone(), "/v1/incidents/x/replay", "read"),
        (post.clone(), "/v1/incidents/x/ack", "ack"),
        (post.clone(), "/v1/incidents/x/resolve", "ack"),
        (get.clone(), "/v1/flags", "read"),
        (get.clone(), "/v1/flags/x", "read"),
        (post.clone(), "/v1/flags/x/kill", "operate"),
        (del.clone(), "/v1/flags/x/kill", "rearm"),
        (post.clone(), "/v1/flags/x/rearm", "rearm"),
        (post.clone(), "/v1/flags/x/rollback", "operate"),
        (post.clone(), "/v1/flags/x/drill", "operate"),
        (post.clone(), "/v1/flags/x/pause", "operate"),
        (post.clone(), "/v1/flags/x/resume", "operate"),
        (get.clone(), "/v1/decisions/x/flip", "operate"),
        (get, "/v1/tokens", "admin"),
        (post, "/v1/tokens", "admin"),
        (del, "/v1/tokens/x", "admin"),
    ];
    let documentation = include_str!("../../docs/api.md");
    for (method, path, needed) in routes {
        let shown = path
            .replace("flags/x", "flags/{key}")
            .replace("incidents/x", "incidents/{id}")
            .replace("decisions/x", "decisions/{id}")
            .replace("tokens/x", "tokens/{name}");
        let row = format!("| `{method} {shown}` | {needed} |");
        assert!(documentation.contains(&row), "docs/api.md lacks {row}");
        let (status, body) = bench.json(method.clone(), path, "none", "").await;
        assert_eq!((status, body["type"].as_str()), (401, Some("urn:rearguard:problem:no-token")), "{path}");
        for scope in bench.tokens.keys() {
            let answer = bench.ask(method.clone(), path, scope, "").await;
            let refused = answer.status() == StatusCode::FORBIDDEN;
            let allowed = *scope == needed || *scope == "admin";
            assert_eq!(refused, !allowed, "{method} {path} with {scope}");
            assert_ne!(answer.status(), StatusCode::UNAUTHORIZED);
            assert!(answer.headers().get("retry-after").is_none());
        }
    }
    let stranger =
        bench.client.get(format!("{}/v1/status", bench.url)).bearer_auth("rg_0000").send().await.unwrap();
    assert_eq!(stranger.status(), 401);
    assert!(stranger.headers().contains_key("www-authenticate"));
}

#[tokio::test]
async fn health_tells_alive_from_ready() {
    let bench = Bench::new().await;
    let (status, _) = bench.json(Method::GET, "/healthz", "none", "").await;
    assert_eq!(status, 200);
    bench
        .report
        .store(Arc::new(Report { why_not_armed: Some("replaying partition 3".into()), ..Report::default() }));
    let (status, body) = bench.json(Method::GET, "/readyz", "none", "").await;
    assert_eq!((status, body["reasons"][0].as_str()), (503, Some("replaying partition 3")));
    bench.report.store(Arc::new(Report { armed: true, automation: true, ..Report::default() }));
    let (status, body) = bench.json(Method::GET, "/readyz", "none", "").await;
    assert_eq!((status, body["ready"].as_bool()), (200, Some(true)));
    let (status, body) = bench.json(Method::GET, "/v1/status", "read", "").await;
    assert_eq!((status, body["report"]["armed"].as_bool()), (200, Some(true)));
}

#[tokio::test]
async fn commands_carry_who_and_why_and_explain_refusals() {
    let bench = Bench::new().await;
    let post = || Method::POST;
    let good = r#"{"scope": "tenant:acme", "reason": "fixed in v19"}"#;
    let (status, _) = bench.json(post(), "/v1/flags/ai.bad.v18/rearm", "rearm", good).await;
    assert_eq!(status, 200);
    let seen = bench.engine.0.lock().unwrap().remove(0);
    assert_eq!((seen.actor.as_str(), seen.reason.as_str()), ("rearm", "fixed in v19"));
    let (status, _) =
        bench.json(Method::PUT, "/v1/automation", "operate", r#"{"on": false, "reason": "3 am"}"#).await;
    assert_eq!(status, 200);

    for (path, scope, body, status, said) in [
        ("/v1/flags/ai.calm.v2/rearm", "rearm", r#"{"reason": "x"}"#, 409, "not latched"),
        ("/v1/flags/no.such/rearm", "rearm", r#"{"reason": "x"}"#, 404, "no flag"),
        ("/v1/flags/ai.bad.v18/rearm", "rearm", "{}", 400, "`reason`"),
        ("/v1/flags/ai.bad.v18/rearm", "rearm", r#"{"reason": "x", "scop": "all"}"#, 400, "scop"),
        ("/v1/flags/ai.bad.v18/rearm", "rearm", r#"{"reason": "x", "scope": "planet:x"}"#, 400, "no scope"),
        ("/v1/flags/ai.bad.v18/rollback", "operate", "{}", 400, "`reason`"),
        (
            "/v1/flags/ai.bad.v18/rollback",
            "operate",
            r#"{"reason": "x", "scope": "planet:x"}"#,
            400,
            "no scope",
        ),
        ("/v1/flags/no.such/rollback", "operate", r#"{"reason": "x"}"#, 404, "no flag"),
        ("/v1/flags/no.such/drill", "operate", r#"{"reason": "x"}"#, 404, "no flag"),
        ("/v1/flags/ai.bad.v18/drill", "operate", "{}", 400, "`reason`"),
        ("/v1/flags/ai.bad.v18/drill", "operate", r#"{"reason": "x", "from": "x"}"#, 400, "does not fit"),
        ("/v1/flags/ai.calm.v2/drill", "operate", r#"{"reason": "x"}"#, 400, "no flag for drills"),
        (
            "/v1/flags/ai.bad.v18/drill",
            "operate",
            r#"{"reason": "x", "from": "events"}"#,
            409,
            "automation is switched off",
        ),
        ("/v1/flags/ai.bad.v18/pause", "operate", r#"{"reason": " "}"#, 400, "`reason`"),
        ("/v1/flags/no.such/pause", "operate", r#"{"reason": "x"}"#, 404, "no flag"),
        ("/v1/flags/ai.calm.v2/resume", "operate", r#"{"reason": "x"}"#, 409, "not paused"),
        ("/v1/flags/ai.bad.v18/rearm", "rearm", r#"{"false_alarm": true}"#, 400, "`reason`"),
        ("/v1/flags/ai.bad.v18/kill", "operate", "nonsense", 400, "does not fit"),
        ("/v1/flags/no.such/kill", "operate", r#"{"reason": "x"}"#, 404, "no flag"),
        ("/v1/incidents/no-such/ack", "ack", "", 404, "no incident"),
        // Nothing is done before all of the request is known to be good.
        ("/v1/incidents/no-such/ack", "ack", r#"{"reason": "two\nlines"}"#, 400, "`reason`"),
        ("/v1/incidents/x/resolve", "ack", r#"{"reason": "x"}"#, 503, "loading"),
        ("/v1/tokens", "admin", r#"{"name": "x", "scopes": ["fly"]}"#, 400, "`fly` is no scope"),
        ("/v1/tokens", "admin", r#"{"name": "a b", "scopes": ["read"]}"#, 400, "name"),
        ("/v1/tokens", "admin", r#"{"name": "rearguard", "scopes": ["read"]}"#, 400, "not `rearguard`"),
        ("/v1/tokens", "admin", r#"{"name": "read", "scopes": ["read"]}"#, 409, "exists"),
        ("/nowhere", "admin", "", 404, "/nowhere"),
        ("/healthz", "admin", "", 405, "POST"),
    ] {
        let answer = bench.ask(post(), path, scope, body).await;
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        assert_eq!(answer.status().as_u16(), status, "{path} {body}");
        assert_eq!(kind, "application/problem+json", "{path}");
        let problem: Value = answer.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(said), "{path}: {problem}");
        assert_eq!(problem["status"], json!(status));
    }
}

#[tokio::test]
async fn a_kill_is_served_at_once_and_a_revoked_token_is_out_at_once() {
    let bench = Bench::new().await;
    let path = "/v1/flags/ai.bad.v18/kill";
    let why = r#"{"reason": "leaks data"}"#;
    let (status, body) = bench.json(Method::POST, path, "operate", why).await;
    assert_eq!((status, body["changed"].as_bool()), (200, Some(true)));
    assert_eq!(bench.evaluate("ai.bad.v18", USER).await.1["variant"], "off");
    let (_, shown) = bench.json(Method::GET, "/v1/flags/ai.bad.v18", "read", "").await;
    assert_eq!(shown["serving"], "off for everybody (killed)");
    assert_eq!(shown["changes"][0]["actor"], "operate");
    let (status, _) = bench.json(Method::DELETE, path, "rearm", why).await;
    assert_eq!(status, 200);
    assert_eq!(bench.evaluate("ai.bad.v18", USER).await.1["variant"], "copilot.v18");

    let new = r#"{"name": "gw", "scopes": ["evaluate"]}"#;
    let (status, made) = bench.json(Method::POST, "/v1/tokens", "admin", new).await;
    assert_eq!(status, 201);
    let audited = bench.store.audit_log(1).await.unwrap().remove(0);
    assert_eq!((&*audited.actor, &*audited.kind, &*audited.subject), ("admin", "token_create", "gw"));
    let ask = || {
        bench
            .client
            .post(format!("{}/ofrep/v1/evaluate/flags", bench.url))
            .bearer_auth(made["token"].as_str().unwrap())
            .body(USER)
            .send()
    };
    assert_eq!(ask().await.unwrap().status(), 200);
    let (status, _) = bench.json(Method::DELETE, "/v1/tokens/gw", "admin", "").await;
    assert_eq!(status, 200);
    assert_eq!(ask().await.unwrap().status(), 401);
    let (_, list) = bench.json(Method::GET, "/v1/tokens", "admin", "").await;
    assert!(!list.to_string().contains(made["token"].as_str().unwrap()));
}

#[tokio::test]
async fn incidents_are_listed_and_rendered_and_the_server_drains() {
    let bench = Bench::new().await;
    for status in ["open", "acknowledged", "resolved", "unresolved", "all"] {
        let path = format!("/v1/incidents?status={status}");
        let (code, body) = bench.json(Method::GET, &path, "read", "").await;
        assert_eq!((code, body["incidents"].as_array().unwrap().len()), (200, 0));
    }
    let (code, body) = bench.json(Method::GET, "/v1/incidents?status=odd", "read", "").await;
    assert_eq!(code, 400);
    assert!(body["hint"].as_str().unwrap().contains("unresolved"));
    let text = bench.ask(Method::GET, "/v1/incidents/inc-1/markdown", "read", "").await;
    assert_eq!(text.headers()["content-type"], "text/markdown; charset=utf-8");
    assert_eq!(text.text().await.unwrap(), "# it broke\n");
    let (code, _) = bench.json(Method::GET, "/v1/incidents/inc-2/markdown", "read", "").await;
    assert_eq!(code, 404);
    let (code, shown) = bench.json(Method::GET, "/v1/flags", "read", "").await;
    assert_eq!((code, shown["flags"].as_array().unwrap().len()), (200, 3));
    assert!(bench.store.flags().get(&FlagKey::from("ai.bad.v18")).is_some());
    bench.stop.cancel();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), bench.serving).await;
    ended.expect("it drains in time").expect("without a panic");
}

#[tokio::test]
async fn by_hand_the_engine_is_asked_and_the_answer_names_the_decision() {
    let bench = Bench::new().await;
    let rolled = r#"{"scope": "tenant:acme", "reason": "leaks data"}"#;
    let (code, said) = bench.json(Method::POST, "/v1/flags/ai.bad.v18/rollback", "operate", rolled).await;
    assert_eq!((code, said["decision"].as_str()), (200, Some("by-hand-1")));
    let why = r#"{"reason": "x"}"#;
    let (code, drill) = bench.json(Method::POST, "/v1/flags/ai.bad.v18/drill", "operate", why).await;
    assert_eq!((code, drill["decision"].as_str()), (200, Some("by-hand-1")));
    let terms = drill["budget"]["terms"].as_array().unwrap();
    let names: Vec<&str> = terms.iter().filter_map(|term| term["term"].as_str()).collect();
    let sum: f64 = terms.iter().filter_map(|term| term["seconds"].as_f64()).sum();
    assert_eq!(
        (&names[..], drill["budget"]["seconds"].as_f64()),
        (&["commit", "flip", "page"][..], Some(sum))
    );
    for what in ["pause", "resume"] {
        let path = format!("/v1/flags/ai.bad.v18/{what}");
        assert_eq!(bench.json(Method::POST, &path, "operate", why).await.0, 200);
    }
    let wrong = r#"{"reason": "x", "false_alarm": true}"#;
    assert_eq!(bench.json(Method::POST, "/v1/flags/ai.bad.v18/rearm", "rearm", wrong).await.0, 200);
    let flag = || FlagKey::from("ai.bad.v18");
    let acme = Scope::try_from("tenant:acme".to_owned()).unwrap();
    let seen: Vec<CommandKind> =
        bench.engine.0.lock().unwrap().drain(..).map(|command| command.kind).collect();
    assert_eq!(
        seen,
        [
            CommandKind::RollBack { flag: flag(), scope: acme },
            CommandKind::Drill { flag: flag(), from: DrillFrom::Decision },
            CommandKind::Pause { flag: flag() },
            CommandKind::Resume { flag: flag() },
            CommandKind::Rearm { flag: flag(), scope: None, false_alarm: true },
        ]
    );
    let (code, _) = bench.json(Method::GET, "/v1/decisions/none/flip", "operate", "").await;
    assert_eq!(code, 404);
}

#[tokio::test]
async fn who_does_not_ask_gets_no_place_for_long() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let head = Duration::from_millis(400);
    let bench = Bench::with(HttpSettings { head, connections: 2, ..HttpSettings::default() }).await;
    let address = bench.url.trim_start_matches("http://").to_owned();
    let mut silent = tokio::net::TcpStream::connect(&address).await.unwrap();
    let mut slow = tokio::net::TcpStream::connect(&address).await.unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: ").await.unwrap();
    // Both places are taken: this one is answered once they are given up.
    let waited = std::time::Instant::now();
    let answer = bench.ask(Method::GET, "/healthz", "", "").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(waited.elapsed() >= head / 2, "there was a third place after {:?}", waited.elapsed());
    let mut rest = Vec::new();
    for connection in [&mut silent, &mut slow] {
        let ended = tokio::time::timeout(Duration::from_secs(10), connection.read_to_end(&mut rest)).await;
        ended.expect("the connection is ended").expect("in peace");
    }
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
}

#[tokio::test]
async fn a_path_that_is_no_text_is_a_problem_document() {
    let bench = Bench::new().await;
    let (status, answer) = bench.json(Method::GET, "/v1/flags/%FF%FE", "read", "").await;
    assert_eq!(status, 400);
    assert!(answer["detail"].as_str().unwrap().contains("UTF-8"), "{answer}");
}
