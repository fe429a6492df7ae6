//! Who is there, and whose: every thread and process by its number, parents and children, and the threads of each process.
//!
//! ```text
//!   table of processes ──> Process ──children──> Process ...        a count of each, from its start until somebody waited for it
//!                             │
//!                          threads
//!                             v
//!   table of tasks ──────> Task ──> Task ...                        no count: each takes itself off before it ends
//! ```
//!
//! One lock for all of it, as Linux has its `tasklist_lock`, and a vital one: nobody is killed while a relation is half changed, and
//! no task holds it for longer than a walk along one list. It is taken before any lock of the scheduler, never after.
//!
//! Numbers are handed out upwards, so that one is free for long before it is used again.

use alloc::sync::Arc;
use core::ptr;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicUsize};

use super::links::{Link, List, Listed};
use super::{Process, Thread, signal};
use crate::arch::layout::PAGE_SIZE;
use crate::mm::frames;
use crate::stacks::{TASK_SLOTS, TASK_STACK};
use crate::sync::{AnyLock, Section, VitalGuard, VitalLock};
use crate::syscall::Errno;
use crate::task::kept::{self, Kept};
use crate::task::wait::Event;
use crate::task::{self, Task};

/// The list of a process's threads.
#[derive(Debug)]
pub(crate) struct OfProcess;
/// The list of a process's children.
#[derive(Debug)]
pub(crate) struct OfParent;
/// A list of the tables, of those with the same remainder of their number.
#[derive(Debug)]
pub(crate) struct ByNumber;

impl Listed<OfProcess> for Task {
    fn link(&self) -> &Link<Self> {
        &thread_of(self).beside
    }
}

impl Listed<ByNumber> for Task {
    fn link(&self) -> &Link<Self> {
        &thread_of(self).by_number
    }
}

impl Listed<OfParent> for Process {
    fn link(&self) -> &Link<Self> {
        &self.beside
    }
}

impl Listed<ByNumber> for Process {
    fn link(&self) -> &Link<Self> {
        &self.by_number
    }
}

/// What a program's task has.
pub(in crate::process) fn thread_of(task: &Task) -> &Thread {
    match task.thread() {
        Some(thread) => thread,
        None => unreachable!("a task of the kernel is on no list of threads"),
    }
}

const TASK_LISTS: usize = 4096;
const PROCESS_LISTS: usize = 1024;
static TASKS: [List<Task, ByNumber>; TASK_LISTS] = [const { List::new() }; TASK_LISTS];
static PROCESSES: [List<Process, ByNumber>; PROCESS_LISTS] = [const { List::new() }; PROCESS_LISTS];

/// The most threads that there can be; zero until it was computed.
static MOST: AtomicUsize = AtomicUsize::new(0);

static TREE: VitalLock<()> = VitalLock::new("process-tree", ());

/// These change under the lock, too. Threads of programs, and processes that nobody has waited for.
static THREADS_ALIVE: AtomicUsize = AtomicUsize::new(0);
static PROCESSES_THERE: AtomicUsize = AtomicUsize::new(0);
/// The process that gets orphans; zero if there is none.
static REAPER: AtomicUsize = AtomicUsize::new(0);
/// Whether nothing new is let in.
static CLOSED: AtomicBool = AtomicBool::new(false);
/// The last process was taken out.
static EMPTY: Event = Event::new();

/// The tree's lock.
pub(crate) fn any_lock() -> &'static dyn AnyLock {
    &TREE
}

/// Having one means that the tree is locked: relations stay as they are, but for what its holder changes.
#[derive(Debug)]
pub(crate) struct Tree {
    _guard: VitalGuard<'static, ()>,
}

/// Locks the tree.
pub(crate) fn lock() -> Tree {
    Tree { _guard: TREE.lock() }
}

/// The process with this number, ended ones included that nobody has waited for: counted, and kept.
pub(crate) fn find(id: usize) -> Option<Kept<Arc<Process>>> {
    // A count is the list's or nobody's: nobody is killed in between.
    let section = Section::enter();
    let process = lock().process(id)?.counted();
    Some(kept::keep(&"process", process, &section))
}

/// Threads of programs, and processes that nobody has waited for: of the moment.
pub(crate) fn counts() -> (usize, usize) {
    (THREADS_ALIVE.load(Relaxed), PROCESSES_THERE.load(Relaxed))
}

/// Waits until there is no process.
pub(crate) fn wait_until_empty() {
    EMPTY.wait_for(|| (PROCESSES_THERE.load(SeqCst) == 0).then_some(()));
}

/// Changes one of the counts, by the holder of the lock, and says what it is now.
fn change(count: &AtomicUsize, by: isize) -> usize {
    let now = count.load(Relaxed).wrapping_add_signed(by);
    count.store(now, SeqCst);
    now
}

/// A number that no task, process, group or session has.
///
/// # Errors
///
/// `EAGAIN`: there is none.
pub(crate) fn next_number() -> Result<usize, Errno> {
    let (number, again) = task::next_number();
    if again { free_number(number) } else { Ok(number) }
}

/// The first number from `number` on that is not in use.
#[cold]
fn free_number(mut number: usize) -> Result<usize, Errno> {
    // Each of those that are handed out again is asked for once.
    for _ in task::FIRST_AGAIN..=task::highest_id() {
        if !lock().is_in_use(number) {
            return Ok(number);
        }
        number = task::next_number().0;
    }
    Err(Errno::AGAIN)
}

