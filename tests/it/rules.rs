//! The JSON Schema of rule files against the parser and against every rule file that is shipped or shown; what editors and
//! workflows get to see; the export, through the binary.

use std::path::Path;

use jsonschema::Validator;
use rearguard::engine::rule::keys::{self, Form, Key};
use rearguard::engine::rule::spec;
use rearguard::engine::rule::yaml::Document;
use serde_json::{Value, json};

use crate::cli::rearguard;
use crate::readme::{DOCUMENTS, blocks, read};

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn schema() -> (Value, Validator) {
    let printed = rearguard(here(), &[], &["rules", "schema"]);
    assert_eq!((printed.code, printed.err.as_str()), (0, ""));
    let schema: Value = serde_json::from_str(&printed.out).unwrap();
    assert!(jsonschema::meta::is_valid(&schema), "it is no schema itself");
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    (schema, validator)
}

/// What the schema says of a rule file.
fn wrong(schema: &Validator, text: &str) -> Vec<String> {
    let data: Value = serde_saphyr::from_str(text).unwrap();
    schema.iter_errors(&data).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// What the parser says of the form of a rule file; whether conditions mean anything comes later.
fn refused(text: &str) -> Vec<String> {
    let mut doc = Document::new("r.yaml", text);
    spec::read(&mut doc);
    doc.diagnostics.iter().map(ToString::to_string).collect()
}

#[test]
fn every_rule_file_that_is_shipped_or_shown_is_valid() {
    let (_, schema) = schema();
    let mut tried = 0;
    let mut valid = |name: &str, text: &str| {
        let found = wrong(&schema, text);
        assert!(found.is_empty(), "{name}: {text}\n{}", found.join("\n"));
        tried += 1;
    };
    for folder in ["rules", "tests/replay"] {
        for entry in std::fs::read_dir(here().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            if text.lines().any(|line| line.starts_with("- variant")) {
                valid(&path.display().to_string(), &text);
            }
        }
    }
    for document in DOCUMENTS {
        for block in blocks(&read(document), "yaml").iter().filter(|b| b.starts_with("- variant")) {
            valid(document, block);
        }
    }
    assert!(tried >= 15, "only {tried} rule files were found");
}

#[test]
fn the_schema_knows_every_key_of_the_parser_and_no_other() {
    let (schema, _) = schema();
    for (kind, keys) in [("variant", &keys::VARIANT[..]), ("rule", &keys::RULE[..])] {
        let properties = schema["$defs"][kind]["properties"].as_object().unwrap();
        let mut wanted = keys::names(keys);
        wanted.sort_unstable();
        assert_eq!(properties.keys().collect::<Vec<_>>(), wanted);
        assert_eq!(schema["$defs"][kind]["additionalProperties"], false);
        for (name, property) in properties {
            assert!(property["description"].as_str().is_some_and(|text| text.len() > 15), "{name}");
        }
    }
}

/// Values that a person may write for a key: good ones, the ends of its range, and what lies just beyond.
fn probes(key: &Key) -> Vec<Value> {
    let mut values = vec![
        Value::Null,
        json!(""),
        json!(" "),
        json!("a b"),
        json!("a"),
        json!("Ä_1.x-y"),
        json!("x".repeat(100)),
        json!("x".repeat(101)),
        json!("x".repeat(201)),
        json!("yes"),
        json!("OFF"),
        json!("one"),
        json!("3m"),
        json!("1h 30 min"),
        json!("90s"),
        json!("120s"),
        json!("3x"),
        json!("-3m"),
        json!("faithfulness_1h < 0.92"),
        json!(true),
        json!(3),
        json!(3.5),
        json!(-3),
        json!(0),
        json!([]),
        json!(["a"]),
        json!({}),
    ];
    match key.form {
        Form::Choice(words) => {
            values.extend(words().into_iter().flat_map(|w| [json!(w), json!(w.to_uppercase())]))
        }
        Form::Whole(least, most) => values.extend([least - 1, least, most, most + 1].map(|n| json!(n))),
        Form::Rules => {
            values.extend([json!([{}]), json!([{"condition": "cost_1h > 1", "action": "notify"}])])
        }
        _ => {}
    }
    values
}

/// Whatever the parser accepts is valid; what only the parser can know is listed.
#[test]
fn the_schema_and_the_parser_agree() {
    let (_, schema) = schema();
    let (mut accepted, mut laxer) = (0, Vec::new());
    for (in_rule, key) in keys::VARIANT.iter().map(|k| (false, k)).chain(keys::RULE.iter().map(|k| (true, k)))
    {
        for value in probes(key) {
            let mut file = json!([{"variant": "a.b", "rules": [{"condition": "cost_1h > 1", "action": "notify", "by": "tier"}]}]);
            let entry = if in_rule { &mut file[0]["rules"][0] } else { &mut file[0] };
            entry[key.name] = value.clone();
            let text = file.to_string();
            let (parser, found) = (refused(&text), wrong(&schema, &text));
            if parser.is_empty() {
                assert!(found.is_empty(), "{text} is read, yet the schema says {found:?}");
                accepted += 1;
            } else if found.is_empty() {
                laxer.push(format!("{}: {value}", key.name));
            }
        }
    }
    assert!(accepted > 60, "{accepted}");
    // A span below its least, or not of whole minutes, cannot be told by a pattern; nor a condition that compares nothing.
    let known = ["for: \"90s\"", "dwell: \"90s\"", "by: null"];
    assert!(laxer.iter().all(|one| known.contains(&one.as_str())), "{laxer:?}");
}

#[test]
fn bad_rule_files_are_not_valid() {
    let (_, schema) = schema();
    let rule = |more: &str| {
        format!("- variant: a.b\n  rules: [{{ condition: cost_1h > 1, action: notify{more} }}]\n")
    };
    assert!(wrong(&schema, &rule("")).is_empty());
    for (text, at) in [
        (rule(", fro: 3m"), "/0/rules/0"),
        (rule(", for: 3"), "/0/rules/0/for"),
        (rule(", for: 3 weeks"), "/0/rules/0/for"),
        (rule(", by: planet"), "/0/rules/0/by"),
        (rule(", min_samples: 0"), "/0/rules/0/min_samples"),
        (rule(", min_samples: 2.5"), "/0/rules/0/min_samples"),
        (rule(", id: a b"), "/0/rules/0/id"),
        (rule(", page: 'no'"), "/0/rules/0/page"),
        (rule(", clear: 7"), "/0/rules/0/clear"),
        ("- variant: a.b\n  rules: []\n".to_owned(), "/0/rules"),
        ("- variant: a.b\n  rules: [{ condition: x }]\n".to_owned(), "/0/rules/0"),
        ("- variant: a b\n  rules: [{ condition: x, action: notify }]\n".to_owned(), "/0/variant"),
        ("- rules: [{ condition: x, action: notify }]\n".to_owned(), "/0"),
        ("variant: a.b\n".to_owned(), ""),
        ("[]\n".to_owned(), ""),
    ] {
        let found = wrong(&schema, &text);
        assert!(found.iter().any(|error| error.starts_with(&format!("{at}:"))), "{text}: {found:?}");
        assert!(!refused(&text).is_empty(), "{text}");
    }
}

#[test]
fn a_workflow_gets_one_annotation_per_finding() {
    let folder = tempfile::tempdir().unwrap();
    let text = "\
- variant: shop.v2
  rules:
    - { condition: cost_1h > 92%, action: rollback }
    - { condition: faithfulness_1h > 0.9, action: pause_rollout }
";
    std::fs::write(folder.path().join("r.yaml"), text).unwrap();
    let checked = rearguard(folder.path(), &[], &["check", "r.yaml", "--format", "github"]);
    assert_eq!(checked.code, 2);
    let lines: Vec<&str> = checked.out.lines().collect();
    assert_eq!(
        lines[1],
        "::error file=r.yaml,line=3,col=32,title=rearguard%3A this must be put right::something is missing after `%25`%0Ahelp: `%25` is the remainder; write `0.92`"
    );
    assert!(lines[0].starts_with("::warning file=r.yaml,line=1,col=12,"), "{lines:?}");
    assert!(lines[2].starts_with("::warning file=r.yaml,line=4,col=20,"), "{lines:?}");
    assert_eq!(
        (lines.len(), checked.err.as_str()),
        (3, "1 mistake found, 2 warnings; nothing was put in force\n")
    );
}

#[test]
fn recorded_events_tell_what_can_never_fire() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let event = |hour: usize, n: usize| {
        let metrics = if n == 0 { r#"{"cost": 1}"# } else { r#"{"faithfulness": 0.9, "cost": 1}"# };
        format!(
            "{{\"id\": \"{hour}-{n}\", \"ts\": \"2026-11-23T{hour:02}:{:02}:00Z\", \"variant\": \"a.v2\", \"metrics\": {metrics}}}\n",
            if n == 0 { 7 } else { 30 }
        )
    };
    let events: String = (0..9).flat_map(|hour| (0..200).map(move |n| event(hour, n))).collect();
    std::fs::write(path("events.jsonl"), format!("no event\n{events}")).unwrap();
    std::fs::write(path("none.jsonl"), "no event\n").unwrap();
    let rule = |text: &str| format!("    - {{ condition: {text}, action: notify }}\n");
    let rules =
        [rule("faithfulness_1h < 0.9"), rule("faithfulness_6h < 0.9"), rule("error_rate_1h > 0.1")].concat();
    std::fs::write(path("r.yaml"), format!("- variant: a.v2\n  rules:\n{rules}")).unwrap();
    let check = |more: &[&str]| {
        let arguments = ["check", "r.yaml", "--format", "github", "--runs", "1"];
        rearguard(folder.path(), &[], &[&arguments, more].concat())
    };
    let warned = |more: &[&str]| -> Vec<String> {
        let checked = check(more);
        assert_eq!(checked.code, 0, "{checked:?}");
        checked
            .out
            .lines()
            .filter_map(|line| Some(line.strip_prefix("::warning ")?.split("::").nth(1)?.to_owned()))
            .collect()
    };
    assert_eq!(warned(&[]), [""; 0]);
    let found = warned(&["--events", "events.jsonl"]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with(
        "`faithfulness_1h-notify` can never fire: `faithfulness_1h` has samples in at most one minute"
    ));
    assert!(found[1].starts_with("`error_rate_1h` is never known: no event of a.v2 carries `error`"));
    assert_eq!(warned(&["--events-per-minute", "1"]).len(), 2);
    assert_eq!(warned(&["--events-per-minute", "60"]).len(), 0);
    for (more, said) in [
        (&["--events", "none.jsonl"][..], "none.jsonl holds no event"),
        (&["--events", "away.jsonl"], "there is no such file"),
        (&["--events-per-minute", "0"], "is no number above 0"),
    ] {
        let ended = check(more);
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains(said), "{ended:?}");
    }
}

