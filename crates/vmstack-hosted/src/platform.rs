//! [`Hosted`]: the library's seam, implemented on Linux user space.
//!
//! | the library asks | the port does |
//! | --- | --- |
//! | `take_frames`, `take_frames_on`, `give_frames` | lists of frames of the memfd, one a node (`frames`, `memory`) |
//! | `node` | simulated: runs of CPUs, as equal as can be (`division`) |
//! | `map` | one `mmap(MAP_FIXED, MAP_SHARED)` a page, at the frame's offset |
//! | `unmap` | one `mmap(MAP_FIXED, PROT_NONE)` over all the pages |
//! | `shootdown`, `flushed` | nothing: Linux has flushed every TLB when `mmap` returns, so the ticket is `()` |
//! | `translate` | a table beside the page tables (`space`), and the direct map |
//! | `direct` | whether it is in the direct map |
//! | `cpu`, `enter` | which thread this is, and that it is inside (`thread`) |
//!
//! Which pages were written is not known: Linux tells it only by system calls that cost more than clearing does (soft-dirty bits in
//! /proc/self/pagemap, which `clear_refs` must reset for the whole process). So `clear` is the default too, through the mapping:
//! there are no dirty bits to spare, and one run of 16 KiB is cleared faster than four frames in the direct map. Nothing else looks for
//! the frames of a stack that is mapped, so there is no `hint`. `handed_over` is the default, a full fence: a switch of tasks here is
//! a few plain stores, and readers of other threads pin stacks.
//!
//! # Headroom
//!
//! A task that overflows while it holds the allocator's lock cannot be killed: everybody else would wait for ever. So
//! [`enter`](Platform::enter) first touches [`HEADROOM`] bytes of stack below itself: a task without them overflows at
//! that door, and is killed, before it has taken anything. A fault that comes inside all the same stops the process.

use core::fmt;
use core::hint::black_box;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

use vmstack::{Cpu, Hint, Mapping, Node, NotMapped, Pages, PhysAddr, Platform, Unmapped, VirtAddr};

use vmstack_paging::MapError;

use crate::arch::PAGE_SIZE;
use crate::division::Division;
use crate::frames::Frames;
use crate::limit;
use crate::memory::Memory;
use crate::names::Names;
use crate::plain::Plain;
use crate::space::Space;
use crate::sys::Errno;
use crate::thread;

/// The bytes of stack that code needs to enter the library.
pub(crate) const HEADROOM: usize = 8 << 10;

/// Why frames or mappings could not be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HostedError {
    /// A node of the machine's memory has too few free frames.
    NoFrames {
        /// How many were asked for.
        asked: usize,
        /// How many there were, on that node.
        free: usize,
    },
    /// The process has as many mappings as Linux allows it.
    MapLimit {
        /// The limit: `vm.max_map_count`.
        limit: usize,
        /// How many mappings there were when the call failed.
        mappings: usize,
    },
    /// A frame that is to be lent is none of the machine's memory, or does not begin there.
    NoSuchFrame {
        /// The frame.
        frame: PhysAddr,
    },
    /// A frame that is to be lent is lent already.
    LentAlready {
        /// The frame.
        frame: PhysAddr,
    },
    /// There was no memory for page tables, or an entry was in the way.
    Tables(MapError),
    /// `mmap` failed, and not for the number of mappings.
    Mmap {
        /// What it said.
        errno: Errno,
    },
}

impl fmt::Display for HostedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFrames { asked, free } => write!(f, "{asked} frames were asked for and {free} are free"),
            Self::MapLimit { limit, mappings } => write!(
                f,
                "the process has {mappings} mappings and Linux allows {limit}: raise it with sysctl vm.max_map_count"
            ),
            Self::NoSuchFrame { frame } => write!(f, "{frame:?} is no frame of this memory"),
            Self::LentAlready { frame } => write!(f, "the frame at {frame:?} is lent already"),
            Self::Tables(error) => write!(f, "page tables: {error}"),
            Self::Mmap { errno } => write!(f, "mmap: {errno}"),
        }
    }
}

impl core::error::Error for HostedError {}

/// What a failed call that maps means: a look at /proc tells the limit from other shortages.
pub(crate) fn why(errno: Errno) -> HostedError {
    let reached = if errno.is_out_of_memory() { limit::reached() } else { None };
    reached.map_or(HostedError::Mmap { errno }, |(limit, mappings)| HostedError::MapLimit { limit, mappings })
}

