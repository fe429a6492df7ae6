//! What a task holds, and what it is about to take: a fixed list outside its stack.
//!
//! The list is written by its owner alone, one word at a time, and read when the owner is dead, on the CPU on which it died.
//! An entry is the address of a lock. It is good for as long as it is there: a lock is borrowed while it is held or taken, and
//! what a killed task has borrowed it never lets go of. Only a lock inside something that another lock protects could go away once
//! that other lock is given back, so the newest is given back first.
//!
//! A list that is full is a bug of the kernel, which nests four locks at most: the lock is refused, and the machine says so. A
//! lock that is held and not listed there is not.

use core::fmt;
use core::marker::PhantomData;

use super::raw::RawLock;
use super::word::Word;

/// How many locks can be held at once.
pub(crate) const HELD: usize = 8;
/// An entry that stands for no lock.
const NONE: u64 = 0;

/// The locks of one task, or of a CPU's handlers.
#[derive(Debug)]
pub(crate) struct HeldLocks {
    /// The lock that is being taken or released.
    taking: Word,
    held: [Word; HELD],
}

/// Whoever takes locks: its list, and the number that goes into their owner words.
///
/// Having a `Holder` means to be the one code that runs in that name now. It cannot be sent to another task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder<'a> {
    locks: &'a HeldLocks,
    owner: u64,
    not_send: PhantomData<*mut ()>,
}

fn address(lock: &RawLock) -> u64 {
    core::ptr::from_ref(lock).expose_provenance() as u64
}

impl HeldLocks {
    pub(crate) const fn new() -> Self {
        Self { taking: Word::new(NONE), held: [const { Word::new(NONE) }; HELD] }
    }

    /// Gives back what `owner`, which is dead, held or was taking.
    ///
    /// # Context
    ///
    /// On the CPU on which the owner died, with a stack that has room. Takes the run queue's lock to wake who waits.
    ///
    /// # Safety
    ///
    /// The owner's code does not run any more, and its frames are not used again.
    pub(crate) unsafe fn give_back(&self, owner: u64) -> GivenBack {
        let mut given = GivenBack::new();
        let pending = self.taking.load();
        given.add(release(pending, owner, false));
        for entry in self.held.iter().rev() {
            let lock = entry.load();
            if lock == NONE {
                continue;
            }
            if lock != pending {
                given.add(release(lock, owner, true));
            }
            entry.store(NONE);
        }
        self.taking.store(NONE);
        given
    }
}

/// The names of locks that are held, for a report: the newest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HeldNames {
    names: [Option<&'static str>; HELD + 1],
    /// How many entries there were; what comes after them means nothing.
    count: usize,
}

impl HeldNames {
    /// None: zero from end to end.
    pub(crate) const NONE: Self = Self { names: [None; HELD + 1], count: 0 };

    /// The names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static str> {
        self.names.iter().take(self.count).copied().flatten()
    }

    /// Forgets them.
    pub(crate) const fn clear(&mut self) {
        self.count = 0;
    }

    /// Adds what lock an entry is of, if `owner` has it.
    ///
    /// # Safety
    ///
    /// As for [`HeldLocks::names`]; there are no more of them than a list has entries.
    unsafe fn add(&mut self, entry: u64, owner: u64) {
        if entry != NONE {
            // SAFETY: as for `release`: the holder has borrowed it, and does not let go of it now.
            let lock = unsafe { &*core::ptr::with_exposed_provenance::<RawLock>(entry as usize) };
            self.names[self.count] = lock.is_of(owner).then(|| lock.name());
            self.count += 1;
        }
    }
}

impl HeldLocks {
    /// Puts what `owner` holds at this moment into `names`. In the fault path, too: it reads words, and names of locks that are there.
    ///
    /// # Safety
    ///
    /// The owner's code does not go on meanwhile.
    pub(crate) unsafe fn names(&self, owner: u64, names: &mut HeldNames) {
        names.clear();
        // SAFETY: the caller's promise.
        unsafe { names.add(self.taking.load(), owner) };
        for entry in self.held.iter().rev() {
            // SAFETY: as above.
            unsafe { names.add(entry.load(), owner) };
        }
    }
}

/// Releases the lock at `entry`, if `owner` has it; poisoned if a section was `begun`.
fn release(entry: u64, owner: u64, begun: bool) -> Option<Given> {
    if entry == NONE {
        return None;
    }
    // SAFETY: an entry is the address of a lock that its holder had borrowed, and a dead holder's borrows do not end (see the
    // top of this file).
    let lock = unsafe { &*core::ptr::with_exposed_provenance::<RawLock>(entry as usize) };
    lock.take_from_the_dead(owner, begun).then(|| Given { name: lock.name(), poisoned: lock.is_poisoned() })
}

impl<'a> Holder<'a> {
    /// The holder that writes to `locks` and is called `owner`, which is not zero.
    pub(crate) const fn new(locks: &'a HeldLocks, owner: u64) -> Self {
        Self { locks, owner, not_send: PhantomData }
    }

    pub(crate) const fn owner(&self) -> u64 {
        self.owner
    }

    /// Before the word of `lock` is touched.
    pub(crate) fn begin(&self, lock: &RawLock) {
        self.locks.taking.store_own(address(lock));
    }

    /// The word is ours: on to the list, and the section begins.
    ///
    /// # Panics
    ///
    /// If the list is full.
    pub(crate) fn note(&self, lock: &RawLock) {
        let newest = self.locks.held.iter().rposition(|entry| entry.load() != NONE);
        let free = self.locks.held.get(newest.map_or(0, |newest| newest + 1));
        let free = free.or_else(|| self.locks.held.iter().find(|entry| entry.load() == NONE));
        let Some(free) = free else { panic!("more locks are held at once than can be noted: {}", lock.name()) };
        free.store_own(address(lock));
        self.end();
    }

    /// The section is over: off the list. The word of `lock` is still ours.
    pub(crate) fn strike(&self, lock: &RawLock) {
        self.begin(lock);
        let entry = self.locks.held.iter().rev().find(|entry| entry.load() == address(lock));
        if let Some(entry) = entry {
            entry.store_own(NONE);
        }
    }

    /// Nothing is being taken or released any more.
    pub(crate) fn end(&self) {
        self.locks.taking.store_own(NONE);
    }
}

/// A lock that was given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Given {
    pub(crate) name: &'static str,
    /// Its section had begun, or it was poisoned before.
    pub(crate) poisoned: bool,
}

/// What a dead task had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct GivenBack {
    locks: [Option<Given>; HELD + 1],
    count: usize,
}

impl GivenBack {
    /// Nothing.
    pub(crate) const fn new() -> Self {
        Self { locks: [None; HELD + 1], count: 0 }
    }

    fn add(&mut self, given: Option<Given>) {
        if given.is_some() {
            self.locks[self.count] = given;
            self.count += 1;
        }
    }

    /// Whether it had nothing.
    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The locks, the newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Given> {
        self.locks.iter().flatten()
    }
}

/// `2 locks were held: heap (poisoned), console`, or nothing at all.
impl fmt::Display for GivenBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            0 => return Ok(()),
            1 => f.write_str("1 lock was held:")?,
            count => write!(f, "{count} locks were held:")?,
        }
        for (index, given) in self.iter().enumerate() {
            let poisoned = if given.poisoned { " (poisoned)" } else { "" };
            write!(f, "{} {}{poisoned}", if index == 0 { "" } else { "," }, given.name)?;
        }
        Ok(())
    }
}
