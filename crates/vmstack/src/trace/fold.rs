//! How frames become groups, while they come in.
//!
//! 1. while a cycle goes on, a frame that continues it is counted and nothing else is done;
//! 2. a frame that does not ends it. What was matched of the next turn is written out; so are its turns, if they are so
//!    few that the cycle may be part of a longer one;
//! 3. the frame is appended, and if the last frames are the same as those before them, they are a new cycle.
//!
//! At the end a last pass folds what is left.
//!
//! A task waits to be killed meanwhile, so what comes most has a short way: the next frames of a recursion come all at once, and a call
//! that was not there before is appended and nothing else, for it ends no cycle. Nearly always a filter says so: a bit for each call, of 64.
//! If its bit is not set the call is new; if it is, one looks.

use core::fmt;

use super::{CALLS, Call, Fold, MAX_CYCLE, Sizes, Trace, TraceEnd};
use crate::addr::VirtAddr;
use crate::config::MAX_STACK_SIZE;

/// As many frames as fit on the largest stack: a return address and a saved frame pointer each.
const MOST_FRAMES: usize = MAX_STACK_SIZE / (2 * size_of::<usize>());
/// How often a full trace is folded anew to make place.
const REFOLDS: u8 = 4;

/// The cycle at the end of the calls, which may go on. What goes on is counted here, and taken over when it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    /// Where it starts.
    start: usize,
    /// Its length in frames; zero if there is none.
    cycle: usize,
    /// How many turns have come since it was found.
    more: usize,
    /// How many frames of the next turn have come.
    matched: usize,
    /// Where the plain calls before it began.
    plain_from: usize,
}

impl Open {
    pub(super) const NONE: Self = Self { start: 0, cycle: 0, more: 0, matched: 0, plain_from: 0 };
}

/// A trace that is being taken: frames are added to it, innermost first. It is complete when this is dropped.
#[must_use]
pub struct Taking<'a> {
    trace: &'a mut Trace,
}

impl fmt::Debug for Taking<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taking").field("frames", &self.trace.frames).finish_non_exhaustive()
    }
}

impl<'a> Taking<'a> {
    /// Begins `trace` anew. Calls and groups need not be cleared: none is there.
    #[inline]
    pub(super) fn begin(trace: &'a mut Trace) -> Self {
        (trace.len, trace.plain_from, trace.open.cycle) = (0, 0, 0);
        (trace.seen, trace.repeats, trace.refolds) = (0, false, 0);
        (trace.end, trace.frames, trace.left_out) = (TraceEnd::Chain, 0, 0);
        Self { trace }
    }

    /// Adds a frame so many `times`: where the call returns to, and the size of the frame there in bytes, where it is known.
    ///
    /// Says whether all were taken. No more are than fit on the largest stack: then the trace ended at the [limit](TraceEnd::Limit).
    #[inline(always)]
    pub fn add(&mut self, address: VirtAddr, bytes: Option<usize>, times: usize) -> bool {
        let call = Call::new(address, bytes);
        let trace = &mut *self.trace;
        // None of them, or more than are left.
        if times.wrapping_sub(1) >= MOST_FRAMES - trace.frames {
            return trace.push_what_is_left(call, times);
        }
        if !trace.is_next(call) {
            trace.close();
        }
        if trace.is_new(call) {
            trace.put_new(call, times);
        } else {
            trace.push_all(call, times);
        }
        true
    }

    /// Says why the walk ended, unless it was cut off here. The trace is complete.
    #[inline]
    pub fn ended(self, end: TraceEnd) {
        if self.trace.end != TraceEnd::Limit {
            self.trace.end = end;
        }
    }
}

impl Drop for Taking<'_> {
    #[inline]
    fn drop(&mut self) {
        self.trace.close();
        if self.trace.repeats {
            self.trace.refold();
        }
    }
}

