//! One request in flight: what the door let through for it, until the device is done.
//!
//! ```text
//!   Free ──send──> Sent ──poll──> Ended ──collect──> Free
//!                    │              (its task is dead, or dying: Free at once)
//!                    └──cancel──> Ended, with an error
//! ```
//!
//! The queue gets slices of the direct map, where it sees what the device sees: it takes an address and a length of each, and reads none. The status
//! byte alone is looked at there, before the device has it and when it is done.
//!
//! What a device says is not believed: the status is one that nobody else wrote, and what the device failed to do, or did for a task that
//! was killed, is not copied to where it belongs. A device that takes back what it said, or names what it never had, is not listened to.
//!
//! Contexts: under the disk's lock.

use core::array;
use core::ops::Range;
use core::{ptr, slice};

use arrayvec::ArrayVec;
use vmstack::{Direction, DmaRequest, Passage, PhysAddr, Transfer, VirtAddr};

use super::device::Running;
use super::error::DiskError;
use crate::arch::layout::phys_to_virt;
use crate::dma::{DOOR, DmaBuffer, Held};
use crate::stacks::Kernel;
use crate::task::{self, sched};

/// Requests in flight at most.
const FLIGHTS: usize = 16;
/// What passes the door for one request at most: header, status, and a scatter list.
const TRANSFERS: usize = 10;
/// Pieces of physical memory of one request at most.
const PIECES: usize = 24;
/// What the status byte says before the device has written it.
pub(super) const UNSET: u8 = 0xff;

/// What is wanted of the device (virtio 1.2, 5.2.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum Kind {
    Read = 0,
    Write = 1,
}

/// The header of a request, as the device reads it (virtio 1.2, 5.2.6).
#[repr(C)]
#[derive(Debug)]
pub(super) struct Header {
    kind: u32,
    reserved: u32,
    sector: u64,
}

impl Header {
    pub(super) const fn new(kind: Kind, sector: u64) -> Self {
        Self { kind: kind as u32, reserved: 0, sector }
    }
}

/// The data of a request.
#[derive(Debug)]
pub(super) enum Data<'a> {
    /// In a buffer that owns its frames. The flight has a share of it, not the frame of whoever asks: that may be lost.
    Owned { start: PhysAddr, bytes: usize, buffer: &'a DmaBuffer },
    /// Anywhere.
    Raw(&'a [DmaRequest]),
}

impl<'a> Data<'a> {
    /// `part` of `buffer`.
    pub(super) fn owned(buffer: &'a DmaBuffer, part: Range<usize>) -> Result<Self, DiskError> {
        let bytes = buffer.get(part.clone()).ok_or(DiskError::TooLong)?.len();
        Ok(Self::Owned { start: buffer.phys().wrapping_add(part.start as u64), bytes, buffer })
    }

    /// How many bytes it is; none if they are more than can be.
    pub(super) fn bytes(&self) -> Option<usize> {
        match self {
            Self::Owned { bytes, .. } => Some(*bytes),
            Self::Raw(list) => list.iter().try_fold(0_usize, |sum, request| sum.checked_add(request.bytes())),
        }
    }
}

/// What is to be sent.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) kind: Kind,
    pub(super) header: DmaRequest,
    pub(super) data: &'a Data<'a>,
    /// Bytes of the data.
    pub(super) bytes: usize,
    pub(super) status: DmaRequest,
}

impl<'a> Ask<'a> {
    /// A request with its header and its status where they are.
    pub(super) fn new(kind: Kind, header: &Header, data: &'a Data<'a>, bytes: usize, status: *mut u8) -> Self {
        let at = VirtAddr::of(ptr::from_ref(header));
        Self {
            kind,
            header: DmaRequest::new(at, size_of::<Header>(), Direction::ToDevice),
            data,
            bytes,
            status: DmaRequest::new(VirtAddr::of(status), 1, Direction::FromDevice).overwritten(),
        }
    }
}

/// Which request, for whoever waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ticket {
    index: usize,
    serial: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Free,
    /// The device has it.
    Sent,
    /// The device is done, or was reset.
    Ended(Result<(), DiskError>),
}

/// A place for a request.
struct Flight {
    phase: Phase,
    serial: u64,
    /// The number of the task that waits.
    owner: usize,
    /// Whoever waits has waited long enough.
    given_up: bool,
    token: u16,
    /// When it should be done, in ticks.
    end: u64,
    /// How many bytes the device is to write.
    expected: usize,
    transfers: ArrayVec<Transfer<'static, Kernel>, TRANSFERS>,
    held: Option<Held>,
    /// What the device reads.
    inputs: ArrayVec<&'static [u8], PIECES>,
    /// What it writes.
    outputs: ArrayVec<&'static mut [u8], PIECES>,
}

