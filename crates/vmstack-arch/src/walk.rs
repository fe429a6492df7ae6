//! A walk along frame pointers that cannot fault.
//!
//! Every architecture that we have links frames the same way when it is compiled with frame pointers: the frame pointer
//! points at the caller's frame pointer, and the return address is the word above it.
//!
//! ```text
//!   higher addresses
//!   | return address  |  fp + 8
//!   | caller's fp     |  fp        <── frame pointer
//!   | locals ...      |
//!   lower addresses
//! ```
//!
//! The walk reads a link only if both its words lie in the range that the caller vouches for, it is aligned, and it is
//! above the last one. So it reads nothing else, it ends, and a corrupt stack costs the rest of the trace and no more.
//!
//! # Context
//!
//! Any, the fault path included: no lock, no allocation, at most one step for every two words of the range.

use vmstack::VirtAddr;

const WORD: usize = size_of::<usize>();

/// One call on a stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// The frame pointer.
    pub pointer: VirtAddr,
    /// Where the call returns to.
    pub return_address: VirtAddr,
    /// The bytes from this frame pointer to the caller's: what the *caller's* frame takes, its return address and saved
    /// frame pointer included. Zero where the chain ends.
    pub caller_bytes: usize,
}

/// The frames of a stack, innermost first.
#[derive(Clone, Debug)]
pub struct Walk {
    next: VirtAddr,
    low: VirtAddr,
    high: VirtAddr,
}

/// The frames from the frame pointer `start` upwards, all inside `low..high`.
///
/// # Safety
///
/// Every byte of `low..high` can be read without a fault for as long as the walk is used.
#[must_use]
pub const unsafe fn frames(start: VirtAddr, low: VirtAddr, high: VirtAddr) -> Walk {
    Walk { next: start, low, high }
}

impl Walk {
    /// Whether a link may be read at `addr`.
    fn holds_link(&self, addr: VirtAddr) -> bool {
        let end = addr.checked_add(2 * WORD);
        addr >= self.low && addr.is_aligned(WORD) && end.is_some_and(|end| end <= self.high)
    }

    fn word(&self, addr: VirtAddr) -> usize {
        // SAFETY: (1) `holds_link` has seen the word inside the range that the caller of `frames` vouched for, aligned;
        // (2) volatile: the stack may belong to code that is running.
        unsafe { core::ptr::read_volatile(addr.as_mut_ptr::<usize>()) }
    }
}

impl Iterator for Walk {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let pointer = self.next;
        if !self.holds_link(pointer) {
            return None;
        }
        let caller = VirtAddr::new(self.word(pointer));
        let return_address = VirtAddr::new(self.word(pointer.wrapping_add(WORD)));
        // Each frame is above the last, so the walk ends; anything else ends it at once.
        let climbs = caller > pointer && self.holds_link(caller);
        self.low = pointer.wrapping_add(WORD);
        self.next = if climbs { caller } else { VirtAddr::new(0) };
        let caller_bytes = if climbs { caller.distance(pointer) } else { 0 };
        (return_address.get() != 0).then_some(Frame { pointer, return_address, caller_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::{VirtAddr, WORD, frames};

    fn bounds(words: &[usize]) -> (VirtAddr, VirtAddr) {
        let low = VirtAddr::new(words.as_ptr().expose_provenance());
        (low, low.wrapping_add(words.len() * WORD))
    }

    /// A chain of frames at the given word offsets, each with return address 0x1000 + offset.
    fn chain(offsets: &[usize]) -> Vec<usize> {
        let mut words = vec![0_usize; 64];
        let base = words.as_ptr().addr();
        for pair in offsets.windows(2) {
            words[pair[0]] = base + pair[1] * WORD;
        }
        for &offset in offsets {
            words[offset + 1] = 0x1000 + offset;
        }
        words
    }

    fn walk(words: &[usize], from: usize) -> Vec<(usize, usize)> {
        let (low, high) = bounds(words);
        // SAFETY: the range is the slice.
        let walk = unsafe { frames(low.wrapping_add(from * WORD), low, high) };
        walk.map(|frame| (frame.return_address.get(), frame.caller_bytes)).collect()
    }

    #[test]
    fn a_chain_is_followed_to_its_end_with_the_size_of_each_frame() {
        let words = chain(&[2, 10, 30]);
        assert_eq!(walk(&words, 2), [(0x1002, 8 * WORD), (0x100a, 20 * WORD), (0x101e, 0)]);
    }

    #[test]
    fn a_link_that_leaves_the_stack_ends_the_walk() {
        for bad in [1, usize::MAX, usize::MAX - 7, 0] {
            let mut words = chain(&[2, 10]);
            words[10] = bad;
            assert_eq!(walk(&words, 2).len(), 2, "{bad:#x}");
        }
    }

    #[test]
    fn a_loop_ends_the_walk() {
        let mut words = chain(&[2, 10]);
        words[10] = words.as_ptr().addr() + 2 * WORD;
        assert_eq!(walk(&words, 2).len(), 2);
        words[2] = words.as_ptr().addr() + 2 * WORD;
        assert_eq!(walk(&words, 2).len(), 1);
    }

    #[test]
    fn a_start_outside_the_stack_or_off_a_word_has_no_frames() {
        let words = chain(&[2, 10]);
        let (low, high) = bounds(&words);
        for start in
            [low.wrapping_sub(8), high, high.wrapping_sub(WORD), low.wrapping_add(17), VirtAddr::new(usize::MAX)]
        {
            // SAFETY: the range is the slice.
            assert_eq!(unsafe { frames(start, low, high) }.count(), 0, "{start}");
        }
    }
}