/// The platform of one [`Machine`](crate::Machine): its memory, its address space and its names.
#[derive(Debug)]
pub struct Hosted {
    /// Tells machines apart for ever, unlike an address.
    id: u64,
    cpus: Division,
    pub(crate) memory: Memory,
    pub(crate) plain: Option<Plain>,
    pub(crate) space: Space,
    pub(crate) names: Names,
}

impl Hosted {
    pub(crate) const fn new(
        id: u64,
        cpus: Division,
        memory: Memory,
        plain: Option<Plain>,
        space: Space,
        names: Names,
    ) -> Self {
        Self { id, cpus, memory, plain, space, names }
    }

    pub(crate) const fn id(&self) -> u64 {
        self.id
    }
}

/// Proof that this thread is inside the library: its task is neither switched nor killed until this is dropped.
#[derive(Debug)]
pub struct Guard {
    /// Not `Send`: what it proves holds on one thread.
    thread: PhantomData<*const ()>,
}

impl Guard {
    #[inline]
    pub(crate) fn new() -> Self {
        thread::note_entered();
        Self { thread: PhantomData }
    }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        thread::note_left();
    }
}

/// Touches `HEADROOM` bytes of the running stack, page by page downwards, by having a frame of that size: the
/// compiler's stack probes do it.
#[inline(never)]
pub(crate) fn check_headroom() {
    black_box(&mut [MaybeUninit::<u8>::uninit(); HEADROOM]);
}

// SAFETY: by condition: (1) `map` maps exactly the pages, not executable, and the region is the area's alone; a process
// has one address space; (2) frames are mapped in the direct map only, and cleared if they were used before; (3) when
// mmap returns, Linux has flushed what it replaced from every CPU of the process, so `true` holds at once; (4) a number
// is held by one thread at a time; a thread without one says so with a number that the library refuses; (5) tasks of a
// thread switch only where they yield, which nothing does under a guard, and the signal handler never enters; (6) no
// page is taken for clean; (7) no method panics; (8) nor calls an area; (9) the signal handler says `indispensable`
// while the thread is inside.
unsafe impl Platform for Hosted {
    const PAGE_SIZE: usize = PAGE_SIZE;
    type Frames = Frames;
    type Ticket = ();
    type Guard = Guard;
    type Error = HostedError;

    fn take_frames(&self, count: usize) -> Result<Frames, HostedError> {
        let near = self.node(self.cpu());
        let others = (0..self.cpus.nodes() as u8).map(Node::new).filter(|&other| other != near);
        let taken = self.take_frames_on(near, count);
        others.into_iter().fold(taken, |taken, other| taken.or_else(|_| self.take_frames_on(other, count)))
    }

    fn take_frames_on(&self, node: Node, count: usize) -> Result<Frames, HostedError> {
        self.memory.take(node, count)
    }

    fn node(&self, cpu: Cpu) -> Node {
        self.cpus.node(cpu.index() as u32)
    }

    fn give_frames(&self, frames: Frames) {
        self.memory.frames.give(frames);
    }

    unsafe fn map(&self, mapping: Mapping, frames: Frames) -> Result<Hint, NotMapped<Self>> {
        let mapped = self.space.map(mapping.pages(), frames, &self.memory);
        mapped.map(|()| Hint::default()).map_err(|(frames, errno)| NotMapped { frames, reason: why(errno) })
    }

    unsafe fn unmap(&self, mapping: Mapping) -> Unmapped<Self> {
        Unmapped::new(self.space.unmap(mapping.pages(), &self.memory))
    }

    fn shootdown(&self, _batch: impl Iterator<Item = Pages> + Clone) {}

    fn flushed(&self, _ticket: &()) -> bool {
        true
    }

    fn translate(&self, addr: VirtAddr) -> Option<PhysAddr> {
        let plain = || self.plain.as_ref().and_then(|plain| plain.translate(addr));
        self.space.translate(addr).or_else(plain).or_else(|| self.memory.ram.direct(addr, 1))
    }

    fn direct(&self, addr: VirtAddr, bytes: usize) -> Option<PhysAddr> {
        self.memory.ram.direct(addr, bytes)
    }

    #[inline]
    fn cpu(&self) -> Cpu {
        thread::number_in(self.id)
    }

    #[inline]
    fn enter(&self) -> Guard {
        if thread::may_be_killed() {
            check_headroom();
        }
        Guard::new()
    }

    fn write_owner(&self, owner: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        self.names.write(owner, out)
    }
}
