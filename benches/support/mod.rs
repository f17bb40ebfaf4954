//! What the ingest benches share: events of a realistic shape, and the CPU time of this process.

use std::fmt::Write;
use std::sync::Arc;

use rearguard::engine::schema::Schema;
use rearguard::model::metric::Catalogue;
use rearguard::model::time::Timestamp;

/// The first event's time.
pub const START: i64 = 1_763_856_000_000;
/// Event time that the events span: more than the longest window.
pub const SPAN_MS: i64 = 7 * 3_600_000;
const TENANTS: u64 = 1_000;

/// Deterministic pseudo-random numbers (SplitMix64).
pub fn mixed(n: u64) -> u64 {
    let z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Writes event `n` of `total` into `out`; returns its tenant, the key.
pub fn write_event(out: &mut String, n: u64, total: u64, variants: u64) -> u64 {
    let random = mixed(n);
    // Skewed: small tenant numbers are more frequent, so partitions are uneven.
    let tenant = (random % TENANTS).min((random >> 32) % TENANTS);
    let jitter = (random >> 16) % 4_000;
    let at = START + (n as i128 * i128::from(SPAN_MS) / i128::from(total)) as i64 + jitter as i64;
    let (latency, ttft) = (300 + (random >> 20) % 2_400, 80 + (random >> 28) % 400);
    let (cost, score) = ((random >> 36) % 9_000, (random >> 44) % 1_000);
    let region = ["eu-central-1", "us-east-1", "ap-south-1"][(random >> 50) as usize % 3];
    out.clear();
    let _ = write!(
        out,
        r#"{{"id":"gen_{:016x}{:06x}","ts":"{}","variant":"support-copilot.prompt-v{}","tenant":"tenant-{tenant:04}","tier":"{}","region":"{region}","unit":"user-{:08}","metrics":{{"latency":{latency},"ttft":{ttft},"cost":0.0{cost:04},"faithfulness":0.{score:03}}}}}"#,
        random,
        n & 0xff_ffff,
        Timestamp::from_millis(at),
        (random >> 8) % variants,
        if tenant < 50 { "enterprise" } else { "pro" },
        random % 10_000_000,
    );
    tenant
}

/// A schema of the variants that the events name.
#[allow(dead_code, reason = "replays make their own of their rules")]
pub fn schema(variants: u64) -> Arc<Schema> {
    let mut schema = Schema::new(Arc::new(Catalogue::default()));
    for variant in 0..variants {
        schema.add_variant(&format!("support-copilot.prompt-v{variant}").into());
    }
    Arc::new(schema)
}

/// CPU seconds of this process, all threads, user and system: what getrusage(RUSAGE_SELF) reports, in ticks of 10 ms.
#[allow(dead_code, reason = "only one of the benches measures itself")]
pub fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|f| f.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}
