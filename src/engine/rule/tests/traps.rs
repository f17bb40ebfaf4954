use proptest::prelude::*;

use super::table::TRAPS;
use super::{compile, one, said};
use crate::engine::rule::condition;
use crate::model::metric::Catalogue;

#[test]
fn every_trap_is_refused_in_its_place() {
    let catalogue = Catalogue::default();
    for (text, column, message) in TRAPS {
        let faults = condition::parse(text, &catalogue).expect_err(text);
        let fault = &faults[0];
        let help = fault.help.as_ref().map(|h| format!(" ({h})")).unwrap_or_default();
        let said = format!("{}{help}", fault.message);
        assert!(said.starts_with(message), "{text}\n{said}");
        let at = text[..fault.at.offset].chars().count() + 1;
        assert_eq!(at, *column, "{text}: {said}");
        assert!(fault.at.end() <= text.len(), "{text}");
    }
}

#[test]
fn long_and_deep_conditions_are_refused_before_they_are_parsed() {
    let catalogue = Catalogue::default();
    let say = |text: String| condition::parse(&text, &catalogue).unwrap_err()[0].message.clone();
    let deep = |n: usize| format!("{}cost_1h{} > 1", "(".repeat(n), ")".repeat(n));
    assert_eq!(say(deep(33)), "the condition nests more than 32 deep");
    assert!(condition::parse(&deep(32), &catalogue).is_ok());
    assert_eq!(say(format!("cost_1h > {}1", "-".repeat(900))), "the condition nests more than 32 deep");
    assert_eq!(say("(".repeat(20_000)), "the condition is 20000 bytes long; 1024 are allowed");
    assert_eq!(say("(".repeat(1_024)), "the condition nests more than 32 deep");
    let long = format!("cost_1h > 0{}", "+1".repeat(63));
    assert!(condition::parse(&long, &catalogue).is_ok());
    assert_eq!(say(format!("cost_1h > 0{}", "+1".repeat(500))), "the condition has more than 64 operators");
}

#[test]
fn carets_stand_in_the_file() {
    assert_eq!(
        said(one("faithfulness_1h < 92%", &[])),
        ["3:38 something is missing after `%` (`%` is the remainder; write `0.92`)"]
    );
    assert_eq!(
        said(one("\"latncy_1h < 1\"", &[])),
        ["3:19 there is no metric `latncy` (did you mean `latency_1h`?)"]
    );
    // A folded condition is written differently in the file: the caret stands at its beginning.
    let folded = ">\n        cost_1h > 1 &&\n        latncy_1h < 1";
    let errors = said(one(folded, &[]));
    assert!(errors[0].contains("there is no metric `latncy`"), "{errors:?}");
}

#[test]
fn evidence_alone_is_refused_where_there_can_be_none() {
    let text = "\
- variant: shop.v2
  confirm: evidence
  rules:
    - condition: faithfulness_1h < 0.9
      action: rollback
    - condition: cost_sum_1h > 1
      action: notify
";
    assert_eq!(
        said(compile(text)),
        [
            "6:18 `confirm: evidence` can never fire on this condition: sums, counts, extremes and standard deviations give no \
          evidence; means of scores, rates and quantiles do (use `confirm: either` or `persistence`)"
        ]
    );
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let text = "\
- variant: shop.v2
  ownr: me
  rules:
    - condition: faithfulnes_1h < 0.9
      action: rolback
      for: 90s
      min_sample: 3
    - condition: cost_1h > 1
      confirm: evidense
      page: yes
      scope: slice
      by: tenants
      no_data: ignore
      dwell: 5
      severity: high
      mode: dryrun
      clear: cost_1h <
    - action: notify
- rules: []
- variant: a b
  rules: x
";
    assert_eq!(
        said(compile(text)),
        [
            "2:3 unknown key `ownr` in a variant's entry (did you mean `owner`?)",
            "4:18 there is no metric `faithfulnes` (did you mean `faithfulness_1h`?)",
            "5:15 `action` cannot be `rolback` (did you mean `rollback`?)",
            "6:12 `for` must be whole minutes, since rules are judged once a minute (write `2m`)",
            "7:7 unknown key `min_sample` in a rule (did you mean `min_samples`?)",
            "8:7 the rule has no `action` (add `action: rollback`, `pause_rollout` or `notify`)",
            "9:16 `confirm` cannot be `evidense` (did you mean `evidence`?)",
            "10:13 `page` must be true or false (write `true`)",
            "12:11 `by` cannot be `tenants` (did you mean `tenant`?)",
            "13:16 `no_data` cannot be `ignore` (it may be `hold`, `notify` or `pause`)",
            "14:14 `dwell` needs a unit (write `5m` for minutes or `5s` for seconds)",
            "15:17 `severity` cannot be `high` (it may be `critical`, `warning` or `info`)",
            "16:13 `mode` cannot be `dryrun` (did you mean `dry_run`?)",
            "17:22 something is missing after `<`",
            "18:7 the rule has no `condition` (add `condition: faithfulness_1h < 0.92`)",
            "19:3 the entry names no variant (add `variant: <feature>.<change-id>`, as events and OFREP spell it)",
            "19:10 `rules` is empty",
            "20:12 `variant` must be one word without spaces",
            "21:10 `rules` must be a list, not text",
        ]
    );
}

#[test]
fn files_of_another_shape_are_told_what_is_wanted() {
    for (text, wanted) in [
        ("", "0:0 the file is empty"),
        ("[]", "1:1 the file holds no rules"),
        ("hello", "1:1 a rule file must be a list, not text"),
        (
            "variant: a\nrules: []",
            "1:1 a rule file is a list of variants (begin with `- variant: <feature>.<change-id>`)",
        ),
        ("experiment_id: x", "1:1 experiment files are not available yet"),
        ("- 3", "1:3 a variant's entry must be a mapping (`key: value`), not a number"),
    ] {
        assert_eq!(said(compile(text)), [wanted], "{text}");
    }
}

