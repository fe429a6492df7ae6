//! What came of many requests, in numbers.

use vmstack::{Passage, Refusal};

use super::ask::Asked;

/// How many wrong ones are told in words.
const TOLD: usize = 8;

/// What came of requests by chance.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Tally {
    /// How many there were: a list counts as its entries.
    pub requests: u64,
    /// Those that passed where they were, being no stack's.
    pub plain: u64,
    /// Those for which the stack itself was pinned.
    pub mapped: u64,
    /// Those that were copied.
    pub bounced: u64,
    /// Those that were refused.
    pub refused: u64,
    /// The lists that passed.
    pub lists: u64,
    /// The requests about stacks whose owners came and went at that moment.
    pub races: u64,
    /// The stacks whose owners died while a device had them, or a copy.
    pub died: u64,
    /// The bytes that were compared.
    pub compared: u64,
    /// Of these, the bytes that were not what they should be.
    pub wrong: u64,
    /// The bytes that a new owner found in its stack and that were not zero.
    pub not_zero: u64,
    /// The answers that were not what they should be: refused or not, why, and how it passed.
    pub misjudged: u64,
    /// What is kept at the end, when all drivers are gone: stacks that pins hold, buffers of the pool, transfers that were lost.
    pub kept: u64,
    /// The first few of what was wrong, in words.
    pub examples: Vec<String>,
}

impl Tally {
    /// Whether all was as it should be.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.wrong == 0 && self.not_zero == 0 && self.misjudged == 0 && self.kept == 0
    }

    fn tell(&mut self, asked: &Asked, what: impl FnOnce() -> String) {
        if self.examples.len() < TOLD {
            self.examples.push(format!("{asked:x?}: {}", what()));
        }
    }

    pub(super) fn misjudge(&mut self, asked: &Asked, what: impl FnOnce() -> String) {
        self.misjudged += 1;
        self.tell(asked, what);
    }

    /// Counts the answer to a request, which should be another perhaps.
    pub(super) fn judge(&mut self, asked: &Asked, got: Result<Passage, Refusal>, expected: Result<Passage, Refusal>) {
        match got {
            Ok(Passage::Mapped) => self.mapped += 1,
            Ok(Passage::Bounced) => self.bounced += 1,
            Ok(_) => self.plain += 1,
            Err(_) => self.refused += 1,
        }
        if got != expected {
            self.misjudge(asked, || format!("{got:?}, and not {expected:?}"));
        }
    }

    /// Counts how a transfer ended.
    pub(super) fn judge_end(&mut self, asked: &Asked, got: Result<(), Refusal>, expected: Result<(), Refusal>) {
        if got != expected {
            self.misjudge(asked, || format!("it ended with {got:?}, and not {expected:?}"));
        }
    }

    /// Counts a refusal of bytes of a stack whose owner came or went.
    pub(super) fn judge_race(&mut self, asked: &Asked, refusal: Refusal) {
        self.refused += 1;
        if !matches!(refusal, Refusal::Idle | Refusal::Gone) {
            self.misjudge(asked, || format!("{refusal:?}, of a stack that came or went"));
        }
    }

    /// Counts bytes that were compared, and those that were wrong.
    pub(super) fn compare(&mut self, asked: &Asked, wrong: u64, compared: usize) {
        self.compared += compared as u64;
        self.wrong += wrong;
        if wrong != 0 {
            self.tell(asked, || format!("{wrong} bytes are not what they should be"));
        }
    }

    /// Both together.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        let counts = [
            (&mut self.requests, other.requests),
            (&mut self.plain, other.plain),
            (&mut self.mapped, other.mapped),
            (&mut self.bounced, other.bounced),
            (&mut self.refused, other.refused),
            (&mut self.lists, other.lists),
            (&mut self.races, other.races),
            (&mut self.died, other.died),
            (&mut self.compared, other.compared),
            (&mut self.wrong, other.wrong),
            (&mut self.not_zero, other.not_zero),
            (&mut self.misjudged, other.misjudged),
            (&mut self.kept, other.kept),
        ];
        counts.into_iter().for_each(|(sum, more)| *sum += more);
        self.examples.extend(other.examples);
        self.examples.truncate(TOLD);
        self
    }
}
