//! A restart does not forget: memory from SQL, panes from the newest good snapshot, the rest from Kafka.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::input::Settings;
use crate::engine::machine::Engine;
use crate::engine::memory::{Memory, MemoryError};
use crate::engine::snapshot::SnapshotError;
use crate::ingest::consumer::Resume;
use crate::ingest::partition::PartitionState;
use crate::store::snapshot::{Skipped, Snapshots};
use crate::store::{Loaded, StoreError};
use crate::telemetry::facts::SnapshotSkipped;
use crate::telemetry::record;

/// What a snapshot file holds: the engine's panes and the readers' open minutes, one consistent cut.
#[derive(Serialize, Deserialize)]
pub struct Cut {
    pub engine: Vec<u8>,
    pub readers: Vec<PartitionState>,
}

/// An engine that goes on, and from where its sources are read.
pub struct Restored {
    pub engine: Engine,
    pub resume: Resume,
    /// The number of the last input whose output is stored.
    pub seq: u64,
    /// Whether there was nothing to restore.
    pub first_start: bool,
}

/// Why a start cannot go on from what is stored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// The part of the configuration that a snapshot depends on is in the snapshot itself; the file's hash only tells this
/// format from another program's.
pub fn config_hash() -> [u8; 32] {
    *blake3::hash(b"rearguard cut 2").as_bytes()
}

/// Puts an engine together from what is stored.
pub fn restore(settings: Settings, loaded: &Loaded, snapshots: &Snapshots) -> Result<Restored, RestoreError> {
    for path in snapshots.remove_after(loaded.seq)? {
        record(&SnapshotSkipped { file: &path.display().to_string(), why: "it is ahead of the database" });
    }
    if loaded.position.sources.is_empty() && loaded.state.is_empty() {
        let engine = Engine::new(settings);
        return Ok(Restored { engine, resume: Resume::default(), seq: loaded.seq, first_start: true });
    }
    let memory = Memory::from_rows(loaded.state.iter().cloned())?;
    let positions: BTreeMap<_, _> =
        loaded.position.sources.iter().map(|s| (s.source.clone(), s.next_offset)).collect();
    let cut = newest_cut(snapshots)?.filter(|cut| {
        let fits =
            cut.readers.iter().all(|r| positions.get(&r.source).is_some_and(|stored| r.next <= *stored));
        if !fits {
            // Another database than the one it was made beside: panes of events that this one does not know of would count twice.
            record(&SnapshotSkipped { file: "newest", why: "it is ahead of the database" });
        }
        fits
    });
    let (mut engine, readers) = match cut {
        Some(cut) => match Engine::restore(settings.clone(), memory.clone(), Some(&cut.engine)) {
            Ok((engine, _)) => (engine, cut.readers),
            // Whole, by its checksum, yet of another version: read the windows from Kafka again.
            Err(error) => {
                record(&SnapshotSkipped { file: "newest", why: &error.to_string() });
                (Engine::restore(settings, memory, None)?.0, Vec::new())
            }
        },
        None => (Engine::restore(settings, memory, None)?.0, Vec::new()),
    };
    let unread = engine.restore_rollups(&loaded.rollups);
    tracing::debug!(taken = loaded.rollups.len() - unread, unread, "hourly roll-ups");
    let resume = Resume { positions, states: readers };
    Ok(Restored { engine, resume, seq: loaded.seq, first_start: false })
}

fn newest_cut(snapshots: &Snapshots) -> Result<Option<Cut>, RestoreError> {
    let (found, skipped) = snapshots.newest_good(&config_hash())?;
    for Skipped { path, reason } in &skipped {
        record(&SnapshotSkipped { file: &path.display().to_string(), why: &reason.to_string() });
    }
    Ok(found.and_then(|snapshot| postcard::from_bytes(&snapshot.payload).ok()))
}
