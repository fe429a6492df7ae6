//! [`Paged`]: the seam of a vmalloc, on memory whose frames come in runs (`runs`), over page tables of one kind or the other.
//!
//! | the library asks | the port does |
//! | --- | --- |
//! | `take_frames`, `take_uncleared` | runs of frames near what the CPU took last; cleared through the direct map, or not |
//! | `map`, `map_chunk` | one call of the page tables for each run |
//! | `unmap`, `unmap_chunk` | the tables forget; their frames are made into runs again |
//! | `lend`, `unlend`, `give_lent` | a word beside each frame, which also links lent frames: so a frame is lent once at a time |
//! | `map_lent` | as `map`; the tables remember that the frame is lent |
//!
//! What page tables are is a [`Backing`]: [`Mapped`](crate::Mapped), the host's own through `mmap`, or [`Tabled`](crate::Tabled), tables of
//! ours in plain memory with no MMU behind them. The rest is the same for both, so that what is measured over the second is what runs over the first.
//!
//! There are no large pages and no leaf tables that go: a process has neither to give.
//!
//! Contexts: task, under a guard; `translate` any, the fault path included.

use core::fmt::Debug;

use vmstack::{Cpu, Hint, Mapping, NotMapped, Pages, PhysAddr, Platform, Unmapped, VirtAddr, VirtRange};
use vmstack_vmalloc::Pager;

use crate::arch::PAGE_SIZE;
use crate::frames::FrameCount;
use crate::memory::Ram;
use crate::platform::{Guard, HostedError, check_headroom};
use crate::runs::{Gather, Links, Run, RunTable, Runs};
use crate::thread;

/// What a word beside a frame says that is lent and on no list.
const LENT: u64 = u64::MAX;

/// What may be done with frames that are lent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lending {
    /// They are read.
    Read,
    /// They are read and written.
    ReadWrite,
}

/// What a page is mapped to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The number of the frame in the memory.
    pub(crate) frame: u32,
    /// Whether it is somebody else's, and then how.
    pub(crate) lent: Option<Lending>,
}

/// Page tables: of the host, or in memory.
///
/// # Implementation safety
///
/// 1. `map` maps exactly the pages that it is told to, as it is told, before it returns; or none of them.
/// 2. After `flushed` said `true`, no thread can reach by a page of the batch what `take` gave.
pub unsafe trait Backing: Sync + Sized {
    /// Proof of a shootdown that was started.
    type Ticket: Send + Debug;

    /// The addresses.
    fn range(&self) -> VirtRange;

    /// Maps `count` pages from `page` on to frames of `ram`, side by side, the first of which is `first`.
    ///
    /// # Errors
    ///
    /// Then none is mapped.
    fn map(&self, page: VirtAddr, ram: &RamRef<'_>, first: Entry, count: usize) -> Result<(), HostedError>;

    /// Forgets what `pages` are mapped to and tells it, lowest first.
    fn take(&self, pages: Pages, take: impl FnMut(Entry));

    /// Makes sure that nobody reaches anything by these pages, which were just mapped and taken again, and which nobody has used.
    fn undo(&self, pages: Pages);

    /// Starts to make all threads forget `batch`.
    fn shootdown(&self, cpu: Cpu, batch: impl Iterator<Item = Pages> + Clone) -> Self::Ticket;

    /// Whether they have.
    fn flushed(&self, ticket: &Self::Ticket) -> bool;

    /// The frame at `addr`. Any context, the fault path included.
    fn frame(&self, addr: VirtAddr) -> Option<u32>;

    /// Makes the tables of the highest level.
    ///
    /// # Errors
    ///
    /// There is no memory for them.
    fn prepare(&self, range: VirtRange) -> Result<(), HostedError>;

    /// `cpu` is about to look at areas, or has come online: it forgets what it was told to.
    fn entered(&self, cpu: Cpu);

    /// `cpu` will look at no area until it has entered again.
    fn idles(&self, cpu: Cpu);
}

/// A memory, for [`Backing`].
#[derive(Clone, Copy, Debug)]
pub struct RamRef<'r>(pub(crate) &'r Ram);

