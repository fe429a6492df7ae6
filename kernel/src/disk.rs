//! The disk: virtio-blk over PCI, with the queue and the transport of the crate `virtio-drivers`.
//!
//! A request is a chain of three sorts of pieces: a header that says what is wanted, the data, and a byte in which the device says how it went.
//! As drivers do, [`request`] has header and status on the caller's stack. So every request passes the door for everything that owns no frames
//! ([`crate::dma::DOOR`]), also when its data is a buffer of its own.
//!
//! ```text
//!   request ──> a flight: what the door let through ──> the queue ──> device
//!      │             │                                                  │
//!      └── waits     └──── ended by whoever looks at the queue next <───┘
//! ```
//!
//! What is in flight belongs to a table, not to a frame (INV-PRIVATE): when a task is killed while it waits, its transfers are ended by whoever
//! polls next, and its place is free again. It goes on with its end on the same stack, so nothing is copied there any more, and [`leave`] waits for what a
//! device writes there itself. Under the lock nobody is killed: it is vital, and its door checks the headroom, so that an overflow
//! comes before the queue is touched. So the ring is never left half filled.
//!
//! Completion is polled, by whoever waits: each looks, and yields. A device that does not answer within a time limit is reset. After that it does not touch
//! memory any more, and what was in flight is cancelled; the others' requests are sent again.
//!
//! | file | owns |
//! | --- | --- |
//! | `hal` | memory for the crate's queues, and its way to the door |
//! | `device` | finding the device, its features, a reset |
//! | `flight` | one request in flight |
//! | `error` | what can go wrong |
//! | `natural` | the crate's own driver, for comparison |
//!
//! # Context
//!
//! Task, with preemption on.

use core::hint::black_box;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use vmstack::DmaRequest;

use crate::arch::cpu;
use crate::dma::DmaBuffer;
use crate::sync::{AnyLock, Section, VitalLock};
use crate::task::sched::{self, TICKS_PER_SECOND};

mod device;
mod error;
mod flight;
mod hal;
mod natural;

use device::Device;
pub(crate) use error::DiskError;
use flight::{Ask, Data, Flights, Header, Kind, Ticket, UNSET};
pub(crate) use natural::{NaturalDriver, with_natural_driver};

/// Bytes of a sector.
pub(crate) const SECTOR: usize = 512;
/// How much of the stack it takes to start the device, in bytes, with something to spare.
const START_DEPTH: usize = 5 << 10;

/// How long a request may take, in ticks.
static LIMIT: AtomicU64 = AtomicU64::new(5 * TICKS_PER_SECOND);
static DISK: VitalLock<Disk> = VitalLock::new("disk", Disk::NONE);

/// The lock of the disk.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &DISK
}

/// The device, if there is one, and what is in flight.
struct Disk {
    device: Device,
    flights: Flights,
    /// Sectors.
    capacity: u64,
    resets: usize,
}

impl Disk {
    const NONE: Self = Self { device: Device::Absent, flights: Flights::NONE, capacity: 0, resets: 0 };

    /// Sends what `ask` wants, which should be done by `end`.
    fn send(&mut self, ask: &Ask<'_>, end: u64) -> Result<Ticket, DiskError> {
        let running = self.device.running().ok_or(DiskError::Absent)?;
        self.flights.send(ask, end, running)
    }

    /// Ends what the device is done with.
    fn poll(&mut self) {
        if let Some(running) = self.device.running() {
            self.flights.poll(running);
        }
    }

    /// Makes room for a request, if that can be had: who was killed does not give up.
    fn make_room(&mut self) {
        self.poll();
        if self.flights.is_overdue(sched::ticks()) {
            self.stop();
        }
    }

    /// Stops the device: from here on it does not touch memory. What is in flight is cancelled.
    fn stop(&mut self) {
        if self.device.stop() {
            self.flights.cancel_all();
            self.resets += 1;
        }
    }
}

/// Facts about the disk, of a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    /// Sectors.
    pub(crate) capacity: u64,
    /// Descriptors of the ring that are free, and how many there are.
    pub(crate) descriptors: (usize, usize),
    /// Requests in flight, or ended and not collected.
    pub(crate) flights: usize,
    /// How often the device was reset because it did not answer.
    pub(crate) resets: usize,
}

