//! What is done about a request: let through as it is, refused, bounced or mapped.
//!
//! Contexts: task and interrupt. Never NMI, never the fault path.

use core::panic::Location;
use core::ptr;

use crate::addr::VirtAddr;
use crate::area::StackArea;
use crate::locate::Located;
use crate::platform::Platform;
use crate::stack::{Pin, StackId};
use crate::sync::Ordering;

use super::door::{DmaDoor, DmaPolicy};
use super::pool::{Bounced, Buffer};
use super::refusal::{DmaError, Refusal};
use super::request::{Direction, DmaRequest};
use super::segments::Segments;
use super::transfer::{Anchor, Hold, Transfer, TransferList, pin};

impl<'a, P: Platform> DmaDoor<'a, P> {
    /// Lets the bytes that `request` is about through to a device, in the way that the policy says.
    ///
    /// # Context
    ///
    /// Task or interrupt. Does not sleep; never NMI.
    ///
    /// # Errors
    ///
    /// [`DmaError`], which names the caller, and the stack and its owner if there is one; then nothing is kept.
    ///
    /// # Safety
    ///
    /// Bytes that are no stack's stay what they are until the transfer ends. Bytes of another task's stack may be read and, if the device
    /// writes, written by whoever ends the transfer.
    #[inline]
    #[track_caller]
    pub unsafe fn pass(&'a self, request: &DmaRequest) -> Result<Transfer<'a, P>, DmaError> {
        let suspected = self.suspects(request.addr, request.bytes);
        match if suspected { self.pass_suspect(request) } else { self.pass_plain(request) } {
            Ok(hold) => Ok(Transfer::new(self, request, hold)),
            Err(refusal) => Err(self.refuse(refusal, request, Location::caller())),
        }
    }

    /// A refusal, with whatever stack it is about as it is now.
    #[cold]
    fn refuse(&self, refusal: Refusal, request: &DmaRequest, caller: &'static Location<'static>) -> DmaError {
        self.count_refused();
        let error = DmaError::new(refusal, request.addr, request.bytes, caller);
        match self.locate(request.addr, request.bytes) {
            Located::Stack(span) | Located::Idle(span) | Located::Across { span, .. } => error.at(&span),
            Located::Guard(stack) => error.of(stack),
            Located::Outside | Located::Records => error,
        }
    }

    /// Lets a scatter list through: all of it, or nothing.
    ///
    /// # Context
    ///
    /// As [`pass`](Self::pass).
    ///
    /// # Errors
    ///
    /// As [`pass`](Self::pass), with the number of the entry; or [`Refusal::ListFull`].
    ///
    /// # Safety
    ///
    /// As for [`pass`](Self::pass), of each.
    #[track_caller]
    pub unsafe fn pass_list<const N: usize>(
        &'a self,
        requests: &[DmaRequest],
    ) -> Result<TransferList<'a, P, N>, DmaError> {
        if let Some(request) = requests.get(N) {
            return Err(DmaError { entry: N, ..self.list_full::<N>(request, Location::caller()) });
        }
        let mut list = TransferList::EMPTY;
        for (entry, (request, place)) in requests.iter().zip(list.places()).enumerate() {
            // SAFETY: the caller's promise.
            match unsafe { self.pass(request) } {
                Ok(transfer) => *place = Some(transfer),
                Err(error) => {
                    // SAFETY: no device knows of it.
                    unsafe { list.cancel() };
                    return Err(DmaError { entry, ..error });
                }
            }
        }
        Ok(list)
    }

    #[cold]
    fn list_full<const N: usize>(&self, request: &DmaRequest, caller: &'static Location<'static>) -> DmaError {
        self.count_refused();
        DmaError::new(Refusal::ListFull { most: N }, request.addr, request.bytes, caller)
    }