impl Trace {
    /// Whether `call` is none of those that could be folded with it, and there is a place for it, even twice.
    #[inline]
    fn is_new(&self, call: Call) -> bool {
        self.open.cycle == 0 && self.len < CALLS - 1 && (self.seen & filter(call) == 0 || !self.is_among_plain(call))
    }

    #[cold]
    fn is_among_plain(&self, call: Call) -> bool {
        self.calls[self.plain_from..self.len].contains(&call)
    }

    /// Adds `call`, which [is new](Self::is_new), so many times. If that is more than once it is a cycle, and there can be no longer one.
    #[inline]
    fn put_new(&mut self, call: Call, times: usize) {
        self.frames += times;
        let start = self.len;
        self.put(call);
        if times > 1 {
            self.folds[start].turns = 2;
            self.open = Open { start, cycle: 1, more: times - 2, matched: 0, plain_from: self.plain_from };
            self.plain_from = self.len;
        }
    }

    /// Adds `call` as often as is left, and says whether that is so many `times`.
    #[cold]
    fn push_what_is_left(&mut self, call: Call, times: usize) -> bool {
        let left = MOST_FRAMES - self.frames;
        self.push_all(call, times.min(left));
        if times > left {
            self.end = TraceEnd::Limit;
        }
        times <= left
    }

    /// Adds `call` so many times.
    #[inline(never)]
    fn push_all(&mut self, call: Call, times: usize) {
        self.frames += times;
        for done in 0..times {
            // What is a cycle by itself goes on for as long as it comes.
            if self.open.cycle == 1 && self.calls[self.open.start] == call {
                self.open.more += times - done;
                return;
            }
            if !self.goes_on(call) {
                self.push(call);
            }
        }
    }

    /// Whether there is a cycle at the end that `call` continues.
    #[inline]
    fn is_next(&self, call: Call) -> bool {
        self.open.cycle != 0 && self.calls[self.open.start + self.open.matched] == call
    }

    /// Whether `call` continues the cycle at the end; then it is counted. Nearly all frames of a stack that overflows come no further.
    #[inline]
    fn goes_on(&mut self, call: Call) -> bool {
        if !self.is_next(call) {
            return false;
        }
        let open = &mut self.open;
        open.matched += 1;
        if open.matched == open.cycle {
            open.matched = 0;
            open.more += 1;
        }
        true
    }

    /// Adds a call that continues no cycle.
    fn push(&mut self, call: Call) {
        self.close();
        let new = self.seen & filter(call) == 0;
        self.append(call);
        if !new {
            self.find_cycle();
        }
    }

    /// Ends the cycle at the end of the calls, if there is one.
    #[inline]
    fn close(&mut self) {
        if self.open.cycle != 0 {
            let open = core::mem::replace(&mut self.open, Open::NONE);
            self.end_cycle(&open);
        }
    }

    /// What came of the next turn of the cycle is written out.
    fn end_cycle(&mut self, open: &Open) {
        let Open { start, cycle, .. } = *open;
        self.folds[start].turns += open.more as u16;
        let frames = self.folds[start].frames();
        // What repeats itself for longer than this repeats itself all the way: it is not part of a longer cycle.
        if frames < 2 * MAX_CYCLE && start + frames <= CALLS {
            (start + cycle..start + frames).for_each(|at| self.calls[at] = self.calls[at - cycle]);
            self.folds[start..start + frames].fill(Fold::PLAIN);
            self.len = start + frames;
            self.plain_from = open.plain_from;
            self.repeats = true;
        }
        if open.matched != 0 {
            self.repeats = true;
            // A copy, because appending may move the calls.
            let mut turn = [Call::default(); MAX_CYCLE];
            turn[..open.matched].copy_from_slice(&self.calls[start..start + open.matched]);
            turn[..open.matched].iter().for_each(|&call| self.append(call));
        }
    }

    /// Adds one call, if there is a place for it.
    fn append(&mut self, call: Call) {
        if self.len < CALLS || self.make_room() {
            self.put(call);
        } else {
            self.leave_out(call);
        }
    }

