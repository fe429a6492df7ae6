//! The frame allocator: which frames of the memory are free.
//!
//! Frames that are together, on the free list or in somebody's hands, are linked through one table beside the memory, a
//! word a frame. So [`Frames`] is two words however many it holds, and giving frames back needs no memory (INV-FREE).
//!
//! ```text
//!   Frames { head: 5, count: 3 }      next:   5 -> 2 -> 7 -> none
//!   free   { head: 0, count: n }              0 -> 6 -> ...             of node 0
//!   free   { head: 9, count: m }              9 -> 12 -> ...            of node 1
//! ```
//!
//! Each node has a list of its own (`division`). Frames that are taken together are of one node; frames that come back go to
//! the list of their node, whoever gives them.
//!
//! Frames come *scattered*, on purpose: a list starts in the order 0, s, 2s, ... modulo its size, and two neighbours are
//! never taken one after the other in the order in which they would be mapped side by side, while there is a choice. So a stack is built page by page, as in a kernel whose memory
//! is fragmented, and nothing works by the luck of contiguity.
//!
//! Contexts: task, under a guard. The lock is held for a few loads and stores a frame; no fault path takes it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use vmstack::Node;

use crate::division::Division;
use crate::platform::HostedError;

/// The end of a list.
const NONE: u32 = u32::MAX;
/// State bit: somebody holds the frame.
const TAKEN: u8 = 1;
/// State bit: somebody held it before, so it may not read as zero.
const USED: u8 = 2;

/// Frames of a machine's memory, owned.
///
/// Having a `Frames` means that nobody else uses, maps or hands out the frames on its list.
#[derive(Debug)]
#[must_use = "frames that are dropped are leaked"]
pub struct Frames {
    head: u32,
    count: u32,
    /// Whose they are: a table takes back only its own.
    table: u64,
}

impl Frames {
    /// How many they are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count as usize
    }
}

/// How many frames there are, found by looking at each one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FrameCount {
    /// Frames that nobody holds.
    pub free: usize,
    /// Frames that somebody holds.
    pub taken: usize,
    /// The longest run of free frames that lie side by side.
    pub longest_free_run: usize,
}

#[derive(Debug)]
pub(crate) struct FrameTable {
    id: u64,
    /// The frame after this one on its list.
    next: Box<[AtomicU32]>,
    state: Box<[AtomicU8]>,
    division: Division,
    /// The free frames of each node.
    free: Box<[Mutex<Frames>]>,
}

impl FrameTable {
    /// `frames` free frames on `nodes` nodes, that were never used. `id` is no other table's.
    pub(crate) fn new(frames: u32, nodes: usize, id: u64) -> Self {
        let next: Box<[AtomicU32]> = (0..frames).map(|_| AtomicU32::new(NONE)).collect();
        let state = (0..frames).map(|_| AtomicU8::new(0)).collect();
        let division = Division::new(frames, nodes);
        let free = (0..division.nodes()).map(|_| Mutex::new(Frames { head: NONE, count: 0, table: id })).collect();
        let table = Self { id, next, state, division, free };
        for (node, free) in table.free.iter().enumerate() {
            let members = table.division.members(node);
            let order = scattered(members.len() as u32).map(|frame| members.start + frame);
            order.for_each(|frame| table.push(&mut lock(free), frame));
        }
        table
    }

    /// An empty list.
    pub(crate) const fn none(&self) -> Frames {
        Frames { head: NONE, count: 0, table: self.id }
    }

    /// The node of `frame`.
    pub(crate) const fn node(&self, frame: u32) -> Node {
        self.division.node(frame)
    }

