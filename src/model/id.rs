//! Identifiers as types, so that a rule id can never be passed where a flag key is wanted.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a name. Validation belongs to the parser that read it.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self::new(name)
            }
        }
    };
}

name! {
    /// A variant as events and OFREP spell it: `<feature>.<change-id>`, e.g. `support-copilot.prompt-v18`.
    Variant
}
name! {
    /// A flag key, by default `ai.<feature>.<change-id>`.
    FlagKey
}
name! {
    /// A rule's id, unique within its flag.
    RuleId
}
name! {
    /// A decision's id: 32 hex digits of BLAKE3 over flag, scope, rule, the rule's hash and the start of the breach.
    DecisionId
}
name! {
    /// An incident's id: one per flag episode.
    IncidentId
}

impl Variant {
    /// The part before the first dot: the feature that the variant belongs to.
    pub fn feature(&self) -> &str {
        self.0.split_once('.').map_or(&*self.0, |(feature, _)| feature)
    }

    /// The flag key that a rule file means when it names none.
    pub fn default_flag(&self) -> FlagKey {
        FlagKey::new(format!("ai.{}", self.0))
    }
}
