//! Callbacks: the chains in which they wait, first for their period and then for the task that runs them.
//!
//! A [`Head`] lies in the object that is to be freed, so that waiting allocates nothing (INV-FREE). Each CPU has a queue of
//! its own, in up to four chains, each for the period of one number:
//!
//! ```text
//!   CPU 0:  7 ─> head ─> head        due when period 7 is over
//!           8 ─> head
//!   CPU 1:  8 ─> head                        whole chains
//!                              ready: ──────────────────────> the task `rcu`
//! ```
//!
//! # Context
//!
//! A CPU's queue: that CPU, in a [`Section`]. What is ready: anywhere.

use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::sync::Section;

/// What frees the object that a head lies in.
///
/// # Safety
///
/// The head is one that [`call`](super::call) was given with this function, its period is over, and nobody uses it any more.
pub(crate) type Callback = unsafe fn(*const Head);

/// What an object has in it to be freed after a grace period.
#[derive(Debug)]
pub(crate) struct Head {
    next: AtomicPtr<Head>,
    /// A [`Callback`], once it waits.
    callback: AtomicPtr<()>,
}

impl Head {
    pub(crate) const fn new() -> Self {
        Self { next: AtomicPtr::new(ptr::null_mut()), callback: AtomicPtr::new(ptr::null_mut()) }
    }

    /// # Panics
    ///
    /// If it waits already.
    pub(super) fn prepare(&self, callback: Callback) {
        let before = self.callback.swap(callback as *mut (), Ordering::Relaxed);
        assert!(before.is_null(), "an object is given to a grace period twice");
        self.next.store(ptr::null_mut(), Ordering::Relaxed);
    }

    fn next(&self) -> *mut Self {
        self.next.load(Ordering::Relaxed)
    }
}

/// Heads in a row; the last one's `next` is null.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    first: *mut Head,
    last: *mut Head,
    heads: usize,
}

impl Chain {
    pub(super) const EMPTY: Self = Self { first: ptr::null_mut(), last: ptr::null_mut(), heads: 0 };

    /// A chain of `head` alone, whose `next` is null.
    pub(super) const fn of(head: *mut Head) -> Self {
        Self { first: head, last: head, heads: 1 }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    pub(super) const fn heads(&self) -> usize {
        self.heads
    }

    /// Appends `other`.
    ///
    /// # Safety
    ///
    /// The heads of both wait, and nobody else has them.
    unsafe fn append(&mut self, other: Self) {
        if other.is_empty() {
            return;
        }
        match self.is_empty() {
            true => self.first = other.first,
            // SAFETY: the caller's promise.
            false => unsafe { &*self.last }.next.store(other.first, Ordering::Relaxed),
        }
        self.last = other.last;
        self.heads += other.heads;
    }
}

/// The heads that wait for one period.
#[derive(Clone, Copy, Debug)]
struct Batch {
    number: u64,
    chain: Chain,
}

/// As many numbers as can wait at once: see [`Queue::push`].
const BATCHES: usize = 4;
/// In `due`: nothing waits.
const NEVER: u64 = u64::MAX;

/// What waits on one CPU.
#[derive(Debug)]
pub(super) struct Queue {
    batches: [Batch; BATCHES],
    /// The lowest number that something waits for.
    due: u64,
}

impl Queue {
    const fn new() -> Self {
        Self { batches: [Batch { number: 0, chain: Chain::EMPTY }; BATCHES], due: NEVER }
    }

    /// The lowest number of a period that something here waits for.
    pub(super) fn due(&self) -> Option<u64> {
        (self.due != NEVER).then_some(self.due)
    }

    /// Appends `chain`, which waits for period `number`; gives what was in its place, for a period that is over long since.
    ///
    /// Numbers are at most three above the last period that is over, so of four in a row the oldest is over.
    ///
    /// # Safety
    ///
    /// As for [`call`](super::call), for each head; nobody else has the chain.
    #[must_use]
    pub(super) unsafe fn push(&mut self, number: u64, chain: Chain) -> Chain {
        let batch = &mut self.batches[number as usize % BATCHES];
        let older =
            if batch.number == number { Chain::EMPTY } else { core::mem::replace(&mut batch.chain, Chain::EMPTY) };
        batch.number = number;
        // SAFETY: the caller's promise; what is in the chain came the same way.
        unsafe { batch.chain.append(chain) };
        self.due = self.due.min(number);
        older
    }

    /// Takes what waits for periods up to `over`.
    pub(super) fn take_due(&mut self, over: u64) -> Chain {
        let mut chain = Chain::EMPTY;
        self.due = NEVER;
        for batch in &mut self.batches {
            if batch.chain.is_empty() {
                continue;
            }
            if batch.number <= over {
                // SAFETY: each chain is this queue's alone.
                unsafe { chain.append(core::mem::replace(&mut batch.chain, Chain::EMPTY)) };
            } else {
                self.due = self.due.min(batch.number);
            }
        }
        chain
    }
}

/// A queue for each of so many CPUs.
pub(super) struct Queues<const CPUS: usize> {
    queues: [UnsafeCell<Queue>; CPUS],
    /// How many heads are on each: written by its CPU.
    lengths: [AtomicUsize; CPUS],
}

// SAFETY: a queue is used by its CPU alone, in a section: `of`.
unsafe impl<const CPUS: usize> Sync for Queues<CPUS> {}

impl<const CPUS: usize> Queues<CPUS> {
    pub(super) const fn new() -> Self {
        let queues = [const { UnsafeCell::new(Queue::new()) }; CPUS];
        Self { queues, lengths: [const { AtomicUsize::new(0) }; CPUS] }
    }

