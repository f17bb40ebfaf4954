//! Each server starts, does its work, survives the stops that tests use, and says why when it cannot start.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use sqlx::{Connection, PgConnection};

use super::{Alertmanager, Kafka, Postgres};

const BOUND: Duration = Duration::from_secs(60);
const TOPIC: &str = "selftest";

#[test]
fn kafka_keeps_its_records_over_a_stop_and_a_kill() -> Result<()> {
    let mut kafka = Kafka::start_with(&[("message.max.bytes", "2097152")])?;
    let address = kafka.bootstrap().to_owned();
    kafka.create_topic(TOPIC, 3, &[("retention.ms", "-1")])?;
    let again = kafka.create_topic(TOPIC, 3, &[]).expect_err("a topic cannot be created twice");
    ensure!(format!("{again:#}").contains("already exists"), "{again:#}");

    produce(&address, "before the stop")?;
    kafka.stop()?;
    ensure!(std::net::TcpStream::connect(&address).is_err(), "a stopped broker still listens");
    kafka.restart()?;
    produce(&address, "before the kill")?;
    kafka.kill()?;
    kafka.restart()?;

    ensure!(kafka.bootstrap() == address, "the address changed");
    ensure!(consume(&address, 2)? == ["before the stop", "before the kill"]);
    Ok(())
}

#[tokio::test]
async fn postgres_keeps_its_rows_over_a_restart() -> Result<()> {
    let mut postgres = Postgres::start()?;
    let url = postgres.create_database("selftest")?;
    ensure!(url != postgres.url());
    let mut connection = PgConnection::connect(&url).await?;
    sqlx::query("CREATE TABLE kept (n BIGINT)").execute(&mut connection).await?;
    sqlx::query("INSERT INTO kept VALUES (42)").execute(&mut connection).await?;

    postgres.stop()?;
    ensure!(
        sqlx::query("SELECT 1").execute(&mut connection).await.is_err(),
        "the session outlived the server"
    );
    postgres.restart()?;

    let mut connection = PgConnection::connect(&url).await?;
    let kept: i64 = sqlx::query_scalar("SELECT n FROM kept").fetch_one(&mut connection).await?;
    ensure!(kept == 42);
    let wrong = url.replace("on-loopback-only", "wrong");
    ensure!(PgConnection::connect(&wrong).await.is_err(), "any password is accepted");
    Ok(())
}

#[tokio::test]
async fn alertmanager_notifies_the_webhook() -> Result<()> {
    let (webhook, calls) = listen_once_each()?;
    let mut alertmanager = Alertmanager::start(&webhook)?;
    post_alert(&alertmanager.url()).await?;
    let call = calls.recv_timeout(BOUND).context("no call of the webhook")?;
    ensure!(call.contains("\"status\":\"firing\"") && call.contains("ServersSelfTest"), "{call}");

    alertmanager.stop()?;
    ensure!(post_alert(&alertmanager.url()).await.is_err(), "a stopped Alertmanager still answers");
    alertmanager.restart()?;
    post_alert(&alertmanager.url()).await
}

#[test]
fn a_server_that_cannot_start_shows_the_end_of_its_log() {
    let error = Alertmanager::start("not a url").err().expect("a receiver without a URL is refused");
    let text = format!("{error:#}");
    assert!(text.contains("ended at its start") && text.contains("unsupported scheme"), "{text}");
}

#[test]
fn a_server_ends_with_its_value() -> Result<()> {
    let kafka = Kafka::start()?;
    let address = kafka.bootstrap().to_owned();
    std::net::TcpStream::connect(&address).context("the broker does not listen")?;
    drop(kafka);
    ensure!(std::net::TcpStream::connect(&address).is_err(), "the broker still listens");
    Ok(())
}

fn produce(bootstrap: &str, text: &str) -> Result<()> {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("acks", "all").create()?;
    let record = BaseRecord::<(), str>::to(TOPIC).partition(1).payload(text);
    producer.send(record).map_err(|(error, _)| error)?;
    producer.flush(BOUND)?;
    ensure!(producer.in_flight_count() == 0);
    Ok(())
}

fn consume(bootstrap: &str, count: usize) -> Result<Vec<String>> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", TOPIC).create()?;
    let mut from_start = TopicPartitionList::new();
    from_start.add_partition_offset(TOPIC, 1, Offset::Beginning)?;
    consumer.assign(&from_start)?;
    let mut texts = Vec::new();
    let started = Instant::now();
    while texts.len() < count {
        if started.elapsed() > BOUND {
            bail!("only {texts:?} after {BOUND:?}");
        }
        // Connection errors are retried by the client itself.
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) {
            texts.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
        }
    }
    Ok(texts)
}

async fn post_alert(url: &str) -> Result<()> {
    let alerts = serde_json::json!([{ "labels": { "alertname": "ServersSelfTest" } }]);
    let client = reqwest::Client::new();
    client.post(format!("{url}/api/v2/alerts")).json(&alerts).send().await?.error_for_status()?;
    Ok(())
}

/// A webhook on loopback: its URL, and the body of each call. Ends with the receiver's first refused send.
fn listen_once_each() -> Result<(String, mpsc::Receiver<String>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/", listener.local_addr()?);
    let (sender, calls) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let body = answer(stream).unwrap_or_else(|error| format!("broken request: {error}"));
            if sender.send(body).is_err() {
                break;
            }
        }
    });
    Ok((url, calls))
}

/// Reads one HTTP request, answers 200 and returns its body.
fn answer(mut stream: std::net::TcpStream) -> Result<String> {
    stream.set_read_timeout(Some(BOUND))?;
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length.context("no length")?.parse()? {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
                return Ok(body.to_owned());
            }
        }
        let read = stream.read(&mut chunk)?;
        ensure!(read > 0, "the request ends early");
        request.extend_from_slice(&chunk[..read]);
    }
}
