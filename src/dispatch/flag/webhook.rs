//! A flag service of one's own: a small contract that it implements, for everything that has no adapter.
//!
//! `docs/integrations/webhook-platform.md` is the contract. Four requests, all signed as webhooks of messages are: read the flag, pin
//! control, hold the share, and ask what is served. Writes name the version that was read and the service refuses them (409 or
//! 412) when the flag has another one, so that nothing that a human writes in between is lost.

use reqwest::Method;
use serde_json::{Value, json};

use super::Result;
use super::vendor::{
    Auth, Call, Change, Meaning, Plane, State, Vendor, Verdict, answer, fingerprint, meaning, odd, segment,
    text,
};
use crate::dispatch::failure::Failure;
use crate::model::time::Timestamp;

/// Whom the service is told that Rearguard's writes are by.
pub const WRITER: &str = "rearguard";

/// One flag.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    pub key: String,
    pub control: String,
    pub treatment: String,
}

impl Vendor for Webhook {
    fn auth(&self, _: Plane) -> Auth {
        Auth::Signed
    }

    fn read(&self) -> Vec<Call> {
        vec![Call::get(Plane::Admin, self.path(""))]
    }

    fn state(&self, answers: &[Value]) -> Result<State> {
        let flag = self.flag(answers)?;
        let serving = serving(flag)?;
        let safe = !serving.contains(&&*self.treatment);
        Ok(State {
            version: fingerprint(&flag["version"]),
            safe,
            pinned: flag["pinned"] == self.control.as_str() && safe,
            share: None,
            locked: text(flag, "locked"),
            moves: None,
            last_change: Some(Change {
                by: text(&flag["changed"], "by"),
                at: flag["changed"]["at"].as_str().and_then(Timestamp::parse),
            }),
        })
    }

    fn pin(&self, answers: &[Value], note: &str) -> Result<Vec<Call>> {
        if self.state(answers)?.pinned {
            return Ok(Vec::new());
        }
        Ok(vec![self.write("/pin", self.flag(answers)?, &json!({"control": self.control, "reason": note}))])
    }

    fn freeze(&self, answers: &[Value]) -> Result<Vec<Call>> {
        let flag = self.flag(answers)?;
        Ok(match text(flag, "moves") {
            Some(moves) => {
                vec![self.write("/hold", flag, &json!({"reason": format!("Rearguard; it moved: {moves}")}))]
            }
            None => Vec::new(),
        })
    }

    fn evaluation(&self) -> Vec<Call> {
        vec![Call::get(Plane::Evaluation, self.path("/serving"))]
    }

    fn judge(&self, answers: &[Value]) -> Result<Verdict> {
        let answer = answer(answers, 0, "list of what is served")?;
        Ok(match serving(answer)?.contains(&&*self.treatment) {
            true => Verdict::Exposed { by: format!("`{}` is among what is served", self.treatment) },
            false => Verdict::Clear { revision: text(answer, "revision") },
        })
    }

    fn meaning(&self, status: u16, body: &str) -> Meaning {
        // WebDAV's 423 Locked (RFC 4918 §11.3): somebody else has to agree.
        if status == 423 { Meaning::Approval } else { meaning(status, body) }
    }

    fn undo(&self, web: &str) -> String {
        format!("{}/{}", web.trim_end_matches('/'), segment(&self.key))
    }
}

impl Webhook {
    fn path(&self, action: &str) -> String {
        format!("/flags/{}{action}", segment(&self.key))
    }

    fn write(&self, action: &str, flag: &Value, what: &Value) -> Call {
        let mut body = what.clone();
        body["version"] = flag["version"].clone();
        body["by"] = WRITER.into();
        Call::write(Method::POST, self.path(action), body)
    }

    fn flag<'a>(&self, answers: &'a [Value]) -> Result<&'a Value> {
        let flag = answer(answers, 0, "flag")?;
        if !(flag["version"].is_string() || flag["version"].is_number()) {
            return Err(odd("the answer has no `version`, a text or a number"));
        }
        let variants = strings(flag, "variants")?;
        for name in [&self.control, &self.treatment] {
            if !variants.contains(&&**name) {
                let why =
                    format!("flag `{}` has no variant `{name}`, it has {}", self.key, variants.join(", "));
                return Err(Failure::permanent(why));
            }
        }
        Ok(flag)
    }
}

/// The variants that some context gets now.
fn serving(value: &Value) -> Result<Vec<&str>> {
    let serving = strings(value, "serving")?;
    if serving.is_empty() {
        // Nothing served is the caller's own default: nobody knows which.
        return Err(odd("`serving` is empty: what does a caller get then?"));
    }
    Ok(serving)
}

fn strings<'a>(value: &'a Value, key: &str) -> Result<Vec<&'a str>> {
    let list = value[key].as_array().map(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    list.flatten().ok_or_else(|| odd(format!("the answer has no `{key}`, a list of texts")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag() -> Webhook {
        Webhook { key: "ai.a".into(), control: "v1".into(), treatment: "v2".into() }
    }

    fn shown(more: &Value) -> Vec<Value> {
        let mut flag =
            json!({"version": 7, "variants": ["v1", "v2"], "serving": ["v1", "v2"], "pinned": null});
        for (key, value) in more.as_object().unwrap() {
            flag[key] = value.clone();
        }
        vec![flag]
    }

    #[test]
    fn a_pin_names_the_version_and_ends_when_control_is_pinned() {
        let calls = flag().pin(&shown(&json!({})), "Rearguard, d-1").unwrap();
        let body = json!({"control": "v1", "reason": "Rearguard, d-1", "version": 7, "by": "rearguard"});
        assert_eq!((&*calls[0].path, calls[0].body.as_ref()), ("/flags/ai.a/pin", Some(&body)));
        let pinned = shown(&json!({"pinned": "v1", "serving": ["v1"]}));
        assert!(flag().pin(&pinned, "").unwrap().is_empty());
        // Off for all, or a kill: safe, and still to be pinned.
        let safe = shown(&json!({"serving": ["v1"]}));
        let state = flag().state(&safe).unwrap();
        assert!(state.safe && !state.pinned);
        // A service that says pinned and serves the treatment lies.
        assert!(!flag().state(&shown(&json!({"pinned": "v1"}))).unwrap().pinned);
    }

    #[test]
    fn a_share_is_held_only_if_it_moves() {
        assert!(flag().freeze(&shown(&json!({}))).unwrap().is_empty());
        let calls = flag().freeze(&shown(&json!({"moves": "10 % an hour"}))).unwrap();
        assert_eq!(calls[0].path, "/flags/ai.a/hold");
    }

    #[test]
    fn answers_that_say_nothing_are_refused() {
        for (broken, why) in [
            (json!({"version": null}), "no `version`"),
            (json!({"variants": "v1"}), "no `variants`, a list of texts"),
            (json!({"variants": ["v1", "v3"]}), "has no variant `v2`, it has v1, v3"),
            (json!({"serving": []}), "`serving` is empty"),
            (json!({"serving": [1]}), "no `serving`, a list of texts"),
        ] {
            let failure = flag().state(&shown(&broken)).unwrap_err();
            assert!(failure.to_string().contains(why), "{broken}: {failure}");
        }
        assert!(flag().judge(&[json!([])]).is_err());
    }
}
