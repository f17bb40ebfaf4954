//! The operator's own texts: from the configuration into dispatch, with what is wrong in them told as of any other file.

use crate::config::{Config, Template};
use crate::dispatch::template::{Mistake, Part, Templates};
use crate::engine::rule::diagnostic::Diagnostic;

/// The templates of a configuration, tried on every example.
///
/// # Errors
///
/// All mistakes, with file and line.
pub fn templates(config: &Config) -> Result<Templates, Vec<Diagnostic>> {
    let own: Vec<_> =
        Part::ALL.into_iter().filter_map(|part| Some((part, of(config, part)?.text.clone()))).collect();
    Templates::new(&own).map_err(|found| found.iter().map(|mistake| told(config, mistake)).collect())
}

fn of(config: &Config, part: Part) -> Option<&Template> {
    match part {
        Part::Summary => config.templates.summary.as_ref(),
        Part::Detail => config.templates.detail.as_ref(),
        Part::Incident => config.templates.incident.as_ref(),
    }
}

fn told(config: &Config, mistake: &Mistake) -> Diagnostic {
    let part = mistake.part.as_str();
    let message = format!("`templates.{part}`: {}", mistake.message);
    let found = match of(config, mistake.part) {
        Some(Template { text, file: Some(path) }) => {
            Diagnostic::error(&path.display().to_string(), text, mistake.span, message)
        }
        _ => {
            let message = format!("line {} of {message}", mistake.line);
            Diagnostic::whole_file(&config.path.display().to_string(), message)
        }
    };
    match &mistake.help {
        Some(help) => found.with_help(help.clone()),
        None => found,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str, path: &Path) -> Config {
        let text = format!("kafka: {{ brokers: 'localhost:9092', topics: [t] }}\n{text}");
        Config::parse(path, &text, &|_| None).unwrap()
    }

    #[test]
    fn a_mistake_has_the_place_in_its_own_file_or_names_the_line_of_the_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rearguard.yaml");
        std::fs::write(folder.path().join("incident.md"), "# {{ headline }}\n\n{{ verdcit }}\n").unwrap();
        let config = config(
            "templates:\n  summary: |\n    {{ variant }}\n    {{ measrued }}\n  incident: { file: incident.md }\n",
            &path,
        );
        let found = templates(&config).unwrap_err();
        let told: Vec<_> = found
            .iter()
            .map(|d| (d.file.as_str(), d.line, d.column, d.message.as_str(), d.help.as_deref().unwrap()))
            .collect();
        let (own, beside) =
            (path.display().to_string(), folder.path().join("incident.md").display().to_string());
        assert_eq!(
            told,
            [
                (
                    own.as_str(),
                    0,
                    0,
                    "line 2 of `templates.summary`: there is no `measrued`",
                    "did you mean `measured`?"
                ),
                (
                    beside.as_str(),
                    3,
                    4,
                    "`templates.incident`: there is no `verdcit`",
                    "did you mean `verdict`?"
                ),
            ]
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_told_where_it_is_named() {
        for (text, said) in [
            ("templates: { detail: { file: nowhere.txt } }", "cannot be read"),
            ("templates: { detail: {} }", "names no file"),
            ("templates: { details: x }", "unknown key `details`"),
            ("templates: { summary: '' }", "must not be empty"),
        ] {
            let text = format!("kafka: {{ brokers: 'localhost:9092', topics: [t] }}\n{text}\n");
            let errors = Config::parse(Path::new("r.yaml"), &text, &|_| None).unwrap_err();
            assert!(
                errors.len() == 1 && errors[0].line == 2 && errors[0].message.contains(said),
                "{errors:?}"
            );
        }
    }
}