impl Flight {
    const FREE: Self = Self {
        phase: Phase::Free,
        serial: 0,
        owner: 0,
        given_up: false,
        token: 0,
        end: 0,
        expected: 0,
        transfers: ArrayVec::new_const(),
        held: None,
        inputs: ArrayVec::new_const(),
        outputs: ArrayVec::new_const(),
    };

    /// Whether it can be used: it is free, or nobody will ever ask what came of it.
    fn is_usable(&self) -> bool {
        self.phase == Phase::Free || (matches!(self.phase, Phase::Ended(_)) && !task::goes_on(self.owner))
    }

    /// Whether the device has it, for the task `owner`.
    fn is_sent_for(&self, owner: usize) -> bool {
        self.phase == Phase::Sent && self.owner == owner
    }

    /// Lets everything of `ask` through.
    fn load(&mut self, ask: &Ask<'_>) -> Result<(), DiskError> {
        self.pass(&ask.header)?;
        match ask.data {
            Data::Owned { start, bytes, buffer } => {
                self.piece(*start, *bytes, ask.kind == Kind::Read)?;
                self.held = Some(buffer.hold());
            }
            Data::Raw(list) => {
                let direction = if ask.kind == Kind::Read { Direction::FromDevice } else { Direction::ToDevice };
                list.iter().try_for_each(|request| self.pass(&request.towards(direction).overwritten()))?;
            }
        }
        self.pass(&ask.status)?;
        if let Some(status) = self.status() {
            // SAFETY: it is in what the door let through, which the device does not have yet.
            unsafe { status.write_volatile(UNSET) };
        }
        Ok(())
    }

    /// Where the device writes how it went: it is the last that it writes.
    fn status(&mut self) -> Option<*mut u8> {
        self.outputs.last_mut().map(|status| status.as_mut_ptr())
    }

    /// Lets one piece of memory through.
    fn pass(&mut self, request: &DmaRequest) -> Result<(), DiskError> {
        if self.transfers.is_full() {
            return Err(DiskError::TooManyPieces { most: TRANSFERS });
        }
        // SAFETY: header and status are on the stack of whoever waits; the rest is the promise of `read_raw` and `write_raw`.
        let transfer = unsafe { DOOR.pass(request) }.map_err(DiskError::Refused)?;
        let segments = transfer.segments();
        // First, so that it is cancelled with the others.
        self.transfers.push(transfer);
        segments
            .into_iter()
            .try_for_each(|segment| self.piece(segment.start, segment.bytes, request.direction().writes()))
    }

    fn piece(&mut self, start: PhysAddr, bytes: usize, writes: bool) -> Result<(), DiskError> {
        let at = phys_to_virt(start).as_mut_ptr::<u8>();
        // SAFETY: the direct map shows all memory; what it shows here is the device's until the flight ends. The slice carries an address and a
        // length: nothing is read or written through it but the status, before the device has it and when it is done (`status`).
        let bytes = unsafe { slice::from_raw_parts_mut(at, bytes) };
        let kept = if writes { self.outputs.try_push(bytes).is_ok() } else { self.inputs.try_push(bytes).is_ok() };
        if kept { Ok(()) } else { Err(DiskError::TooManyPieces { most: PIECES }) }
    }

    /// Puts it into the queue.
    fn enqueue(&mut self, running: &mut Running) -> Result<(), DiskError> {
        // SAFETY: what the slices show stays the device's until the flight ends: the transfers hold it.
        let added = unsafe { running.queue.add(&self.inputs, &mut self.outputs) };
        self.token = added.map_err(|_| DiskError::Busy)?;
        self.phase = Phase::Sent;
        running.notify();
        Ok(())
    }

    /// Takes it out of the queue, and says how many bytes the device wrote.
    fn pop(&mut self, running: &mut Running) -> Result<u32, virtio_drivers::Error> {
        let (mut outputs, count): ([&mut [u8]; PIECES], _) = (array::from_fn(|_| &mut [][..]), self.outputs.len());
        outputs.iter_mut().zip(&mut self.outputs).for_each(|(place, output)| *place = output);
        // SAFETY: the same slices as in `enqueue`.
        unsafe { running.queue.pop_used(self.token, &self.inputs, &mut outputs[..count]) }
    }

    /// What the device, which is done with it and has written so many bytes, says of it.
    fn answer(&mut self, wrote: usize) -> Result<(), DiskError> {
        let wanted = self.expected;
        // SAFETY: it is in what the door let through, and the device is done. Volatile: the compiler did not see it written.
        let status = self.status().map_or(UNSET, |status| unsafe { status.read_volatile() });
        match DiskError::of_status(status) {
            // It need not say how much it wrote of what it failed to do.
            Err(failed @ (DiskError::Failed | DiskError::Unsupported)) => Err(failed),
            _ if wrote < wanted => Err(DiskError::Short { wrote, wanted }),
            answer => answer,
        }
    }