    /// The free frames of `node`; of none if there is no such node.
    fn free(&self, node: Node) -> Option<MutexGuard<'_, Frames>> {
        self.free.get(node.index()).map(lock)
    }

    fn next(&self, frame: u32) -> Option<&AtomicU32> {
        self.next.get(frame as usize)
    }

    /// Puts `frame`, which the caller owns, in front of `list`.
    pub(crate) fn push(&self, list: &mut Frames, frame: u32) {
        if let Some(link) = self.next(frame) {
            // Relaxed, here and below: a list has one owner, and what passes it on is the lock.
            link.store(list.head, Ordering::Relaxed);
            (list.head, list.count) = (frame, list.count + 1);
        }
    }

    /// Takes the first frame of `list`.
    pub(crate) fn pop(&self, list: &mut Frames) -> Option<u32> {
        let frame = list.head;
        let link = self.next(frame)?;
        (list.head, list.count) = (link.load(Ordering::Relaxed), list.count - 1);
        Some(frame)
    }

    /// Takes the first frame of `list` that is not the lower neighbour of `last`, if there is a choice.
    fn pop_apart(&self, list: &mut Frames, last: Option<u32>) -> Option<u32> {
        let first = self.pop(list)?;
        if last != first.checked_add(1) {
            return Some(first);
        }
        let second = self.pop(list);
        if second.is_some() {
            self.push(list, first);
        }
        second.or(Some(first))
    }

    /// Takes `count` frames of `node`, and calls `clear` for those that may not read as zero. All or none.
    pub(crate) fn take(&self, node: Node, count: usize, clear: impl Fn(u32)) -> Result<Frames, HostedError> {
        let taken = self.take_listed(node, count)?;
        let mut frame = taken.head;
        while let (Some(state), Some(link)) = (self.state.get(frame as usize), self.next(frame)) {
            if state.fetch_or(TAKEN | USED, Ordering::Relaxed) & USED != 0 {
                clear(frame);
            }
            frame = link.load(Ordering::Relaxed);
        }
        Ok(taken)
    }

    fn take_listed(&self, node: Node, count: usize) -> Result<Frames, HostedError> {
        let mut free = self.free(node).ok_or(HostedError::NoFrames { asked: count, free: 0 })?;
        if free.count() < count {
            return Err(HostedError::NoFrames { asked: count, free: free.count() });
        }
        let (mut taken, mut last) = (self.none(), None);
        while taken.count() < count {
            let frame = self.pop_apart(&mut free, last);
            if let Some(frame) = frame {
                // In front of the last one: they are mapped upwards in the order opposite to this.
                self.push(&mut taken, frame);
            }
            last = frame;
        }
        Ok(taken)
    }

    /// Takes every frame with an even number that is free, so that no two free frames lie side by side.
    pub(crate) fn take_every_other(&self) -> Frames {
        let mut even = self.none();
        for list in &self.free {
            let (mut free, mut odd) = (lock(list), self.none());
            while let Some(frame) = self.pop(&mut free) {
                self.push(if frame.is_multiple_of(2) { &mut even } else { &mut odd }, frame);
            }
            *free = odd;
        }
        self.mark_taken(&even);
        even
    }

    fn mark_taken(&self, frames: &Frames) {
        let mut frame = frames.head;
        while let (Some(state), Some(link)) = (self.state.get(frame as usize), self.next(frame)) {
            state.fetch_or(TAKEN, Ordering::Relaxed);
            frame = link.load(Ordering::Relaxed);
        }
    }

    /// Takes frames back, each to its node, whatever they hold. Those of another machine are leaked.
    pub(crate) fn give(&self, mut frames: Frames) {
        if frames.table != self.id {
            return;
        }
        while let Some(frame) = self.pop(&mut frames) {
            if let (Some(state), Some(mut free)) = (self.state.get(frame as usize), self.free(self.node(frame))) {
                state.store(USED, Ordering::Relaxed);
                self.push(&mut free, frame);
            }
        }
    }

    /// Counts the frames by looking at the state of each.
    pub(crate) fn recount(&self) -> FrameCount {
        let mut count = FrameCount { free: 0, taken: 0, longest_free_run: 0 };
        let mut run = 0;
        for state in &self.state {
            let free = state.load(Ordering::Relaxed) & TAKEN == 0;
            run = if free { run + 1 } else { 0 };
            count.free += usize::from(free);
            count.taken += usize::from(!free);
            count.longest_free_run = count.longest_free_run.max(run);
        }
        count
    }
}

fn lock(free: &Mutex<Frames>) -> MutexGuard<'_, Frames> {
    // Nothing under this lock unwinds, so a poisoned list is a whole list.
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The numbers below `frames`, each once, far from each other: multiples of a step that shares no divisor with their number.
fn scattered(frames: u32) -> impl Iterator<Item = u32> {
    let frames = u64::from(frames);
    // The golden ratio spreads best (Knuth, The Art of Computer Programming, vol. 3, 6.4).
    let step = (frames * 382 / 1000..frames).find(|&step| divisor(step, frames) == 1).unwrap_or(1);
    (0..frames).map(move |i| (i * step % frames) as u32)
}

