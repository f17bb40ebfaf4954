//! Requests against the trimmed OpenAPI descriptions in `tests/data/contracts`.

use std::path::Path;

use serde_json::{Value, json};

use super::Asked;

/// One vendor's description.
#[derive(Clone, Debug)]
pub struct Contract(Value);

impl Contract {
    pub fn of(vendor: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/contracts");
        let text = std::fs::read_to_string(root.join(vendor).join("openapi.json")).unwrap();
        Self(serde_json::from_str(&text).unwrap())
    }

    /// What a request breaks, in words.
    pub fn check(&self, asked: &Asked) -> Result<(), String> {
        let paths = self.0["paths"].as_object().unwrap();
        let Some((_, operations)) = paths.iter().find(|(template, _)| fits(template, asked.place())) else {
            return Err(format!("no path {}", asked.place()));
        };
        let Some(operation) = operations.get(asked.method.to_lowercase()) else {
            return Err(format!("no method {} at {}", asked.method, asked.place()));
        };
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        if schema.is_null() {
            return Ok(());
        }
        let sent = asked.headers.get("content-type").map(String::as_str).unwrap_or_default();
        if !sent.starts_with("application/json") {
            return Err(format!("content-type `{sent}`"));
        }
        self.matches(schema, asked.body.as_ref().unwrap_or(&Value::Null))
    }

    fn matches(&self, schema: &Value, body: &Value) -> Result<(), String> {
        let mut document = json!({"components": self.0["components"]});
        document.as_object_mut().unwrap().extend(schema.as_object().unwrap().clone());
        let validator = jsonschema::draft202012::new(&document).unwrap();
        let wrong: Vec<String> =
            validator.iter_errors(body).map(|error| format!("{}: {error}", error.instance_path())).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }
}

fn fits(template: &str, path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let wanted: Vec<&str> = template.split('/').collect();
    parts.len() == wanted.len()
        && wanted
            .iter()
            .zip(&parts)
            .all(|(wanted, part)| wanted == part || (wanted.starts_with('{') && !part.is_empty()))
}
