//! The driver of the device's DMA engine: a table of what is asked of it, and whoever looks next drives it on.
//!
//! ```text
//!   submit ──> | waits | waits | begun | ──poll──> a piece after the other ──poll──> ended: the door's transfer is finished
//!               the table, oldest first
//! ```
//!
//! What is in the table belongs to no frame (INV-PRIVATE): when a task is killed whose request is in it, the request stays, and so does what the
//! door holds for it, until somebody polls it to its end. Between the door and the table nobody is killed: it is a section.
//!
//! The device has no queue, so the table is one. It copies at most [`edu_dma::MOST`] bytes at once, and not over the end of a segment.
//!
//! # Context
//!
//! Task.

use core::{iter, mem};

use arrayvec::ArrayVec;
use vmstack::{DmaError, DmaRequest, Passage, PhysAddr, Transfer};

use crate::arch::edu_dma;
use crate::arch::layout::PAGE_SIZE;
use crate::dma::{DOOR, DmaBuffer, Held};
use crate::stacks::{Kernel, TASK_STACK};
use crate::sync::{AnyLock, Section, SpinLock};
use crate::task::sched;

/// Segments of a request at most: the pages of a stack, of which the first and the last may be in part.
const PIECES: usize = TASK_STACK / PAGE_SIZE + 1;
/// Requests at most: those that are ended are remembered for as many more.
const JOBS: usize = 32;

static TABLE: SpinLock<Table> = SpinLock::new("crash-dma", Table::EMPTY);

/// The lock of the table.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &TABLE
}

/// What keeps the memory that the device has.
#[derive(Debug)]
enum Hold {
    /// What the door let through.
    Door(Transfer<'static, Kernel>),
    /// A buffer that owns its frames.
    Owned(#[expect(dead_code, reason = "it is there to be held")] Held),
    /// Nothing does: the control's.
    Nobody,
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Finished,
    /// The stack was given back meanwhile: what the device wrote was dropped.
    Gone,
    /// The device never began.
    Cancelled,
}

impl End {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Gone => "gone",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Which request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ticket(pub(super) usize);

/// What the door let through for a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed {
    pub(super) ticket: Ticket,
    pub(super) passage: Passage,
    pub(super) segments: usize,
}

/// Memory in one piece.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: PhysAddr,
    bytes: usize,
}

/// Where the bytes of a request are, as the device was told when it was asked: it does not ask again.
type Pieces = ArrayVec<Piece, PIECES>;

/// A request.
#[derive(Debug)]
struct Job {
    ticket: Ticket,
    hold: Hold,
    pieces: Pieces,
    writes: bool,
    /// Bytes that the device is done with.
    done: usize,
    /// Bytes that it was told to copy.
    begun: usize,
}

impl Job {
    /// Where the next bytes are, and how many: to the end of a segment, or as many as the device copies at once.
    fn next(&self) -> Option<(PhysAddr, usize)> {
        let mut skip = self.done;
        for piece in &self.pieces {
            if skip < piece.bytes {
                return Some((piece.start.wrapping_add(skip as u64), (piece.bytes - skip).min(edu_dma::MOST)));
            }
            skip -= piece.bytes;
        }
        None
    }

    /// Has the device copy the next bytes. False if all are copied.
    fn go_on(&mut self) -> bool {
        let Some((start, bytes)) = self.next() else { return false };
        self.begun = self.done + bytes;
        // SAFETY: the memory is the device's while the job is in the table: `hold` keeps it, or the control's script does.
        unsafe { edu_dma::start(start, self.done, bytes, self.writes) };
        true
    }
}

struct Table {
    jobs: [Option<Job>; JOBS],
    /// How the last ones ended, by ticket.
    ends: [Option<(Ticket, End)>; JOBS],
    last: usize,
}

impl Table {
    const EMPTY: Self = Self { jobs: [const { None }; JOBS], ends: [None; JOBS], last: 0 };

    /// The place for another job, if there is one.
    fn place(&mut self) -> Option<&mut Option<Job>> {
        self.jobs.iter_mut().find(|job| job.is_none())
    }

    fn add(&mut self, hold: Hold, pieces: Pieces, writes: bool) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        if let Some(place) = self.place() {
            *place = Some(Job { ticket, hold, pieces, writes, done: 0, begun: 0 });
        }
        ticket
    }

    fn oldest(&mut self) -> Option<&mut Option<Job>> {
        let waiting = self.jobs.iter_mut().filter(|job| job.is_some());
        waiting.min_by_key(|job| job.as_ref().map(|job| job.ticket.0))
    }

    /// Drives the oldest job on. Returns it if the device is done with all of it; it stays in the table.
    fn go_on(&mut self) -> Option<&mut Option<Job>> {
        if edu_dma::is_running() {
            return None;
        }
        let place = self.oldest()?;
        let busy = place.as_mut().is_some_and(|job| {
            job.done = job.begun;
            job.go_on()
        });
        (!busy).then_some(place)
    }

    fn take(&mut self, which: impl Fn(&Job) -> bool) -> Option<Job> {
        self.jobs.iter_mut().find(|job| job.as_ref().is_some_and(&which)).and_then(mem::take)
    }

    fn note(&mut self, ticket: Ticket, end: End) {
        self.ends[ticket.0 % JOBS] = Some((ticket, end));
    }
}

