//! Slack's incoming webhooks: a message in a channel. No pager: nothing rings, nobody is asked whether they saw it.
//!
//! A webhook takes one message a second, knows no repetition and cannot be read. So messages are spaced, and one that was taken is
//! not said again under its id; one whose answer was lost is, since a message twice is better than none. After a restart the
//! outbox, which knows what was taken, does the same.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;
use serde_json::json;

use super::parts::{self, cut};
use crate::dispatch::client::{Outbound, Request, Secret};
use crate::dispatch::failure::Failure;
use crate::dispatch::receiver::{Attempt, Notice, Receiver, State};
use crate::engine::output::{Message, MessageKind};

/// Between two messages, in real time.
const SPACING: Duration = Duration::from_secs(1);

/// How much a message may hold; Slack cuts longer ones into pieces.
const TEXT: usize = 3500;

/// How many messages are remembered as said.
const REMEMBERED: usize = 512;

/// A channel behind an incoming webhook.
pub struct Slack {
    name: String,
    outbound: Outbound,
    url: Url,
    /// What of the address must not be shown: whoever has it may write to the channel.
    hidden: [Secret; 2],
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    ids: VecDeque<String>,
    /// When the next message may leave.
    next: Option<Instant>,
}

impl Slack {
    /// A receiver at `url`, which has been checked against the allow-list.
    pub fn new(name: String, outbound: Outbound, url: Url) -> Self {
        let last = url.path().rsplit('/').next().unwrap_or_default();
        let hidden = [Secret::new(url.path().trim_matches('/')), Secret::new(last)];
        Self { name, outbound, url, hidden, said: Mutex::default() }
    }

    async fn say(&self, notice: &Notice, within: Duration) -> Result<(), Failure> {
        let message = parts::message(notice, "Slack")?;
        let Some(wait) = self.slot(&notice.id, within / 2)? else {
            return Ok(());
        };
        tokio::time::sleep(wait).await;
        let request = Request::post(self.url.clone(), parts::body(&json!({"text": text(notice, message)})));
        let answer = self.outbound.exchange(request, within - wait).await;
        let hide = |failure| self.hidden.iter().fold(failure, Failure::hiding);
        match answer.map_err(hide)?.trim_ascii() {
            b"ok" => {
                self.remember(&notice.id);
                Ok(())
            }
            _ => Err(Failure::retryable("taken, but the answer is not Slack's `ok`")),
        }
    }

    /// How long to wait before the message may leave; nothing if it was said. Fails if that is longer than `most`.
    fn slot(&self, id: &str, most: Duration) -> Result<Option<Duration>, Failure> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.ids.iter().any(|one| one == id) {
            return Ok(None);
        }
        let now = Instant::now();
        let at = said.next.map_or(now, |next| next.max(now));
        let wait = at - now;
        if wait > most {
            return Err(Failure::Retryable {
                after: Some(wait),
                why: "one message a second, and others are before it".into(),
            });
        }
        said.next = Some(at + SPACING);
        Ok(Some(wait))
    }

    fn remember(&self, id: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.ids.len() == REMEMBERED {
            said.ids.pop_front();
        }
        said.ids.push_back(id.to_owned());
    }
}

impl Receiver for Slack {
    fn name(&self) -> &str {
        &self.name
    }

    fn adapter(&self) -> &'static str {
        "slack"
    }

    fn tell<'a>(&'a self, notice: &'a Notice, within: Duration) -> Attempt<'a, ()> {
        Box::pin(self.say(notice, within))
    }
}

fn text(notice: &Notice, message: &Message) -> String {
    let state = match (message.kind, State::of(message.kind)) {
        (MessageKind::Acknowledged, _) => "acknowledged",
        (_, State::Firing) => message.severity.as_str(),
        (_, State::Resolved) => "resolved",
    };
    let link =
        notice.link.as_deref().map_or_else(String::new, |link| format!("\n<{}|Read more>", escape(link)));
    let body = format!("*[{state}] {}*\n{}", escape(&message.summary), escape(&message.detail));
    format!("{}{link}", cut(body.trim_end(), TEXT))
}

/// Slack's three characters of control: without them a text can mention nobody and hide no link.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::fake::notice;

    #[test]
    fn a_text_mentions_nobody() {
        let told = notice(MessageKind::Rollback);
        let mut message = parts::message(&told, "Slack").unwrap().clone();
        message.detail = "<!channel> a < b & c".into();
        let text = text(&told, &message);
        assert!(text.contains("&lt;!channel&gt; a &lt; b &amp; c"), "{text}");
        assert!(text.starts_with("*[critical] support-copilot") && text.ends_with("|Read more>"), "{text}");
    }
}
