//! Ingest against a real Kafka, beside a consume-only run of the same topic through the same batch API.
//!
//! `REARGUARD_BENCH_BROKERS=127.0.0.1:9092 cargo bench --bench ingest` fills a topic per number of variants (once; it is
//! found again by its name) and measures interleaved pairs. Further settings: `REARGUARD_BENCH_EVENTS` (20,000,000),
//! `REARGUARD_BENCH_PAIRS` (5), `REARGUARD_BENCH_VARIANTS` (6,500), `REARGUARD_BENCH_PROPERTIES` (librdkafka settings for
//! both sides, `name=value,name=value`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rearguard::engine::input::Source;
use rearguard::ingest::batch::{Fetched, PartitionQueue, detach};
use rearguard::ingest::config::Config;
use rearguard::ingest::consumer::{FromIngest, Ingest, Resume, Wall};
use rearguard::ingest::decode::{Bounds, Decoder};
use rearguard::ingest::names::Names;
use rearguard::ingest::partition::{Limits, Partition};
use rearguard::model::time::Timestamp;

mod support;

type Failure = Box<dyn std::error::Error>;

const PARTITIONS: i32 = 4;
const WALL: Timestamp = Timestamp::from_millis(support::START + 86_400_000);

/// What is done with each message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Work {
    Consume,
    Decode,
    Record,
    /// The whole reader: group, schedule, deltas through the channel.
    Reader,
}

#[derive(Clone, Copy, Debug)]
struct Cost {
    wall: f64,
    cpu: f64,
}

fn main() -> Result<(), Failure> {
    let Ok(brokers) = std::env::var("REARGUARD_BENCH_BROKERS") else {
        println!("nothing measured: set REARGUARD_BENCH_BROKERS to a Kafka with 10 GB of disk to spare");
        return Ok(());
    };
    let events = setting("REARGUARD_BENCH_EVENTS", 20_000_000)?;
    let pairs = setting("REARGUARD_BENCH_PAIRS", 5)?;
    let variants = std::env::var("REARGUARD_BENCH_VARIANTS").unwrap_or_else(|_| "6,500".into());
    for variants in variants.split(',') {
        let variants: u64 = variants.trim().parse()?;
        let topic = format!("rearguard-bench-{variants}-{events}");
        fill(&brokers, &topic, events, variants)?;
        measure(&brokers, &topic, events, variants, pairs)?;
    }
    Ok(())
}

fn setting(name: &str, default: u64) -> Result<u64, Failure> {
    Ok(match std::env::var(name) {
        Ok(value) => value.replace('_', "").parse()?,
        Err(_) => default,
    })
}

fn fill(brokers: &str, topic: &str, events: u64, variants: u64) -> Result<(), Failure> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers);
    let admin: AdminClient<DefaultClientContext> = client.create()?;
    let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1)).set("retention.ms", "-1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let results = runtime.block_on(admin.create_topics([&new], &AdminOptions::new()))?;
    if let Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) = results.first() {
        let found = ends(brokers, topic)?.iter().sum::<i64>();
        return match u64::try_from(found) == Ok(events) {
            true => Ok(()),
            false => Err(format!("topic {topic} holds {found} messages; delete it").into()),
        };
    }
    let start = Instant::now();
    // Without it a retry could swap two batches, and a batch is more event time than the lateness.
    client.set("enable.idempotence", "true");
    client.set("compression.type", "lz4").set("linger.ms", "50").set("batch.size", "500000");
    client.set("queue.buffering.max.messages", "1000000").set("queue.buffering.max.kbytes", "1000000");
    let producer: ThreadedProducer<DefaultProducerContext> = client.create()?;
    let (mut value, mut bytes) = (String::new(), 0);
    for n in 0..events {
        let tenant = support::write_event(&mut value, n, events, variants);
        bytes += value.len();
        let key = tenant.to_be_bytes();
        let mut record = BaseRecord::to(topic).key(&key).payload(value.as_str());
        while let Err((error, back)) = producer.send(record) {
            match error {
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => record = back,
                error => return Err(error.into()),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    producer.flush(Duration::from_secs(120))?;
    println!("filled {topic}: {events} events of {} bytes in {:.0?}", bytes as u64 / events, start.elapsed());
    Ok(())
}

fn ends(brokers: &str, topic: &str) -> Result<Vec<i64>, Failure> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    (0..PARTITIONS).map(|p| Ok(consumer.fetch_watermarks(topic, p, Duration::from_secs(10))?.1)).collect()
}

fn measure(brokers: &str, topic: &str, events: u64, variants: u64, pairs: u64) -> Result<(), Failure> {
    let kinds = [Work::Consume, Work::Reader, Work::Decode, Work::Record];
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); kinds.len()];
    run(brokers, topic, events, variants, Work::Consume)?;
    for round in 0..pairs {
        for (kind, costs) in kinds.iter().zip(&mut costs) {
            // Sub-runs only explain the split: once is enough.
            if round == 0 || matches!(kind, Work::Consume | Work::Reader) {
                let cost = run(brokers, topic, events, variants, *kind)?;
                println!("  {kind:?}: {:.2} s wall, {:.2} s CPU", cost.wall, cost.cpu);
                costs.push(cost);
            }
        }
    }
    let million = events as f64 / 1e6;
    let cpu = |kind: usize| median(costs[kind].iter().map(|cost| cost.cpu / million));
    let rate = |kind: usize| median(costs[kind].iter().map(|cost| events as f64 / cost.wall / 1e3));
    println!(
        "{variants} variants, {events} events, medians of {pairs} pairs, CPU-seconds per million events (all threads):"
    );
    println!("  consume only  {:.3}  at {:.0} k events/s", cpu(0), rate(0));
    println!("  ours          {:.3}  at {:.0} k events/s", cpu(1), rate(1));
    let ratios = costs[1].iter().zip(&costs[0]).map(|(ours, theirs)| ours.cpu / theirs.cpu);
    println!("  ratio         {:.2}", median(ratios));
    println!(
        "  split: consume {:.3} + decode {:.3} + record {:.3} + rest {:.3}",
        cpu(0),
        cpu(2) - cpu(0),
        cpu(3) - cpu(2),
        cpu(1) - cpu(3)
    );
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn run(brokers: &str, topic: &str, events: u64, variants: u64, work: Work) -> Result<Cost, Failure> {
    match work {
        Work::Reader => run_reader(brokers, topic, events, variants),
        _ => run_bare(brokers, topic, events, variants, work),
    }
}

