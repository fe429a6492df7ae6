//! The buddy allocator: free blocks, which are found, split and merged.
//!
//! Free blocks of 2^order frames are linked through themselves, in the direct map. One byte a frame says what begins
//! there, so that a buddy is found and merged in constant time, and so that a recount can look at every frame (INV-COUNT).
//!
//! ```text
//!   states[frame]   0x80 | order   a free block of that order begins here
//!                   0x40 | order   a free block of that order begins here, and is at hand: it was given back a moment ago
//!                   0              used, inside a free block, or not memory
//! ```
//!
//! Some single frames, some runs of four, and some other small blocks are kept *at hand*, unmerged, so that one which is given back and taken
//! again costs no search for its buddies, and none is split just to be merged again. They are put down when a larger one cannot be had. Four that lie side by side, aligned, are what a small stack gets where they are to be had: processors
//! that coalesce neighbours in the TLB profit. Nothing needs them to be so.

use arrayvec::ArrayVec;
use vmstack::PhysAddr;

use super::{MAX_ORDER, address, number};
use crate::arch::layout::phys_to_virt;

const ORDERS: usize = MAX_ORDER as usize + 1;
const FREE: u8 = 0x80;
const AT_HAND: u8 = 0x40;
/// How many single frames are at hand at most.
const HAND: usize = 8192;
/// The order of the block whose frames are put at hand together.
const HANDFUL: u32 = 5;
/// How many runs are at hand at most.
const RUNS: usize = 2048;
/// How many blocks of each other small order are at hand at most.
const BLOCKS: usize = 32;
/// The largest order of which some are at hand.
const MOST_AT_HAND: u32 = 6;
/// The order of a run.
pub(super) const RUN: u32 = 2;
const NONE: u32 = u32::MAX;

/// The free blocks.
pub(super) struct Buddy {
    pub(super) states: &'static mut [u8],
    /// Frames at hand, the last one given back last.
    hand: ArrayVec<u32, HAND>,
    /// The same for runs.
    runs: ArrayVec<u32, RUNS>,
    /// The same for the other small orders: empty for those two.
    blocks: [ArrayVec<u32, BLOCKS>; MOST_AT_HAND as usize + 1],
    heads: [u32; ORDERS],
    /// How many frames are free.
    pub(super) free: usize,
}

/// What a free block holds: its neighbours on the list of its order.
#[derive(Clone, Copy)]
#[repr(C)]
struct Links {
    next: u32,
    previous: u32,
}

impl Buddy {
    pub(super) const fn empty() -> Self {
        Self {
            states: &mut [],
            hand: ArrayVec::new_const(),
            runs: ArrayVec::new_const(),
            blocks: [const { ArrayVec::new_const() }; MOST_AT_HAND as usize + 1],
            heads: [NONE; ORDERS],
            free: 0,
        }
    }

    fn links(frame: usize) -> *mut Links {
        phys_to_virt(address(frame)).as_mut_ptr()
    }

    fn read(frame: u32) -> Links {
        // SAFETY: only frames on a free list are read: RAM that nobody uses, shown by the direct map.
        unsafe { Self::links(frame as usize).read() }
    }

    fn write(frame: u32, links: Links) {
        // SAFETY: as for `read`.
        unsafe { Self::links(frame as usize).write(links) };
    }

    fn push(&mut self, frame: usize, order: u32) {
        let head = self.heads[order as usize];
        Self::write(frame as u32, Links { next: head, previous: NONE });
        if head != NONE {
            Self::write(head, Links { previous: frame as u32, ..Self::read(head) });
        }
        self.heads[order as usize] = frame as u32;
        self.states[frame] = FREE | order as u8;
    }

    fn unlink(&mut self, frame: usize, order: u32) {
        let Links { next, previous } = Self::read(frame as u32);
        if next != NONE {
            Self::write(next, Links { previous, ..Self::read(next) });
        }
        if previous == NONE {
            self.heads[order as usize] = next;
        } else {
            Self::write(previous, Links { next, ..Self::read(previous) });
        }
        self.states[frame] = 0;
    }

    #[inline]
    pub(super) fn take(&mut self, order: u32) -> Option<usize> {
        self.take_at_hand(order).or_else(|| self.find(order))
    }

    /// Takes a block where none is at hand.
    #[inline(never)]
    fn find(&mut self, order: u32) -> Option<usize> {
        self.split(order).or_else(|| {
            self.put_down();
            self.split(order)
        })
    }

    /// Takes a single frame that is at hand, or can be put there.
    #[inline]
    pub(super) fn take_single(&mut self) -> Option<usize> {
        if self.hand.is_empty() {
            self.fill_hand();
        }
        let frame = self.hand.pop()? as usize;
        self.states[frame] = 0;
        self.free -= 1;
        Some(frame)
    }

    /// Puts some frames at hand, at once.
    #[cold]
    fn fill_hand(&mut self) {
        // What is in pieces already, before anything larger is.
        let pieces = (0..HANDFUL).rev().find(|&order| self.heads[order as usize] != NONE);
        let order = if self.heads[HANDFUL as usize] == NONE { pieces.unwrap_or(HANDFUL) } else { HANDFUL };
        let taken = self.split(order).map(|first| (first, order));
        let Some((first, order)) = taken else { return };
        for frame in (first..first + (1 << order)).rev() {
            self.hand.push(frame as u32);
            self.states[frame] = AT_HAND;
        }
        self.free += 1 << order;
    }

