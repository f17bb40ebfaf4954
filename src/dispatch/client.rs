//! The one way out over HTTP: allow-listed hosts, no redirects, bounded times and sizes, no secret in any message.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderMap;
use reqwest::{Method, Response, StatusCode, Url};

use super::failure::Failure;
use crate::clock::Clock;

/// An answer larger than this is not read further.
pub const MAX_ANSWER: usize = 1 << 20;

/// How much of a refusal's body is kept for the log.
const MAX_SAID: usize = 300;

/// How much of it is looked through for secrets before it is cut, in bytes.
const MAX_READ: usize = 64 << 10;

/// A secret that no log, dump or error shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A host that may be talked to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AllowedHost {
    /// A host name or an IP address, in lower case.
    pub host: String,
    /// Any port if none.
    pub port: Option<u16>,
    /// Whether the name may resolve to a private, loopback or link-local address. An address that is listed itself may
    /// always be used.
    pub private: bool,
}

/// The operator's list of hosts. Checked before each request, and again when the name is resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList(BTreeSet<AllowedHost>);

impl AllowList {
    /// A list of these hosts.
    pub fn new(hosts: impl IntoIterator<Item = AllowedHost>) -> Self {
        Self(
            hosts
                .into_iter()
                .map(|host| AllowedHost {
                    host: host.host.trim_matches(['[', ']']).to_ascii_lowercase(),
                    ..host
                })
                .collect(),
        )
    }

    /// Whether an address may be talked to; otherwise what to do about it.
    pub fn check(&self, url: &Url) -> Result<(), Failure> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = url.port_or_known_default();
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Failure::permanent(format!("`{}:` is neither http nor https", url.scheme())));
        }
        if self.entry(host, port).is_some() {
            return Ok(());
        }
        Err(Failure::permanent(format!(
            "host `{host}` is not on the outbound allow-list; add it to `outbound` in the configuration if it should be"
        )))
    }

    fn entry(&self, host: &str, port: Option<u16>) -> Option<&AllowedHost> {
        self.0.iter().find(|entry| {
            entry.host.eq_ignore_ascii_case(host)
                && (entry.port.is_none() || port.is_none() || entry.port == port)
        })
    }

    fn may_be_private(&self, host: &str) -> bool {
        self.0.iter().any(|entry| entry.host.eq_ignore_ascii_case(host) && entry.private)
            || (host.eq_ignore_ascii_case("localhost") && self.entry(host, None).is_some())
    }
}

/// Sends requests. A copy shares connections and list.
#[derive(Clone)]
pub struct Outbound {
    client: reqwest::Client,
    allowed: Arc<AllowList>,
    clock: Clock,
}

impl Outbound {
    /// A client for these hosts.
    pub fn new(allowed: AllowList, clock: Clock) -> Result<Self, Failure> {
        let allowed = Arc::new(allowed);
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(3))
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("rearguard/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(Guarded(Arc::clone(&allowed))))
            .build()
            .map_err(Failure::from_client)?;
        Ok(Self { client, allowed, clock })
    }

    /// Reads an address and checks it against the list, for configuration to fail early.
    pub fn address(&self, text: &str) -> Result<Url, Failure> {
        let url = Url::parse(text).map_err(|error| Failure::permanent(format!("not an address: {error}")))?;
        self.allowed.check(&url)?;
        Ok(url)
    }

    /// The clock that requests are timed by.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Sends one request that may take `within` of real time in all, and reads its answer. A refusal is a failure.
    pub async fn exchange(&self, request: Request<'_>, within: Duration) -> Result<Vec<u8>, Failure> {
        let secrets: Vec<Secret> = request.secrets().cloned().collect();
        let answer = self.ask(request, within, MAX_ANSWER).await?;
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        let said = answer.said(&secrets.iter().collect::<Vec<_>>());
        Err(Failure::from_status(answer.status, &answer.headers, self.clock.real_now(), &said))
    }

