//! Every lock of the kernel, by name: what the crashes hold, one after the other, and look at afterwards.
//!
//! A test on the host (`kernel/host-tests`) reads the sources: each constructor's name is in this table, and each name here has a
//! constructor. A lock of a process is that process's; there is one of each for every process.

use super::raw::{Kind, State};
use super::{AnyLock, Mutex, RwLock, Section, SpinLock};
use crate::arch::pci;
use crate::fs;
use crate::mm::{frames, heap};
use crate::process::signal::timers;
use crate::process::tree;
use crate::task::{reference, sched};
use crate::{block, boot, console, crash, disk, hotplug, interrupts, run};

/// A lock that is declared somewhere in the kernel.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    place: Place,
}

/// Where a lock is.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In a static, which this function shows.
    Static(fn() -> &'static dyn AnyLock),
    /// In each process, at this place of `Process::locks`.
    Process(usize),
    /// In the memory of each process.
    Memory,
}

const fn at(name: &'static str, kind: Kind, lock: fn() -> &'static dyn AnyLock) -> Declared {
    Declared { name, kind, place: Place::Static(lock) }
}

const fn of_process(name: &'static str, kind: Kind, index: usize) -> Declared {
    Declared { name, kind, place: Place::Process(index) }
}

const fn of_memory(name: &'static str, kind: Kind) -> Declared {
    Declared { name, kind, place: Place::Memory }
}

/// All of them. `page-tables` is no lock but a [`Section`]: entries change without one, in a section that nobody is killed in.
pub(crate) static ALL: [Declared; 31] = [
    at("frame-allocator", Kind::Vital, frames::lock),
    at("run-queue", Kind::Vital, sched::lock),
    at("task-structs", Kind::Vital, reference::lock),
    at("disk", Kind::Vital, disk::lock),
    at("pci-ports", Kind::Vital, pci::lock),
    at("page-tables", Kind::Vital, || &PageTables),
    at("heap", Kind::Spin, heap::lock),
    at("heap-small", Kind::Vital, heap::small::lock),
    at("console", Kind::Spin, console::lock),
    at("console-input", Kind::Mutex, fs::console::lock),
    at("boot-found", Kind::Spin, boot::lock),
    at("run-options", Kind::Spin, run::lock),
    at("interrupt-lines", Kind::Spin, interrupts::lock),
    at("hotplug", Kind::Mutex, hotplug::lock),
    at("crash-shared", Kind::Spin, crash::shared_lock),
    at("crash-device", Kind::Spin, crash::device_lock),
    at("crash-dma", Kind::Spin, crash::dma_lock),
    at("process-tree", Kind::Vital, tree::any_lock),
    of_memory("process-memory", Kind::Mutex),
    of_process("process-files", Kind::Spin, 0),
    of_process("process-place", Kind::Spin, 1),
    of_process("process-signals", Kind::Spin, 2),
    at("signal-timers", Kind::Spin, timers::lock),
    at("file-text", Kind::Spin, fs::text::lock),
    at("pipe", Kind::Mutex, fs::pipe::lock),
    at("epoll", Kind::Mutex, fs::epoll::lock),
    at("disk-mount", Kind::Mutex, fs::disk::lock),
    at("block-buffer", Kind::Mutex, block::scratch::lock),
    at("specimen-spin", Kind::Spin, || &SPECIMEN_SPIN),
    at("specimen-mutex", Kind::Mutex, || &SPECIMEN_MUTEX),
    at("specimen-rwlock", Kind::ReadWrite, || &SPECIMEN_RWLOCK),
];

/// One lock of each kind that nobody needs, for crashes that want two tasks at one lock. What is behind them counts.
pub(crate) static SPECIMEN_SPIN: SpinLock<usize> = SpinLock::new("specimen-spin", 0);
/// See [`SPECIMEN_SPIN`].
pub(crate) static SPECIMEN_MUTEX: Mutex<usize> = Mutex::new("specimen-mutex", 0);
/// See [`SPECIMEN_SPIN`].
pub(crate) static SPECIMEN_RWLOCK: RwLock<usize> = RwLock::new("specimen-rwlock", 0);

/// The section that page tables are changed in.
struct PageTables;

impl AnyLock for PageTables {
    /// It is every CPU's own.
    fn state(&self) -> State {
        State::Free
    }

    /// There is none.
    fn clear_poison(&self) {}

    fn hold(&self, then: fn()) {
        let _section = Section::enter();
        then();
    }
}

/// The lock called `name`.
pub(crate) fn find(name: &str) -> Option<&'static Declared> {
    ALL.iter().find(|declared| declared.name == name)
}

impl Declared {
    /// Whether a fault under the lock stops the machine.
    pub(crate) fn is_vital(&self) -> bool {
        self.kind == Kind::Vital
    }

    /// The lock itself, unless it is a process's.
    pub(crate) fn of_kernel(&self) -> Option<&'static dyn AnyLock> {
        match self.place {
            Place::Static(lock) => Some(lock()),
            Place::Process(_) | Place::Memory => None,
        }
    }

    /// Calls `use_it` with the lock: of the current task's process or memory, if it is one of those. False if there is none.
    fn with(&self, use_it: impl FnOnce(&dyn AnyLock)) -> bool {
        let task = sched::current();
        let lock = match self.place {
            Place::Static(lock) => Some(lock()),
            Place::Process(index) => task.process().and_then(|process| process.locks().get(index).copied()),
            // SAFETY: the task itself, which holds a lock of the memory and does not replace it.
            Place::Memory => unsafe { task.memory_place().get() }.map(|memory| memory.any_lock()),
        };
        lock.map(use_it).is_some()
    }

    /// Runs `then` while the lock, of the current process if it is a process's, is held: for writing, if there is a choice. False
    /// if the current task has no process.
    pub(crate) fn hold(&self, then: fn()) -> bool {
        self.with(|lock| lock.hold(then))
    }

    /// As [`hold`](Self::hold), for reading if the lock can be shared.
    pub(crate) fn hold_shared(&self, then: fn()) -> bool {
        self.with(|lock| lock.hold_shared(then))
    }
}
