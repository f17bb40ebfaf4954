//! Rule files and configuration from arbitrary bytes: an answer or complaints with places in the text, never a panic.
//!
//! `cargo +nightly fuzz run rules`

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use rearguard::config::Config;
use rearguard::engine::budget::Timing;
use rearguard::engine::rule::compile::attempt;
use rearguard::engine::rule::condition;
use rearguard::engine::rule::diagnostic::Diagnostic;
use rearguard::engine::rule::review::{check_budgets, review};
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
    let (compiled, mut found) = attempt(&[("fuzz.yaml", text)], &catalogue, &[]);
    found.extend(review(&compiled, &catalogue, true));
    found.extend(check_budgets(&compiled, &Timing::default()));
    placed(&found, text);
    // Secret files are not to be opened by chance.
    if text.contains("file") {
        return;
    }
    if let Err(errors) = Config::parse(Path::new("fuzz.yaml"), text, &|_| None) {
        placed(&errors, text);
    }
});
