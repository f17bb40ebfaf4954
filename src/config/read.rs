//! The walk over the configuration file; sections that need more than a line stand in their own files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Config, Environment, Http, Kafka, Log, LogFormat, Secret, Store};
use crate::engine::budget::{Timing, flip_at_worst};
use crate::engine::input::Limits;
use crate::engine::rule::diagnostic::Span;
use crate::engine::rule::yaml::{Document, Fields, Node, Value};
use crate::model::canary;
use crate::model::metric::Catalogue;

const KEYS: [&str; 22] = [
    "kafka",
    "canary",
    "templates",
    "rules",
    "flags",
    "platforms",
    "metrics",
    "slos",
    "expected",
    "store",
    "data_dir",
    "http",
    "receivers",
    "routes",
    "outbound",
    "timing",
    "limits",
    "detector",
    "dry_run",
    "clock",
    "log",
    "external_url",
];

/// A document together with what its values may refer to.
pub(super) struct Reader<'a, 'd> {
    pub doc: &'a mut Document<'d>,
    pub environment: Environment<'a>,
    /// The folder of the configuration file.
    pub folder: PathBuf,
}

/// Reads everything it can; the document says what was wrong.
pub(super) fn config(doc: &mut Document<'_>, path: &Path, environment: Environment<'_>) -> Option<Config> {
    let root = doc.parse()?;
    let fields = doc.fields(&root, "the configuration", &KEYS)?;
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    let mut reader = Reader { doc, environment, folder };
    let config = reader.config(path, &fields);
    reader.check_clock(&config, fields.get("clock"));
    Some(config)
}

impl Reader<'_, '_> {
    fn config(&mut self, path: &Path, fields: &Fields<'_>) -> Config {
        let defaults = Config::built_in();
        let kafka = self.kafka_section(fields);
        let data_dir = self.path(fields, "data_dir").unwrap_or_else(|| self.folder.join("data"));
        let outbound = fields.get("outbound").map(|n| self.outbound(n)).unwrap_or_default();
        let receivers = fields.get("receivers").map(|n| self.receivers(n, &outbound)).unwrap_or_default();
        let routes = self.routes(fields.get("routes"), fields.get("receivers"), &receivers);
        let platforms = fields.get("platforms").map(|n| self.platforms(n, &outbound)).unwrap_or_default();
        let canary = fields.get("canary").and_then(|n| self.canary(n, kafka.as_ref(), &outbound));
        let own = canary.iter().map(|_| canary::metric()).collect();
        let catalogue = match fields.get("metrics") {
            Some(node) => self.metrics(node, own),
            None => Catalogue::with(own),
        };
        let slos = fields.get("slos").map(|n| self.slos(n, &catalogue)).unwrap_or_default();
        let catalogue = catalogue.with_slos(slos);
        let expected = fields.get("expected").map(|n| self.expected(n, &catalogue)).unwrap_or_default();
        let store = fields.get("store").and_then(|n| self.store(n));
        let dry_run = fields.get("dry_run").and_then(|n| self.doc.boolean(n, "`dry_run`"));
        let limits = fields.get("limits").map(|n| self.limits(n)).unwrap_or_default();
        let limits = fields.get("detector").map_or(limits, |n| self.detector(n, limits));
        let url = fields.get("external_url").and_then(|n| self.url(n, "`external_url`"));
        Config {
            path: path.to_owned(),
            canary,
            templates: fields.get("templates").map(|n| self.templates(n)).unwrap_or_default(),
            rules: self.rules(fields),
            flags: fields.get("flags").map(|n| self.flags(n, &platforms)).unwrap_or_default(),
            platforms,
            catalogue: Arc::new(catalogue),
            expected,
            store: store.unwrap_or_else(|| Store::Sqlite(data_dir.join("rearguard.db"))),
            data_dir,
            http: fields.get("http").and_then(|n| self.http(n)).unwrap_or(defaults.http),
            receivers,
            routes,
            outbound,
            timing: fields.get("timing").map(|n| self.timing(n)).unwrap_or_default(),
            limits,
            dry_run: dry_run.unwrap_or(false),
            clock: fields.get("clock").map(|n| self.clock(n)).unwrap_or_default(),
            log: fields.get("log").map_or(defaults.log, |n| self.log(n)),
            external_url: url.map(|u| u.text),
            kafka: kafka.unwrap_or(defaults.kafka),
            warnings: Vec::new(),
        }
    }