    /// How many heads are on the queue of `cpu`.
    pub(super) fn length(&self, cpu: usize) -> usize {
        self.lengths[cpu].load(Ordering::Relaxed)
    }

    /// So many `heads` were put on the queue of `cpu`, which runs this.
    pub(super) fn lengthen(&self, cpu: usize, heads: usize) {
        self.lengths[cpu].store(self.length(cpu) + heads, Ordering::Relaxed);
    }

    /// So many `heads` were taken off the queue of `cpu`, which runs this.
    pub(super) fn shorten(&self, cpu: usize, heads: usize) {
        self.lengths[cpu].store(self.length(cpu) - heads, Ordering::Relaxed);
    }

    /// The queue of `cpu`.
    ///
    /// # Safety
    ///
    /// `cpu` runs this, in the section, and no other reference from this function is alive.
    #[expect(clippy::mut_from_ref, reason = "the caller proves that it is alone")]
    pub(super) unsafe fn of(&self, cpu: usize, _section: &Section) -> &mut Queue {
        // SAFETY: the caller's promise: interrupts are off, so the CPU does nothing else meanwhile.
        unsafe { &mut *self.queues[cpu].get() }
    }
}

/// Chains on their way from one CPU to another: pushed whole, taken all at once.
#[derive(Debug)]
pub(super) struct Basket {
    first: AtomicPtr<Head>,
}

impl Basket {
    pub(super) const fn new() -> Self {
        Self { first: AtomicPtr::new(ptr::null_mut()) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.load(Ordering::Relaxed).is_null()
    }

    /// Puts `chain` in.
    pub(super) fn put(&self, chain: Chain) {
        if chain.is_empty() {
            return;
        }
        let mut first = self.first.load(Ordering::Relaxed);
        loop {
            // SAFETY: the chain is the caller's, and so is its last head.
            unsafe { &*chain.last }.next.store(first, Ordering::Relaxed);
            // Release: pairs with the Acquire in `take`.
            match self.first.compare_exchange_weak(first, chain.first, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }

    /// Takes everything out: the first head of a chain whose last one's `next` is null.
    pub(super) fn take(&self) -> *mut Head {
        // Acquire: pairs with the Release in `put`.
        self.first.swap(ptr::null_mut(), Ordering::Acquire)
    }
}

/// What CPUs left behind that went offline: one chain, however many heads it has, so that nobody has to look at each.
///
/// It is kept as a ring, by its last head, whose `next` is the first.
#[derive(Debug)]
pub(super) struct Orphans {
    last: AtomicPtr<Head>,
}

impl Orphans {
    pub(super) const fn new() -> Self {
        Self { last: AtomicPtr::new(ptr::null_mut()) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.last.load(Ordering::Relaxed).is_null()
    }

    /// Leaves `chain` here.
    pub(super) fn put(&self, chain: Chain, _section: &Section) {
        let mut chain = chain;
        while !chain.is_empty() {
            // SAFETY: both are the caller's alone.
            unsafe { chain.append(self.take()) };
            // SAFETY: the chain is not empty, so its last head is there.
            unsafe { &*chain.last }.next.store(chain.first, Ordering::Relaxed);
            // Release: pairs with the Acquire in `take`.
            if self.last.compare_exchange(ptr::null_mut(), chain.last, Ordering::Release, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Takes everything, as a chain that says of itself that it has no heads: nobody knows how many.
    pub(super) fn take(&self) -> Chain {
        // Acquire: pairs with the Release in `put`.
        let last = self.last.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: null, or the last head of a ring that is this caller's from here on.
        let Some(end) = (unsafe { last.as_ref() }) else { return Chain::EMPTY };
        Chain { first: end.next.swap(ptr::null_mut(), Ordering::Relaxed), last, heads: 0 }
    }
}

/// The chain that is being run: in a static, so that a task that dies in the middle of it loses one object.
#[derive(Debug)]
pub(super) struct Running(AtomicPtr<Head>);

impl Running {
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed).is_null()
    }

    /// Takes all of `ready` over, if nothing is left here. True if there is something now.
    pub(super) fn refill(&self, ready: &Basket, _section: &Section) -> bool {
        if self.is_empty() {
            self.0.store(ready.take(), Ordering::Relaxed);
        }
        !self.is_empty()
    }

    /// Takes the first head and frees its object. False if there is none.
    ///
    /// # Safety
    ///
    /// One task at a time calls this.
    pub(super) unsafe fn run_one(&self) -> bool {
        let head = self.0.load(Ordering::Relaxed);
        if head.is_null() {
            return false;
        }
        // SAFETY: it waits, so its object is there.
        let waiting = unsafe { &*head };
        let (next, callback) = (waiting.next(), waiting.callback.load(Ordering::Relaxed));
        self.0.store(next, Ordering::Relaxed);
        // SAFETY: `prepare` stored a `Callback`.
        let callback: Callback = unsafe { core::mem::transmute(callback) };
        // SAFETY: the head is off the chain, its period is over, and the callback is its own.
        unsafe { callback(head) };
        true
    }
}
