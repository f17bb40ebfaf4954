//! Webhooks of the tests: the one behind Alertmanager, which shows what a human would have been told, and a signed one.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

/// How old a signature may be, as docs/incidents.md recommends it.
const FRESH: Duration = Duration::from_secs(300);

/// One request, and what it was answered.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    pub status: u16,
}

/// A listener on loopback that keeps every call.
#[derive(Clone)]
pub struct Hook {
    pub url: String,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Hook {
    /// One that takes everything.
    pub fn listen() -> Self {
        Self::answering(|_| 200)
    }

    /// One that takes what is signed with `secret` and answers 401 to the rest. The first message that comes is answered
    /// 500 at its first `failures` tries.
    pub fn signed(secret: &'static str, mut failures: u32) -> Self {
        let mut first = None;
        Self::answering(move |call| {
            if !is_signed(secret, call) {
                return 401;
            }
            let id = call.header("x-rearguard-id");
            if failures > 0 && first.get_or_insert_with(|| id.to_owned()) == id {
                failures -= 1;
                return 500;
            }
            204
        })
    }

    fn answering(mut answer: impl FnMut(&Call) -> u16 + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}/", listener.local_addr().expect("it is bound"));
        let hook = Self { url, calls: Arc::default() };
        let calls = Arc::clone(&hook.calls);
        // Ends with the test process.
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let Some(mut call) = read(&mut stream) else { continue };
                call.status = answer(&call);
                let head = format!(
                    "HTTP/1.1 {} Said\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                    call.status
                );
                // Before the answer, so that whoever has it finds the call here; a caller that has gone tries again.
                calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
                let _ = stream.write_all(head.as_bytes());
            }
        });
        hook
    }

    /// All calls so far, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The alerts told under this name and in this state ("firing", "resolved"), one per notification.
    pub fn told(&self, alertname: &str, status: &str) -> Vec<Value> {
        let alerts = self.calls().into_iter().flat_map(|call| {
            let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
            body["alerts"].as_array().cloned().unwrap_or_default()
        });
        alerts.filter(|a| a["labels"]["alertname"] == alertname && a["status"] == status).collect()
    }
}

impl Call {
    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What docs/incidents.md tells a receiver to do, before it parses anything.
fn is_signed(secret: &str, call: &Call) -> bool {
    let stamp = call.header("x-rearguard-timestamp");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let fresh = stamp.parse::<u64>().is_ok_and(|stamp| now.abs_diff(stamp) < FRESH.as_secs());
    let given =
        call.header("x-rearguard-signature").strip_prefix("v1=").and_then(|hex| hex::decode(hex).ok());
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length will do");
    mac.update(format!("{stamp}.").as_bytes());
    mac.update(&call.body);
    fresh && given.is_some_and(|given| mac.verify_slice(&given).is_ok())
}

fn read(stream: &mut TcpStream) -> Option<Call> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut request = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        if let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&request[..end]).into_owned();
            let pairs = head.lines().filter_map(|line| line.split_once(": "));
            let headers: BTreeMap<String, String> =
                pairs.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
            // A GET has none.
            let length: usize = headers.get("content-length").map_or(Some(0), |n| n.parse().ok())?;
            let body = &request[end + 4..];
            if body.len() >= length {
                return Some(Call { headers, body: body.to_vec(), status: 0 });
            }
        }
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&chunk[..read]);
    }
}
