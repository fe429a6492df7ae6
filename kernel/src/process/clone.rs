//! Copies of the current thread: `clone`, and `fork` and `vfork`, which are cases of it.
//!
//! | shared | a thread | `vfork` | `fork` |
//! | --- | --- | --- | --- |
//! | the process, its number and its end | yes | no | no |
//! | the memory | yes | until the child's `execve` or end; the parent waits for that | no |
//! | the files | yes | as `CLONE_FILES` says | as `CLONE_FILES` says |
//!
//! Combinations that Linux refuses are refused with its errors. What Linux can do and this kernel cannot is `ENOSYS`: threads with
//! files of their own, processes with common signal handlers. Namespaces and process descriptors are `EINVAL`, as on a Linux built
//! without them. `CLONE_FS`, `CLONE_SYSVSEM`, `CLONE_IO`, `CLONE_PTRACE` and `CLONE_UNTRACED` say something about what is not there.

use alloc::sync::Arc;
use core::ptr;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use vmstack::VirtAddr;

use super::start::spawn;
use super::tree::Tree;
use super::{Process, Thread, tree};
use crate::arch::features;
use crate::arch::frame::TrapFrame;
use crate::arch::layout::USER_END;
use crate::mm::heap;
use crate::mm::memory::Memory;
use crate::sync::Section;
use crate::syscall::Errno;
use crate::task::kept::{self, Kept};
use crate::task::sched::{self, CurrentTask};
use crate::task::{Registers, Task, names};

/// What is shared, and what else is to be done, by Linux's numbers.
pub(crate) mod flag {
    pub(crate) const VM: u64 = 0x100;
    pub(crate) const FILES: u64 = 0x400;
    pub(crate) const SIGHAND: u64 = 0x800;
    pub(crate) const PIDFD: u64 = 0x1000;
    pub(crate) const VFORK: u64 = 0x4000;
    pub(crate) const PARENT: u64 = 0x8000;
    pub(crate) const THREAD: u64 = 0x1_0000;
    pub(crate) const SETTLS: u64 = 0x8_0000;
    pub(crate) const PARENT_SETTID: u64 = 0x10_0000;
    pub(crate) const CHILD_CLEARTID: u64 = 0x20_0000;
    pub(crate) const DETACHED: u64 = 0x40_0000;
    pub(crate) const CHILD_SETTID: u64 = 0x100_0000;
    /// All namespaces.
    pub(crate) const NEW: u64 = 0x7e02_0080;
    /// Of `clone3` alone: signal handlers back to their defaults, and a control group.
    pub(crate) const CLEAR_SIGHAND: u64 = 1 << 32;
    pub(crate) const INTO_CGROUP: u64 = 1 << 33;
    /// All that there are.
    pub(crate) const ALL: u64 = (1 << 34) - 1;
}

/// What a copy is to be like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Request {
    pub(crate) flags: u64,
    /// The signal that the parent gets at the child's end; zero: none.
    pub(crate) exit_signal: u8,
    /// The stack pointer; zero: the caller's.
    pub(crate) stack: usize,
    pub(crate) parent_tid: usize,
    pub(crate) child_tid: usize,
    pub(crate) tls: usize,
}

impl Request {
    const fn has(&self, flags: u64) -> bool {
        self.flags & flags == flags
    }

    /// Whether it is one that can be carried out.
    fn check(&self) -> Result<(), Errno> {
        let thread_without = self.has(flag::THREAD) && !self.has(flag::SIGHAND);
        let handlers_without = self.has(flag::SIGHAND) && !self.has(flag::VM);
        let handlers_twice = self.has(flag::SIGHAND | flag::CLEAR_SIGHAND);
        let absent = self.flags & (flag::NEW | flag::PIDFD | flag::INTO_CGROUP) != 0;
        if thread_without || handlers_without || handlers_twice || absent {
            return Err(Errno::INVAL);
        }
        if self.has(flag::SETTLS) && self.tls >= USER_END.get() {
            return Err(Errno::PERM);
        }
        let as_thread = flag::SIGHAND | flag::FILES;
        let unknown = if self.has(flag::THREAD) { !self.has(as_thread) } else { self.has(flag::SIGHAND) };
        if unknown { Err(Errno::NOSYS) } else { Ok(()) }
    }

    /// Makes a copy of the caller's registers those of the copy, which returns from the call too.
    const fn adjust(&self, copy: &mut TrapFrame) {
        copy.rax = 0;
        if self.stack != 0 {
            copy.rsp = self.stack as u64;
        }
    }
}

/// Copies the current thread as `request` says. The copy returns 0 from the call, and this one the copy's number.
pub(crate) fn clone(request: &Request, frame: &TrapFrame) -> Result<usize, Errno> {
    request.check()?;
    let me = sched::current();
    let thread = me.thread().ok_or(Errno::NOSYS)?;
    let id = tree::next_number()?;
    if request.has(flag::PARENT_SETTID) {
        // As on Linux, where it cannot be written it is not.
        memory_of(&me)?.write_u32(request.parent_tid, id as u32).ok();
    }
    names::copy(me.id(), id);
    if request.has(flag::VFORK) {
        thread.lent_to.store(id, SeqCst);
    }
    let made = if request.has(flag::THREAD) {
        add_thread(id, &me, thread, request, frame)
    } else {
        add_process(id, &me, thread, request, frame)
    };
    if let Err(error) = made {
        thread.lent_to.store(0, Relaxed);
        return Err(error);
    }
    if request.has(flag::VFORK) {
        wait_for_memory(thread);
    }
    Ok(id)
}

/// The memory of the current task, which `me` is.
fn memory_of(me: &Task) -> Result<&Arc<Memory>, Errno> {
    // SAFETY: the task itself, which does not replace it while it is in this call.
    unsafe { me.memory_place().get() }.ok_or(Errno::NOMEM)
}

