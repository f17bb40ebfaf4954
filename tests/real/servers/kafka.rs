//! Apache Kafka: one node that is broker and controller, in KRaft mode, without security.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tempfile::TempDir;

use super::process::{Launch, Process, run_tool};
use super::{free_port, provisioned};

/// 16 bytes in base64url, as `StorageTool` wants them; one cluster per folder, so one name serves all.
const CLUSTER_ID: &str = "cmVhcmd1YXJkLXJlYWwtMQ";
const START_BOUND: Duration = Duration::from_secs(90);
const ADMIN_BOUND: Duration = Duration::from_secs(30);

/// A broker with its data; ends with the value.
pub struct Kafka {
    // Before the folder: fields are dropped in this order, and the server writes into the folder until it ends.
    process: Process,
    _folder: TempDir,
    bootstrap: String,
}

impl Kafka {
    /// A new, empty broker. Topics must be created: it makes none by itself.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same with more broker settings, e.g. `("message.max.bytes", "200000000")`.
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        let libs = PathBuf::from(provisioned("REARGUARD_KAFKA_LIBS")?);
        let folder = tempfile::Builder::new().prefix("rearguard-kafka-").tempdir()?;
        let bootstrap = format!("127.0.0.1:{}", free_port()?);
        let controller = format!("127.0.0.1:{}", free_port()?);

        let properties = folder.path().join("server.properties");
        std::fs::write(&properties, server_properties(&bootstrap, &controller, folder.path(), settings))?;
        let class_path = libs.join("*").into_os_string();
        let format = ["format", "--cluster-id", CLUSTER_ID, "--config"].map(OsString::from);
        let mut tool = vec!["-cp".into(), class_path.clone(), "kafka.tools.StorageTool".into()];
        tool.extend(format);
        tool.push(properties.clone().into());
        run_tool(OsStr::new("java"), &tool, &[]).context("Kafka's storage cannot be formatted")?;

        let mut argv = ["java", "-Xmx1g", "-XX:+UseG1GC"].map(OsString::from).to_vec();
        argv.extend(
            ["showDateTime=true", "dateTimeFormat=HH:mm:ss.SSS"]
                .map(|setting| OsString::from(format!("-Dorg.slf4j.simpleLogger.{setting}"))),
        );
        argv.push("-cp".into());
        argv.extend([class_path, "kafka.Kafka".into(), properties.into()]);
        let process = Process::new(Launch {
            name: "Kafka",
            argv,
            privileges: Vec::new(),
            stop_signal: "TERM",
            quit_signal: "KILL",
            log: folder.path().join("server.log"),
        });
        let mut kafka = Self { process, _folder: folder, bootstrap };
        kafka.launch()?;
        Ok(kafka)
    }

    /// `host:port` for `bootstrap.servers`; the same after a restart.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Creates a topic with one replica and waits until every partition has its leader.
    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
        apart(|| self.create_topic_here(name, partitions, configs))
            .with_context(|| format!("topic {name} cannot be created"))
    }

    /// Deletes everything that a partition holds now, as retention would; the offset at which its log begins then.
    pub fn delete_records(&self, topic: &str, partition: i32) -> Result<i64> {
        apart(|| self.delete_records_here(topic, partition))
            .with_context(|| format!("records of {topic}/{partition} cannot be deleted"))
    }

    /// SIGTERM, a stop in good order; `restart` brings the broker back.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop()
    }

    /// SIGKILL; `restart` brings the broker back.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts the broker again on the same port and data, after a stop if it still runs.
    pub fn restart(&mut self) -> Result<()> {
        self.process.stop()?;
        self.launch()
    }

    fn launch(&mut self) -> Result<()> {
        self.process.start(START_BOUND, |process| process.log_since_start().contains("Kafka Server started"))
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(ClientConfig::new().set("bootstrap.servers", &self.bootstrap).create()?)
    }

    fn delete_records_here(&self, topic: &str, partition: i32) -> Result<i64> {
        let admin = self.admin()?;
        let (_, high) = admin.inner().fetch_watermarks(topic, partition, ADMIN_BOUND)?;
        let mut before = TopicPartitionList::new();
        before.add_partition_offset(topic, partition, Offset::Offset(high))?;
        let options = AdminOptions::new().operation_timeout(Some(ADMIN_BOUND));
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        for result in runtime.block_on(admin.delete_records(&before, &options))?.elements() {
            result.error()?;
        }
        let (low, _) = admin.inner().fetch_watermarks(topic, partition, ADMIN_BOUND)?;
        Ok(low)
    }

    fn create_topic_here(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
        let admin = self.admin()?;
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in configs {
            topic = topic.set(key, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(ADMIN_BOUND));
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        for result in runtime.block_on(admin.create_topics([&topic], &options))? {
            result.map_err(|(_, code)| anyhow::anyhow!("{code}"))?;
        }
        let asked = Instant::now();
        while asked.elapsed() < ADMIN_BOUND {
            let metadata = admin.inner().fetch_metadata(Some(name), ADMIN_BOUND)?;
            let led = metadata.topics().iter().flat_map(|topic| topic.partitions());
            if led.filter(|partition| partition.leader() >= 0).count() == usize::try_from(partitions)? {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("not every partition has a leader after {ADMIN_BOUND:?}")
    }
}

/// On a thread of its own: the caller may be inside a run-time, where blocking on another one panics.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// One node needs one replica of everything. After SIGKILL the controller half takes the broker half back only when the
/// old session has run out: 3 s here, 9 s by default.
fn server_properties(bootstrap: &str, controller: &str, folder: &Path, settings: &[(&str, &str)]) -> String {
    let mut text = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         listeners=PLAINTEXT://{bootstrap},CONTROLLER://{controller}\n\
         advertised.listeners=PLAINTEXT://{bootstrap}\n\
         controller.quorum.voters=1@{controller}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={}\n\
         auto.create.topics.enable=false\n\
         broker.heartbeat.interval.ms=500\n\
         broker.session.timeout.ms=3000\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n",
        folder.join("data").display()
    );
    for (key, value) in settings {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}
