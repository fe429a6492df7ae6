//! Runs of pages and spans of addresses, checked and cut to measure.
//!
//! Two shapes, because there are two kinds of work. A [`Run`] is exact: so many pages, each of which must be as the
//! caller says. A [`Span`] is a sweep: whatever is found between two addresses. A span is inclusive at both ends, so
//! that the last page of the address space is a page like any other.
//!
//! Arithmetic only, usable in any context.

use vmstack::{Pages, PhysAddr, VirtAddr, VirtRange};

use crate::entry::Level;
use crate::error::{LeafError, MapError};
use crate::format::Format;

/// Why a run or a span is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BadRun {
    /// It leaves what the format translates.
    NotCanonical { at: VirtAddr },
    /// It does not start or end on a page boundary.
    Misaligned { at: VirtAddr },
}

/// A run of pages. Having a `Run` means that it starts on a page boundary and lies in one half that the format
/// translates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    start: VirtAddr,
    count: usize,
}

impl Run {
    /// The run of `pages`, if it is one.
    pub(crate) fn check<F: Format>(pages: Pages) -> Result<Self, BadRun> {
        let at = pages.start();
        if !at.is_aligned(F::page_bytes()) {
            return Err(BadRun::Misaligned { at });
        }
        if !fits_one_half::<F>(pages) {
            return Err(BadRun::NotCanonical { at });
        }
        Ok(Self { start: at, count: pages.count() })
    }

    /// The run that covers `range` exactly, if there is one.
    pub(crate) fn covering<F: Format>(range: VirtRange) -> Result<Self, BadRun> {
        match range.bytes() % F::page_bytes() {
            0 => Self::check::<F>(Pages::new(range.start(), range.bytes() / F::page_bytes())),
            _ => Err(BadRun::Misaligned { at: range.start() }),
        }
    }

    /// The run of the first `count` pages.
    pub(crate) fn first(self, count: usize) -> Self {
        Self { count: count.min(self.count), ..self }
    }

    /// How many pages it has.
    pub(crate) const fn count(self) -> usize {
        self.count
    }

    /// The address of page `index`, or `None` past the end.
    pub(crate) fn page<F: Format>(self, index: usize) -> Option<VirtAddr> {
        (index < self.count).then(|| self.start.wrapping_add(index * F::page_bytes()))
    }
}

/// Whether `pages` lie in one half that the format translates. A run without pages lies where it starts.
fn fits_one_half<F: Format>(pages: Pages) -> bool {
    let first = pages.start();
    let Some(bytes) = pages.count().checked_mul(F::page_bytes()) else { return false };
    let Some(last) = first.checked_add(bytes.saturating_sub(1)) else { return false };
    Span { first: first.get(), last: last.get() }.fits_one_half::<F>()
}

/// One leaf of a linear mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) at: VirtAddr,
    pub(crate) frame: PhysAddr,
    pub(crate) level: Level,
}

/// The leaves that map `run` to physical memory from `frame` on, lowest address first, each as big as alignment and
/// length permit, up to level `biggest`.
pub(crate) fn pieces<F: Format>(run: Run, frame: PhysAddr, biggest: Level) -> impl Iterator<Item = Piece> + Clone {
    let mut done = 0;
    core::iter::from_fn(move || {
        let at = run.page::<F>(done)?;
        let frame = frame.wrapping_add((done * F::page_bytes()) as u64);
        let level = biggest_level::<F>(at, frame, run.count - done, biggest.min(F::LARGEST_LEAF));
        done += F::entry_bytes(level) / F::page_bytes();
        Some(Piece { at, frame, level })
    })
}

/// The highest level, up to `biggest`, of a leaf that can map `at` to `frame` and has at most `pages` pages.
fn biggest_level<F: Format>(at: VirtAddr, frame: PhysAddr, pages: usize, biggest: Level) -> Level {
    let fits = |level: &Level| {
        let bytes = F::entry_bytes(*level);
        at.is_aligned(bytes) && frame.get() & (bytes as u64 - 1) == 0 && bytes / F::page_bytes() <= pages
    };
    (0..=biggest.number()).rev().map(Level::new).find(fits).unwrap_or(Level::PAGE)
}

/// The addresses from `first` to `last`, both included. Never empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    first: usize,
    last: usize,
}

impl Span {
    /// The addresses of `range`, or `None` if it is empty.
    pub(crate) fn of(range: VirtRange) -> Option<Self> {
        let last = range.end().get().checked_sub(1)?;
        Some(Self { first: range.start().get(), last }).filter(|span| span.first <= span.last)
    }

    /// The halves that the format translates.
    pub(crate) fn halves<F: Format>() -> impl Iterator<Item = Self> {
        let in_half = (1 << F::HALF_BITS) - 1;
        let lower = F::HALVES.has_lower().then_some(Self { first: 0, last: in_half });
        let upper = F::HALVES.has_upper().then_some(Self { first: !in_half, last: usize::MAX });
        lower.into_iter().chain(upper)
    }

    /// The addresses of `range` that the format translates, as at most one span in each half.
    pub(crate) fn translated<F: Format>(range: VirtRange) -> impl Iterator<Item = Self> {
        Self::halves::<F>().filter_map(move |half| Self::of(range)?.common(half))
    }

    /// Whether all the addresses are canonical, and in the same half.
    pub(crate) fn fits_one_half<F: Format>(self) -> bool {
        F::is_canonical(self.first()) && (self.first ^ self.last) >> F::HALF_BITS == 0
    }

    /// The addresses that are in both spans.
    pub(crate) fn common(self, other: Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(Self { first, last })
    }

    /// The first address.
    pub(crate) const fn first(self) -> VirtAddr {
        VirtAddr::new(self.first)
    }

    /// The last address, inside the span.
    pub(crate) const fn last(self) -> VirtAddr {
        VirtAddr::new(self.last)
    }

    /// What of the span, which lies in one table of `level`, its entry `index` stands for.
    pub(crate) fn part<F: Format>(self, level: Level, index: usize) -> Option<Self> {
        let bytes = F::entry_bytes(level);
        let first = (self.first & !(bytes - 1)) + (index - F::index(self.first(), level)) * bytes;
        self.common(Self { first, last: first | (bytes - 1) })
    }

    /// The span, cut at the boundaries between the entries of `level`: one part for each entry.
    pub(crate) fn parts<F: Format>(self, level: Level) -> impl Iterator<Item = Self> {
        let inside = F::entry_bytes(level) - 1;
        let part = move |first: usize| Self { first, last: (first | inside).min(self.last) };
        core::iter::successors(Some(part(self.first)), move |done| (done.last < self.last).then(|| part(done.last + 1)))
    }
}

impl From<BadRun> for MapError {
    fn from(bad: BadRun) -> Self {
        match bad {
            BadRun::NotCanonical { at } => Self::NotCanonical { at },
            BadRun::Misaligned { at } => Self::Misaligned { at },
        }
    }
}

impl From<BadRun> for LeafError {
    fn from(bad: BadRun) -> Self {
        match bad {
            BadRun::NotCanonical { at } => Self::NotCanonical { at },
            BadRun::Misaligned { at } => Self::Misaligned { at },
        }
    }
}

#[cfg(test)]
mod tests;
