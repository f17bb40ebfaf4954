//! `platforms:` of vendors with an API: Unleash, LaunchDarkly, ConfigCat, Statsig.

use std::time::Duration;

use serde::Serialize;

use super::{Platform, PlatformKind, Secret};
use crate::config::Outbound;
use crate::config::read::Reader;
use crate::engine::rule::yaml::{Fields, Node};

/// A vendor's platform: where flags are written, where gateways read, and with which secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Vendor {
    pub service: Service,
    pub url: String,
    /// For basic authentication (ConfigCat).
    pub user: Option<String>,
    pub token: Secret,
    /// The evaluation plane and its key.
    pub client_url: String,
    pub client_token: Secret,
    /// The user interface.
    pub web: Option<String>,
    /// What the platform calls the owner of the token.
    pub writes_as: Option<String>,
}

/// Whose platform, and where on it the flags are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    Unleash {
        project: String,
        environment: String,
    },
    Launchdarkly {
        project: String,
        environment: String,
    },
    Configcat {
        environment: String,
    },
    Statsig,
    /// A flag service of one's own.
    Webhook,
}

/// The words of the configuration.
pub const KINDS: [&str; 5] = ["unleash", "launchdarkly", "configcat", "statsig", "webhook"];

/// Public addresses; none where everybody has their own.
struct Public {
    url: &'static str,
    client_url: &'static str,
    web: &'static str,
}

const fn public(kind: &str) -> Option<Public> {
    match kind.as_bytes() {
        b"launchdarkly" => Some(Public {
            url: "https://app.launchdarkly.com",
            client_url: "https://sdk.launchdarkly.com",
            web: "https://app.launchdarkly.com",
        }),
        b"configcat" => Some(Public {
            url: "https://api.configcat.com",
            client_url: "https://cdn-global.configcat.com",
            web: "https://app.configcat.com",
        }),
        b"statsig" => Some(Public {
            url: "https://statsigapi.net",
            client_url: "https://api.statsigcdn.com",
            web: "https://console.statsig.com",
        }),
        _ => None,
    }
}

impl Service {
    /// The word of the configuration.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unleash { .. } => "unleash",
            Self::Launchdarkly { .. } => "launchdarkly",
            Self::Configcat { .. } => "configcat",
            Self::Statsig => "statsig",
            Self::Webhook => "webhook",
        }
    }

    /// Whether its API knows flags by number.
    pub const fn needs_id(&self) -> bool {
        matches!(self, Self::Configcat { .. })
    }

    /// From a written change to its being served, at the longest, by the intervals at which the vendors' SDKs poll unless they
    /// are told otherwise: Unleash 15 s, LaunchDarkly streams, ConfigCat 60 s, Statsig 10 s behind a CDN. A
    /// service of one's own has to say.
    pub const fn settles(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Unleash { .. } => 20,
            Self::Launchdarkly { .. } | Self::Webhook => 10,
            Self::Configcat { .. } => 75,
            Self::Statsig => 30,
        })
    }
}

