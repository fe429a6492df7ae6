//! What was let through the door, until the device is done with it.

use core::fmt;
use core::mem::{ManuallyDrop, forget};
use core::panic::Location;

use crate::addr::VirtAddr;
use crate::area::StackArea;
use crate::geometry::SlotIndex;
use crate::platform::Platform;
use crate::slots::PinError;
use crate::stack::{Pin, StackId};

use super::door::DmaDoor;
use super::pool::{Bounced, Buffer};
use super::refusal::{DmaError, Refusal};
use super::request::{Direction, DmaRequest};
use super::segments::{Merged, Segment, Segments};

/// How bytes were let through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Passage {
    /// They are no stack's, and are where they were: whoever asked keeps them there.
    Plain,
    /// The device sees the stack itself, which is pinned.
    Mapped,
    /// The device sees a buffer of the pool.
    Bounced,
}

impl Passage {
    /// One word for logs that programs read.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Mapped => "mapped",
            Self::Bounced => "bounced",
        }
    }
}

/// Which life of which stack some bytes are in: enough to find out later whether it is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Anchor {
    /// None: no stack's, or one that was there before the areas, and stays.
    Fixed,
    /// That of the area with this number at the door.
    Stack { area: u32, id: StackId },
}

impl Anchor {
    const SLOT_BITS: u32 = 22;
    const GENERATION_BITS: u32 = 24;

    /// In one word: zero is none.
    pub(super) const fn pack(self) -> u64 {
        match self {
            Self::Fixed => 0,
            Self::Stack { area, id } => {
                let generation = (id.generation() as u64) << Self::SLOT_BITS;
                let area = (area as u64 + 1) << (Self::SLOT_BITS + Self::GENERATION_BITS);
                area | generation | id.slot().get() as u64
            }
        }
    }

    pub(super) const fn unpack(word: u64) -> Self {
        let Some(area) = ((word >> (Self::SLOT_BITS + Self::GENERATION_BITS)) as u32).checked_sub(1) else {
            return Self::Fixed;
        };
        let slot = SlotIndex::new(word as u32 & ((1 << Self::SLOT_BITS) - 1));
        let generation = (word >> Self::SLOT_BITS) as u32 & ((1 << Self::GENERATION_BITS) - 1);
        Self::Stack { area, id: StackId::new(slot, generation) }
    }
}

/// What holds the bytes where the device sees them.
#[derive(Debug)]
pub(super) enum Hold<'a, P: Platform> {
    /// Whoever asked.
    Caller,
    /// A stack that was there before the areas, and stays.
    Fixed,
    Pin(Pin<'a, P>),
    /// Of these bytes, which are where the anchor says.
    Buffer(Buffer, Anchor),
}

/// Bytes that a device has.
///
/// Having a `Transfer` means that the [segments](Self::segments) stay what they are: those of the bytes themselves, whose stack is pinned if it is
/// a stack, or a buffer that is nobody else's. Bytes that are no stack's are kept where they are by whoever asked for the transfer.
///
/// It ends by [`finish`](Self::finish) or [`cancel`](Self::cancel), which say that the device is done. Dropping it does not: what it holds
/// is then kept for ever, and counted as lost.
#[must_use = "dropping a transfer keeps what it holds for ever"]
pub struct Transfer<'a, P: Platform> {
    door: &'a DmaDoor<'a, P>,
    addr: VirtAddr,
    bytes: usize,
    direction: Direction,
    hold: ManuallyDrop<Hold<'a, P>>,
}

impl<'a, P: Platform> Transfer<'a, P> {
    pub(super) const fn new(door: &'a DmaDoor<'a, P>, request: &DmaRequest, hold: Hold<'a, P>) -> Self {
        let &DmaRequest { addr, bytes, direction, .. } = request;
        Self { door, addr, bytes, direction, hold: ManuallyDrop::new(hold) }
    }

    /// How the bytes were let through.
    #[must_use]
    pub fn passage(&self) -> Passage {
        match *self.hold {
            Hold::Caller => Passage::Plain,
            Hold::Fixed | Hold::Pin(_) => Passage::Mapped,
            Hold::Buffer(..) => Passage::Bounced,
        }
    }

