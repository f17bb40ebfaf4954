//! Every adapter, every fault, a daemon that dies at every point: afterwards one flip took effect, one incident is open, one page
//! was rung, the record says what is true, and no secret is in any of it.
//!
//! A cell is one rollback from its commit on: the real store (SQLite), the real worker, the real adapters over HTTP. Its subject, a
//! flag platform or a receiver, misbehaves once, in one of its requests; the daemon dies once, at one point; its successor over the
//! same database ends what was begun. `REARGUARD_MATRIX` says how many cells are tried (`all`: each), `REARGUARD_SEED` which.

mod cell;
mod judge;
mod life;
mod subject;

use std::collections::BTreeMap;
use std::sync::Mutex;

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use crate::standin::server::Fault;
use cell::Cell;
use life::Point;
use subject::{DESKS, FLAGS};

/// How many cells `cargo test` tries.
const USUAL: usize = 60;

/// Cells wait most of the time: for an answer that does not come, for the lease of a dead daemon.
const AT_ONCE: usize = 48;

#[test]
fn one_flip_one_incident_one_page_whatever_fails_and_wherever_the_daemon_dies() {
    let all = cells();
    assert!(all.len() >= 2000, "{} cells", all.len());
    let seed = std::env::var("REARGUARD_SEED").map_or(20_261_124, |seed| seed.parse().expect("a number"));
    let cells = match std::env::var("REARGUARD_MATRIX") {
        Ok(many) if many == "all" => all.clone(),
        Ok(many) => drawn(&all, many.parse().expect("REARGUARD_MATRIX is a number or `all`"), seed),
        Err(_) => drawn(&all, USUAL, seed),
    };
    let servers = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (left, ends) = (Mutex::new(cells.iter()), Mutex::new(BTreeMap::<String, usize>::new()));
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(cells.len()) {
            scope.spawn(|| {
                loop {
                    let Some(cell) = left.lock().unwrap().next() else { return };
                    match std::panic::catch_unwind(|| cell.run(servers.handle())) {
                        Ok(end) => *ends.lock().unwrap().entry(end).or_default() += 1,
                        Err(_) => wrong.lock().unwrap().push(cell),
                    }
                }
            });
        }
    });
    println!("{} of {} cells, seed {seed}:", cells.len(), all.len());
    for (end, many) in ends.into_inner().unwrap() {
        println!("{many:6}  {end}");
    }
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} cells went wrong: {wrong:#?}", wrong.len());
}

/// Every cell there is.
fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (adapter, known) in FLAGS.iter().enumerate() {
        // Our own store is asked by no request that could go wrong.
        let faults = if known.writes > 0 { &FAULTS[..] } else { &[Fault::Pass] };
        for (point, place) in grid(&Point::OF_A_FLIP, known.places) {
            let cell = |fault: &Fault| Cell { flags: Some(adapter), desk: None, fault: *fault, place, point };
            cells.extend(faults.iter().map(cell));
        }
    }
    for (adapter, known) in DESKS.iter().enumerate() {
        for (point, place) in grid(&Point::OF_A_PAGE, known.places) {
            cells.extend(FAULTS.map(|fault| Cell { flags: None, desk: Some(adapter), fault, place, point }));
        }
    }
    cells
}

fn grid(points: &[Point], places: usize) -> impl Iterator<Item = (Point, usize)> {
    points.iter().flat_map(move |point| (0..places).map(|place| (*point, place)))
}

const FAULTS: [Fault; 18] = [
    Fault::Pass,
    Fault::Ignore,
    Fault::Status(401),
    Fault::Status(403),
    Fault::Status(404),
    Fault::Status(405),
    Fault::Status(409),
    Fault::Status(422),
    Fault::Status(429),
    Fault::Status(500),
    Fault::After(429, "7"),
    Fault::After(503, "7"),
    Fault::Hang,
    Fault::Late,
    Fault::Half,
    Fault::Redirect,
    Fault::Huge,
    Fault::Echo(403),
];

/// So many of them, others for another seed.
fn drawn(all: &[Cell], many: usize, seed: u64) -> Vec<Cell> {
    let mut cells = all.to_vec();
    cells.partial_shuffle(&mut ChaCha8Rng::seed_from_u64(seed), many).0.to_vec()
}
