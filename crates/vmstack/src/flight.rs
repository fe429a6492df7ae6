//! Batches in flight: what was unmapped together, and waits until every CPU has forgotten it.
//!
//! This is where INV-FRAME is kept, for everything that is built in mapped memory: the stacks of this crate, and whatever another crate maps by
//! the same [`Platform`] (`vmstack-vmalloc` does). There are three steps, and each wants what the one before gave:
//!
//! ```text
//!   Platform::unmap ──> Unmapped ──put──> Retiring, in the thing's own record (INV-FREE)
//!                                            ⋮
//!   Flight::begin: one shootdown for all of the batch
//!                                            ⋮  every CPU has flushed
//!   Flight::take_due ──> the batch, and Flushed ──> Retiring::take ──> the frames
//! ```
//!
//! The frames of an [`Unmapped`] come out in no other way, and a [`Flushed`] is made nowhere else. Then the frames go back to the platform,
//! and after them the addresses may be used again.
//!
//! A batch is whatever its owner likes: a chain through records, for instance. A flight takes no lock and needs no memory.
//!
//! Contexts: task and interrupt, for the CPU whose flight it is. Never NMI, never the fault path.

use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{MaybeUninit, align_of, size_of};

use crate::addr::Pages;
use crate::platform::{Platform, Unmapped};

/// How many words the frames of one mapping may take.
pub(crate) const FRAME_WORDS: usize = 3;

/// What was unmapped together, and what says when every CPU has forgotten it. There is at most one batch in it.
pub struct Flight<P: Platform, B> {
    batch: B,
    ticket: Option<P::Ticket>,
}

/// What is in flight together.
pub trait Batch: Default {
    /// Whether there is nothing in it.
    fn is_empty(&self) -> bool;
}

/// Proof that every CPU has flushed what a [`Flight`] had.
pub struct Flushed<P: Platform>(PhantomData<fn() -> P>);

impl<P: Platform, B: Batch> Flight<P, B> {
    /// With nothing in flight: `empty`.
    #[must_use]
    pub const fn new(empty: B) -> Self {
        Self { batch: empty, ticket: None }
    }

    /// Whether nothing is in flight.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Starts one shootdown for all of `batch`, whose pages are `pages`.
    ///
    /// # Context
    ///
    /// As [`Platform::shootdown`].
    ///
    /// # Panics
    ///
    /// If something is in flight already.
    pub fn begin(&mut self, platform: &P, batch: B, pages: impl Iterator<Item = Pages> + Clone) {
        if !batch.is_empty() {
            self.wait_for(batch, Some(platform.shootdown(pages)));
        }
    }

    /// Keeps `batch` until `ticket` is due, where the shootdown was started by other means. Without one it is due at once.
    pub(crate) fn wait_for(&mut self, batch: B, ticket: Option<P::Ticket>) {
        assert!(self.is_empty(), "a batch is in flight");
        (self.batch, self.ticket) = (batch, ticket);
    }

    /// The batch, if there is one and every CPU has flushed it.
    ///
    /// # Context
    ///
    /// As [`Platform::flushed`]. Does not wait.
    pub fn take_due(&mut self, platform: &P) -> Option<(B, Flushed<P>)> {
        if self.is_empty() || self.ticket.as_ref().is_some_and(|ticket| !platform.flushed(ticket)) {
            return None;
        }
        self.ticket = None;
        Some((core::mem::take(&mut self.batch), Flushed(PhantomData)))
    }
}

/// Room for the frames of one mapping from its unmapping to its flush, in the record of whatever was mapped there. Zeroes are valid.
#[derive(Debug)]
pub struct Retiring(UnsafeCell<[MaybeUninit<usize>; FRAME_WORDS]>);

// SAFETY: it is reached only through `put` and `take`, whose callers prove that they alone are there.
unsafe impl Sync for Retiring {}

impl Retiring {
    /// With nothing in it.
    #[must_use]
    pub const fn new() -> Self {
        Self(UnsafeCell::new([MaybeUninit::uninit(); FRAME_WORDS]))
    }

    /// Keeps what lost its mapping.
    ///
    /// # Safety
    ///
    /// Nobody else uses this until the call returns.
    #[inline]
    pub unsafe fn put<P: Platform>(&self, unmapped: Unmapped<P>) {
        const {
            assert!(
                size_of::<P::Frames>() <= FRAME_WORDS * size_of::<usize>()
                    && align_of::<P::Frames>() <= align_of::<usize>(),
                "Platform::Frames is too large: it must fit in what a record has left, three words"
            );
        }
        // SAFETY: (1) the caller alone is there; (2) there is room for it, and it is aligned, as was asserted.
        unsafe { self.0.get().cast::<P::Frames>().write(unmapped.into_frames()) };
    }

    /// Takes the frames out.
    ///
    /// # Safety
    ///
    /// 1. [`put`](Self::put) has put them here, of the same platform, and nobody has taken them since.
    /// 2. Their pages were in the batch that `flushed` is proof of (INV-FRAME).
    /// 3. Nobody else uses this until the call returns.
    #[inline]
    pub unsafe fn take<P: Platform>(&self, _flushed: &Flushed<P>) -> P::Frames {
        // SAFETY: the caller's promise, 1 and 3.
        unsafe { self.0.get().cast::<P::Frames>().read() }
    }
}

impl Default for Retiring {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Platform, B: fmt::Debug> fmt::Debug for Flight<P, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").field("batch", &self.batch).finish_non_exhaustive()
    }
}

impl<P: Platform> fmt::Debug for Flushed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flushed")
    }
}