    /// The same with any status, for systems whose refusals have a meaning of their own. `most` bounds the answer, in bytes.
    pub async fn ask(&self, request: Request<'_>, within: Duration, most: usize) -> Result<Answer, Failure> {
        self.allowed.check(&request.url)?;
        let mut building = self.client.request(request.method, request.url).timeout(within);
        for (name, value) in &request.headers {
            building = building.header(*name, value);
        }
        if let Some(token) = request.bearer {
            building = building.bearer_auth(token.reveal());
        }
        if let Some((user, password)) = request.basic {
            building = building.basic_auth(user, Some(password.reveal()));
        }
        if let Some(body) = request.body {
            building = building.body(body);
        }
        let answer = building.send().await.map_err(Failure::from_client)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = match read(answer, most).await {
            Err(failure) if status.is_success() => return Err(failure),
            // What a refusal says is not needed.
            body => body.unwrap_or_default(),
        };
        Ok(Answer { status, headers, body })
    }
}

/// What came back.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// The beginning of the body, for people; without the secrets that it may repeat.
    pub fn said(&self, secrets: &[&Secret]) -> String {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(MAX_READ)]).into_owned();
        let hidden = secrets
            .iter()
            .filter(|secret| !secret.reveal().is_empty())
            .fold(text, |text, secret| text.replace(secret.reveal(), "…"));
        hidden.chars().take(MAX_SAID).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

/// One request.
pub struct Request<'a> {
    pub method: Method,
    pub url: Url,
    pub headers: Vec<(&'static str, String)>,
    pub bearer: Option<&'a Secret>,
    pub basic: Option<(&'a str, &'a Secret)>,
    pub body: Option<Vec<u8>>,
}

impl Request<'_> {
    fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.bearer.into_iter().chain(self.basic.map(|(_, password)| password))
    }

    /// A request without body or credentials.
    pub const fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: Vec::new(), bearer: None, basic: None, body: None }
    }

    /// A request with a JSON body.
    pub fn post(url: Url, body: Vec<u8>) -> Self {
        Self {
            method: Method::POST,
            headers: vec![("content-type", "application/json".to_owned())],
            body: Some(body),
            ..Self::get(url)
        }
    }
}

async fn read(mut answer: Response, most: usize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(Failure::from_client)? {
        if body.len() + piece.len() > most {
            return Err(Failure::Unknown { why: format!("the answer is larger than {most} bytes") });
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// Resolves names, and refuses private addresses for hosts that were not listed as private.
struct Guarded(Arc<AllowList>);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.0);
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let private_too = allowed.may_be_private(&host);
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let usable: Vec<SocketAddr> =
                found.into_iter().filter(|address| private_too || !is_private(address.ip())).collect();
            if usable.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("`{host}` resolves to private addresses only and is not listed as private"),
                )
                .into());
            }
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

/// Addresses that are not on the public internet.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> AllowList {
        let host = |host: &str, port, private| AllowedHost { host: host.into(), port, private };
        AllowList::new([
            host("Alerts.Example.com", None, false),
            host("10.0.0.7", Some(9093), false),
            host("[::1]", None, true),
        ])
    }

    #[test]
    fn only_listed_hosts_and_ports_pass() {
        for (url, good) in [
            ("https://alerts.example.com/x", true),
            ("http://alerts.example.com:8080/", true),
            ("http://10.0.0.7:9093/api", true),
            ("http://10.0.0.7/api", false),
            ("http://[::1]:80/", true),
            ("https://alerts.example.com.evil.org/", false),
            ("https://evil.org/?alerts.example.com", false),
            ("https://alerts.example.com@evil.org/", false),
            ("ftp://alerts.example.com/", false),
            ("http://169.254.169.254/latest", false),
        ] {
            let checked = list().check(&Url::parse(url).unwrap());
            assert_eq!(checked.is_ok(), good, "{url}");
        }
    }

    #[test]
    fn private_addresses_are_known() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_private(address.parse().unwrap()), "{address}");
        }
        assert!(!is_private("1.1.1.1".parse().unwrap()));
        assert!(!is_private("2606:4700::1111".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_listed_name_that_resolves_to_loopback_is_refused_unless_marked() {
        let guarded = Guarded(Arc::new(AllowList::default()));
        let answer = guarded.resolve("localhost".parse().unwrap()).await;
        assert!(answer.is_err());
        let open = AllowList::new([AllowedHost { host: "localhost".into(), port: None, private: false }]);
        let answer = Guarded(Arc::new(open)).resolve("localhost".parse().unwrap()).await;
        assert!(answer.is_ok());
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
    }
}
