//! Names of tasks, where the fault path can read them.
//!
//! A report names the owner of a stack from a word in its slot record, also when that owner is long gone. So names do not
//! live in tasks: each slot has a place for one, a fixed number of words, written when a task gets the slot. The owner
//! word says which place and which task; if the place has gone to another task since, the report has the number alone.
//!
//! ```text
//!   owner word   | task number, 40 bits | slot, 24 bits |
//! ```
//!
//! Contexts: writing, the CPU that holds the slot's stack; reading, any, the fault path included.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use vmstack::SlotIndex;

const SLOT_BITS: u32 = 24;
const _: () = assert!(vmstack::MAX_SLOTS <= 1 << SLOT_BITS, "an owner word has room for every slot");
const WORDS: usize = 3;
/// The longest name that is kept, in bytes.
const LONGEST: usize = WORDS * size_of::<u64>();

#[derive(Debug)]
struct Name {
    /// The owner word that the name belongs to, written last; zero while it is being written.
    owner: AtomicU64,
    text: [AtomicU64; WORDS],
}

#[derive(Debug)]
pub(crate) struct Names {
    by_slot: Box<[Name]>,
}

impl Names {
    pub(crate) fn new(slots: usize) -> Self {
        let names = Box::<[Name]>::new_zeroed_slice(slots);
        // SAFETY: zero is a valid value of atomic words.
        Self { by_slot: unsafe { names.assume_init() } }
    }

    /// Keeps `name`, shortened if it must be, for task number `task` in `slot`, and returns its owner word.
    pub(crate) fn keep(&self, slot: SlotIndex, task: u64, name: &str) -> usize {
        let owner = task << SLOT_BITS | u64::from(slot.get());
        let Some(place) = self.by_slot.get(slot.get() as usize) else { return owner as usize };
        place.owner.store(0, Ordering::Release);
        for (i, word) in place.text.iter().enumerate() {
            word.store(word_of(name, i), Ordering::Release);
        }
        place.owner.store(owner, Ordering::Release);
        owner as usize
    }

    /// Writes the name that belongs to `owner`, or what is known if it is gone.
    pub(crate) fn write(&self, owner: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        let (task, slot) = (owner as u64 >> SLOT_BITS, owner & ((1 << SLOT_BITS) - 1));
        if task == 0 {
            return write!(out, "owner {owner:#x}");
        }
        write!(out, "task {task}")?;
        match self.by_slot.get(slot).and_then(|place| place.read(owner as u64)) {
            Some(bytes) => write!(out, " ({})", text(&bytes)),
            None => Ok(()),
        }
    }
}

impl Name {
    /// The bytes of the name, if it belongs to `owner` before and after they were read.
    fn read(&self, owner: u64) -> Option<[u8; LONGEST]> {
        let mut bytes = [0; LONGEST];
        let belongs = self.owner.load(Ordering::Acquire) == owner;
        for (part, word) in bytes.chunks_exact_mut(size_of::<u64>()).zip(&self.text) {
            part.copy_from_slice(&word.load(Ordering::Acquire).to_ne_bytes());
        }
        (belongs && self.owner.load(Ordering::Acquire) == owner).then_some(bytes)
    }
}

/// Word `i` of what is kept of `name`.
fn word_of(name: &str, i: usize) -> u64 {
    let kept = name.get(..name.floor_char_boundary(LONGEST)).unwrap_or("").bytes();
    let mut bytes = [0; size_of::<u64>()];
    for (place, byte) in bytes.iter_mut().zip(kept.skip(i * size_of::<u64>())) {
        *place = byte;
    }
    u64::from_ne_bytes(bytes)
}

fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    bytes.get(..end).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, text, word_of};

    fn kept(name: &str) -> String {
        let bytes: Vec<u8> = (0..3).flat_map(|i| word_of(name, i).to_ne_bytes()).collect();
        text(&bytes).to_owned()
    }

    #[test]
    fn a_name_is_kept_whole_or_cut_between_two_characters() {
        for name in ["", "a", "worker 7", "exactly twenty-four byte", "a name that is too long to be kept"] {
            assert_eq!(kept(name), name[..name.len().min(LONGEST)]);
        }
        assert_eq!(kept("twenty-three bytes xxxx\u{e9}"), "twenty-three bytes xxxx");
    }
}
