//! The section `platforms:`, and which flag is served by which of them.

mod vendors;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::Secret;
use super::outward::Url;
use super::read::Reader;
use crate::config::Outbound;
use crate::engine::budget::flip_at_worst;
use crate::engine::rule::diagnostic::{Span, nearest, one_of};
use crate::engine::rule::yaml::{Fields, Node, Value};
use crate::model::flag::Served;
pub use vendors::{Service, Vendor};

/// What may serve flags beside Rearguard itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlatformKind {
    /// A file that flagd watches.
    Flagd {
        path: PathBuf,
        /// Where flagd answers OFREP, for the read-back.
        ofrep: Option<String>,
    },
    /// A file that GO Feature Flag reads.
    Gofeatureflag {
        path: PathBuf,
        /// The relay proxy that is told to read it anew.
        relay: Option<String>,
        /// The relay's key for that.
        admin_key: Option<Secret>,
        /// The relay's key for evaluations, for the read-back.
        api_key: Option<Secret>,
    },
    /// A vendor's API.
    Vendor(Vendor),
}

impl PlatformKind {
    /// The word of the configuration.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Flagd { .. } => "flagd",
            Self::Gofeatureflag { .. } => "gofeatureflag",
            Self::Vendor(vendor) => vendor.service.as_str(),
        }
    }

    /// How long a written change takes until it is served, unless configuration says otherwise: flagd watches its file, a
    /// relay reads when it is told to; else it polls, by default once a minute.
    const fn settles(&self) -> Duration {
        match self {
            Self::Flagd { .. } | Self::Gofeatureflag { relay: Some(_), .. } => Duration::from_secs(5),
            Self::Gofeatureflag { relay: None, .. } => Duration::from_secs(60),
            Self::Vendor(vendor) => vendor.service.settles(),
        }
    }

    /// Addresses that it is asked under.
    pub fn urls(&self) -> Vec<&str> {
        match self {
            Self::Flagd { ofrep: url, .. } | Self::Gofeatureflag { relay: url, .. } => {
                url.as_deref().into_iter().collect()
            }
            Self::Vendor(vendor) => vec![&vendor.url, &vendor.client_url],
        }
    }
}

/// A flag platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Platform {
    pub kind: PlatformKind,
    /// From a written change to its being served, at the longest.
    pub settles: Duration,
}

impl Platform {
    /// From a decision to its flip read back there, at the longest, with one fault on the way.
    pub const fn worst(&self) -> Duration {
        flip_at_worst(self.settles)
    }
}

impl Reader<'_, '_> {
    pub(super) fn platforms(&mut self, node: &Node, outbound: &Outbound) -> BTreeMap<String, Platform> {
        let mut platforms = BTreeMap::new();
        for (name, at, value) in self.doc.entries(node, "`platforms`").unwrap_or_default() {
            let what = format!("platform `{name}`");
            if !is_name(name) {
                self.doc.error_help(
                    at,
                    format!("`{name}` cannot be the name of a platform"),
                    "small letters, digits and `-`; `builtin` is Rearguard's own store",
                );
                continue;
            }
            let kinds: Vec<&str> = ["flagd", "gofeatureflag"].into_iter().chain(vendors::KINDS).collect();
            let Some(fields) = self.doc.fields(value, &what, &kinds) else { continue };
            let given: Vec<_> = kinds.iter().filter_map(|kind| Some((*kind, fields.get(kind)?))).collect();
            let [(kind, body)] = given.as_slice() else {
                let help = format!("it may be {}", one_of(kinds.iter().copied()));
                self.doc.error_help(at, format!("{what} must be exactly one thing"), help);
                continue;
            };
            let read = match *kind {
                "flagd" => self.flagd(&what, body, outbound),
                "gofeatureflag" => self.gofeatureflag(&what, body, outbound),
                kind => self.vendor(kind, &what, body, outbound),
            };
            if let Some(platform) = read {
                platforms.insert(name.to_owned(), platform);
            }
        }
        platforms
    }

    fn flagd(&mut self, what: &str, node: &Node, outbound: &Outbound) -> Option<Platform> {
        let fields = self.doc.fields(node, what, &["path", "ofrep", "settles"])?;
        let ofrep = self.address(&fields, "ofrep", what, outbound);
        let path = self.flag_file(&fields, what, &["json", "yaml", "yml"])?;
        Some(self.settled(&fields, PlatformKind::Flagd { path, ofrep }))
    }

    fn gofeatureflag(&mut self, what: &str, node: &Node, outbound: &Outbound) -> Option<Platform> {
        let keys = ["path", "relay", "admin_key", "api_key", "settles"];
        let fields = self.doc.fields(node, what, &keys)?;
        let relay = self.address(&fields, "relay", what, outbound);
        let admin_key = self.outside(&fields, "admin_key", what);
        let api_key = self.outside(&fields, "api_key", what);
        for key in ["admin_key", "api_key"] {
            if let (None, Some(at)) = (fields.get("relay"), fields.key_at(key)) {
                self.doc.error_help(
                    at,
                    format!("{what} has `{key}` and no `relay`"),
                    "add `relay: http://host:1031`",
                );
            }
        }
        let path = self.flag_file(&fields, what, &["json", "yaml", "yml", "toml"])?;
        Some(self.settled(&fields, PlatformKind::Gofeatureflag { path, relay, admin_key, api_key }))
    }

