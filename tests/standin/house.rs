//! A team's own flag service, as docs/integrations/webhook-platform.md asks for one: signatures are checked, a write needs the version
//! that was read.

use rearguard::clock::Clock;
use rearguard::dispatch::client::Secret;
use rearguard::dispatch::pager::webhook::sign;
use serde_json::{Value, json};

use super::{Asked, Flags, Platform, SECRET, text};

#[derive(Clone, Debug)]
pub struct House {
    key: String,
    /// As the service shows it.
    pub flag: Value,
    changes: u64,
}

impl House {
    pub fn new(key: &str, flag: Value) -> Self {
        Self { key: key.into(), flag, changes: 0 }
    }

    fn signed(asked: &Asked) -> Result<(), String> {
        let header = |name: &str| asked.headers.get(name).cloned().ok_or_else(|| format!("no {name}"));
        let (stamp, signature) = (header("x-rearguard-timestamp")?, header("x-rearguard-signature")?);
        let mut signed = format!("{} {}\n", asked.method, asked.place()).into_bytes();
        signed.extend(&asked.bytes);
        let right = sign(&Secret::new(SECRET), &stamp, &signed).unwrap();
        let now = Clock::system().now().as_millis() / 1000;
        let fresh = stamp.parse::<i64>().is_ok_and(|at| (now - at).abs() <= 300);
        if signature == right && fresh { Ok(()) } else { Err("the signature is not right".into()) }
    }

    fn write(&mut self, action: &str, body: &Value) -> Result<(), (u16, String)> {
        let bad = |why: String| (422, why);
        text(&body["reason"], "reason", 500).map_err(bad)?;
        text(&body["by"], "by", 100).map_err(bad)?;
        if let Some(locked) = self.flag["locked"].as_str() {
            return Err((423, locked.to_owned()));
        }
        if body["version"] != self.flag["version"] {
            return Err((409, format!("the flag has version {}", self.flag["version"])));
        }
        match action {
            "pin" => {
                let control = body["control"].clone();
                if !self.flag["variants"].as_array().unwrap().contains(&control) {
                    return Err((422, format!("no variant {control}")));
                }
                self.flag["serving"] = json!([control]);
                self.flag["pinned"] = control;
            }
            "hold" => self.flag["moves"] = Value::Null,
            _ => return Err((404, "no such action".into())),
        }
        self.changes += 1;
        self.flag["version"] = json!(self.flag["version"].as_u64().unwrap() + 1);
        self.flag["changed"] = json!({"by": body["by"], "at": Clock::system().now().to_string()});
        Ok(())
    }
}

impl Flags for House {
    fn changes(&self) -> u64 {
        self.changes
    }
}

impl Platform for House {
    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        if let Err(why) = Self::signed(asked) {
            return (401, json!({ "error": why }));
        }
        let flag = format!("/flags/{}", self.key);
        let Some(rest) = asked.place().strip_prefix(&*flag) else {
            return (404, json!({"error": "no such flag"}));
        };
        match (&*asked.method, rest) {
            ("GET", "") => (200, self.flag.clone()),
            ("GET", "/serving") => (200, json!({"serving": self.flag["serving"], "revision": "r-1"})),
            ("POST", action) if action.starts_with('/') => {
                let body = asked.body.clone().unwrap_or_default();
                match self.write(&action[1..], &body) {
                    Ok(()) => (200, self.flag.clone()),
                    Err((status, why)) => (status, json!({ "error": why })),
                }
            }
            _ => (405, json!({"error": "no such method"})),
        }
    }
}
