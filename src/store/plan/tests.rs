use super::*;
use crate::model::incident::Severity;

fn wall() -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000)
}

fn routes() -> Routes {
    Routes {
        page: vec!["oncall".into(), "backup".into()],
        notify: vec!["chat".into()],
        publish: vec!["decisions".into()],
        matches: Vec::new(),
    }
}

fn message(kind: MessageKind) -> Message {
    Message {
        dedup_key: "k".into(),
        kind,
        severity: Severity::Critical,
        flag: Some("f".into()),
        variant: None,
        decision: Some("d".into()),
        incident: None,
        summary: String::new(),
        detail: String::new(),
        receiver: None,
        at: wall(),
    }
}

fn rows(order: &Order, t0: Option<Timestamp>) -> Vec<NewRow> {
    let routes = routes();
    let context = PlanContext { routes: &routes, timing: Timing::default(), flags: &[] };
    let cause = t0.map(|t0| Cause { t0, scope: &Scope::All, failure_class: "" });
    plan(order, (7, 0), wall(), cause, &context)
}

#[test]
fn a_page_is_a_row_per_receiver_and_waits_only_for_a_flip() {
    let pages = rows(&Order::Page(message(MessageKind::Rollback)), None);
    assert_eq!(pages.len(), 2);
    for page in &pages {
        assert_eq!(page.awaits, Some("d".into()));
        assert_eq!(page.not_before, wall() + Duration::from_secs(120));
    }
    assert_ne!(pages[0].lane, pages[1].lane);
    for kind in
        [MessageKind::RollbackFailed, MessageKind::Superseded, MessageKind::Blind, MessageKind::Resolved]
    {
        let pages = rows(&Order::Page(message(kind)), None);
        assert!(pages.iter().all(|page| page.awaits.is_none()));
        assert!(pages.iter().all(|page| page.not_before == wall()));
    }
}

#[test]
fn a_rule_chooses_its_receiver() {
    let mut message = message(MessageKind::Notice);
    message.receiver = Some("team-a".into());
    let rows = rows(&Order::Notify(message), None);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].kind, &*rows[0].adapter), (RowKind::Notify, "team-a"));
}

#[test]
fn a_flip_keeps_the_promise_or_gets_its_least_time() {
    let pin = Order::Pin {
        decision: "d".into(),
        flag: "f".into(),
        scope: Scope::All,
        control: "c".into(),
        by: None,
    };
    let deadline = |used| {
        let t0 = wall() - Duration::from_secs(used);
        rows(&pin, Some(t0))[0].deadline
    };
    assert_eq!(deadline(300), Some(wall() + Duration::from_secs(240)));
    assert_eq!(deadline(599), Some(wall() + Duration::from_secs(103)));
    assert_eq!(rows(&pin, None)[0].deadline, Some(wall() + Duration::from_secs(540)));
}

#[test]
fn a_flip_goes_to_the_platform_that_serves_its_flag() {
    let served = Served {
        platform: "prod".into(),
        kind: "flagd".into(),
        key: "f".into(),
        id: None,
        control: "c".into(),
        treatment: "t".into(),
        worst: Duration::from_secs(200),
    };
    let flags = [FlagSpec {
        key: "f".into(),
        control: "c".into(),
        treatment: "t".into(),
        share: 0,
        frozen: false,
        served: Some(served),
        drill: false,
    }];
    let context = PlanContext { routes: &routes(), timing: Timing::default(), flags: &flags };
    for (flag, adapter, lane, least) in
        [("f", "prod", "flip/prod/f", 200), ("g", "builtin", "flip/builtin/g", 103)]
    {
        let order = Order::Unfreeze { flag: flag.into(), why: String::new(), by: None };
        let long_ago = wall() - Duration::from_secs(900);
        let cause = Cause { t0: long_ago, scope: &Scope::All, failure_class: "" };
        let row = plan(&order, (7, 0), wall(), Some(cause), &context).remove(0);
        assert_eq!((&*row.adapter, &*row.lane), (adapter, lane));
        assert_eq!(row.deadline, Some(wall() + Duration::from_secs(least)));
    }
}

