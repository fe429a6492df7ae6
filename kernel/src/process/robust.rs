//! Robust futexes: what a thread holds when it ends is marked, and who waits for it wakes (Linux,
//! `Documentation/locking/robust-futex-ABI`).
//!
//! ```text
//!   head   | first entry or head | from an entry to its word | entry being taken or released |
//!             │
//!             v
//!          | next entry or head | ...                the lowest bit of a pointer: with priority inheritance
//! ```
//!
//! All of this is the program's memory, and may be anything: an address that is none ends the walk, and so does a list that is
//! too long. The kernel's own stack may have ended the thread: that makes no difference here.
//!
//! # Context
//!
//! The thread itself, at its end, on its memory.

use super::futex::{self, Futex};
use crate::mm::memory::Memory;
use crate::syscall::Errno;

/// The size of a list's head, in bytes: the only one that Linux takes.
pub(crate) const HEAD_BYTES: usize = 24;
/// How many entries are looked at.
const MOST: usize = 2048;

/// In a word: somebody waits; the owner ended; the owner's number.
const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
const OWNER: u32 = 0x3fff_ffff;

/// An entry, as a pointer to it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    addr: usize,
    inherits: bool,
}

impl Entry {
    const fn of(word: usize) -> Self {
        Self { addr: word & !1, inherits: word & 1 != 0 }
    }

    fn read(memory: &Memory, at: usize) -> Result<Self, Errno> {
        read_words(memory, at).map(|[word]| Self::of(word))
    }
}

/// Words that follow each other: to look for a page costs more than to read it.
fn read_words<const WORDS: usize>(memory: &Memory, at: usize) -> Result<[usize; WORDS], Errno> {
    let mut words = [[0; size_of::<usize>()]; WORDS];
    memory.read(at, words.as_flattened_mut())?;
    Ok(words.map(usize::from_le_bytes))
}

/// Walks the list at `head` of the thread with number `owner`, which ends.
pub(crate) fn give_back(memory: &Memory, head: usize, owner: usize) {
    // Where the list ends early, the rest is the program's loss.
    let _walked = walk(memory, head, owner as u32 & OWNER);
}

fn walk(memory: &Memory, head: usize, owner: u32) -> Result<(), Errno> {
    let [first, offset, pending] = read_words(memory, head)?;
    let (mut entry, pending) = (Entry::of(first), Entry::of(pending));
    for _ in 0..MOST {
        if entry.addr == head {
            break;
        }
        // Before the word is marked: whoever wakes may take the entry away.
        let next = Entry::read(memory, entry.addr);
        if entry.addr != pending.addr {
            mark(memory, entry, offset, owner, false)?;
        }
        entry = next?;
    }
    if pending.addr == 0 { Ok(()) } else { mark(memory, pending, offset, owner, true) }
}

/// Marks the word of `entry`, if it is the owner's, and wakes one who waits. `pending`: the owner may have released it already, and
/// not woken anybody.
fn mark(memory: &Memory, entry: Entry, offset: usize, owner: u32, pending: bool) -> Result<(), Errno> {
    let futex = Futex { addr: entry.addr.wrapping_add(offset), private: false };
    let word = memory.update_u32(futex.addr, |word| (word & OWNER == owner).then_some(word & WAITERS | OWNER_DIED))?;
    let wake = match word {
        Ok(held) => held & WAITERS != 0,
        Err(other) => pending && other == 0,
    };
    if wake && !entry.inherits {
        futex::wake(memory, futex, 1, futex::ANY)?;
    }
    Ok(())
}
