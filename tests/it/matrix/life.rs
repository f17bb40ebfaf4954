//! The life of a daemon: a runtime of its own, the store opened anew, the worker. It dies as if by `kill -9`: the runtime is dropped
//! with all that was under way.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rearguard::clock::Clock;
use rearguard::dispatch::example;
use rearguard::dispatch::flag::{FlagPlatform, Seen, Wanted};
use rearguard::dispatch::receiver::{Attempt, Notice, Receiver};
use rearguard::dispatch::siren::Siren;
use rearguard::dispatch::worker::{Worker, WorkerSettings};
use rearguard::model::time::Timestamp;
use rearguard::store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Where a daemon dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    Nowhere,
    /// The decision is committed.
    BeforeClaim,
    /// The row is claimed, nothing was asked yet.
    AfterClaim,
    /// Written and not read back.
    AfterWrite,
    /// Read back and not recorded; of a page: taken and not recorded.
    BeforeRecord,
    /// Recorded, and nobody was told.
    AfterRecord,
}

impl Point {
    pub const OF_A_FLIP: [Self; 6] = [
        Self::Nowhere,
        Self::BeforeClaim,
        Self::AfterClaim,
        Self::AfterWrite,
        Self::BeforeRecord,
        Self::AfterRecord,
    ];
    pub const OF_A_PAGE: [Self; 5] =
        [Self::Nowhere, Self::BeforeClaim, Self::AfterClaim, Self::BeforeRecord, Self::AfterRecord];
}

/// Ends a life when its point is reached.
pub struct Gate {
    point: Point,
    fell: AtomicBool,
    told: Notify,
}

impl Gate {
    pub fn new(point: Point) -> Arc<Self> {
        Arc::new(Self { point, fell: AtomicBool::new(false), told: Notify::new() })
    }

    /// Goes no further if this is the point.
    async fn pass(&self, point: Point) {
        if self.point == point {
            self.fell.store(true, Ordering::SeqCst);
            self.told.notify_one();
            std::future::pending::<()>().await;
        }
    }

    pub fn has_fallen(&self) -> bool {
        self.fell.load(Ordering::SeqCst)
    }
}

/// A platform whose daemon may die at it.
pub struct Mortal<T: ?Sized> {
    pub inner: Arc<T>,
    pub gate: Arc<Gate>,
}

impl FlagPlatform for Mortal<dyn FlagPlatform> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn adapter(&self) -> &'static str {
        self.inner.adapter()
    }

    fn read<'a>(&'a self, wanted: &'a Wanted, within: Duration) -> Attempt<'a, Seen> {
        Box::pin(async move {
            self.gate.pass(Point::AfterClaim).await;
            self.inner.read(wanted, within).await
        })
    }

    fn write<'a>(
        &'a self,
        wanted: &'a Wanted,
        version: &'a str,
        now: Timestamp,
        within: Duration,
    ) -> Attempt<'a, ()> {
        Box::pin(async move {
            let written = self.inner.write(wanted, version, now, within).await;
            self.gate.pass(Point::AfterWrite).await;
            written
        })
    }

    fn verify<'a>(&'a self, wanted: &'a Wanted, within: Duration) -> Attempt<'a, String> {
        Box::pin(async move {
            let seen = self.inner.verify(wanted, within).await;
            self.gate.pass(Point::BeforeRecord).await;
            seen
        })
    }
}

impl Receiver for Mortal<dyn Receiver> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn adapter(&self) -> &'static str {
        self.inner.adapter()
    }

    fn tell<'a>(&'a self, notice: &'a Notice, within: Duration) -> Attempt<'a, ()> {
        Box::pin(async move {
            self.gate.pass(Point::AfterClaim).await;
            let told = self.inner.tell(notice, within).await;
            self.gate.pass(Point::BeforeRecord).await;
            told
        })
    }

    fn refresh(&self) -> Option<Duration> {
        self.inner.refresh()
    }
}

/// How a platform is opened: our own is the store's.
type Opened = dyn Fn(&Store) -> Arc<dyn FlagPlatform>;

/// What a life is lived with.
pub struct Around {
    pub clock: Clock,
    pub platform: Box<Opened>,
    pub receivers: Vec<Arc<dyn Receiver>>,
    pub gate: Arc<Gate>,
    /// What the gate does not see: whether the point is reached by what is recorded.
    pub recorded: fn(&Record) -> bool,
}

/// How the rollback stands in the database.
#[derive(Clone, Debug)]
pub struct Record {
    pub flip: Option<rearguard::engine::input::FlipOutcome>,
    pub page: Option<Timestamp>,
    /// Rows that somebody still has to carry out.
    pub under_way: u64,
}

/// Real time that a rollback may take here: a dead daemon's lease, an answer that does not come, tries on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Lives until death, or until nothing is left to do.
pub fn live(base: &Path, around: &Around, born: impl AsyncFnOnce(&Store)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(base).await;
        born(&store).await;
        if around.gate.point == Point::BeforeClaim {
            around.gate.fell.store(true, Ordering::SeqCst);
            return;
        }
        tokio::select! {
            () = work(&store, around) => unreachable!("a worker works until it is stopped"),
            () = around.gate.told.notified() => {}
            () = settled(&store, around) => {}
        }
    });
    // Whatever was under way is dropped where it stood.
    runtime.shutdown_background();
}

/// The store of a daemon that has just been started.
pub async fn open(base: &Path) -> Store {
    let url = format!("sqlite:{}", base.display());
    let began = Instant::now();
    loop {
        match Store::open_exclusive(&url, "matrix").await {
            Ok(store) => return store,
            // Connections of the dead are closed by threads of their own.
            Err(error) if began.elapsed() > PATIENCE => panic!("the store cannot be opened: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn work(store: &Store, around: &Around) {
    let settings = WorkerSettings {
        poll: Duration::from_millis(20),
        lease: Duration::from_millis(2500),
        second_channel: vec!["second".into()],
        // Only for what is refused: on a busy machine minutes pass quickly here.
        second_after: Duration::from_secs(24 * 3600),
        ..WorkerSettings::default()
    };
    let (sender, _answers) = tokio::sync::mpsc::channel(16);
    let platforms = vec![(around.platform)(store)];
    let worker = Worker::new(
        store.clone(),
        around.clock,
        settings,
        platforms,
        around.receivers.clone(),
        Siren::default(),
        sender,
    );
    Arc::new(worker).run(CancellationToken::new()).await.unwrap();
}

async fn settled(store: &Store, around: &Around) {
    let began = Instant::now();
    loop {
        let record = record(store, around.clock).await;
        if around.gate.point == Point::AfterRecord && (around.recorded)(&record) {
            around.gate.fell.store(true, Ordering::SeqCst);
            return;
        }
        if record.flip.is_some() && record.under_way == 0 {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "nothing comes to an end: {record:?}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

async fn record(store: &Store, clock: Clock) -> Record {
    let story = example::story();
    let flip = store.flip_state(&story.opener.id).await.unwrap();
    let stats = store.outbox_stats(clock.now()).await.unwrap();
    let open = stats.counts.iter().filter(|count| ["pending", "claimed"].contains(&count.status.as_str()));
    Record {
        flip: flip.and_then(|flip| flip.outcome),
        page: store.incident(&story.incident.as_str().into()).await.unwrap().incident.page_accepted,
        // A page that stands is due when there is news.
        under_way: open.map(|count| count.rows).sum::<u64>() + u64::from(stats.oldest_due.is_some()),
    }
}
