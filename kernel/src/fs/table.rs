//! Tables of open files, by descriptor: of a process, or of several that share one.
//!
//! ```text
//!   chunks: 0 ──> 64 words      a word: a counted pointer to an open file, and bit 0: closed by execve
//!           1 ──> 64 words, made when they are needed
//!           ...
//! ```
//!
//! A descriptor is one word, so there is no instruction at which the table is half changed: a task that is killed with the table's
//! lock leaves it whole. Between a word and the count that it stands for nobody is killed ([`Section`]). What a table has is given
//! back by [`FileTable::close_all`], which may be done again by a task that was killed in the middle of it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ops::Deref;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed};

use super::open::{Held, OpenFile};
use crate::mm::heap::{self, OutOfHeap};
use crate::process;
use crate::process::tree::{self, Tree};
use crate::sync::{AnyLock, Section, SpinGuard, SpinLock};
use crate::syscall::Errno;
use crate::task::kept::{self, Keep, Kept};

/// How many files a process can have open.
pub(crate) const MAX_FILES: usize = CHUNKS * CHUNK;
const CHUNKS: usize = 16;
const CHUNK: usize = 64;
/// How many descriptors are looked at together.
const GROUP: usize = 8;
/// In a descriptor's word: `execve` closes it.
const CLOSE_ON_EXEC: usize = 1;

const _: () = assert!(align_of::<OpenFile>() > CLOSE_ON_EXEC);

/// Descriptors that follow each other.
#[derive(Debug)]
struct Chunk([AtomicPtr<OpenFile>; CHUNK]);

/// A table of open files.
#[derive(Debug)]
pub(crate) struct FileTable {
    /// Processes that have not left it.
    users: AtomicUsize,
    /// From here on no descriptor was ever open. Changes under the lock, before a descriptor does.
    end: AtomicUsize,
    lock: SpinLock<()>,
    chunks: [AtomicPtr<Chunk>; CHUNKS],
}

/// Files that are closed together.
type Few = [Option<Arc<OpenFile>>; GROUP];

/// The right to change a table. In the section nobody is killed.
struct Locked<'a> {
    table: &'a FileTable,
    /// Released before the section ends.
    _guard: SpinGuard<'a, ()>,
    section: Section,
}

/// Counts one more user of the file that a descriptor's word stands for.
fn counted(word: *mut OpenFile) -> Option<Arc<OpenFile>> {
    let file = pointer(word)?;
    // SAFETY: the word is a pointer from `Arc::into_raw` with a count of its own, which is there while the table is locked.
    unsafe { Arc::increment_strong_count(file) };
    // SAFETY: as above; the count is this one's.
    Some(unsafe { Arc::from_raw(file) })
}

/// The count that a descriptor's word stood for, which was taken out of the table.
fn taken(word: *mut OpenFile) -> Option<Arc<OpenFile>> {
    // SAFETY: the word's count is the caller's now.
    pointer(word).map(|file| unsafe { Arc::from_raw(file) })
}

fn pointer(word: *mut OpenFile) -> Option<*const OpenFile> {
    let file = word.map_addr(|addr| addr & !CLOSE_ON_EXEC).cast_const();
    (!file.is_null()).then_some(file)
}

fn word(file: Arc<OpenFile>, close_on_exec: bool) -> *mut OpenFile {
    Arc::into_raw(file).cast_mut().map_addr(|addr| addr | usize::from(close_on_exec))
}

/// Whether no descriptor of `slots` is open.
fn all_closed(slots: &[AtomicPtr<OpenFile>]) -> bool {
    slots.iter().fold(0, |bits, slot| bits | slot.load(Relaxed).addr()) == 0
}

impl Chunk {
    /// The first descriptor from `from` on that is open, none of which is from `end` on.
    fn next_open(&self, from: usize, end: usize) -> Option<usize> {
        let mut next = from;
        while next < end.min(CHUNK) {
            // Most of most tables is empty.
            if next.is_multiple_of(GROUP) && self.0.get(next..next + GROUP).is_some_and(all_closed) {
                next += GROUP;
            } else if self.0[next].load(Relaxed).is_null() {
                next += 1;
            } else {
                return Some(next);
            }
        }
        None
    }

    /// Copies all descriptors of `from`, whose table is `_locked` and has none from `end` on, into this one, which is empty.
    fn copy_from(&self, from: &Self, end: usize, _locked: &Locked<'_>) {
        let mut next = 0;
        while let Some(place) = from.next_open(next, end) {
            let copied = from.0[place].load(Relaxed);
            if let Some(file) = counted(copied) {
                self.0[place].store(word(file, copied.addr() & CLOSE_ON_EXEC != 0), Relaxed);
            }
            next = place + 1;
        }
    }
}

