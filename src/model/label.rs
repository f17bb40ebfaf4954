//! Labels of an alert.

/// Labels that Rearguard gives itself.
pub const OWN: [&str; 6] = ["alertname", "severity", "dedup_key", "flag", "variant", "incident"];

/// Why an alert cannot have this label from the configuration; nothing if it can.
pub fn refused(name: &str, value: &str) -> Option<&'static str> {
    if OWN.contains(&name) {
        Some("is one that Rearguard gives itself")
    } else if !is_name(name) {
        Some("is no label name: letters, digits and `_`, not beginning with a digit")
    } else if name.starts_with("__") {
        Some("begins with `__`, which Prometheus keeps for itself")
    } else if value.is_empty() {
        Some("is empty, and Alertmanager refuses empty labels")
    } else {
        None
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_a_name_of_prometheus_and_is_not_taken() {
        for (name, value) in [("team", "copilot"), ("_a1", "x"), ("A", "ä b")] {
            assert_eq!(refused(name, value), None, "{name}={value}");
        }
        for (name, value) in
            [("", "x"), ("a b", "x"), ("9a", "x"), ("a-b", "x"), ("__x", "x"), ("team", ""), ("ä", "x")]
        {
            assert!(refused(name, value).is_some(), "{name}={value}");
        }
        assert!(OWN.iter().all(|name| refused(name, "x").is_some()));
    }
}