    /// Lets bytes through that are no stack's.
    #[inline]
    fn pass_plain(&'a self, request: &DmaRequest) -> Result<Hold<'a, P>, Refusal> {
        match Segments::plain(self.platform, request.addr, request.bytes).suit(request) {
            Ok(()) => Ok(Hold::Caller),
            Err(refusal) => self.pass_unsuited(refusal, request, Anchor::Fixed),
        }
    }

    /// Bytes that the device cannot have where they are.
    #[cold]
    fn pass_unsuited(&'a self, refusal: Refusal, request: &DmaRequest, anchor: Anchor) -> Result<Hold<'a, P>, Refusal> {
        if self.policy() == DmaPolicy::Refuse || matches!(refusal, Refusal::NotMapped { .. }) {
            return Err(refusal);
        }
        self.bounce(request, anchor)
    }

    /// Bytes that may be a stack's: nearly always those of one that is somebody's. Which life of it is found by one look, so that nothing is
    /// pinned or copied but that life of it.
    fn pass_suspect(&'a self, request: &DmaRequest) -> Result<Hold<'a, P>, Refusal> {
        match self.live_stack(request.addr, request.bytes) {
            Some(anchor) => self.pass_stack(request, anchor),
            None => self.pass_odd(request),
        }
    }

    /// The stack that all of these bytes are in, if it is an area's, and somebody's.
    fn live_stack(&self, addr: VirtAddr, bytes: usize) -> Option<Anchor> {
        let mut areas = (0_u32..).zip(self.all);
        areas.find_map(|(area, of)| Some(Anchor::Stack { area, id: of.live_stack(addr, bytes)? }))
    }

    #[cold]
    fn pass_odd(&'a self, request: &DmaRequest) -> Result<Hold<'a, P>, Refusal> {
        let &DmaRequest { addr, bytes, .. } = request;
        if bytes == 0 {
            return Err(Refusal::Empty);
        }
        if addr.checked_add(bytes - 1).is_none() {
            return Err(Refusal::Wraps);
        }
        match self.locate(addr, bytes) {
            Located::Outside => self.pass_plain(request),
            Located::Stack(span) if span.is_registered() => self.pass_stack(request, Anchor::Fixed),
            // One that is somebody's now was nobody's a moment ago: who asked did not have it.
            Located::Stack(_) | Located::Idle(_) => Err(Refusal::Idle),
            Located::Guard(_) => Err(Refusal::Guard),
            Located::Records => Err(Refusal::Records),
            Located::Across { below: 0, above, .. } => Err(Refusal::AcrossTop { above }),
            Located::Across { below, .. } => Err(Refusal::AcrossBottom { below }),
        }
    }

    /// Lets bytes of one stack through.
    fn pass_stack(&'a self, request: &DmaRequest, anchor: Anchor) -> Result<Hold<'a, P>, Refusal> {
        match self.policy() {
            DmaPolicy::Refuse => Err(Refusal::Stack),
            DmaPolicy::Bounce => self.bounce(request, anchor),
            DmaPolicy::Map => self.map(request, anchor),
        }
    }

    /// Pins the stack, and gives the device the stack itself.
    fn map(&'a self, request: &DmaRequest, anchor: Anchor) -> Result<Hold<'a, P>, Refusal> {
        let pinned = self.pin(anchor)?;
        if let Err(refusal) = Segments::paged(self.platform, request.addr, request.bytes).suit(request) {
            drop(pinned);
            return self.pass_unsuited(refusal, request, anchor);
        }
        if let (Anchor::Stack { area, .. }, true) = (anchor, request.direction.writes()) {
            // Before the device begins, and under the pin (INV-ZERO).
            self.area(area).mark_written(request.addr);
        }
        self.mapped.fetch_add(1, Ordering::Relaxed);
        Ok(pinned.map_or(Hold::Fixed, Hold::Pin))
    }

    /// Pins the stack that `anchor` says; none if it is one that stays.
    fn pin(&self, anchor: Anchor) -> Result<Option<Pin<'a, P>>, Refusal> {
        match anchor {
            Anchor::Fixed => Ok(None),
            Anchor::Stack { area, id } => pin(self.area(area), id).map(Some),
        }
    }

    /// Copies the bytes to a buffer of the pool, which the device gets.
    ///
    /// Also those that the device only writes, unless it writes all of them: it may write fewer, and the others stay what they were.
    fn bounce(&'a self, request: &DmaRequest, anchor: Anchor) -> Result<Hold<'a, P>, Refusal> {
        let &DmaRequest { addr, bytes, .. } = request;
        let buffer = self.pool.take(request)?;
        let needed = request.direction != Direction::FromDevice || !request.overwritten;
        let copy = || {
            // SAFETY: (1) the bytes are mapped: a stack's while it is held, others' by the promise of `pass`; (2) the buffer is ours, has room
            // for them, and is no stack's.
            unsafe { ptr::copy_nonoverlapping(addr.as_mut_ptr::<u8>(), self.pool.virt_of(buffer).as_mut_ptr(), bytes) }
        };
        let copied = if needed { self.with_stack(anchor, copy) } else { Ok(()) };
        if let Err(refusal) = copied {
            self.pool.give(buffer);
            return Err(refusal);
        }
        self.bounced.fetch_add(1, Ordering::Relaxed);
        Ok(Hold::Buffer(buffer, anchor))
    }

    /// Does `copy` while the stack that `anchor` says stays what it is. Who stands on it needs no pin for that.
    fn with_stack(&self, anchor: Anchor, copy: impl FnOnce()) -> Result<(), Refusal> {
        let pinned = match anchor {
            Anchor::Stack { area, id } if !self.stands_on(area, id) => Some(pin(self.area(area), id)?),
            _ => None,
        };
        copy();
        drop(pinned);
        Ok(())
    }

    /// Whether the caller runs on the stack `id`: on that life of it, for a task does not outlive its stack's.
    fn stands_on(&self, area: u32, id: StackId) -> bool {
        let area = self.area(area);
        let meta = area.ready_metadata();
        area.stands_on(&meta, id.slot()) && meta.known_record(id.slot()).state().generation == id.generation()
    }

    /// The area with this number, which an anchor has.
    fn area(&self, number: u32) -> &'a StackArea<P> {
        self.all[number as usize]
    }

    /// Copies what a device wrote back to where it belongs, and gives the buffer back.
    ///
    /// # Safety
    ///
    /// The device is done with the buffer, which is the caller's; and as for [`Transfer::finish`].
    pub(super) unsafe fn return_bounced(&self, buffer: Buffer, bounced: &Bounced) -> Result<(), Refusal> {
        let &Bounced { addr, bytes, direction, anchor } = bounced;
        let copy = || {
            // SAFETY: as in `bounce`, the other way round.
            unsafe { ptr::copy_nonoverlapping(self.pool.virt_of(buffer).as_mut_ptr::<u8>(), addr.as_mut_ptr(), bytes) }
        };
        let copied = if direction.writes() { self.with_stack(anchor, copy) } else { Ok(()) };
        self.pool.give(buffer);
        copied.inspect_err(|_| _ = self.gone.fetch_add(1, Ordering::Relaxed))
    }
}
