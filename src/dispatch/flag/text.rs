//! Flag files as text: one flag's definition is changed, every byte outside of it stays as it is.
//!
//! In: a file's text, where the flag stands in it, and what to set or remove there. Out: the new text. Comments, order and
//! spacing survive; what cannot be edited so is refused. Each edit is proved before anybody writes it: read again, the new
//! text must mean what the old one meant, with exactly the wanted changes.

mod json;
mod toml;
mod yaml;

use std::path::Path;

use serde_json::Value;

/// In which language a file is written, by its ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// With or without comments and trailing commas.
    Json,
    Yaml,
    Toml,
}

impl Format {
    /// The language of a file with this name, if it is one that can be edited.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "json" | "jsonc" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            _ => None,
        }
    }

    /// What a text means. An error says what is wrong and where.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Json => json::parse(text),
            Self::Yaml => yaml::parse(text),
            Self::Toml => toml::parse(text),
        }
    }

    /// Changes the definition that stands at `path`. An error says why that is not possible.
    pub fn edit(self, text: &str, path: &[&str], changes: &[Change]) -> Result<String, String> {
        let mut wanted = self.parse(text)?;
        let flag = find_mut(&mut wanted, path).ok_or_else(|| no_flag(path))?;
        for change in changes {
            change.apply(flag)?;
        }
        let edited = match self {
            Self::Json => json::edit(text, path, changes),
            Self::Yaml => yaml::edit(text, path, changes),
            Self::Toml => toml::edit(text, path, changes),
        };
        match edited {
            Ok(edited) if self.parse(&edited).is_ok_and(|meant| meant == wanted) => return Ok(edited),
            // The text itself could be read, so it is a change that has broken it.
            Err(why) if !why.starts_with("not valid ") => return Err(why),
            _ => {}
        }
        Err(format!(
            "`{}` is written in a way that cannot be changed without changing something else; an anchor, an alias or an unusual layout does that",
            path.last().unwrap_or(&"")
        ))
    }
}

/// A change of one member of a flag's definition.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Set(&'static str, Value),
    Remove(&'static str),
}

impl Change {
    fn apply(&self, flag: &mut Value) -> Result<(), String> {
        let members = flag.as_object_mut().ok_or("the flag's definition is no mapping")?;
        match self {
            Self::Set(key, value) => {
                members.insert((*key).to_owned(), value.clone());
            }
            Self::Remove(key) => {
                members.remove(*key);
            }
        }
        Ok(())
    }
}

/// The value at a path. In a list, a step means the element whose `key` it is, as flagd has it.
pub fn find<'v>(root: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(root, |at, step| match at {
        Value::Array(items) => items.iter().find(|item| item["key"] == **step),
        other => other.get(step),
    })
}

fn find_mut<'v>(root: &'v mut Value, path: &[&str]) -> Option<&'v mut Value> {
    path.iter().try_fold(root, |at, step| match at {
        Value::Array(items) => items.iter_mut().find(|item| item["key"] == **step),
        other => other.get_mut(step),
    })
}

/// For a flag that is not there.
fn no_flag(path: &[&str]) -> String {
    format!("there is no flag `{}`", path.last().unwrap_or(&""))
}

#[cfg(test)]
mod tests;
