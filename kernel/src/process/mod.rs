//! Processes and their threads, with Linux's rules for their lives.
//!
//! A process is a group of threads with one memory, one table of files, one number and one end, which its parent is told of. What
//! it owns belongs to the process struct, and what a thread owns to its task's, never to a stack: when a task is killed in the
//! middle of a call, all of it is found here and given back (INV-ALONE).
//!
//! | file | what |
//! | --- | --- |
//! | `thread` | what a task has that runs a program |
//! | `links`, `tree` | who is there, and whose |
//! | `start`, `clone` | new ones: the first of a tree, and copies of others |
//! | `exec` and `elf` | another program in the same process |
//! | `exit` | the end of a thread, and of a process |
//! | `wait` | waiting for the end of a child |
//! | `group` | process groups and sessions |
//! | `limits` | what a process may use at most |
//! | `signal` | signals |
//! | `futex`, `robust` | what threads wait on in their memory, and what is done about it when one ends |
//!
//! What may not enter: how a task is switched to (`task`), what a file or a mapping is (`fs`, `mm`).

use alloc::sync::Arc;
use core::ops::Deref;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::arch::clock;
use crate::fs::{FileTable, Files, Place};
use crate::sync::AnyLock;
use crate::task::kept::Keep;
use crate::task::sched::CurrentTask;
use crate::task::wait::Event;
use crate::task::{Task, names, sched};

pub(crate) mod clone;
pub(crate) mod elf;
mod end;
pub(crate) mod exec;
mod exit;
pub(crate) mod futex;
pub(crate) mod group;
pub(crate) mod limits;
mod links;
pub(crate) mod robust;
pub(crate) mod signal;
pub(crate) mod start;
mod thread;
pub(crate) mod tree;
pub(crate) mod wait;

pub(crate) use end::End;
pub(crate) use exit::{
    MOST_DEATHS, become_only_thread, change_program, end_all, end_in_steps, exit_current, exit_thread, obey,
};
pub(crate) use thread::Thread;

use end::AtomicEnd;
use limits::Limits;
use links::{Link, List};
use signal::ProcessSignals;
use tree::{OfParent, OfProcess};

/// A process.
#[derive(Debug)]
pub(crate) struct Process {
    id: usize,
    /// Under the tree's lock: its parent, its children, its neighbours among its parent's and in the table, its threads.
    parent: AtomicPtr<Process>,
    children: List<Process, OfParent>,
    beside: Link<Process>,
    by_number: Link<Process>,
    threads: List<Task, OfProcess>,
    thread_count: AtomicUsize,
    /// The numbers of its group and its session. They change under the tree's lock.
    group: AtomicUsize,
    session: AtomicUsize,
    /// The signal that its parent gets at its end; zero: none.
    exit_signal: AtomicU8,
    /// Whether it has executed a program since it was forked.
    executed: AtomicBool,
    /// The thread that executes another program, and that the others make room for; zero: none.
    heir: AtomicUsize,
    /// How it ends, once that is decided, and whether it has ended.
    end: AtomicEnd,
    ended: AtomicBool,
    /// A child ended; or a thread, while another one waits for that; or the process, and the kernel waits for it.
    news: Event,
    files: Files,
    place: Place,
    signals: ProcessSignals,
    limits: Limits,
    /// `personality`, as it was set.
    pub(crate) personality: AtomicU32,
    /// Ticks that its threads had, and those of children that were waited for.
    ticks: AtomicU64,
    /// Cycles of a CPU that its threads had, up to the last switch of each.
    cycles: AtomicU64,
    children_ticks: AtomicU64,
    /// What it says that it has done, for the crash tests.
    pub(crate) work: AtomicUsize,
}

/// What is long about its end came before: see `exit`.
impl Keep for Arc<Process> {}

impl Process {
    /// A process without threads, in a group and a session of its own.
    pub(crate) fn new(id: usize, files: Arc<FileTable>) -> Self {
        Self {
            id,
            parent: AtomicPtr::new(ptr::null_mut()),
            children: List::new(),
            beside: Link::new(),
            by_number: Link::new(),
            threads: List::new(),
            thread_count: AtomicUsize::new(0),
            group: AtomicUsize::new(id),
            session: AtomicUsize::new(id),
            exit_signal: AtomicU8::new(signal::CHLD.number()),
            executed: AtomicBool::new(true),
            heir: AtomicUsize::new(0),
            end: AtomicEnd::none(),
            ended: AtomicBool::new(false),
            news: Event::new(),
            files: Files::new(files),
            place: Place::new(),
            signals: ProcessSignals::new(),
            limits: Limits::new(),
            personality: AtomicU32::new(0),
            ticks: AtomicU64::new(0),
            cycles: AtomicU64::new(0),
            children_ticks: AtomicU64::new(0),
            work: AtomicUsize::new(0),
        }
    }