#[test]
fn rules_that_clash_name_both_lines() {
    let text = "\
- variant: shop.v2
  rules:
    - { condition: cost_1h > 1, action: rollback }
    - { condition: 'cost_mean_1h  > 1.0', action: rollback, runbook: x }
    - { condition: cost_1h > 2, action: rollback }
    - { condition: cost_5m > 2, action: notify, id: a }
    - { condition: cost_5m > 3, action: notify, id: a }
    - { condition: cost_1h > 1, action: rollback, mode: dry_run, id: trial }
";
    assert_eq!(
        said(compile(text)),
        [
            "4:9 the same condition and action stand on line 3 already (remove this rule on line 4 or the other)",
            "5:9 the id `cost_1h-rollback` is taken by the rule on line 3 (give one of the two an `id:` of its own (this rule is on line 5))",
            "7:53 the id `a` is taken by the rule on line 6 (choose another `id` (this rule is on line 7))",
        ]
    );
}

#[test]
fn thresholds_outside_the_range_are_refused() {
    for (condition, wanted) in [
        (
            "faithfulness_1h < 92",
            "`faithfulness_1h < 92` is always true: `faithfulness_1h` lies between 0 and 1 (fractions are meant, not percent: write `0.92`)",
        ),
        (
            "abstain_rate_1h > 20",
            "`abstain_rate_1h > 20` is never true: `abstain_rate_1h` lies between 0 and 1 (fractions are meant, not percent: write `0.2`)",
        ),
        (
            "abstain_rate_1h >= 0",
            "`abstain_rate_1h >= 0` is always true: `abstain_rate_1h` lies between 0 and 1",
        ),
        (
            "abstain_rate_1h > 1",
            "`abstain_rate_1h > 1` is never true: `abstain_rate_1h` lies between 0 and 1",
        ),
        ("latency_1h < 0", "`latency_1h < 0` is never true: `latency_1h` is never negative"),
        (
            "latency_count_1h > -1",
            "`latency_count_1h > -1` is always true: `latency_count_1h` is never negative",
        ),
        (
            "cost_p95_1h > 250",
            "`cost_p95_1h > 250` is never true: `cost_p95_1h` lies between 0 and 100 (raise `max` of `cost` under `metrics:` in the configuration)",
        ),
    ] {
        assert_eq!(said(one(condition, &[])), [format!("3:18 {wanted}")]);
    }
}

#[test]
fn doubts_are_warnings() {
    for (condition, more, wanted) in [
        (
            "faithfulness_1h < 0.92",
            "clear: faithfulness_1h < 0.95",
            "5:14 `clear` looks to the bad side: it can hold while the breach goes on",
        ),
        (
            "faithfulness_1h < 0.92",
            "clear: faithfulness_1h > 0.90",
            "5:14 `clear` begins on the bad side of the threshold",
        ),
        ("cost_1h == 3", "for: 3m", "3:26 measured numbers are almost never exactly equal"),
    ] {
        let warnings = said(Ok(one(condition, &[more]).unwrap()));
        assert!(warnings.len() == 1 && warnings[0].starts_with(wanted), "{warnings:?}");
    }
    let blind = "- variant: lone.v1\n  rules: [{ condition: cost_1h > baseline, action: notify }]";
    assert!(said(compile(blind))[0].contains("there is none: that comparison is always unknown"));
    let own = "- variant: shop.v1\n  flag: ai.shop.v2\n  rules: [{ condition: cost_1h > baseline, action: notify }]";
    assert!(said(compile(own))[0].contains("`shop.v1` is the control of `ai.shop.v2` itself"));
    let lost = "- variant: shop.v2\n  flag: ai.shop\n  rules: [{ condition: cost_1h > 3, action: rollback }]";
    assert!(said(compile(lost))[0].contains("flag `ai.shop` is not configured"));
    assert!(said(compile(lost))[0].contains("add `flag: ai.shop.v2`"));
    let control =
        "- variant: shop.v1\n  flag: ai.shop.v2\n  rules: [{ condition: cost_1h > 3, action: rollback }]";
    assert!(said(compile(control))[0].contains("is the control of flag `ai.shop.v2`"));
}

proptest! {
    #[test]
    fn arbitrary_conditions_never_panic(text in "[ -~≤é\t]{0,60}") {
        let _ = condition::parse(&text, &Catalogue::default());
    }

    #[test]
    fn arbitrary_sequences_of_tokens_never_panic(
        words in prop::collection::vec(prop::sample::select(vec![
            "cost_1h", "latency_p95_5m", "baseline", "0.5", "1e", "3", "(", ")", "<", ">=", "==", "!", "-", "+", "*", "/",
            "%", "^", "&&", "||", "=", ";", ",", "\"", "baseline(cost_1h)", " ", "true", "1e-3", "e",
        ]), 0..24),
    ) {
        for joint in ["", " "] {
            let text = words.join(joint);
            if let Err(faults) = condition::parse(&text, &Catalogue::default()) {
                for fault in faults {
                    prop_assert!(text.get(fault.at.offset..fault.at.end()).is_some(), "{}", text);
                }
            }
        }
    }

    #[test]
    fn arbitrary_files_never_panic(text in "(- |  |variant: a|rules:|condition: |cost_1h|action|[\\[\\]{}:,&*!|>'\"%@`#\t\n a-z0-9]){0,80}") {
        if let Err(errors) = compile(&text) {
            for error in errors {
                prop_assert!(text.is_char_boundary(error.span.offset), "{} {:?}", error, error.span);
            }
        }
    }
}
