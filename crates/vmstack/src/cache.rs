//! What a CPU keeps of an area: ready stacks that it freed lately, handed out again without a lock.
//!
//! A CPU has two magazines (Bonwick & Adams, USENIX 2001), *loaded* and *previous*. It takes from the loaded one and gives to it. When
//! that is empty or full the two change places; only when both are, one is exchanged with the depot of the node. So after an
//! exchange there are at least as many operations as a magazine has rounds, whatever the pattern, before the next one that finds
//! something. Small magazines, of which a depot may have some, are put together.
//!
//! ```text
//!   alloc <── loaded ──┐                           ┌──> full ones ──> over budget: unmapped
//!   free  ──> loaded   ├── exchange when both ──── depot
//!             previous ┘   are empty or full       └──< full ones
//! ```
//!
//! How many rounds a magazine has adapts: a CPU that comes to the depot again after few operations gets larger ones, and one that
//! comes seldom gets smaller ones.
//!
//! What is needed for a hit lies at the start of lines that no other CPU writes; a hit takes no locked instruction.
//! Whoever touches it holds the platform's guard: no migration, no re-entry.
//!
//! Contexts: task and interrupt, under a guard. Never NMI, never the fault path.

use core::cell::UnsafeCell;
use core::fmt;

use crate::chain::Chain;
use crate::flight::Flight;
use crate::geometry::SlotIndex;
use crate::platform::{Node, Platform};
use crate::slots::Home;
use crate::usage::CpuCounters;

/// The fewest rounds of a magazine.
pub(crate) const FEWEST_ROUNDS: u32 = 8;
/// The most rounds of a magazine.
pub(crate) const MOST_ROUNDS: u32 = 64;
/// A CPU that visits the depot more often than once in so many times the rounds of a magazine gets larger ones.
pub(crate) const OFTEN: u32 = 8;
/// A CPU that visits the depot less often than that gets smaller ones.
pub(crate) const SELDOM: u32 = 64;

/// What a CPU touches at each allocation.
#[derive(Debug)]
pub(crate) struct Near {
    pub(crate) loaded: Chain,
    pub(crate) previous: Chain,
    /// How many rounds a magazine has, for now.
    pub(crate) rounds: u32,
    /// The hold word of a stack that nobody else wants anything of, with its frames on this CPU's node.
    pub(crate) home: Home,
    /// The stack of the task that died last on this CPU, until the next task gives it back.
    pub(crate) dead: Option<SlotIndex>,
    /// The operations that were counted when the depot was last visited, modulo 2^32.
    pub(crate) visited: u32,
    /// The last announcement of memory pressure that this CPU has answered.
    pub(crate) answered: u32,
}

impl Near {
    /// Whether the budget is so small that this CPU keeps no stack: they are all in the depot.
    pub(crate) const fn keeps_none(&self) -> bool {
        self.rounds == 0
    }
}

/// What a CPU has beside its magazines: it looks at this when it exchanges one.
#[derive(Debug)]
pub(crate) struct Far<P: Platform> {
    /// Unmapped stacks, until every CPU has flushed them.
    pub(crate) batch: Flight<P, Chain>,
    /// Stacks that went deep and wait for others, which may be handed out as they are.
    pub(crate) deep: Chain,
    /// Such stacks with their dirty bits taken back, until they may be handed out.
    pub(crate) recovering: Flight<P, Chain>,
    /// Stacks of other nodes, on their way home.
    pub(crate) away: Chain,
}

/// What one CPU keeps of an area. Made when the area is, and never unmapped.
#[repr(C, align(128))]
pub(crate) struct Line<P: Platform> {
    near: UnsafeCell<Near>,
    pub(crate) counters: CpuCounters,
    far: UnsafeCell<Far<P>>,
}

// SAFETY: (1) the cells are reached only through `near` and `far`, whose callers prove that they alone are there; what they hold
// (tickets) may move between CPUs; (2) the counters are atomics.
unsafe impl<P: Platform> Sync for Line<P> {}

impl<P: Platform> Line<P> {
    /// The lines of a CPU of `node`, which keeps nothing yet.
    pub(crate) const fn new(node: Node) -> Self {
        let (loaded, previous) = (Chain::new(), Chain::new());
        let near = Near {
            loaded,
            previous,
            rounds: FEWEST_ROUNDS,
            home: Home::new(node),
            dead: None,
            visited: 0,
            answered: 0,
        };
        let far = Far {
            batch: Flight::new(Chain::new()),
            deep: Chain::new(),
            recovering: Flight::new(Chain::new()),
            away: Chain::new(),
        };
        Self { near: UnsafeCell::new(near), counters: CpuCounters::new(), far: UnsafeCell::new(far) }
    }

    /// What this CPU touches at each allocation.
    ///
    /// # Safety
    ///
    /// These are the lines of the CPU on which the caller has a guard, the guard outlives the reference, and no other reference to
    /// this part is alive.
    #[expect(clippy::mut_from_ref, reason = "the guard makes it exclusive, as the caller proves")]
    #[inline]
    pub(crate) unsafe fn near(&self) -> &mut Near {
        // SAFETY: the guard means that no other code runs here, and the caller has no other reference itself.
        unsafe { &mut *self.near.get() }
    }

    /// What this CPU has beside its magazines.
    ///
    /// # Safety
    ///
    /// As for [`near`](Self::near).
    #[expect(clippy::mut_from_ref, reason = "the guard makes it exclusive, as the caller proves")]
    #[inline]
    pub(crate) unsafe fn far(&self) -> &mut Far<P> {
        // SAFETY: the guard means that no other code runs here, and the caller has no other reference itself.
        unsafe { &mut *self.far.get() }
    }
}

impl<P: Platform> fmt::Debug for Line<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("counters", &self.counters).finish_non_exhaustive()
    }
}
