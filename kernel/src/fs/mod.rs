//! Files: what paths lead to, what is open, and what descriptors stand for.
//!
//! The root is read-only: an archive in memory, and folders that the kernel makes. Nothing here is written to a disk. What may not enter: what a process is (`/proc` asks `process`), and the words of system calls (`syscall` checks them).
//!
//! | file | what |
//! | --- | --- |
//! | `archive`, `tree` | the archive of the boot: entries, and the folders that they make |
//! | `entry`, `root`, `proc`, `sys`, `seams` | files that the kernel makes: tables of names and functions |
//! | `node`, `path`, `listing`, `mode` | what a path leads to, how it is found, what is in a folder |
//! | `open`, `table`, `place` | open files, tables of them, where a process is |
//! | `text`, `pipe`, `device`, `console`, `epoll` | what can be open beside files of the archive |
//! | `disk` | files of a disk's file system, through the layers that their paths describe |
//! | `ready`, `span` | waiting for files, and the memory that bytes come from and go to |
//!
//! # When a task is killed here
//!
//! Words that others look at change by one store each, and between a count and the place that has it nobody is killed. So a
//! table, a pipe or a place is whole at every instruction: its lock is taken anyway, and nothing is left behind. What the calls hold is
//! kept in the task struct ([`open::Held`]); when it is given back there, the other ends of pipes learn that this one is gone.

use crate::boot;
use crate::mm::heap::OutOfHeap;
use crate::syscall::Errno;

pub(crate) mod archive;
pub(crate) mod console;
mod device;
pub(crate) mod disk;
pub(crate) mod entry;
pub(crate) mod epoll;
mod listing;
pub(crate) mod mode;
pub(crate) mod node;
pub(crate) mod open;
pub(crate) mod path;
pub(crate) mod pipe;
mod place;
mod proc;
mod process;
pub(crate) mod ready;
mod root;
pub(crate) mod seams;
pub(crate) mod span;
mod sys;
pub(crate) mod table;
pub(crate) mod text;
mod tree;

pub(crate) use device::fill_with_random;
pub(crate) use listing::{Member, member, node as member_node};
pub(crate) use node::Node;
pub(crate) use open::{Held, OpenFile};
pub(crate) use place::Place;
pub(crate) use proc::frames_total_and_free;
pub(crate) use table::{FileTable, Files, MAX_FILES};

use alloc::sync::Arc;
use alloc::vec::Vec;

/// Makes the archive's tree, and notes how much memory there is: once, when the heap is there.
pub(crate) fn init() -> Result<(), OutOfHeap> {
    proc::note_memory();
    tree::init(boot::archive())
}

/// A table with the console as standard input, output and error.
pub(crate) fn standard() -> Result<Arc<FileTable>, Errno> {
    let table = FileTable::new()?;
    let console = path::resolve(node::ROOT, b"/dev/console".to_vec(), true)?;
    let file = OpenFile::of_node(console, open::flags::READ_WRITE)?;
    (0..3).try_for_each(|descriptor| table.install_at(Arc::clone(&file), descriptor, false))?;
    Ok(table)
}

/// The program that `path` leads to from `folder`: where it is, and its bytes.
///
/// # Errors
///
/// There is no such file, or it is none that may be executed.
pub(crate) fn program(folder: Node, path: Vec<u8>) -> Result<(Node, &'static [u8]), Errno> {
    let node = path::resolve(folder, path, true)?;
    let is_executable = mode::is_executable(node.status()?.mode);
    let data = open::file_data(node).map_err(|_| Errno::ACCES)?;
    is_executable.then_some((node, data)).ok_or(Errno::ACCES)
}