impl FileTable {
    /// An empty table.
    pub(crate) fn new() -> Result<Arc<Self>, OutOfHeap> {
        let chunks = [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS];
        let lock = SpinLock::new("process-files", ());
        heap::try_arc(Self { users: AtomicUsize::new(0), end: AtomicUsize::new(0), lock, chunks })
    }

    /// The table's lock.
    pub(crate) const fn any_lock(&self) -> &dyn AnyLock {
        &self.lock
    }

    fn lock(&self) -> Locked<'_> {
        let section = Section::enter();
        // Also after a task was killed with it: see the top of the file.
        Locked { table: self, _guard: self.lock.lock_anyway(), section }
    }

    /// The word of `descriptor`, if there is a chunk for it.
    fn slot(&self, descriptor: usize) -> Option<&AtomicPtr<OpenFile>> {
        self.chunk(descriptor / CHUNK).map(|chunk| &chunk.0[descriptor % CHUNK])
    }

    /// The chunk with number `index`, if there is one.
    fn chunk(&self, index: usize) -> Option<&Chunk> {
        let chunk = self.chunks.get(index)?.load(Relaxed);
        // SAFETY: null, or a chunk that is the table's until the table is dropped.
        unsafe { chunk.as_ref() }
    }

    /// Makes sure that there is a chunk for `descriptor`.
    fn make_room(&self, descriptor: usize) -> Result<(), Errno> {
        let place = self.chunks.get(descriptor / CHUNK).ok_or(Errno::MFILE)?;
        if !place.load(Relaxed).is_null() {
            return Ok(());
        }
        // A chunk is the heap's or the table's: nobody is killed in between.
        let _section = Section::enter();
        let chunk = heap::try_box(Chunk([const { AtomicPtr::new(ptr::null_mut()) }; CHUNK]))?;
        let chunk = Box::into_raw(chunk);
        if place.compare_exchange(ptr::null_mut(), chunk, Relaxed, Relaxed).is_err() {
            // SAFETY: it was made above, and nobody has seen it.
            drop(unsafe { Box::from_raw(chunk) });
        }
        Ok(())
    }

    /// The file at `descriptor`.
    pub(crate) fn get(&self, descriptor: usize) -> Result<Held, Errno> {
        let locked = self.lock();
        let file = self.slot(descriptor).and_then(|slot| counted(slot.load(Relaxed))).ok_or(Errno::BADF)?;
        Ok(Held::new(file, &locked.section))
    }

    /// The lowest descriptor from `from` on that is open.
    pub(crate) fn next_open(&self, from: usize) -> Option<usize> {
        let end = self.end.load(Relaxed);
        (from / CHUNK..end.div_ceil(CHUNK)).find_map(|index| {
            let chunk = self.chunk(index)?;
            let start = if index == from / CHUNK { from % CHUNK } else { 0 };
            Some(index * CHUNK + chunk.next_open(start, end - index * CHUNK)?)
        })
    }

    /// Puts `file` at the lowest free descriptor from `from` on.
    pub(crate) fn install(&self, file: Arc<OpenFile>, from: usize, close_on_exec: bool) -> Result<usize, Errno> {
        loop {
            let locked = self.lock();
            let free = locked.free(from)?;
            if let Some(slot) = self.slot(free) {
                locked.reach(free + 1);
                slot.store(word(file, close_on_exec), Relaxed);
                return Ok(free);
            }
            drop(locked);
            self.make_room(free)?;
        }
    }

    /// Puts `file` at `descriptor`, and closes what was there.
    pub(crate) fn install_at(&self, file: Arc<OpenFile>, descriptor: usize, close_on_exec: bool) -> Result<(), Errno> {
        if descriptor >= MAX_FILES {
            return Err(Errno::BADF);
        }
        self.make_room(descriptor)?;
        let locked = self.lock();
        let slot = self.slot(descriptor).ok_or(Errno::NOMEM)?;
        locked.reach(descriptor + 1);
        let before = taken(slot.swap(word(file, close_on_exec), Relaxed));
        locked.drop_files(before);
        Ok(())
    }

    /// Copies the descriptor `from` to `to`, and closes what was there; or to the lowest one from `at_least` on.
    pub(crate) fn copy(&self, from: usize, to: Target, close_on_exec: bool) -> Result<usize, Errno> {
        // Until it has its place, the count is nobody's.
        let _section = Section::enter();
        let copy = {
            let _locked = self.lock();
            self.slot(from).and_then(|slot| counted(slot.load(Relaxed))).ok_or(Errno::BADF)?
        };
        match to {
            Target::AtLeast(least) if least >= MAX_FILES => Err(Errno::INVAL),
            Target::AtLeast(least) => self.install(copy, least, close_on_exec),
            Target::Exactly(descriptor) => self.install_at(copy, descriptor, close_on_exec).map(|()| descriptor),
        }
    }

    /// Closes `descriptor`.
    pub(crate) fn close(&self, descriptor: usize) -> Result<(), Errno> {
        let locked = self.lock();
        let file = self.slot(descriptor).and_then(|slot| taken(slot.swap(ptr::null_mut(), Relaxed)));
        let was_open = file.is_some();
        locked.drop_files(file);
        was_open.then_some(()).ok_or(Errno::BADF)
    }

    /// Whether `execve` closes `descriptor`.
    pub(crate) fn closes_on_exec(&self, descriptor: usize) -> Result<bool, Errno> {
        let word = self.slot(descriptor).map(|slot| slot.load(Relaxed)).filter(|word| !word.is_null());
        word.map(|word| word.addr() & CLOSE_ON_EXEC != 0).ok_or(Errno::BADF)
    }

    /// Says whether `execve` closes `descriptor`.
    pub(crate) fn set_closes_on_exec(&self, descriptor: usize, closes: bool) -> Result<(), Errno> {
        let _locked = self.lock();
        let slot = self.slot(descriptor).ok_or(Errno::BADF)?;
        let word = slot.load(Relaxed);
        if word.is_null() {
            return Err(Errno::BADF);
        }
        slot.store(word.map_addr(|addr| addr & !CLOSE_ON_EXEC | usize::from(closes)), Relaxed);
        Ok(())
    }

    /// Closes what `execve` closes.
    pub(crate) fn close_on_exec(&self) {
        self.close_where(|word| word.addr() & CLOSE_ON_EXEC != 0);
    }

    /// Closes everything. May be done again by a task that was killed in the middle of it.
    pub(crate) fn close_all(&self) {
        self.close_where(|_| true);
    }

    /// Closes everything if nobody uses the table any more.
    fn close_if_left(&self) {
        if self.users.load(Relaxed) == 0 {
            self.close_all();
        }
    }

    fn close_where(&self, closes: impl Fn(*mut OpenFile) -> bool) {
        let mut next = 0;
        while let Some(first) = self.next_open(next) {
            let locked = self.lock();
            let (files, behind) = locked.take_some(first, &closes);
            locked.drop_files(files);
            next = behind;
        }
    }

    /// A copy with the same open files, for a child: kept, so that nothing of it is lost if the task is killed while it copies.
    pub(crate) fn duplicate(&self) -> Result<Kept<Arc<Self>>, Errno> {
        // A table is the heap's or kept: nobody is killed in between.
        let section = Section::enter();
        let copy = kept::keep(&"file table", Self::new()?, &section);
        drop(section);
        copy.copy_from(self)?;
        Ok(copy)
    }

    /// Copies all descriptors of `from` into this table, which is empty and nobody else's yet.
    fn copy_from(&self, from: &Self) -> Result<(), Errno> {
        let mut next = 0;
        while let Some(descriptor) = from.next_open(next) {
            self.make_room(descriptor)?;
            let index = descriptor / CHUNK;
            if let (Some(to), Some(chunk)) = (self.chunk(index), from.chunk(index)) {
                let locked = from.lock();
                let end = from.end.load(Relaxed);
                // Nobody else has it yet.
                self.end.store(end, Relaxed);
                to.copy_from(chunk, end - index * CHUNK, &locked);
            }
            next = (index + 1) * CHUNK;
        }
        Ok(())
    }
}

