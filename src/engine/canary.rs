//! The canary's rule: judged like every other at each closing, and by nothing but that. It has no alert, is in no report of
//! verdicts, in no budget of false rollbacks and in no world check, so that Rearguard's own events disturb nothing.

use super::closing::view_of;
use super::machine::Engine;
use super::measure::Frame;
use super::output::CanaryReport;
use super::verdict::{Verdict, judge};
use crate::model::flag::Scope;
use crate::model::time::Minute;

/// How far back a canary event is looked for, in minutes: the window of its rule.
const LOOK_BACK: i64 = 5;

/// Judges the canary's rule at the closing of `minute`, if there is one.
pub(super) fn judged(engine: &Engine, minute: Minute, armed: bool) -> Option<CanaryReport> {
    let rule = engine.settings.rules.canary.as_ref()?;
    let frame = Frame { closed: minute, floor: engine.memory.floor(&rule.variant, &Scope::All) };
    let verdict = judge(rule, &view_of(engine, rule, &Scope::All), frame, armed, None).verdict;
    let variant = engine.fleet.schema().find(rule.variant.as_str());
    let holds = |at: &Minute| variant.is_some_and(|id| engine.fleet.traffic_between(id, *at, *at).0 > 0);
    let newest = (0..LOOK_BACK).map(|back| minute.plus(-back)).find(holds);
    Some(CanaryReport {
        closed: minute,
        passed: verdict == Verdict::Pass,
        verdict: verdict.to_string(),
        newest,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::engine::input::Input;
    use crate::engine::rule::{Rule, RuleAction, Side, Stat};
    use crate::engine::testkit::{TREATMENT, engine, rule, run, steady};

    fn floor(action: RuleAction) -> Rule {
        rule("faithfulness", Stat::Mean, 5, Side::Below, 0.9, action)
    }

    #[test]
    fn it_is_judged_at_each_closing_and_counts_nowhere() {
        let events = steady(TREATMENT, "faithfulness", 0..30, 60, |_, _| 0.97);
        let mut without = engine(vec![floor(RuleAction::Rollback)]);
        let mut with = engine(vec![floor(RuleAction::Rollback)]);
        let mut settings = with.settings().clone();
        let mut rules = (*settings.rules).clone();
        rules.canary = Some(Arc::new(floor(RuleAction::Notify)));
        settings.rules = Arc::new(rules);
        with.step(Input::Reload(Box::new(settings)));
        let (plain, watched) = (run(&mut without, &events, 0..30), run(&mut with, &events, 0..30));
        assert_eq!(watched.verdicts, plain.verdicts);
        assert_eq!((watched.decisions.len(), watched.transitions.len()), (0, 0));
        assert_eq!(with.report().alerts, without.report().alerts, "it has no alert");
        assert_eq!(without.report().canary, None);
        let seen = with.report().canary.unwrap();
        assert!(seen.passed && seen.newest == Some(seen.closed), "{seen:?}");

        // Nothing comes any more: it is looked for as far back as the rule looks, then it is gone.
        run(&mut with, &[], 30..33);
        let later = with.report().canary.unwrap();
        assert!(later.closed > seen.closed && later.newest == seen.newest, "{later:?}");
        run(&mut with, &[], 33..40);
        let gone = with.report().canary.unwrap();
        assert_eq!((gone.passed, gone.newest), (false, None), "{gone:?}");
        assert!(gone.closed > later.closed, "{gone:?}");
    }
}
