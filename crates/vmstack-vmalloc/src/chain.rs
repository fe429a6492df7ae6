//! Chains: records in a row, linked through themselves, so that they cost no memory (INV-FREE). One CPU holds a chain, or whoever has the
//! lock that it lies under.

use vmstack::Batch;

use crate::record::Record;
use crate::sync::Ordering;

/// Records in a row: last in, first out. What a number means, the caller knows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chain {
    /// The first one's number plus one; zero: none.
    head: u32,
    len: u32,
}

impl Chain {
    pub(crate) const fn new() -> Self {
        Self { head: 0, len: 0 }
    }

    #[inline]
    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.head == 0
    }

    #[inline]
    pub(crate) fn push(&mut self, number: u32, record: &Record) {
        record.next.store(self.head, Ordering::Relaxed);
        self.head = number + 1;
        self.len += 1;
    }

    /// The number of the first one.
    #[inline]
    pub(crate) const fn first(&self) -> Option<u32> {
        self.head.checked_sub(1)
    }

    /// Takes the first one out, whose `record` this is.
    #[inline]
    pub(crate) fn pop_first(&mut self, record: &Record) {
        self.head = record.next.load(Ordering::Relaxed);
        self.len -= 1;
    }

    /// The first one, which `record` finds.
    #[inline]
    pub(crate) fn pop<'r>(&mut self, record: impl FnOnce(u32) -> &'r Record) -> Option<(u32, &'r Record)> {
        let number = self.first()?;
        let record = record(number);
        self.pop_first(record);
        Some((number, record))
    }

    /// All of them, which stay.
    pub(crate) fn each<'r, F: Fn(u32) -> &'r Record + Clone>(
        &self,
        record: F,
    ) -> impl Iterator<Item = (u32, &'r Record)> + Clone + use<'r, F> {
        let mut left = *self;
        core::iter::from_fn(move || left.pop(|number| record(number)))
    }
}

/// What was unmapped on one CPU: slots, and whole chunks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pieces {
    pub(crate) slots: Chain,
    pub(crate) chunks: Chain,
    /// How many pages they have, once they are sent off.
    pub(crate) pages: u64,
    /// Whether some of their frames are lent.
    pub(crate) lent: bool,
}

impl Pieces {
    pub(crate) const fn new() -> Self {
        Self { slots: Chain::new(), chunks: Chain::new(), pages: 0, lent: false }
    }

    #[inline]
    pub(crate) const fn len(&self) -> u32 {
        self.slots.len() + self.chunks.len()
    }
}

impl Batch for Pieces {
    #[inline]
    fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.chunks.is_empty()
    }
}
