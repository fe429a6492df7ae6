//! A stack trace as data: the calls that led to a fault, folded so that they fit in a record and on a screen.
//!
//! A stack of 16 KiB that a recursion filled has hundreds of frames, and a few different ones. Calls that repeat
//! themselves in a cycle of up to [`MAX_CYCLE`] frames (a function that calls itself, two that call each other, a trait
//! object that goes through a shim) are kept once, with the number of turns:
//!
//! ```text
//!   frames, innermost first     a b a b a b a c d
//!   groups                     (a b) x 3  a  c  d
//! ```
//!
//! Folding is exact: the groups, written out, are the frames that were walked, as long as none was left out. It is done
//! while the frames come in, so that the place it needs does not depend on how many there are:
//!
//! 1. while a cycle goes on, a frame that continues it is counted and nothing else is done;
//! 2. a frame that does not ends it. What was matched of the next turn is written out; so are its turns, if they are so
//!    few that the cycle may be part of a longer one;
//! 3. the frame is appended, and if the last frames are the same as those before them, they are a new cycle.
//!
//! At the end a last pass folds what is left. Who needs most of the stack is known too: the largest frames, each with the
//! number of times that it was seen.
//!
//! # Context
//!
//! Any, the fault path included (INV-FAULT): plain data, no lock, no allocation, no read but of the frames that it is
//! given. It takes at most as many of these as fit on the largest stack, so it ends also when the chain does not.

mod text;

pub use text::TraceText;

use core::ops::ControlFlow;

use crate::addr::VirtAddr;
use crate::config::MAX_STACK_SIZE;

/// The longest cycle that is found, in frames.
pub const MAX_CYCLE: usize = 8;
/// How many calls are kept, folded.
const CALLS: usize = 48;
/// How many of the largest frames are named.
const BIGGEST: usize = 3;
/// As many frames as fit on the largest stack: a return address and a saved frame pointer each.
const MOST_FRAMES: usize = MAX_STACK_SIZE / (2 * size_of::<usize>());
/// How often a full trace is folded anew to make place.
const REFOLDS: u8 = 4;
/// The size of a frame that cannot be sized.
const UNSIZED: u32 = u32::MAX;

/// One call: where it returns to, and what the frame of that function takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Call {
    address: VirtAddr,
    bytes: u32,
}

impl Call {
    const fn new(address: VirtAddr, bytes: Option<usize>) -> Self {
        let bytes = match bytes {
            Some(bytes) if bytes < UNSIZED as usize => bytes as u32,
            _ => UNSIZED,
        };
        Self { address, bytes }
    }

    /// Where the call returns to; of the innermost, it may be the instruction that faulted.
    #[must_use]
    pub const fn address(&self) -> VirtAddr {
        self.address
    }

    /// What the frame of the function at [`address`](Self::address) takes of the stack, in bytes, if that is known.
    #[must_use]
    pub const fn frame_bytes(&self) -> Option<usize> {
        if self.bytes == UNSIZED { None } else { Some(self.bytes as usize) }
    }
}

/// Why a walk ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
#[non_exhaustive]
pub enum TraceEnd {
    /// The chain ended as it should: with a link or a return address of zero.
    #[default]
    Chain = 0,
    /// A link leads off the stack.
    LeftStack = 1,
    /// A link leads down or to itself: the chain is circular, or garbage.
    NotAscending = 2,
    /// A link is not on a word boundary.
    Misaligned = 3,
    /// There were more frames than fit on any stack.
    Limit = 4,
}

impl TraceEnd {
    /// A few words for a report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chain => "the end of the chain",
            Self::LeftStack => "the chain leaves the stack",
            Self::NotAscending => "the chain is circular or goes down",
            Self::Misaligned => "a link is not on a word boundary",
            Self::Limit => "more frames than fit on a stack",
        }
    }
}

/// A frame that is among the largest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct BigFrame {
    /// The call, with the size of the frame.
    pub call: Call,
    /// How often it was seen, left-out frames included.
    pub count: u32,
}

impl BigFrame {
    /// What all frames of this call take together, in bytes.
    #[must_use]
    pub const fn total(&self) -> usize {
        match self.call.frame_bytes() {
            Some(bytes) => bytes.saturating_mul(self.count as usize),
            None => 0,
        }
    }
}

/// What is known of the group that starts at a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Fold {
    cycle: u16,
    turns: u16,
}

impl Fold {
    const PLAIN: Self = Self { cycle: 1, turns: 1 };

    const fn frames(self) -> usize {
        self.cycle as usize * self.turns as usize
    }
}