/// The greatest common divisor.
const fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::{FrameTable, Frames, HostedError, Node, scattered};
    use std::collections::BTreeSet;

    const FIRST: Node = Node::new(0);

    fn numbers(table: &FrameTable, mut frames: Frames) -> Vec<u32> {
        core::iter::from_fn(|| table.pop(&mut frames)).collect()
    }

    #[test]
    fn the_first_order_has_each_frame_once_and_no_two_neighbours_in_a_row() {
        for count in [1, 2, 3, 16, 64, 255, 1000, 4096, 65_530] {
            let order: Vec<u32> = scattered(count).collect();
            assert_eq!(order.iter().copied().collect::<BTreeSet<_>>().len(), count as usize, "{count}");
            assert!(count < 16 || order.windows(2).all(|pair| pair[0].abs_diff(pair[1]) > 1), "{count}");
        }
    }

    #[test]
    fn frames_that_would_be_mapped_side_by_side_are_not_neighbours_in_whatever_order_they_came_back() {
        let table = FrameTable::new(64, 1, 1);
        let all = numbers(&table, table.take(FIRST, 64, |_| ()).expect("all are free"));
        assert_eq!(all.len(), 64);
        for ascending in [true, false] {
            let mut back = table.none();
            (0..64).for_each(|i| table.push(&mut back, if ascending { i } else { 63 - i }));
            table.give(back);
            let again = numbers(&table, table.take(FIRST, 64, |_| ()).expect("all are free again"));
            // The very last has no other to change places with.
            assert!(again.windows(2).skip(1).all(|pair| pair[1] != pair[0] + 1), "{again:?}");
        }
    }

    #[test]
    fn a_frame_is_cleared_if_it_was_held_before_and_only_then() {
        let table = FrameTable::new(8, 1, 1);
        let first = table.take(FIRST, 5, |frame| panic!("frame {frame} was never used")).expect("free");
        table.give(first);
        let cleared = core::cell::Cell::new(0);
        let all = table.take(FIRST, 8, |_| cleared.set(cleared.get() + 1)).expect("free");
        assert_eq!((cleared.get(), all.count()), (5, 8));
    }

    #[test]
    fn all_or_none_and_the_error_says_how_many_there_are() {
        let table = FrameTable::new(8, 1, 1);
        let _held = table.take(FIRST, 6, |_| ()).expect("free");
        let error = table.take(FIRST, 3, |_| ()).expect_err("two are left");
        assert_eq!(error, HostedError::NoFrames { asked: 3, free: 2 });
        assert_eq!((table.recount().free, table.recount().taken), (2, 6));
    }

    #[test]
    fn with_every_other_frame_taken_no_two_free_ones_lie_side_by_side() {
        let table = FrameTable::new(64, 1, 1);
        let held = table.take_every_other();
        assert_eq!((held.count(), table.recount().free, table.recount().longest_free_run), (32, 32, 1));
        table.give(held);
        assert_eq!(table.recount().longest_free_run, 64);
    }

    #[test]
    fn frames_are_of_the_node_that_was_asked_and_go_home_whoever_gives_them() {
        let table = FrameTable::new(15, 3, 1);
        let mut mixed = table.none();
        for node in [2, 0, 1].map(Node::new) {
            let taken = numbers(&table, table.take(node, 4, |_| ()).expect("five are free"));
            assert!(taken.iter().all(|&frame| table.node(frame) == node), "{taken:?} on {node}");
            taken.into_iter().for_each(|frame| table.push(&mut mixed, frame));
            let error = table.take(node, 2, |_| ()).expect_err("one is left");
            assert_eq!(error, HostedError::NoFrames { asked: 2, free: 1 });
        }
        table.give(mixed);
        assert!([0, 1, 2].iter().all(|&node| table.take(Node::new(node), 5, |_| ()).is_ok()));
        assert!(table.take(Node::new(3), 1, |_| ()).is_err(), "there is no such node");
    }
}
