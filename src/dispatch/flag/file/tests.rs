//! Flag files on a real disk: what a flip leaves behind, and what faults of file and folder come to.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::super::{flagd::Flagd, goff::GoFeatureFlag};
use super::*;

const WITHIN: Duration = Duration::from_secs(10);

const FLAGD: &str = r#"{
  "$schema": "https://flagd.dev/schema/v0/flags.json",
  "flags": {
    "other": { "state": "ENABLED",  "variants": {"on": true}, "defaultVariant": "on", "targeting": {} },
    "prompt": {
      "state": "DISABLED",
      "variants": { "v17": "v17", "v18": "v18" },
      "defaultVariant": "v18",
      "targeting": { "fractional": [["v17", 50], ["v18", 50]] }
    }
  }
}
"#;

const GOFF: &str = "# ours\nother:\n  variations: { a: 1, b: 2 }\n  defaultRule: { percentage: { a: 50, b: 50 } }\n\nprompt:\n  variations:\n    v17: v17\n    v18: v18\n  bucketingKey: team\n  targeting:\n    - query: plan eq \"pro\"\n      variation: v18\n  defaultRule:\n    percentage:\n      v17: 90\n      v18: 10\n  experimentation:\n    start: 2026-01-01T00:00:00Z\n    end: 2026-02-01T00:00:00Z\n";

struct Bench {
    folder: tempfile::TempDir,
    platform: FlagFile,
}

impl Bench {
    fn new(name: &str, text: &str, dialect: Box<dyn Dialect>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let platform = FlagFile::new("prod".into(), path, dialect).unwrap();
        Self { folder, platform }
    }

    fn flagd() -> Self {
        Self::new("flags.json", FLAGD, Box::new(Flagd { ask: None }))
    }

    fn goff(text: &str) -> Self {
        Self::new("flags.yaml", text, Box::new(GoFeatureFlag { relay: None }))
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.platform.path).unwrap()
    }

    /// Read, write, read back: the detail of the read-back.
    async fn flip(&self, wanted: &Wanted) -> Result<String> {
        let seen = self.platform.read(wanted, WITHIN).await?;
        assert!(!seen.done, "{seen:?}");
        self.platform.write(wanted, &seen.version, Timestamp::from_millis(0), WITHIN).await?;
        self.platform.verify(wanted, WITHIN).await
    }
}

fn wanted(flip: Flip) -> Wanted {
    let served = Served {
        platform: "prod".into(),
        kind: "flagd".into(),
        key: "prompt".into(),
        id: None,
        control: "v17".into(),
        treatment: "v18".into(),
        worst: Duration::from_secs(35),
    };
    Wanted { flip, served: Some(served), since: Timestamp::from_millis(0) }
}

fn pin() -> Wanted {
    wanted(Flip::Pin {
        decision: "d".into(),
        flag: "ai.prompt".into(),
        scope: Scope::All,
        control: "shop.v17".into(),
        by: None,
    })
}

#[tokio::test]
async fn flagd_serves_control_to_everybody_and_the_rest_is_untouched() {
    let bench = Bench::flagd();
    let detail = bench.flip(&pin()).await.unwrap();
    assert_eq!(detail, "the file gives `v17` to everybody; flagd itself was not asked");
    let text = bench.text();
    let (around, _) = FLAGD.split_once("      \"state\": \"DISABLED\"").unwrap();
    assert!(text.starts_with(around) && text.ends_with("\n    }\n  }\n}\n"), "{text}");
    let flags: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        flags["flags"]["prompt"],
        json!({"state": "ENABLED", "variants": {"v17": "v17", "v18": "v18"}, "defaultVariant": "v17"})
    );
    let mode = fs::metadata(&bench.platform.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(fs::read_dir(bench.folder.path()).unwrap().count(), 1, "no temporary file is left");
    let again = bench.platform.read(&pin(), WITHIN).await.unwrap();
    assert!(again.done && again.safe);
}

