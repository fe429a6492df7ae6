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
//! while the frames come in (`fold`), so that the place it needs does not depend on how many there are. Who needs most of the
//! stack is known too (`sizes`): the largest frames, each with the number of times that it was seen. That is looked for when it is
//! asked for, not while the task is being killed.
//!
//! # Context
//!
//! Any, the fault path included (INV-FAULT): plain data, no lock, no allocation, no read but of the frames that it is
//! given. It takes at most as many of these as fit on the largest stack, so it ends also when the chain does not.

mod fold;
mod sizes;
mod text;

pub use fold::Taking;
pub use text::TraceText;

use crate::addr::VirtAddr;
use fold::Open;
use sizes::Sizes;

/// The longest cycle that is found, in frames.
pub const MAX_CYCLE: usize = 8;
/// How many calls are kept, folded.
const CALLS: usize = 48;
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
    #[inline]
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

/// A stack trace. Its text is made by [`text`](Self::text).
///
/// Having a `Trace` means: its groups are the frames that were walked, innermost first, but for the outermost
/// [`left_out`](Self::left_out) ones; [`frames`](Self::frames) and [`bytes`](Self::bytes) count them all.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    /// What lies from `len` on, here and in `folds`, means nothing.
    calls: [Call; CALLS],
    folds: [Fold; CALLS],
    len: usize,
    /// From here on no call is in a cycle.
    plain_from: usize,
    open: Open,
    /// The filter of the calls that were appended.
    seen: u64,
    /// Whether there may be calls that can be folded still: what was written out of a cycle.
    repeats: bool,
    refolds: u8,
    end: TraceEnd,
    frames: usize,
    left_out: usize,
    /// Of all frames, if any was left out.
    sizes: Sizes,
}

impl Trace {
    /// A trace without frames: zero from end to end.
    #[must_use]
    pub const fn empty() -> Self {
        const NO_CALL: Call = Call { address: VirtAddr::new(0), bytes: 0 };
        Self {
            calls: [NO_CALL; CALLS],
            folds: [Fold { cycle: 0, turns: 0 }; CALLS],
            len: 0,
            plain_from: 0,
            open: Open::NONE,
            seen: 0,
            repeats: false,
            refolds: 0,
            end: TraceEnd::Chain,
            frames: 0,
            left_out: 0,
            sizes: Sizes::NONE,
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
        let mut taking = trace.retake();
        runs.into_iter().all(|(address, bytes, times)| taking.add(address, bytes, times));
        drop(taking);
        trace
    }

    /// Forgets what it has, and takes frames as they are [added](Taking::add): a trace is some 1,200 bytes, which need not be cleared, nor
    /// copied to where they are kept.
    #[inline]
    pub fn retake(&mut self) -> Taking<'_> {
        Taking::begin(self)
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
    pub fn bytes(&self) -> usize {
        self.sizes().bytes
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
    pub fn biggest(&self) -> impl Iterator<Item = BigFrame> + use<> {
        self.sizes().biggest.into_iter().filter(|big| big.count != 0)
    }

    fn sizes(&self) -> Sizes {
        if self.left_out == 0 { Sizes::of(self.groups()) } else { self.sizes }
    }
}

impl PartialEq for Trace {
    /// Whether the two tell the same.
    fn eq(&self, other: &Self) -> bool {
        let numbers = |trace: &Self| (trace.frames, trace.left_out, trace.end, trace.sizes());
        numbers(self) == numbers(other) && self.groups().eq(other.groups())
    }
}

impl Eq for Trace {}

impl Default for Trace {
    fn default() -> Self {
        Self::empty()
    }
}
