//! How much memory a series takes, measured at the allocator: its own binary, because it counts every allocation.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should panic")]

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::cell::Cell;
use std::sync::Arc;

use rearguard::engine::layout::Layout;
use rearguard::engine::pane::{OpenValues, PaneData};
use rearguard::engine::rule::Window;
use rearguard::engine::series::Series;
use rearguard::model::metric::Catalogue;
use rearguard::model::time::Minute;

struct Counting;

thread_local! {
    /// Bytes that this thread has taken and not given back: tests beside it, and their harness, are not counted.
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

fn count(change: impl Fn(usize) -> usize) {
    // A thread that ends has no counter any more, and nobody who reads it.
    let _ = LIVE.try_with(|live| live.set(change(live.get())));
}

fn live() -> usize {
    LIVE.with(Cell::get)
}

#[expect(unsafe_code, reason = "a global allocator is an unsafe trait; it only counts and passes on")]
// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Memory) -> *mut u8 {
        count(|live| live.wrapping_add(layout.size()));
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Memory) {
        count(|live| live.wrapping_sub(layout.size()));
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BOUND: usize = 96 * 1024;
/// For thirty days of hourly roll-ups: exact sums alone, and with histograms.
const MEAN_BOUND: usize = 160 * 1024;
const QUANTILE_BOUND: usize = 1_600 * 1024;

/// 60 events a minute for 6 h and a bit, both totals with histograms, one pane open at ingest.
#[test]
fn a_series_takes_at_most_96_kilobytes() {
    let catalogue = Arc::new(Catalogue::default());
    let metric = catalogue.get(catalogue.find("latency").unwrap());
    let layout = Layout::of(metric).unwrap();
    let before = live();
    let mut series = Series::new(Some(layout));
    series.want(&[(Window(60), true), (Window(360), true)], Some(Minute(0)));
    let mut seed = 1u64;
    for minute in 1..=400 {
        let closed = Minute(minute);
        series.add(
            closed,
            PaneData::Values(pane(&layout, &mut seed, 60).seal(&layout)),
            Some(closed.plus(-1)),
        );
        series.close(closed);
    }
    let open = pane(&layout, &mut seed, 60);
    let bytes = live() - before;
    assert!(series.sums(Minute(41), Minute(400), Minute(400)).n == 360 * 60);
    println!("one series at 60 events a minute for 6 h: {bytes} bytes");
    assert!(bytes <= BOUND, "{bytes} bytes are more than {BOUND}");
    drop(open);
}

/// 3,600 events an hour for 31 days, beside six hours of minutes: what a long rule on the mean adds, and one on a quantile.
#[test]
fn thirty_days_of_roll_ups_stay_small() {
    let catalogue = Catalogue::default();
    let layout = Layout::of(catalogue.get(catalogue.find("latency").unwrap())).unwrap();
    for (quantile, bound) in [(false, MEAN_BOUND), (true, QUANTILE_BOUND)] {
        let before = live();
        let mut series = Series::new(Some(layout));
        series.want(&[(Window::MOST, quantile)], Some(Minute(0)));
        let mut seed = 1u64;
        for minute in 1..=31 * 1_440 {
            let closed = Minute(minute);
            if minute % 60 == 30 {
                let hour = pane(&layout, &mut seed, 3_600).seal(&layout);
                series.add(closed, PaneData::Values(hour), Some(closed.plus(-1)));
            }
            series.close(closed);
        }
        let closed = Minute(31 * 1_440);
        let bytes = live() - before;
        assert_eq!(series.sums(Window::MOST.first_minute(closed), closed, closed).n, 719 * 3_600);
        println!("30 days of one series, histograms {quantile}: {bytes} bytes");
        assert!(bytes <= bound, "{bytes} bytes are more than {bound}");
    }
}

/// So many log-normal-like latencies: the product of four uniform draws spreads over three decades.
fn pane(layout: &Layout, seed: &mut u64, samples: usize) -> OpenValues {
    let mut open = OpenValues::default();
    for _ in 0..samples {
        let mut value = 20_000.0;
        for _ in 0..4 {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            value *= (*seed >> 11) as f64 / (1u64 << 53) as f64 + 0.05;
        }
        open.record(layout, value);
    }
    open
}
