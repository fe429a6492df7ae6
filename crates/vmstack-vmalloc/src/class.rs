//! Size classes: how far slots of one chunk lie apart.
//!
//! A slot has its *stride*: pages for an area, and at least one more, which is the guard. Strides of 2 to 8 pages are all there; from there on four
//! between each power of two and the next, so that an area wastes a fifth of its addresses at most. It wastes no memory: what an area does
//! not need is not mapped, and makes its guard wider.
//!
//! ```text
//!   stride   2 3 4 5 6 7 8   10 12 14 16   20 24 28 32   40 48 56 64   80 ... half a chunk
//!   class    0 1 2 3 4 5 6    7  8  9 10   11 12 13 14   15 16 17 18   19 ...
//! ```
//!
//! A slot begins at a multiple of its stride, counted from a chunk's beginning. So where the stride is a power of two, that is what an area there is
//! aligned to.
//!
//! Arithmetic only, usable in any context.

/// As many classes as can be told apart: a power of two, more than there are in a chunk of 8,192 pages.
pub(crate) const CLASSES: usize = 64;
/// The smallest stride: a page and its guard.
const LEAST: usize = 2;
/// Up to here all strides are there.
const EXACT: usize = 8;
/// Classes between a power of two and the next.
const STEPS: usize = 4;

/// A size class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct Class(u8);

/// What is looked up for a class.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    stride: u32,
    /// 2^32 divided by the stride, and a bit more.
    reciprocal: u64,
}

static SIZES: [Sizes; CLASSES] = {
    let mut sizes = [Sizes { stride: 0, reciprocal: 0 }; CLASSES];
    let mut index = 0;
    while index < CLASSES {
        let stride = stride_of(index);
        sizes[index] = Sizes { stride: stride as u32, reciprocal: (1 << 32) / stride as u64 + 1 };
        index += 1;
    }
    sizes
};

const fn stride_of(index: usize) -> usize {
    match index.checked_sub(EXACT - LEAST + 1) {
        None => index + LEAST,
        Some(above) => (EXACT + EXACT / STEPS * (above % STEPS + 1)) << (above / STEPS),
    }
}

impl Class {
    /// The class number `index`, which counts modulo the number of classes.
    pub(crate) const fn new(index: usize) -> Self {
        Self((index % CLASSES) as u8)
    }

    /// The smallest class with strides of at least `pages` pages: 2 at least, 4,096 at most.
    #[inline]
    pub(crate) const fn holding(pages: usize) -> Self {
        if pages <= EXACT {
            return Self((pages.saturating_sub(LEAST)) as u8);
        }
        let above = (pages - 1).ilog2() as usize;
        let step = above - STEPS.ilog2() as usize;
        let steps = (pages - 1 - (1 << above)) >> step;
        Self((EXACT - LEAST + 1 + (above - EXACT.ilog2() as usize) * STEPS + steps) as u8)
    }

    /// All classes whose stride is no more than `pages`.
    pub(crate) fn up_to(pages: usize) -> impl Iterator<Item = Self> {
        (0..CLASSES).map(Self::new).take_while(move |class| class.stride() <= pages)
    }

    #[inline]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize % CLASSES
    }

    /// How far slots lie apart, in pages.
    #[inline]
    pub(crate) fn stride(self) -> usize {
        SIZES[self.index()].stride as usize
    }

    /// In which slot page number `page` of a chunk lies: of fewer than 2^16.
    #[inline]
    pub(crate) fn slot_of(self, page: usize) -> usize {
        // Rounded up by less than one in 2^32 / stride: for so few pages that never reaches the next slot.
        ((page as u64 * SIZES[self.index()].reciprocal) >> 32) as usize
    }

    /// How many slots a chunk of `pages` pages has.
    #[inline]
    pub(crate) fn slots_in(self, pages: usize) -> usize {
        self.slot_of(pages)
    }

    /// How many free slots a CPU keeps at most.
    #[inline]
    pub(crate) fn most_kept(self) -> u32 {
        const PAGES: usize = 2048;
        // Two batches of small ones, and more.
        (PAGES / self.stride()).clamp(16, 256) as u32
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
