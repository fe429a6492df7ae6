//! Epoll: a list of files to wait for, which is itself an open file.
//!
//! Nothing is registered with the files: who waits looks at all of the list, as `poll` does. An entry means a file by its descriptor and
//! by which file that was; once the descriptor stands for another one, or for none, the entry is as if it were gone.

use alloc::vec::Vec;

use super::open::{Held, OpenFile};
use super::ready::Ready;
use crate::mm::heap;
use crate::sync::{AnyLock, Mutex, MutexGuard, Section};
use crate::syscall::Errno;

/// Bits of an entry's events beside those of `poll`.
const EDGE: u32 = 1 << 31;
const ONE_SHOT: u32 = 1 << 30;
const ASKED: u32 = 0xffff;

/// What is wanted of a file, and what a program wants to be told with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interest {
    pub(crate) events: u32,
    pub(crate) data: u64,
}

/// An entry of the list.
#[derive(Clone, Copy, Debug)]
struct Entry {
    descriptor: usize,
    /// Which file it was: its number.
    file: u64,
    interest: Interest,
    /// The news that were told last, for one that is only told news.
    told: Option<usize>,
}

impl Entry {
    /// Whether anything is wanted of the file: not of one that was told once, and that was enough.
    const fn is_armed(&self) -> bool {
        self.interest.events & !ONE_SHOT & !EDGE != 0
    }
}

/// The list.
#[derive(Debug)]
pub(crate) struct Epoll {
    entries: Mutex<Vec<Entry>>,
}

/// One that nobody opens, for crashes that want its lock.
static SPECIMEN: Epoll = Epoll::new();

/// An epoll's lock.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &SPECIMEN.entries
}

impl Epoll {
    pub(crate) const fn new() -> Self {
        Self { entries: Mutex::new("epoll", Vec::new()) }
    }

    /// The list: also after a task was killed with it, for it changes in sections that nobody is killed in.
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock_anyway()
    }

    /// Adds `file`, which is open at `descriptor`.
    pub(crate) fn add(&self, descriptor: usize, file: &OpenFile, interest: Interest) -> Result<(), Errno> {
        let mut entries = self.lock();
        let _section = Section::enter();
        entries.retain(|entry| entry.descriptor != descriptor || entry.file == file.number());
        if entries.iter().any(|entry| entry.descriptor == descriptor) {
            return Err(Errno::EXIST);
        }
        heap::reserve(&mut entries, 1)?;
        entries.push(Entry { descriptor, file: file.number(), interest, told: None });
        Ok(())
    }

    /// Changes what is wanted of `file`, or takes it off the list.
    pub(crate) fn change(&self, descriptor: usize, file: &OpenFile, interest: Option<Interest>) -> Result<(), Errno> {
        let mut entries = self.lock();
        let _section = Section::enter();
        let is_it = |entry: &Entry| entry.descriptor == descriptor && entry.file == file.number();
        let index = entries.iter().position(is_it).ok_or(Errno::NOENT)?;
        match interest {
            Some(interest) => entries[index] = Entry { interest, told: None, ..entries[index] },
            None => drop(entries.swap_remove(index)),
        }
        Ok(())
    }

    /// Tells `tell` of the files that are ready, `count` at most, as `open` finds them, and says how many those are and whether one of
    /// the list has to be looked at from time to time.
    pub(crate) fn look(
        &self,
        count: usize,
        open: impl Fn(usize) -> Result<Held, Errno>,
        mut tell: impl FnMut(Interest),
    ) -> (usize, bool) {
        let (mut told, mut silent) = (0, false);
        for entry in self.lock().iter_mut() {
            let Some(file) = open(entry.descriptor).ok().filter(|file| file.number() == entry.file) else { continue };
            silent |= file.is_silent();
            let news = file.news();
            let ready = file.ready().asked((entry.interest.events & ASKED) as u16);
            let is_told = entry.interest.events & EDGE != 0 && entry.told == Some(news);
            if told == count || is_told || !entry.is_armed() || !ready.is_something() {
                continue;
            }
            entry.told = Some(news);
            tell(Interest { events: u32::from(ready.0), data: entry.interest.data });
            if entry.interest.events & ONE_SHOT != 0 {
                entry.interest.events = ONE_SHOT;
            }
            told += 1;
        }
        (told, silent)
    }

    /// Whether something of the list is ready, as `open` finds it.
    pub(crate) fn ready(&self, open: impl Fn(usize) -> Result<Held, Errno>) -> Ready {
        let entries = self.lock();
        let mut ready = entries.iter().filter(|entry| entry.is_armed()).filter_map(|entry| {
            let file = open(entry.descriptor).ok().filter(|file| file.number() == entry.file)?;
            Some(file.ready().asked((entry.interest.events & ASKED) as u16))
        });
        Ready::READ.when(ready.any(Ready::is_something))
    }
}