/// The platform of a vmalloc in this process: its memory and its page tables.
#[derive(Debug)]
pub struct Paged<B> {
    id: u64,
    ram: Ram,
    frames: RunTable,
    lent: Links,
    pub(crate) backing: B,
}

impl<B: Backing> Paged<B> {
    pub(crate) fn new(id: u64, ram: Ram, frames: RunTable, backing: B) -> Self {
        let lent = Links::new(frames.len());
        Self { id, ram, frames, lent, backing }
    }

    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn recount(&self) -> FrameCount {
        self.frames.recount()
    }

    /// Maps `list` at `pages`. What could not be mapped comes back whole, and nothing is mapped.
    fn map_runs(&self, pages: Pages, mut list: Runs) -> Result<(), (Runs, HostedError)> {
        let mut done = 0;
        while let Some(run) = self.frames.links.pop(&mut list) {
            let at = pages.start().wrapping_add(done * PAGE_SIZE);
            let entry = Entry { frame: run.first, lent: None };
            if let Err(reason) = self.backing.map(at, &RamRef(&self.ram), entry, run.count as usize) {
                self.frames.links.push(&mut list, run);
                return Err((self.take_back(Pages::new(pages.start(), done), list), reason));
            }
            done += run.count as usize;
        }
        Ok(())
    }

    /// Takes `pages` back that were mapped for nothing, and adds their frames to `list`.
    fn take_back(&self, pages: Pages, list: Runs) -> Runs {
        if pages.count() == 0 {
            return list;
        }
        let mut gather = Gather::new(&self.frames.links, list);
        self.backing.take(pages, |entry| gather.add(entry.frame));
        self.backing.undo(pages);
        gather.end()
    }

    /// The list of the frames that `pages` had.
    fn take_mapped(&self, pages: Pages) -> Runs {
        let (mut gather, mut lent) = (Gather::new(&self.frames.links, self.frames.none()), self.frames.none());
        self.backing.take(pages, |entry| match entry.lent {
            None => gather.add(entry.frame),
            // One by one: a word that says that its frame is lent stays one.
            Some(_) => self.lent.push(&mut lent, Run { first: entry.frame, count: 1 }),
        });
        if lent.count() == 0 {
            return gather.end();
        }
        lent.set_lent();
        lent
    }

    /// The number of the frame at `at`, if it is one of this memory.
    fn number(&self, at: PhysAddr) -> Result<u32, HostedError> {
        let number = u32::try_from(at.get() / PAGE_SIZE as u64).unwrap_or(u32::MAX);
        let there = number < self.frames.len() && Ram::physical(number) == at.get();
        if there { Ok(number) } else { Err(HostedError::NoSuchFrame { frame: at }) }
    }

    fn map_each(
        &self,
        pages: Pages,
        frames: impl Iterator<Item = PhysAddr>,
        how: Lending,
    ) -> Result<(), (usize, HostedError)> {
        for (done, (page, at)) in pages.addresses(PAGE_SIZE).zip(frames).enumerate() {
            let map = |frame| self.backing.map(page, &RamRef(&self.ram), Entry { frame, lent: Some(how) }, 1);
            self.number(at).and_then(map).map_err(|reason| (done, reason))?;
        }
        Ok(())
    }
}

// SAFETY: by condition: (1) the backing maps exactly the pages, not executable, and the range is the vmalloc's alone; (2) frames are mapped
// in the direct map only, and `take_frames` clears those that were used; (3) as the backing promises; (4) a number is held by one thread at a
// time, and others say one that the library refuses; (5) tasks of a thread switch only where they yield, which nothing does under a guard,
// and the signal handler never enters; (6) no page is taken for clean; (7) no method panics; (8) nor calls a vmalloc; (9) the signal handler
// kills nobody while its thread is inside.
unsafe impl<B: Backing> Platform for Paged<B> {
    const PAGE_SIZE: usize = PAGE_SIZE;
    type Frames = Runs;
    type Ticket = B::Ticket;
    type Guard = Guard;
    type Error = HostedError;

    fn take_frames(&self, count: usize) -> Result<Runs, HostedError> {
        let taken = self.frames.take(self.cpu(), count)?;
        // SAFETY: the frames were free until now and are nobody else's yet.
        self.frames.use_frames(&taken, |frame| unsafe { self.ram.clear(frame) });
        Ok(taken)
    }

