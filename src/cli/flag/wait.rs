//! `--wait`: until a flip has been read back, or has failed.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::super::client::Client;
use super::super::output::{Format, Trouble, show, show_json};
use super::super::{FAILED, GOOD};
use crate::engine::input::FlipOutcome;
use crate::store::FlipState;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);

/// Looks at the decision that `answer` names until its flip has ended; `seconds` at the longest.
pub fn until_done(client: &Client, format: Format, answer: Value, seconds: u64) -> Result<u8, Trouble> {
    let id = answer["decision"].as_str().ok_or_else(|| client.stranger("no `decision`"))?;
    if format == Format::Human {
        show(&format!("{}\n", answer["done"].as_str().unwrap_or("asked for")))?;
    }
    let until = Instant::now() + Duration::from_secs(seconds);
    let state = loop {
        let found = client.get(&["v1", "decisions", id, "flip"], &[])?;
        let state: Option<FlipState> = Deserialize::deserialize(&found["flip"])
            .map_err(|error: serde_json::Error| client.stranger(&error.to_string()))?;
        let ended = state.as_ref().is_some_and(|state| state.outcome.is_some());
        if ended || Instant::now() >= until {
            break state;
        }
        sleep(EVERY);
    };
    let (good, text) = ending(state.as_ref(), seconds);
    match format {
        Format::Human => show(&format!("{text}\n"))?,
        Format::Json => {
            let mut answer = answer;
            answer["flip"] = serde_json::to_value(&state).unwrap_or_default();
            show_json(&answer)?;
        }
    }
    Ok(if good { GOOD } else { FAILED })
}

/// Whether it went well, and how it went in one line.
fn ending(state: Option<&FlipState>, seconds: u64) -> (bool, String) {
    let detail = |state: &FlipState| {
        let detail = state.detail.as_deref().or(state.last_error.as_deref()).unwrap_or_default();
        if detail.is_empty() { String::new() } else { format!(": {detail}") }
    };
    let Some(state) = state else {
        return (
            false,
            "NOTHING WAS FLIPPED: the decision has no flip; look at `rearguard flag show`".into(),
        );
    };
    match state.outcome {
        Some(FlipOutcome::Verified) => (true, format!("done, read back{}", detail(state))),
        Some(FlipOutcome::AlreadySafe) => (true, format!("it was so already, read back{}", detail(state))),
        Some(FlipOutcome::Superseded) => {
            (false, format!("LEFT ALONE, because a human stepped in{}", detail(state)))
        }
        Some(FlipOutcome::Failed | FlipOutcome::Expired) => {
            (false, format!("FAILED, ACT BY HAND AT THE PLATFORM{}", detail(state)))
        }
        None => (
            false,
            format!(
                "NOT CONFIRMED after {seconds} s and {} tries; tries go on{}",
                state.attempts,
                detail(state)
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_read_back_is_good() {
        let state = |outcome| FlipState {
            outcome,
            detail: None,
            attempts: 3,
            last_error: Some("503".into()),
            deadline: None,
            finished: None,
            undo: None,
        };
        for (outcome, good, says) in [
            (Some(FlipOutcome::Verified), true, "read back"),
            (Some(FlipOutcome::AlreadySafe), true, "already"),
            (Some(FlipOutcome::Superseded), false, "LEFT ALONE"),
            (Some(FlipOutcome::Failed), false, "FAILED"),
            (Some(FlipOutcome::Expired), false, "FAILED"),
            (None, false, "NOT CONFIRMED after 9 s and 3 tries; tries go on: 503"),
        ] {
            let (is_good, text) = ending(Some(&state(outcome)), 9);
            assert_eq!((is_good, text.contains(says)), (good, true), "{text}");
        }
        assert!(!ending(None, 9).0);
    }
}
