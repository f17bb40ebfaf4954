//! Rule files and configuration from arbitrary bytes: an answer or complaints with places in the text, never a panic.
//!
//! `cargo +nightly fuzz run rules`

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use rearguard::config::Config;
use rearguard::engine::budget::Timing;
use rearguard::engine::rule::compile::compile_rules;
use rearguard::engine::rule::condition;
use rearguard::engine::rule::diagnostic::Diagnostic;
use rearguard::engine::rule::review::{check_budgets, without_fast_companion};
use rearguard::model::metric::Catalogue;

fn placed(found: &[Diagnostic], text: &str) {
    for diagnostic in found {
        assert!(diagnostic.span.offset <= text.len(), "{diagnostic:?}");
        assert!(text.is_char_boundary(diagnostic.span.offset), "{diagnostic:?}");
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let catalogue = Catalogue::default();
    let _ = condition::parse(text, &catalogue);
    match compile_rules(&[("fuzz.yaml", text)], &catalogue, &[]) {
        Ok(compiled) => {
            placed(&compiled.warnings, text);
            check_budgets(&compiled, &Timing::default());
            without_fast_companion(&compiled);
        }
        Err(errors) => placed(&errors, text),
    }
    // Secret files are not to be opened by chance.
    if text.contains("file") {
        return;
    }
    if let Err(errors) = Config::parse(Path::new("fuzz.yaml"), text, &|_| None) {
        placed(&errors, text);
    }
});
