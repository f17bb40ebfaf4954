//! Routes: which receivers get a message, by what it is about.

use serde::Serialize;

use super::incident::Severity;

/// Receivers for messages that fit. An empty list of conditions fits everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Route {
    pub severity: Vec<Severity>,
    /// Flags, or beginnings of them with `*` at the end.
    pub flag: Vec<String>,
    /// Tenants to which the decision is confined.
    pub tenant: Vec<String>,
    pub failure_class: Vec<String>,
    /// `None` leaves it to the default.
    pub page: Option<Vec<String>>,
    pub notify: Option<Vec<String>>,
}

/// What a message is about, as far as it is known: without a decision there is neither tenant nor failure class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About<'a> {
    pub severity: Severity,
    pub flag: Option<&'a str>,
    pub tenant: Option<&'a str>,
    pub failure_class: Option<&'a str>,
}

impl Route {
    /// Whether all of its conditions hold. What is not known fits no condition.
    pub fn fits(&self, about: &About<'_>) -> bool {
        (self.severity.is_empty() || self.severity.contains(&about.severity))
            && among(&self.flag, about.flag, |wanted, flag| match wanted.strip_suffix('*') {
                Some(beginning) => flag.starts_with(beginning),
                None => wanted == flag,
            })
            && among(&self.tenant, about.tenant, |wanted, tenant| wanted == tenant)
            && among(&self.failure_class, about.failure_class, |wanted, class| wanted == class)
    }
}

fn among(wanted: &[String], known: Option<&str>, is: impl Fn(&str, &str) -> bool) -> bool {
    wanted.is_empty() || known.is_some_and(|known| wanted.iter().any(|one| is(one, known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_conditions_have_to_hold_and_the_unknown_fits_none() {
        let about = About {
            severity: Severity::Critical,
            flag: Some("ai.support-copilot"),
            tenant: None,
            failure_class: Some("cost"),
        };
        let list = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let none = Route::default;
        for (route, fits) in [
            (none(), true),
            (Route { severity: vec![Severity::Warning, Severity::Critical], ..none() }, true),
            (Route { severity: vec![Severity::Info], ..none() }, false),
            (Route { flag: list(&["ai.support-copilot"]), ..none() }, true),
            (Route { flag: list(&["ai.support"]), ..none() }, false),
            (Route { flag: list(&["x", "ai.support*"]), ..none() }, true),
            (Route { tenant: list(&["acme"]), ..none() }, false),
            (Route { failure_class: list(&["cost"]), ..none() }, true),
            (Route { failure_class: list(&["cost"]), flag: list(&["x*"]), ..none() }, false),
        ] {
            assert_eq!(route.fits(&about), fits, "{route:?}");
        }
        let acme = About { tenant: Some("acme"), ..about };
        assert!(Route { tenant: list(&["acme"]), ..none() }.fits(&acme));
    }
}
