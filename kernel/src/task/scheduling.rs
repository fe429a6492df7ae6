//! What the scheduler keeps of a task: where it is, what it waits for, and the links of the queues that it is on.
//!
//! It lies in the task struct, so that queues need no memory of their own and nothing of a waiting task's stack is known to anybody
//! (INV-PRIVATE). All of it belongs to whoever holds the run queue's lock; but the files that make queues of it (`list`, `lot`,
//! `timers`) know neither locks nor tasks: the tests of the host run them as they are.

use core::cell::Cell;
use core::ops::Deref;
use core::ptr::NonNull;

use super::list::{Followers, Links, List};

/// Where a task is, as the scheduler sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// On a CPU.
    Running,
    /// Not started yet.
    New,
    /// Ready to run.
    Queued,
    /// Waiting for a tick.
    Sleeping,
    /// Waiting in the parking lot.
    Parked,
    /// Never to run again.
    Dead,
}

/// What tasks park on: two words that who waits and who wakes agree on.
///
/// ```text
///   the kernel's own waits      an even address, of what is waited for             0
///   a word of a program         the address of its memory, and one: odd            the word's
///   one that programs share     one                                                the physical address of the word
/// ```
///
/// So no program wakes or moves what waits for anything but its own words, wherever those are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key(pub(crate) usize, pub(crate) usize);

impl From<usize> for Key {
    /// An address of the kernel's.
    fn from(address: usize) -> Self {
        debug_assert!(address.is_multiple_of(2), "what is waited for is aligned");
        Self(address, 0)
    }
}

impl Key {
    /// The word at `addr` of the memory whose struct is at `memory`.
    pub(crate) const fn of_word(memory: usize, addr: usize) -> Self {
        Self(memory | 1, addr)
    }

    /// The word at physical address `at`, which several memories have.
    pub(crate) const fn of_common_word(at: usize) -> Self {
        Self(1, at)
    }
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// Somebody woke it, or it was not wanted any more.
    Called,
    /// Its time was over.
    TimedOut,
    /// [`interrupt`](super::sched::interrupt) ended it.
    Interrupted,
}

/// How a task wants to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wait {
    /// Until when, in nanoseconds of the kernel's clock, if not for ever.
    pub(crate) until: Option<u64>,
    /// Whether [`interrupt`](super::sched::interrupt) ends it.
    pub(crate) interruptible: bool,
    /// A word for whoever wakes to judge by.
    pub(crate) word: u32,
}

impl Wait {
    /// For ever, and nothing interrupts it.
    pub(crate) const FOR_EVER: Self = Self { until: None, interruptible: false, word: 0 };
}

/// When a task is woken that no timer wakes.
pub(crate) const NEVER: u64 = u64::MAX;

/// The CPUs of a task that may run on any, by bit.
pub(crate) const ANYWHERE: u64 = u64::MAX;

/// What the scheduler keeps of a task.
#[derive(Debug)]
pub(crate) struct Scheduling {
    pub(crate) state: Cell<State>,
    /// The CPUs that it may run on, by bit.
    pub(crate) cpus: Cell<u64>,
    /// How its last wait ended.
    pub(crate) woken: Cell<Woken>,
    /// Whether [`interrupt`](super::sched::interrupt) ends its wait.
    pub(crate) interruptible: Cell<bool>,
    /// Whether it is the first who parked on its key, and stands for all of them in the lot.
    pub(super) is_first: Cell<bool>,
    /// A word for whoever wakes it to judge by.
    pub(crate) word: Cell<u32>,
    /// The tick in which the timer wakes it, while it sleeps or is parked for a time; or [`NEVER`].
    pub(crate) wake_at: Cell<u64>,
    /// Where among those whom the timer wakes.
    pub(super) timer_place: Cell<u16>,
    /// What it is parked on, while it is.
    pub(crate) parked_on: Cell<Key>,
    /// When it parked there, by the count of all that ever parked.
    pub(super) since: Cell<u64>,
    /// Its place among those who are ready, or who are parked on its key.
    pub(super) in_queue: Links,
    /// Its place in a bucket of the lot, if it is the first on its key.
    pub(super) in_bucket: Links,
    /// Its place among those whom the timer wakes.
    pub(super) in_timer: Links,
    /// Who parked on its key after it, if it is the first.
    pub(super) followers: Followers,
}

impl Scheduling {
    pub(crate) const fn new(state: State) -> Self {
        Self {
            state: Cell::new(state),
            cpus: Cell::new(ANYWHERE),
            woken: Cell::new(Woken::Called),
            interruptible: Cell::new(false),
            is_first: Cell::new(false),
            word: Cell::new(0),
            wake_at: Cell::new(NEVER),
            timer_place: Cell::new(0),
            parked_on: Cell::new(Key(0, 0)),
            since: Cell::new(0),
            in_queue: Links::new(),
            in_bucket: Links::new(),
            in_timer: Links::new(),
            followers: List::new(),
        }
    }
}

/// A task, as far as the scheduler's queues know it.
///
/// Having a `Node` means that the struct is there, and that whoever has it holds the run queue's lock: so the cells are used by one
/// CPU at a time. It holds no count: a task that is on a queue is not dead, and a task that is not dead has one of the scheduler's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Node(NonNull<Scheduling>);

// SAFETY: a node is used under the run queue's lock, by whichever CPU has it.
unsafe impl Send for Node {}

impl Node {
    /// The node at `place`.
    ///
    /// # Safety
    ///
    /// The struct is there for as long as the node is on a queue or is used, and whoever uses it holds the run queue's lock.
    pub(crate) const unsafe fn new(place: NonNull<Scheduling>) -> Self {
        Self(place)
    }

    /// Where it is.
    pub(crate) const fn place(self) -> NonNull<Scheduling> {
        self.0
    }
}

impl Deref for Node {
    type Target = Scheduling;

    fn deref(&self) -> &Scheduling {
        // SAFETY: the struct is there (see the type); its fields are cells, so that there are shared references only.
        unsafe { self.0.as_ref() }
    }
}
