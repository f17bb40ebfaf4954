//! The webhook behind Alertmanager: what a human would have been told.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// A listener on loopback that keeps the body of every call.
#[derive(Clone)]
pub struct Hook {
    pub url: String,
    calls: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    pub fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}/", listener.local_addr().expect("it is bound"));
        let hook = Self { url, calls: Arc::default() };
        let calls = Arc::clone(&hook.calls);
        // Ends with the test process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(body) = answer(stream) {
                    calls.lock().unwrap_or_else(PoisonError::into_inner).push(body);
                }
            }
        });
        hook
    }

    /// The alerts told under this name and in this state ("firing", "resolved"), one per notification.
    pub fn told(&self, alertname: &str, status: &str) -> Vec<Value> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let alerts = calls.iter().flat_map(|call| call["alerts"].as_array().cloned().unwrap_or_default());
        alerts.filter(|a| a["labels"]["alertname"] == alertname && a["status"] == status).collect()
    }
}

fn answer(mut stream: TcpStream) -> Option<Value> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut request = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        let end = request.windows(4).position(|w| w == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
            let body = &request[end + 4..];
            if body.len() >= length.trim().parse::<usize>().ok()? {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .ok()?;
                return serde_json::from_slice(body).ok();
            }
        }
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&chunk[..read]);
    }
}
