//! Areas of frames that somebody lends: given pages side by side in virtual memory, device registers, buffers for a moment.
//!
//! They lie in slots and chunks as areas of memory do, and end as those do; what differs is whose the frames are. The platform is told of each frame before
//! it is mapped ([`Pager::lend`]), and may refuse it: a kernel that allows no two mappings of a frame notes there which are lent.

use vmstack::{Hint, Mapping, Pages, PhysAddr};

use crate::alloc::Made;
use crate::area::Area;
use crate::error::AreaError;
use crate::here::Here;
use crate::pager::Pager;
use crate::request::{Kind, Request};
use crate::size::Serving;
use crate::tag::Tag;
use crate::vmalloc::{NotHere, Vmalloc};

/// Frames in the order in which they are to lie.
pub trait Frames: ExactSizeIterator<Item = PhysAddr> + Clone {}

impl<F: ExactSizeIterator<Item = PhysAddr> + Clone> Frames for F {}

impl<P: Pager> Vmalloc<P> {
    /// Maps `frames`, in order, as `attributes` say, on the account of `tag`. They stay their owner's.
    ///
    /// A frame may be there more than once, unless the platform forbids it.
    ///
    /// # Context
    ///
    /// Task or interrupt, with or without a guard. Does not sleep; never NMI.
    ///
    /// # Errors
    ///
    /// [`AreaError`]; then nothing is kept. [`ZeroSize`](AreaError::ZeroSize) if there are no frames, [`Refused`](AreaError::Refused) if the platform
    /// refuses one.
    ///
    /// # Safety
    ///
    /// The frames may be used as `attributes` say until the area is freed and flushed: until [`Pager::give_lent`] hears of them.
    pub unsafe fn vmap(&self, frames: impl Frames, attributes: P::Attributes, tag: Tag) -> Made<P, Area<'_, P>> {
        self.map_frames(frames, attributes, tag, Kind::Lent)
    }

    /// Maps `frames` for a short time: as [`vmap`](Self::vmap) does, for the caller.
    ///
    /// # Context
    ///
    /// As [`vmap`](Self::vmap).
    ///
    /// # Errors
    ///
    /// As [`vmap`](Self::vmap).
    ///
    /// # Safety
    ///
    /// As [`vmap`](Self::vmap).
    #[track_caller]
    pub unsafe fn map_ram(&self, frames: &[PhysAddr], attributes: P::Attributes) -> Made<P, Area<'_, P>> {
        self.map_frames(frames.iter().copied(), attributes, Tag::caller(), Kind::ShortLived)
    }

    fn map_frames(
        &self,
        mut frames: impl Frames,
        attributes: P::Attributes,
        tag: Tag,
        kind: Kind,
    ) -> Made<P, Area<'_, P>> {
        let meta = self.meta().ok_or(NotHere::NotInitialised)?;
        let request = Request::new(frames.len().saturating_mul(P::PAGE_SIZE)).tag(tag);
        match meta.layout.serve(&request)?.1 {
            Serving::Slot(class) => self.fill_slot(&request, kind, class, |here, record| {
                let pages = Pages::new(here.meta.start(record), frames.len());
                let hint = here.map_lent(Mapping::new(pages, record.hint()), frames, attributes)?;
                record.set_hint(hint);
                Ok(())
            }),
            Serving::Chunks(fit) => self.fill_chunks(&request, kind, fit, |here, _, _, pages| {
                let piece = frames.clone().take(pages.count());
                if pages.count() != 0 {
                    here.map_lent(Mapping::new(pages, Hint::default()), piece, attributes)?;
                    frames.nth(pages.count() - 1);
                }
                Ok(())
            }),
        }
    }
}

impl<P: Pager> Here<'_, P> {
    /// Maps as many `frames` as `mapping` has pages, after the platform has allowed each of them.
    fn map_lent(
        &self,
        mapping: Mapping,
        frames: impl Iterator<Item = PhysAddr> + Clone,
        attributes: P::Attributes,
    ) -> Made<P, Hint> {
        let pager = self.meta.pager;
        let unlend = |count: usize| frames.clone().take(count).for_each(|frame| pager.unlend(frame));
        for (count, frame) in frames.clone().enumerate() {
            if let Err(reason) = pager.lend(frame) {
                unlend(count);
                return Err(AreaError::Refused { frame, reason });
            }
        }
        // SAFETY: (1) the pages lie in a slot or chunk that was free, so none of them is mapped; (2) the iterator has one frame for each; (3) what
        // may be done with the frames is the promise of whoever called `vmap` or `map_ram`, the only callers of this.
        unsafe { pager.map_lent(mapping, frames.clone(), attributes) }.map_err(|error| {
            unlend(mapping.pages().count());
            AreaError::NotMapped(error)
        })
    }
}
