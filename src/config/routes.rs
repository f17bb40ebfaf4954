//! The section `routes:`: who gets which message.

use std::collections::BTreeMap;

use super::read::Reader;
use super::{Receiver, Routes};
use crate::engine::rule::diagnostic::{Span, nearest, one_of};
use crate::engine::rule::yaml::{Fields, Node, Value};
use crate::model::incident::Severity;
use crate::model::route::Route;

/// What an entry of `match:` may ask for.
const CONDITIONS: [&str; 4] = ["severity", "flag", "tenant", "failure_class"];

type Receivers = BTreeMap<String, Receiver>;

impl Reader<'_, '_> {
    /// `section` is that of the receivers, which all get everything where `routes:` says nothing else.
    pub(super) fn routes(
        &mut self,
        node: Option<&Node>,
        section: Option<&Node>,
        receivers: &Receivers,
    ) -> Routes {
        let fields = node.and_then(|n| self.doc.fields(n, "`routes`", &["page", "notify", "match"]));
        let named = |reader: &mut Self, key: &str| {
            fields.as_ref().and_then(|fields| reader.named(fields, key, receivers))
        };
        let all = || receivers.keys().cloned().collect();
        let page = named(self, "page").unwrap_or_else(all);
        let notify = named(self, "notify").unwrap_or_else(all);
        let at = fields.as_ref().and_then(|fields| fields.get("page")).or(node).or(section);
        self.must_page(&page, receivers, at.map(|node| node.at).unwrap_or_default());
        let mut matches = Vec::new();
        match fields.as_ref().and_then(|fields| fields.get("match")) {
            Some(Node { value: Value::List(items), .. }) => {
                matches.extend(items.iter().filter_map(|item| self.route(item, receivers)));
            }
            Some(node) => self.doc.error_help(
                node.at,
                "`routes.match` must be a list",
                "write `- { severity: critical, page: [oncall] }`",
            ),
            None => {}
        }
        Routes { page, notify, matches }
    }

    fn route(&mut self, node: &Node, receivers: &Receivers) -> Option<Route> {
        let what = "an entry of `routes.match`";
        let fields = self.doc.fields(node, what, &[&CONDITIONS[..], &["page", "notify"]].concat())?;
        if !CONDITIONS.iter().any(|key| fields.get(key).is_some()) {
            let help =
                format!("add {}; what fits everything stands under `routes:` itself", one_of(CONDITIONS));
            self.doc.error_help(node.at, format!("{what} has no condition"), help);
        }
        let page = self.named(&fields, "page", receivers);
        let notify = self.named(&fields, "notify", receivers);
        if page.is_none() && notify.is_none() {
            self.doc.error(node.at, format!("{what} says neither `page` nor `notify`"));
        }
        if let (Some(page), Some(node)) = (&page, fields.get("page")) {
            self.must_page(page, receivers, node.at);
        }
        Some(Route {
            severity: self.severities(&fields),
            flag: self.flags_of(&fields),
            tenant: self.listed(&fields, "tenant"),
            failure_class: self.listed(&fields, "failure_class"),
            page,
            notify,
        })
    }

    fn severities(&mut self, fields: &Fields<'_>) -> Vec<Severity> {
        let Some(node) = fields.get("severity") else { return Vec::new() };
        let known = [Severity::Critical, Severity::Warning, Severity::Info];
        let mut found = Vec::new();
        for (word, at) in self.words(node, "`severity`") {
            match known.iter().find(|one| one.as_str() == word) {
                Some(severity) => found.push(*severity),
                None => self.doc.error_help(
                    at,
                    format!("`severity` cannot be `{word}`"),
                    format!("it may be {}", one_of(known.map(Severity::as_str))),
                ),
            }
        }
        found
    }

    fn flags_of(&mut self, fields: &Fields<'_>) -> Vec<String> {
        let Some(node) = fields.get("flag") else { return Vec::new() };
        let mut flags = Vec::new();
        for (flag, at) in self.words(node, "`flag`") {
            if flag.trim_end_matches('*').contains('*') || flag.ends_with("**") {
                let help = "write a flag, or the beginning of flags and one `*`: `ai.support-*`";
                self.doc.error_help(at, format!("`{flag}` has a `*` that is not its end"), help);
            } else {
                flags.push(flag);
            }
        }
        flags
    }

    fn listed(&mut self, fields: &Fields<'_>, key: &str) -> Vec<String> {
        let words = fields.get(key).map(|node| self.words(node, &format!("`{key}`")));
        words.into_iter().flatten().map(|(word, _)| word).collect()
    }

    /// Names of receivers, if there is such a key.
    fn named(&mut self, fields: &Fields<'_>, key: &str, receivers: &Receivers) -> Option<Vec<String>> {
        let mut names = Vec::new();
        for (name, at) in self.words(fields.get(key)?, &format!("`routes.{key}`")) {
            if receivers.contains_key(&name) {
                names.push(name);
                continue;
            }
            let help = match nearest(&name, receivers.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "add it under `receivers:`".to_owned(),
            };
            self.doc.error_help(at, format!("there is no receiver `{name}`"), help);
        }
        Some(names)
    }

    /// Slack rings nobody: beside it pages need a receiver that does.
    fn must_page(&mut self, page: &[String], receivers: &BTreeMap<String, Receiver>, at: Span) {
        let pagers = || page.iter().filter_map(|name| Some((name, receivers.get(name)?)));
        let slack = pagers().find(|(_, one)| matches!(one, Receiver::Slack { .. }));
        let rings = |one: &Receiver| !matches!(one, Receiver::Slack { .. } | Receiver::Kafka { .. });
        if let Some((name, _)) = slack.filter(|_| !pagers().any(|(_, one)| rings(one))) {
            self.doc.error_help(
                at,
                format!(
                    "pages would go to Slack alone (receiver `{name}`), which is no pager: it rings nobody"
                ),
                "name a pager under `routes: page:` as well, and Slack under `notify:`",
            );
        }
    }
}
