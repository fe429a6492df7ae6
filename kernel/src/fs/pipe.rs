//! Pipes: bytes from those who have the writing end to those who have the reading end.
//!
//! ```text
//!   read so far          written so far
//!        v                    v
//!   ...  |████████████████████|...      at most 64 KiB apart, in a ring of 16 frames
//! ```
//!
//! Each of the two words changes by one store, after the bytes were copied. So a task that is killed in the middle of a call has read
//! nothing, or written nothing, and the pipe works on for the others; when it gives its end back they learn that. A frame is taken when
//! the writing gets to it, and given back when the reading has left it.

use alloc::sync::Arc;
use core::slice;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use vmstack::PhysAddr;

use super::mode;
use super::node::{PIPE_DEVICE, Status};
use super::ready::{self, Ready};
use super::span::Span;
use crate::arch::layout::{PAGE_SIZE, phys_to_virt};
use crate::mm::frames;
use crate::mm::heap;
use crate::sync::{AnyLock, Mutex, MutexGuard, Section};
use crate::syscall::Errno;
use crate::task::wait::Event;

/// Frames of a ring.
const FRAMES: usize = 16;
/// The most that a pipe holds, in bytes.
pub(crate) const CAPACITY: usize = FRAMES * PAGE_SIZE;
/// What is written in one piece, in bytes, if no more is written at once.
const ATOMIC: usize = 4096;
/// No frame. The first one of the machine is never handed out.
const NO_FRAME: u64 = 0;

/// A pipe.
#[derive(Debug)]
pub(crate) struct Pipe {
    number: usize,
    ring: Ring,
    /// Held while bytes are copied.
    lock: Mutex<()>,
    readers: AtomicUsize,
    writers: AtomicUsize,
    changed: Event,
}

/// One that nobody uses, for crashes that want its lock.
static SPECIMEN: Pipe = Pipe::new(0);
/// The number of the next pipe.
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// A pipe's lock.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &SPECIMEN.lock
}

/// The bytes of a pipe.
#[derive(Debug)]
struct Ring {
    frames: [AtomicU64; FRAMES],
    /// Bytes that were ever read, and that were ever written.
    read: AtomicUsize,
    written: AtomicUsize,
}

impl Ring {
    const fn new() -> Self {
        let frames = [const { AtomicU64::new(NO_FRAME) }; FRAMES];
        Self { frames, read: AtomicUsize::new(0), written: AtomicUsize::new(0) }
    }

    /// Bytes in it.
    fn len(&self) -> usize {
        self.written.load(Ordering::SeqCst).wrapping_sub(self.read.load(Ordering::SeqCst))
    }

    /// How much can be written. A frame that was read in part is taken whole.
    fn room(&self) -> usize {
        let first = self.read.load(Ordering::SeqCst) / PAGE_SIZE * PAGE_SIZE;
        CAPACITY - self.written.load(Ordering::SeqCst).wrapping_sub(first)
    }

    /// The frame for byte `at`, taken if there is none yet.
    fn frame(&self, at: usize) -> Result<PhysAddr, Errno> {
        let place = &self.frames[at / PAGE_SIZE % FRAMES];
        if place.load(Ordering::Relaxed) == NO_FRAME {
            // A frame is the allocator's or the ring's: nobody is killed in between.
            let _section = Section::enter();
            place.store(frames::take(0).ok_or(Errno::NOMEM)?.get(), Ordering::Relaxed);
        }
        Ok(PhysAddr::new(place.load(Ordering::Relaxed)))
    }

    /// The bytes from `at` on, `count` at most, up to the end of their frame.
    ///
    /// # Safety
    ///
    /// The caller holds the pipe's lock, and has no other such slice.
    #[expect(clippy::mut_from_ref, reason = "the pipe's lock makes it exclusive")]
    unsafe fn stretch(&self, at: usize, count: usize) -> Result<&mut [u8], Errno> {
        let start = phys_to_virt(self.frame(at)?).wrapping_add(at % PAGE_SIZE);
        let count = count.min(PAGE_SIZE - at % PAGE_SIZE);
        // SAFETY: the frame is the ring's, the direct map shows it, and by the caller's promise nobody else looks.
        Ok(unsafe { slice::from_raw_parts_mut(start.as_mut_ptr(), count) })
    }

    /// Gives back the frames of the bytes from `from` up to `to`, as far as all of a frame was read.
    fn give_back(&self, from: usize, to: usize) {
        (from / PAGE_SIZE..to / PAGE_SIZE).for_each(|frame| self.give(&self.frames[frame % FRAMES]));
    }

    #[expect(clippy::unused_self, reason = "it is one of this ring's places")]
    fn give(&self, place: &AtomicU64) {
        let _section = Section::enter();
        let frame = place.swap(NO_FRAME, Ordering::Relaxed);
        if frame != NO_FRAME {
            frames::give(PhysAddr::new(frame), 0);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.frames.iter().for_each(|place| self.give(place));
    }
}

impl Pipe {
    const fn new(number: usize) -> Self {
        let (readers, writers) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { number, ring: Ring::new(), lock: Mutex::new("pipe", ()), readers, writers, changed: Event::new() }
    }

    /// The lock: also after a task was killed with it (see the top of the file).
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock_anyway()
    }