    /// How many bytes they are.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where the device sees the bytes: in order, each segment as long as possible.
    #[inline]
    #[must_use]
    pub fn segments(&self) -> Segments<'a, P> {
        let (platform, at, bytes) = (self.door.platform, self.addr, self.bytes);
        match *self.hold {
            Hold::Caller => Segments::plain(platform, at, bytes),
            Hold::Fixed | Hold::Pin(_) => Segments::paged(platform, at, bytes),
            Hold::Buffer(buffer, _) => Segments::whole(platform, self.door.pool.phys_of(buffer), bytes),
        }
    }

    /// Ends the transfer: the device is done. What it wrote is in the bytes now.
    ///
    /// # Context
    ///
    /// Task or interrupt; not necessarily the task that asked.
    ///
    /// # Errors
    ///
    /// [`Refusal::Gone`] if the bytes bounced, and their stack was given back meanwhile: what the device wrote is dropped. All that the
    /// transfer held is given back, also then.
    ///
    /// # Safety
    ///
    /// 1. The device does not touch the segments any more.
    /// 2. If the bytes are no stack's, they are still what they were when the transfer was asked for.
    /// 3. If the device wrote: nobody else reads or writes the bytes at the same time.
    #[track_caller]
    pub unsafe fn finish(self) -> Result<(), DmaError> {
        let mut transfer = ManuallyDrop::new(self);
        // SAFETY: the transfer is never used again.
        let hold = unsafe { ManuallyDrop::take(&mut transfer.hold) };
        match hold {
            Hold::Buffer(buffer, anchor) => {
                let Transfer { addr, bytes, direction, .. } = *transfer;
                // SAFETY: the caller's promise.
                let ended =
                    unsafe { transfer.door.return_bounced(buffer, &Bounced { addr, bytes, direction, anchor }) };
                let caller = Location::caller();
                ended.map_err(|refusal| DmaError::new(refusal, addr, bytes, caller))
            }
            // Its task may be dead: then the stack is given back here.
            Hold::Pin(pin) => {
                drop(pin);
                Ok(())
            }
            Hold::Caller | Hold::Fixed => Ok(()),
        }
    }

    /// Ends the transfer without it: the device never began, or was reset. What bounced is not copied back.
    ///
    /// # Context
    ///
    /// As [`finish`](Self::finish).
    ///
    /// # Safety
    ///
    /// The device does not touch the segments any more.
    pub unsafe fn cancel(self) {
        let mut transfer = ManuallyDrop::new(self);
        // SAFETY: the transfer is never used again.
        let hold = unsafe { ManuallyDrop::take(&mut transfer.hold) };
        if let Hold::Buffer(buffer, _) = hold {
            transfer.door.pool.give(buffer);
        }
    }

    /// Lets go of the value, and of nothing that it holds: the door finds that again.
    pub(super) fn leave(self) {
        if let Hold::Buffer(buffer, anchor) = *self.hold {
            let Self { addr, bytes, direction, .. } = self;
            self.door.pool.note(buffer, &Bounced { addr, bytes, direction, anchor });
        }
        forget(self);
    }
}

impl<P: Platform> Drop for Transfer<'_, P> {
    fn drop(&mut self) {
        if !matches!(*self.hold, Hold::Caller | Hold::Fixed) {
            self.door.count_lost();
        }
    }
}

impl<P: Platform> fmt::Debug for Transfer<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer")
            .field("addr", &self.addr)
            .field("bytes", &self.bytes)
            .field("direction", &self.direction)
            .field("passage", &self.passage())
            .finish_non_exhaustive()
    }
}

/// A scatter list that was let through, all of it: at most `N` transfers.
#[derive(Debug)]
#[must_use = "dropping a transfer keeps what it holds for ever"]
pub struct TransferList<'a, P: Platform, const N: usize> {
    entries: [Option<Transfer<'a, P>>; N],
}

impl<'a, P: Platform, const N: usize> TransferList<'a, P, N> {
    pub(super) const EMPTY: Self = Self { entries: [const { None }; N] };

    /// The places for its entries.
    pub(super) fn places(&mut self) -> &mut [Option<Transfer<'a, P>>] {
        &mut self.entries
    }

    /// The transfers, in order.
    pub fn transfers(&self) -> impl Iterator<Item = &Transfer<'a, P>> {
        self.entries.iter().flatten()
    }

    /// Where the device sees the bytes of the whole list, in order. What lies side by side is one segment, also across entries.
    pub fn segments(&self) -> impl Iterator<Item = Segment> {
        Merged::new(self.transfers().flat_map(Transfer::segments))
    }

    /// Ends all of them, as [`Transfer::finish`] does.
    ///
    /// # Errors
    ///
    /// The first error, with its entry; all of them are ended also then.
    ///
    /// # Safety
    ///
    /// As for [`Transfer::finish`], of each.
    #[track_caller]
    pub unsafe fn finish(self) -> Result<(), DmaError> {
        let mut done = Ok(());
        for (entry, transfer) in self.entries.into_iter().flatten().enumerate() {
            // SAFETY: the caller's promise.
            let ended = unsafe { transfer.finish() };
            done = done.and(ended.map_err(|error| DmaError { entry, ..error }));
        }
        done
    }

    /// Ends all of them, as [`Transfer::cancel`] does.
    ///
    /// # Safety
    ///
    /// As for [`Transfer::cancel`], of each.
    pub unsafe fn cancel(self) {
        for transfer in self.entries.into_iter().flatten() {
            // SAFETY: the caller's promise.
            unsafe { transfer.cancel() };
        }
    }
}

/// Pins the stack that some bytes are in.
pub(super) fn pin<'a, P: Platform>(area: &'a StackArea<P>, id: StackId) -> Result<Pin<'a, P>, Refusal> {
    area.pin(id).map_err(|error| match error {
        PinError::TooManyPins => Refusal::TooManyPins,
        PinError::Gone | PinError::NoSuchSlot => Refusal::Gone,
    })
}
