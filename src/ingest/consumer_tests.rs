//! Against librdkafka's in-process mock cluster: joining a group takes 3 s there.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tokio::sync::mpsc::{Receiver, channel};

use super::*;
use crate::engine::input::Fates;
use crate::model::metric::Catalogue;

const PARTITIONS: i32 = 3;
const START: i64 = 1_763_856_000_000;

struct World {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
    written: u32,
}

impl World {
    fn new() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("events", PARTITIONS, 1).unwrap();
        cluster.create_topic("dead", 1, 1).unwrap();
        let producer =
            ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().unwrap();
        Self { cluster, producer, written: 0 }
    }

    /// Writes `n` messages: every tenth is poison, every eleventh repeats the id of the one before.
    fn write(&mut self, n: u32) {
        for _ in 0..n {
            let i = self.written;
            self.written += 1;
            let id = if i % 11 == 10 { i - 3 } else { i };
            let ts = Timestamp::from_millis(START + i64::from(i / 33) * 100);
            let payload = match i % 10 {
                9 => "{\"id\":".to_owned(),
                _ => format!(
                    r#"{{"id":"e{id}","ts":"{ts}","variant":"a","tenant":"t{}","metrics":{{"latency":{i}}}}}"#,
                    i % 5
                ),
            };
            let record =
                BaseRecord::<str, str>::to("events").partition((i % 3) as i32).key("k").payload(&payload);
            self.producer.send(record).unwrap();
        }
        self.producer.flush(Duration::from_secs(10)).unwrap();
    }

    fn spawn(&self, group: &str, resume: Resume) -> (Handle, Receiver<FromIngest>) {
        let mut schema = Schema::new(Arc::new(Catalogue::default()));
        schema.add_variant(&"a".into());
        let mut config = Config::new(self.cluster.bootstrap_servers(), vec!["events".into()], group);
        config.dead_letter_topic = Some("dead".into());
        // After every batch, so that each message's place in the order shows.
        config.flush_every = Duration::from_millis(1);
        let (sink, source) = channel(4);
        let wall: Wall = Arc::new(|| {
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
            Timestamp::from_millis(now.as_millis() as i64)
        });
        let schema = Arc::new(ArcSwap::from_pointee(schema));
        (Ingest::spawn(config, resume, schema, wall, sink).unwrap(), source)
    }

    fn dead_letters(&self) -> Vec<(String, i64)> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "reader-of-the-dead")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("dead", 0, Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let mut found = Vec::new();
        while let Some(Ok(message)) = consumer.poll(Duration::from_secs(5)) {
            let header = |name: &str| {
                let headers = message.headers().unwrap();
                let header = headers.iter().find(|header| header.key == name).unwrap();
                String::from_utf8(header.value.unwrap().to_vec()).unwrap()
            };
            assert_eq!(message.payload(), Some(&b"{\"id\":"[..]));
            assert_eq!(message.key(), Some(&b"k"[..]));
            assert_eq!(header("rearguard.fate"), "dead_letter");
            found.push((header("rearguard.reason"), header("rearguard.offset").parse().unwrap()));
        }
        found
    }
}

/// What was heard, and the checks that always hold.
#[derive(Default)]
struct Heard {
    fates: Fates,
    to: BTreeMap<Source, i64>,
    states: Vec<PartitionState>,
    loaded: bool,
    loaded_at: BTreeMap<Source, i64>,
    idle: u32,
    stopped: bool,
    down: Vec<bool>,
}