    fn kafka_section(&mut self, fields: &Fields<'_>) -> Option<Kafka> {
        if let Some(node) = fields.get("kafka") {
            return self.kafka(node);
        }
        self.doc.error_help(
            fields.first_key_at(),
            "there is no `kafka:` section",
            "add `kafka: { brokers: localhost:9092, topics: [ai.generations] }`",
        );
        None
    }

    fn rules(&mut self, fields: &Fields<'_>) -> Vec<PathBuf> {
        let Some(node) = fields.get("rules") else {
            return vec![self.folder.join("rules")];
        };
        let names = self.words(node, "`rules`");
        names.into_iter().map(|(name, _)| self.folder.join(name)).collect()
    }

    fn path(&mut self, fields: &Fields<'_>, key: &str) -> Option<PathBuf> {
        let text = self.doc.text(fields.get(key)?, &format!("`{key}`"))?;
        Some(self.folder.join(text))
    }

    fn store(&mut self, node: &Node) -> Option<Store> {
        let fields = self.doc.fields(node, "`store`", &["url"])?;
        let node = fields.get("url")?;
        let (url, from_outside) = self.secret(node, "`store.url`")?;
        let text = url.expose();
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            let Ok(parsed) = reqwest::Url::parse(text) else {
                self.doc.error_help(
                    node.at,
                    "`store.url` cannot be read",
                    "write `postgres://user@host:5432/database`",
                );
                return None;
            };
            if parsed.password().is_some() && !from_outside {
                self.refuse_plain_secret(node.at, "`store.url` holds a password");
            }
            return Some(Store::Postgres(url));
        }
        let path = text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:")).unwrap_or(text);
        if path.contains("://") || path.is_empty() || path == ":memory:" {
            self.doc.error_help(
                node.at,
                "`store.url` must be the path of an SQLite file or a PostgreSQL address",
                "write `sqlite:data/rearguard.db` or `postgres://user@host:5432/database`",
            );
            return None;
        }
        Some(Store::Sqlite(self.folder.join(path)))
    }

    fn http(&mut self, node: &Node) -> Option<Http> {
        let fields = self.doc.fields(node, "`http`", &["listen"])?;
        let node = fields.get("listen")?;
        let text = self.doc.text(node, "`http.listen`")?;
        match text.parse() {
            Ok(listen) => Some(Http { listen }),
            Err(_) => {
                self.doc.error_help(
                    node.at,
                    "`http.listen` must be an address and a port",
                    "write `127.0.0.1:8080`, or `0.0.0.0:8080` for all interfaces",
                );
                None
            }
        }
    }

    fn timing(&mut self, node: &Node) -> Timing {
        let defaults = Timing::default();
        let keys = ["lateness", "tick", "flip_deadline", "page_after", "snapshot_every"];
        let Some(fields) = self.doc.fields(node, "`timing`", &keys) else {
            return defaults;
        };
        let at_worst = flip_at_worst(Duration::ZERO).as_secs();
        Timing {
            lateness: self.span(&fields, "lateness", (0, 600), defaults.lateness),
            tick: self.span(&fields, "tick", (1, 60), defaults.tick),
            flip_deadline: self.span(&fields, "flip_deadline", (at_worst, 600), defaults.flip_deadline),
            page_after: self.span(&fields, "page_after", (5, 600), defaults.page_after),
            snapshot_every: self.span(&fields, "snapshot_every", (10, 3_600), defaults.snapshot_every),
        }
    }

    fn limits(&mut self, node: &Node) -> Limits {
        let defaults = Limits::default();
        let keys = ["flips", "flips_per_tenant", "slices", "blind_after"];
        let Some(fields) = self.doc.fields(node, "`limits`", &keys) else {
            return defaults;
        };
        let mut count = |key: &str, most: u64, default: u32| {
            let node = fields.get(key)?;
            let n = self.doc.integer(node, &format!("`{key}`"), 1, most)?;
            Some(u32::try_from(n).unwrap_or(default))
        };
        Limits {
            flips: count("flips", 1_000, defaults.flips).unwrap_or(defaults.flips),
            flips_per_tenant: count("flips_per_tenant", 1_000, defaults.flips_per_tenant)
                .unwrap_or(defaults.flips_per_tenant),
            slices: count("slices", 10_000, defaults.slices).unwrap_or(defaults.slices),
            blind_after: self.span(&fields, "blind_after", (60, 3_600), defaults.blind_after),
            ..defaults
        }
    }

    fn detector(&mut self, node: &Node, limits: Limits) -> Limits {
        let Some(fields) = self.doc.fields(node, "`detector`", &["false_rollback_every", "minute_cap"])
        else {
            return limits;
        };
        let cap = fields.get("minute_cap").and_then(|n| self.doc.integer(n, "`minute_cap`", 1, 1_000_000));
        let target = (86_400, 36_500 * 86_400);
        Limits {
            false_rollback_every: self.span(
                &fields,
                "false_rollback_every",
                target,
                limits.false_rollback_every,
            ),
            minute_cap: cap.and_then(|n| u32::try_from(n).ok()).unwrap_or(limits.minute_cap),
            ..limits
        }
    }

    fn log(&mut self, node: &Node) -> Log {
        let mut log = Config::built_in().log;
        if let Some(fields) = self.doc.fields(node, "`log`", &["format", "level"]) {
            let formats = [("human", LogFormat::Human), ("json", LogFormat::Json)];
            if let Some(format) =
                fields.get("format").and_then(|n| self.doc.choice(n, "`log.format`", &formats))
            {
                log.format = format;
            }
            if let Some(level) = fields.get("level").and_then(|n| self.doc.text(n, "`log.level`")) {
                level.clone_into(&mut log.level);
            }
        }
        log
    }

    /// A span of time in seconds between two bounds, or the default.
    pub(super) fn span(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        (least, most): (u64, u64),
        default: Duration,
    ) -> Duration {
        let node = fields.get(key);
        let bounds = (Duration::from_secs(least), Duration::from_secs(most));
        node.and_then(|n| self.doc.span(n, &format!("`{key}`"), bounds.0, bounds.1)).unwrap_or(default)
    }

    /// One text, or a list of texts, each with its place and `${NAME}` filled in.
    pub fn words(&mut self, node: &Node, what: &str) -> Vec<(String, Span)> {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        if items.is_empty() {
            self.doc.error(node.at, format!("{what} is empty"));
        }
        let mut out = Vec::new();
        for item in items {
            if let Some((text, _)) = self.secret(item, what) {
                out.push((text.expose().to_owned(), item.at));
            }
        }
        out
    }

    /// A text with `${NAME}` filled in from the environment, or the content of `{file: path}`; and whether any of it came
    /// from outside the configuration file.
    pub fn secret(&mut self, node: &Node, what: &str) -> Option<(Secret, bool)> {
        if let Value::Map(_) = &node.value {
            let fields = self.doc.fields(node, what, &["file"])?;
            let Some(file) = fields.get("file") else {
                self.doc.error_help(
                    node.at,
                    format!("{what} names no file"),
                    "write `{ file: /run/secrets/name }`",
                );
                return None;
            };
            let path = self.folder.join(self.doc.text(file, &format!("the file of {what}"))?);
            return match super::read_file(&path) {
                Ok(text) => Some((Secret::new(text.trim_end_matches(['\r', '\n'])), true)),
                Err(error) => {
                    let message = format!("the file of {what}, `{}`, {}", path.display(), error.message);
                    self.doc.error(file.at, message);
                    None
                }
            };
        }
        let scalar = match &node.value {
            Value::Number(_) | Value::Bool(_) => self.doc.raw(node.at),
            _ => self.doc.text(node, what)?.to_owned(),
        };
        self.fill_in(&scalar, node.at, what)
    }

    fn fill_in(&mut self, text: &str, at: Span, what: &str) -> Option<(Secret, bool)> {
        let (mut out, mut rest, mut from_outside) = (String::new(), text, false);
        while let Some(start) = rest.find("${") {
            let Some(len) = rest[start + 2..].find('}') else {
                self.doc.error_help(at, format!("`${{` in {what} is never closed"), "write `${NAME}`");
                return None;
            };
            let name = &rest[start + 2..start + 2 + len];
            let Some(value) = (self.environment)(name) else {
                self.doc.error_help(
                    at,
                    format!("the environment variable `{name}` is not set"),
                    format!("set it before the start, or write {what} as `{{ file: path }}`"),
                );
                return None;
            };
            out.push_str(&rest[..start]);
            out.push_str(&value);
            from_outside = true;
            rest = &rest[start + 2 + len + 1..];
        }
        out.push_str(rest);
        Some((Secret::new(out), from_outside))
    }

    /// Secrets do not stand in the file itself.
    pub fn refuse_plain_secret(&mut self, at: Span, what: &str) {
        self.doc.error_help(
            at,
            format!("{what} in plain text"),
            "take it from the environment, `${NAME}`, or from a file, `{ file: path }`",
        );
    }
}
