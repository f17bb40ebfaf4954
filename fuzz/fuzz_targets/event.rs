//! Events from anywhere: never a panic, one fate each, and what was learnt from earlier messages changes nothing.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use rearguard::engine::input::Source;
use rearguard::engine::schema::Schema;
use rearguard::ingest::decode::{Bounds, Decoder};
use rearguard::ingest::names::Names;
use rearguard::ingest::partition::{Limits, Partition};
use rearguard::model::metric::Catalogue;
use rearguard::model::time::Timestamp;

// The input is split into messages at zero bytes, so that shapes learnt from one meet the next.
fuzz_target!(|input: &[u8]| {
    let wall = Timestamp::from_millis(1_763_895_110_000);
    let mut schema = Schema::new(Arc::new(Catalogue::default()));
    schema.add_variant(&"a".into());
    let source = Source {
        topic: "events".into(),
        partition: 0,
    };
    let names = Arc::new(Names::new(Arc::new(schema)));
    let mut partition = Partition::new(source, 0, (1, 2), names, Limits::default());
    let mut learnt = Decoder::default();
    for (offset, message) in (0..).zip(input.split(|byte| *byte == 0)) {
        partition.record(message, offset, wall);
        let fresh = Decoder::default()
            .decode(message, &Bounds::default(), wall)
            .map(|event| (event.id.to_owned(), event.ts, event.metrics.iter().len()));
        let again = learnt
            .decode(message, &Bounds::default(), wall)
            .map(|event| (event.id.to_owned(), event.ts, event.metrics.iter().len()));
        assert_eq!(fresh, again);
    }
    let (delta, _) = partition.take_delta();
    assert!(delta.fates.balance());
});
