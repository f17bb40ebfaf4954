use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A flag and what has happened to it.
#[derive(Clone)]
struct Flag {
    spec: FlagSpec,
    overlay: FlagOverlay,
}

impl Flag {
    fn evaluate(&self, context: &Context) -> Resolution {
        evaluate(&self.spec, &self.overlay, context)
    }
}

fn flag(share: u32) -> Flag {
    let spec = FlagSpec {
        key: "ai.support-copilot.prompt-v18".into(),
        control: "support-copilot.prompt-v17".into(),
        treatment: "support-copilot.prompt-v18".into(),
        share,
        frozen: false,
        served: None,
        drill: false,
    };
    Flag { spec, overlay: FlagOverlay::default() }
}

fn key(key: &str) -> Context {
    Context {
        targeting_key: Some(key.into()),
        tenant: Some("acme".into()),
        tier: Some("pro".into()),
        region: Some("eu".into()),
    }
}

fn pinned(scopes: &[Scope]) -> Flag {
    let mut flag = flag(SHARE_MAX);
    flag.overlay.pins = scopes.iter().cloned().collect::<BTreeSet<_>>();
    flag
}

/// The vectors of docs/flags.md, made with another implementation (Python's hashlib).
const VECTORS: [(&str, &str, u32); 6] = [
    ("ai.support-copilot.prompt-v18", "user-123", 959_937),
    ("ai.support-copilot.prompt-v18", "tenant-7/ünit", 296_391),
    ("a", "b", 488_777),
    ("ab", "", 802_930),
    ("a", "bc", 975_779),
    ("ai.search.rerank-v2", "user-123", 13_295),
];

#[test]
fn the_hash_is_the_documented_one() {
    let documentation = include_str!("../../../docs/flags.md");
    for (flag, key, expected) in VECTORS {
        assert_eq!(bucket(&flag.into(), key), expected, "{flag} {key}");
        let row = format!("| `{flag}` | `{key}` | {expected} |");
        let row = row.replace("| `` |", "| (empty) |");
        assert!(documentation.contains(&row), "docs/flags.md lacks the row {row}");
    }
}

proptest! {
    #[test]
    fn raising_a_share_moves_nobody_back(key_text in ".{1,40}", low in 0u32..=SHARE_MAX, more in 0u32..=SHARE_MAX) {
        let high = low.max(more);
        let before = flag(low).evaluate(&key(&key_text)).variant;
        let after = flag(high).evaluate(&key(&key_text)).variant;
        let treatment = "support-copilot.prompt-v18";
        prop_assert!(before != treatment || after == treatment);
    }

    #[test]
    fn a_pin_on_all_leaves_nobody_on_the_treatment(key_text in ".{0,40}", share in 0u32..=SHARE_MAX, held in proptest::option::of(0u32..=SHARE_MAX)) {
        let mut served = flag(share);
        served.overlay.frozen_share = held;
        served.overlay.pins.insert(Scope::All);
        prop_assert_eq!(served.evaluate(&key(&key_text)).variant, "support-copilot.prompt-v17");
    }
}

/// Two flags split the same 100,000 keys independently: the four cells of the 2 × 2 table follow the product of the margins
/// (χ² with one degree of freedom stays below 10.83, p = 0.001), and each share is met within four standard deviations.
#[test]
fn flags_split_independently_and_evenly() {
    for (left, right, share) in
        [("ai.a.1", "ai.a.2", 500_000), ("ai.search.v1", "ai.search.v2", 100_000), ("x", "y", 10_000)]
    {
        let (left, right) = (FlagKey::from(left), FlagKey::from(right));
        let mut cells = [[0f64; 2]; 2];
        let total = 100_000;
        for n in 0..total {
            let name = format!("seed-20240711-{n}");
            let a = usize::from(bucket(&left, &name) < share);
            let b = usize::from(bucket(&right, &name) < share);
            cells[a][b] += 1.0;
        }
        let n = f64::from(total);
        let chi: f64 = [(0, 0), (0, 1), (1, 0), (1, 1)]
            .iter()
            .map(|&(a, b)| {
                let row = cells[a][0] + cells[a][1];
                let column = cells[0][b] + cells[1][b];
                let expected = row * column / n;
                (cells[a][b] - expected).powi(2) / expected
            })
            .sum();
        assert!(chi < 10.83, "{left} and {right} depend on each other: χ² = {chi}");
        let p = f64::from(share) / f64::from(SHARE_MAX);
        let taken = cells[1][0] + cells[1][1];
        assert!((taken - n * p).abs() < 4.0 * (n * p * (1.0 - p)).sqrt());
    }
}

#[test]
fn every_state_answers_as_documented() {
    let tenant = |name: &str| Scope::Only(Dimension::Tenant, name.into());
    let killed = {
        let mut served = pinned(&[Scope::All]);
        served.overlay.killed = true;
        served
    };
    let frozen = |held, share| {
        let mut served = flag(share);
        served.overlay.frozen_share = Some(held);
        served
    };
    let (control, treatment) = ("support-copilot.prompt-v17", "support-copilot.prompt-v18");
    // user-123 has bucket 959,937.
    let table = [
        ("nobody", flag(0), control, Reason::Static),
        ("everybody", flag(SHARE_MAX), treatment, Reason::Static),
        ("below the share", flag(959_938), treatment, Reason::Split),
        ("at the share", flag(959_937), control, Reason::Split),
        ("killed", killed, OFF, Reason::Disabled),
        ("rolled back", pinned(&[Scope::All]), control, Reason::Static),
        ("own tenant rolled back", pinned(&[tenant("acme")]), control, Reason::TargetingMatch),
        ("other tenant rolled back", pinned(&[tenant("globex")]), treatment, Reason::Static),
        ("share raised while paused", frozen(0, SHARE_MAX), control, Reason::Static),
        ("share lowered while paused", frozen(SHARE_MAX, 0), control, Reason::Static),
    ];
    for (name, served, variant, reason) in table {
        let answer = served.evaluate(&key("user-123"));
        assert_eq!((answer.variant.as_str(), answer.reason), (variant, reason), "{name}");
    }
}

#[test]
fn an_incomplete_context_never_gets_the_treatment() {
    let nameless = flag(500_000).evaluate(&Context::default());
    assert_eq!(nameless.variant, "support-copilot.prompt-v17");
    assert!(nameless.key_missing && nameless.reason == Reason::Unknown);
    // Nothing depends on the key when everybody gets the same.
    assert!(!flag(SHARE_MAX).evaluate(&Context::default()).key_missing);

    let served = pinned(&[Scope::Only(Dimension::Region, "eu".into())]);
    let mut context = key("user-123");
    context.region = None;
    assert_eq!(served.evaluate(&context).variant, "support-copilot.prompt-v17");
    assert_eq!(
        served.evaluate(&context.within(&Scope::Only(Dimension::Region, "us".into()))).variant,
        "support-copilot.prompt-v18"
    );
}
