//! Lines out of a stream of bytes: big blocks, no copy and no allocation per line.

use std::io::{self, ErrorKind, Read};

use memchr::memchr;

/// Bytes asked for at once.
const BLOCK: usize = 1 << 20;

/// Takes a stream apart at its line ends.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    /// What was read and not handed out lies in `start..end`; up to `scanned` there is no line end in it.
    start: usize,
    scanned: usize,
    end: usize,
    number: u64,
    longest: usize,
    /// The rest of a line that was too long is passed over.
    skipping: bool,
    ended: bool,
}

/// One line, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'b> {
    /// Counted from 1.
    pub number: u64,
    pub bytes: &'b [u8],
}

impl Line<'_> {
    /// Whether there is nothing but white space on it.
    #[inline]
    pub fn is_blank(&self) -> bool {
        self.bytes.iter().all(u8::is_ascii_whitespace)
    }
}

impl<R: Read> Lines<R> {
    /// The lines of `input`. Of a line longer than `longest` bytes the first `longest + 1` are handed out, so that whoever
    /// reads it sees that it is too long; the rest is never held.
    pub fn new(input: R, longest: usize) -> Self {
        Self {
            input,
            buffer: vec![0; BLOCK + longest + 1],
            start: 0,
            scanned: 0,
            end: 0,
            number: 0,
            longest,
            skipping: false,
            ended: false,
        }
    }

    /// The next line; the last one needs no end.
    ///
    /// # Errors
    ///
    /// What reading says. A compressed stream that is cut off or damaged is an error too.
    #[inline]
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            if let Some(length) = memchr(b'\n', &self.buffer[self.scanned..self.end]) {
                let (from, to) = (self.start, self.scanned + length);
                self.start = to + 1;
                self.scanned = self.start;
                if std::mem::take(&mut self.skipping) {
                    continue;
                }
                return Ok(Some(self.line(from, to)));
            }
            self.scanned = self.end;
            if self.skipping {
                self.start = self.end;
            } else if self.end - self.start > self.longest {
                let from = self.start;
                self.start = self.end;
                self.skipping = true;
                return Ok(Some(self.line(from, self.end)));
            }
            if self.ended {
                let (from, to) = (self.start, self.end);
                self.start = to;
                return Ok((from < to).then(|| self.line(from, to)));
            }
            self.fill()?;
        }
    }

    fn line(&mut self, from: usize, to: usize) -> Line<'_> {
        self.number += 1;
        Line { number: self.number, bytes: &self.buffer[from..to.min(from + self.longest + 1)] }
    }

    /// Reads on behind what is left, which moves to the front.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        self.scanned = self.end;
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(n) => self.end += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a few bytes at a time, as pipes do.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len()).min(into.len());
            into[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn all(text: &[u8], step: usize, longest: usize) -> Vec<(u64, Vec<u8>)> {
        let mut lines = Lines::new(Trickle(text, step), longest);
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            found.push((line.number, line.bytes.to_vec()));
        }
        assert_eq!(lines.next_line().unwrap(), None);
        found
    }

    proptest! {
        #[test]
        fn as_a_split_at_line_ends(
            text in prop::collection::vec(prop::sample::select(b"\nab ".to_vec()), 0..60),
            step in 1usize..9,
            longest in 1usize..8,
        ) {
            let mut wanted: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
            // What follows the last line end is a line only if there is something.
            if wanted.last().is_some_and(|last| last.is_empty()) {
                wanted.pop();
            }
            let cut = |line: &[u8]| line[..line.len().min(longest + 1)].to_vec();
            let wanted: Vec<(u64, Vec<u8>)> = (1..).zip(wanted.into_iter().map(cut)).collect();
            prop_assert_eq!(all(&text, step, longest), wanted);
        }
    }

    #[test]
    fn a_line_of_many_blocks_is_cut_and_the_next_one_is_whole() {
        let mut text = vec![b'x'; 3 * BLOCK];
        text.extend(b"\nnext\n");
        let found = all(&text, usize::MAX, 1000);
        assert_eq!((found[0].1.len(), found[1].1.as_slice(), found.len()), (1001, &b"next"[..], 2));
    }
}
