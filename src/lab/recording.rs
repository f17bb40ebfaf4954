//! Recorded events as files: plain, gzip or zstd, told apart by their first bytes.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

/// Compressed bytes read at once.
const BLOCK: usize = 1 << 18;

/// A stream of bytes, whatever it comes from.
pub type Input = Box<dyn Read>;

/// Where events are.
#[derive(Debug)]
pub struct Recording {
    /// For messages: the path, or `-`.
    pub name: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    /// Standard input: can be read once.
    Stdin,
    /// What standard input held.
    Spooled(File),
}

impl Recording {
    /// A file, or standard input for `-`.
    pub fn new(path: &Path) -> Self {
        let name = path.display().to_string();
        let place = if name == "-" { Place::Stdin } else { Place::File(path.to_owned()) };
        Self { name, place }
    }

    /// Whether this is standard input, and not kept.
    pub fn is_stdin(&self) -> bool {
        matches!(self.place, Place::Stdin)
    }

    /// Keeps what standard input holds, as it is, in a file without a name, so that it can be read more than once.
    ///
    /// # Errors
    ///
    /// What reading standard input or writing the file says.
    pub fn spool(&mut self) -> io::Result<()> {
        if self.is_stdin() {
            let mut file = tempfile::tempfile()?;
            io::copy(&mut io::stdin().lock(), &mut file)?;
            self.place = Place::Spooled(file);
        }
        Ok(())
    }

    /// Bytes as stored, where that is known.
    pub fn size(&self) -> Option<u64> {
        match &self.place {
            Place::File(path) => path.metadata().ok().filter(|meta| meta.is_file()).map(|meta| meta.len()),
            Place::Stdin => None,
            Place::Spooled(file) => file.metadata().ok().map(|meta| meta.len()),
        }
    }

    /// Opens it from its start, unpacked. `counted` is put around the bytes as stored.
    ///
    /// # Errors
    ///
    /// What opening and reading the first bytes says.
    pub fn open(&self, counted: impl FnOnce(Input) -> Input) -> io::Result<Input> {
        let stored: Input = match &self.place {
            Place::File(path) => {
                if path.is_dir() {
                    return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder, not a file"));
                }
                Box::new(File::open(path)?)
            }
            Place::Stdin => Box::new(io::stdin()),
            Place::Spooled(file) => {
                let mut again = file.try_clone()?;
                again.seek(SeekFrom::Start(0))?;
                Box::new(again)
            }
        };
        unpacked(counted(stored))
    }
}

/// Unpacks what begins with the magic bytes of gzip (RFC 1952) or of a zstd frame (RFC 8878); anything else stays as it is.
///
/// # Errors
///
/// What reading the first bytes says.
pub fn unpacked(stored: Input) -> io::Result<Input> {
    let mut stored = BufReader::with_capacity(BLOCK, stored);
    // A pipe may give less than four bytes at first, so they are read, and put back in front.
    let mut magic = Vec::with_capacity(4);
    stored.by_ref().take(4).read_to_end(&mut magic)?;
    let gzip = magic.starts_with(&[0x1f, 0x8b]);
    let zstd = magic == [0x28, 0xb5, 0x2f, 0xfd];
    let whole = io::Cursor::new(magic).chain(stored);
    Ok(if gzip {
        Box::new(MultiGzDecoder::new(whole))
    } else if zstd {
        Box::new(zstd::stream::read::Decoder::with_buffer(whole)?)
    } else {
        Box::new(whole)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(stored: Vec<u8>) -> io::Result<String> {
        let mut text = String::new();
        unpacked(Box::new(io::Cursor::new(stored)))?.read_to_string(&mut text)?;
        Ok(text)
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    }

    #[test]
    fn every_form_reads_the_same_and_a_cut_one_says_so() {
        let (one, two) = ("a\n".repeat(1000), "b\n".repeat(1000));
        let both = format!("{one}{two}");
        let zstd = |text: &str| zstd::encode_all(text.as_bytes(), 3).unwrap();
        assert_eq!(read(both.clone().into_bytes()).unwrap(), both);
        // Files are often made by putting packed files one behind the other.
        assert_eq!(read([gzip(&one), gzip(&two)].concat()).unwrap(), both);
        assert_eq!(read([zstd(&one), zstd(&two)].concat()).unwrap(), both);
        for packed in [gzip(&both), zstd(&both)] {
            assert!(read(packed[..packed.len() - 3].to_vec()).is_err());
        }
        for short in ["", "{", "{}\n"] {
            assert_eq!(read(short.as_bytes().to_vec()).unwrap(), short);
        }
    }
}
