//! The names of tasks, readable in the fault path: a table of atomics, by task number.
//!
//! A report names a stack's owner from the word that the stack's record holds: the task's number. The task struct may be
//! gone by then, so the name is not looked up there. Entries are overwritten by later tasks with the same number modulo the
//! table's size; the number in the entry says so, and then only the number is printed. The table is made once, at boot, as large as
//! the memory warrants: with 4 GiB it has room for 131,072.

use core::fmt::{self, Write};
use core::slice;
use core::sync::atomic::{
    AtomicPtr, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::arch::layout::{PAGE_SIZE, phys_to_virt};
use crate::mm::frames::{self, MAX_ORDER};

/// The number in an entry that was never set, or is being set. Tasks have others.
const NOBODY: usize = 0;
/// How many bytes of a name are kept, a zero at the end included.
pub(crate) const NAME_BYTES: usize = 16;

#[repr(C, align(32))]
struct Entry {
    id: AtomicUsize,
    name: [AtomicU64; NAME_BYTES / 8],
}

/// What part of the memory the table takes: a thousandth.
const PART: u32 = 10;

static TABLE: AtomicPtr<Entry> = AtomicPtr::new(core::ptr::null_mut());
/// How many entries there are, a power of two; zero before there is a table.
static ENTRIES: AtomicUsize = AtomicUsize::new(0);

/// Makes the table, once, before there is a task.
pub(crate) fn init() {
    let order = (frames::free() >> PART).max(1).ilog2().min(MAX_ORDER);
    let Some(block) = frames::take(order) else { return };
    (0..1 << order).for_each(|frame| frames::clear(block.wrapping_add(frame * PAGE_SIZE as u64)));
    TABLE.store(phys_to_virt(block).as_mut_ptr(), Relaxed);
    // Release: the entries are zero before anybody looks.
    ENTRIES.store((PAGE_SIZE << order) / size_of::<Entry>(), Release);
}

/// The entry of task `id`, if there is a table.
fn entry(id: usize) -> Option<&'static Entry> {
    // Acquire: pairs with `init`.
    let entries = ENTRIES.load(Acquire);
    if entries == 0 {
        return None;
    }
    // SAFETY: the table has so many entries, which are atomics, zero at first, and stays for ever.
    let table = unsafe { slice::from_raw_parts(TABLE.load(Relaxed), entries) };
    Some(&table[id & (entries - 1)])
}

/// A name as two words, of which the last byte is zero, as on Linux.
fn words(name: &str) -> [u64; NAME_BYTES / 8] {
    let mut bytes = [0; NAME_BYTES];
    name.bytes().take(NAME_BYTES - 1).zip(&mut bytes).for_each(|(byte, place)| *place = byte);
    let (words, _) = bytes.as_chunks();
    [0, 1].map(|index| words.get(index).map_or(0, |word| u64::from_le_bytes(*word)))
}

/// Notes that task `id` is called `name`.
pub(crate) fn set(id: usize, name: &str) {
    set_words(id, words(name));
}

fn set_words(id: usize, name: [u64; NAME_BYTES / 8]) {
    let Some(entry) = entry(id) else { return };
    entry.id.store(NOBODY, Relaxed);
    entry.name.iter().zip(name).for_each(|(word, name)| word.store(name, Relaxed));
    entry.id.store(id, Relaxed);
}

/// Gives task `id` the name of task `like`.
pub(crate) fn copy(like: usize, id: usize) {
    set_words(id, read(like).unwrap_or_default());
}

/// The name of a task, or a question mark.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name(pub(crate) usize);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match read(self.0) {
            Some(name) => text(name).try_for_each(|letter| f.write_char(letter)),
            None => f.write_char('?'),
        }
    }
}

fn text(words: [u64; NAME_BYTES / 8]) -> impl Iterator<Item = char> {
    words.into_iter().flat_map(u64::to_le_bytes).take_while(|&byte| byte != 0).map(char::from)
}

/// The name of task `id`, as bytes, ended by a zero.
pub(crate) fn bytes(id: usize) -> [u8; NAME_BYTES] {
    let [low, high] = read(id).unwrap_or_default().map(u64::to_le_bytes);
    core::array::from_fn(|index| if index < 8 { low[index] } else { high[index - 8] })
}

fn read(id: usize) -> Option<[u64; NAME_BYTES / 8]> {
    let entry = entry(id)?;
    (entry.id.load(Relaxed) == id).then(|| [0, 1].map(|index| entry.name[index].load(Relaxed)))
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
    let Some(name) = read(id) else { return write!(out, "pid {id}") };
    write!(out, "pid {id} (")?;
    text(name).try_for_each(|letter| out.write_char(letter))?;
    out.write_char(')')
}
