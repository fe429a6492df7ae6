//! Many frames in few pieces, for who maps them at addresses side by side and minds neither whether they are, nor what they hold.
//!
//! The pieces are the buddy allocator's blocks, the largest that fit first. Each is linked through its first frame, in the direct map; how long it
//! is stands in the link to it, so that one block needs no memory looked at.
//!
//! ```text
//!   Blocks: count = 7 | link        link = address of a block's first frame | its order
//!      │
//!      └─> [link ·│ │ │ ]  ─>  [link ·│ ]  ─>  [        ]
//!          4 frames            2 frames        the last: `count` says that nothing follows
//! ```
//!
//! # Context
//!
//! As `frames`.

use arrayvec::ArrayVec;
use vmstack::PhysAddr;

use super::{FRAMES, Giving, MAX_ORDER, address, clear, number};
use crate::arch::layout::{PAGE_SIZE, phys_to_virt};
use crate::mm::shortage;

/// The bits of a link that say the order.
const ORDER: u64 = PAGE_SIZE as u64 - 1;

/// Frames in blocks, linked through themselves: as many as one likes, without other memory.
///
/// Having `Blocks` means that nobody else knows these frames. They hold anything, unless they were [cleared](Self::clear).
#[derive(Debug)]
pub(crate) struct Blocks {
    /// The link to the first block, and above it how many frames there are, of all blocks.
    word: u64,
}

/// Where the count begins: above all that an address has. It has twelve bits.
const COUNT_SHIFT: u32 = 52;

impl Blocks {
    /// `count` frames, which hold anything. All or none.
    pub(crate) fn take(count: usize) -> Option<Self> {
        assert!(count < 1 << (u64::BITS - COUNT_SHIFT), "{count} frames are more than can be counted");
        let mut buddy = FRAMES.lock();
        if buddy.free < count {
            shortage::note();
            return None;
        }
        let mut blocks = Self { word: 0 };
        let (mut last, mut largest) = (PhysAddr::new(0), MAX_ORDER);
        while blocks.count() < count {
            largest = largest.min((count - blocks.count()).ilog2());
            let taken = match largest {
                0 => buddy.take(0),
                order => buddy.take_block(order),
            };
            match taken.map(address) {
                Some(block) => last = blocks.append(last, block, largest),
                None if largest > 0 => largest -= 1,
                None => {
                    blocks.runs().for_each(|(first, count)| buddy.give_stretch(number(first), count));
                    return None;
                }
            }
        }
        Some(blocks)
    }

    /// Appends `block` behind `last`, and returns it.
    #[inline]
    fn append(&mut self, last: PhysAddr, block: PhysAddr, order: u32) -> PhysAddr {
        let link = block.get() | u64::from(order);
        if self.word == 0 {
            self.word = link;
        } else {
            write_word(last, link);
        }
        self.word += 1 << order << COUNT_SHIFT;
        block
    }

    /// The link to the first block.
    #[inline]
    const fn first(&self) -> u64 {
        self.word & ((1 << COUNT_SHIFT) - 1)
    }

    /// The frames of all blocks.
    #[inline]
    const fn count(&self) -> usize {
        (self.word >> COUNT_SHIFT) as usize
    }

    /// The blocks: the first frame of each, and how many they are. Each may be overwritten once it was returned.
    #[inline]
    pub(crate) fn runs(&self) -> Runs {
        Runs { next: self.first(), left: self.count() }
    }

    /// Clears all frames. The links stay, until [`forget_links`](Self::forget_links).
    pub(crate) fn clear(&self) {
        let mut last = None;
        for (first, count) in self.runs() {
            (0..count as u64).for_each(|frame| clear(first.wrapping_add(frame * PAGE_SIZE as u64)));
            let link = first.get() | u64::from(count.ilog2());
            if let Some(last) = last.replace(first) {
                write_word(last, link);
            }
        }
    }

    /// Clears the links. Nobody can find the frames then but through what maps them.
    #[inline]
    pub(crate) fn forget_links(self) {
        let mut left = self.count();
        for (first, count) in self.runs() {
            left -= count;
            // The last block has no link.
            if left > 0 {
                write_word(first, 0);
            }
        }
    }

    /// Gives all frames back.
    pub(crate) fn give(self, giving: &mut Giving) {
        self.runs().for_each(|(first, count)| giving.stretch(first, count));
    }
}

/// Frames in a few blocks, which are remembered where this is: so nothing need be written to them.
///
/// Having `FewBlocks` means that nobody else knows these frames. They hold anything. Dropping it loses them.
#[derive(Debug)]
pub(crate) struct FewBlocks {
    /// Links, as in [`Blocks`].
    links: ArrayVec<u64, MOST>,
}

/// How many blocks are few: as many as there are for any 255 frames, where none is wanting.
const MOST: usize = 8;

impl FewBlocks {
    pub(crate) const fn new() -> Self {
        Self { links: ArrayVec::new_const() }
    }

    /// Takes `count` frames, if they are to be had in so few blocks. Else none.
    ///
    /// # Safety
    ///
    /// As for [`VitalLock::lock_inside`](crate::sync::VitalLock::lock_inside).
    #[must_use]
    pub(crate) unsafe fn take(&mut self, count: usize) -> bool {
        // SAFETY: the caller's promise.
        let mut buddy = unsafe { FRAMES.lock_inside() };
        let (mut left, mut largest) = (count, MAX_ORDER);
        while left > 0 {
            largest = largest.min(left.ilog2());
            let taken = if self.links.is_full() { None } else { buddy.take_block(largest) };
            match taken {
                Some(block) => {
                    self.links.push(address(block).get() | u64::from(largest));
                    left -= 1 << largest;
                }
                None if largest > 0 && !self.links.is_full() => largest -= 1,
                None => {
                    self.runs().for_each(|(first, count)| buddy.give_stretch(number(first), count));
                    self.links.clear();
                    return false;
                }
            }
        }
        true
    }

    /// How many blocks they are.
    pub(crate) const fn len(&self) -> usize {
        self.links.len()
    }

    /// The blocks: the first frame of each, and how many they are.
    #[inline]
    pub(crate) fn runs(&self) -> impl Iterator<Item = (PhysAddr, usize)> + Clone {
        self.links.iter().map(|link| (PhysAddr::new(link & !ORDER), 1 << (link & ORDER)))
    }
}

/// The blocks of a list, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Runs {
    next: u64,
    left: usize,
}

impl Iterator for Runs {
    type Item = (PhysAddr, usize);

    #[inline]
    fn next(&mut self) -> Option<(PhysAddr, usize)> {
        if self.left == 0 {
            return None;
        }
        let (block, count) = (PhysAddr::new(self.next & !ORDER), 1 << (self.next & ORDER));
        self.left -= count;
        if self.left > 0 {
            // SAFETY: the frame is the list's, and not its last block's: its first word is the link, which `append` wrote.
            self.next = unsafe { phys_to_virt(block).as_mut_ptr::<u64>().read() };
        }
        Some((block, count))
    }
}

/// Writes the first word of a frame of the list.
#[inline]
fn write_word(frame: PhysAddr, word: u64) {
    // SAFETY: the callers own the frame; the direct map shows it.
    unsafe { phys_to_virt(frame).as_mut_ptr::<u64>().write(word) };
}
