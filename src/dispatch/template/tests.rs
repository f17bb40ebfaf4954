use proptest::prelude::*;

use super::*;
use crate::engine::output::MessageKind;
use crate::telemetry::Metrics;

fn read(part: Part, text: &str) -> Result<Templates, Vec<Mistake>> {
    Templates::new(&[(part, text.to_owned())])
}

fn told(templates: &Templates, story: &Story) -> Message {
    let built_in = with_outcome(&example::message(), &story.opener, story.flip.as_ref(), None);
    templates.message(built_in, &story.opener, story.flip.as_ref())
}

#[test]
fn own_words_stand_instead_of_the_built_in_ones() {
    let own = [
        (Part::Summary, "{{ variant }}: {{ measured }} [{{ standing }}]".to_owned()),
        (
            Part::Detail,
            "{{ detail }}\n\nDashboard: https://grafana.example.com/d/x?var-flag={{ flag }}".to_owned(),
        ),
        (Part::Incident, "# {{ headline }}\n\n\n\n{{ verdict }}".to_owned()),
    ];
    let templates = Templates::new(&own).unwrap();
    for (case, story) in example::cases() {
        let plain = with_outcome(&example::message(), &story.opener, story.flip.as_ref(), None);
        let said = told(&templates, &story);
        let mark = if story.opener.drill { "[DRILL] " } else { "" };
        assert!(
            said.summary.starts_with(&format!("{mark}{}: ", story.opener.variant)),
            "{case}: {}",
            said.summary
        );
        assert!(said.detail.starts_with(&plain.detail), "{case}: {}", said.detail);
        assert!(said.detail.ends_with("var-flag=ai.support-copilot.prompt-v18"), "{case}: {}", said.detail);
        assert_eq!((said.kind, &said.dedup_key), (plain.kind, &plain.dedup_key), "{case}");
        let incident = templates.incident(&story).unwrap();
        assert!(incident.starts_with("# ") && !incident.contains("\n\n\n"), "{case}: {incident}");
    }
    let failed = &example::cases()[3].1;
    assert_eq!(told(&templates, failed).kind, MessageKind::RollbackFailed);
}

#[test]
fn without_own_words_everything_stays_as_it_is() {
    for (case, story) in example::cases() {
        let plain = with_outcome(&example::message(), &story.opener, story.flip.as_ref(), None);
        assert_eq!(told(&Templates::default(), &story), plain, "{case}");
        assert_eq!(Templates::default().incident(&story), None);
    }
}

#[test]
fn the_mark_of_a_drill_stays_and_is_not_said_twice() {
    let drill = &example::cases().into_iter().find(|(_, story)| story.opener.drill).unwrap().1;
    for text in ["all is lost", "{{ summary }}", "[DRILL] x"] {
        let said = told(&read(Part::Summary, text).unwrap(), drill).summary;
        assert!(said.starts_with("[DRILL] ") && said.matches("[DRILL]").count() == 1, "{said}");
    }
    let long = told(&read(Part::Summary, &"x\n".repeat(400)).unwrap(), drill).summary;
    assert!(!long.contains('\n') && long.chars().count() == 200, "{long}");
}

#[test]
fn a_mistake_is_told_with_its_place_and_what_would_be_right() {
    for (part, text, line, said, help) in [
        (Part::Incident, "a\n{{ headlin }}", 2, "there is no `headlin`", Some("did you mean `headline`?")),
        (Part::Summary, "{{ flags }}", 1, "there is no `flags`", Some("did you mean `flag`?")),
        (
            Part::Detail,
            "x\ny\n{{ zzzzzzzz }}",
            3,
            "there is no `zzzzzzzz`",
            Some("there are action, bad_minutes, by,"),
        ),
        (Part::Summary, "{% if %}", 1, "syntax error", None),
        (Part::Summary, "{{ by.actor }}", 1, "tried on a rollback that is verified", None),
        (Part::Summary, "{{ interval | nothing_like_it }}", 1, "nothing_like_it", None),
        (Part::Summary, "{% if drill %}x{% endif %}", 1, "it gives no text", None),
        (
            Part::Detail,
            "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}x",
            1,
            "fuel",
            None,
        ),
        (Part::Detail, "{% for i in range(20000) %}{{ detail }}{% endfor %}", 1, "", None),
        (Part::Detail, "{% include 'other' %}", 1, "", None),
    ] {
        let mistakes = read(part, text).expect_err(text);
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        let mistake = &mistakes[0];
        assert_eq!((mistake.part, mistake.line), (part, line), "{mistake:?}");
        assert!(mistake.message.contains(said), "{mistake:?}");
        assert_eq!(mistake.help.is_some(), help.is_some(), "{mistake:?}");
        assert!(
            mistake.help.as_deref().unwrap_or_default().starts_with(help.unwrap_or_default()),
            "{mistake:?}"
        );
    }
    let both = Templates::new(&[(Part::Summary, "{{ a1 }}".into()), (Part::Detail, "{{ b1 }}".into())]);
    assert_eq!(both.unwrap_err().len(), 2, "all at once");
}

#[test]
fn what_fails_all_the_same_gives_way_to_the_built_in_text_and_is_counted() {
    // No example has this tenant: the mistake shows only when it is needed.
    let text = "{% if scope == 'tenant hidden' %}{{ flag.nothing.at_all }}{% endif %}own";
    let mut story = example::story();
    let templates = read(Part::Summary, text).unwrap();
    assert_eq!(told(&templates, &story).summary, "own");
    story.opener.scope =
        crate::model::flag::Scope::Only(crate::model::flag::Dimension::Tenant, "hidden".into());
    let plain = with_outcome(&example::message(), &story.opener, story.flip.as_ref(), None);
    let (rendering, recorder) = Metrics::detached().unwrap();
    let said = metrics::with_local_recorder(&recorder, || told(&templates, &story));
    let scope = facts(&story.opener, story.flip.as_ref()).scope;
    assert_eq!((said.summary, scope.as_str()), (plain.summary, "tenant hidden"));
    let counted = "rearguard_template_failures_total{template=\"summary\"} 1";
    assert!(rendering.render().contains(counted), "{}", rendering.render());
}

#[test]
fn the_documentation_names_exactly_what_there_is() {
    let page = include_str!("../../../docs/templates.md");
    for part in [Part::Summary, Part::Incident] {
        let table: BTreeSet<String> = page
            .split("## ")
            .find(|section| {
                section.starts_with(if part == Part::Incident {
                    "Names in incidents"
                } else {
                    "Names in messages"
                })
            })
            .expect("a section")
            .lines()
            .filter_map(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned()))
            .collect();
        assert_eq!(table, names(part));
    }
}

proptest! {
    /// Whatever is written: it is refused, or gives a message that says something; nothing panics.
    #[test]
    fn any_template_is_refused_or_says_something(text in "(\\{\\{ (flag|summary|x|1/0|by.actor) \\}\\}|\\{% (if drill|endif|for i in detail|endfor|raw|macro x\\(\\)) %\\}|[ -~\n]){0,12}") {
        for part in Part::ALL {
            let Ok(templates) = read(part, &text) else { continue };
            for (_, story) in example::cases() {
                let said = told(&templates, &story);
                prop_assert!(!said.summary.trim().is_empty() && !said.detail.trim().is_empty());
                prop_assert_eq!(said.summary.starts_with("[DRILL] "), story.opener.drill || said.summary.starts_with("[DRILL] "));
            }
        }
    }
}