    /// The device is done with it. False if it is not, whatever it said a moment ago.
    fn end(&mut self, running: &mut Running) -> bool {
        let Ok(wrote) = self.pop(running) else { return false };
        let answered = self.answer(wrote as usize);
        // What the device has not written is not told from what it has; and who was killed stands where it would be copied to.
        if answered.is_err() || !task::goes_on(self.owner) {
            self.cancel(answered);
            return true;
        }
        let mut done = Ok(());
        for transfer in self.transfers.drain(..) {
            // SAFETY: the device is done with the chain, and whoever asked waits.
            done = done.and(unsafe { transfer.finish() }.map_err(DiskError::Refused));
        }
        self.rest(done);
        true
    }

    /// The device never had it, or was reset.
    fn cancel(&mut self, result: Result<(), DiskError>) {
        for transfer in self.transfers.drain(..) {
            // SAFETY: the device has it no more.
            unsafe { transfer.cancel() };
        }
        self.rest(result);
    }

    /// Says what came of it, if anybody will ask.
    fn rest(&mut self, result: Result<(), DiskError>) {
        self.inputs.clear();
        self.outputs.clear();
        self.held = None;
        self.phase = if task::goes_on(self.owner) { Phase::Ended(result) } else { Phase::Free };
    }
}

/// All places.
pub(super) struct Flights {
    flights: [Flight; FLIGHTS],
    /// Requests that there were.
    serial: u64,
}

impl Flights {
    pub(super) const NONE: Self = Self { flights: [const { Flight::FREE }; FLIGHTS], serial: 0 };

    /// Sends what `ask` wants, which should be done by `end`.
    pub(super) fn send(&mut self, ask: &Ask<'_>, end: u64, running: &mut Running) -> Result<Ticket, DiskError> {
        let found = self.flights.iter_mut().enumerate().find(|(_, flight)| flight.is_usable());
        let (index, flight) = found.ok_or(DiskError::Busy)?;
        self.serial += 1;
        (flight.serial, flight.owner, flight.given_up, flight.end) = (self.serial, sched::current().id(), false, end);
        flight.expected = 1 + if ask.kind == Kind::Read { ask.bytes } else { 0 };
        if let Err(error) = flight.load(ask).and_then(|()| flight.enqueue(running)) {
            flight.cancel(Ok(()));
            flight.phase = Phase::Free;
            return Err(error);
        }
        Ok(Ticket { index, serial: self.serial })
    }

    /// Ends what the device is done with. A device that says it is done with what it never had is not listened to any more: whoever waits
    /// will have it reset. Each turn ends a flight, so there are as many as flights at most.
    pub(super) fn poll(&mut self, running: &mut Running) {
        while let Some(token) = running.queue.peek_used() {
            let sent = |flight: &&mut Flight| flight.phase == Phase::Sent && flight.token == token;
            let Some(flight) = self.flights.iter_mut().find(sent) else { return };
            if !flight.end(running) {
                return;
            }
        }
    }

    /// What came of a request. None if it is in flight.
    pub(super) fn collect(&mut self, ticket: Ticket) -> Option<Result<(), DiskError>> {
        let flight = self.flights.get_mut(ticket.index).filter(|flight| flight.serial == ticket.serial)?;
        let Phase::Ended(result) = flight.phase else { return None };
        flight.phase = Phase::Free;
        Some(result)
    }

    /// Nobody waits longer for this one.
    pub(super) fn give_up(&mut self, ticket: Ticket) {
        if let Some(flight) = self.flights.get_mut(ticket.index).filter(|flight| flight.serial == ticket.serial) {
            flight.given_up = true;
        }
    }

    /// Cancels all that are in flight: the device was reset.
    pub(super) fn cancel_all(&mut self) {
        for flight in self.flights.iter_mut().filter(|flight| flight.phase == Phase::Sent) {
            let error = if flight.given_up { DiskError::TimedOut } else { DiskError::Reset };
            flight.cancel(Err(error));
        }
    }

    /// Whether something should be done by now that nobody waits for any more.
    pub(super) fn is_overdue(&self, now: u64) -> bool {
        self.flights
            .iter()
            .any(|flight| flight.is_sent_for(flight.owner) && flight.end <= now && !task::goes_on(flight.owner))
    }

    /// Whether the device can write to the stack of the task `owner`.
    pub(super) fn can_write_to_stack_of(&self, owner: usize) -> bool {
        let mapped = |transfer: &Transfer<'_, _>| transfer.passage() == Passage::Mapped;
        self.flights.iter().any(|flight| flight.is_sent_for(owner) && flight.transfers.iter().any(mapped))
    }

    /// Places that are not free.
    pub(super) fn in_use(&self) -> usize {
        self.flights.iter().filter(|flight| !flight.is_usable()).count()
    }
}