/// One more thread of the current process.
fn add_thread(id: usize, me: &CurrentTask, thread: &Thread, request: &Request, frame: &TrapFrame) -> Result<(), Errno> {
    let (process, memory) = (thread.process(), memory_of(me)?);
    if request.has(flag::CHILD_SETTID) {
        memory.write_u32(request.child_tid, id as u32).ok();
    }
    let make = |_: &Section| (Arc::clone(process), Arc::clone(memory));
    spawn(
        id,
        frame,
        |copy| request.adjust(copy),
        Registers::Current,
        make,
        |tree, task| {
            set_up(task, thread, request);
            let_in(tree, task, thread, process)
        },
    )
}

/// One more process, a child of the current one or of its parent.
fn add_process(
    id: usize,
    me: &CurrentTask,
    thread: &Thread,
    request: &Request,
    frame: &TrapFrame,
) -> Result<(), Errno> {
    // Before anything is copied that is large. Asked again when the copy is let in.
    if tree::counts().0 >= thread.process().limits().threads() {
        return Err(Errno::AGAIN);
    }
    // A copy stays kept beyond the section: a child that is refused takes no memory apart with interrupts off.
    let own = memory_of(me)?;
    let copy = if request.has(flag::VM) { None } else { Some(own.fork()?) };
    let memory = copy.as_deref().unwrap_or(own);
    if request.has(flag::CHILD_SETTID) {
        memory.write_u32(request.child_tid, id as u32).ok();
    }
    let child = new_process(id, thread.process(), request)?;
    let make = |_: &Section| (Arc::clone(&child), Arc::clone(memory));
    spawn(
        id,
        frame,
        |copy| request.adjust(copy),
        Registers::Current,
        make,
        |tree, task| {
            set_up(task, thread, request);
            let parent = parent_for(tree, thread.process(), request)?;
            let_in(tree, task, thread, &child)?;
            tree.plant(Arc::clone(&child), Some(parent));
            Ok(())
        },
    )
}

/// The struct of a new process, with the files of `parent` or a copy of them.
fn new_process(id: usize, parent: &Process, request: &Request) -> Result<Kept<Arc<Process>>, Errno> {
    let copy = if request.has(flag::FILES) { None } else { Some(parent.files().duplicate()?) };
    let section = Section::enter();
    let files = copy.map_or_else(|| parent.files().share(), |copy| copy.take(&section));
    let child = kept::keep(&"process", heap::try_arc(Process::new(id, files))?, &section);
    drop(section);
    child.place().copy_from(parent.place());
    child.inherit(parent, request.exit_signal);
    if !request.has(flag::CLEAR_SIGHAND) {
        child.signals().copy_actions(parent.signals())?;
    }
    if request.has(flag::PARENT) {
        child.exit_signal.store(parent.exit_signal.load(Relaxed), Relaxed);
    }
    Ok(child)
}

/// Whose child a new process is.
fn parent_for<'a>(tree: &'a Tree, process: &'a Process, request: &Request) -> Result<&'a Process, Errno> {
    if request.has(flag::PARENT) { tree.parent(process).ok_or(Errno::INVAL) } else { Ok(process) }
}

/// Puts `task` into the tree, unless the thread that makes it has to end.
fn let_in(tree: &Tree, task: &Task, maker: &Thread, process: &Process) -> Result<(), Errno> {
    if maker.must_end() {
        return Err(Errno::RESTART);
    }
    tree.admit(task, process, maker.process().limits().threads())
}

/// What a new thread has of its own: where its thread-local storage is, and what is to be done at its end.
fn set_up(task: &Task, maker: &Thread, request: &Request) {
    // The maker runs: its bases are in the registers.
    let tls = request.has(flag::SETTLS).then_some(VirtAddr::new(request.tls));
    task.set_fs_base(tls.unwrap_or_else(features::user_fs_base));
    task.set_gs_base(features::user_gs_base());
    let thread = tree::thread_of(task);
    let same_stack = request.has(flag::VM) && !request.has(flag::VFORK);
    thread.signals().inherit(maker.signals(), !same_stack);
    if request.has(flag::CHILD_CLEARTID) {
        thread.set_clear_child_tid(request.child_tid);
    }
    if request.has(flag::VFORK) {
        thread.borrows_from.store(maker.id(), Relaxed);
    }
}

/// What a thread is parked on that lent its memory.
fn key(lender: &Thread) -> usize {
    ptr::from_ref(&lender.lent_to).addr()
}

/// Waits until the child that the current thread lent its memory to has given it back, or this thread has to end.
fn wait_for_memory(thread: &Thread) {
    let wanted = || thread.lent_to.load(SeqCst) != 0 && !thread.must_end();
    while wanted() {
        sched::park(key(thread), wanted);
    }
    thread.lent_to.store(0, Relaxed);
}

/// Gives back the memory that `thread`, the current one, runs on by another's leave, before it leaves it.
pub(super) fn give_memory_back(thread: &Thread) {
    let lender = thread.borrows_from.load(Relaxed);
    if lender == 0 {
        return;
    }
    let tree = tree::lock();
    if let Some(task) = tree.thread(lender) {
        let lender = tree::thread_of(task);
        let _other = lender.lent_to.compare_exchange(thread.id(), 0, SeqCst, Relaxed);
        sched::unpark_all(key(lender));
    }
    thread.borrows_from.store(0, Relaxed);
}

/// Wakes `thread`, which has to end, if it waits for its memory.
pub(in crate::process) fn stop_lending(thread: &Thread) {
    if thread.lent_to.load(SeqCst) != 0 {
        sched::unpark_all(key(thread));
    }
}
