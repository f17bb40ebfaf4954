//! The dead-man's switch: whether Rearguard can prove that it sees and acts, and the call that tells the switch so.
//!
//! [`doubts`] is pure: what is known comes in, reasons come out. A switch that does not answer holds nothing up: the call is
//! bounded in time and size, follows no redirect, and its failure is a value.

use std::time::Duration;

use reqwest::{Method, Url};

use super::client::{Outbound, Request, Secret};
use super::failure::Failure;
use crate::model::time::Timestamp;

/// A call to the switch may take this long (real time).
const WITHIN: Duration = Duration::from_secs(10);
/// The most that is read of its answer, in bytes.
const MOST: usize = 64 << 10;
/// A database that has taken no commit for this long (real time) holds everything up.
pub const COMMIT: Duration = Duration::from_secs(60);
/// A row of the outbox that has waited this long (virtual time) is stuck, as the alert `RearguardOutboxStuck` has it.
pub const OUTBOX: Duration = Duration::from_secs(120);

/// What is known about the daemon.
#[derive(Clone, Debug)]
pub struct Known {
    /// Virtual time.
    pub now: Timestamp,
    /// When the newest canary was written that a passing closing has in its panes.
    pub proven: Option<Timestamp>,
    /// What the canary's rule said if it did not pass.
    pub verdict: Option<String>,
    /// Why the last round of canaries was not written.
    pub not_sent: Option<String>,
    /// Why the engine does not act.
    pub blind: Option<String>,
    /// Since the last commit (real time); `None` before the first.
    pub committed: Option<Duration>,
    /// How long the oldest row that could be carried out waits; `Err` if the database does not say.
    pub outbox: Result<Duration, String>,
}

/// Why Rearguard cannot prove that it is well; nothing means it can. `fresh` is how old a proven canary may be.
pub fn doubts(known: &Known, fresh: Duration) -> Vec<String> {
    let mut doubts = Vec::new();
    doubts.extend(known.not_sent.as_ref().map(|why| format!("the canary could not be written: {why}")));
    // A canary from the future is no proof: the clock has jumped.
    match known.proven.map(|at| (at > known.now, known.now.since(at))) {
        None => doubts.push("no canary of this process has come back yet".to_owned()),
        Some((true, _)) => doubts.push("the clock stands before the last canary that came back".to_owned()),
        Some((false, age)) if age > fresh => doubts.push(format!(
            "the last canary that came back is {} s old, more than {} s",
            age.as_secs(),
            fresh.as_secs()
        )),
        Some((false, _)) => {}
    }
    doubts.extend(known.verdict.as_ref().map(|verdict| format!("the canary's rule says {verdict}")));
    doubts.extend(known.blind.as_ref().map(|why| format!("not armed: {why}")));
    match known.committed {
        None => doubts.push("nothing has been committed yet".to_owned()),
        Some(age) if age > COMMIT => {
            doubts.push(format!("the database has taken no commit for {} s", age.as_secs()));
        }
        Some(_) => {}
    }
    match &known.outbox {
        Err(why) => doubts.push(format!("the database does not say how the outbox stands: {why}")),
        Ok(age) if *age > OUTBOX => {
            doubts.push(format!("a flip or a page has been waiting for {} s", age.as_secs()));
        }
        Ok(_) => {}
    }
    doubts
}

/// The addresses of a switch, checked against the list of hosts.
#[derive(Clone)]
pub struct Deadman {
    outbound: Outbound,
    method: Method,
    url: Url,
    fail_url: Option<Url>,
}

impl Deadman {
    /// Checks the addresses.
    ///
    /// # Errors
    ///
    /// One that is none, or whose host is not allowed.
    pub fn open(
        outbound: &Outbound,
        post: bool,
        url: &Secret,
        fail_url: Option<&Secret>,
    ) -> Result<Self, Failure> {
        let fail_url = fail_url.map(|url| outbound.address(url.reveal())).transpose()?;
        let method = if post { Method::POST } else { Method::GET };
        Ok(Self { method, url: outbound.address(url.reveal())?, fail_url, outbound: outbound.clone() })
    }

    /// Whether there is anything to tell a switch while `doubts` are what they are.
    pub fn has_word(&self, doubts: &[String]) -> bool {
        doubts.is_empty() || self.fail_url.is_some()
    }