    #[inline]
    fn take_at_hand(&mut self, order: u32) -> Option<usize> {
        let frame = match order {
            0 => self.hand.pop(),
            RUN => self.runs.pop(),
            1..=MOST_AT_HAND => self.blocks[order as usize].pop(),
            _ => None,
        }?;
        self.states[frame as usize] = 0;
        self.free -= 1 << order;
        Some(frame as usize)
    }

    /// Takes a block off the lists, and puts back what is more than was asked for.
    fn split(&mut self, order: u32) -> Option<usize> {
        let from = (order..=MAX_ORDER).find(|&order| self.heads[order as usize] != NONE)?;
        let frame = self.heads[from as usize] as usize;
        self.unlink(frame, from);
        // The upper half of each larger block goes back.
        (order..from).rev().for_each(|half| self.push(frame + (1 << half), half));
        self.free -= 1 << order;
        Some(frame)
    }

    /// Merges what is at hand with its buddies.
    fn put_down(&mut self) {
        while let Some((frame, order)) = self.last_at_hand() {
            self.free -= 1 << order;
            self.states[frame as usize] = 0;
            self.merge(frame as usize, order);
        }
    }

    fn last_at_hand(&mut self) -> Option<(u32, u32)> {
        let single = self.hand.pop().map(|frame| (frame, 0)).or_else(|| self.runs.pop().map(|frame| (frame, RUN)));
        single.or_else(|| {
            let mut others = (0..).zip(&mut self.blocks);
            others.find_map(|(order, blocks)| blocks.pop().map(|frame| (frame, order)))
        })
    }

    /// Takes a block, if that is easy: without merging what is at hand.
    #[inline]
    pub(super) fn take_block(&mut self, order: u32) -> Option<usize> {
        self.take_at_hand(order).or_else(|| self.split(order))
    }

    /// Gives back `count` frames side by side, as the largest blocks that they are.
    #[inline]
    pub(super) fn give_stretch(&mut self, first: usize, count: usize) {
        match count {
            1 => self.give(first, 0),
            _ => self.give_blocks(first, count),
        }
    }

    #[inline(never)]
    fn give_blocks(&mut self, first: usize, count: usize) {
        let (mut frame, mut left) = (first, count);
        while left > 0 {
            let order = frame.trailing_zeros().min(left.ilog2()).min(MAX_ORDER);
            self.give(frame, order);
            frame += 1 << order;
            left -= 1 << order;
        }
    }

    /// Takes a run, if that is easy.
    pub(super) fn take_run(&mut self) -> Option<usize> {
        self.take_block(RUN)
    }

    /// Gives back single frames. Those that are a run go back as one.
    pub(super) fn give_all(&mut self, frames: &[PhysAddr]) {
        for part in frames.chunks(1 << RUN) {
            match run_of(part) {
                Some(frame) => self.give_run(frame),
                None => part.iter().for_each(|&frame| self.give(number(frame), 0)),
            }
        }
    }

    /// Gives back a run.
    pub(super) fn give_run(&mut self, frame: usize) {
        let states = self.states.get_mut(frame..frame + (1 << RUN)).and_then(|states| states.first_chunk_mut::<4>());
        let Some(states) = states.filter(|states| **states == [0; 4]) else {
            panic!("one of the frames from {frame:#x} on is free already");
        };
        if self.runs.try_push(frame as u32).is_err() {
            return self.merge(frame, RUN);
        }
        states[0] = AT_HAND | RUN as u8;
        self.free += 1 << RUN;
    }

    /// Gives back a single frame.
    #[inline]
    pub(super) fn give_single(&mut self, frame: usize) {
        let state = self.states.get_mut(frame).filter(|state| **state == 0);
        let Some(state) = state else { panic!("frame {frame:#x} is free already") };
        if self.hand.try_push(frame as u32).is_err() {
            return self.merge(frame, 0);
        }
        *state = AT_HAND;
        self.free += 1;
    }

    #[inline]
    pub(super) fn give(&mut self, frame: usize, order: u32) {
        if order == 0 {
            return self.give_single(frame);
        }
        if order == RUN {
            return self.give_run(frame);
        }
        assert!(self.states.get(frame) == Some(&0), "frame {frame:#x} is free already");
        let is_at_hand = match order {
            1..=MOST_AT_HAND => self.blocks[order as usize].try_push(frame as u32).is_ok(),
            _ => false,
        };
        if !is_at_hand {
            return self.merge(frame, order);
        }
        self.states[frame] = AT_HAND | order as u8;
        self.free += 1 << order;
    }

    #[inline(never)]
    pub(super) fn merge(&mut self, frame: usize, order: u32) {
        self.free += 1 << order;
        let (mut frame, mut order) = (frame, order);
        while order < MAX_ORDER {
            let buddy = frame ^ (1 << order);
            if self.states.get(buddy) != Some(&(FREE | order as u8)) {
                break;
            }
            self.unlink(buddy, order);
            frame &= !(1 << order);
            order += 1;
        }
        self.push(frame, order);
    }

    /// The free frames, counted by looking at every frame's state.
    pub(super) fn recount(&self) -> usize {
        let free = |state: u8| match state {
            0 => 0,
            block => 1_usize << (block & !(FREE | AT_HAND)),
        };
        self.states.iter().map(|&state| free(state)).sum()
    }
}

/// The first of `frames`, if they are a run: four side by side, the first one's number a multiple of four.
fn run_of(frames: &[PhysAddr]) -> Option<usize> {
    let &[first, second, third, fourth] = frames else { return None };
    let frame = number(first);
    let follow = [second, third, fourth] == [address(frame + 1), address(frame + 2), address(frame + 3)];
    (follow && frame.is_multiple_of(1 << RUN)).then_some(frame)
}
