//! What is done about a request: let through as it is, refused, bounced or mapped.
//!
//! Contexts: task and interrupt. Never NMI, never the fault path.

use core::panic::Location;
use core::ptr;

use crate::locate::{Located, StackSpan};
use crate::platform::Platform;
use crate::stack::{Pin, StackId};
use crate::sync::Ordering;

use super::door::{DmaDoor, DmaPolicy};
use super::pool::{Bounced, Buffer};
use super::refusal::{DmaError, Refusal};
use super::request::DmaRequest;
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
        let caller = Location::caller();
        let passed = if self.suspects(request.addr, request.bytes) {
            self.pass_suspect(request, caller)
        } else {
            self.pass_plain(request, caller)
        };
        passed.inspect_err(|_| self.count_refused())
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
    fn pass_plain(
        &'a self,
        request: &DmaRequest,
        caller: &'static Location<'static>,
    ) -> Result<Transfer<'a, P>, DmaError> {
        match Segments::plain(self.platform, request.addr, request.bytes).suit(request) {
            Ok(()) => Ok(Transfer::new(self, request, Hold::Caller)),
            Err(refusal) => self.pass_unsuited(refusal, request, Anchor::Fixed, caller),
        }
    }

    /// Bytes that the device cannot have where they are.
    #[cold]
    fn pass_unsuited(
        &'a self,
        refusal: Refusal,
        request: &DmaRequest,
        anchor: Anchor,
        caller: &'static Location<'static>,
    ) -> Result<Transfer<'a, P>, DmaError> {
        if self.policy() == DmaPolicy::Refuse || matches!(refusal, Refusal::NotMapped { .. }) {
            return Err(DmaError::new(refusal, request.addr, request.bytes, caller));
        }
        self.bounce(request, anchor, caller)
    }

    #[cold]
    fn pass_suspect(
        &'a self,
        request: &DmaRequest,
        caller: &'static Location<'static>,
    ) -> Result<Transfer<'a, P>, DmaError> {
        let &DmaRequest { addr, bytes, .. } = request;
        let error = |refusal| DmaError::new(refusal, addr, bytes, caller);
        if bytes == 0 {
            return Err(error(Refusal::Empty));
        }
        if addr.checked_add(bytes - 1).is_none() {
            return Err(error(Refusal::Wraps));
        }
        match self.locate_anchored(addr, bytes) {
            (Located::Outside, _) => self.pass_plain(request, caller),
            (Located::Stack(span), anchor) => self.pass_stack(request, &span, anchor, caller),
            (Located::Idle(span), _) => Err(error(Refusal::Idle).at(&span)),
            (Located::Guard(stack), _) => Err(error(Refusal::Guard).of(stack)),
            (Located::Records, _) => Err(error(Refusal::Records)),
            (Located::Across { span, below: 0, above }, _) => Err(error(Refusal::AcrossTop { above }).at(&span)),
            (Located::Across { span, below, .. }, _) => Err(error(Refusal::AcrossBottom { below }).at(&span)),
        }
    }

    /// Lets bytes of one stack through.
    fn pass_stack(
        &'a self,
        request: &DmaRequest,
        span: &StackSpan,
        anchor: Anchor,
        caller: &'static Location<'static>,
    ) -> Result<Transfer<'a, P>, DmaError> {
        let passed = match self.policy() {
            DmaPolicy::Refuse => Err(DmaError::new(Refusal::Stack, request.addr, request.bytes, caller)),
            DmaPolicy::Bounce => self.bounce(request, anchor, caller),
            DmaPolicy::Map => self.map(request, anchor, caller),
        };
        passed.map_err(|error| error.at(span))
    }

    /// Pins the stack, and gives the device the stack itself.
    fn map(
        &'a self,
        request: &DmaRequest,
        anchor: Anchor,
        caller: &'static Location<'static>,
    ) -> Result<Transfer<'a, P>, DmaError> {
        let pinned = self.pin(anchor).map_err(|refusal| DmaError::new(refusal, request.addr, request.bytes, caller))?;
        if let Err(refusal) = Segments::paged(self.platform, request.addr, request.bytes).suit(request) {
            drop(pinned);
            return self.pass_unsuited(refusal, request, anchor, caller);
        }
        if let (Anchor::Stack { area, .. }, true) = (anchor, request.direction.writes()) {
            // Before the device begins, and under the pin (INV-ZERO).
            self.all[area].mark_written(request.addr);
        }
        self.mapped.fetch_add(1, Ordering::Relaxed);
        Ok(Transfer::new(self, request, pinned.map_or(Hold::Fixed, Hold::Pin)))
    }

    /// Pins the stack that `anchor` says; none if it is one that stays.
    fn pin(&self, anchor: Anchor) -> Result<Option<Pin<'a, P>>, Refusal> {
        match anchor {
            Anchor::Fixed => Ok(None),
            Anchor::Stack { area, id } => pin(self.all[area], id).map(Some),
        }
    }

    /// Copies the bytes to a buffer of the pool, which the device gets.
    ///
    /// Also those that the device only writes: it may write fewer, and the others stay what they were.
    fn bounce(
        &'a self,
        request: &DmaRequest,
        anchor: Anchor,
        caller: &'static Location<'static>,
    ) -> Result<Transfer<'a, P>, DmaError> {
        let &DmaRequest { addr, bytes, direction, .. } = request;
        let error = |refusal| DmaError::new(refusal, addr, bytes, caller);
        let buffer = self.pool.take(request).map_err(error)?;
        if let Err(refusal) = self.with_stack(anchor, || {
            // SAFETY: (1) the bytes are mapped: a stack's while it is held, others' by the promise of `pass`; (2) the buffer is ours, has room
            // for them, and is no stack's.
            unsafe { ptr::copy_nonoverlapping(addr.as_mut_ptr::<u8>(), self.pool.virt_of(buffer).as_mut_ptr(), bytes) }
        }) {
            self.pool.give(buffer);
            return Err(error(refusal));
        }
        self.pool.note(buffer, &Bounced { addr, bytes, direction, anchor });
        self.bounced.fetch_add(1, Ordering::Relaxed);
        Ok(Transfer::new(self, request, Hold::Buffer(buffer)))
    }

    /// Does `copy` while the stack that `anchor` says stays what it is. Who stands on it needs no pin for that.
    fn with_stack(&self, anchor: Anchor, copy: impl FnOnce()) -> Result<(), Refusal> {
        let pinned = match anchor {
            Anchor::Stack { area, id } if !self.stands_on(area, id) => Some(pin(self.all[area], id)?),
            _ => None,
        };
        copy();
        drop(pinned);
        Ok(())
    }

    /// Whether the caller runs on the stack `id`: on that life of it, for a task does not outlive its stack's.
    fn stands_on(&self, area: usize, id: StackId) -> bool {
        let meta = self.all[area].ready_metadata();
        self.all[area].stands_on(&meta, id.slot()) && meta.known_record(id.slot()).state().generation == id.generation()
    }

    /// Copies what a device wrote back to where it belongs, and gives the buffer back.
    ///
    /// # Safety
    ///
    /// The device is done with the buffer, which is the caller's; and as for [`Transfer::finish`].
    pub(super) unsafe fn return_bounced(
        &self,
        buffer: Buffer,
        caller: &'static Location<'static>,
    ) -> Result<(), DmaError> {
        let Bounced { addr, bytes, direction, anchor } = self.pool.noted(buffer);
        let copied = match direction.writes() {
            true => self.with_stack(anchor, || {
                // SAFETY: as in `bounce`, the other way round.
                unsafe {
                    ptr::copy_nonoverlapping(self.pool.virt_of(buffer).as_mut_ptr::<u8>(), addr.as_mut_ptr(), bytes);
                }
            }),
            false => Ok(()),
        };
        self.pool.give(buffer);
        copied.map_err(|refusal| {
            self.gone.fetch_add(1, Ordering::Relaxed);
            DmaError::new(refusal, addr, bytes, caller)
        })
    }
}