/// Where a copy of a descriptor goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// The lowest free one from here on.
    AtLeast(usize),
    /// This one.
    Exactly(usize),
}

/// How many descriptors the current process may have.
fn most() -> usize {
    process::current().map_or(MAX_FILES, |process| process.limits().files().min(MAX_FILES))
}

impl Locked<'_> {
    /// Notes that descriptors up to `end` may be open.
    fn reach(&self, end: usize) {
        self.table.end.store(self.table.end.load(Relaxed).max(end), Relaxed);
    }

    /// The lowest free descriptor from `from` on.
    fn free(&self, from: usize) -> Result<usize, Errno> {
        let is_free = |descriptor: &usize| self.table.slot(*descriptor).is_none_or(|slot| slot.load(Relaxed).is_null());
        (from..most()).find(is_free).ok_or(Errno::MFILE)
    }

    /// Takes out what `closes` says of the first few descriptors that are open from `first` on, in its chunk. The files, and where to go on.
    fn take_some(&self, first: usize, closes: impl Fn(*mut OpenFile) -> bool) -> (Few, usize) {
        let (mut files, start) = ([const { None }; GROUP], first / CHUNK * CHUNK);
        let Some(chunk) = self.table.chunk(first / CHUNK) else { return (files, start + CHUNK) };
        let end = self.table.end.load(Relaxed) - start;
        let mut place = Some(first % CHUNK);
        for file in &mut files {
            let Some(this) = place else { break };
            let slot = &chunk.0[this];
            if closes(slot.load(Relaxed)) {
                *file = taken(slot.swap(ptr::null_mut(), Relaxed));
            }
            place = chunk.next_open(this + 1, end);
        }
        (files, start + place.unwrap_or(CHUNK))
    }

    /// Lets go of the table, and then of `files`, before anybody can be killed.
    fn drop_files<T>(self, files: T) {
        let Self { _guard: guard, section, .. } = self;
        drop(guard);
        drop(files);
        drop(section);
    }
}