/// Looks for the device, and starts it, if there is one.
pub(crate) fn init() {
    if let Some((transport, capacity)) = device::find() {
        let mut disk = DISK.lock();
        (disk.device, disk.capacity) = (Device::Stopped(transport), capacity);
        drop(disk);
        start();
    }
}

/// Whether there is a disk.
pub(crate) fn is_there() -> bool {
    !matches!(DISK.lock().device, Device::Absent)
}

/// What the disk is like now.
pub(crate) fn state() -> State {
    let mut disk = DISK.lock();
    disk.poll();
    let descriptors = disk.device.running().map_or((0, 0), |running| running.descriptors());
    State { capacity: disk.capacity, descriptors, flights: disk.flights.in_use(), resets: disk.resets }
}

/// Says how long a request may take, in ticks.
pub(crate) fn set_limit(ticks: u64) {
    LIMIT.store(ticks, Ordering::Relaxed);
}

/// Reads the sectors from `sector` on into `part` of `buffer`.
///
/// # Errors
///
/// [`DiskError`]; what is in the buffer then is not said.
pub(crate) fn read(sector: u64, buffer: &mut DmaBuffer, part: Range<usize>) -> Result<(), DiskError> {
    request(Kind::Read, sector, &Data::owned(buffer, part)?)
}

/// Writes `part` of `buffer` to the sectors from `sector` on.
///
/// # Errors
///
/// [`DiskError`]; what is in the sectors then is not said.
pub(crate) fn write(sector: u64, buffer: &DmaBuffer, part: Range<usize>) -> Result<(), DiskError> {
    request(Kind::Write, sector, &Data::owned(buffer, part)?)
}

/// Reads the sectors from `sector` on into memory of any sort: a scatter list, in order. Which way its entries say that the bytes go does not
/// matter.
///
/// # Errors
///
/// [`DiskError`].
///
/// # Safety
///
/// As for [`vmstack::DmaDoor::pass`], of each entry, until this returns; and if it never does, because the task is killed, until the request
/// is ended by somebody else.
pub(crate) unsafe fn read_raw(sector: u64, list: &[DmaRequest]) -> Result<(), DiskError> {
    request(Kind::Read, sector, &Data::Raw(list))
}

/// Writes memory of any sort to the sectors from `sector` on, as [`read_raw`] reads.
///
/// # Errors
///
/// [`DiskError`].
///
/// # Safety
///
/// As for [`read_raw`].
pub(crate) unsafe fn write_raw(sector: u64, list: &[DmaRequest]) -> Result<(), DiskError> {
    request(Kind::Write, sector, &Data::Raw(list))
}

/// Makes a request and waits for its end. Header and status are here, on the stack.
fn request(kind: Kind, sector: u64, data: &Data<'_>) -> Result<(), DiskError> {
    let header = Header::new(kind, sector);
    let mut status = UNSET;
    let status_at = &raw mut status;
    let ask = Ask::new(kind, &header, data, check(sector, data)?, status_at);
    let end = sched::ticks() + LIMIT.load(Ordering::Relaxed);
    let answered = loop {
        match send_by(&ask, end).and_then(|ticket| wait(ticket, end)) {
            // Somebody else's request was not answered.
            Err(DiskError::Reset) if sched::ticks() < end => {}
            done => break done,
        }
    };
    answered?;
    // SAFETY: it is the variable above; the transfer has ended, so nobody else writes it. Volatile: the compiler did not see it written.
    DiskError::of_status(unsafe { status_at.read_volatile() })
}

/// Says how many bytes of data a request has, if the disk has such sectors.
fn check(sector: u64, data: &Data<'_>) -> Result<usize, DiskError> {
    let (bytes, capacity) = (data.bytes().ok_or(DiskError::TooLong)?, DISK.lock().capacity);
    if bytes == 0 || !bytes.is_multiple_of(SECTOR) {
        return Err(DiskError::NotSectors { bytes });
    }
    let sectors = (bytes / SECTOR) as u64;
    match sector.checked_add(sectors) {
        Some(end) if end <= capacity => Ok(bytes),
        _ => Err(DiskError::OutOfRange { sector, sectors, capacity }),
    }
}

