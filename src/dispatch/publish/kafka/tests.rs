use rdkafka::Message as _;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::Headers;
use rdkafka::mocking::MockCluster;

use super::*;
use crate::dispatch::example;

fn notice() -> Notice {
    let decision = example::story().opener;
    Notice {
        id: format!("{}-act", decision.id),
        since: decision.at,
        content: Content::Decision(Box::new(decision)),
        link: None,
        wakes: false,
        update: false,
        facts: None,
    }
}

/// Both modes on librdkafka's in-process broker, read back as a consumer sees them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_arrive_as_cloud_events_keyed_by_flag() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("decisions", 3, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    let settings = BTreeMap::from([("bootstrap.servers".to_owned(), Secret::new(&*servers))]);
    for mode in [Mode::Structured, Mode::Binary] {
        let topic = KafkaTopic::new(
            "decisions".into(),
            "decisions".into(),
            mode,
            "/rearguard/test".into(),
            &settings,
        )
        .unwrap();
        topic.tell(&notice(), Duration::from_secs(20)).await.unwrap();
    }
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", &servers)
        .set("group.id", "test")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    consumer.subscribe(&["decisions"]).unwrap();
    let mut read = Vec::new();
    while read.len() < 2 {
        let record = tokio::time::timeout(Duration::from_secs(30), consumer.recv()).await.unwrap().unwrap();
        assert_eq!(record.key().unwrap(), b"ai.support-copilot.prompt-v18");
        let headers: BTreeMap<String, String> = record
            .headers()
            .unwrap()
            .iter()
            .map(|h| {
                let value = String::from_utf8(h.value.unwrap().to_vec()).unwrap();
                (h.key.to_owned(), value)
            })
            .collect();
        let value: Value = serde_json::from_slice(record.payload().unwrap()).unwrap();
        read.push((headers, value));
    }
    let (structured, binary) = (&read[0], &read[1]);
    assert_eq!(structured.0["content-type"], "application/cloudevents+json; charset=UTF-8");
    assert_eq!(structured.1["type"], "dev.rearguard.decision.v1");
    assert_eq!(structured.1["specversion"], "1.0");
    assert_eq!(structured.1["time"], "2023-07-12T10:47:30Z");
    assert_eq!(structured.1["data"], binary.1);
    assert_eq!(binary.0["ce_type"], "dev.rearguard.decision.v1");
    assert_eq!(binary.0["ce_id"], structured.1["id"]);
    assert_eq!(binary.0["content-type"], "application/json");
}

#[tokio::test]
async fn nobody_at_home_is_known_to_be_unknown() {
    let settings = BTreeMap::from([
        ("bootstrap.servers".to_owned(), Secret::new("127.0.0.1:1")),
        ("message.timeout.ms".to_owned(), Secret::new("500")),
        ("log_level".to_owned(), Secret::new("0")),
    ]);
    let topic = KafkaTopic::new("x".into(), "x".into(), Mode::default(), "/x".into(), &settings).unwrap();
    let failure = topic.tell(&notice(), Duration::from_secs(20)).await.unwrap_err();
    assert!(!failure.is_permanent(), "{failure}");
    let bad = BTreeMap::from([("no.such.setting".to_owned(), Secret::new("hunter2"))]);
    let error = KafkaTopic::new("x".into(), "x".into(), Mode::default(), "/x".into(), &bad).err().unwrap();
    assert!(!error.to_string().contains("hunter2"));
}