    /// Adds one call, for which there is a place.
    #[inline]
    fn put(&mut self, call: Call) {
        self.seen |= filter(call);
        self.calls[self.len] = call;
        self.folds[self.len] = Fold::PLAIN;
        self.len += 1;
    }

    /// Folds a full trace anew, unless that was tried too often, or some frame was left out already: those that are, are the outermost.
    fn make_room(&mut self) -> bool {
        if self.left_out != 0 || self.refolds == REFOLDS {
            return false;
        }
        self.refolds += 1;
        self.refold();
        self.len < CALLS
    }

    /// Counts a call that finds no place.
    fn leave_out(&mut self, call: Call) {
        if self.left_out == 0 {
            self.sizes = Sizes::of(self.groups());
        }
        self.left_out += 1;
        self.sizes.note(call, 1);
    }

    /// Opens a cycle if the last calls are the same as those before them: the longest one, because a shorter
    /// repetition may be a part of it.
    fn find_cycle(&mut self) {
        if self.left_out != 0 {
            return;
        }
        let plain = &self.calls[self.plain_from..self.len];
        let Some((newest, before)) = plain.split_last() else { return };
        let repeats = |cycle: &usize| {
            // Nearly always it is the newest call already that is another.
            before.get(before.len().wrapping_sub(*cycle)) == Some(newest) && {
                let (rest, last) = plain.split_at(plain.len() - cycle);
                rest.ends_with(last)
            }
        };
        let Some(longest) = (1..=MAX_CYCLE.min(plain.len() / 2)).rev().find(repeats) else { return };
        let cycle = smallest_period(&plain[plain.len() - longest..]);
        let turns = 2 * longest / cycle;
        let start = self.len - 2 * longest;
        self.open = Open { start, cycle, more: 0, matched: 0, plain_from: self.plain_from };
        self.folds[start] = Fold { cycle: cycle as u16, turns: turns as u16 };
        self.len = start + cycle;
        self.plain_from = self.len;
    }

    /// Folds what can be folded still: at each call the cycle that covers most.
    fn refold(&mut self) {
        let (mut from, mut to) = (0, 0);
        self.plain_from = 0;
        while from < self.len {
            let known = self.folds[from];
            let fold = if known == Fold::PLAIN { self.best_fold(from) } else { known };
            let cycle = usize::from(fold.cycle);
            if from != to {
                self.calls.copy_within(from..from + cycle, to);
            }
            from += if known == Fold::PLAIN { fold.frames() } else { cycle };
            self.folds[to] = fold;
            to += cycle;
            if fold.turns > 1 {
                self.plain_from = to;
            }
        }
        self.len = to;
    }

    /// The cycle that covers most of the plain calls from `from` on, the shortest of these.
    fn best_fold(&self, from: usize) -> Fold {
        let plain = self.folds[from..self.len].iter().take_while(|&&fold| fold == Fold::PLAIN).count();
        let calls = &self.calls[from..from + plain];
        let fold = |cycle: usize| {
            let (first, rest) = calls.split_at(cycle);
            let more = rest.chunks_exact(cycle).take_while(|&turn| turn == first).count();
            Fold { cycle: cycle as u16, turns: 1 + more as u16 }
        };
        let folds = (1..=MAX_CYCLE.min(plain / 2)).filter(|&cycle| calls[cycle] == calls[0]).map(fold);
        let folds = folds.filter(|fold| fold.turns > 1);
        folds.rev().max_by_key(|fold| fold.frames()).unwrap_or(Fold::PLAIN)
    }
}

/// The bit of `call` in the filter. Return addresses differ in their lower bits; a product spreads them.
#[inline]
const fn filter(call: Call) -> u64 {
    1 << ((call.address.get() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
}

/// The length of the shortest part whose turns make up `calls`.
fn smallest_period(calls: &[Call]) -> usize {
    let whole = |&part: &usize| calls.len().is_multiple_of(part) && calls[part..] == calls[..calls.len() - part];
    (1..calls.len()).find(whole).unwrap_or(calls.len())
}
