//! A table in memory: 512 entries that the hardware reads and writes while we do.
//!
//! ```text
//!   Table, 4 KiB      Slot 0   Slot 1   Slot 2   ...   Slot 511
//!                     8 bytes, atomic
//! ```
//!
//! A [`Slot`] is the place, an [`Entry`] is what stands in it. The hardware sets accessed and dirty bits with locked
//! writes of its own, so a load and a later store would lose one: a live entry changes by atomic read-modify-write
//! only, and the methods here are the only way to change one at all. Plain stores are for an entry that is not live: the
//! hardware does not write to one that it takes for absent; and for one whose bits interest nobody (`unused`).
//!
//! Any context: no lock, bounded (a compare-and-exchange repeats only when the hardware set a bit in between, which it
//! does at most once for each bit).

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use vmstack::{PhysAddr, VirtAddr};

use crate::attributes::Attributes;
use crate::entry::{Entry, Level};
use crate::error::MapError;
use crate::format::Format;

/// A page table: 512 entries in 4 KiB.
#[repr(C, align(4096))]
pub struct Table {
    slots: [Slot; Self::ENTRIES],
}

/// The place of one entry in a [`Table`].
#[repr(transparent)]
pub struct Slot(AtomicU64);

impl Table {
    /// The number of entries.
    pub const ENTRIES: usize = 512;

    /// A table in which all entries are absent.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: [const { Slot(AtomicU64::new(0)) }; Self::ENTRIES] }
    }

    /// The slot at `index`, which counts modulo [`ENTRIES`](Self::ENTRIES).
    #[inline]
    #[must_use]
    pub const fn slot(&self, index: usize) -> &Slot {
        &self.slots[index % Self::ENTRIES]
    }

    /// The `count` slots from `first` on, as far as the table has them.
    #[inline]
    pub(crate) fn slots(&self, first: usize, count: usize) -> &[Slot] {
        let rest = self.slots.get(first..).unwrap_or(&[]);
        &rest[..rest.len().min(count)]
    }

    /// Whether all entries are zero.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.slots.chunks_exact(GROUP).all(all_absent)
    }

    /// The indices from `first` to `last` whose entries are not absent, as they are found.
    #[inline]
    pub(crate) fn used(&self, first: usize, last: usize) -> impl Iterator<Item = usize> {
        let mut next = first;
        core::iter::from_fn(move || {
            while next <= last {
                let index = next;
                // Most entries of most tables are absent.
                if index.is_multiple_of(GROUP) && self.slots.get(index..index + GROUP).is_some_and(all_absent) {
                    next += GROUP;
                    continue;
                }
                next += 1;
                if !self.slot(index).is_zero() {
                    return Some(index);
                }
            }
            None
        })
    }
}

/// How many entries are looked at together where most are absent.
pub(crate) const GROUP: usize = 8;

/// Whether all of `slots` are zero.
#[inline]
pub(crate) fn all_absent(slots: &[Slot]) -> bool {
    slots.iter().fold(0, |bits, slot| bits | slot.0.load(Ordering::Relaxed)) == 0
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Slot {
    /// Whether the entry is absent.
    #[must_use]
    #[inline]
    pub fn is_zero(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// The 64 bits as they are now.
    #[inline]
    #[must_use]
    pub fn raw(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// What the entry says now, in a table of `level`.
    #[must_use]
    pub fn read<F: Format>(&self, level: Level) -> Entry {
        F::decode(self.raw(), level)
    }

    /// Puts `entry` where nothing is.
    ///
    /// # Errors
    ///
    /// What is there instead.
    pub(crate) fn fill<F: Format>(&self, entry: Entry, level: Level) -> Result<(), Entry> {
        match self.0.compare_exchange(0, F::encode(entry, level), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(found) => Err(F::decode(found, level)),
        }
    }

    /// Claims an absent entry for a mapping of `frame` at `at`: parked, so no CPU sees it before it is published.
    ///
    /// # Errors
    ///
    /// The frame does not fit, or something is there already.
    pub(crate) fn claim<F: Format>(&self, at: VirtAddr, frame: PhysAddr, level: Level) -> Result<(), MapError> {
        if !F::can_hold(frame, level) {
            return Err(MapError::BadFrame { frame });
        }
        let claim = Entry::Parked { frame, dirty: !F::HAS_DIRTY };
        self.fill::<F>(claim, level).map_err(|found| MapError::instead_of_leaf(found, at))
    }

    /// Makes a claimed entry a leaf.
    ///
    /// A plain store, with release order after whatever filled the frame: until now the entry was the claimant's alone.
    pub(crate) fn publish<F: Format>(&self, attributes: Attributes, level: Level) {
        if let Entry::Parked { frame, dirty } = self.read::<F>(level) {
            self.0.store(F::encode(Entry::Leaf { frame, attributes, dirty }, level), Ordering::Release);
        }
    }

    /// Puts `entry` where nothing is, as the caller has seen, who alone puts anything there.
    ///
    /// A plain store, with release order after whatever filled the frame: the hardware does not write to an absent entry.
    #[inline]
    pub(crate) fn put<F: Format>(&self, entry: Entry, level: Level) {
        self.0.store(F::encode(entry, level), Ordering::Release);
    }

    /// Puts the 64 bits `raw` where nothing is, as the caller has seen, or where the caller alone changes anything and needs no bit that
    /// the hardware sets.
    ///
    /// A plain store, as in [`put`](Self::put).
    #[inline]
    pub(crate) fn put_raw(&self, raw: u64) {
        self.0.store(raw, Ordering::Release);
    }

    /// Replaces the entry by nothing, and returns what it said at that moment.
    pub(crate) fn take<F: Format>(&self, level: Level) -> Entry {
        F::decode(self.0.swap(0, Ordering::AcqRel), level)
    }

    /// Replaces the entry by nothing, and returns the 64 bits as they were at that moment.
    #[inline]
    pub(crate) fn swap_out(&self) -> u64 {
        self.0.swap(0, Ordering::AcqRel)
    }

    /// Replaces the 64 bits by `new` if they are `old`. Says whether they were.
    #[inline]
    pub(crate) fn exchange(&self, old: u64, new: u64) -> bool {
        self.0.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Replaces the 64 bits by what `change` makes of them, atomically, unless that is `None`.
    #[inline]
    pub(crate) fn change_raw(&self, change: impl Fn(u64) -> Option<u64>) {
        // As in `change`.
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
    }

    /// Replaces the entry by what `change` makes of it, atomically, unless that is `None`.
    ///
    /// `change` may be called more than once: when the hardware sets a bit in between, it sees the newer entry.
    pub(crate) fn change<F: Format>(&self, level: Level, mut change: impl FnMut(Entry) -> Option<Entry>) {
        // An entry that is to stay as it is comes back as an error, and has been left alone: that is what was asked
        // for.
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |raw| {
            change(F::decode(raw, level)).map(|entry| F::encode(entry, level))
        });
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.slots.iter().enumerate().filter(|(_, slot)| slot.raw() != 0);
        f.debug_map().entries(used).finish()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.raw())
    }
}
