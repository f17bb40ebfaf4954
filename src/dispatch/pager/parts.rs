//! What the adapters of paging services have in common: keys, lengths, details, answers.

use std::collections::BTreeMap;

use reqwest::Url;
use serde_json::Value;

use crate::dispatch::failure::Failure;
use crate::dispatch::receiver::{Content, Notice, State};
use crate::engine::output::{Message, MessageKind};

/// What is opened and closed at a paging service for one message.
///
/// An open incident takes further events under its key without ringing again, and keeps its first title. So ROLLBACK FAILED has a
/// key of its own, derived from the one key, and ends what stood there before: at any time one incident is open, and this one
/// rings. A rollback that gets through after all opens the first key anew and ends the other. A resolution ends both.
#[derive(Debug, PartialEq, Eq)]
pub struct Keys {
    pub open: Option<String>,
    pub close: Vec<String>,
}

impl Keys {
    /// The keys of a message, each of at most `most` bytes. `update`: an earlier state of it has been told, maybe a failure.
    pub fn of(message: &Message, most: usize, update: bool) -> Self {
        let plain = key(&message.dedup_key, most);
        let failed = key(&format!("{}/failed", message.dedup_key), most);
        match (State::of(message.kind), message.kind) {
            (State::Resolved, _) => Self { open: None, close: vec![plain, failed] },
            (State::Firing, MessageKind::RollbackFailed) => Self { open: Some(failed), close: vec![plain] },
            (State::Firing, MessageKind::Rollback | MessageKind::Superseded) if update => {
                Self { open: Some(plain), close: vec![failed] }
            }
            (State::Firing, _) => Self { open: Some(plain), close: Vec::new() },
        }
    }

    /// All that may be open for a message.
    pub fn all(message: &Message, most: usize) -> Vec<String> {
        [message.dedup_key.clone(), format!("{}/failed", message.dedup_key)]
            .map(|text| key(&text, most))
            .into()
    }

    /// How many calls they take.
    pub fn calls(&self) -> u32 {
        u32::try_from(self.close.len() + usize::from(self.open.is_some())).unwrap_or(u32::MAX)
    }
}

/// A key that fits; one that is too long ends in its hash, so that different ones stay different.
pub fn key(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let hash = &blake3::hash(text.as_bytes()).to_hex()[..16];
    let kept = text.floor_char_boundary(most.saturating_sub(hash.len() + 1));
    format!("{}#{hash}", &text[..kept])
}

/// A text of at most `most` bytes, cut between characters.
pub fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let kept = text.floor_char_boundary(most.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..kept])
}

/// The message of a notice, for services that have no place for decisions.
pub fn message<'a>(notice: &'a Notice, service: &str) -> Result<&'a Message, Failure> {
    match &notice.content {
        Content::Message(message) => Ok(message),
        Content::Decision(_) => Err(Failure::permanent(format!(
            "{service} takes messages; publish decisions to a webhook or a topic"
        ))),
    }
}

/// Names and values that people and routing rules at the service can use.
pub fn details(notice: &Notice, message: &Message) -> BTreeMap<&'static str, String> {
    let mut details = BTreeMap::from([
        ("key", message.dedup_key.clone()),
        ("kind", message.kind.as_str().to_owned()),
        ("severity", message.severity.as_str().to_owned()),
        ("wakes", notice.wakes.to_string()),
        ("since", notice.since.to_string()),
    ]);
    for (name, value) in [
        ("flag", message.flag.as_ref().map(ToString::to_string)),
        ("variant", message.variant.as_ref().map(ToString::to_string)),
        ("incident", message.incident.as_ref().map(ToString::to_string)),
    ] {
        details.extend(value.map(|value| (name, value)));
    }
    let Some(facts) = &notice.facts else { return details };
    for (name, value) in [
        ("rule", Some(&facts.rule)),
        ("failure_class", Some(&facts.failure_class)),
        ("scope", Some(&facts.scope)),
        ("measured", Some(&facts.measured)),
        ("interval", facts.interval.as_ref()),
        ("samples", Some(&facts.samples)),
        ("tenants", Some(&facts.tenants)),
        ("done", Some(&facts.done)),
        ("owner", facts.owner.as_ref()),
        ("runbook", facts.runbook.as_ref()),
    ] {
        details.extend(value.map(|value| (name, value.clone())));
    }
    details
}

/// An address below `base`.
pub fn endpoint(base: &Url, path: &[&str]) -> Result<Url, Failure> {
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| Failure::permanent("the address cannot have a path"))?
        .pop_if_empty()
        .extend(path);
    Ok(url)
}

/// A JSON body.
pub fn body(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// A text of a service's answer. What is between Rearguard and the service may say 200 as well, so an answer without it is none.
pub fn answered(body: &[u8], field: &str, service: &str) -> Result<String, Failure> {
    let answer: Option<Value> = serde_json::from_slice(body).ok();
    let text = answer.as_ref().and_then(|answer| answer.pointer(field)).and_then(Value::as_str);
    text.map(str::to_owned)
        .ok_or_else(|| Failure::retryable(format!("taken, but the answer is not {service}'s: no `{field}`")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dispatch::fake::notice;

    fn of(kind: MessageKind) -> Keys {
        Keys::of(message(&notice(kind), "x").unwrap(), 255, false)
    }

    #[test]
    fn a_failed_rollback_rings_anew_and_a_resolution_ends_all() {
        let plain = of(MessageKind::Rollback).open.unwrap();
        let failed = of(MessageKind::RollbackFailed);
        assert_eq!(failed.close, std::slice::from_ref(&plain));
        assert_ne!(failed.open.as_ref(), Some(&plain));
        let failed = failed.open.unwrap();
        let after_all = Keys::of(message(&notice(MessageKind::Rollback), "x").unwrap(), 255, true);
        assert_eq!((after_all.open.as_ref(), &*after_all.close), (Some(&plain), &[failed.clone()][..]));
        assert_eq!(of(MessageKind::Resolved).close, [plain.clone(), failed.clone()]);
        assert_eq!(of(MessageKind::Resolved).open, None);
        assert_eq!(
            Keys::all(message(&notice(MessageKind::Acknowledged), "x").unwrap(), 255),
            [plain, failed]
        );
    }

    proptest! {
        #![proptest_config(crate::testing::cases(64))]

        #[test]
        fn texts_and_keys_fit(text in ".{0,400}", other in ".{0,400}", most in 20_usize..300) {
            prop_assert!(cut(&text, most).len() <= most && key(&text, most).len() <= most);
            prop_assert_eq!(text.len() <= most, cut(&text, most) == text);
            prop_assert_eq!(key(&text, most) == key(&other, most), text == other);
        }
    }
}
