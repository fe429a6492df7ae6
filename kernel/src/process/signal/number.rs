//! Signals by their numbers, as Linux has them, and sets of them.

use core::fmt;
use core::ops::{BitAnd, BitOr, Not};

/// A signal's number, from 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Signal(u8);

/// Illegal instruction.
pub(crate) const ILL: Signal = Signal(4);
/// Trap.
pub(crate) const TRAP: Signal = Signal(5);
/// Memory that cannot be had.
pub(crate) const BUS: Signal = Signal(7);
/// Arithmetic.
pub(crate) const FPE: Signal = Signal(8);
/// Ends the process, whatever it wishes.
pub(crate) const KILL: Signal = Signal(9);
/// Bad access.
pub(crate) const SEGV: Signal = Signal(11);
/// A pipe that nobody reads.
pub(crate) const PIPE: Signal = Signal(13);
/// The interval timer.
pub(crate) const ALRM: Signal = Signal(14);
/// A child has ended, was stopped, or goes on.
pub(crate) const CHLD: Signal = Signal(17);
/// A process that was stopped goes on.
pub(crate) const CONT: Signal = Signal(18);
/// Stops the process, whatever it wishes.
pub(crate) const STOP: Signal = Signal(19);
/// Not a system call.
const SYS: Signal = Signal(31);
/// The first of the real-time signals: they are queued, each with its value.
const FIRST_REAL_TIME: Signal = Signal(32);

impl Signal {
    /// How many there are.
    pub(crate) const COUNT: usize = 64;

    /// The signal whose number is `word`, if there is one.
    pub(crate) const fn new(word: usize) -> Option<Self> {
        if word >= 1 && word <= Self::COUNT { Some(Self(word as u8)) } else { None }
    }

    pub(crate) const fn number(self) -> u8 {
        self.0
    }

    /// Its place in a table of all signals.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// Whether every one that is sent is queued.
    pub(crate) const fn is_real_time(self) -> bool {
        self.0 >= FIRST_REAL_TIME.0
    }

    /// What it does to a process that has said nothing about it.
    pub(crate) const fn default_effect(self) -> Effect {
        let set = Set::of(self);
        if set.meets(Set::STOPPING) {
            Effect::Stop
        } else if set.meets(Set::IGNORED_BY_DEFAULT) {
            Effect::Nothing
        } else {
            Effect::End
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Signal> for u32 {
    fn from(signal: Signal) -> Self {
        Self::from(signal.0)
    }
}

/// What a signal does where nobody handles it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// Nothing. (What `CONT` does it does when it is sent.)
    Nothing,
    /// Stops the process until `CONT`.
    Stop,
    /// Ends the process. There are no core dumps.
    End,
}

/// A set of signals: bit `n - 1` is signal `n`, as Linux lays them out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Set(pub(crate) u64);

impl Set {
    pub(crate) const EMPTY: Self = Self(0);
    /// Those that nobody blocks, handles or ignores.
    pub(crate) const UNSTOPPABLE: Self = Self::of(KILL).with(STOP);
    /// STOP, TSTP, TTIN, TTOU.
    pub(crate) const STOPPING: Self = Self(0xf << STOP.index());
    /// Those that an instruction of the thread itself raises; they come first.
    pub(super) const OF_FAULTS: Self = Self::of(SEGV).with(BUS).with(ILL).with(TRAP).with(FPE).with(SYS);
    /// CHLD, CONT, URG, WINCH.
    const IGNORED_BY_DEFAULT: Self = Self::of(CHLD).with(CONT).with(Signal(23)).with(Signal(28));

    /// The set of `signal` alone.
    pub(crate) const fn of(signal: Signal) -> Self {
        Self(1 << signal.index())
    }

    /// This set and `signal`.
    pub(crate) const fn with(self, signal: Signal) -> Self {
        Self(self.0 | Self::of(signal).0)
    }

    /// Whether the sets have a signal in common.
    pub(crate) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn has(self, signal: Signal) -> bool {
        self.meets(Self::of(signal))
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The signal with the lowest number.
    pub(crate) const fn first(self) -> Option<Signal> {
        if self.is_empty() { None } else { Some(Signal(self.0.trailing_zeros() as u8 + 1)) }
    }
}

impl BitOr for Set {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Set {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for Set {
    type Output = Self;

    fn not(self) -> Self {
        Self(!self.0)
    }
}
