//! A strict RFC 8259 scanner over one text: borrowed strings, numbers as `f64`, everything else skipped in constant space.
//!
//! It never recurses and never allocates, except to undo escapes in strings that have any. Duplicate keys are the business
//! of the caller, who knows which keys matter.

use crate::model::event::Sample;

/// Nesting beyond this is refused. Events need two levels; other fields are skipped, whatever they hold.
pub const MAX_DEPTH: u32 = 64;

/// Why a text is not acceptable JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Malformed,
    TooDeep,
}

/// Where a string's characters are: in the text itself, or in the buffer of unescaped ones.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    start: u32,
    end: u32,
    unescaped: bool,
}

impl Span {
    /// Characters of the text itself.
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32, unescaped: false }
    }

    /// Where in the text the characters are, if they are there.
    pub(super) fn plain(self) -> Option<(usize, usize)> {
        (!self.unescaped).then_some((self.start as usize, self.end as usize))
    }

    /// The string, given the text and the buffer it was scanned with.
    pub fn of<'a>(self, text: &'a str, unescaped: &'a str) -> &'a str {
        let whole = if self.unescaped { unescaped } else { text };
        &whole[self.start as usize..self.end as usize]
    }
}

/// A cursor in one JSON text of less than 4 GiB.
pub struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Starts at the beginning.
    pub fn new(text: &'a str) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0 }
    }

    /// Where the cursor stands.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Puts the cursor between two characters that are known to be there.
    pub(super) fn go_to(&mut self, at: usize) {
        self.at = at;
    }

    /// The rest of a string whose opening quote has been taken, if it has no escapes.
    #[inline]
    pub(super) fn plain_string(&mut self) -> Option<Span> {
        let end = plain_end(self.bytes, self.at);
        let span = Span::new(self.at, end);
        self.at = end + 1;
        (self.bytes.get(end) == Some(&b'"')).then_some(span)
    }

    /// A number or boolean that starts right here.
    #[inline]
    pub(super) fn sample(&mut self) -> Option<Sample> {
        match self.bytes.get(self.at)? {
            b'-' | b'0'..=b'9' => self.number().ok().map(Sample::Number),
            b't' => self.word("true").ok().map(|()| Sample::Bool(true)),
            b'f' => self.word("false").ok().map(|()| Sample::Bool(false)),
            _ => None,
        }
    }

    /// The next byte that is not white space; 0 at the end (0 is never valid there).
    #[inline]
    pub fn peek(&mut self) -> u8 {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(&byte) => return byte,
                None => return 0,
            }
        }
    }

    /// Takes a punctuation mark if it comes next.
    #[inline]
    pub fn take(&mut self, mark: u8) -> bool {
        let found = self.peek() == mark;
        self.at += usize::from(found);
        found
    }

    /// Takes a punctuation mark that must come next.
    #[inline]
    pub fn expect(&mut self, mark: u8) -> Result<(), Fault> {
        self.take(mark).then_some(()).ok_or(Fault::Malformed)
    }

    /// Nothing but white space is left.
    pub fn end(&mut self) -> Result<(), Fault> {
        (self.peek() == 0 && self.at == self.bytes.len()).then_some(()).ok_or(Fault::Malformed)
    }

    /// Takes `true`, `false` or `null`.
    pub fn word(&mut self, word: &str) -> Result<(), Fault> {
        self.peek();
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        Err(Fault::Malformed)
    }

    /// Takes a string; escapes are undone into `unescaped`.
    #[inline]
    pub fn string(&mut self, unescaped: &mut String) -> Result<Span, Fault> {
        self.expect(b'"')?;
        let start = self.at;
        self.at = plain_end(self.bytes, start);
        match self.bytes.get(self.at) {
            Some(b'"') => {
                self.at += 1;
                Ok(Span { start: start as u32, end: (self.at - 1) as u32, unescaped: false })
            }
            Some(b'\\') => self.escaped(start, unescaped),
            _ => Err(Fault::Malformed),
        }
    }

    /// Takes a number. One beyond the range of `f64` is infinite: it is for the caller to refuse.
    #[inline]
    pub fn number(&mut self) -> Result<f64, Fault> {
        self.peek();
        let start = self.at;
        let negative = self.bytes.get(start) == Some(&b'-');
        self.at += usize::from(negative);
        let mut mantissa = 0u64;
        let first = self.at;
        let mut digits = self.digits(&mut mantissa)?;
        if digits > 1 && self.bytes[first] == b'0' {
            return Err(Fault::Malformed);
        }
        let mut exponent = 0i32;
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            let decimals = self.digits(&mut mantissa)?;
            digits += decimals;
            exponent = -i32::try_from(decimals).unwrap_or(i32::MAX);
        }
        let plain = !matches!(self.bytes.get(self.at), Some(b'e' | b'E'));
        if !plain {
            self.at += 1;
            self.at += usize::from(matches!(self.bytes.get(self.at), Some(b'+' | b'-')));
            self.digits(&mut 0)?;
        }
        if plain && digits <= 18 && mantissa <= 1 << 53 && exponent >= -22 {
            // Exact operands, one rounding (Clinger 1990): the quotient is the nearest double.
            let size = mantissa as f64 / POWERS[exponent.unsigned_abs() as usize];
            return Ok(if negative { -size } else { size });
        }
        self.text[start..self.at].parse().map_err(|_| Fault::Malformed)
    }

    /// Skips one value of any kind.
    pub fn skip(&mut self) -> Result<(), Fault> {
        let mut unescaped = String::new();
        // One bit per open container: 1 for an object.
        let mut open = 0u64;
        let mut depth = 0u32;
        loop {
            let byte = self.peek();
            if byte == b'{' || byte == b'[' {
                if depth == MAX_DEPTH {
                    return Err(Fault::TooDeep);
                }
                self.at += 1;
                open = open << 1 | u64::from(byte == b'{');
                depth += 1;
                if !self.take(byte + 2) {
                    self.key(open, &mut unescaped)?;
                    continue;
                }
                (open, depth) = (open >> 1, depth - 1);
            } else {
                self.scalar(byte, &mut unescaped)?;
            }
            while depth > 0 && !self.take(b',') {
                self.expect(if open & 1 == 1 { b'}' } else { b']' })?;
                (open, depth) = (open >> 1, depth - 1);
            }
            if depth == 0 {
                return Ok(());
            }
            self.key(open, &mut unescaped)?;
        }
    }

    /// Inside an object, a key and its colon.
    fn key(&mut self, open: u64, unescaped: &mut String) -> Result<(), Fault> {
        if open & 1 == 1 {
            self.string(unescaped)?;
            unescaped.clear();
            self.expect(b':')?;
        }
        Ok(())
    }

    fn scalar(&mut self, first: u8, unescaped: &mut String) -> Result<(), Fault> {
        match first {
            b'"' => {
                self.string(unescaped)?;
                unescaped.clear();
                Ok(())
            }
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number().map(|_| ()),
        }
    }

    /// Takes at least one digit; says how many.
    #[inline]
    fn digits(&mut self, mantissa: &mut u64) -> Result<usize, Fault> {
        let start = self.at;
        while let Some(byte) = self.bytes.get(self.at)
            && byte.is_ascii_digit()
        {
            *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
            self.at += 1;
        }
        if self.at == start {
            return Err(Fault::Malformed);
        }
        Ok(self.at - start)
    }

    #[cold]
    fn escaped(&mut self, mut plain: usize, unescaped: &mut String) -> Result<Span, Fault> {
        let start = unescaped.len() as u32;
        loop {
            unescaped.push_str(&self.text[plain..self.at]);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Span { start, end: unescaped.len() as u32, unescaped: true });
                }
                Some(b'\\') => unescaped.push(self.escape()?),
                _ => return Err(Fault::Malformed),
            }
            plain = self.at;
            self.at = plain_end(self.bytes, plain);
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        let mark = self.bytes.get(self.at + 1).copied().ok_or(Fault::Malformed)?;
        self.at += 2;
        match mark {
            b'"' | b'\\' | b'/' => Ok(char::from(mark)),
            b'b' => Ok('\u{8}'),
            b'f' => Ok('\u{c}'),
            b'n' => Ok('\n'),
            b'r' => Ok('\r'),
            b't' => Ok('\t'),
            b'u' => self.unicode(),
            _ => Err(Fault::Malformed),
        }
    }

    fn unicode(&mut self) -> Result<char, Fault> {
        let unit = self.hex()?;
        if !(0xd800..0xe000).contains(&unit) {
            return char::from_u32(unit).ok_or(Fault::Malformed);
        }
        if unit >= 0xdc00 || self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
            return Err(Fault::Malformed);
        }
        self.at += 2;
        let low = self.hex()?;
        if !(0xdc00..0xe000).contains(&low) {
            return Err(Fault::Malformed);
        }
        char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)).ok_or(Fault::Malformed)
    }

    fn hex(&mut self) -> Result<u32, Fault> {
        let digits = self.bytes.get(self.at..self.at + 4).ok_or(Fault::Malformed)?;
        self.at += 4;
        digits.iter().try_fold(0, |value, digit| {
            let digit = char::from(*digit).to_digit(16).ok_or(Fault::Malformed)?;
            Ok(value << 4 | digit)
        })
    }
}

