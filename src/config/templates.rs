//! The section `templates:`: the operator's own texts.

use std::path::PathBuf;

use serde::Serialize;

use super::read::Reader;
use crate::engine::rule::yaml::{Fields, Node, Value};

/// Own texts, each instead of a built-in one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Templates {
    pub summary: Option<Template>,
    pub detail: Option<Template>,
    pub incident: Option<Template>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Template {
    pub text: String,
    /// The file it was read from; `None` where it stands in the configuration.
    pub file: Option<PathBuf>,
}

impl Reader<'_, '_> {
    pub(super) fn templates(&mut self, node: &Node) -> Templates {
        let fields = self.doc.fields(node, "`templates`", &["summary", "detail", "incident"]);
        let Some(fields) = fields else { return Templates::default() };
        let mut one = |key: &str| self.template(&fields, key);
        Templates { summary: one("summary"), detail: one("detail"), incident: one("incident") }
    }

    /// Text, or `{ file: path }`.
    fn template(&mut self, fields: &Fields<'_>, key: &str) -> Option<Template> {
        let node = fields.get(key)?;
        let what = format!("`templates.{key}`");
        if !matches!(node.value, Value::Map(_)) {
            return Some(Template { text: self.doc.text(node, &what)?.to_owned(), file: None });
        }
        let fields = self.doc.fields(node, &what, &["file"])?;
        let Some(file) = fields.get("file") else {
            let help = "write the text itself, or `{ file: templates/page.txt }`";
            self.doc.error_help(node.at, format!("{what} names no file"), help);
            return None;
        };
        let path = self.folder.join(self.doc.text(file, &format!("the file of {what}"))?);
        match super::read_file(&path) {
            Ok(text) => Some(Template { text, file: Some(path) }),
            Err(error) => {
                let message = format!("the file of {what}, `{}`, {}", path.display(), error.message);
                self.doc.error(file.at, message);
                None
            }
        }
    }
}
