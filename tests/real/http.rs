//! A small blocking HTTP client for the tests' own requests.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::runtime::Runtime;

/// A client; a run-time of its own, so that scenarios stay plain functions.
pub struct Http {
    runtime: Runtime,
    client: reqwest::Client,
}

/// An answer; `body` is `Null` when it is no JSON, `text` is what came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    pub text: String,
}

impl Http {
    pub fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a run-time starts");
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(20))
            // A daemon that was killed leaves connections behind.
            .pool_max_idle_per_host(0)
            .build()
            .expect("a client can be made");
        Self { runtime, client }
    }

    /// One request; `None` when nobody answers.
    pub fn ask(&self, method: Method, url: &str, token: &str, body: Option<&Value>) -> Option<Answer> {
        self.runtime.block_on(async {
            let mut request = self.client.request(method, url);
            if !token.is_empty() {
                request = request.bearer_auth(token);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            let response = request.send().await.ok()?;
            let status = response.status().as_u16();
            let text = response.text().await.ok()?;
            Some(Answer { status, body: serde_json::from_str(&text).unwrap_or_default(), text })
        })
    }

    /// A POST of these very bytes and headers: the status of the answer, if any.
    pub fn post(&self, url: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Option<u16> {
        self.runtime.block_on(async {
            let request =
                headers.iter().fold(self.client.post(url), |r, (name, value)| r.header(*name, *value));
            Some(request.body(body).send().await.ok()?.status().as_u16())
        })
    }

    /// A GET without a token.
    pub fn get(&self, url: &str) -> Option<Answer> {
        self.ask(Method::GET, url, "", None)
    }

    /// Runs a future of the store's.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}
