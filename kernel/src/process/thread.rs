//! A thread: what a task has that runs a program.
//!
//! It lies in the task's struct, so making one allocates nothing. What is here belongs to the thread itself; others look at it, and
//! raise what says that it has to end.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed};

use super::Process;
use super::links::Link;
use super::signal::ThreadSignals;
use crate::task::Task;

/// How far a thread is with its end. It goes on from here if it is killed on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// On its process's list.
    Listed,
    /// Off it, and others are there.
    Off,
    /// Off it, and it was the last.
    Last,
}

/// What a program's task has beside its stack and its registers.
#[derive(Debug)]
pub(crate) struct Thread {
    process: Arc<Process>,
    /// What programs call it: its task's number, or its process's, if it took the first thread's place.
    id: AtomicUsize,
    /// Where a zero is written when it ends, and waited for; zero: nowhere.
    clear_child_tid: AtomicUsize,
    /// The child that runs on its memory, and that it waits for; zero: none.
    pub(super) lent_to: AtomicUsize,
    /// The thread whose memory it runs on, and that waits for it; zero: none.
    pub(super) borrows_from: AtomicUsize,
    /// Its list of robust futexes; zero: none.
    robust_list: AtomicUsize,
    signals: ThreadSignals,
    stage: AtomicU8,
    /// How many steps of its end are behind it, once it goes through them one by one.
    steps: AtomicU8,
    /// Whether it was told to end.
    pub(super) told: AtomicBool,
    /// Its neighbours among the process's threads, and in the table of tasks.
    pub(super) beside: Link<Task>,
    pub(super) by_number: Link<Task>,
}

impl Thread {
    /// A thread of `process`, for the task with number `id`.
    pub(crate) const fn new(process: Arc<Process>, id: usize) -> Self {
        Self {
            process,
            id: AtomicUsize::new(id),
            clear_child_tid: AtomicUsize::new(0),
            lent_to: AtomicUsize::new(0),
            borrows_from: AtomicUsize::new(0),
            robust_list: AtomicUsize::new(0),
            signals: ThreadSignals::new(),
            stage: AtomicU8::new(Stage::Listed as u8),
            steps: AtomicU8::new(0),
            told: AtomicBool::new(false),
            beside: Link::new(),
            by_number: Link::new(),
        }
    }

    /// The process that it is a thread of.
    pub(crate) const fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Its number, as programs see it.
    pub(crate) fn id(&self) -> usize {
        self.id.load(Relaxed)
    }

    /// Takes over the number of its process, whose only thread it is.
    pub(super) fn become_first(&self) {
        self.id.store(self.process.id(), Relaxed);
    }

    /// Where a zero is written when it ends; zero: nowhere.
    pub(crate) fn clear_child_tid(&self) -> usize {
        self.clear_child_tid.load(Relaxed)
    }

    /// Sets where a zero is written when it ends.
    pub(crate) fn set_clear_child_tid(&self, addr: usize) {
        self.clear_child_tid.store(addr, Relaxed);
    }

    /// Whether it has to end: its process does, or another thread of it executes another program.
    pub(crate) fn must_end(&self) -> bool {
        let heir = self.process.heir();
        self.process.is_ending() || (heir != 0 && heir != self.id())
    }

    /// Its signals.
    pub(crate) const fn signals(&self) -> &ThreadSignals {
        &self.signals
    }

    /// Its list of robust futexes; zero: none.
    pub(crate) fn robust_list(&self) -> usize {
        self.robust_list.load(Relaxed)
    }

    /// Where a zero is to be written, and no second time.
    pub(super) fn take_clear_child_tid(&self) -> usize {
        let addr = self.clear_child_tid();
        self.set_clear_child_tid(0);
        addr
    }

    /// How many steps of its end are behind it.
    pub(super) fn steps(&self) -> usize {
        self.steps.load(Relaxed).into()
    }

    /// Goes on to the next step of its end.
    pub(super) fn next_step(&self) {
        self.steps.store(self.steps.load(Relaxed) + 1, Relaxed);
    }

    /// Sets where its list of robust futexes is.
    pub(crate) fn set_robust_list(&self, head: usize) {
        self.robust_list.store(head, Relaxed);
    }

    pub(super) fn stage(&self) -> Stage {
        match self.stage.load(Relaxed) {
            0 => Stage::Listed,
            1 => Stage::Off,
            _ => Stage::Last,
        }
    }

    pub(super) fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Relaxed);
    }
}
