//! Snapshots in files: opaque bytes with a header that notices every flipped bit. Written whole or not at all; the three
//! newest are kept, so that a corrupt one falls back to an older.
//!
//! Layout, little-endian: magic (8), format version u32, sequence number u64, config hash (32), payload length u64, BLAKE3 of
//! all of the file but these 32 bytes, payload.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::error::StoreError;

const MAGIC: &[u8; 8] = b"RGSNAP\r\n";
const FORMAT: u32 = 1;
const PLAIN: usize = 8 + 4 + 8 + 32 + 8;
const HEADER: usize = PLAIN + 32;
/// A corrupt length must not reserve the machine's memory. 5,000 series × 96 KB are half a gigabyte.
const MAX_PAYLOAD: u64 = 8 << 30;
const KEEP: usize = 3;
const SUFFIX: &str = "rgsnap";

/// A folder of snapshots.
#[derive(Clone, Debug)]
pub struct Snapshots {
    folder: PathBuf,
}

/// A snapshot that was read back whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The number of the last input that it contains.
    pub seq: u64,
    pub payload: Vec<u8>,
    pub path: PathBuf,
}

/// A file that was passed over.
#[derive(Debug)]
pub struct Skipped {
    pub path: PathBuf,
    pub reason: SkipReason,
}

/// Why a file is no good.
#[derive(Debug, thiserror::Error)]
pub enum SkipReason {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is {found} bytes long, {wanted} are needed")]
    Length { found: u64, wanted: u64 },
    #[error("it is not a snapshot")]
    Magic,
    #[error("format {0} is not known")]
    Format(u32),
    #[error("its checksum does not match its content")]
    Checksum,
    #[error("it was made under another configuration")]
    Config,
}

impl Snapshots {
    /// Opens the folder, makes it if needed and removes what an interrupted write has left.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(StoreError::file("making the snapshot folder", &folder))?;
        let this = Self { folder };
        for path in this.files("tmp")? {
            fs::remove_file(&path).map_err(StoreError::file("removing an unfinished snapshot", &path))?;
        }
        Ok(this)
    }

    /// Writes a snapshot durably and removes all but the newest three. Blocks: call it off the async threads.
    pub fn write(&self, seq: u64, config_hash: &[u8; 32], payload: &[u8]) -> Result<PathBuf, StoreError> {
        let length = payload.len() as u64;
        if length > MAX_PAYLOAD {
            return Err(StoreError::SnapshotTooLarge(length));
        }
        let head = header(seq, config_hash, payload);
        let path = self.folder.join(format!("{seq:020}.{SUFFIX}"));
        let part = self.folder.join(format!("{seq:020}.tmp"));
        let failed = StoreError::file("writing a snapshot", &part);
        let written = write_file(&part, &head, payload)
            .and_then(|()| fs::rename(&part, &path))
            .and_then(|()| File::open(&self.folder)?.sync_all());
        if let Err(error) = written {
            // Best effort: `open` removes what is left as well.
            let _ = fs::remove_file(&part);
            return Err(failed(error));
        }
        for old in self.newest_first()?.into_iter().skip(KEEP) {
            fs::remove_file(&old).map_err(StoreError::file("removing an old snapshot", &old))?;
        }
        Ok(path)
    }

    /// The newest snapshot that is whole and of this configuration, and why newer ones were passed over.
    pub fn newest_good(
        &self,
        config_hash: &[u8; 32],
    ) -> Result<(Option<Snapshot>, Vec<Skipped>), StoreError> {
        let mut skipped = Vec::new();
        for path in self.newest_first()? {
            match read_file(&path, config_hash) {
                Ok((seq, payload)) => {
                    return Ok((Some(Snapshot { seq, payload, path }), skipped));
                }
                Err(reason) => skipped.push(Skipped { path, reason }),
            }
        }
        Ok((None, skipped))
    }

    /// Removes the snapshots of inputs after `seq`, and says which. Those are of a future that the database does not know: it
    /// was restored from an older copy, or is another one. Left alone they would also outlive every new snapshot.
    pub fn remove_after(&self, seq: u64) -> Result<Vec<PathBuf>, StoreError> {
        let mut removed = Vec::new();
        for path in self.newest_first()? {
            let number = path.file_stem().and_then(|name| name.to_str()?.parse::<u64>().ok());
            if number.is_some_and(|number| number > seq) {
                fs::remove_file(&path).map_err(StoreError::file("removing a snapshot", &path))?;
                removed.push(path);
            }
        }
        Ok(removed)
    }

    fn newest_first(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut files = self.files(SUFFIX)?;
        // Names begin with the number in twenty digits: their order is the numbers'.
        files.sort();
        files.reverse();
        Ok(files)
    }

    fn files(&self, suffix: &str) -> Result<Vec<PathBuf>, StoreError> {
        let failed = || StoreError::file("listing the snapshot folder", &self.folder);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            if path.extension().is_some_and(|found| found == suffix) {
                files.push(path);
            }
        }
        Ok(files)
    }
}

