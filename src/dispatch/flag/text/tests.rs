//! Generated files with a flag to change in the middle: everything around it is the same to the byte afterwards.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn pin() -> Vec<Change> {
    vec![
        Change::Set("state", json!("ENABLED")),
        Change::Set("rule", json!({"variation": "v17"})),
        Change::Remove("targeting"),
        Change::Remove("absent"),
    ]
}

/// What a person may have left between definitions.
fn remark(mark: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("\n".to_owned()),
        "[ -~é]{0,20}".prop_map(move |words| format!("{mark} {}\n", words.replace(['*', '/'], ""))),
    ]
}

/// The flag's members in any order, each with its text in a language.
fn members(texts: [&'static str; 4]) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(texts.to_vec(), 1..=4).prop_shuffle()
}

fn law(format: Format, before: &str, flag: &str, after: &str) -> Result<(), TestCaseError> {
    let text = format!("{before}{flag}{after}");
    let path = if format == Format::Json { vec!["flags", "x"] } else { vec!["x"] };
    let edited =
        format.edit(&text, &path, &pin()).map_err(|why| TestCaseError::fail(format!("{why}\n{text}")))?;
    prop_assert!(edited.starts_with(before), "before:\n{text}\nafter:\n{edited}");
    prop_assert!(edited.ends_with(after), "before:\n{text}\nafter:\n{edited}");
    let meant = format.parse(&edited).unwrap();
    let found = find(&meant, &path).unwrap();
    prop_assert_eq!(&found["state"], "ENABLED");
    prop_assert_eq!(&found["rule"], &json!({"variation": "v17"}));
    prop_assert!(found.get("targeting").is_none());
    prop_assert_eq!(&found["variants"]["v17"], "a # b");
    Ok(())
}

proptest! {
    #![proptest_config(crate::testing::cases(64))]

    #[test]
    fn json_keeps_what_is_around(
        members in members([
            "\"state\": \"DISABLED\"", "\"targeting\": {\"if\": [{\"}\": 1}, /* in */ \"v18\"]}",
            "\"rule\": {\"percentage\": {\"v17\": 1}}", "\"name\": \"n\"",
        ]),
        one in remark("//"), two in remark("//"), crlf in any::<bool>(),
    ) {
        let eol = |text: String| if crlf { text.replace('\n', "\r\n") } else { text };
        let members: Vec<String> = members.iter().map(|m| format!("      {m}")).collect();
        let flag = eol(format!(
            "{{\n      \"variants\": {{\"v17\": \"a # b\"}},\n{}\n    }}", members.join(",\n")));
        let before = eol(format!("{{\n{one}  \"flags\": {{\n    \"a\" : {{ \"variants\":{{}} }},\n{two}    \"x\": "));
        let after = eol(format!(",\n{one}    \"z\": {{\"targeting\":  [1,2 ]}}\n  }}\n}}\n"));
        law(Format::Json, &before, &flag, &after)?;
    }

    #[test]
    fn yaml_keeps_what_is_around(
        members in members([
            "  state: DISABLED  # off\n",
            "  targeting:\n  - query: a eq \"b\"\n    name: |\n      # no remark\n\n      text\n  # end\n",
            "  rule:\n    percentage:\n      v17: 1\n", "  \"name\": >-\n    n\n\n    m\n",
        ]),
        one in remark("#"), two in remark("#"), last in any::<bool>(), crlf in any::<bool>(),
    ) {
        let eol = |text: String| if crlf { text.replace('\n', "\r\n") } else { text };
        let before = eol(format!("{one}a: {{ variants: [1,  2] }} # keep\n{two}x:\n"));
        let flag = eol(format!("  variants: {{ v17: 'a # b' }}\n{}", members.concat()));
        let after = if last { String::new() } else { eol(format!("{one}{two}z:\n  targeting:   [x]\n")) };
        law(Format::Yaml, &before, &flag, &after)?;
    }

    #[test]
    fn yaml_in_braces_keeps_what_is_around(
        members in members([
            "state: DISABLED", "targeting: [{ query: 'it''s } [', \"n\": \"\\\"}\" }, { p: it's # no } end\n }]",
            "rule: { percentage: { v17: 1 } }", "name: a b",
        ]),
        one in remark("#"), wide in any::<bool>(), open in any::<bool>(), crlf in any::<bool>(),
    ) {
        let eol = |text: String| if crlf { text.replace('\n', "\r\n") } else { text };
        let (between, comma) = (if wide { ",\n    " } else { ", " }, if open { "," } else { "" });
        let flag = format!("{{ variants: {{ v17: 'a # b' }}{between}{}{comma} }}", members.join(between));
        law(Format::Yaml, &eol(format!("{one}a: {{ x: {{}} }}\nx: ")), &eol(flag), &eol(format!(" # {{ end\n{one}z: {{ y: 1 }}\n")))?;
        let flag = format!("{{{}{between}variants: {{ v17: \"a # b\" }}}}", members.join(between));
        law(Format::Yaml, &eol(format!("{one}x: ")), &eol(flag), "")?;
    }

    #[test]
    fn toml_keeps_what_is_around(
        members in members([
            "[[x.targeting]]\nquery = 'a'\n", "[x.rule]\n# why\npercentage = { v17 = 1 }\n",
            "[[x.targeting]]\nquery = 'b'\n[x.targeting.percentage]\nv17 = 5.5\n", "[x.metadata]\nn = 1\n",
        ]),
        disabled in any::<bool>(), one in remark("#"), two in remark("#"), crlf in any::<bool>(),
    ) {
        let eol = |text: String| if crlf { text.replace('\n', "\r\n") } else { text };
        let mut members = members;
        // Both targetings have to stand together, as one list.
        members.sort_by_key(|member| !member.starts_with("[[x.targeting"));
        let state = if disabled { "state = 'DISABLED'\n" } else { "" };
        let before = eol(format!("{one}[a]\nk  =  1 # keep\n{two}[x]\n"));
        let flag = eol(format!("{state}variants = {{ v17 = 'a # b' }}\n{}", members.concat()));
        law(Format::Toml, &before, &flag, &eol(format!("{one}[z]\ntargeting=[ 1,2 ]\n")))?;
    }
}

#[test]
fn what_cannot_be_edited_is_refused_with_its_reason() {
    for (format, text, why) in [
        (Format::Json, "{\"flags\": {", "not valid JSON: "),
        (Format::Json, "{\"flags\": {\"y\": {}}}", "there is no flag `x`"),
        (Format::Json, "{\"flags\": {\"x\": {\"state\": 1, \"state\": 2}}}", "`state` stands 2 times"),
        (Format::Json, "{\"flags\": {\"x\": {}, \"x\": {}}}", "`x` stands 2 times"),
        (Format::Yaml, "flags:\n  x:\n\t- a\n", "not valid YAML"),
        (Format::Yaml, "flags:\n  x:\n    state: a\n    targeting: &t [1]\n  y: *t\n", "an anchor"),
        (Format::Yaml, "flags:\n  y: &y\n    state: a\n  x: *y\n", "`x`"),
        (Format::Toml, "flags = ", "not valid TOML: line 1"),
        (Format::Toml, "[flags.x]\r\nstate = 1\n", "some in LF"),
    ] {
        let refused = format.edit(text, &["flags", "x"], &pin()).expect_err(text);
        assert!(refused.contains(why), "{text}: {refused}");
    }
}

#[test]
fn flagd_may_list_its_flags() {
    let text = "flags:\n- key: a\n  state: DISABLED\n- key: x\n  targeting: 1\n  # end\n- key: z\n";
    let edited = Format::Yaml.edit(text, &["flags", "x"], &[Change::Remove("targeting")]).unwrap();
    assert_eq!(edited, "flags:\n- key: a\n  state: DISABLED\n- key: x\n  # end\n- key: z\n");
    let text = "{\"flags\": [{\"key\": \"a\"}, {\"key\": \"x\", \"targeting\": 1}]}";
    let edited = Format::Json.edit(text, &["flags", "x"], &[Change::Remove("targeting")]).unwrap();
    assert_eq!(edited, "{\"flags\": [{\"key\": \"a\"}, {\"key\": \"x\"}]}");
}