/// Calls that follow each other, once or several times: a cycle with its turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CallGroup<'a> {
    /// The calls of one turn, innermost first.
    pub calls: &'a [Call],
    /// How many turns there are.
    pub turns: usize,
}

impl CallGroup<'_> {
    /// What one turn takes of the stack, in bytes, if all of its frames can be sized.
    #[must_use]
    pub fn turn_bytes(&self) -> Option<usize> {
        self.calls.iter().map(Call::frame_bytes).sum()
    }
}

/// The cycle at the end of the calls, which may go on. What goes on is counted here, and taken over when it ends.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Where it starts.
    start: usize,
    cycle: usize,
    /// How many turns have come since it was found.
    more: usize,
    /// How many frames of the next turn have come.
    matched: usize,
    /// Where the plain calls before it began.
    plain_from: usize,
}

/// A stack trace. Its text is made by [`text`](Self::text).
///
/// Having a `Trace` means: its groups are the frames that were walked, innermost first, but for the outermost
/// [`left_out`](Self::left_out) ones; [`frames`](Self::frames) and [`bytes`](Self::bytes) count them all.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    calls: [Call; CALLS],
    folds: [Fold; CALLS],
    len: usize,
    /// From here on no call is in a cycle.
    plain_from: usize,
    open: Option<Open>,
    refolds: u8,
    end: TraceEnd,
    frames: usize,
    left_out: usize,
    bytes: usize,
    biggest: [BigFrame; BIGGEST],
}

impl Trace {
    /// A trace without frames.
    #[must_use]
    pub const fn empty() -> Self {
        const NO_CALL: Call = Call { address: VirtAddr::new(0), bytes: UNSIZED };
        Self {
            calls: [NO_CALL; CALLS],
            folds: [Fold::PLAIN; CALLS],
            len: 0,
            plain_from: 0,
            open: None,
            refolds: 0,
            end: TraceEnd::Chain,
            frames: 0,
            left_out: 0,
            bytes: 0,
            biggest: [BigFrame { call: NO_CALL, count: 0 }; BIGGEST],
        }
    }

    /// Takes the frames of a walk, innermost first: return address, and size of the frame in bytes where it is known.
    ///
    /// Takes no more of them than fit on the largest stack; an endless walk makes a trace that ended at the
    /// [limit](TraceEnd::Limit). Any other end is for the walk to say ([`ended`](Self::ended)).
    #[must_use]
    pub fn take(frames: impl IntoIterator<Item = (VirtAddr, Option<usize>)>) -> Self {
        Self::take_runs(frames.into_iter().map(|(address, bytes)| (address, bytes, 1)))
    }

