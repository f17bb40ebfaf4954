//! Pages by a path that needs no database: straight to the page receivers, repeated at most every five minutes per key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::receiver::{Content, Notice, Receiver};
use crate::engine::output::{Message, MessageKind};
use crate::model::incident::Severity;
use crate::model::time::Timestamp;
use crate::telemetry::facts::GaveUp;
use crate::telemetry::record;

/// The same key is not sounded again before this (virtual time).
const QUIET: Duration = Duration::from_secs(300);

/// A siren that nobody heard is sounded again after this (virtual time).
const AGAIN: Duration = Duration::from_secs(20);

/// How long one receiver may take (real time).
const WITHIN: Duration = Duration::from_secs(5);

/// A last resort: what stops Rearguard from paging in the ordinary way is paged without it.
#[derive(Clone, Default)]
pub struct Siren {
    receivers: Vec<Arc<dyn Receiver>>,
    sounded: Arc<Mutex<BTreeMap<String, Timestamp>>>,
}

impl Siren {
    /// A siren that goes to these receivers, at once.
    pub fn new(receivers: Vec<Arc<dyn Receiver>>) -> Self {
        Self { receivers, sounded: Arc::default() }
    }

    /// Pages everybody it can; whether anybody took it. Quiet, and true, when the same key was sounded a moment ago.
    pub async fn sound(&self, key: &str, summary: &str, detail: &str, now: Timestamp) -> bool {
        if !self.due(key, now) {
            return true;
        }
        let notice = Notice {
            id: format!("{key}-{}", now.as_millis()),
            content: Content::Message(Box::new(Message {
                dedup_key: key.to_owned(),
                kind: MessageKind::Blind,
                severity: Severity::Critical,
                flag: None,
                variant: None,
                decision: None,
                incident: None,
                summary: summary.to_owned(),
                detail: detail.to_owned(),
                receiver: None,
                at: now,
            })),
            link: None,
            since: now,
            wakes: true,
            update: false,
            facts: None,
        };
        let mut taken = false;
        for receiver in &self.receivers {
            match receiver.tell(&notice, WITHIN).await {
                Ok(()) => taken = true,
                Err(failure) => record(&GaveUp {
                    what: "page without the database",
                    target: receiver.name(),
                    why: &failure.to_string(),
                }),
            }
        }
        if !taken && let Ok(mut sounded) = self.sounded.lock() {
            // Nobody heard it: try again soon, but do not hammer.
            sounded.insert(key.to_owned(), now - (QUIET - AGAIN));
        }
        taken
    }

    fn due(&self, key: &str, now: Timestamp) -> bool {
        let Ok(mut sounded) = self.sounded.lock() else {
            return true;
        };
        let quiet = sounded.get(key).is_some_and(|last| now.since(*last) < QUIET);
        if !quiet {
            sounded.insert(key.to_owned(), now);
        }
        !quiet
    }
}
