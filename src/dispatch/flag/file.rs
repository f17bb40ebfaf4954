//! Flags in a file that a platform watches: flagd, GO Feature Flag. There is no write API: the file is the API.
//!
//! The whole file is replaced by one with the flag's definition changed ([`text`](super::text)), so that no reader ever sees
//! half of it. The version is a hash of its bytes: whatever somebody else has written between read and write is a conflict.
//! A file does not say who has changed it, so nothing is ever superseded here.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::text::{Change, Format, find};
use super::{FlagPlatform, Result, Seen, Wanted, bounded};
use crate::dispatch::failure::Failure;
use crate::dispatch::receiver::Attempt;
use crate::engine::rule::diagnostic::nearest;
use crate::model::flag::{Scope, Served};
use crate::model::time::Timestamp;
use crate::store::Flip;

/// The largest file that is read.
const MAX_FILE: u64 = 8 << 20;

/// How much of a definition goes into the record.
const MAX_UNDO: usize = 8_000;

/// How flags are written in a platform's files, and where its evaluation plane is.
pub trait Dialect: Send + Sync {
    /// The adapter, for metrics and people.
    fn adapter(&self) -> &'static str;

    /// Where a flag stands in the file.
    fn path<'k>(&self, key: &'k str) -> Vec<&'k str>;

    /// What has to change so that everybody gets control; nothing if everybody does. The error says why that cannot be.
    fn pin(&self, flag: &Value, served: &Served) -> std::result::Result<Vec<Change>, String>;

    /// What moves the flag's share without anybody touching the file.
    fn moves(&self, flag: &Value) -> Option<&'static str>;

    /// Asks whoever evaluates the file whether it gives control to everybody: what was seen, `None` if nobody can be asked.
    fn ask<'a>(&'a self, served: &'a Served, within: Duration) -> Attempt<'a, Option<String>>;
}

/// The flags of one file.
pub struct FlagFile {
    name: String,
    path: PathBuf,
    format: Format,
    dialect: Box<dyn Dialect>,
}

/// A file as it was read.
struct Read {
    text: String,
    version: String,
}

impl FlagFile {
    /// The flags of the file at `path`. Nothing is read yet.
    pub fn new(name: String, path: PathBuf, dialect: Box<dyn Dialect>) -> Result<Self> {
        let format = Format::of(&path).ok_or_else(|| {
            Failure::permanent(format!("`{}` ends neither in .json, .yaml nor .toml", path.display()))
        })?;
        Ok(Self { name, path, format, dialect })
    }

    async fn see(&self, wanted: &Wanted) -> Result<Seen> {
        let served = wanted.there()?;
        let file = load(&self.path).await?;
        let flag = self.flag(&file, served)?;
        let mut seen = Seen { version: file.version, ..Seen::default() };
        match &wanted.flip {
            Flip::Pin { scope: Scope::All, .. } => {
                seen.done = self.changes(&flag, served)?.is_empty();
                seen.safe = seen.done;
                seen.undo = Some(flag.to_string().chars().take(MAX_UNDO).collect());
            }
            Flip::Pin { scope, .. } => {
                let why = format!(
                    "`{}` cannot be rolled back for {scope} alone: a file has no such targets",
                    served.key
                );
                return Err(Failure::permanent(why));
            }
            Flip::Freeze { .. } => {
                seen.done = true;
                if let Some(what) = self.dialect.moves(&flag) {
                    let why =
                        format!("the share of `{}` moves by itself ({what}); stop that by hand", served.key);
                    return Err(Failure::permanent(why));
                }
            }
            // What people have written, people take back.
            Flip::Unpin { .. } | Flip::Unfreeze { .. } => seen.done = true,
        }
        Ok(seen)
    }

    async fn change(&self, wanted: &Wanted, version: &str) -> Result<()> {
        let served = wanted.there()?;
        let file = load(&self.path).await?;
        if file.version != version {
            return Err(changed(&self.path));
        }
        let changes = self.changes(&self.flag(&file, served)?, served)?;
        let edited = self.edited(&file, served, &changes)?;
        let (path, version) = (self.path.clone(), version.to_owned());
        blocking(move || replace(&path, &version, &edited)).await
    }