    /// As [`take`](Self::take), from a walk that says how many frames follow each other that are the same: a recursion's are not looked
    /// at one by one.
    #[must_use]
    pub fn take_runs(runs: impl IntoIterator<Item = (VirtAddr, Option<usize>, usize)>) -> Self {
        let mut trace = Self::empty();
        let all = runs.into_iter().try_for_each(|(address, bytes, times)| {
            let left = MOST_FRAMES - trace.frames;
            trace.push_run(Call::new(address, bytes), times.min(left));
            if times > left { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if all.is_break() {
            trace.end = TraceEnd::Limit;
        }
        trace.close();
        trace.refold();
        trace
    }

    /// Notes why the walk ended, unless it was cut off here.
    #[inline]
    #[must_use]
    pub fn ended(mut self, end: TraceEnd) -> Self {
        if self.end != TraceEnd::Limit {
            self.end = end;
        }
        self
    }

    /// How many frames were walked.
    #[must_use]
    pub const fn frames(&self) -> usize {
        self.frames
    }

    /// What all frames take together, in bytes, as far as they can be sized.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many frames found no place: the outermost ones.
    #[must_use]
    pub const fn left_out(&self) -> usize {
        self.left_out
    }

    /// Why the walk ended.
    #[must_use]
    pub const fn end(&self) -> TraceEnd {
        self.end
    }

    /// The calls in groups, innermost first.
    pub fn groups(&self) -> impl Iterator<Item = CallGroup<'_>> {
        let mut from = 0;
        core::iter::from_fn(move || {
            let fold = self.folds.get(from).filter(|_| from < self.len)?;
            let calls = self.calls.get(from..from + usize::from(fold.cycle))?;
            from += calls.len();
            Some(CallGroup { calls, turns: usize::from(fold.turns) })
        })
    }

    /// The largest frames, the largest first, each with how often it was seen.
    pub fn biggest(&self) -> impl Iterator<Item = &BigFrame> {
        self.biggest.iter().filter(|big| big.count != 0)
    }

    /// Adds `call` so many times.
    #[inline]
    fn push_run(&mut self, call: Call, times: usize) {
        for done in 0..times {
            match &mut self.open {
                // What is a cycle by itself goes on for as long as it comes.
                Some(open) if open.cycle == 1 && self.calls.get(open.start) == Some(&call) => {
                    open.more += times - done;
                    self.frames += times - done;
                    return;
                }
                _ => self.push(call),
            }
        }
    }

    #[inline]
    fn push(&mut self, call: Call) {
        self.frames += 1;
        if !self.goes_on(call) {
            self.push_new(call);
        }
    }

    /// Whether `call` continues the cycle at the end; then it is counted. Nearly all frames of a stack that overflows come no further.
    #[inline]
    fn goes_on(&mut self, call: Call) -> bool {
        let Some(open) = &mut self.open else { return false };
        if self.calls.get(open.start + open.matched) != Some(&call) {
            return false;
        }
        open.matched += 1;
        if open.matched == open.cycle {
            open.matched = 0;
            open.more += 1;
        }
        true
    }

    /// Adds a call that continues no cycle.
    fn push_new(&mut self, call: Call) {
        self.close();
        self.note_size(call);
        self.append(call);
        self.find_cycle();
    }

    /// Ends the cycle at the end of the calls. What came of its next turn is written out.
    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let start = open.start;
        self.note_turns(&open);
        self.folds[start].turns += open.more as u16;
        let frames = self.folds[start].frames();
        // What repeats itself for longer than this repeats itself all the way: it is not part of a longer cycle.
        if frames < 2 * MAX_CYCLE && start + frames <= CALLS {
            (start + open.cycle..start + frames).for_each(|at| self.calls[at] = self.calls[at - open.cycle]);
            self.folds[start..start + frames].fill(Fold::PLAIN);
            self.len = start + frames;
            self.plain_from = open.plain_from;
        }
        // A copy, because appending may move the calls.
        let mut turn = [Call::default(); MAX_CYCLE];
        turn[..open.matched].copy_from_slice(&self.calls[start..start + open.matched]);
        turn[..open.matched].iter().for_each(|&call| self.append(call));
    }

    /// Adds one call, if there is a place for it.
    fn append(&mut self, call: Call) {
        if self.left_out == 0 && self.len == CALLS && self.refolds < REFOLDS {
            self.refolds += 1;
            self.refold();
        }
        if self.left_out != 0 || self.len == CALLS {
            self.left_out += 1;
            return;
        }
        self.calls[self.len] = call;
        self.folds[self.len] = Fold::PLAIN;
        self.len += 1;
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
        self.open = Some(Open { start, cycle, more: 0, matched: 0, plain_from: self.plain_from });
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

    /// Notes the sizes of the frames that continued a cycle. All its calls were noted before, and no other came in between.
    fn note_turns(&mut self, open: &Open) {
        for (at, call) in self.calls[open.start..open.start + open.cycle].iter().enumerate() {
            let times = open.more + usize::from(at < open.matched);
            self.bytes = self.bytes.saturating_add(call.frame_bytes().unwrap_or(0).saturating_mul(times));
            if let Some(known) = self.biggest.iter_mut().find(|big| big.count != 0 && big.call == *call) {
                known.count += times as u32;
            }
        }
    }

    fn note_size(&mut self, call: Call) {
        let Some(bytes) = call.frame_bytes() else { return };
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some(known) = self.biggest.iter_mut().find(|big| big.count != 0 && big.call == call) {
            known.count += 1;
            return;
        }
        // Whoever is pushed out is never among the largest again, so that the counts of those who stay are exact.
        let place = self.biggest.iter().position(|big| big.count == 0 || big.call.frame_bytes() < Some(bytes));
        if let Some(place) = place {
            // By hand: to rotate a slice takes hundreds of instructions.
            (place + 1..BIGGEST).rev().for_each(|at| self.biggest[at] = self.biggest[at - 1]);
            self.biggest[place] = BigFrame { call, count: 1 };
        }
    }
}

/// The length of the shortest part whose turns make up `calls`.
fn smallest_period(calls: &[Call]) -> usize {
    let whole = |&part: &usize| calls.len().is_multiple_of(part) && calls[part..] == calls[..calls.len() - part];
    (1..calls.len()).find(whole).unwrap_or(calls.len())
}

impl PartialEq for Trace {
    /// Whether the two tell the same.
    fn eq(&self, other: &Self) -> bool {
        let numbers = |trace: &Self| (trace.frames, trace.bytes, trace.left_out, trace.end, trace.biggest);
        numbers(self) == numbers(other) && self.groups().eq(other.groups())
    }
}

impl Eq for Trace {}

impl Default for Trace {
    fn default() -> Self {
        Self::empty()
    }
}
