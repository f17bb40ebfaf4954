//! The layer rules of the house, read off the `use crate::` lines and every other `crate::` path.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom. What is missing here may import everything.
const MAY_IMPORT: [(&str, &[&str]); 11] = [
    ("model", &[]),
    ("stats", &[]),
    ("clock", &["model"]),
    ("supervise", &["telemetry"]),
    ("engine", &["model", "stats"]),
    ("store", &["engine", "model"]),
    ("telemetry", &["engine", "model"]),
    ("ingest", &["engine", "model", "telemetry", "supervise", "clock"]),
    ("lab", &["ingest", "engine", "stats", "model"]),
    ("dispatch", &["store", "engine", "model", "telemetry", "supervise", "clock"]),
    ("http", &["store", "engine", "model", "telemetry", "supervise", "clock"]),
];

/// Only these may import the composition root, the commands and the laboratory.
const MAY_IMPORT_APP: [&str; 3] = ["app", "cli", "main"];

#[test]
fn layers_import_only_what_lies_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut broken = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for file in rust_files(&root) {
        let layer = layer_of(&root, &file);
        let text = fs::read_to_string(&file).unwrap();
        for imported in imports(&text) {
            *seen.entry(layer.clone()).or_default() += 1;
            if imported != layer && !may_import(&layer, &imported) {
                broken.push(format!("{} imports crate::{imported}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken layer rules:\n{}", broken.join("\n"));
    assert!(seen.get("engine").is_some_and(|n| *n > 10), "the check must see imports: {seen:?}");
}

#[test]
fn files_stay_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let long: Vec<String> = ["src", "tests", "benches"]
        .iter()
        .flat_map(|folder| rust_files(&root.join(folder)))
        .filter_map(|file| {
            let lines = fs::read_to_string(&file).ok()?.lines().count();
            (lines > 500).then(|| format!("{} has {lines} lines", file.display()))
        })
        .collect();
    assert!(long.is_empty(), "files of more than 500 lines:\n{}", long.join("\n"));
}

#[test]
fn the_check_sees_every_way_to_name_a_layer() {
    let text = "use crate::store::Store;\nuse crate::{ingest, model::id};\nfn f() { crate::http::serve() }\n// crate::cli";
    assert_eq!(imports(text), ["store", "ingest", "model", "http"]);
}

fn may_import(layer: &str, imported: &str) -> bool {
    // Only compiled for tests.
    if imported == "testing" {
        return true;
    }
    if ["app", "cli", "lab"].contains(&imported) {
        return MAY_IMPORT_APP.contains(&layer);
    }
    MAY_IMPORT.iter().find(|(name, _)| *name == layer).is_none_or(|(_, below)| below.contains(&imported))
}

fn layer_of(root: &Path, file: &Path) -> String {
    let inside = file.strip_prefix(root).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The first path segment after every `crate::`, comments left out.
fn imports(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().map(|l| l.split("//").next().unwrap_or("")).collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for (place, _) in code.match_indices("crate::") {
        let rest = &code[place + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let list = &list[..matching(list)];
            found.extend(split_top(list).map(word));
        } else {
            found.push(word(rest));
        }
    }
    found.retain(|name| !name.is_empty() && name.chars().all(|c| c.is_lowercase() || c == '_'));
    found
}

fn matching(list: &str) -> usize {
    let mut depth = 1;
    for (at, c) in list.char_indices() {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if depth == 0 {
            return at;
        }
    }
    list.len()
}

fn split_top(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    list.split(move |c| {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        c == ',' && depth == 0
    })
}

fn word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return files };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
