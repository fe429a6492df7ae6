//! Where stacks may be: the areas of a door, and what is registered with them, in two pieces with a gap between.
//!
//! ```text
//!    first          low_last          high_first          last
//!      [  areas, say  ]       gap        [  registered  ]
//!   <── no stack's            no stack's            no stack's ──>
//! ```
//!
//! Most memory is on one side of the areas, and what is registered is elsewhere: in the kernel's image, for instance. One comparison says on
//! which side of the lower piece an address is, and at most two more that it is no stack's: 12 instructions on x86-64, with the one that
//! finds ranges that are empty or leave the address space. Where the two pieces overlap there is no gap.
//!
//! # Looking while others ask, and while others look
//!
//! Until somebody has looked the lower piece is the whole address space. The first look draws the bounds in; every later one can only move
//! them out, each by one atomic operation. So a CPU that looks with old knowledge takes back nothing of what another one saw. The gap is
//! drawn in from above before it is from below: whoever sees the lower end of a gap sees no more above it than belongs to that.
//!
//! Contexts: asking: any. Looking: task.

use crate::addr::VirtAddr;
use crate::sync::{AtomicUsize, Ordering};

/// The bounds. Each has a value of its own that says that nobody has looked, which lets nothing pass.
#[derive(Debug)]
pub(super) struct Hulls {
    /// The second address of the lower piece: what ends below it ends before the first.
    second: AtomicUsize,
    low_last: AtomicUsize,
    high_first: AtomicUsize,
    last: AtomicUsize,
}

/// Nobody has looked for the lowest address.
const NO_FIRST: usize = 0;
/// Nobody has looked for the highest address: no range has this one, because its end could not be said.
const NO_LAST: usize = usize::MAX;

/// The first and the last address of some ranges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hull {
    first: usize,
    last: usize,
}

impl Hull {
    /// Around no range.
    const NONE: Self = Self { first: usize::MAX, last: 0 };

    /// Around `ranges`, each from its first address to its last.
    pub(super) fn around(ranges: impl Iterator<Item = (usize, usize)>) -> Self {
        ranges.fold(Self::NONE, |hull, (first, last)| hull.with(Self { first, last }))
    }

    fn with(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

impl Hulls {
    #[cfg(not(all(loom, test)))]
    pub(super) const fn new() -> Self {
        let [second, high_first] = [const { AtomicUsize::new(NO_FIRST) }; 2];
        let [low_last, last] = [const { AtomicUsize::new(NO_LAST) }; 2];
        Self { second, low_last, high_first, last }
    }

    /// Whether any of these bytes may be a stack's; or they are none, or leave the address space.
    #[inline(always)]
    pub(super) fn meet(&self, addr: VirtAddr, bytes: usize) -> bool {
        let (addr, end) = (addr.get(), addr.get().wrapping_add(bytes));
        if end <= addr {
            return true;
        }
        // Acquire: pairs with the Release in `set_highest`: the upper bounds are as near as this lower one.
        if addr <= self.low_last.load(Ordering::Acquire) {
            return end >= self.second.load(Ordering::Relaxed);
        }
        addr <= self.last.load(Ordering::Relaxed) && end > self.high_first.load(Ordering::Relaxed)
    }

    /// Notes where stacks are, beside what is known.
    pub(super) fn note(&self, areas: Hull, registered: Hull) {
        let (low, high) = if areas.first <= registered.first { (areas, registered) } else { (registered, areas) };
        let all = low.with(high);
        let (low, high) = if low.last < high.first { (low, high) } else { (all, Hull::NONE) };
        // In this order: see the essay.
        set_lowest(&self.high_first, high.first);
        set_highest(&self.last, all.last);
        set_lowest(&self.second, low.first.saturating_add(1));
        set_highest(&self.low_last, low.last);
    }
}

/// Makes it `value`, if nobody has looked; no more than that if somebody has.
fn set_lowest(bound: &AtomicUsize, value: usize) {
    if bound.compare_exchange(NO_FIRST, value, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        bound.fetch_min(value, Ordering::AcqRel);
    }
}

/// Makes it `value`, if nobody has looked; no less than that if somebody has.
fn set_highest(bound: &AtomicUsize, value: usize) {
    if bound.compare_exchange(NO_LAST, value, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        bound.fetch_max(value, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

/// Models of looks at the same time, checked by loom in every order (`--cfg loom`).
#[cfg(all(loom, test))]
mod models;
