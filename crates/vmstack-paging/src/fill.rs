//! Mapping many pages fast: from runs of frames, and a whole leaf table with one store.
//!
//! Who takes frames from a buddy allocator gets them side by side in blocks. So what is mapped is a few *runs*, a first frame and how many follow, and
//! the entries of one differ by a constant: a few instructions each. All or nothing is kept by looking first: that
//! every entry is absent, and that the runs are as long as the group and fit the format. After that nothing can fail, so
//! each entry is a plain store into what the hardware takes for absent.
//!
//! ```text
//!   group                      (f7, 4)  (f2, 2)       map_runs: the table is there
//!                                 │        │
//!   leaf table    | f7 | f8 | f9 | f10 | f2 | f3 | ...
//!        ^
//!   entry of the level above: one store, after all the others      map_table: it is not
//! ```
//!
//! [`Mapper::map_table`] fills a table that no CPU can see yet and puts it in last, so its pages appear all at once. Nothing has to be flushed for
//! that on x86-64, where no cache holds an entry that is not present (Intel SDM volume 3, 4.10.3); on AArch64 and RISC-V the
//! same is to be done as after [`Mapper::map`].
//!
//! Contexts: any but NMI. No lock, no wait.

use vmstack::{Pages, PhysAddr};

use crate::attributes::Attributes;
use crate::entry::{Entry, Level};
use crate::error::MapError;
use crate::format::Format;
use crate::group::Group;
use crate::mapper::Mapper;
use crate::memory::TableMemory;
use crate::run::Run;
use crate::table::{Slot, Table};

impl<F: Format> Group<'_, F> {
    /// Maps the pages, in order, to the frames of `runs`: the first frame of each, and how many follow side by side, itself included. False if a
    /// page is not free, a frame does not fit, or there are more frames or fewer than pages: then nothing is mapped.
    ///
    /// `runs` is gone through twice.
    ///
    /// # Safety
    ///
    /// As for [`Mapper::map`].
    #[inline]
    #[must_use]
    pub unsafe fn map_runs(
        self,
        attributes: Attributes,
        runs: impl Iterator<Item = (PhysAddr, usize)> + Clone,
    ) -> bool {
        let possible = self.is_absent() && fit::<F>(self.slots().len(), runs.clone());
        if possible {
            fill_runs::<F>(self.slots(), attributes, runs);
        }
        possible
    }
}

impl<F: Format, M: TableMemory> Mapper<'_, F, M> {
    /// Maps `pages`, the first of those that one leaf table maps, to the frames of `runs`, as [`Group::map_runs`] does, by a leaf table of their own
    /// which appears at once. Where there is one already, nothing is done.
    ///
    /// # Context
    ///
    /// Takes no lock; sleeps only if [`TableMemory::new_table`] does.
    ///
    /// # Errors
    ///
    /// There is no memory for tables, something is in the way, the pages are not such, or the frames are not as many and such as fit. Then
    /// nothing is mapped.
    ///
    /// # Safety
    ///
    /// As for [`map`](Self::map).
    pub unsafe fn map_table(
        &self,
        pages: Pages,
        attributes: Attributes,
        runs: impl Iterator<Item = (PhysAddr, usize)> + Clone,
    ) -> Result<(), MapError> {
        let at = pages.start();
        let slot = self.free_entry_above(pages)?;
        if !fit::<F>(pages.count(), runs.clone()) {
            return Err(MapError::OutOfFrames { at });
        }
        let new = self.memory().new_table().ok_or(MapError::NoTable { at })?;
        fill_runs::<F>(self.follow(new).slots(0, pages.count()), attributes, runs);
        slot.fill::<F>(Entry::Table { at: new }, Level::LARGE).map_err(|found| {
            self.follow(new).slots(0, pages.count()).iter().for_each(|slot| slot.put_raw(0));
            self.give_back(new);
            MapError::instead_of_leaf(found, at)
        })
    }

    /// The entry which is to lead to the table of `pages`, if nothing is in it.
    fn free_entry_above(&self, pages: Pages) -> Result<&Slot, MapError> {
        let at = pages.start();
        let whole = Pages::new(at, Table::ENTRIES);
        Run::check::<F>(whole)?;
        if !at.is_aligned(F::entry_bytes(Level::LARGE)) || pages.count() > Table::ENTRIES {
            return Err(MapError::Misaligned { at });
        }
        let slot = self.make_table_for(at, Level::LARGE)?.slot(F::index(at, Level::LARGE));
        match slot.read::<F>(Level::LARGE) {
            Entry::Absent => Ok(slot),
            found => Err(MapError::instead_of_leaf(found, at)),
        }
    }
}

/// Whether `runs` are `pages` frames in all, each of which an entry can hold.
#[inline]
fn fit<F: Format>(pages: usize, mut runs: impl Iterator<Item = (PhysAddr, usize)>) -> bool {
    let rest = runs.try_fold(pages, |rest, (first, count)| {
        let behind = rest.checked_sub(count)?;
        let last = first.wrapping_add((count.checked_sub(1)? * F::page_bytes()) as u64);
        (F::can_hold(first, Level::PAGE) && F::can_hold(last, Level::PAGE)).then_some(behind)
    });
    rest == Some(0)
}

/// Makes leaves of `slots`, in which nothing is, for the frames of `runs`, which fit.
#[inline]
fn fill_runs<F: Format>(slots: &[Slot], attributes: Attributes, runs: impl Iterator<Item = (PhysAddr, usize)>) {
    let mut rest = slots;
    for (first, count) in runs {
        let (here, behind) = rest.split_at(count.min(rest.len()));
        fill_run::<F>(here, attributes, first);
        rest = behind;
    }
}

/// Makes leaves of `slots` for the frames from `first` on.
#[inline]
pub(crate) fn fill_run<F: Format>(slots: &[Slot], attributes: Attributes, first: PhysAddr) {
    let leaf = |frame| F::encode(Entry::Leaf { frame, attributes, dirty: !F::HAS_DIRTY }, Level::PAGE);
    if let Some((step, _)) = F::NEIGHBOURS {
        slots.iter().fold(leaf(first), |raw, slot| {
            slot.put_raw(raw);
            raw.wrapping_add(step)
        });
    } else {
        let frame = |page: usize| first.wrapping_add((page * F::page_bytes()) as u64);
        slots.iter().enumerate().for_each(|(page, slot)| slot.put_raw(leaf(frame(page))));
    }
}