fn header(seq: u64, config_hash: &[u8; 32], payload: &[u8]) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEADER);
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&FORMAT.to_le_bytes());
    head.extend_from_slice(&seq.to_le_bytes());
    head.extend_from_slice(config_hash);
    head.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    let sum = checksum(&head, payload);
    head.extend_from_slice(sum.as_bytes());
    head
}

fn checksum(plain: &[u8], payload: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(plain);
    hasher.update(payload);
    hasher.finalize()
}

fn write_file(path: &Path, head: &[u8], payload: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(head)?;
    file.write_all(payload)?;
    file.sync_all()
}

fn read_file(path: &Path, config_hash: &[u8; 32]) -> Result<(u64, Vec<u8>), SkipReason> {
    let mut file = File::open(path)?;
    let found = file.metadata()?.len();
    let mut head = [0_u8; HEADER];
    if found < HEADER as u64 {
        return Err(SkipReason::Length { found, wanted: HEADER as u64 });
    }
    file.read_exact(&mut head)?;
    let (plain, sum) = head.split_at(PLAIN);
    if !plain.starts_with(MAGIC) {
        return Err(SkipReason::Magic);
    }
    let format = u32::from_le_bytes(part(plain, 8));
    if format != FORMAT {
        return Err(SkipReason::Format(format));
    }
    let length = u64::from_le_bytes(part(plain, 52));
    let wanted = length.saturating_add(HEADER as u64);
    if length > MAX_PAYLOAD || found != wanted {
        return Err(SkipReason::Length { found, wanted });
    }
    let mut payload = Vec::new();
    file.take(length).read_to_end(&mut payload)?;
    if checksum(plain, &payload).as_bytes() != sum {
        return Err(SkipReason::Checksum);
    }
    // Only now: before, a flipped bit in the hash would look like another configuration.
    if part::<32>(plain, 20) != *config_hash {
        return Err(SkipReason::Config);
    }
    Ok((u64::from_le_bytes(part(plain, 12)), payload))
}

