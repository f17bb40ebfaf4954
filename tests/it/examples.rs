//! The examples of documents: commands are run, and what comes out is what the page shows.

use std::path::Path;

use crate::cli::{Ended, rearguard};

/// What was tried of a page.
#[derive(Debug, Default, PartialEq)]
pub struct Tried {
    /// Commands followed by their output.
    pub ran: usize,
    /// Files shown that are those in the repository.
    pub files: usize,
    /// Test files shown that pass as if they stood in `rules/tests`.
    pub tests: usize,
}

/// Tries the examples of a document, path from the repository's root. A block `sh` of one command that is followed by a block
/// `text` comes out so, `text tail`: ends so, `text part`: every line of it is there, warnings included. `yaml file=PATH`, also with `test` for `file`, is that file.
pub fn tried(page: &str) -> Tried {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(here.join(file)).unwrap();
    let text = read(page);
    let mut parts = text.split("```");
    let (mut tried, mut command) = (Tried::default(), None);
    while let (Some(_), Some(block)) = (parts.next(), parts.next()) {
        let (info, body) = block.split_once('\n').unwrap();
        match (info, command.take()) {
            ("sh", _) => command = Some(body.trim().to_owned()),
            ("text" | "text tail" | "text part", Some(command)) => {
                let words: Vec<&str> = command.split_whitespace().skip(1).collect();
                let Ended { out, err, .. } = rearguard(here, &[], &words);
                let same = match info {
                    "text" => out == body && err.is_empty(),
                    "text tail" => out.ends_with(body) && err.is_empty(),
                    _ => body.lines().all(|line| out.lines().chain(err.lines()).any(|said| said == line)),
                };
                assert!(same && !body.is_empty(), "{page}: {command}\ncomes out as:\n{out}{err}");
                tried.ran += 1;
            }
            ("yaml test", _) => {
                let folder = tempfile::tempdir().unwrap();
                let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
                file("r.yaml", &read("rules/support-copilot.yaml"));
                file("t.yaml", &body.replace("../support-copilot.yaml", "r.yaml"));
                let ended = rearguard(folder.path(), &[], &["test", "t.yaml"]);
                assert_eq!(ended.code, 0, "{page}: {body}\n{ended:?}");
                tried.tests += 1;
            }
            (info, _) => {
                let named = info.strip_prefix("yaml test=").or_else(|| info.strip_prefix("yaml file="));
                let Some(file) = named else { continue };
                assert_eq!(read(file), body, "{page}: {file}");
                tried.files += 1;
            }
        }
    }
    tried
}