    fn settled(&mut self, fields: &Fields<'_>, kind: PlatformKind) -> Platform {
        let bounds = (Duration::from_secs(1), Duration::from_secs(600));
        let given = fields.get("settles").and_then(|n| self.doc.span(n, "`settles`", bounds.0, bounds.1));
        Platform { settles: given.unwrap_or(kind.settles()), kind }
    }

    fn flag_file(&mut self, fields: &Fields<'_>, what: &str, endings: &[&str]) -> Option<PathBuf> {
        let Some(node) = fields.get("path") else {
            self.doc.error(fields.first_key_at(), format!("{what} has no `path`"));
            return None;
        };
        let path = self.folder.join(self.doc.text(node, "`path`")?);
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if !endings.contains(&ending) {
            let help = format!("its ending says the language: {}", one_of(endings.iter().copied()));
            self.doc.error_help(node.at, format!("{what}: `{}` is no flag file", path.display()), help);
            return None;
        }
        Some(path)
    }

    /// An address that is on the list of hosts.
    pub(super) fn address(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        what: &str,
        outbound: &Outbound,
    ) -> Option<String> {
        let node = fields.get(key)?;
        let url: Url = self.url(node, &format!("`{key}`"))?;
        self.must_be_allowed(&url, node.at, what, outbound);
        Some(url.text)
    }

    /// A secret, which must not stand in the file.
    pub(super) fn outside(&mut self, fields: &Fields<'_>, key: &str, what: &str) -> Option<Secret> {
        let node = fields.get(key)?;
        let (secret, from_outside) = self.secret(node, &format!("`{key}`"))?;
        if !from_outside {
            self.refuse_plain_secret(node.at, &format!("`{key}` of {what} stands here"));
            return None;
        }
        Some(secret)
    }

    /// `platform:` of a flag: the platform's name, or a mapping with what flag and variations are called there.
    pub(super) fn served(
        &mut self,
        node: &Node,
        (key, control, treatment): (&str, &str, &str),
        platforms: &BTreeMap<String, Platform>,
    ) -> Option<Served> {
        let (name, fields) = match &node.value {
            Value::Map(_) => {
                let known = ["name", "key", "id", "control", "treatment"];
                let fields = self.doc.fields(node, "`platform`", &known)?;
                let Some(name) = fields.get("name") else {
                    self.doc.error(node.at, "`platform` has no `name`");
                    return None;
                };
                (name, Some(fields))
            }
            _ => (node, None),
        };
        let (text, at) = (self.doc.text(name, "`platform`")?.to_owned(), name.at);
        let platform = self.platform(&text, at, platforms)?;
        let id = self.number_there(fields.as_ref(), platform, name.at)?;
        let mut called = |what: &str, default: &str| {
            let given = fields.as_ref().and_then(|fields| fields.get(what));
            given.map_or(Some(default), |node| self.doc.text(node, &format!("`{what}`"))).map(str::to_owned)
        };
        let served = Served {
            platform: text,
            kind: platform.kind.as_str().to_owned(),
            key: called("key", key)?,
            id,
            control: called("control", control)?,
            treatment: called("treatment", treatment)?,
            worst: platform.worst(),
        };
        if served.control == served.treatment {
            self.doc.error(node.at, format!("control and treatment are both `{}` there", served.control));
            return None;
        }
        Some(served)
    }

    /// `id:` of a flag: ConfigCat's API asks for a setting's number. The inner value is none where none is needed.
    fn number_there(
        &mut self,
        fields: Option<&Fields<'_>>,
        platform: &Platform,
        at: Span,
    ) -> Option<Option<String>> {
        let needed = matches!(&platform.kind, PlatformKind::Vendor(vendor) if vendor.service.needs_id());
        let given = fields.and_then(|fields| fields.get("id"));
        match (given, needed) {
            (None, false) => Some(None),
            (Some(node), true) => {
                let number = self.doc.number(node, "`id`")?;
                if number.fract() != 0.0 || !(1.0..=f64::from(u32::MAX)).contains(&number) {
                    self.doc.error(node.at, "`id` must be the setting's number");
                    return None;
                }
                Some(Some(format!("{number}")))
            }
            (None, true) => {
                let help = "add `id:`, the setting's number: its address in the dashboard ends in it";
                self.doc.error_help(at, "a flag on configcat needs the number of its setting", help);
                None
            }
            (Some(node), false) => {
                let kind = platform.kind.as_str();
                self.doc.error(node.at, format!("flags on {kind} have no `id`, only a `key`"));
                None
            }
        }
    }

    fn platform<'p>(
        &mut self,
        name: &str,
        at: Span,
        platforms: &'p BTreeMap<String, Platform>,
    ) -> Option<&'p Platform> {
        let found = platforms.get(name);
        if found.is_none() {
            let help = match nearest(name, platforms.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    "add it under `platforms:`; without `platform` Rearguard serves the flag itself".into()
                }
            };
            self.doc.error_help(at, format!("there is no platform `{name}`"), help);
        }
        found
    }
}

/// Names stand in the outbox's keys, which are compared by pattern.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.len() <= 60 && name.chars().all(plain) && name != "builtin"
}
