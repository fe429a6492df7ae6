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
//! Why it ended it can say ([`Walk::end`]), so that a broken chain is not taken for a short one.
//!
//! # Context
//!
//! Any, the fault path included: no lock, no allocation, at most one step for every two words of the range.

use vmstack::{MAX_STACK_SIZE, TraceEnd, VirtAddr};

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

impl Frame {
    /// The call as a [`Trace`](vmstack::Trace) takes it: where it returns to, and the size in bytes of the frame there, which
    /// is not known where the chain ends.
    #[must_use]
    pub const fn call(&self) -> (VirtAddr, Option<usize>) {
        (self.return_address, if self.caller_bytes == 0 { None } else { Some(self.caller_bytes) })
    }
}

/// The frames of a stack, innermost first.
#[derive(Clone, Debug)]
pub struct Walk {
    /// The next link. It may be read if `end` says nothing.
    next: VirtAddr,
    /// The last place for one: both of its words are on the stack.
    last: VirtAddr,
    end: Option<TraceEnd>,
}

/// The frames from the frame pointer `start` upwards, all inside `low..high`.
///
/// # Safety
///
/// Every byte of `low..high` can be read without a fault for as long as the walk is used.
#[inline]
#[must_use]
pub const unsafe fn frames(start: VirtAddr, low: VirtAddr, high: VirtAddr) -> Walk {
    // No frame lies at zero. Where there is no place for one at all, `last` is below `low`.
    let low = if low.get() == 0 { VirtAddr::new(1) } else { low };
    let last = VirtAddr::new(high.get().saturating_sub(2 * WORD));
    let walk = Walk { next: start, last, end: None };
    Walk { end: walk.obstacle(start, low), ..walk }
}

impl Walk {
    /// Why the walk ended. Before it has, or sees that it will, that of a chain that is whole.
    #[inline]
    #[must_use]
    pub fn end(&self) -> TraceEnd {
        self.end.unwrap_or_default()
    }

    /// The innermost call as a [`Trace`](vmstack::Trace) takes it: `instruction`, and what its function's frame takes so far,
    /// in bytes, from `stack_pointer` up to the return address. Asked before the walk has begun.
    ///
    /// A function that has not set up its frame yet has none of its own; then these are the bytes of its caller's.
    #[inline]
    #[must_use]
    pub fn innermost(&self, instruction: VirtAddr, stack_pointer: VirtAddr) -> (VirtAddr, Option<usize>) {
        let linked = self.end.is_none();
        let locals = self.next.offset_from(stack_pointer).filter(|&locals| linked && locals <= MAX_STACK_SIZE);
        (instruction, locals.map(|locals| locals + 2 * WORD))
    }

    /// The calls as a [`Trace`](vmstack::Trace) takes them in runs: each with how many frames follow each other that are the same, as a
    /// recursion's are.
    #[inline]
    pub fn runs(&mut self) -> impl Iterator<Item = (VirtAddr, Option<usize>, usize)> {
        core::iter::from_fn(|| {
            let frame = self.next()?;
            let (address, bytes) = frame.call();
            let repeats = self.end.is_none() && self.is_same(self.next, &frame);
            Some((address, bytes, if repeats { 1 + self.pass(&frame) } else { 1 }))
        })
    }

    /// Passes over the frames that follow and are the same as `frame`: they return to the same place, and as far above lies the next
    /// link, which may be read. Says how many they were.
    #[inline(never)]
    fn pass(&mut self, frame: &Frame) -> usize {
        let (first, bytes) = (self.next, frame.caller_bytes);
        let mut at = first;
        // So that the link above is on the stack too. It is higher than this one, and as aligned: what `obstacle` asks.
        let last = self.last.wrapping_sub(bytes);
        // On a stack that ended with a recursion this is nearly all of the walk: four at a time, for one look at the end.
        let last_of_four = VirtAddr::new(last.get().saturating_sub(bytes.saturating_mul(3)));
        let same = |at: VirtAddr| self.is_same(at, frame);
        let two = |at: VirtAddr| same(at) && same(at.wrapping_add(bytes));
        while at <= last_of_four && two(at) && two(at.wrapping_add(2 * bytes)) {
            at = at.wrapping_add(4 * bytes);
        }
        while at <= last && same(at) {
            at = at.wrapping_add(bytes);
        }
        if at == first {
            return 0;
        }
        self.next = at;
        at.distance(first) / bytes
    }

    /// Whether the frame whose link is at `at` is the same as `frame`.
    #[inline]
    fn is_same(&self, at: VirtAddr, frame: &Frame) -> bool {
        let above = at.wrapping_add(frame.caller_bytes);
        self.word(at.wrapping_add(WORD)) == frame.return_address.get() && self.word(at) == above.get()
    }

    /// Why no link may be read at `addr`, or below `low`; nothing if one may.
    #[inline]
    const fn obstacle(&self, addr: VirtAddr, low: VirtAddr) -> Option<TraceEnd> {
        let (at, low, last) = (addr.get(), low.get(), self.last.get());
        if low <= at && at <= last && addr.is_aligned(WORD) { None } else { Some(self.reason(addr)) }
    }

    /// What is wrong with `addr`.
    #[cold]
    const fn reason(&self, addr: VirtAddr) -> TraceEnd {
        match addr.get() {
            0 => TraceEnd::Chain,
            at if at > self.last.get() => TraceEnd::LeftStack,
            _ if !addr.is_aligned(WORD) => TraceEnd::Misaligned,
            // What is below the last frame is not read, whether it is on the stack or not.
            _ => TraceEnd::NotAscending,
        }
    }

    #[inline]
    fn word(&self, addr: VirtAddr) -> usize {
        // SAFETY: (1) `obstacle` or `pass` has seen the word inside the range that the caller of `frames` vouched for, aligned;
        // (2) volatile: the stack may belong to code that is running.
        unsafe { core::ptr::read_volatile(addr.as_mut_ptr::<usize>()) }
    }
}

impl Iterator for Walk {
    type Item = Frame;

    #[inline]
    fn next(&mut self) -> Option<Frame> {
        if self.end.is_some() {
            return None;
        }
        // Where `end` says nothing, the next link may be read.
        let pointer = self.next;
        let caller = VirtAddr::new(self.word(pointer));
        let return_address = VirtAddr::new(self.word(pointer.wrapping_add(WORD)));
        if return_address.get() == 0 {
            self.end = Some(TraceEnd::Chain);
            return None;
        }
        // Each frame is above the last, so the walk ends; anything else ends it after this one.
        self.next = caller;
        self.end = self.obstacle(caller, pointer.wrapping_add(WORD));
        let caller_bytes = if self.end.is_none() { caller.distance(pointer) } else { 0 };
        Some(Frame { pointer, return_address, caller_bytes })
    }
}

#[cfg(test)]
mod tests;
