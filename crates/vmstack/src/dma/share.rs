//! The same door for drivers that keep no transfers, but an address that goes in and a bus address that comes out: `virtio-drivers`'s
//! `Hal` is like that.
//!
//! What was let through is found again from the bus address: it is that of a buffer of the pool, whose record says what it stands for, or of
//! the bytes themselves, whose stack is pinned.
//!
//! Contexts: task and interrupt. Never NMI, never the fault path.

use core::panic::Location;

use crate::addr::{PhysAddr, VirtAddr};
use crate::platform::Platform;
use crate::stack::Pin;

use super::door::DmaDoor;
use super::refusal::{DmaError, Refusal};
use super::request::{Direction, DmaRequest};
use super::segments::Segments;
use super::transfer::{Hold, Transfer};

impl<'a, P: Platform> DmaDoor<'a, P> {
    /// Lets bytes through and says where the device sees them, for drivers that keep no transfers: in one segment, whatever `request` says.
    /// [`unshare`](Self::unshare) ends it.
    ///
    /// # Context
    ///
    /// As [`pass`](Self::pass).
    ///
    /// # Errors
    ///
    /// As [`pass`](Self::pass).
    ///
    /// # Safety
    ///
    /// As for [`pass`](Self::pass).
    #[track_caller]
    pub unsafe fn share(&'a self, request: &DmaRequest) -> Result<PhysAddr, DmaError> {
        // SAFETY: the caller's promise.
        let transfer = unsafe { self.pass(&request.in_segments(1)) }?;
        let segment = transfer.segments().next();
        transfer.leave();
        segment.map(|segment| segment.start).ok_or_else(|| {
            let page = VirtAddr::new(request.addr.get() & !(P::PAGE_SIZE - 1));
            DmaError::new(Refusal::NotMapped { page }, request.addr, request.bytes, Location::caller())
        })
    }

    /// Ends what [`share`](Self::share) began: `bus` is what it said, of the same bytes.
    ///
    /// # Context
    ///
    /// As [`Transfer::finish`].
    ///
    /// # Errors
    ///
    /// As [`Transfer::finish`]; or [`Refusal::NotShared`], and then nothing is given back.
    ///
    /// # Safety
    ///
    /// As for [`Transfer::finish`]; and `share` said so, and this was not called since.
    #[track_caller]
    pub unsafe fn unshare(&'a self, bus: PhysAddr, addr: VirtAddr, bytes: usize) -> Result<(), DmaError> {
        // SAFETY: the caller's promise.
        let transfer = self.shared(bus, addr, bytes, Location::caller())?;
        // SAFETY: the caller's promise.
        unsafe { transfer.finish() }
    }

    /// Ends what [`share`](Self::share) began, as [`Transfer::cancel`] does.
    ///
    /// # Context
    ///
    /// As [`Transfer::finish`].
    ///
    /// # Errors
    ///
    /// [`Refusal::NotShared`], and then nothing is given back.
    ///
    /// # Safety
    ///
    /// As for [`Transfer::cancel`]; and `share` said so, and this was not called since.
    #[track_caller]
    pub unsafe fn unshare_cancelled(&'a self, bus: PhysAddr, addr: VirtAddr, bytes: usize) -> Result<(), DmaError> {
        let transfer = self.shared(bus, addr, bytes, Location::caller())?;
        // SAFETY: the caller's promise.
        unsafe { transfer.cancel() };
        Ok(())
    }

    /// The transfer that was let through as `bus`.
    fn shared(
        &'a self,
        bus: PhysAddr,
        addr: VirtAddr,
        bytes: usize,
        caller: &'static Location<'static>,
    ) -> Result<Transfer<'a, P>, DmaError> {
        let request = DmaRequest::new(addr, bytes, Direction::Both);
        if let Some(buffer) = self.pool.at(bus) {
            let noted = self.pool.noted(buffer);
            if (noted.addr, noted.bytes) == (addr, bytes) {
                let hold = Hold::Buffer(buffer, noted.anchor);
                return Ok(Transfer::new(self, &request.towards(noted.direction), hold));
            }
            return Err(DmaError::new(Refusal::NotShared { bus }, addr, bytes, caller));
        }
        let there = Segments::plain(self.platform, addr, bytes).next().map(|segment| segment.start);
        if there != Some(bus) {
            return Err(DmaError::new(Refusal::NotShared { bus }, addr, bytes, caller));
        }
        Ok(Transfer::new(self, &request, self.pinned(addr, bytes)))
    }

    /// What holds bytes that were let through where they are.
    fn pinned(&'a self, addr: VirtAddr, bytes: usize) -> Hold<'a, P> {
        if !self.suspects(addr, bytes) {
            return Hold::Caller;
        }
        let stack = self.all.iter().find_map(|area| Some((area, area.pinned_slot(addr)?)));
        stack.map_or(Hold::Caller, |(area, slot)| Hold::Pin(Pin::new(area, slot)))
    }
}
