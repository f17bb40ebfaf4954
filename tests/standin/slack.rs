//! Slack's incoming webhook, as its documentation describes it: a message a second, `ok` in plain text.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Asked, Desk, Platform, text};

#[derive(Clone, Debug)]
pub struct Slack {
    path: String,
    pub said: Vec<String>,
    last: Option<Instant>,
}

impl Slack {
    pub fn new(path: &str) -> Self {
        Self { path: path.into(), said: Vec::new(), last: None }
    }
}

impl Platform for Slack {
    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        if asked.path != self.path {
            return (403, json!(format!("invalid_token {}", asked.path)));
        }
        let body = asked.body.clone().unwrap_or_default();
        if text(&body["text"], "text", 40_000).is_err() {
            return (400, json!("invalid_payload"));
        }
        if self.last.is_some_and(|last| last.elapsed() < Duration::from_millis(950)) {
            return (429, json!("rate_limited"));
        }
        self.last = Some(Instant::now());
        self.said.push(body["text"].as_str().unwrap().to_owned());
        (200, json!("ok"))
    }
}

impl Desk for Slack {
    fn open(&self) -> Vec<String> {
        self.said.clone()
    }

    fn rung(&self) -> usize {
        self.said.len()
    }
}
