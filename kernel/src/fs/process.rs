//! What the files under `/proc` need of processes: which there are, and what is known of them.
//!
//! A process is meant by its number, and looked up for each question; it may be gone by the next one, and then its files are.

use alloc::sync::Arc;
use core::fmt::Write;

use super::FileTable;
use super::entry::Subject;
use super::node::Node;
use super::open::{Held, Object};
use crate::mm::memory::Memory;
use crate::process::{Process, Thread, tree};
use crate::sync::Section;
use crate::syscall::{Errno, user};
use crate::task::kept::{self, Kept};
use crate::task::{State, Task, sched};
use crate::text::Text;

/// Runs `ask` on process `id`.
///
/// # Errors
///
/// There is none of that number.
pub(crate) fn with<T>(id: usize, ask: impl FnOnce(&Process) -> Result<T, Errno>) -> Result<T, Errno> {
    let process = tree::find(id).ok_or(Errno::NOENT)?;
    ask(&process)
}

/// The lowest number from `from` on that a process has.
pub(super) fn next(_: Subject, from: usize) -> Option<usize> {
    tree::lock().processes().map(Process::id).filter(|&id| id >= from).min()
}

/// The lowest number from `from` on that a thread of the subject's process has.
pub(super) fn next_thread(subject: Subject, from: usize) -> Option<usize> {
    let tree = tree::lock();
    let process = tree.process(subject.process)?;
    tree.threads(process).filter_map(Task::thread).map(Thread::id).filter(|&id| id >= from).min()
}

/// The table of open files of the subject's process: counted, and kept, for it may have another one soon.
fn files(subject: Subject) -> Result<Kept<Arc<FileTable>>, Errno> {
    let section = Section::enter();
    let tree = tree::lock();
    let process = tree.process(subject.process).ok_or(Errno::NOENT)?;
    Ok(kept::keep(&"file table", process.files().count(&tree), &section))
}

/// The lowest descriptor from `from` on that is open in the subject's process.
pub(super) fn next_open(subject: Subject, from: usize) -> Option<usize> {
    files(subject).ok()?.next_open(from)
}

/// What is open at the descriptor that is the subject's number.
pub(super) fn open_file(subject: Subject) -> Result<Held, Errno> {
    files(subject)?.get(subject.number).map_err(|_| Errno::NOENT)
}

/// Where the link of an open file leads.
pub(super) fn opened(subject: Subject) -> Result<Node, Errno> {
    Ok(open_file(subject)?.node().unwrap_or(Node::Open(subject)))
}

/// Writes what an open file without a path is called.
pub(super) fn describe_open(subject: Subject, text: &mut Text) -> Result<(), Errno> {
    let file = open_file(subject)?;
    let written = match file.object() {
        Object::Pipe(end) => write!(text, "pipe:[{}]", end.number()),
        _ => write!(text, "anon_inode:[{}]", subject.number),
    };
    written.map_err(|_| Errno::NOMEM)
}

/// The program's file.
pub(super) fn program(subject: Subject) -> Result<Node, Errno> {
    with(subject.process, |process| process.place().program().ok_or(Errno::NOENT))
}

/// The working folder.
pub(super) fn folder(subject: Subject) -> Result<Node, Errno> {
    with(subject.process, |process| Ok(process.place().folder()))
}

/// The number of the current process, and of its current thread.
pub(super) fn current() -> Result<(usize, usize), Errno> {
    let task = sched::current();
    let thread = task.thread().ok_or(Errno::NOENT)?;
    Ok((thread.process().id(), thread.id()))
}

/// What is known of a process, for its `stat` and `status`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) id: usize,
    /// `R`, `S` or `Z`, as on Linux.
    pub(super) state: char,
    pub(super) parent: usize,
    pub(super) group: usize,
    pub(super) session: usize,
    pub(super) threads: usize,
    /// Pages of memory that are there, and bytes that are mapped: of the process that asks; zero of others.
    pub(super) pages: usize,
    pub(super) bytes: usize,
    /// Ticks that it ran.
    pub(super) ticks: u64,
    /// The tick at which it was made.
    pub(super) started: u64,
}

/// Runs `use_it` on the memory of the subject's process, if that is the one that asks: nobody else can reach it.
pub(super) fn with_own_memory<T>(
    subject: Subject,
    use_it: impl FnOnce(&Memory) -> Result<T, Errno>,
) -> Result<Option<T>, Errno> {
    if current()?.0 != subject.process {
        return Ok(None);
    }
    user::with_memory(use_it).map(Some)
}

/// How thread `id` of `process` is.
fn state(process: &Process, id: usize) -> char {
    let tree = tree::lock();
    let thread = tree.threads(process).find(|task| task.thread().is_some_and(|thread| thread.id() == id));
    match thread.map(sched::state_of) {
        None | Some(State::Dead) => 'Z',
        Some(State::Running | State::Queued | State::New) => 'R',
        Some(_) => 'S',
    }
}

/// What is known of the thread that the subject means.
pub(super) fn facts(subject: Subject) -> Result<Facts, Errno> {
    let (pages, bytes) = with_own_memory(subject, |memory| Ok(memory.sizes()))?.unwrap_or_default();
    with(subject.process, |process| {
        let state = state(process, subject.number);
        Ok(Facts {
            id: subject.number,
            state,
            parent: process.parent_id(),
            group: process.group(),
            session: process.session(),
            threads: process.thread_count(),
            pages,
            bytes,
            ticks: process.ticks().0,
            started: 0,
        })
    })
}