impl Reader<'_, '_> {
    /// The body of a platform of one of [`KINDS`].
    pub(super) fn vendor(
        &mut self,
        kind: &str,
        what: &str,
        node: &Node,
        outbound: &Outbound,
    ) -> Option<Platform> {
        if kind == "webhook" {
            return self.webhook(what, node, outbound);
        }
        let common = ["url", "token", "client_url", "client_token", "web", "writes_as", "settles"];
        let own: &[&str] = match kind {
            "configcat" => &["user", "environment"],
            "statsig" => &[],
            _ => &["project", "environment"],
        };
        let keys: Vec<&str> = own.iter().chain(&common).copied().collect();
        let fields = self.doc.fields(node, what, &keys)?;
        let public = public(kind);
        let service = match kind {
            "unleash" => Service::Unleash {
                project: self.said(&fields, "project", what, Some("default"))?,
                environment: self.said(&fields, "environment", what, None)?,
            },
            "launchdarkly" => Service::Launchdarkly {
                project: self.said(&fields, "project", what, None)?,
                environment: self.said(&fields, "environment", what, None)?,
            },
            "configcat" => Service::Configcat { environment: self.said(&fields, "environment", what, None)? },
            _ => Service::Statsig,
        };
        let user = match kind {
            "configcat" => Some(self.said(&fields, "user", what, None)?),
            _ => None,
        };
        let url = self.place(&fields, "url", what, outbound, public.as_ref().map(|public| public.url))?;
        // Unleash serves both planes under one address.
        let client_default = public.as_ref().map_or(url.as_str(), |public| public.client_url).to_owned();
        let client_url = self.place(&fields, "client_url", what, outbound, Some(&client_default))?;
        let web = match fields.get("web") {
            Some(node) => Some(self.url(node, "`web`")?.text),
            None => Some(public.as_ref().map_or(url.as_str(), |public| public.web).to_owned()),
        };
        let writes_as = fields.get("writes_as").and_then(|node| self.doc.text(node, "`writes_as`"));
        let writes_as = writes_as.map(str::to_owned);
        let token = self.needed(&fields, "token", what);
        let client_token = self.needed(&fields, "client_token", what);
        let vendor = Vendor {
            service,
            url,
            user,
            token: token?,
            client_url,
            client_token: client_token?,
            web,
            writes_as,
        };
        Some(self.settled(&fields, PlatformKind::Vendor(vendor)))
    }

    /// A flag service that implements Rearguard's own contract: one secret signs all requests.
    fn webhook(&mut self, what: &str, node: &Node, outbound: &Outbound) -> Option<Platform> {
        let keys = ["url", "secret", "client_url", "web", "writes_as", "settles"];
        let fields = self.doc.fields(node, what, &keys)?;
        let url = self.place(&fields, "url", what, outbound, None);
        let secret = self.needed(&fields, "secret", what);
        let (url, secret) = (url?, secret?);
        let web = fields.get("web").map(|node| self.url(node, "`web`"));
        let vendor = Vendor {
            service: Service::Webhook,
            user: None,
            token: secret.clone(),
            client_url: self.place(&fields, "client_url", what, outbound, Some(&url))?,
            client_token: secret,
            web: web.flatten().map(|web| web.text),
            writes_as: self.said(&fields, "writes_as", what, Some("rearguard")),
            url,
        };
        Some(self.settled(&fields, PlatformKind::Vendor(vendor)))
    }

    /// A text, or what stands for it if it is not given.
    fn said(&mut self, fields: &Fields<'_>, key: &str, what: &str, default: Option<&str>) -> Option<String> {
        match (fields.get(key), default) {
            (Some(node), _) => self.doc.text(node, &format!("`{key}`")).map(str::to_owned),
            (None, Some(default)) => Some(default.to_owned()),
            (None, None) => self.missing(fields, key, what),
        }
    }

    fn missing<T>(&mut self, fields: &Fields<'_>, key: &str, what: &str) -> Option<T> {
        self.doc.error(fields.first_key_at(), format!("{what} has no `{key}`"));
        None
    }

    /// An address on the list of hosts, given or known.
    fn place(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        what: &str,
        outbound: &Outbound,
        default: Option<&str>,
    ) -> Option<String> {
        if fields.get(key).is_some() {
            return self.address(fields, key, what, outbound);
        }
        let Some(default) = default else { return self.missing(fields, key, what) };
        let url = super::Url::parse(default)?.ok()?;
        self.must_be_allowed(&url, fields.first_key_at(), what, outbound);
        Some(url.text)
    }

    fn needed(&mut self, fields: &Fields<'_>, key: &str, what: &str) -> Option<Secret> {
        match fields.get(key) {
            Some(_) => self.outside(fields, key, what),
            None => self.missing(fields, key, what),
        }
    }
}