/// Sends a request, when there is a place for it, and the device runs.
fn send_by(ask: &Ask<'_>, end: u64) -> Result<Ticket, DiskError> {
    loop {
        let sent = DISK.lock().send(ask, end);
        match sent {
            Err(DiskError::Busy) if sched::ticks() < end => DISK.lock().make_room(),
            Err(DiskError::Absent) if sched::ticks() < end && is_there() => start(),
            sent => return sent,
        }
        sched::yield_now();
    }
}

/// Waits for the end of a request. Past `end` the device is reset.
fn wait(ticket: Ticket, end: u64) -> Result<(), DiskError> {
    loop {
        let mut disk = DISK.lock();
        disk.poll();
        if let Some(result) = disk.flights.collect(ticket) {
            return result;
        }
        if sched::ticks() >= end {
            disk.flights.give_up(ticket);
            disk.stop();
            continue;
        }
        drop(disk);
        start_if_stopped();
        sched::yield_now();
    }
}

fn start_if_stopped() {
    if DISK.lock().device.is_stopped() {
        start();
    }
}

/// Starts the device, if it is stopped. Its queue is made outside the lock, for it takes memory, and time; but in a section: a device that
/// a killed task was starting would never be started again.
fn start() {
    make_sure_of_room();
    let _section = Section::enter();
    let Some(stopped) = DISK.lock().device.take_stopped() else { return };
    let started = device::start(stopped);
    DISK.lock().device = started;
}

/// Overflows, if [`start`] would: a queue is a value of 1 KiB, and a section looks for [`cpu::HEADROOM`] at its door.
#[inline(never)]
fn make_sure_of_room() {
    // The compiler is not to know that nobody looks at it.
    black_box(&mut MaybeUninit::<[u8; START_DEPTH]>::uninit());
}

/// What a task does about its requests that was killed, when it goes on with its end on the same stack: nothing is copied to it from here on, and what
/// the device itself may write to is waited for, until the time limit.
///
/// # Context
///
/// A task that was killed, with interrupts on.
pub(crate) fn leave() {
    let (owner, end) = (sched::current().id(), sched::ticks() + LIMIT.load(Ordering::Relaxed));
    loop {
        let mut disk = DISK.lock();
        disk.poll();
        if !disk.flights.can_write_to_stack_of(owner) {
            return;
        }
        if sched::ticks() >= end {
            return disk.stop();
        }
        drop(disk);
        sched::yield_now();
    }
}

/// What reading the first sector takes of the CPU, in cycles: sending, and ending once the device is done. None if it failed.
///
/// # Safety
///
/// As for [`read_raw`].
pub(crate) unsafe fn count_raw(list: &[DmaRequest]) -> Option<u64> {
    count(&Data::Raw(list))
}

/// As [`count_raw`], with a buffer that owns its frames.
pub(crate) fn count_owned(buffer: &mut DmaBuffer) -> Option<u64> {
    count(&Data::owned(buffer, 0..SECTOR).ok()?)
}

fn count(data: &Data<'_>) -> Option<u64> {
    let header = Header::new(Kind::Read, 0);
    let mut status = UNSET;
    let status_at = &raw mut status;
    let start = cpu::cycles();
    let ask = Ask::new(Kind::Read, &header, data, check(0, data).ok()?, status_at);
    let ticket = DISK.lock().send(&ask, u64::MAX).ok()?;
    let sent = cpu::cycles() - start;
    while !DISK.lock().device.running()?.queue.can_pop() {
        cpu::relax();
    }
    let start = cpu::cycles();
    let ended = wait(ticket, u64::MAX);
    let taken = sent + cpu::cycles() - start;
    // SAFETY: as in `request`.
    ended.and_then(|()| DiskError::of_status(unsafe { status_at.read_volatile() })).is_ok().then_some(taken)
}
