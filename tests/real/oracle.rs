//! What a correct system says, by brute force over everything that was produced.

use std::collections::BTreeMap;

use crate::producer::{PARTITIONS, partition_of};
use crate::timeline::{minute, text};

/// One good event.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: String,
    /// Virtual time, in milliseconds.
    pub at: i64,
    pub variant: String,
    pub tenant: String,
    pub metrics: Vec<(String, f64)>,
}

impl Event {
    /// As a gateway writes it.
    pub fn json(&self) -> String {
        let metrics: serde_json::Map<String, serde_json::Value> =
            self.metrics.iter().map(|(name, value)| (name.clone(), (*value).into())).collect();
        serde_json::json!({
            "id": self.id, "ts": text(self.at), "variant": self.variant, "tenant": self.tenant, "metrics": metrics,
        })
        .to_string()
    }
}

/// All values by variant, metric and minute, and all messages by partition.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    panes: BTreeMap<(String, String), BTreeMap<i64, (u64, f64)>>,
    pub sent: [u64; PARTITIONS as usize],
}

impl Oracle {
    pub fn add(&mut self, event: &Event) {
        for (metric, value) in &event.metrics {
            let panes = self.panes.entry((event.variant.clone(), metric.clone())).or_default();
            let pane = panes.entry(minute(event.at)).or_default();
            pane.0 += 1;
            pane.1 += value;
        }
        self.sent[partition_of(&event.tenant) as usize] += 1;
    }

    /// Samples and mean of the `width` minutes that end with `closed`.
    pub fn window(&self, variant: &str, metric: &str, closed: i64, width: i64) -> (u64, Option<f64>) {
        let Some(panes) = self.panes.get(&(variant.to_owned(), metric.to_owned())) else {
            return (0, None);
        };
        let (n, sum) = panes
            .range(closed - width + 1..=closed)
            .fold((0, 0.0), |(n, sum), (_, pane)| (n + pane.0, sum + pane.1));
        (n, (n > 0).then(|| sum / n as f64))
    }
}
