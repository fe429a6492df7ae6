//! Processes: an address space, files, a parent, and an end that the parent is told of.
//!
//! A process has one thread for now. What it owns belongs to the process struct and never to its stack: when the task is killed
//! in the middle of a call, all of it is found here and given back (INV-ALONE).

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Deref;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::fs::{FileTable, Files, Place};
use crate::mm::heap;
use crate::sync::{AnyLock, SpinGuard, SpinLock};
use crate::task::sched::CurrentTask;
use crate::task::wait::Event;
use crate::task::{names, sched};

pub(crate) mod elf;
pub(crate) mod exec;
pub(crate) mod fork;
mod thread;

pub(crate) use thread::Thread;

/// A signal's number, as Linux has it.
pub(crate) mod signal {
    /// Illegal instruction.
    pub(crate) const ILL: u8 = 4;
    /// Trap.
    pub(crate) const TRAP: u8 = 5;
    /// Bad access.
    pub(crate) const SEGV: u8 = 11;
    /// Arithmetic.
    pub(crate) const FPE: u8 = 8;
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// It exited with this status.
    Exited(u8),
    /// This signal killed it.
    Killed(u8),
}

impl End {
    /// The word that `wait4` stores.
    pub(crate) const fn wait_status(self) -> u32 {
        match self {
            Self::Exited(status) => (status as u32) << 8,
            Self::Killed(signal) => signal as u32,
        }
    }
}

/// The end of a process, as one word: there is no instruction at which it is half told, and it is told once.
#[derive(Debug)]
struct AtomicEnd(AtomicU32);

impl AtomicEnd {
    const EXITED: u32 = 1 << 8;
    const KILLED: u32 = 2 << 8;

    /// Of a process that has not ended.
    const fn none() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Sets the end, unless there is one.
    fn set(&self, end: End) {
        let word = match end {
            End::Exited(status) => Self::EXITED | u32::from(status),
            End::Killed(signal) => Self::KILLED | u32::from(signal),
        };
        // SeqCst: before the announcement, as `Event` wants it.
        let _earlier = self.0.compare_exchange(0, word, Ordering::SeqCst, Ordering::SeqCst);
    }

    fn get(&self) -> Option<End> {
        let word = self.0.load(Ordering::SeqCst);
        match word & !0xff {
            Self::EXITED => Some(End::Exited(word as u8)),
            Self::KILLED => Some(End::Killed(word as u8)),
            _ => None,
        }
    }
}

/// A process.
#[derive(Debug)]
pub(crate) struct Process {
    id: usize,
    parent: Weak<Process>,
    children: SpinLock<Vec<Arc<Process>>>,
    files: Files,
    place: Place,
    end: AtomicEnd,
    child_ended: Event,
    /// What it says that it has done, for the crash tests.
    pub(crate) work: AtomicUsize,
}

/// The most processes that there can be: what the kernel's heap bears.
const MAX_PROCESSES: usize = 512;

/// Processes that have a struct.
static PROCESSES: AtomicUsize = AtomicUsize::new(0);

impl Process {
    /// A process without memory, or `None` if there are too many.
    pub(crate) fn new(id: usize, parent: Weak<Self>, files: Arc<FileTable>) -> Option<Arc<Self>> {
        if PROCESSES.fetch_add(1, Ordering::Relaxed) >= MAX_PROCESSES {
            PROCESSES.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Arc::new(Self {
            id,
            parent,
            children: SpinLock::new("process-children", Vec::new()),
            files: Files::new(files),
            place: Place::new(),
            end: AtomicEnd::none(),
            child_ended: Event::new(),
            work: AtomicUsize::new(0),
        }))
    }

    pub(crate) const fn id(&self) -> usize {
        self.id
    }

    pub(crate) fn parent_id(&self) -> usize {
        self.parent.upgrade().map_or(0, |parent| parent.id)
    }

    /// The open files.
    pub(crate) fn files(&self) -> &FileTable {
        &self.files
    }

    /// Where it is in the file system.
    pub(crate) const fn place(&self) -> &Place {
        &self.place
    }