fn config(brokers: &str, topic: &str, group: &str) -> Config {
    let mut config = Config::new(brokers, vec![topic.into()], group);
    let properties = std::env::var("REARGUARD_BENCH_PROPERTIES").unwrap_or_default();
    let pairs = properties.split(',').filter_map(|property| property.split_once('='));
    config.properties.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    config
}

/// Batches of all partitions in turn, and as much work as is asked for.
fn run_bare(brokers: &str, topic: &str, events: u64, variants: u64, work: Work) -> Result<Cost, Failure> {
    let config = config(brokers, topic, "bench-bare");
    let consumer: Arc<BaseConsumer> = Arc::new(config.consumer()?.create()?);
    let names = Arc::new(Names::new(support::schema(variants)));
    let mut list = TopicPartitionList::new();
    let sources: Vec<Source> =
        (0..PARTITIONS).map(|partition| Source { topic: topic.into(), partition }).collect();
    for source in &sources {
        list.add_partition_offset(topic, source.partition, Offset::Offset(0))?;
        detach(&consumer, source);
    }
    consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let (start, cpu) = (Instant::now(), support::cpu_seconds());
    consumer.assign(&list)?;
    let mut lanes: Vec<_> = sources
        .into_iter()
        .filter_map(|source| {
            let queue = PartitionQueue::take(&consumer, &source, config.batch)?;
            Some((queue, Partition::new(source, 0, (1, 2), Arc::clone(&names), Limits::default())))
        })
        .collect();
    let (mut seen, mut decoder, mut bytes) = (0, Decoder::default(), 0);
    while seen < events {
        consumer.poll(Duration::ZERO);
        let before = seen;
        for (queue, partition) in &mut lanes {
            queue.fill();
            while let Some(fetched) = queue.take_next() {
                let Fetched::Message(message) = fetched else {
                    continue;
                };
                seen += 1;
                match work {
                    Work::Decode => {
                        let event = decoder.decode(message.payload(), &Bounds::default(), WALL);
                        bytes += event.map_or(0, |event| event.id.len());
                    }
                    Work::Record => {
                        partition.record(message.payload(), message.offset(), WALL);
                        if partition.is_due() {
                            bytes += partition.take_delta().0.panes.len();
                        }
                    }
                    Work::Consume | Work::Reader => bytes += message.payload().len(),
                }
            }
        }
        if seen == before {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    std::hint::black_box(bytes);
    Ok(Cost { wall: start.elapsed().as_secs_f64(), cpu: support::cpu_seconds() - cpu })
}

fn run_reader(brokers: &str, topic: &str, events: u64, variants: u64) -> Result<Cost, Failure> {
    let unique = std::process::id();
    let mut config = config(brokers, topic, &format!("bench-{unique}-{}", support::cpu_seconds()));
    config.dead_letter_topic = Some("rearguard-bench-dead".into());
    let (sink, mut source) = tokio::sync::mpsc::channel(16);
    let wall: Wall = Arc::new(|| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Timestamp::from_millis(now.as_millis() as i64)
    });
    let schema = Arc::new(ArcSwap::new(support::schema(variants)));
    let handle = Ingest::spawn(config, Resume::default(), schema, wall, sink)?;
    let (mut seen, mut panes, mut windowed, mut late) = (0, 0, 0, 0);
    let mut start = None;
    while seen < events {
        match source.blocking_recv() {
            Some(FromIngest::Assign(_)) => start = Some((Instant::now(), support::cpu_seconds())),
            Some(FromIngest::Delta(delta, _)) => {
                seen += delta.fates.consumed;
                windowed += delta.fates.windowed;
                late += delta.fates.late;
                panes += delta.panes.len();
            }
            Some(FromIngest::Gap(gap)) => return Err(format!("{gap:?}").into()),
            Some(FromIngest::Stopped(result)) => result?,
            Some(_) => {}
            None => return Err("the reader ended".into()),
        }
    }
    let (start, cpu) = start.ok_or("nothing was assigned")?;
    let cost = Cost { wall: start.elapsed().as_secs_f64(), cpu: support::cpu_seconds() - cpu };
    drop(handle);
    if windowed != events {
        return Err(format!("only {windowed} of {events} events were windowed, {late} came late").into());
    }
    println!("    {panes} panes of variants handed over");
    Ok(cost)
}