    /// Takes what there is into `to`; `None` if there is nothing, and may be later.
    fn take(&self, to: Span) -> Option<Result<usize, Errno>> {
        let _lock = self.lock();
        // Before the bytes: who wrote and left has written before.
        let is_over = self.writers.load(Ordering::SeqCst) == 0;
        let count = self.ring.len().min(to.len());
        if count == 0 {
            return (is_over || to.len() == 0).then_some(Ok(0));
        }
        let start = self.ring.read.load(Ordering::Relaxed);
        Some(self.copy(start, count, |done, bytes| to.skip(done).put(bytes)).inspect(|&copied| {
            self.ring.read.store(start.wrapping_add(copied), Ordering::SeqCst);
            self.ring.give_back(start, start.wrapping_add(copied));
        }))
    }

    /// Puts as much of `from` there as fits, or nothing if a small piece does not fit whole; `None` if that is nothing, and may be
    /// more later.
    fn put(&self, from: Span) -> Option<Result<usize, Errno>> {
        let _lock = self.lock();
        if self.readers.load(Ordering::SeqCst) == 0 {
            return Some(Err(Errno::PIPE));
        }
        let (count, room) = (from.len(), self.ring.room());
        if room < count.min(ATOMIC) || (room == 0 && count != 0) {
            return None;
        }
        let start = self.ring.written.load(Ordering::Relaxed);
        Some(self.copy(start, count.min(room), |done, bytes| from.skip(done).get(bytes)).inspect(|&copied| {
            self.ring.written.store(start.wrapping_add(copied), Ordering::SeqCst);
        }))
    }

    /// Copies the `count` bytes from `start` on, by `each`, which is told how many were copied before. The lock is held.
    fn copy(
        &self,
        start: usize,
        count: usize,
        each: impl Fn(usize, &mut [u8]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while done < count {
            // SAFETY: the caller holds the lock, and the slice is used up here.
            let bytes = unsafe { self.ring.stretch(start.wrapping_add(done), count - done) };
            match bytes.and_then(|bytes| each(done, bytes)) {
                Ok(copied) => done += copied,
                Err(_) if done != 0 && count > ATOMIC => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

/// An end of a pipe. The pipe is there until both ends are gone.
#[derive(Debug)]
pub(crate) struct PipeEnd {
    pipe: Arc<Pipe>,
    writes: bool,
}

impl PipeEnd {
    fn new(pipe: Arc<Pipe>, writes: bool) -> Self {
        let end = Self { pipe, writes };
        end.users().fetch_add(1, Ordering::SeqCst);
        end
    }

    /// Both ends of a new pipe: for reading, and for writing.
    pub(crate) fn both() -> Result<(Self, Self), Errno> {
        let pipe = heap::try_arc(Pipe::new(NEXT.fetch_add(1, Ordering::Relaxed)))?;
        Ok((Self::new(Arc::clone(&pipe), false), Self::new(pipe, true)))
    }

    /// An end of the same pipe, for writing or for reading.
    pub(crate) fn other(&self, writes: bool) -> Self {
        Self::new(Arc::clone(&self.pipe), writes)
    }

    fn users(&self) -> &AtomicUsize {
        if self.writes { &self.pipe.writers } else { &self.pipe.readers }
    }

    /// Reads into `to` what there is; if there is nothing and `wait` is wanted, waits for it. Nothing is the end.
    pub(crate) fn read(&self, to: Span, wait: bool) -> Result<usize, Errno> {
        let taken = ready::wait_for(&self.pipe.changed, wait, || self.pipe.take(to))?;
        if taken != 0 {
            ready::announce(&self.pipe.changed);
        }
        Ok(taken)
    }

    /// Writes what `from` has: all of it if `wait` is wanted, or what fits.
    pub(crate) fn write(&self, from: Span, wait: bool) -> Result<usize, Errno> {
        let mut done = 0;
        loop {
            let put = ready::wait_for(&self.pipe.changed, wait, || self.pipe.put(from.skip(done)));
            match put {
                Ok(count) => done += count,
                Err(_) if done != 0 => return Ok(done),
                Err(error) => return Err(error),
            }
            ready::announce(&self.pipe.changed);
            if done >= from.len() || !wait {
                return Ok(done);
            }
        }
    }

    pub(crate) fn ready(&self) -> Ready {
        let (pipe, left) = (&self.pipe, |users: &AtomicUsize| users.load(Ordering::SeqCst) == 0);
        if self.writes {
            let room = Ready::WRITE.when(pipe.ring.room() >= ATOMIC);
            room.and(Ready::ERROR.when(left(&pipe.readers)))
        } else {
            // The end before the bytes: who wrote and left has written before.
            let end = Ready::HANG_UP.when(left(&pipe.writers));
            end.and(Ready::READ.when(pipe.ring.len() != 0))
        }
    }

    /// A number that another one follows with each read, write or end.
    pub(crate) fn news(&self) -> usize {
        self.pipe.changed.times()
    }

    /// How many bytes can be read.
    pub(crate) fn available(&self) -> usize {
        self.pipe.ring.len()
    }

    /// The pipe's number.
    pub(crate) fn number(&self) -> usize {
        self.pipe.number
    }

    pub(crate) fn status(&self) -> Status {
        Status {
            device: PIPE_DEVICE,
            number: self.pipe.number as u64,
            mode: mode::PIPE | 0o600,
            links: 1,
            ..Status::default()
        }
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        self.users().fetch_sub(1, Ordering::SeqCst);
        ready::announce(&self.pipe.changed);
    }
}
