//! Frames cut into objects of one size, and which of them are free.
//!
//! Pure: where frames come from is the caller's business, and so is that one CPU at a time is here. The tests of the host run it
//! as it is.
//!
//! ```text
//!   frame   | head: links, free objects, how many are used | object 0 | object 1 | ... |
//! ```
//!
//! Free objects of a frame are linked through their first words. A frame with free objects is on one list, a full one on another, so
//! that all of them can be found again; an empty one goes back at once.

use core::cell::Cell;
use core::ops::Deref;
use core::ptr::NonNull;

/// What frames are, in bytes, and what they are aligned to.
pub(crate) const FRAME: usize = 4096;
/// What objects are aligned to, and what a frame's head takes of it.
pub(crate) const ALIGN: usize = 64;

/// The head of a frame.
#[derive(Debug)]
#[repr(C, align(64))]
struct Head {
    next: Cell<Option<Frame>>,
    previous: Cell<Option<Frame>>,
    /// The first free object.
    free: Cell<Option<NonNull<u8>>>,
    used: Cell<usize>,
}

/// A frame of the store.
///
/// Having one means that the frame belongs to a store, and that whoever has it has that store to itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Frame(NonNull<Head>);

impl Deref for Frame {
    type Target = Head;

    fn deref(&self) -> &Head {
        // SAFETY: the head of a frame that is the store's (see the type), written by `Store::add`; its fields are cells.
        unsafe { self.0.as_ref() }
    }
}

impl Frame {
    /// The frame that `object` lies in.
    fn of(object: NonNull<u8>) -> Self {
        Self(object.map_addr(|addr| core::num::NonZero::new(addr.get() & !(FRAME - 1)).unwrap_or(addr)).cast())
    }

    /// Puts `object` among the free ones.
    fn put(self, object: NonNull<u8>) {
        // SAFETY: an object is as large as a word at least, aligned, and nobody's.
        unsafe { object.cast::<Option<NonNull<u8>>>().write(self.free.get()) };
        self.free.set(Some(object));
    }

    /// Takes a free object.
    fn pop(self) -> Option<NonNull<u8>> {
        let object = self.free.get()?;
        // SAFETY: a free object's first word is what `put` wrote.
        self.free.set(unsafe { object.cast::<Option<NonNull<u8>>>().read() });
        Some(object)
    }
}

/// A list of frames.
#[derive(Debug)]
struct Frames {
    first: Cell<Option<Frame>>,
}

impl Frames {
    const fn new() -> Self {
        Self { first: Cell::new(None) }
    }

    fn push(&self, frame: Frame) {
        let next = self.first.replace(Some(frame));
        frame.next.set(next);
        frame.previous.set(None);
        if let Some(next) = next {
            next.previous.set(Some(frame));
        }
    }

    fn remove(&self, frame: Frame) {
        let (previous, next) = (frame.previous.get(), frame.next.get());
        match previous {
            Some(previous) => previous.next.set(next),
            None => self.first.set(next),
        }
        if let Some(next) = next {
            next.previous.set(previous);
        }
    }

    fn iter(&self) -> impl Iterator<Item = Frame> {
        core::iter::successors(self.first.get(), |frame| frame.next.get())
    }
}

/// What a store holds, counted by looking.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Census {
    pub(crate) frames: usize,
    pub(crate) used: usize,
}

/// A store of objects of one size.
#[derive(Debug)]
pub(crate) struct Store {
    /// The size of an object in bytes, a multiple of [`ALIGN`]; zero: not known yet.
    bytes: usize,
    /// Frames with free objects.
    open: Frames,
    full: Frames,
}

// SAFETY: the frames are the store's, and are reached through it alone.
unsafe impl Send for Store {}

impl Store {
    pub(crate) const fn new() -> Self {
        Self { bytes: 0, open: Frames::new(), full: Frames::new() }
    }

    /// Says how large objects are, in bytes, before there is one. False if that is more than a frame holds.
    pub(crate) fn set_size(&mut self, bytes: usize) -> bool {
        self.bytes = bytes.next_multiple_of(ALIGN);
        bytes != 0 && self.in_frame() != 0
    }

    /// How many objects a frame has.
    const fn in_frame(&self) -> usize {
        (FRAME - size_of::<Head>()) / self.bytes
    }

    /// Adds the frame at `place`.
    ///
    /// # Safety
    ///
    /// It is [`FRAME`] bytes, aligned to as much, writable, and the store's from here on, until [`give`](Self::give) returns it.
    pub(crate) unsafe fn add(&mut self, place: NonNull<u8>) {
        let head = Head { next: Cell::new(None), previous: Cell::new(None), free: Cell::new(None), used: Cell::new(0) };
        // SAFETY: the caller's promise.
        unsafe { place.cast::<Head>().write(head) };
        let frame = Frame(place.cast());
        for index in (0..self.in_frame()).rev() {
            // SAFETY: the offset is inside the frame.
            frame.put(unsafe { place.add(size_of::<Head>() + index * self.bytes) });
        }
        self.open.push(frame);
    }

    /// An object, whose bytes are anything; `None`: a frame is wanted.
    pub(crate) fn take(&mut self) -> Option<NonNull<u8>> {
        let frame = self.open.first.get()?;
        let object = frame.pop()?;
        frame.used.set(frame.used.get() + 1);
        if frame.free.get().is_none() {
            self.open.remove(frame);
            self.full.push(frame);
        }
        Some(object)
    }

    /// Takes `object` back, and returns its frame if nothing in it is used any more.
    ///
    /// # Safety
    ///
    /// [`take`](Self::take) returned it, and nobody uses it.
    pub(crate) unsafe fn give(&mut self, object: NonNull<u8>) -> Option<NonNull<u8>> {
        let frame = Frame::of(object);
        let was_full = frame.free.get().is_none();
        frame.put(object);
        frame.used.set(frame.used.get() - 1);
        if was_full {
            self.full.remove(frame);
            self.open.push(frame);
        }
        if frame.used.get() != 0 {
            return None;
        }
        self.open.remove(frame);
        Some(frame.0.cast())
    }

    /// What there is, counted by looking at every frame (INV-COUNT).
    pub(crate) fn recount(&self) -> Census {
        let frames = self.open.iter().chain(self.full.iter());
        frames.fold(Census::default(), |census, frame| {
            let free = core::iter::successors(frame.free.get(), |object| {
                // SAFETY: a free object's first word is what `put` wrote.
                unsafe { object.cast::<Option<NonNull<u8>>>().read() }
            });
            Census { frames: census.frames + 1, used: census.used + self.in_frame() - free.count() }
        })
    }
}
