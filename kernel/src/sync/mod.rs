//! Locks that outlive their holders: a task that is killed by a stack overflow, at any instruction, leaves none wedged.
//!
//! A task dies where its own code touches the guard, and its frames are never unwound: no guard value of Rust's is dropped. So
//! who holds what is written down outside the stack, as robust futexes do (Linux, `Documentation/locking/robust-futex-ABI`):
//!
//! ```text
//!   task struct                    lock
//!   | taking | ──────────────────> | owner: number of the task, or 0   |
//!   | held 0 | ──> older lock      | poisoned                          |
//!   | held 1 | ──> newer lock      | readers: numbers, of a read-write |
//!   |  ...   |
//!
//!   take      taking = lock │ owner: 0 -> me │ on the list │ taking = none │ <-- the section begins
//!   release   taking = lock │ off the list   │ owner: me -> 0 │ wake       │ taking = none
//! ```
//!
//! Each step is one store, so there is a truth at every instruction, and [`HeldLocks::give_back`] reads it from the words alone:
//! a lock whose owner is the dead task is released, and poisoned unless it stands in `taking`, where no section has begun or
//! all is put right. Waiters get [`PoisonError`](poison::PoisonError) in the manner of `std::sync`, with the guard in it. What a
//! poisoned lock protects may be cut in the middle of anything; [`SpinLock::lock_or_reset`] and its like leave it behind and
//! start anew.
//!
//! | lock | held with | who waits | a fault under it |
//! | --- | --- | --- | --- |
//! | [`SpinLock`] | interrupts and preemption off | spins | kills the holder |
//! | [`Mutex`] | interrupts on | sleeps in the run queue's parking lot | kills the holder |
//! | [`RwLock`] | interrupts on | sleeps; eight readers at once | kills the holder; readers do not poison |
//! | [`VitalLock`], [`Section`] | interrupts and preemption off | spins | stops the machine |
//!
//! The last ones are for the frame allocator, the run queue and the page tables. They check at their door that the stack has
//! room for the section, so that the overflow comes before anything is held.
//!
//! | file | what |
//! | --- | --- |
//! | `word`, `raw`, `held` | the protocol: words only, tested on the host by cutting it at every step |
//! | `current` | whose list it is: the task's, or the CPU's |
//! | `spin`, `mutex`, `rwlock`, `vital` | values behind locks, and guards |
//! | `poison` | the error |
//! | `rcu` | reading without a lock, and freeing after a grace period |
//! | `declared` | every lock there is, by name |
//!
//! # Context
//!
//! Spin locks and vital ones: task and interrupt. Mutexes and read-write locks: tasks, with preemption on. None in the fault path
//! before a task's fate is sealed (INV-FAULT).

pub(crate) mod current;
pub(crate) mod declared;
mod held;
mod mutex;
mod poison;
mod raw;
pub(crate) mod rcu;
mod rwlock;
mod spin;
mod vital;
mod word;

/// Where tasks wait for locks.
use crate::task::sched as lot;

pub(crate) use current::{give_back_emergencies, give_back_handlers, give_back_task, names_of_handlers, names_of_task};
pub(crate) use held::{GivenBack, HeldLocks, HeldNames, Holder};
pub(crate) use mutex::{Mutex, MutexGuard};
pub(crate) use poison::{LockResult, values_left};
pub(crate) use raw::{Kind, RawLock, State};
pub(crate) use rwlock::RwLock;
pub(crate) use spin::{SpinGuard, SpinLock, Still};
pub(crate) use vital::{Section, VitalGuard, VitalLock};

/// A lock, whatever it protects: what the crashes need of it.
pub(crate) trait AnyLock: Sync {
    /// Whether it is free, held or poisoned: of the moment.
    fn state(&self) -> State;

    /// Forgets that a holder was killed. For a lock whose value was put right, or does not matter.
    fn clear_poison(&self);

    /// Runs `then` while the lock is held: for writing, if there is a choice.
    fn hold(&self, then: fn());

    /// Runs `then` while the lock is shared, if it can be.
    fn hold_shared(&self, then: fn()) {
        self.hold(then);
    }
}