    /// What a child has from `parent` at its beginning.
    fn inherit(&self, parent: &Self, exit_signal: u8) {
        self.limits.copy_from(&parent.limits);
        self.personality.store(parent.personality.load(Ordering::Relaxed), Ordering::Relaxed);
        self.group.store(parent.group(), Ordering::Relaxed);
        self.session.store(parent.session(), Ordering::Relaxed);
        self.exit_signal.store(exit_signal, Ordering::Relaxed);
        self.executed.store(false, Ordering::Relaxed);
    }

    pub(crate) const fn id(&self) -> usize {
        self.id
    }

    /// One more count of a process that an `Arc` holds.
    pub(crate) fn counted(&self) -> Arc<Self> {
        // SAFETY: every process that others know is in an `Arc`, and a borrow of it shows that one is alive.
        unsafe { Arc::increment_strong_count(self) };
        // SAFETY: as above; the count is this one's.
        unsafe { Arc::from_raw(self) }
    }

    /// The number of its parent; zero if the kernel is.
    pub(crate) fn parent_id(&self) -> usize {
        tree::lock().parent(self).map_or(0, Self::id)
    }

    /// The open files, for the process's own threads: see [`Files`].
    pub(crate) const fn files(&self) -> &Files {
        &self.files
    }

    /// Where it is in the file system.
    pub(crate) const fn place(&self) -> &Place {
        &self.place
    }

    /// Its signals.
    pub(crate) const fn signals(&self) -> &ProcessSignals {
        &self.signals
    }

    /// The process's locks: files, place, signals.
    pub(crate) fn locks(&self) -> [&dyn AnyLock; 3] {
        [self.files.any_lock(), self.place.any_lock(), self.signals.any_lock()]
    }

    /// What it may use at most.
    pub(crate) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Threads that have not ended.
    pub(crate) fn thread_count(&self) -> usize {
        self.thread_count.load(Ordering::Relaxed)
    }

    /// Counts threads, under the tree's lock, and says how many there are now.
    fn count_threads(&self, change: isize) -> usize {
        let count = self.thread_count().saturating_add_signed(change);
        self.thread_count.store(count, Ordering::Relaxed);
        count
    }

    /// Decides that it ends, and how, unless that is decided. Its threads are told by the caller.
    fn decide(&self, end: End) {
        self.end.set(end);
        if self.heir() != 0 {
            self.news.announce();
        }
    }

    /// Whether its end is decided: each of its threads ends as soon as it looks.
    pub(crate) fn is_ending(&self) -> bool {
        self.end.get().is_some()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        // Acquire: how it ended is seen too.
        self.ended.load(Ordering::Acquire)
    }

    /// How the process ended, if it has.
    pub(crate) fn end(&self) -> Option<End> {
        if self.has_ended() { self.end.get() } else { None }
    }

    /// The thread that executes another program, for which the others make room; zero if there is none.
    fn heir(&self) -> usize {
        self.heir.load(Ordering::Relaxed)
    }

    /// Waits, in the kernel, until a process that the kernel started has ended.
    pub(crate) fn wait_for_end(&self) -> End {
        self.news.wait_for(|| self.end())
    }

    /// Whether its number, its group's or its session's is `number`.
    fn has_number(&self, number: usize) -> bool {
        [self.id, self.group(), self.session()].contains(&number)
    }

    /// Notes that one of its threads had a tick of a CPU. Any context.
    pub(crate) fn count_tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// Makes it look at its children: one of them was stopped, or goes on.
    fn child_has_news(&self) {
        self.news.announce();
    }

    /// Notes that one of its threads had so many cycles of a CPU.
    pub(crate) fn count_cycles(&self, cycles: u64) {
        self.cycles.fetch_add(cycles, Ordering::Relaxed);
    }

    /// How long its threads had CPUs, in nanoseconds; `task` is the current one.
    pub(crate) fn cpu_time(&self, task: &Task) -> u64 {
        clock::nanoseconds(self.cycles.load(Ordering::Relaxed).saturating_add(task.cycles_since_switch()))
    }

    /// Ticks that its threads had, and those of children that were waited for.
    pub(crate) fn ticks(&self) -> (u64, u64) {
        (self.ticks.load(Ordering::Relaxed), self.children_ticks.load(Ordering::Relaxed))
    }
}

/// The process of the current task. Holds no count, so a task that is killed loses nothing with it.
#[derive(Debug)]
pub(crate) struct CurrentProcess(CurrentTask);

impl Deref for CurrentProcess {
    type Target = Arc<Process>;

    fn deref(&self) -> &Arc<Process> {
        match self.0.process() {
            Some(process) => process,
            None => unreachable!("`current` has looked"),
        }
    }
}

/// The process of the current task, if it has one.
pub(crate) fn current() -> Option<CurrentProcess> {
    let task = sched::current();
    task.process().is_some().then_some(CurrentProcess(task))
}

/// Gives the current task a name: by its own number, which reports know, and by its thread's, which programs do.
pub(crate) fn rename_current(name: &str) {
    let task = sched::current();
    names::set(task.id(), name);
    if let Some(thread) = task.thread().filter(|thread| thread.id() != task.id()) {
        names::set(thread.id(), name);
    }
}
