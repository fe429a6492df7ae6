//! What the guest printed: lines, facts and the marker.
//!
//! A [`Transcript`] keeps every line with the time at which it was complete. Two forms of line are for this side's eyes
//! (`docs/console.md`, "Console lines"): `fact NAME VALUE...` and `marker END`. A fact that is missing, printed twice or
//! not of the expected form is an error that names it, never a default.

use core::time::Duration;
use std::collections::BTreeMap;

use thiserror::Error;

/// Why a fact could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadFact {
    /// The guest did not print it.
    #[error("the guest printed no fact `{0}`")]
    Missing(String),
    /// The guest printed it more than once, where once was expected.
    #[error("the guest printed the fact `{0}` more than once")]
    Repeated(String),
    /// Its values are not as many numbers as expected.
    #[error("the guest printed `fact {0} {1}`, which is not {2} number(s)")]
    Malformed(String, String, usize),
}

/// A complete line of the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was complete, since the start of the emulator.
    pub at: Duration,
    /// The text, without its line end.
    pub text: String,
}

/// Everything that one boot printed.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    lines: Vec<Line>,
    unfinished: Vec<u8>,
    facts: BTreeMap<String, Vec<Vec<String>>>,
    markers: Vec<String>,
}

impl Transcript {
    /// The transcript of a whole text, all of it printed at once.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut transcript = Self::default();
        transcript.hear(Duration::ZERO, text.as_bytes());
        transcript.finish(Duration::ZERO);
        transcript
    }

    /// Takes in the next bytes of the console, however they are cut.
    pub fn hear(&mut self, at: Duration, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.unfinished.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.finish(at);
            }
        }
    }

    /// Takes what is left without a line end as a line: nothing more will come.
    pub fn finish(&mut self, at: Duration) {
        let bytes = core::mem::take(&mut self.unfinished);
        if bytes.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
        self.note(&text);
        self.lines.push(Line { at, text });
    }

    fn note(&mut self, text: &str) {
        if let Some(end) = text.strip_prefix("marker ") {
            self.markers.push(end.trim().to_owned());
        }
        let mut words = text.strip_prefix("fact ").unwrap_or_default().split_whitespace().map(str::to_owned);
        if let Some(name) = words.next() {
            self.facts.entry(name).or_default().push(words.collect());
        }
    }

    /// All lines, in order.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Whether the guest printed nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether the guest printed the marker `end`.
    #[must_use]
    pub fn has_marker(&self, end: &str) -> bool {
        self.markers.iter().any(|marker| marker == end)
    }

    /// How many lines begin with `start`.
    #[must_use]
    pub fn count_starting(&self, start: &str) -> usize {
        self.lines.iter().filter(|line| line.text.starts_with(start)).count()
    }

    /// The values of each `fact name` line, as words.
    #[must_use]
    pub fn all(&self, name: &str) -> &[Vec<String>] {
        self.facts.get(name).map_or(&[], Vec::as_slice)
    }

    /// The `N` numbers of the one `fact name` line.
    ///
    /// # Errors
    ///
    /// When there is no such line, more than one, or one with other than `N` numbers.
    pub fn numbers<const N: usize>(&self, name: &str) -> Result<[u64; N], BadFact> {
        match self.all(name) {
            [] => Err(BadFact::Missing(name.to_owned())),
            [words] => {
                let numbers: Option<Vec<u64>> = words.iter().map(|word| number(word)).collect();
                numbers
                    .and_then(|numbers| numbers.try_into().ok())
                    .ok_or_else(|| BadFact::Malformed(name.to_owned(), words.join(" "), N))
            }
            _ => Err(BadFact::Repeated(name.to_owned())),
        }
    }

    /// The one number of the one `fact name` line.
    ///
    /// # Errors
    ///
    /// As [`Transcript::numbers`].
    pub fn number(&self, name: &str) -> Result<u64, BadFact> {
        self.numbers::<1>(name).map(|[number]| number)
    }
}

/// Reads a number as the guest writes it: decimal, or hexadecimal with `0x`.
#[must_use]
pub fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::{BadFact, Transcript};
    use core::time::Duration;

    #[test]
    fn facts_and_markers_are_found_among_other_lines() {
        let log = Transcript::of("boot\nfact a.b 1 0xff\r\nxfact a.b 2\nmarker end-of-story\n");
        assert_eq!(log.numbers("a.b"), Ok([1, 255]));
        assert!(log.has_marker("end-of-story") && !log.has_marker("end-of"));
        assert_eq!(log.lines().len(), 4);
    }

    #[test]
    fn a_fact_that_cannot_be_used_is_named() {
        let log = Transcript::of("fact twice 1\nfact twice 1\nfact word x\nfact many 1 2\nfact bare\n");
        assert_eq!(log.number("none"), Err(BadFact::Missing("none".into())));
        assert_eq!(log.number("twice"), Err(BadFact::Repeated("twice".into())));
        assert_eq!(log.number("word"), Err(BadFact::Malformed("word".into(), "x".into(), 1)));
        assert_eq!(log.number("many"), Err(BadFact::Malformed("many".into(), "1 2".into(), 1)));
        assert!(log.number("bare").is_err());
    }

    #[test]
    fn bytes_may_be_cut_anywhere() {
        let (mut cut, text) = (Transcript::default(), "fact n 12\nodd \u{fffd}\nlast");
        for (index, byte) in text.bytes().enumerate() {
            cut.hear(Duration::from_millis(index as u64), &[byte]);
        }
        cut.finish(Duration::from_secs(1));
        let texts: Vec<_> = cut.lines().iter().map(|line| line.text.as_str()).collect();
        assert_eq!((texts, cut.number("n")), (vec!["fact n 12", "odd \u{fffd}", "last"], Ok(12)));
        assert_eq!(cut.lines()[0].at, Duration::from_millis(9));
    }

    #[test]
    fn bytes_that_are_no_text_do_not_stop_the_parser() {
        let mut log = Transcript::default();
        log.hear(Duration::ZERO, b"\xff\xfe\nfact n 1\n");
        assert_eq!(log.number("n"), Ok(1));
    }
}