    /// Calls the switch, or with doubts the address for failures, with the reasons in the body.
    ///
    /// # Errors
    ///
    /// Any answer but a 2xx. What it says is not repeated: the address is a secret, and answers love to quote it.
    pub async fn call(&self, doubts: &[String]) -> Result<(), Failure> {
        let request = match (doubts, &self.fail_url) {
            ([], _) | (_, None) => Request { method: self.method.clone(), ..Request::get(self.url.clone()) },
            (doubts, Some(url)) => Request {
                method: Method::POST,
                headers: vec![("content-type", "text/plain; charset=utf-8".to_owned())],
                body: Some(doubts.join("\n").into_bytes()),
                ..Request::get(url.clone())
            },
        };
        let answer = self.outbound.ask(request, WITHIN, MOST).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(Failure::permanent(format!("answered {}", answer.status.as_u16())))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, Fault};
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_763_856_000_000);
    const FRESH: Duration = Duration::from_secs(300);

    fn seconds_ago(seconds: u64) -> Option<Timestamp> {
        Some(NOW - Duration::from_secs(seconds))
    }

    fn well() -> Known {
        Known {
            now: NOW,
            proven: seconds_ago(100),
            verdict: None,
            not_sent: None,
            blind: None,
            committed: Some(Duration::from_secs(3)),
            outbox: Ok(Duration::ZERO),
        }
    }

    #[test]
    fn every_doubt_is_told_on_its_own_and_all_together() {
        assert_eq!(doubts(&well(), FRESH), [""; 0]);
        let limits =
            Known { proven: seconds_ago(300), committed: Some(COMMIT), outbox: Ok(OUTBOX), ..well() };
        assert_eq!(doubts(&limits, FRESH), [""; 0], "the bounds themselves are well");
        let second = Duration::from_secs(1);
        let cases = [
            (Known { not_sent: Some("x".into()), ..well() }, "the canary could not be written: x"),
            (Known { proven: None, ..well() }, "no canary of this process has come back yet"),
            (
                Known { proven: Some(NOW + second), ..well() },
                "the clock stands before the last canary that came back",
            ),
            (
                Known { proven: seconds_ago(301), ..well() },
                "the last canary that came back is 301 s old, more than 300 s",
            ),
            (Known { verdict: Some("breach".into()), ..well() }, "the canary's rule says breach"),
            (Known { blind: Some("starting".into()), ..well() }, "not armed: starting"),
            (Known { committed: None, ..well() }, "nothing has been committed yet"),
            (
                Known { committed: Some(COMMIT + second), ..well() },
                "the database has taken no commit for 61 s",
            ),
            (
                Known { outbox: Err("gone".into()), ..well() },
                "the database does not say how the outbox stands: gone",
            ),
            (Known { outbox: Ok(OUTBOX + second), ..well() }, "a flip or a page has been waiting for 121 s"),
        ];
        for (known, said) in &cases {
            assert_eq!(doubts(known, FRESH), [*said]);
        }
        let worst = Known {
            proven: None,
            verdict: Some("breach".into()),
            not_sent: Some("x".into()),
            blind: Some("starting".into()),
            committed: None,
            outbox: Err("gone".into()),
            ..well()
        };
        assert_eq!(doubts(&worst, FRESH).len(), 6);
    }

    fn switch(fake: &Fake, post: bool, fail: bool) -> Deadman {
        let url = Secret::new(format!("{}/hook?well", fake.url));
        let failed = Secret::new(format!("{}/hook?failed", fake.url));
        Deadman::open(&fake.outbound(), post, &url, fail.then_some(&failed)).unwrap()
    }

    #[tokio::test]
    async fn all_well_is_one_call_and_a_doubt_goes_to_the_address_for_failures() {
        let fake = Fake::start().await;
        switch(&fake, false, false).call(&[]).await.unwrap();
        switch(&fake, true, true).call(&[]).await.unwrap();
        let told = ["not armed: x".to_owned(), "no canary".to_owned()];
        switch(&fake, false, true).call(&told).await.unwrap();
        let asked = fake.asked();
        let seen: Vec<_> = asked.iter().map(|asked| (asked.method.as_str(), &asked.body[..])).collect();
        let nothing: &[u8] = b"";
        assert_eq!(seen, [("GET", nothing), ("POST", nothing), ("POST", b"not armed: x\nno canary")]);
        assert!(switch(&fake, false, false).has_word(&[]));
        assert!(!switch(&fake, false, false).has_word(&told));
        assert!(switch(&fake, false, true).has_word(&told));
    }

    #[tokio::test]
    async fn any_answer_but_a_2xx_is_a_failure_and_says_nothing_of_the_address() {
        let fake = Fake::start().await;
        let faults = [
            (Fault::Status(404), "answered 404"),
            (Fault::Status(500), "answered 500"),
            (Fault::Redirect, ""),
            (Fault::Drop, ""),
            (Fault::Huge, ""),
        ];
        for (fault, said) in faults {
            fake.misbehave(&[fault]);
            let failure = switch(&fake, false, false).call(&[]).await.unwrap_err().to_string();
            assert!(failure.contains(said) && !failure.contains("well"), "{fault:?}: {failure}");
        }
        switch(&fake, false, false).call(&[]).await.unwrap();
    }

    #[tokio::test]
    async fn a_host_that_is_not_allowed_is_refused_before_anything_is_sent() {
        let fake = Fake::start().await;
        let elsewhere = Secret::new("https://hc.example.org/ping/secret");
        let Err(failure) = Deadman::open(&fake.outbound(), false, &elsewhere, None) else {
            panic!("a host that is not on the list was taken")
        };
        assert!(!failure.to_string().contains("secret"), "{failure}");
    }
}