/// `N` bytes of the header from `start`, which lies inside it.
fn part<const N: usize>(plain: &[u8], start: usize) -> [u8; N] {
    std::array::from_fn(|place| plain[start + place])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONFIG: [u8; 32] = [7; 32];

    fn folder() -> (tempfile::TempDir, Snapshots) {
        let folder = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(folder.path().join("snapshots")).unwrap();
        (folder, snapshots)
    }

    fn newest(snapshots: &Snapshots) -> (Option<u64>, Vec<SkipReason>) {
        let (good, skipped) = snapshots.newest_good(&CONFIG).unwrap();
        let reasons = skipped.into_iter().map(|skipped| skipped.reason);
        (good.map(|good| good.seq), reasons.collect())
    }

    #[test]
    fn the_three_newest_are_kept_and_the_newest_is_read() {
        let (_folder, snapshots) = folder();
        assert_eq!(newest(&snapshots).0, None);
        for seq in [2, 3, 9, 11, 100] {
            snapshots.write(seq, &CONFIG, &seq.to_le_bytes()).unwrap();
        }
        let names: Vec<_> = snapshots.newest_first().unwrap();
        assert_eq!(names.len(), KEEP);
        let (good, skipped) = snapshots.newest_good(&CONFIG).unwrap();
        let good = good.unwrap();
        assert_eq!((good.seq, &*good.payload), (100, &100_u64.to_le_bytes()[..]));
        assert!(skipped.is_empty());
    }

    #[test]
    fn those_ahead_of_the_database_go_and_do_not_outlive_new_ones() {
        let (_folder, snapshots) = folder();
        for seq in [40, 50, 60] {
            snapshots.write(seq, &CONFIG, b"before the backup was restored").unwrap();
        }
        assert_eq!(snapshots.remove_after(45).unwrap().len(), 2);
        assert_eq!(newest(&snapshots).0, Some(40));
        snapshots.write(46, &CONFIG, b"new").unwrap();
        assert_eq!(newest(&snapshots).0, Some(46));
        assert_eq!(snapshots.remove_after(46).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn corrupt_ones_fall_back_to_older_ones_with_their_reasons() {
        let (_folder, snapshots) = folder();
        let old = snapshots.write(1, &CONFIG, b"old").unwrap();
        let cut = snapshots.write(2, &CONFIG, b"cut off").unwrap();
        let bytes = fs::read(&cut).unwrap();
        fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
        let other = snapshots.write(3, &[8; 32], b"other rules").unwrap();
        let (seq, reasons) = newest(&snapshots);
        assert_eq!(seq, Some(1));
        assert!(matches!(&reasons[..], [SkipReason::Config, SkipReason::Length { .. }]), "{reasons:?}");
        fs::write(&other, b"short").unwrap();
        fs::write(&old, vec![b'x'; HEADER + 3]).unwrap();
        let (seq, reasons) = newest(&snapshots);
        assert_eq!(seq, None);
        assert!(
            matches!(&reasons[..], [SkipReason::Length { .. }, SkipReason::Length { .. }, SkipReason::Magic]),
            "{reasons:?}"
        );
    }

    #[test]
    fn an_interrupted_write_leaves_nothing() {
        let (folder, snapshots) = folder();
        snapshots.write(1, &CONFIG, b"whole").unwrap();
        let part = snapshots.folder.join("00000000000000000002.tmp");
        fs::write(&part, b"half").unwrap();
        assert_eq!(newest(&snapshots).0, Some(1));
        Snapshots::open(folder.path().join("snapshots")).unwrap();
        assert!(!part.exists());
    }

    #[test]
    fn a_lengthened_file_is_refused() {
        let (_folder, snapshots) = folder();
        let path = snapshots.write(1, &CONFIG, b"payload").unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes.push(0);
        fs::write(&path, bytes).unwrap();
        let (seq, reasons) = newest(&snapshots);
        assert_eq!(seq, None);
        assert!(matches!(reasons[0], SkipReason::Length { .. }), "{reasons:?}");
    }

    proptest! {
        #![proptest_config(crate::testing::cases(8))]

        /// Every single bit of the file, header and payload.
        #[test]
        fn every_flipped_bit_is_detected(payload in proptest::collection::vec(any::<u8>(), 0..40), seq in any::<u64>()) {
            let (_folder, snapshots) = folder();
            let path = snapshots.write(seq, &CONFIG, &payload).unwrap();
            let good = fs::read(&path).unwrap();
            prop_assert_eq!(newest(&snapshots).0, Some(seq));
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, &bad).unwrap();
                let (found, reasons) = newest(&snapshots);
                prop_assert_eq!(found, None, "bit {} went unnoticed", bit);
                // A flipped bit is never taken for another configuration.
                prop_assert!(!matches!(reasons[0], SkipReason::Config), "bit {}", bit);
            }
        }
    }
}
