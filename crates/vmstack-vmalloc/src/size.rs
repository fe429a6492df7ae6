//! From what is asked for to how it is served: a slot of a class, or chunks of its own.
//!
//! Arithmetic only, usable in any context.

use crate::class::Class;
use crate::error::AreaError;
use crate::layout::{ChunkIndex, Layout};
use crate::pager::Pager;
use crate::request::Request;
use crate::runs::Fit;

/// How a request is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Serving {
    /// By a slot of this class.
    Slot(Class),
    /// By whole chunks.
    Chunks(Fit),
}

impl<P: Pager> Layout<P> {
    /// How many pages are asked for, and how that is served.
    #[inline]
    pub(crate) fn serve(&self, request: &Request) -> Result<(usize, Serving), AreaError<P::Error>> {
        let &Request { bytes, align, .. } = request;
        if bytes == 0 || !align.is_power_of_two() || bytes > isize::MAX as usize {
            return Err(self.refuse(bytes, align));
        }
        let pages = bytes.div_ceil(Self::PAGE);
        // A page more than it needs is the guard.
        let stride =
            if align <= Self::PAGE { pages + 1 } else { (pages + 1).max(align / Self::PAGE).next_power_of_two() };
        if stride <= P::CHUNK_PAGES / 2 {
            return Ok((pages, Serving::Slot(Class::holding(stride))));
        }
        let fit = self.fit(pages, align).ok_or_else(|| self.refuse(bytes, align))?;
        Ok((pages, Serving::Chunks(fit)))
    }

    /// How chunks for `pages` pages are to lie. None if there can be none in this range.
    fn fit(&self, pages: usize, align: usize) -> Option<Fit> {
        let len = (pages + 1).div_ceil(P::CHUNK_PAGES);
        let align = (align / Self::CHUNK).max(1);
        if len > self.usable() as usize || align > self.chunks as usize {
            return None;
        }
        // Numbers count modulo 2^32, of which the alignment is a divisor.
        let base = (self.range().start().get() / Self::CHUNK) as u32;
        let fit = Fit { len: len as u32, align: align as u32, base };
        (fit.first_from(ChunkIndex::new(self.first)).get() + fit.len <= self.chunks).then_some(fit)
    }

    /// Why a request cannot be served, however much is free.
    #[cold]
    fn refuse(&self, bytes: usize, align: usize) -> AreaError<P::Error> {
        let most = self.usable() as usize * Self::CHUNK - Self::PAGE;
        if bytes == 0 {
            AreaError::ZeroSize
        } else if !align.is_power_of_two() {
            AreaError::BadAlignment { align }
        } else if bytes > most {
            AreaError::TooLarge { bytes, most }
        } else {
            AreaError::AlignmentTooLarge { align, most: self.most_aligned(bytes) }
        }
    }

    /// The largest alignment, in bytes, that `bytes` bytes can have in this range.
    fn most_aligned(&self, bytes: usize) -> usize {
        let pages = bytes.div_ceil(Self::PAGE);
        let alignments = core::iter::successors(Some(1_usize), |align| align.checked_mul(2));
        alignments.take_while(|&align| align <= Self::CHUNK || self.fit(pages, align).is_some()).last().unwrap_or(1)
    }
}