/// The most threads that there can be: as many as half of the memory has stacks and structs for.
pub(crate) fn most_threads() -> usize {
    match MOST.load(Relaxed) {
        0 => {
            let memory = frames::free().saturating_mul(PAGE_SIZE);
            let most = (memory / 2 / (TASK_STACK + PAGE_SIZE)).clamp(1, TASK_SLOTS);
            MOST.store(most, Relaxed);
            most
        }
        most => most,
    }
}

impl Tree {
    /// The process with this number, ended ones included that nobody has waited for.
    pub(crate) fn process(&self, id: usize) -> Option<&Process> {
        PROCESSES[id % PROCESS_LISTS].iter(self).find(|process| process.id() == id)
    }

    /// The thread with this number.
    pub(crate) fn thread(&self, id: usize) -> Option<&Task> {
        let found = TASKS[id % TASK_LISTS].iter(self).find(|task| task.id() == id && thread_of(task).id() == id);
        // Another number than its task's: the thread replaced its process's first one.
        found.or_else(|| self.process(id)?.threads.iter(self).find(|task| thread_of(task).id() == id))
    }

    /// All processes, in no order.
    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        PROCESSES.iter().flat_map(|list| list.iter(self))
    }

    /// The children of `process`, in the order in which it got them.
    pub(crate) fn children(&self, process: &Process) -> impl Iterator<Item = &Process> {
        process.children.iter(self)
    }

    /// The threads of `process` that have not ended, the oldest first.
    pub(crate) fn threads(&self, process: &Process) -> impl Iterator<Item = &Task> {
        process.threads.iter(self)
    }

    /// The parent of `process`: none if the kernel started it, or if its parent ended and there is no reaper.
    pub(crate) fn parent(&self, process: &Process) -> Option<&Process> {
        // SAFETY: null, or a process that has not ended: when one ends, its children get another parent first.
        unsafe { process.parent.load(Relaxed).cast_const().as_ref() }
    }

    /// Lets nothing new in from here on, or lets it in again.
    pub(crate) fn close(&self, closed: bool) {
        CLOSED.store(closed, Relaxed);
    }

    /// Makes `process` the one that gets orphans; none with zero.
    pub(crate) fn set_reaper(&self, process: usize) {
        REAPER.store(process, Relaxed);
    }

    fn is_in_use(&self, number: usize) -> bool {
        let task = TASKS[number % TASK_LISTS].iter(self).any(|task| task.id() == number);
        task || self.processes().any(|process| process.has_number(number))
    }

    /// Lets `task` in as one more thread of `process`.
    ///
    /// # Errors
    ///
    /// `EAGAIN`: there are `limit` threads already.
    pub(super) fn admit(&self, task: &Task, process: &Process, limit: usize) -> Result<(), Errno> {
        if CLOSED.load(Relaxed) || THREADS_ALIVE.load(Relaxed) >= limit {
            return Err(Errno::AGAIN);
        }
        change(&THREADS_ALIVE, 1);
        process.count_threads(1);
        process.threads.push(task, self);
        TASKS[task.id() % TASK_LISTS].push(task, self);
        Ok(())
    }

    /// Takes `task` off its process's list of threads. Whether it was the last.
    pub(super) fn dismiss(&self, task: &Task, process: &Process) -> bool {
        change(&THREADS_ALIVE, -1);
        process.threads.remove(task, self);
        TASKS[task.id() % TASK_LISTS].remove(task, self);
        process.count_threads(-1) == 0
    }

    /// Puts `process` into the tree, as a child of `parent`. The tree has the count from here on.
    pub(super) fn plant(&self, process: Arc<Process>, parent: Option<&Process>) {
        // SAFETY: the count that is given up here is the tree's, which keeps the process alive.
        let process = unsafe { &*Arc::into_raw(process) };
        change(&PROCESSES_THERE, 1);
        PROCESSES[process.id() % PROCESS_LISTS].push(process, self);
        self.hang(process, parent);
    }

    /// Takes `process`, which has ended, out of the tree, with the tree's count of it.
    pub(super) fn uproot(&self, process: &Process) -> Arc<Process> {
        if let Some(parent) = self.parent(process) {
            parent.children.remove(process, self);
        }
        process.parent.store(ptr::null_mut(), Relaxed);
        PROCESSES[process.id() % PROCESS_LISTS].remove(process, self);
        if change(&PROCESSES_THERE, -1) == 0 {
            EMPTY.announce();
        }
        // SAFETY: the count is the one that `plant` gave up, and nothing of the tree leads to the process any more.
        unsafe { Arc::from_raw(process) }
    }

    /// Makes `process` a child of `parent`.
    fn hang(&self, process: &Process, parent: Option<&Process>) {
        let pointer = parent.map_or(ptr::null_mut(), |parent| ptr::from_ref(parent).cast_mut());
        process.parent.store(pointer, Relaxed);
        if let Some(parent) = parent {
            parent.children.push(process, self);
        }
    }

    /// Gives each child of `process` to the reaper, or to nobody, and calls `told` with it and with whose it is now.
    pub(super) fn orphan(&self, process: &Process, mut told: impl FnMut(&Process, Option<&Process>)) {
        let reaper =
            self.process(REAPER.load(Relaxed)).filter(|&reaper| !ptr::eq(reaper, process) && !reaper.has_ended());
        for child in process.children.iter(self) {
            process.children.remove(child, self);
            self.hang(child, reaper);
            child.exit_signal.store(signal::CHLD.number(), Relaxed);
            told(child, reaper);
        }
    }
}