#[tokio::test]
async fn go_feature_flag_serves_control_to_everybody_and_the_rest_is_untouched() {
    let bench = Bench::goff(GOFF);
    let seen = bench.platform.read(&pin(), WITHIN).await.unwrap();
    let undo: Value = serde_json::from_str(&seen.undo.unwrap()).unwrap();
    assert_eq!(undo["defaultRule"]["percentage"]["v17"], 90.0);
    bench.flip(&pin()).await.unwrap();
    let (around, _) = GOFF.split_once("  bucketingKey").unwrap();
    assert_eq!(bench.text(), format!("{around}  defaultRule: {{\"variation\":\"v17\"}}\n"));
}

#[tokio::test]
async fn a_link_stays_a_link_and_its_file_is_replaced() {
    let bench = Bench::flagd();
    let link = bench.folder.path().join("link.json");
    std::os::unix::fs::symlink(&bench.platform.path, &link).unwrap();
    let linked = FlagFile::new("prod".into(), link.clone(), Box::new(Flagd { ask: None })).unwrap();
    let seen = linked.read(&pin(), WITHIN).await.unwrap();
    linked.write(&pin(), &seen.version, Timestamp::from_millis(0), WITHIN).await.unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(bench.platform.read(&pin(), WITHIN).await.unwrap().done);
}

#[tokio::test]
async fn a_share_that_moves_by_itself_cannot_be_held_and_any_other_needs_no_holding() {
    let freeze = wanted(Flip::Freeze { decision: "d".into(), flag: "ai.prompt".into(), by: None });
    assert!(Bench::goff(GOFF).platform.read(&freeze, WITHIN).await.unwrap().done);
    let moving = format!("{GOFF}  scheduledRollout: []\n");
    let refused = Bench::goff(&moving).platform.read(&freeze, WITHIN).await.unwrap_err();
    assert!(refused.is_permanent() && refused.to_string().contains("scheduledRollout"), "{refused}");
}

#[tokio::test]
async fn what_stands_in_the_way_has_its_kind() {
    let bench = Bench::flagd();
    let version = bench.platform.read(&pin(), WITHIN).await.unwrap().version;
    let write = async || bench.platform.write(&pin(), &version, Timestamp::from_millis(0), WITHIN).await;

    let other = FLAGD.replace("\"on\": true", "\"on\": false");
    fs::write(&bench.platform.path, &other).unwrap();
    assert_eq!(write().await.unwrap_err().result(), "conflict");
    assert_eq!(bench.text(), other, "a conflict writes nothing");

    for (text, kind, why) in [
        ("{\"flags\": {", "retryable", "not valid JSON"),
        ("{\"flags\": {\"prompts\": {}}}", "permanent", "did you mean `prompts`?"),
        ("{\"flags\": {\"prompt\": {\"variants\": {\"v16\": 1}}}}", "permanent", "no variation `v17`"),
    ] {
        fs::write(&bench.platform.path, text).unwrap();
        let failure = bench.platform.read(&pin(), WITHIN).await.unwrap_err();
        assert_eq!(failure.result(), kind, "{failure}");
        assert!(failure.to_string().contains(why), "{failure}");
    }

    let mut slice = pin();
    if let Flip::Pin { scope, .. } = &mut slice.flip {
        *scope = Scope::Only(crate::model::flag::Dimension::Tenant, "acme".into());
    }
    fs::write(&bench.platform.path, FLAGD).unwrap();
    assert_eq!(bench.platform.read(&slice, WITHIN).await.unwrap_err().result(), "permanent");

    fs::remove_file(&bench.platform.path).unwrap();
    assert_eq!(bench.platform.read(&pin(), WITHIN).await.unwrap_err().result(), "retryable");
    assert_eq!(write().await.unwrap_err().result(), "retryable");
}

#[test]
fn faults_of_the_disk_have_their_kind() {
    for (kind, expected) in [
        (ErrorKind::PermissionDenied, "permanent"),
        (ErrorKind::ReadOnlyFilesystem, "permanent"),
        (ErrorKind::StorageFull, "retryable"),
        (ErrorKind::NotFound, "retryable"),
    ] {
        assert_eq!(failure("writing", Path::new("f"), &kind.into()).result(), expected, "{kind:?}");
    }
}
