//! [`Mapped`]: a vmalloc's page tables are the host's, by `mmap`.
//!
//! Frames that lie side by side are mapped by one call. Unmapping calls nothing: the pages stay reachable, as they would through a TLB, until
//! the shootdown of their batch makes them inaccessible; what lies together goes by one call. Until then the frames are held back by their token, so
//! INV-FRAME is kept as it is anywhere else. When `mmap` returns, Linux has flushed every TLB: the ticket is `()`.
//!
//! ```text
//!   unmap    | area | guard | area | guard |      the table forgets; the mappings stay
//!   shootdown ─────── one mmap ───────>           a gap of one page is a guard: nobody's, so the call may go over it
//! ```
//!
//! Each call takes some microseconds, and calls of two threads wait for each other in Linux (`mmap_lock`).
//!
//! Contexts: as `paged`.

use core::sync::atomic::Ordering;

use vmstack::{Cpu, Pages, VirtAddr, VirtRange};

use crate::arch::PAGE_SIZE;
use crate::paged::{Backing, Entry, Lending, RamRef};
use crate::platform::{HostedError, why};
use crate::space::Space;
use crate::sys::Errno;

/// The bits of a word of the table that say how a frame is lent. The others are the frame's number plus one.
const LENT: u32 = 1 << 31;
const READ_ONLY: u32 = 1 << 30;
/// More frames than this cannot be told apart.
pub(crate) const MOST_FRAMES: usize = (READ_ONLY - 2) as usize;

/// The host's page tables.
#[derive(Debug)]
pub struct Mapped(Space);

impl Mapped {
    /// Of `bytes` at a multiple of `align`.
    pub(crate) fn new(bytes: usize, align: usize) -> Result<Self, Errno> {
        Space::aligned(bytes, align).map(Self)
    }

    fn note(&self, page: VirtAddr, word: u32) {
        if let Some(entry) = self.0.entry(page) {
            // Release: whoever sees the frame sees it mapped.
            entry.store(word, Ordering::Release);
        }
    }
}

const fn word(entry: Entry) -> u32 {
    let flags = match entry.lent {
        None => 0,
        Some(Lending::ReadWrite) => LENT,
        Some(Lending::Read) => LENT | READ_ONLY,
    };
    (entry.frame + 1) | flags
}

/// What `word` of the table says.
fn entry(word: u32) -> Option<Entry> {
    let frame = (word & !(LENT | READ_ONLY)).checked_sub(1)?;
    let how = if word & READ_ONLY == 0 { Lending::ReadWrite } else { Lending::Read };
    Some(Entry { frame, lent: (word & LENT != 0).then_some(how) })
}

/// Two runs of pages as one, if they lie side by side or with a guard of one page between them.
fn joined(one: Pages, other: Pages) -> Option<Pages> {
    let (low, high) = if one.start() < other.start() { (one, other) } else { (other, one) };
    let end = low.start().wrapping_add(low.count() * PAGE_SIZE);
    let gap = high.start().offset_from(end)? / PAGE_SIZE;
    (gap <= 1).then(|| Pages::new(low.start(), low.count() + gap + high.count()))
}

// SAFETY: (1) one mmap at a fixed address in a region of our own, readable, never executable; (2) every page of a batch is made
// inaccessible before `shootdown` returns, and Linux flushes every TLB for that.
unsafe impl Backing for Mapped {
    type Ticket = ();

    fn range(&self) -> VirtRange {
        self.0.range()
    }

    fn map(&self, page: VirtAddr, ram: &RamRef<'_>, first: Entry, count: usize) -> Result<(), HostedError> {
        let writable = first.lent != Some(Lending::Read);
        self.0.place(page, ram.0, first.frame, count, writable).map_err(why)?;
        for (page, frame) in Pages::new(page, count).addresses(PAGE_SIZE).zip(first.frame..) {
            self.note(page, word(Entry { frame, ..first }));
        }
        Ok(())
    }

    fn take(&self, pages: Pages, mut take: impl FnMut(Entry)) {
        for word in pages.addresses(PAGE_SIZE).filter_map(|page| self.0.entry(page)) {
            entry(word.swap(0, Ordering::AcqRel)).into_iter().for_each(&mut take);
        }
    }

    fn undo(&self, pages: Pages) {
        self.0.cover_pages(pages);
    }

    fn shootdown(&self, _cpu: Cpu, batch: impl Iterator<Item = Pages> + Clone) {
        let mut gathered: Option<Pages> = None;
        for pages in batch {
            let both = gathered.and_then(|gathered| joined(gathered, pages));
            if both.is_none() {
                gathered.into_iter().for_each(|gathered| self.0.cover_pages(gathered));
            }
            gathered = both.or(Some(pages));
        }
        gathered.into_iter().for_each(|gathered| self.0.cover_pages(gathered));
    }

    fn flushed(&self, _ticket: &()) -> bool {
        true
    }

    fn frame(&self, addr: VirtAddr) -> Option<u32> {
        // Acquire: pairs with `note`.
        entry(self.0.entry(addr)?.load(Ordering::Acquire)).map(|entry| entry.frame)
    }

    fn prepare(&self, _range: VirtRange) -> Result<(), HostedError> {
        Ok(())
    }

    #[inline]
    fn entered(&self, _cpu: Cpu) {}

    fn idles(&self, _cpu: Cpu) {}
}

#[cfg(test)]
mod tests {
    use super::{Entry, Lending, PAGE_SIZE, Pages, VirtAddr, entry, joined, word};

    #[test]
    fn a_word_of_the_table_says_what_was_put_in() {
        for lent in [None, Some(Lending::Read), Some(Lending::ReadWrite)] {
            for frame in [0, 1, 4095, super::MOST_FRAMES as u32 - 1] {
                let put = Entry { frame, lent };
                assert_eq!(entry(word(put)), Some(put));
            }
        }
        assert_eq!(entry(0), None);
    }

    #[test]
    fn runs_are_joined_over_a_guard_and_not_over_what_may_be_somebodys() {
        let pages = |first: usize, count| Pages::new(VirtAddr::new(first * PAGE_SIZE), count);
        assert_eq!(joined(pages(4, 2), pages(6, 3)), Some(pages(4, 5)));
        assert_eq!(joined(pages(7, 3), pages(4, 2)), Some(pages(4, 6)));
        assert_eq!(joined(pages(4, 2), pages(8, 3)), None);
    }
}