/// Exact powers of ten.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

const ONES: u64 = u64::MAX / 255;
const HIGHS: u64 = ONES << 7;

/// The first quote, backslash or control character from `at` on, eight bytes at a time.
#[inline]
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * b'"' as u64);
        let slash = word ^ (ONES * b'\\' as u64);
        // A byte's high bit is set where the byte is zero (or < 0x20): exact for the lowest such byte, which is what counts.
        let zero = |w: u64| w.wrapping_sub(ONES) & !w;
        let hits = (zero(quote) | zero(slash) | (word.wrapping_sub(ONES * 0x20) & !word)) & HIGHS;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(&byte) = bytes.get(at)
        && byte != b'"'
        && byte != b'\\'
        && byte >= 0x20
    {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepts(text: &str) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.skip().and_then(|()| scanner.end()).is_ok()
    }

    proptest! {
        #[test]
        fn accepts_what_serde_json_accepts(text in "[\\[\\]{}:,\" \\\\0-9eE.+\\-tfnu\u{1}a]{0,24}") {
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            // serde_json refuses numbers out of range even when ignored in some versions; both read the rest alike.
            prop_assert_eq!(accepts(&text), theirs, "{}", text);
        }

        #[test]
        fn strings_are_unescaped_like_serde_json(text in any::<String>(), ascii in any::<bool>()) {
            let mut json = serde_json::to_string(&text).unwrap();
            if ascii {
                json = json.chars().map(|c| {
                    let mut units = [0; 2];
                    if c.is_ascii() { c.to_string() } else {
                        c.encode_utf16(&mut units).iter().map(|u| format!("\\u{u:04x}")).collect()
                    }
                }).collect();
            }
            let mut unescaped = String::from("before");
            let span = Scanner::new(&json).string(&mut unescaped).unwrap();
            prop_assert_eq!(span.of(&json, &unescaped), text);
        }

        #[test]
        fn numbers_are_the_nearest_doubles(value in any::<f64>(), digits in 0usize..20, small in -1e6f64..1e6) {
            for text in [format!("{value:?}"), format!("{small:.digits$}"), format!("{value:e}")] {
                if let Ok(read) = Scanner::new(&text).number() {
                    prop_assert_eq!(read.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{}", text);
                }
            }
        }
    }

    #[test]
    fn numbers_out_of_range_and_out_of_grammar() {
        assert_eq!(Scanner::new("1e999").number(), Ok(f64::INFINITY));
        for bad in ["01", "-", "1.", ".5", "+1", "1e", "NaN", "Infinity", "0x10"] {
            assert!(!accepts(bad), "{bad}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(accepts(&deep(64)));
        assert_eq!(Scanner::new(&deep(65)).skip(), Err(Fault::TooDeep));
        assert_eq!(Scanner::new(&"[".repeat(1_000_000)).skip(), Err(Fault::TooDeep));
        assert_eq!(Scanner::new(&"{\"a\":".repeat(1_000_000)).skip(), Err(Fault::TooDeep));
    }

    #[test]
    fn control_characters_end_a_plain_run_wherever_they_stand() {
        for place in 0..40 {
            for stop in [b'"', b'\\', 0, 0x1f] {
                let mut bytes = vec![b'\x7f'; 40];
                bytes[place] = stop;
                assert_eq!(plain_end(&bytes, 0), place);
            }
        }
    }
}