    /// Pins a flag in memory and looks at what comes of it, and whether a new file could take the old one's place: an empty
    /// one is made beside it and goes at once. It blocks.
    ///
    /// # Errors
    ///
    /// Why a rollback would fail.
    pub fn rehearse(&self, served: &Served) -> Result<()> {
        let file = load_now(&self.path)?;
        let changes = self.changes(&self.flag(&file, served)?, served)?;
        let text = self.edited(&file, served, &changes)?;
        let pinned = Read { text, version: String::new() };
        if !self.changes(&self.flag(&pinned, served)?, served)?.is_empty() {
            let why = format!("{}: the edit would not pin `{}`", self.path.display(), served.key);
            return Err(Failure::permanent(why));
        }
        let failed = |error: &io::Error| failure("writing beside", &self.path, error);
        let real = fs::canonicalize(&self.path).map_err(|error| failed(&error))?;
        let folder = real.parent().unwrap_or(Path::new("/"));
        tempfile::Builder::new().prefix(".rearguard-").tempfile_in(folder).map_err(|error| failed(&error))?;
        Ok(())
    }

    fn edited(&self, file: &Read, served: &Served, changes: &[Change]) -> Result<String> {
        let edited = self.format.edit(&file.text, &self.dialect.path(&served.key), changes);
        edited.map_err(|why| Failure::permanent(format!("{}: {why}", self.path.display())))
    }

    async fn check(&self, wanted: &Wanted, within: Duration) -> Result<String> {
        let served = wanted.there()?;
        match &wanted.flip {
            Flip::Pin { .. } => {}
            Flip::Freeze { .. } => return Ok("nothing but an edit of the file moves the share".into()),
            Flip::Unpin { .. } => {
                return Ok(
                    "the file stays as it is: a human puts back the definition from the flag's history"
                        .into(),
                );
            }
            Flip::Unfreeze { .. } => return Ok("nothing was held in the file".into()),
        }
        let file = load(&self.path).await?;
        let left = self.changes(&self.flag(&file, served)?, served)?;
        if !left.is_empty() {
            let why = format!("`{}` does not give `{}` to everybody", self.path.display(), served.control);
            return Err(Failure::retryable(why));
        }
        let asked = self.dialect.ask(served, within).await?;
        let read = format!("the file gives `{}` to everybody", served.control);
        Ok(match asked {
            Some(seen) => format!("{read}; {seen}"),
            None => format!("{read}; {} itself was not asked", self.dialect.adapter()),
        })
    }

    /// The flag's definition in a file.
    fn flag(&self, file: &Read, served: &Served) -> Result<Value> {
        // It may be half-written by an editor: the next try may find it whole.
        let root = self
            .format
            .parse(&file.text)
            .map_err(|why| Failure::retryable(format!("{}: {why}", self.path.display())))?;
        let path = self.dialect.path(&served.key);
        if let Some(flag) = find(&root, &path) {
            return Ok(flag.clone());
        }
        let (_, folder) = path.split_last().unwrap_or((&"", &[]));
        let others = match find(&root, folder) {
            Some(Value::Object(flags)) => flags.keys().cloned().collect(),
            Some(Value::Array(flags)) => {
                flags.iter().filter_map(|f| f["key"].as_str().map(str::to_owned)).collect()
            }
            _ => Vec::new(),
        };
        let near = nearest(&served.key, others.iter().map(String::as_str));
        let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        Err(Failure::permanent(format!("{} has no flag `{}`{hint}", self.path.display(), served.key)))
    }

    fn changes(&self, flag: &Value, served: &Served) -> Result<Vec<Change>> {
        self.dialect
            .pin(flag, served)
            .map_err(|why| Failure::permanent(format!("`{}` in {}: {why}", served.key, self.path.display())))
    }

    fn what(&self) -> String {
        format!("the file {}", self.path.display())
    }
}