    fn give_frames(&self, frames: Runs) {
        self.frames.give(frames);
    }

    unsafe fn map(&self, mapping: Mapping, frames: Runs) -> Result<Hint, NotMapped<Self>> {
        let mapped = self.map_runs(mapping.pages(), frames);
        mapped.map(|()| Hint::default()).map_err(|(frames, reason)| NotMapped { frames, reason })
    }

    unsafe fn unmap(&self, mapping: Mapping) -> Unmapped<Self> {
        Unmapped::new(self.take_mapped(mapping.pages()))
    }

    fn shootdown(&self, batch: impl Iterator<Item = Pages> + Clone) -> B::Ticket {
        self.backing.shootdown(self.cpu(), batch)
    }

    fn flushed(&self, ticket: &B::Ticket) -> bool {
        self.backing.flushed(ticket)
    }

    fn translate(&self, addr: VirtAddr) -> Option<PhysAddr> {
        let frame = self.backing.frame(addr)?;
        Some(PhysAddr::new(Ram::physical(frame)).wrapping_add((addr.get() % PAGE_SIZE) as u64))
    }

    #[inline]
    fn cpu(&self) -> Cpu {
        thread::number_in(self.id)
    }

    #[inline]
    fn enter(&self) -> Guard {
        if thread::may_be_killed() {
            check_headroom();
        }
        let guard = Guard::new();
        self.backing.entered(self.cpu());
        guard
    }

    fn prepare(&self, range: VirtRange) -> Result<(), HostedError> {
        self.backing.prepare(range)
    }
}

// SAFETY: (1) as `Platform`, above; (2) `take_mapped` makes a list of its own of what was lent; (3) and (4) are the defaults, which are
// `map` and `unmap`; (5) `give_lent` gives nothing to the allocator.
unsafe impl<B: Backing> Pager for Paged<B> {
    type Attributes = Lending;

    fn take_uncleared(&self, count: usize) -> Result<Runs, HostedError> {
        let taken = self.frames.take(self.cpu(), count)?;
        self.frames.use_frames(&taken, |_| ());
        Ok(taken)
    }

    fn lend(&self, frame: PhysAddr) -> Result<(), HostedError> {
        self.frames_word(frame)?.lend().then_some(()).ok_or(HostedError::LentAlready { frame })
    }

    fn unlend(&self, frame: PhysAddr) {
        if let Ok(word) = self.frames_word(frame) {
            word.end();
        }
    }

    unsafe fn map_lent(
        &self,
        mapping: Mapping,
        frames: impl Iterator<Item = PhysAddr>,
        attributes: Lending,
    ) -> Result<Hint, HostedError> {
        let pages = mapping.pages();
        self.map_each(pages, frames, attributes).map(|()| Hint::default()).map_err(|(done, reason)| {
            let first = Pages::new(pages.start(), done);
            if done > 0 {
                self.backing.take(first, |_| ());
                self.backing.undo(first);
            }
            reason
        })
    }

    fn give_lent(&self, mut frames: Runs) {
        while let Some(run) = if frames.is_lent() { self.lent.pop(&mut frames) } else { None } {
            self.lent.word(run.first).map(Loan).into_iter().for_each(|word| word.end());
        }
    }
}

/// The word of a frame that may be lent.
struct Loan<'t>(&'t core::sync::atomic::AtomicU64);

impl Loan<'_> {
    /// Notes that the frame is lent. False: it is already.
    fn lend(&self) -> bool {
        use core::sync::atomic::Ordering::{AcqRel, Acquire};
        self.0.compare_exchange(0, LENT, AcqRel, Acquire).is_ok()
    }

    fn end(&self) {
        self.0.store(0, core::sync::atomic::Ordering::Release);
    }
}

impl<B: Backing> Paged<B> {
    fn frames_word(&self, frame: PhysAddr) -> Result<Loan<'_>, HostedError> {
        let number = self.number(frame)?;
        self.lent.word(number).map(Loan).ok_or(HostedError::NoSuchFrame { frame })
    }
}