#[test]
fn the_document_says_what_check_says_of_its_example() {
    let document = read("docs/rules.md");
    let examples = blocks(&document, "yaml");
    let example = examples.iter().find(|block| block.contains("abstain_rate_1h > 0.30")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("r.yaml"), example).unwrap();
    let checked = rearguard(folder.path(), &[], &["check", "r.yaml", "--format", "json"]);
    let report: Value = serde_json::from_str(&checked.out).unwrap();
    let found: Vec<&str> =
        report["diagnostics"].as_array().unwrap().iter().filter_map(|d| d["message"].as_str()).collect();
    let shadow = "`abstain_rate_1h-pause` never does anything of its own";
    assert!(found.iter().any(|message| message.starts_with(shadow)), "{found:?}");
}

#[test]
fn explain_says_every_rule_in_sentences() {
    let said = rearguard(here(), &[], &["rules", "explain", "--config", "rearguard.example.yaml"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let text = said.out.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "Once a minute Rearguard looks at the answers of support-copilot.prompt-v18.",
        "When the mean of faithfulness over the last 1h is below 0.92, that is a breach.",
        "on 100 samples or more, in three minutes or more, and lasts for 3 minutes; or as soon as",
        "prove that the level has left the good side, whether or not the window is in breach yet (`confirm: either`).",
        "Then the share of ai.support-copilot.prompt-v18 is held where it is, and those who get notices are told (severity warning).",
        "That is over when the mean of faithfulness over the last 1h is at least 0.93 for 15 minutes, over the window and its last 5 minutes.",
        "ai.support-copilot.prompt-v18 serves control to everybody, an incident is opened (quality_regression), and the on-call is paged (severity critical). That stays so until a human re-arms the flag.",
        "is above 3 times that of the baseline, that is a breach. The baseline is support-copilot.prompt-v17",
        "cost_p95_1h > 0.05 is judged as > 0.05023 USD",
    ] {
        assert!(text.contains(part), "{part}\n{}", said.out);
    }
    let json = rearguard(here(), &[], &["rules", "explain", "rules", "--format", "json"]);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["rules"].as_array().unwrap().len(), 5);
}