impl FlagPlatform for FlagFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn adapter(&self) -> &'static str {
        self.dialect.adapter()
    }

    fn read<'a>(&'a self, wanted: &'a Wanted, within: Duration) -> Attempt<'a, Seen> {
        Box::pin(async move { bounded(&self.what(), self.see(wanted), within).await })
    }

    fn write<'a>(
        &'a self,
        wanted: &'a Wanted,
        version: &'a str,
        _: Timestamp,
        within: Duration,
    ) -> Attempt<'a, ()> {
        Box::pin(async move { bounded(&self.what(), self.change(wanted, version), within).await })
    }

    fn verify<'a>(&'a self, wanted: &'a Wanted, within: Duration) -> Attempt<'a, String> {
        Box::pin(async move { bounded(&self.what(), self.check(wanted, within), within).await })
    }
}

/// For a control variation that the flag does not have.
pub(super) fn no_variation<'v>(
    control: &str,
    variations: impl Iterator<Item = &'v String> + Clone,
) -> String {
    let near = nearest(control, variations.clone().map(String::as_str));
    match near {
        Some(near) => format!("it has no variation `{control}`; did you mean `{near}`?"),
        None => {
            let all: Vec<String> = variations.map(|name| format!("`{name}`")).collect();
            format!("it has no variation `{control}`, but {}", all.join(", "))
        }
    }
}

async fn load(path: &Path) -> Result<Read> {
    let path = path.to_owned();
    blocking(move || load_now(&path)).await
}

fn load_now(path: &Path) -> Result<Read> {
    let (bytes, _) = contents(path)?;
    let version = version(&bytes);
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::permanent(format!("{} is no text in UTF-8", path.display())))?;
    Ok(Read { text, version })
}

fn contents(path: &Path) -> Result<(Vec<u8>, Metadata)> {
    let failed = |error: &io::Error| failure("reading", path, error);
    let file = File::open(path).map_err(|error| failed(&error))?;
    let metadata = file.metadata().map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Failure::permanent(format!("{} is larger than {MAX_FILE} bytes", path.display())));
    }
    Ok((bytes, metadata))
}

/// Puts a new file in the place of the old one, with its mode and owner, if that is still what was read. A symbolic link is
/// followed: what it points to is replaced.
fn replace(path: &Path, expected: &str, text: &str) -> Result<()> {
    let failed = |error: &io::Error| failure("writing", path, error);
    let real = fs::canonicalize(path).map_err(|error| failed(&error))?;
    let folder = real.parent().unwrap_or(Path::new("/"));
    let (before, metadata) = contents(&real)?;
    let mut new =
        tempfile::Builder::new().prefix(".rearguard-").tempfile_in(folder).map_err(|error| failed(&error))?;
    new.write_all(text.as_bytes()).map_err(|error| failed(&error))?;
    own(new.as_file(), &metadata).map_err(|error| failed(&error))?;
    new.as_file().sync_all().map_err(|error| failed(&error))?;
    if version(&before) != expected || version(&contents(&real)?.0) != expected {
        return Err(changed(path));
    }
    new.persist(&real).map_err(|error| failed(&error.error))?;
    // The new name has to survive a crash, too.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(&error))
}

/// Gives a file the mode and the owner of the one that it replaces.
fn own(file: &File, old: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let mine = file.metadata()?;
    if (mine.uid(), mine.gid()) != (old.uid(), old.gid()) {
        fchown(file, Some(old.uid()), Some(old.gid()))?;
    }
    file.set_permissions(old.permissions())
}

fn version(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..32].to_owned()
}

fn changed(path: &Path) -> Failure {
    Failure::Conflict { why: format!("{} has been changed since it was read", path.display()) }
}

fn failure(doing: &str, path: &Path, error: &io::Error) -> Failure {
    let why = format!("{doing} {}: {error}", path.display());
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::IsADirectory => {
            Failure::permanent(why)
        }
        // A file that is away may be about to be replaced by somebody else; a full disk may be emptied.
        _ => Failure::retryable(why),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Failure::Unknown { why: format!("the work on the file broke off: {error}") }),
    }
}

#[cfg(test)]
mod tests;