#[test]
fn the_first_route_that_fits_counts_and_a_rules_own_receiver_before_it() {
    let to = |name: &str| Some(vec![name.to_owned()]);
    let only = |word: &str| vec![word.to_owned()];
    let matches = vec![
        Route { tenant: only("acme"), page: to("acme"), ..Route::default() },
        Route { failure_class: only("cost"), notify: to("finance"), ..Route::default() },
        Route { severity: vec![Severity::Critical], page: to("loud"), ..Route::default() },
    ];
    let routes = Routes { matches, ..routes() };
    let context = PlanContext { routes: &routes, timing: Timing::default(), flags: &[] };
    let acme = Scope::Only(Dimension::Tenant, "acme".into());
    let cause = |scope, failure_class| Some(Cause { t0: wall(), scope, failure_class });
    let who = |order: &Order, cause| -> Vec<String> {
        plan(order, (7, 0), wall(), cause, &context).into_iter().map(|row| row.adapter).collect()
    };
    let page = Order::Page(message(MessageKind::Rollback));
    let notice = Order::Notify(message(MessageKind::Notice));
    assert_eq!(who(&page, cause(&acme, "cost")), ["acme"]);
    assert_eq!(
        who(&page, cause(&Scope::All, "cost")),
        ["oncall", "backup"],
        "the first that fits, and no other"
    );
    assert_eq!(who(&notice, cause(&Scope::All, "cost")), ["finance"]);
    assert_eq!(who(&page, cause(&Scope::All, "latency")), ["loud"]);
    assert_eq!(who(&page, None), ["loud"]);
    assert_eq!(who(&notice, None), ["chat"]);
    let own = Message { receiver: Some("team-a".into()), ..message(MessageKind::Rollback) };
    assert_eq!(who(&Order::Page(own), cause(&acme, "cost")), ["team-a"]);
}

#[test]
fn the_same_effect_has_the_same_name_and_another_another() {
    let one = rows(&Order::Page(message(MessageKind::Rollback)), None);
    let same = rows(&Order::Page(message(MessageKind::Rollback)), None);
    let other = rows(&Order::Page(message(MessageKind::Resolved)), None);
    assert_eq!(one[0].dedup, same[0].dedup);
    assert_ne!(one[0].dedup, other[0].dedup);
    assert_eq!(one[0].lane, other[0].lane, "both are about one dedup key");
    let unfreeze = Order::Unfreeze { flag: "f".into(), why: String::new(), by: None };
    let routes = Routes::default();
    let context = PlanContext { routes: &routes, timing: Timing::default(), flags: &[] };
    let output = Output { orders: vec![unfreeze.clone(), unfreeze], ..Output::default() };
    let rows = plan_step(7, &[output], wall(), &context);
    assert_ne!(rows[0].dedup, rows[1].dedup, "two orders without a decision are two");
}

#[test]
fn a_drill_comes_after_what_is_real_and_routes_know_it_whatever_is_said() {
    let spec = |key: &str, drill| FlagSpec {
        key: key.into(),
        control: "c".into(),
        treatment: "t".into(),
        share: 0,
        frozen: false,
        served: None,
        drill,
    };
    let flags = [spec("f", true), spec("real", false)];
    let drills = Route {
        failure_class: vec!["drill".into()],
        page: Some(vec!["practice".into()]),
        ..Route::default()
    };
    let routes = Routes { matches: vec![drills], ..routes() };
    let context = PlanContext { routes: &routes, timing: Timing::default(), flags: &flags };
    let rows = |order: &Order| plan(order, (7, 0), wall(), None, &context);
    let pin = |flag: &str| Order::Pin {
        decision: "d".into(),
        flag: flag.into(),
        scope: Scope::All,
        control: "c".into(),
        by: Some("ann".into()),
    };
    // Without a decision, too: "still serving" has none.
    let page = |flag: &str| Message {
        flag: Some(flag.into()),
        decision: None,
        ..message(MessageKind::StillServing)
    };
    let who = |flag| rows(&Order::Page(page(flag))).into_iter().map(|row| row.adapter).collect::<Vec<_>>();
    assert_eq!(
        (who("f"), who("real")),
        (vec!["practice".to_owned()], vec!["oncall".into(), "backup".into()])
    );
    let rank = |order: &Order| crate::store::enqueue::rank(&rows(order)[0]);
    let real = [rank(&pin("real")), rank(&Order::Page(page("real")))];
    for drill in [rank(&pin("f")), rank(&Order::Page(page("f")))] {
        assert!(drill > real[0], "a drill's {drill}, real {real:?}");
    }
    assert!(rank(&Order::Page(page("f"))) > real[1]);
}
