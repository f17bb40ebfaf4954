//! Reads rule and configuration files: bounded, UTF-8, with a clear complaint otherwise.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::engine::rule::diagnostic::{Diagnostic, Span};
use crate::engine::rule::yaml::MAX_FILE_BYTES;

/// The content of a file that people write.
pub fn read_file(path: &Path) -> Result<String, Diagnostic> {
    let name = path.display().to_string();
    let failed = |error: &std::io::Error| Diagnostic::whole_file(&name, format!("cannot be read: {error}"));
    let file = fs::File::open(path).map_err(|e| failed(&e))?;
    let mut bytes = Vec::new();
    let limit = MAX_FILE_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(Diagnostic::whole_file(&name, "the file is larger than the 1 MiB that is read"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        Diagnostic::error(&name, &text, Span::new(good, 1), "the file is not UTF-8")
            .with_help("save it as UTF-8; a byte that is none stands here")
    })
}

/// The rule files behind paths, folders and patterns (`rules/*.yaml`), each with name and content, in the order given,
/// those of a folder by name.
pub fn rule_files(places: &[PathBuf]) -> Result<Vec<(String, String)>, Vec<Diagnostic>> {
    let (files, errors) = readable_rule_files(places);
    if errors.is_empty() { Ok(files) } else { Err(errors) }
}

/// The same for those who look at what can be read although something cannot.
pub fn readable_rule_files(places: &[PathBuf]) -> (Vec<(String, String)>, Vec<Diagnostic>) {
    let help = "rules are the files in `rules/` beside the configuration, unless `rules:` names others; README.md has one to begin with";
    let (paths, mut errors) = yaml_files(places, "rule", help);
    let mut files = Vec::new();
    for path in paths {
        match read_file(&path) {
            Ok(text) => files.push((path.display().to_string(), text)),
            Err(error) => errors.push(error),
        }
    }
    (files, errors)
}

/// The files behind paths, folders and patterns, in the order given, those of a folder by name, none twice. `noun` is what they
/// hold; `help` says where they would be. With them an error for every place where there is no such file.
pub fn yaml_files(places: &[PathBuf], noun: &str, help: &str) -> (Vec<PathBuf>, Vec<Diagnostic>) {
    let (mut paths, mut errors) = (Vec::new(), Vec::new());
    for place in places {
        match expand(place, noun, help) {
            Ok(found) => paths.extend(found),
            Err(error) => errors.push(error),
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    paths.retain(|path| seen.insert(fs::canonicalize(path).unwrap_or_else(|_| path.clone())));
    (paths, errors)
}

fn expand(place: &Path, noun: &str, help: &str) -> Result<Vec<PathBuf>, Diagnostic> {
    let name = place.display().to_string();
    let pattern = place.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    if place.is_dir() {
        return list(place, noun, &|file| file.ends_with(".yaml") || file.ends_with(".yml"));
    }
    if pattern.contains('*') {
        let folder = match place.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        return list(folder, noun, &|file| matches(pattern, file));
    }
    if !place.exists() {
        let message = format!("there is no such {noun} file or folder");
        return Err(Diagnostic::whole_file(&name, message).with_help(help));
    }
    Ok(vec![place.to_owned()])
}

fn list(folder: &Path, noun: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<PathBuf>, Diagnostic> {
    let name = folder.display().to_string();
    let failed = |error| Diagnostic::whole_file(&name, format!("cannot be read: {error}"));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let file = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        // Editors and Kubernetes leave hidden files and folders beside the real ones.
        if !file.starts_with('.') && wanted(file) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(Diagnostic::whole_file(&name, format!("no {noun} files here"))
            .with_help(format!("{noun} files end in `.yaml` or `.yml`")));
    }
    Ok(found)
}

/// `*` stands for any run of characters.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|tail| {
            (0..=tail.len()).any(|at| tail.is_char_boundary(at) && matches(rest, &tail[at..]))
        }),
    }
}
