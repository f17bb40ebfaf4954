//! Rollbacks of flags in files, tried at noon: what could not be edited is told before it has to be.

use super::wiring::platform_kind;
use crate::config::Config;
use crate::dispatch::flag;
use crate::engine::rule::diagnostic::Diagnostic;

/// Flags whose file could not be edited. Doubts and no errors: the file is somebody else's, may be mended at any time, and must not
/// keep Rearguard from starting.
pub fn rehearse(config: &Config) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for spec in &config.flags {
        let Some(served) = &spec.served else { continue };
        let Some(platform) = config.platforms.get(&served.platform) else { continue };
        let Some(Err(failure)) = flag::rehearse(&platform_kind(&platform.kind), served) else { continue };
        let message = format!("`{}` could not be rolled back: {failure}", spec.key);
        let help =
            "until that is mended, a rollback of it would fail and page; `rearguard check` tries again";
        found.push(
            Diagnostic::whole_file(&config.path.display().to_string(), message).with_help(help).as_warning(),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const GOOD: &str = r#"{ "flags": { "prompt": { "state": "ENABLED", "variants": { "v17": 1, "v18": 2 }, "defaultVariant": "v18" } } }"#;

    fn found(folder: &std::path::Path, name: &str, text: Option<&str>) -> Vec<String> {
        let path = folder.join(name);
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        let kind = if name.ends_with("toml") { "gofeatureflag" } else { "flagd" };
        let config = format!(
            "kafka: {{ brokers: 'localhost:9092', topics: [t] }}\nplatforms: {{ prod: {{ {kind}: {{ path: '{}' }} }} }}\n\
             flags: {{ ai.x.v2: {{ control: x.v1, treatment: x.v2, platform: {{ name: prod, key: prompt, control: v17, treatment: v18 }} }} }}\n",
            path.display()
        );
        let config = Config::parse(&folder.join("r.yaml"), &config, &|_| None).unwrap();
        let found = rehearse(&config);
        assert!(found.iter().all(|one| !one.is_error() && one.help.is_some()));
        if let Some(text) = text {
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "nothing is written");
        }
        let beside = fs::read_dir(folder).unwrap().filter(|e| e.as_ref().unwrap().path() != path).count();
        assert_eq!(beside, 0, "nothing stays beside it");
        fs::remove_file(&path).ok();
        found.into_iter().map(|one| one.message).collect()
    }

    #[test]
    fn what_could_not_be_rolled_back_is_told_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let yaml = "flags:\n  prompt:\n    state: ENABLED\n    variants: { v17: a, v18: b }\n    defaultVariant: v18\n";
        let toml = "[prompt]\nvariations = { v17 = 1, v18 = 2 }\ndefaultRule = { variation = \"v18\" }\n";
        for (name, text) in [("f.json", GOOD), ("f.yaml", yaml), ("f.toml", toml)] {
            assert_eq!(found(folder.path(), name, Some(text)), [""; 0], "{name}");
        }
        let pinned = GOOD.replace("\"v18\" }", "\"v17\" }");
        assert_eq!(found(folder.path(), "f.json", Some(&pinned)), [""; 0], "already safe");
        let other = GOOD.replace("prompt", "promt");
        let no_control = GOOD.replace("v17", "v16");
        let shared = "x: &all { v17: a, v18: b }\nflags:\n  prompt: &p { state: ENABLED, variants: { v17: a, v18: b }, defaultVariant: v18 }\n  q: *p\n";
        for (name, text, said) in [
            ("f.json", None, "No such file"),
            ("f.json", Some(other.as_str()), "did you mean `promt`?"),
            ("f.json", Some(no_control.as_str()), "v17"),
            ("f.json", Some("{ \"flags\": "), "f.json: "),
            ("f.json", Some("{}"), "has no flag `prompt`"),
            ("f.yaml", Some(shared), "f.yaml: "),
        ] {
            let told = found(folder.path(), name, text);
            assert_eq!(told.len(), 1, "{text:?}");
            assert!(told[0].starts_with("`ai.x.v2` could not be rolled back: "), "{told:?}");
            assert!(told[0].contains(said), "{told:?}");
        }
    }
}
