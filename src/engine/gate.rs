//! What stands between a decision and its effect: each gate with its reason and what a human does about it.

use serde::{Deserialize, Serialize};

/// Why a decision is, or is not, carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "gate", rename_all = "snake_case")]
pub enum Gate {
    /// Nothing stands in the way.
    Act,
    DryRun,
    /// `automation off`.
    AutomationOff,
    /// Too many flips within ten minutes.
    FlipLimit {
        limit: u32,
        of: String,
    },
    /// The flag's control breaches the same condition, or most fresh variants breach together.
    WorldBreach {
        why: String,
    },
    /// The flag is latched already: this decision joins its incident.
    AlreadyLatched,
    /// No configured flag serves this variant, so there is nothing to flip.
    UnknownFlag,
    /// The rollback is about a slice, and the flag's platform can only be changed for everybody.
    NoSlices {
        platform: String,
    },
}

impl Gate {
    /// The word stored, shown and counted.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Act => "act",
            Self::DryRun => "dry_run",
            Self::AutomationOff => "automation_off",
            Self::FlipLimit { .. } => "flip_limit",
            Self::WorldBreach { .. } => "world_breach",
            Self::AlreadyLatched => "already_latched",
            Self::UnknownFlag => "unknown_flag",
            Self::NoSlices { .. } => "no_slices",
        }
    }

    /// What stands in the way, in words; `None` when the action is carried out, or was before.
    pub fn withholds(&self) -> Option<String> {
        Some(match self {
            Self::Act | Self::AlreadyLatched => return None,
            Self::DryRun => "it is a dry run (of the rule, or of the whole configuration)".into(),
            Self::AutomationOff => "automation is switched off".into(),
            Self::FlipLimit { limit, of } => {
                format!("the limit of {limit} rollbacks in ten minutes ({of}) is used up")
            }
            Self::WorldBreach { why } => format!("it looks like the world, not the variant: {why}"),
            Self::UnknownFlag => "no configured flag serves this variant, so there is nothing to flip".into(),
            Self::NoSlices { platform } => format!(
                "the rule is about a slice (`by`), and the flag's platform, `{platform}`, is changed for everybody or for nobody"
            ),
        })
    }

    /// What a human does about it, beside turning the feature off; `None` when nothing is withheld.
    pub const fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Act | Self::AlreadyLatched => None,
            Self::DryRun => {
                Some("When its decisions look right, take the dry run off in the rule or the configuration.")
            }
            Self::AutomationOff => Some(
                "`rearguard automation on --reason …` lets Rearguard act again: while the breach lasts, it then acts by itself at the end of the next minute.",
            ),
            Self::FlipLimit { .. } => Some(
                "While the breach lasts, Rearguard acts by itself as soon as the limit allows it. So many rollbacks at once have a common cause more often than not: look for that.",
            ),
            Self::WorldBreach { .. } => Some(
                "Look at what the variants share: the provider, retrieval, the network, the judge. Once this variant alone is in breach, Rearguard acts by itself.",
            ),
            Self::UnknownFlag => Some(
                "Turn the variant off where it is served, and declare its flag under `flags:` in the configuration.",
            ),
            Self::NoSlices { .. } => Some(
                "Exclude the slice at the flag's platform by hand. With `scope: all` the rule would roll everybody back.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_withholds_says_why_and_what_to_do() {
        for (gate, withholds) in [
            (Gate::Act, false),
            (Gate::AlreadyLatched, false),
            (Gate::DryRun, true),
            (Gate::AutomationOff, true),
            (Gate::FlipLimit { limit: 5, of: "in all".into() }, true),
            (Gate::WorldBreach { why: "control shop.v1 breaches the same condition".into() }, true),
            (Gate::UnknownFlag, true),
            (Gate::NoSlices { platform: "prod".into() }, true),
        ] {
            assert_eq!(
                (gate.withholds().is_some(), gate.advice().is_some()),
                (withholds, withholds),
                "{gate:?}"
            );
        }
        let limit = Gate::FlipLimit { limit: 2, of: "of tenant acme".into() };
        assert_eq!(
            limit.withholds().unwrap(),
            "the limit of 2 rollbacks in ten minutes (of tenant acme) is used up"
        );
    }
}