    /// The children. None are known if a task was killed while it changed the list: it may be cut in the middle of growing.
    fn children(&self) -> SpinGuard<'_, Vec<Arc<Self>>> {
        self.children.lock_or_reset(|cut| {
            heap::count_left(cut.capacity() * size_of::<Arc<Self>>());
            Vec::new()
        })
    }

    /// The process's locks: children, files, place.
    pub(crate) fn locks(&self) -> [&dyn AnyLock; 3] {
        [&self.children, self.files.any_lock(), self.place.any_lock()]
    }

    /// Puts `child` on the list of children, and shows it there: the caller, who is this process's task, holds no count that it
    /// could take to its grave. It stays while this task does not wait for it or abandon it.
    pub(crate) fn adopt(&self, child: Arc<Self>) -> &Self {
        let place = Arc::as_ptr(&child);
        self.children().push(child);
        // SAFETY: the list has a count of it. Only this process's task, which is the caller, takes children off the list, and
        // where the list is left behind what was on it stays.
        unsafe { &*place }
    }

    /// One more count of a process that an `Arc` holds.
    pub(crate) fn counted(&self) -> Arc<Self> {
        // SAFETY: every process is made in an `Arc` (`new`), and a borrow of it shows that one is alive.
        unsafe { Arc::increment_strong_count(self) };
        // SAFETY: as above; the count is this one's.
        unsafe { Arc::from_raw(self) }
    }

    /// Whether process `id` is this one or a child of it that has not ended.
    pub(crate) fn sees_alive(&self, id: usize) -> bool {
        id == self.id || self.children().iter().any(|child| child.id == id && child.end().is_none())
    }

    /// How the process ended, if it has.
    pub(crate) fn end(&self) -> Option<End> {
        self.end.get()
    }

    /// Waits until this process has ended.
    pub(crate) fn wait_for_end(&self, init: &Self) -> End {
        init.child_ended.wait_for(|| self.end())
    }

    /// A child that has ended and that `wanted` accepts: taken off the list. `Err` if there is no such child, dead or alive.
    fn take_ended(&self, wanted: impl Fn(usize) -> bool) -> Result<Option<(usize, End)>, NoChild> {
        let mut children = self.children();
        if !children.iter().any(|child| wanted(child.id)) {
            return Err(NoChild);
        }
        let ended = children.iter().position(|child| wanted(child.id) && child.end().is_some());
        let Some(index) = ended else { return Ok(None) };
        let child = children.swap_remove(index);
        drop(children);
        Ok(child.end().map(|end| (child.id, end)))
    }

    /// Waits for a child that `wanted` accepts to end; or, with `hang` false, only looks.
    pub(crate) fn wait(&self, wanted: impl Fn(usize) -> bool, hang: bool) -> Result<Option<(usize, End)>, NoChild> {
        if !hang {
            return self.take_ended(wanted);
        }
        self.child_ended.wait_for(|| match self.take_ended(&wanted) {
            Ok(None) => None,
            done => Some(done),
        })
    }

    /// Undoes the making of this process, whose task could not be had.
    pub(crate) fn abandon(&self, parent: &Self) {
        parent.children().retain(|child| child.id != self.id);
    }

    /// Ends the process: gives back all that it owns, and tells its parent. The current task is its task.
    ///
    /// A task that is killed in here does it again, on the empty stack: each step may be done twice, and the end that is told is
    /// the first.
    pub(crate) fn finish(&self, end: End) {
        sched::current().give_up_memory();
        self.files.leave();
        drop(core::mem::take(&mut *self.children()));
        self.announce(end);
    }

    /// Tells whoever waits that the process has ended.
    fn announce(&self, end: End) {
        self.end.set(end);
        match self.parent.upgrade() {
            Some(parent) => parent.child_ended.announce(),
            None => self.child_ended.announce(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        PROCESSES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// There is no child to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoChild;

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

/// Ends the current process and its task.
pub(crate) fn exit_current(end: End) -> ! {
    if let Some(process) = current() {
        process.finish(end);
    }
    sched::exit()
}

/// Ends the current process and its task, without giving back what it had: it cannot be relied on to do so.
pub(crate) fn leave_current(end: End) -> ! {
    if let Some(process) = current() {
        process.announce(end);
    }
    sched::exit()
}

/// Gives the current process's task a name.
pub(crate) fn rename_current(name: &str) {
    names::set(sched::current().id(), name);
}
