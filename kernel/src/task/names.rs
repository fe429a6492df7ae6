//! The names of tasks, readable in the fault path: a fixed table of atomics, by task number.
//!
//! A report names a stack's owner from the word that the stack's record holds: the task's number. The task struct may be
//! gone by then, so the name is not looked up there. Entries are overwritten by later tasks with the same number modulo the
//! table's size; the number in the entry says so, and then only the number is printed.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

const ENTRIES: usize = 1024;
/// The number in an entry that was never set, or is being set.
const NOBODY: usize = usize::MAX;
/// How many bytes of a name are kept.
pub(crate) const NAME_BYTES: usize = 16;

struct Entry {
    id: AtomicUsize,
    name: [AtomicU64; NAME_BYTES / 8],
}

static NAMES: [Entry; ENTRIES] =
    [const { Entry { id: AtomicUsize::new(NOBODY), name: [const { AtomicU64::new(0) }; NAME_BYTES / 8] } }; ENTRIES];

/// Notes that task `id` is called `name`.
pub(crate) fn set(id: usize, name: &str) {
    let entry = &NAMES[id % ENTRIES];
    let mut bytes = [0; NAME_BYTES];
    name.bytes().zip(&mut bytes).for_each(|(byte, place)| *place = byte);
    entry.id.store(NOBODY, Relaxed);
    for (word, bytes) in entry.name.iter().zip(bytes.chunks_exact(8)) {
        word.store(bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)), Relaxed);
    }
    entry.id.store(id, Relaxed);
}

/// The name of a task, or a question mark.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name(pub(crate) usize);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match read(self.0) {
            Some(bytes) => text(&bytes).try_for_each(|byte| f.write_char(char::from(byte))),
            None => f.write_char('?'),
        }
    }
}

/// Gives task `id` the name of task `like`.
pub(crate) fn copy(like: usize, id: usize) {
    let bytes = read(like).unwrap_or_default();
    let mut name = [0; NAME_BYTES];
    let len = text(&bytes).zip(&mut name).map(|(byte, place)| *place = byte).count();
    set(id, core::str::from_utf8(&name[..len]).unwrap_or("?"));
}

/// The name of task `id`, as bytes, ended by a zero if it is shorter.
pub(crate) fn bytes(id: usize) -> [u8; NAME_BYTES] {
    read(id).unwrap_or_default()
}

fn text(bytes: &[u8; NAME_BYTES]) -> impl Iterator<Item = u8> {
    bytes.iter().copied().take_while(|&byte| byte != 0)
}

fn read(id: usize) -> Option<[u8; NAME_BYTES]> {
    let entry = &NAMES[id % ENTRIES];
    if entry.id.load(Relaxed) != id {
        return None;
    }
    let mut bytes = [0; NAME_BYTES];
    for (word, bytes) in entry.name.iter().zip(bytes.chunks_exact_mut(8)) {
        bytes.copy_from_slice(&word.load(Relaxed).to_le_bytes());
    }
    Some(bytes)
}

/// Marks the word of an owner that is a CPU: what its idle task and its handlers stand on.
const CPU_OWNER: usize = 1 << (usize::BITS - 1);

/// The word for what belongs to CPU `number`.
pub(crate) const fn of_cpu(number: usize) -> usize {
    CPU_OWNER | number
}

/// Writes `pid 7 (name)`, `CPU 1`, or what is known. Any context, the fault path included.
pub(crate) fn write(id: usize, out: &mut dyn Write) -> fmt::Result {
    if id & CPU_OWNER != 0 {
        return write!(out, "CPU {}", id & !CPU_OWNER);
    }
    let Some(bytes) = read(id) else { return write!(out, "pid {id}") };
    write!(out, "pid {id} (")?;
    text(&bytes).try_for_each(|byte| out.write_char(char::from(byte)))?;
    out.write_char(')')
}
