//! The rule language from the outside: what compiles to what, and what every mistake is told.

mod findings;
mod good;
mod table;
mod traps;

use super::compile::{Compiled, compile_rules};
use super::diagnostic::Diagnostic;
use crate::model::flag::FlagSpec;
use crate::model::metric::Catalogue;

/// A configured flag whose treatment is `shop.v2` and whose control is `shop.v1`.
pub(super) fn flags() -> Vec<FlagSpec> {
    vec![FlagSpec {
        key: "ai.shop.v2".into(),
        control: "shop.v1".into(),
        treatment: "shop.v2".into(),
        share: 250_000,
        frozen: false,
        served: None,
        drill: false,
    }]
}

pub(super) fn compile(text: &str) -> Result<Compiled, Vec<Diagnostic>> {
    compile_rules(&[("r.yaml", text)], &Catalogue::default(), &flags())
}

/// One rule of `shop.v2` with the given further lines.
pub(super) fn one(condition: &str, more: &[&str]) -> Result<Compiled, Vec<Diagnostic>> {
    let more: String = more.iter().map(|line| format!("      {line}\n")).collect();
    let action = if more.contains("action:") { "" } else { "      action: rollback\n" };
    compile(&format!("- variant: shop.v2\n  rules:\n    - condition: {condition}\n{action}{more}"))
}

/// Errors as `line:column message (help)`.
pub(super) fn said(result: Result<Compiled, Vec<Diagnostic>>) -> Vec<String> {
    let found = match result {
        Ok(compiled) => compiled.warnings,
        Err(errors) => errors,
    };
    found
        .iter()
        .map(|d| {
            let help = d.help.as_ref().map(|h| format!(" ({h})")).unwrap_or_default();
            format!("{}:{} {}{help}", d.line, d.column, d.message)
        })
        .collect()
}
