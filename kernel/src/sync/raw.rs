//! The head of a lock: its words, and how they are taken and released.
//!
//! Nothing here knows what is protected, which task runs, or how it waits. See `mod.rs` for the protocol; each function is written
//! so that its holder may be killed between any two accesses.
//!
//! ```text
//!   owner      0, or the number of the holder; of a read-write lock: of the writer, who may still wait for readers to go
//!   readers    each 0 or the number of a reader: a slot is taken first, and given up again if there is an owner
//!   contended  somebody may be parked: set before the last look, under the run queue's lock; taken by whoever releases
//! ```
//!
//! *No wake is lost.* A waiter stores `contended`, then looks whether the lock is busy; a releaser frees its word, then takes
//! `contended`. All four are in one order, so either the waiter sees the lock free, or the releaser sees it contended, and the
//! wake waits for the run queue's lock, under which the waiter parks. A releaser who is killed in between still stands in
//! `taking`, and whoever gives back its locks wakes everybody.

use super::held::Holder;
use super::lot;
use super::word::Word;

/// How many readers a read-write lock has at once; more wait.
pub(crate) const READERS: usize = 8;
const FREE: u64 = 0;

/// What kind of lock it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Spin,
    Mutex,
    ReadWrite,
    Vital,
}

impl Kind {
    /// The word in facts.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::Mutex => "mutex",
            Self::ReadWrite => "rwlock",
            Self::Vital => "vital",
        }
    }

    const fn sleeps(self) -> bool {
        matches!(self, Self::Mutex | Self::ReadWrite)
    }
}

/// How a lock is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Free,
    Held,
    /// Free, and a holder was killed.
    Poisoned,
}

impl State {
    /// The word in facts.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Held => "held",
            Self::Poisoned => "poisoned",
        }
    }
}

/// A lock without its value.
#[derive(Debug)]
pub(crate) struct RawLock {
    owner: Word,
    poisoned: Word,
    contended: Word,
    readers: [Word; READERS],
    kind: Kind,
    name: &'static str,
}

impl RawLock {
    pub(crate) const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            owner: Word::new(FREE),
            poisoned: Word::new(0),
            contended: Word::new(0),
            readers: [const { Word::new(FREE) }; READERS],
            kind,
            name,
        }
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load() != 0
    }

    pub(crate) fn clear_poison(&self) {
        self.poisoned.store(0);
    }

    pub(crate) fn state(&self) -> State {
        match (self.owner.load() != FREE || self.has_readers(), self.is_poisoned()) {
            (true, _) => State::Held,
            (false, true) => State::Poisoned,
            (false, false) => State::Free,
        }
    }

    /// What tasks that wait for this lock are parked on.
    fn key(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    fn has_readers(&self) -> bool {
        self.readers.iter().any(|reader| reader.load() != FREE)
    }

    /// # Panics
    ///
    /// If `me` has the lock: it would wait for itself.
    fn refuse_twice(&self, me: &Holder<'_>) {
        assert!(!self.is_of(me.owner()), "lock {} is taken twice", self.name);
    }

    /// Whether `owner` has the lock, alone or among others.
    pub(crate) fn is_of(&self, owner: u64) -> bool {
        let has = |word: &Word| word.load() == owner;
        // The other kinds have no readers.
        has(&self.owner) || self.kind == Kind::ReadWrite && self.readers.iter().any(has)
    }

    /// Takes the lock for `me`, asking at most `tries` times. False if somebody else had it all the time.
    pub(crate) fn lock_within(&self, me: &Holder<'_>, tries: u64) -> bool {
        me.begin(self);
        for _ in 0..tries {
            if self.owner.replace(FREE, me.owner()) {
                me.note(self);
                return true;
            }
            core::hint::spin_loop();
        }
        me.end();
        false
    }

    /// Takes the lock for `me`, however long it takes, without leaving the CPU.
    pub(crate) fn lock_spinning(&self, me: &Holder<'_>) {
        self.refuse_twice(me);
        while !self.lock_within(me, u64::MAX) {}
    }

    /// Takes the lock for `me` alone; waits off the CPU, first for its owner and then for readers.
    pub(crate) fn lock_sleeping(&self, me: &Holder<'_>) {
        self.refuse_twice(me);
        me.begin(self);
        while !self.owner.replace(FREE, me.owner()) {
            self.park(|| self.owner.load() != FREE);
        }
        while self.has_readers() {
            self.park(|| self.has_readers());
        }
        me.note(self);
    }

    /// Takes the lock for `me` as one of its readers.
    pub(crate) fn share(&self, me: &Holder<'_>) {
        self.refuse_twice(me);
        me.begin(self);
        while !self.try_share(me.owner()) {
            self.park(|| self.owner.load() != FREE || self.readers.iter().all(|reader| reader.load() != FREE));
        }
        me.note(self);
    }

    fn try_share(&self, owner: u64) -> bool {
        let Some(slot) = self.readers.iter().find(|reader| reader.replace(FREE, owner)) else { return false };
        if self.owner.load() == FREE {
            return true;
        }
        // A writer is first. It may have seen the slot taken and wait for it.
        slot.store(FREE);
        self.wake_waiters();
        false
    }

    /// Releases the lock, which `me` has alone.
    pub(crate) fn unlock(&self, me: &Holder<'_>) {
        me.strike(self);
        self.owner.store(FREE);
        self.wake_waiters();
        me.end();
    }

    /// Releases the lock, which `me` shares.
    pub(crate) fn unshare(&self, me: &Holder<'_>) {
        me.strike(self);
        if let Some(slot) = self.readers.iter().find(|reader| reader.load() == me.owner()) {
            slot.store(FREE);
        }
        self.wake_waiters();
        me.end();
    }

    /// Releases what `owner`, which is dead, has of this lock, and wakes who waits. Poisons it if a section was `begun` that may
    /// have written. Whether the dead had any of it.
    pub(super) fn take_from_the_dead(&self, owner: u64, begun: bool) -> bool {
        let alone = self.owner.load() == owner;
        if alone {
            if begun {
                self.poisoned.store(1);
            }
            self.owner.store(FREE);
        }
        let mut shared = false;
        for reader in self.readers.iter().filter(|reader| reader.load() == owner) {
            reader.store(FREE);
            shared = true;
        }
        if self.kind.sleeps() {
            // Also where it had nothing: it may have been killed after its word was free and before it woke anybody.
            lot::unpark_all(self.key());
        }
        alone || shared
    }

    /// Before the last look of who is about to park.
    pub(super) fn say_contended(&self) {
        self.contended.store(1);
    }

    fn park(&self, busy: impl Fn() -> bool) {
        lot::park(self.key(), || {
            self.say_contended();
            busy()
        });
    }

    fn wake_waiters(&self) {
        if self.kind.sleeps() && self.contended.swap(0) != 0 {
            lot::unpark_all(self.key());
        }
    }
}
