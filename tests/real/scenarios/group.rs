//! Another consumer in Rearguard's own group takes some of its partitions and gives them back: while it has them Rearguard
//! does not judge on what is left, and afterwards no event is lost or doubled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::fleet::{self, HEALTHY};
use super::stage::{Stage, TOPIC};
use crate::timeline::{MINUTE_MS, eventually};

const RATE: f64 = 60.0;
const BOUND: Duration = Duration::from_secs(30);
const WORDS: &str = "another member of the consumer group";

#[test]
fn partitions_that_another_member_takes_come_back_whole() {
    let (mut stage, start) = HEALTHY.staged(RATE, "2m");
    let events = HEALTHY.events_until(start, start + 26 * MINUTE_MS);
    let player = fleet::play(stage.new_producer(), events, stage.timeline, &mut stage.oracle);

    stage.timeline.wait_for(start + 2 * MINUTE_MS);
    let intruder = Intruder::join(stage.kafka.bootstrap());
    not_ready(&stage);
    eventually("the other one reads", BOUND, || (intruder.read() > 0).then_some(()));
    eventually("a page that says blind", BOUND, || blind(&stage, "firing").filter(|pages| *pages == 1));
    let read = intruder.leave();
    stage.daemon.await_ready();
    println!("group: another member read {read} events meanwhile");
    eventually("the page is resolved", BOUND, || blind(&stage, "resolved").filter(|pages| *pages == 1));

    // A restart while only a part of the partitions is there to be restored.
    let intruder = Intruder::join(stage.kafka.bootstrap());
    not_ready(&stage);
    stage.daemon.kill();
    stage.daemon.spawn();
    stage.daemon.await_answer();
    not_ready(&stage);
    intruder.leave();
    stage.daemon.await_ready();

    // One that even has its name: the broker fences Rearguard, which joins anew and gets everything back.
    let impostor = Intruder::join_as(stage.kafka.bootstrap(), Some("rearguard-0"));
    eventually("it is fenced", BOUND, || stage.daemon.log().contains("joining anew").then_some(()));
    stage.daemon.await_ready();
    impostor.leave();

    stage.producer = player.join().expect("the producer ends");
    stage.settle();
    stage.check_fates();
    let compared = stage.check_windows(&[("f0.new", "all"), ("f0.old", "all")], "faithfulness", 360);
    assert_eq!(stage.hook.told("RearguardGap", "firing").len(), 0, "nothing was missing");
    stage.daemon.terminate();
    stage.daemon.assert_healthy_log();
    println!("group: {} events, {compared} windows as by brute force", stage.oracle.sent.iter().sum::<u64>());
}

fn not_ready(stage: &Stage) {
    eventually("not armed, and it says why", BOUND, || {
        let answer = stage.daemon.ask(reqwest::Method::GET, "/readyz", None)?;
        (answer.status == 503 && answer.body["reasons"].to_string().contains(WORDS)).then_some(())
    });
}

fn blind(stage: &Stage, status: &str) -> Option<usize> {
    Some(stage.hook.told("RearguardBlind", status).len())
}

/// A plain consumer that was given Rearguard's group by mistake.
struct Intruder {
    leaves: Arc<AtomicBool>,
    read: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Intruder {
    fn join(bootstrap: &str) -> Self {
        Self::join_as(bootstrap, None)
    }

    fn join_as(bootstrap: &str, instance: Option<&str>) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "rearguard")
            .set("partition.assignment.strategy", "range")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false");
        if let Some(instance) = instance {
            config.set("group.instance.id", instance);
        }
        let consumer: BaseConsumer = config.create().expect("a consumer");
        consumer.subscribe(&[TOPIC]).expect("a subscription");
        let (leaves, read) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stop, count) = (Arc::clone(&leaves), Arc::clone(&read));
        let thread = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Some(Ok(_)) = consumer.poll(Duration::from_millis(20)) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            // Dropping the consumer leaves the group.
        });
        Self { leaves, read, thread }
    }

    fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Leaves the group; how many events it has read.
    fn leave(self) -> u64 {
        self.leaves.store(true, Ordering::Relaxed);
        self.thread.join().expect("the other member ends");
        self.read.load(Ordering::Relaxed)
    }
}
