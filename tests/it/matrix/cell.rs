//! One cell: set up, lived through, judged.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use rearguard::clock::Clock;
use rearguard::dispatch::client::Outbound;
use rearguard::dispatch::example;
use rearguard::dispatch::receiver::Receiver;
use rearguard::engine::output::{Decision, IncidentOrder, LatchChange, Message, Order, Output};
use rearguard::model::flag::{FlagSpec, Served};
use rearguard::store::{PlanContext, Position, Routes, StepRecord, Store, Timing};
use rearguard::telemetry::Metrics;
use tokio::runtime::Handle;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::judge;
use super::life::{Around, Gate, Mortal, Point, live, open};
use super::subject::{DESKS, DeskAdapter, DeskDouble, FLAGS, FlagAdapter, FlagDouble};
use crate::standin::server::Fault;
use crate::vendor_http::loopback;

/// How much faster than real time a cell lives.
const RATE: f64 = 20.0;

/// What is tried. The subject is a flag platform or a receiver; the other part behaves well.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    pub flags: Option<usize>,
    pub desk: Option<usize>,
    pub fault: Fault,
    /// The request that gets the fault, from 0.
    pub place: usize,
    pub point: Point,
}

/// A cell under way.
pub struct Run {
    pub cell: Cell,
    pub flags: &'static FlagAdapter,
    pub platform: Box<dyn FlagDouble>,
    pub desk: &'static DeskAdapter,
    pub oncall: Box<dyn DeskDouble>,
    pub second: Box<dyn DeskDouble>,
    pub clock: Clock,
    pub outbound: Outbound,
    /// Whether the daemon died where it was to die: a fault may have kept it from coming there.
    pub died: bool,
}

impl Cell {
    /// Lives it through; how it ended, in a few words. Panics where anything is not as it must be.
    pub fn run(&self, servers: &Handle) -> String {
        let folder = tempfile::tempdir().unwrap();
        let (end, said) = overheard(|| self.lived(servers, folder.path()));
        judge::keeps_secrets(&said, folder.path());
        end
    }

    fn lived(&self, servers: &Handle, folder: &Path) -> String {
        // The part that is not tried: another one for each cell.
        let other = self.place + self.point as usize;
        let flags = &FLAGS[self.flags.unwrap_or(other % FLAGS.len())];
        let desk = &DESKS[self.desk.unwrap_or(other % (DESKS.len() - 1))];
        let clock = Clock::scaled(example::story().committed, RATE);
        let mut run = Run {
            cell: *self,
            flags,
            platform: (flags.start)(servers),
            desk,
            oncall: (desk.start)(servers),
            second: (DESKS[1].start)(servers),
            clock,
            outbound: loopback(clock),
            died: false,
        };
        let mut script = vec![Fault::Pass; self.place];
        script.push(self.fault);
        match self.flags {
            Some(_) => run.platform.misbehave(&script),
            None => run.oncall.misbehave(&script),
        }
        let base = folder.join("rearguard.db");
        std::fs::copy(empty(), &base).unwrap();
        let first = run.around(self.point);
        live(&base, &first, async |store| commit(store, clock, flags.served()).await);
        run.died = first.gate.has_fallen();
        if run.died {
            live(&base, &run.around(Point::Nowhere), async |_| {});
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = open(&base).await;
            let end = judge::judge(&run, &store).await;
            store.close().await.unwrap();
            end
        })
    }
}

impl Run {
    fn around(&self, point: Point) -> Around {
        let gate = Gate::new(point);
        let (of_flags, of_desk) = match self.cell.flags {
            Some(_) => (Arc::clone(&gate), Gate::new(Point::Nowhere)),
            None => (Gate::new(Point::Nowhere), Arc::clone(&gate)),
        };
        let oncall = self.desk.open("oncall", &self.outbound, self.oncall.url());
        let oncall: Arc<dyn Receiver> = Arc::new(Mortal { inner: oncall, gate: of_desk });
        let (flags, outbound) = (self.flags, self.outbound.clone());
        let url = self.platform.url().to_owned();
        Around {
            clock: self.clock,
            platform: Box::new(move |store| {
                Arc::new(Mortal { inner: flags.open(store, &outbound, &url), gate: Arc::clone(&of_flags) })
            }),
            receivers: vec![oncall, DESKS[1].open("second", &self.outbound, self.second.url())],
            gate,
            recorded: match self.cell.flags {
                Some(_) => |record| record.flip.is_some(),
                None => |record| record.page.is_some(),
            },
        }
    }
}

fn decision(clock: Clock) -> Decision {
    Decision { t0: clock.now() - Duration::from_secs(270), ..example::story().opener }
}

/// A database that was just made; making one takes longer than a copy.
fn empty() -> PathBuf {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("empty.db");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { open(&base).await.close().await }).unwrap();
        folder
    });
    folder.path().join("empty.db")
}

/// The rollback as the engine commits it: pin, incident, page.
async fn commit(store: &Store, clock: Clock, served: Option<Served>) {
    let decision = decision(clock);
    let flag = &decision.key.flag;
    let flags = vec![FlagSpec {
        key: flag.clone(),
        control: "support-copilot.prompt-v17".into(),
        treatment: decision.variant.clone(),
        share: 1_000_000,
        frozen: false,
        served,
        drill: false,
    }];
    store.declare(&flags, clock.now()).await.unwrap();
    let incident = decision.incident.clone().unwrap();
    let orders = vec![
        Order::Pin {
            decision: decision.id.clone(),
            flag: flag.clone(),
            scope: decision.scope.clone(),
            control: flags[0].control.clone(),
            by: None,
        },
        Order::OpenIncident(Box::new(IncidentOrder {
            incident: incident.clone(),
            flag: flag.clone(),
            variant: decision.variant.clone(),
            decision: decision.id.clone(),
            severity: decision.severity,
            failure_class: decision.failure_class.clone(),
            title: "it broke".into(),
            at: decision.at,
        })),
        Order::Page(Message { dedup_key: format!("rollback/{flag}/all"), ..example::message() }),
    ];
    let latches = vec![LatchChange::Open {
        flag: flag.clone(),
        scope: decision.scope.clone(),
        decision: decision.id.clone(),
        incident,
        at: decision.at,
    }];
    let output = Output { decisions: vec![decision], orders, latches, ..Output::default() };
    let routes = Routes { page: vec!["oncall".into()], ..Routes::default() };
    let context = PlanContext { routes: &routes, timing: Timing::default(), flags: &flags };
    let outputs = [output];
    let record = StepRecord::new(1, clock.now(), &outputs, &[], Position::default(), &context);
    store.commit(&record).await.unwrap();
}

/// What was logged, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(line)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Does something on this thread, and hears what is logged and measured meanwhile.
fn overheard<T>(what: impl FnOnce() -> T) -> (T, String) {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    let (metrics, recorder) = Metrics::detached().unwrap();
    // What other libraries say by the `log` crate comes along, as in the daemon.
    let hearing = subscriber.set_default();
    let done = metrics::with_local_recorder(&recorder, what);
    drop(hearing);
    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    (done, logged + &metrics.render())
}