#[test]
fn an_export_is_reproducible_and_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let write = |rules: &str| std::fs::write(folder.path().join("r.yaml"), rules).unwrap();
    let export = |more: &[&str]| {
        let arguments = [&["rules", "export", "r.yaml", "--at", "2026-11-23T10:00:00Z"], more].concat();
        rearguard(folder.path(), &[], &arguments)
    };
    write("- variant: shop.v2\n  rules: [{ condition: cost_1h > 1, action: rollback }]\n");
    let shown = export(&[]);
    assert_eq!((shown.code, shown.err.as_str()), (0, ""));
    let place = "ops/alerts/ai-rollback.yaml";
    assert_eq!(export(&["--output", place]).code, 0);
    let file = || std::fs::read_to_string(folder.path().join(place)).unwrap();
    assert_eq!(file(), shown.out);
    let data: Value = serde_saphyr::from_str(&shown.out).unwrap();
    assert_eq!((&data["format"], &data["promise_seconds"]), (&json!("rearguard.rules/1"), &json!(600)));
    assert_eq!(data["variants"][0]["rules"][0]["audit"]["seconds"], 448);

    for (rules, code) in [
        ("- variant: shop.v2\n  rules: [{ condition: cost_1h > 1, action: rollback, for: 9m }]\n", 1),
        ("- variant: shop.v2\n  rules: [{ condition: cost_1h > 1, action: rollbak }]\n", 2),
    ] {
        write(rules);
        let ended = export(&["--output", place]);
        assert_eq!((ended.code, ended.out.as_str()), (code, ""));
        assert!(ended.err.contains("r.yaml"), "{ended:?}");
        assert_eq!(file(), shown.out, "nothing is written over");
    }
    let nowhere = export(&["--output", "r.yaml/x"]);
    assert_eq!(nowhere.code, 2);
}
