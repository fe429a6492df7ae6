//! Who hands out numbers, for the suite that asks what stacks by number cost: the lowest that is free, or one after the other.
//!
//! The second is what the kernel does for its tasks (`task::next_number`), and Linux (`idr_alloc_cyclic` in `kernel/pid.c`). The first is what
//! a kernel with a dense table of tasks does. Here it is a bit for each number, and one above for each word of them that is full. Nothing is
//! locked, as it would have to be elsewhere.

/// How many numbers there are.
pub(super) const NUMBERS: usize = 8192;
const BITS: usize = 64;

/// In which order numbers are handed out.
pub(super) trait Numbers {
    /// The next number.
    fn take(&mut self) -> u32;
    /// `number` may be handed out again.
    fn give(&mut self, number: u32);
}

/// The lowest that is free.
pub(super) struct Lowest {
    /// A bit is set for a number that is taken.
    taken: [u64; NUMBERS / BITS],
    /// A bit is set for a word below that is full.
    full: [u64; NUMBERS / BITS / BITS],
}

impl Lowest {
    pub(super) const fn new() -> Self {
        Self { taken: [0; NUMBERS / BITS], full: [0; NUMBERS / BITS / BITS] }
    }
}

impl Numbers for Lowest {
    fn take(&mut self) -> u32 {
        let above = self.full.iter().position(|&word| word != u64::MAX).unwrap_or(0);
        let word = above * BITS + self.full[above].trailing_ones() as usize;
        let bit = self.taken[word].trailing_ones();
        self.taken[word] |= 1 << bit;
        if self.taken[word] == u64::MAX {
            self.full[above] |= 1 << (word % BITS);
        }
        (word * BITS) as u32 + bit
    }

    fn give(&mut self, number: u32) {
        let word = number as usize / BITS;
        self.taken[word] &= !(1 << (number as usize % BITS));
        self.full[word / BITS] &= !(1 << (word % BITS));
    }
}

/// One after the other, from the first again after the last. Who has one is not asked: whoever comes with a number that is taken comes
/// again.
pub(super) struct Cyclic {
    next: u32,
}

impl Cyclic {
    pub(super) const fn new() -> Self {
        Self { next: 0 }
    }
}

impl Numbers for Cyclic {
    fn take(&mut self) -> u32 {
        let number = self.next;
        self.next = (number + 1) % NUMBERS as u32;
        number
    }

    fn give(&mut self, _: u32) {}
}