/// A process's files: a table, which other processes may have too.
///
/// `execve` puts another table in its place. So a borrow of the table is for the process's own threads, of which that call leaves one;
/// whoever else wants it counts it, under the tree's lock.
#[derive(Debug)]
pub(crate) struct Files {
    /// Counted: from `Arc::into_raw`. Changes under the tree's lock.
    table: AtomicPtr<FileTable>,
    /// It is not a user of the table any more.
    left: AtomicBool,
}

impl Files {
    pub(crate) fn new(table: Arc<FileTable>) -> Self {
        table.users.fetch_add(1, Relaxed);
        Self { table: AtomicPtr::new(Arc::into_raw(table).cast_mut()), left: AtomicBool::new(false) }
    }

    /// The table, for a process that shares it: a child of the current process, which this is.
    pub(crate) fn share(&self) -> Arc<FileTable> {
        let table = self.table.load(Relaxed);
        // SAFETY: it came from `Arc::into_raw`, and its count is given up only by `replace`, which the caller is not in, or with this.
        unsafe { Arc::increment_strong_count(table) };
        // SAFETY: as above; the count is this one's.
        unsafe { Arc::from_raw(table) }
    }

    /// The table, for another process, which holds the tree's lock while it counts.
    pub(crate) fn count(&self, _tree: &Tree) -> Arc<FileTable> {
        self.share()
    }

    /// Takes a copy of the table in its place if others have it too: they keep it. For the only thread of the process.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: nothing has changed.
    pub(crate) fn unshare(&self) -> Result<(), Errno> {
        if self.users.load(Relaxed) == 1 {
            return Ok(());
        }
        let copy = self.duplicate()?;
        // Either table is one's who has counted itself, at each instruction at which this task can be killed.
        let section = Section::enter();
        let before = kept::keep(&"file table", self.replace(copy.take(&section)), &section);
        before.users.fetch_sub(1, Relaxed);
        drop(section);
        before.close_if_left();
        Ok(())
    }

    /// Puts `table` in the place of what was there, whose count is the caller's.
    fn replace(&self, table: Arc<FileTable>) -> Arc<FileTable> {
        table.users.fetch_add(1, Relaxed);
        let _tree = tree::lock();
        let before = self.table.swap(Arc::into_raw(table).cast_mut(), Relaxed);
        // SAFETY: it came from `Arc::into_raw`, and its count was this place's.
        unsafe { Arc::from_raw(before) }
    }

    /// Is no user of the table any more. What is in it is closed by the last one that [leaves](Self::leave) it, or goes with it.
    pub(crate) fn resign(&self) {
        let _section = Section::enter();
        if !self.left.swap(true, Relaxed) {
            self.users.fetch_sub(1, Relaxed);
        }
    }

    /// Leaves the table: the last one closes what is in it. May be done again by a task that was killed in the middle of it.
    pub(crate) fn leave(&self) {
        self.resign();
        self.close_if_left();
    }
}

impl Deref for Files {
    type Target = FileTable;

    fn deref(&self) -> &FileTable {
        // SAFETY: the table is counted here; it is replaced only by the process's only thread, and borrowed by no other process's.
        unsafe { &*self.table.load(Relaxed) }
    }
}

impl Drop for Files {
    /// A process that never ran, or that went the short way, has not left its table.
    fn drop(&mut self) {
        self.leave();
        // SAFETY: it came from `Arc::into_raw`, and its count goes with this.
        drop(unsafe { Arc::from_raw(*self.table.get_mut()) });
    }
}

impl Keep for Arc<FileTable> {
    /// One file after the other is closed, if nobody else has the table.
    fn settle(&self) {
        if Arc::strong_count(self) == 1 {
            self.close_all();
        }
    }
}

impl Drop for FileTable {
    fn drop(&mut self) {
        self.close_all();
        for chunk in &self.chunks {
            let chunk = chunk.swap(ptr::null_mut(), Relaxed);
            if !chunk.is_null() {
                // SAFETY: it came from `Box::into_raw`, and the table, which goes, had it.
                drop(unsafe { Box::from_raw(chunk) });
            }
        }
    }
}
