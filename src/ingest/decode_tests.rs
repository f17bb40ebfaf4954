use proptest::prelude::*;

use super::*;
use crate::model::event::Event as Written;

const WALL: Timestamp = Timestamp::from_millis(1_763_895_110_000);

fn outcome(bytes: &[u8]) -> Result<Written, Reject> {
    let mut decoder = Decoder::default();
    let event = decoder.decode(bytes, &Bounds::default(), WALL)?;
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Ok(Written {
        id: event.id.to_owned(),
        ts: event.ts.to_string(),
        variant: event.variant.to_owned(),
        tenant: owned(event.tenant),
        tier: owned(event.tier),
        region: owned(event.region),
        unit: owned(event.unit),
        generation_id: owned(event.generation_id),
        metrics: event.metrics.iter().map(|(name, sample)| (name.to_owned(), sample)).collect(),
    })
}

fn written() -> impl Strategy<Value = Written> {
    let text = "[a-zé\"\\\\\n]{1,9}";
    let sample = prop_oneof![
        any::<bool>().prop_map(Sample::Bool),
        (-1e9f64..1e9).prop_map(Sample::Number),
        (0u32..100_000).prop_map(|n| Sample::Number(f64::from(n) / 1000.0)),
    ];
    (
        (text, 1_420_070_400_000i64..1_763_895_100_000, text),
        [(); 5].map(|()| prop::option::of(text)),
        prop::collection::btree_map(text, sample, 0..20),
    )
        .prop_map(|((id, ts, variant), [tenant, tier, region, unit, generation_id], metrics)| Written {
            id,
            ts: Timestamp::from_millis(ts).to_string(),
            variant,
            tenant,
            tier,
            region,
            unit,
            generation_id,
            metrics,
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read(event in written(), pretty in any::<bool>()) {
        let json = if pretty { serde_json::to_vec_pretty(&event) } else { serde_json::to_vec(&event) }.unwrap();
        prop_assert_eq!(outcome(&json), Ok(event));
    }

    #[test]
    fn damage_never_panics_and_is_never_read_as_what_serde_json_would_not_read(
        event in written(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<prop::sample::Index>(), short in any::<bool>()
    ) {
        let mut json = serde_json::to_vec(&event).unwrap();
        for (place, byte) in damage {
            let place = place.index(json.len());
            json[place] = byte;
        }
        if short {
            json.truncate(cut.index(json.len()));
        }
        if let Ok(read) = outcome(&json) {
            let theirs: Written = serde_json::from_slice(&json).unwrap();
            // serde_json's default number parser may miss the nearest double by one.
            for ((name, sample), (their_name, their_sample)) in read.metrics.iter().zip(&theirs.metrics) {
                prop_assert_eq!(name, their_name);
                match (sample, their_sample) {
                    (Sample::Number(a), Sample::Number(b)) => prop_assert!((a - b).abs() <= 4.0 * f64::EPSILON * b.abs()),
                    (a, b) => prop_assert_eq!(a, b),
                }
            }
            prop_assert_eq!(read.metrics.len(), theirs.metrics.len());
            prop_assert_eq!(read.id, theirs.id);
        }
    }

    #[test]
    fn what_was_learnt_changes_nothing(
        events in prop::collection::vec((0usize..3, written(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..30)
    ) {
        // Few kinds of messages, so that shapes are met again, some of them damaged.
        let kinds: Vec<_> = events.iter().take(3).map(|(_, event, ..)| event.clone()).collect();
        let mut decoder = Decoder::default();
        for (kind, event, place, byte, damaged) in events {
            let kind = &kinds[kind % kinds.len()];
            let mut message = Written { metrics: kind.metrics.clone(), tenant: kind.tenant.clone(), tier: kind.tier.clone(), region: kind.region.clone(), unit: kind.unit.clone(), ..event };
            for sample in message.metrics.values_mut() {
                *sample = if byte % 3 == 0 { Sample::Bool(true) } else { Sample::Number(f64::from(byte) / 7.0) };
            }
            let mut json = serde_json::to_vec(&message).unwrap();
            json.extend_from_slice(b" ");
            json.truncate(json.len() - usize::from(byte % 2));
            if damaged {
                let place = place.index(json.len());
                json[place] = byte;
            }
            let learnt = decoder.decode(&json, &Bounds::default(), WALL).map(|event| format!("{:?} {:?}", (event.id, event.ts, event.variant, event.tenant, event.tier, event.region, event.unit, event.generation_id), event.metrics.iter().collect::<Vec<_>>()));
            let fresh = Decoder::default().decode(&json, &Bounds::default(), WALL).map(|event| format!("{:?} {:?}", (event.id, event.ts, event.variant, event.tenant, event.tier, event.region, event.unit, event.generation_id), event.metrics.iter().collect::<Vec<_>>()));
            prop_assert_eq!(learnt, fresh);
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = outcome(&bytes);
    }
}

fn with(field: &str) -> String {
    format!(r#"{{"id":"a","ts":"2025-11-01T00:00:00Z","variant":"v","metrics":{{"latency":1}}{field}}}"#)
}

fn metrics(inside: &str) -> String {
    format!(r#"{{"id":"a","ts":"2025-11-01T00:00:00Z","variant":"v","metrics":{inside}}}"#)
}

#[test]
fn poison_has_its_reason() {
    use Poison::*;
    let table: Vec<(Vec<u8>, Poison)> = vec![
        (b"".to_vec(), Empty),
        (b"{".to_vec(), Malformed),
        (b"{} x".to_vec(), Malformed),
        (b"[]".to_vec(), WrongType),
        (b"null".to_vec(), WrongType),
        (b"{}".to_vec(), AbsentField),
        (with(r#"}{"#).into_bytes(), Malformed),
        (with(r#","id":"b""#).into_bytes(), DuplicateKey),
        (with(r#","metrics":{}"#).into_bytes(), DuplicateKey),
        (with(r#","x":1,"x":2"#).into_bytes(), DuplicateKey),
        (with(r#","x":1,"\u0078":2"#).into_bytes(), DuplicateKey),
        (with(r#","\u0069d":"b""#).into_bytes(), DuplicateKey),
        (with(r#","tenant":7"#).into_bytes(), WrongType),
        (with(&format!(r#","x":{}"#, "[".repeat(100_000))).into_bytes(), TooDeep),
        (metrics(r#"{"latency":1,"latency":2}"#).into_bytes(), DuplicateKey),
        (metrics(r#"{"latency":"1"}"#).into_bytes(), WrongType),
        (metrics(r#"{"latency":null}"#).into_bytes(), WrongType),
        (metrics(r#"{"latency":NaN}"#).into_bytes(), Malformed),
        (metrics(r#"{"latency":-Infinity}"#).into_bytes(), Malformed),
        (metrics(r#"[1]"#).into_bytes(), WrongType),
        (
            metrics(&format!(
                "{{{}}}",
                (0..40).map(|i| format!("\"m{}\":1", i % 39)).collect::<Vec<_>>().join(",")
            ))
            .into_bytes(),
            DuplicateKey,
        ),
        (with("").replace("\"a\"", "\"\"").into_bytes(), AbsentField),
        (with("").replace("\"a\"", "7").into_bytes(), WrongType),
        (with("").replace("2025-11-01T00:00:00Z", "today").into_bytes(), BadTimestamp),
        (with(",\"x\":\"\u{1}\"").into_bytes(), Malformed),
        ([b"{\"id\":\"", &[0xff, 0xfe][..], b"\"}"].concat(), InvalidUtf8),
        (vec![b' '; (256 << 10) + 1], TooLarge),
    ];
    for (bytes, poison) in table {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
        assert_eq!(outcome(&bytes), Err(Reject::DeadLetter(poison)), "{shown}");
    }
}

#[test]
fn impossible_values_are_refused() {
    use Refusal::*;
    for (json, refusal) in [
        (metrics(r#"{"latency":1e999}"#), NonFinite),
        (metrics(r#"{"latency":-1e999}"#), NonFinite),
        (with("").replace("2025-11-01", "1970-01-01"), TimestampRange),
        (with("").replace("2025-11-01", "2014-12-31"), TimestampRange),
        (with("").replace("2025-11-01", "2300-01-01"), TimestampRange),
        (with("").replace("2025-11-01T00:00:00Z", "2025-11-23T10:52:50.001Z"), Future),
    ] {
        assert_eq!(outcome(json.as_bytes()), Err(Reject::Refused(refusal)), "{json}");
    }
    assert!(outcome(with("").replace("2025-11-01T00:00:00Z", "2025-11-23T10:52:50Z").as_bytes()).is_ok());
}

#[test]
fn unknown_fields_nulls_and_empty_strings_are_let_pass() {
    let event = outcome(
        with(r#","x":{"y":[1,{"z":null}]},"tenant":null,"tier":"","metrics2":{"a":1e999}"#).as_bytes(),
    )
    .unwrap();
    assert_eq!((event.tenant, event.tier), (None, None));
}