/// Asks the device to copy what `request` is about: what passes the door for it.
///
/// # Errors
///
/// As [`vmstack::DmaDoor::pass`].
#[track_caller]
pub(super) fn submit(request: &DmaRequest) -> Result<Passed, DmaError> {
    let _section = Section::enter();
    assert!(TABLE.lock_anyway().place().is_some(), "a script asks more of the device than the table has room for");
    // SAFETY: the scripts ask for stacks, and for memory that stays. Whoever's stack it is waits, or is dead.
    let transfer = unsafe { DOOR.pass(&request.reaching(edu_dma::REACH)) }?;
    let (passage, pieces) = (transfer.passage(), pieces_of(&transfer));
    let segments = pieces.len();
    let ticket = TABLE.lock_anyway().add(Hold::Door(transfer), pieces, request.direction().writes());
    Ok(Passed { ticket, passage, segments })
}

/// Asks the device to copy between its own buffer and the first `bytes` of `buffer`: to `buffer`, if it `writes`.
fn submit_owned(buffer: &DmaBuffer, bytes: usize, writes: bool) -> Ticket {
    let hold = Hold::Owned(buffer.hold());
    let _section = Section::enter();
    TABLE.lock_anyway().add(hold, whole(buffer.phys(), bytes.min(buffer.len())), writes)
}

/// Where the device sees what was let through.
fn pieces_of(transfer: &Transfer<'static, Kernel>) -> Pieces {
    transfer.segments().take(PIECES).map(|segment| Piece { start: segment.start, bytes: segment.bytes }).collect()
}

/// Memory in one piece.
fn whole(start: PhysAddr, bytes: usize) -> Pieces {
    iter::once(Piece { start, bytes }).collect()
}

/// Asks the device to copy between its own buffer and whatever lies at `bus`.
///
/// # Safety
///
/// The `bytes` bytes there, cut to the device's reach, are the device's until the request ends.
pub(super) unsafe fn submit_unheld(bus: PhysAddr, bytes: usize, writes: bool) -> Ticket {
    let _section = Section::enter();
    TABLE.lock_anyway().add(Hold::Nobody, whole(bus, bytes), writes)
}

/// Fills the device's buffer from `buffer`.
pub(super) fn load(buffer: &DmaBuffer, bytes: usize) {
    wait(submit_owned(buffer, bytes, false));
}

/// Shows what is in the device's buffer in `buffer`.
pub(super) fn show(buffer: &mut DmaBuffer, bytes: usize) {
    wait(submit_owned(buffer, bytes, true));
}

/// Drives the device on, and ends a request that it is done with: how, if there is one.
pub(super) fn poll() -> Option<End> {
    let _section = Section::enter();
    let ended = TABLE.lock_anyway().go_on().and_then(mem::take);
    ended.map(finish)
}

/// Drives the device on until it is done with the oldest request, and does not end that. False if there is none.
pub(super) fn poll_to_the_last_byte() -> bool {
    while in_table() != 0 {
        let _section = Section::enter();
        if TABLE.lock_anyway().go_on().is_some() {
            return true;
        }
    }
    false
}

/// Ends a job that the device is done with. In the section in which it was taken out: so it is not lost with a task.
fn finish(job: Job) -> End {
    let end = match job.hold {
        // SAFETY: (1) the device is done with it; (2) scripts keep what is no stack; (3) whoever asked waits, or is dead.
        Hold::Door(transfer) => unsafe { transfer.finish() }.map_or(End::Gone, |()| End::Finished),
        Hold::Owned(_) | Hold::Nobody => End::Finished,
    };
    TABLE.lock_anyway().note(job.ticket, end);
    end
}

/// Ends what the device has not begun.
pub(super) fn cancel_waiting() {
    loop {
        let _section = Section::enter();
        let Some(job) = TABLE.lock_anyway().take(|job| job.begun == 0) else { return };
        if let Hold::Door(transfer) = job.hold {
            // SAFETY: the device has not begun.
            unsafe { transfer.cancel() };
        }
        TABLE.lock_anyway().note(job.ticket, End::Cancelled);
    }
}

/// How the request ended; none if it has not.
pub(super) fn end_of(ticket: Ticket) -> Option<End> {
    let _section = Section::enter();
    let noted = TABLE.lock_anyway().ends[ticket.0 % JOBS];
    noted.filter(|(of, _)| *of == ticket).map(|(_, end)| end)
}

/// Drives the device on until the request is ended.
pub(super) fn wait(ticket: Ticket) -> End {
    loop {
        poll();
        if let Some(end) = end_of(ticket) {
            return end;
        }
        sched::yield_now();
    }
}

/// Requests that have not ended.
pub(super) fn in_table() -> usize {
    let _section = Section::enter();
    TABLE.lock_anyway().jobs.iter().flatten().count()
}

/// Drives the device on until there is nothing left to do, and says how many requests of stacks ended here, and for how many of them the
/// stack was gone.
pub(super) fn wait_for_all() -> (usize, usize) {
    let (mut finished, mut gone) = (0, 0);
    while in_table() != 0 {
        match poll() {
            Some(End::Gone) => gone += 1,
            Some(_) => finished += 1,
            None => sched::yield_now(),
        }
    }
    (finished, gone)
}

/// How many bytes of the oldest request the device was told to copy.
pub(super) fn begun() -> usize {
    let _section = Section::enter();
    TABLE.lock_anyway().oldest().and_then(|job| job.as_ref()).map_or(0, |job| job.begun)
}