impl Heard {
    fn hear(&mut self, source: &mut Receiver<FromIngest>, until: impl Fn(&Self) -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(40);
        while !until(self) {
            assert!(
                std::time::Instant::now() < deadline,
                "nothing more was heard: {:?} {:?}",
                self.fates,
                self.to
            );
            match source.try_recv() {
                Ok(FromIngest::Delta(delta, counters)) => {
                    assert!(delta.fates.balance());
                    assert_eq!(counters.poison.iter().sum::<u64>(), delta.fates.dead_letter);
                    assert_eq!(counters.dead_letters_lost, 0);
                    assert_eq!(*self.to.entry(delta.source.clone()).or_insert(delta.from), delta.from);
                    self.to.insert(delta.source, delta.to);
                    self.fates.add(&delta.fates);
                }
                Ok(FromIngest::Checkpoint(states)) => {
                    assert!(self.loaded, "a cut before everything is loaded is none");
                    for state in &states {
                        assert_eq!(self.to.get(&state.source).copied().unwrap_or(state.next), state.next);
                    }
                    self.states = states;
                }
                Ok(FromIngest::Loaded) => {
                    self.loaded = true;
                    self.loaded_at = self.to.clone();
                }
                Ok(FromIngest::Idle { .. }) => self.idle += 1,
                Ok(FromIngest::Connection { up, .. }) => self.down.push(!up),
                Ok(FromIngest::Stopped(result)) => {
                    result.unwrap();
                    self.stopped = true;
                }
                Ok(FromIngest::Gap(gap)) => panic!("{gap:?}"),
                Ok(FromIngest::Assign(_) | FromIngest::Revoked(_) | FromIngest::Lag(_)) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

#[test]
fn everything_is_consumed_once_and_a_restart_continues_exactly() {
    let mut world = World::new();
    world.write(3_000);
    let (handle, mut source) = world.spawn("first", Resume::default());
    let mut first = Heard::default();
    first.hear(&mut source, |heard| heard.fates.consumed == 3_000 && heard.idle >= 3);
    assert!(first.loaded);
    assert_eq!(first.fates.dead_letter, 300);
    assert!(first.fates.duplicate > 200, "{:?}", first.fates);
    handle.checkpoint();
    first.hear(&mut source, |heard| !heard.states.is_empty());
    let snapshot = first.states.clone();
    world.write(1_000);
    first.hear(&mut source, |heard| heard.fates.consumed == 4_000);
    handle.stored(first.to.clone());
    handle.stop();
    first.hear(&mut source, |heard| heard.stopped);
    handle.join();
    world.write(600);
    // The mock does not let anybody into a group whose only member has left, so the restart has a group of its own;
    // positions do not come from the group anyway. The snapshot is 1,000 messages older than the stored position.
    // One partition stands at its position already, with new messages behind it: it has to wait for the others.
    let mut positions = first.to.clone();
    positions.insert(snapshot[0].source.clone(), snapshot[0].next);
    let resume = Resume { positions: positions.clone(), states: snapshot };
    let (handle, mut source) = world.spawn("second", resume);
    let mut second = Heard::default();
    second.hear(&mut source, |heard| heard.fates.consumed == 1_600);
    assert_eq!(second.loaded_at.len(), 2, "{:?}", second.loaded_at);
    for (source, position) in &second.loaded_at {
        assert_eq!(*position, positions[source], "nothing new comes before all positions are reached");
    }
    drop(handle);
    let dead = world.dead_letters();
    // 34 of the first 1,000 after the snapshot lie behind the position that was put back.
    assert_eq!(dead.len(), 460 + 34, "each poison message has one dead letter, replayed ones none");
    assert!(dead.iter().all(|(reason, _)| reason == "malformed"));
    // Every snapshot is lost: all that the windows need is read again, up to exactly the stored positions.
    let resume = Resume { positions: first.to.clone(), states: Vec::new() };
    let (_handle, mut source) = world.spawn("third", resume);
    let mut third = Heard::default();
    third.hear(&mut source, |heard| heard.loaded);
    assert_eq!((third.loaded_at, third.fates.consumed), (first.to, 4_000));
}

#[test]
fn a_broker_that_goes_away_is_noticed_and_nothing_is_lost() {
    let mut world = World::new();
    world.write(300);
    let (handle, mut source) = world.spawn("first", Resume::default());
    let mut heard = Heard::default();
    heard.hear(&mut source, |heard| heard.fates.consumed == 300);
    world.cluster.broker_down(1).unwrap();
    heard.hear(&mut source, |heard| heard.down == [true]);
    world.cluster.broker_up(1).unwrap();
    heard.hear(&mut source, |heard| heard.down == [true, false]);
    world.write(300);
    heard.hear(&mut source, |heard| heard.fates.consumed == 600);
    drop(handle);
}
