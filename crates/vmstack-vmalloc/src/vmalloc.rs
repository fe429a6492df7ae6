//! [`Vmalloc`]: a range of virtual memory full of areas, as a value.
//!
//! A kernel puts one in a `static`, initialises it when it knows its range and its CPUs, and then allocates. There is no global state, and
//! there may be several: one for modules, near the kernel's text, and one for the rest.
//!
//! This file is the value and its initialisation. An area's life is in `alloc`, `lent` and `area` (the owned handle), `release` and `reclaim`; what
//! can be asked about addresses is in `find` and `listing`.

use core::cell::UnsafeCell;
use core::fmt;

use vmstack::{Cpu, Pressure, VirtRange};

use crate::central::Central;
use crate::error::InitError;
use crate::here::Here;
use crate::layout::Layout;
use crate::line::Line;
use crate::lock::Lock;
use crate::meta::{self, Meta, MetaError};
use crate::pager::Pager;
use crate::sync::{AtomicU8, AtomicU32, AtomicUsize, Ordering};

const NEW: u8 = 0;
const BEING_INITIALISED: u8 = 1;
const READY: u8 = 2;

/// A range of virtual memory in which areas of any size are handed out.
pub struct Vmalloc<P: Pager> {
    pager: P,
    state: AtomicU8,
    layout: UnsafeCell<Layout<P>>,
    /// How many CPUs it is for, once it is ready: zero until then.
    cpus: AtomicUsize,
    /// Chunks with a lower number have records.
    made: AtomicU32,
    pub(crate) central: Lock<Central>,
    pub(crate) pressure: Pressure,
    /// Announcements that pools are to decay.
    pub(crate) decay: Pressure,
}

// SAFETY: (1) the platform is `Sync`; (2) the layout is written once, by the one who moved `state` from NEW, and read only after `cpus` says
// that there are some; (3) everything else is atomics, or under a lock.
unsafe impl<P: Pager> Sync for Vmalloc<P> {}
// SAFETY: moving the value moves the platform, which a `Platform` implementor allows by being shared between CPUs; mapped memory stays
// where it is.
unsafe impl<P: Pager + Send> Send for Vmalloc<P> {}

impl<P: Pager> Vmalloc<P> {
    /// A vmalloc on `pager` that is not initialised yet: every request is refused, every address is somebody else's.
    #[must_use]
    pub const fn new(pager: P) -> Self {
        Self {
            pager,
            state: AtomicU8::new(NEW),
            layout: UnsafeCell::new(Layout::EMPTY),
            cpus: AtomicUsize::new(0),
            made: AtomicU32::new(0),
            central: Lock::new(Central::new()),
            pressure: Pressure::new(),
            decay: Pressure::new(),
        }
    }

    /// Lays `range` out for CPUs 0 to `cpus - 1`, and maps what it keeps for each of them.
    ///
    /// The range begins and ends at a multiple of a chunk: of what one leaf table maps, 2 MiB where pages have 4 KiB. About one part in 120 of its
    /// addresses is for records, which take memory only as they are needed.
    ///
    /// # Context
    ///
    /// Task, once, before the first request.
    ///
    /// # Errors
    ///
    /// [`InitError`]; then nothing is kept, and it may be tried again.
    ///
    /// # Safety
    ///
    /// The range belongs to this vmalloc alone, nothing is mapped in it, and it stays so as long as any area or fault handler may use it.
    pub unsafe fn init(&self, range: VirtRange, cpus: usize) -> Result<(), InitError<P::Error>> {
        let layout = Layout::new(range, cpus)?;
        // Acquire: a second attempt sees what a failed one left.
        let begun = self.state.compare_exchange(NEW, BEING_INITIALISED, Ordering::Acquire, Ordering::Relaxed);
        if begun.is_err() {
            return Err(InitError::AlreadyInitialised);
        }
        let made = self.make(&layout);
        if made.is_ok() {
            // SAFETY: whoever moved `state` from NEW is here alone, and nobody reads it before `cpus` says so.
            unsafe { self.layout.get().write(layout) };
            self.made.store(layout.first, Ordering::Relaxed);
            // Release: pairs with the Acquire in `meta`: whoever sees the CPUs sees the layout, and that the lines are made.
            self.cpus.store(cpus, Ordering::Release);
        }
        self.state.store(if made.is_ok() { READY } else { NEW }, Ordering::Release);
        made
    }

    /// Maps the lines of all CPUs.
    fn make(&self, layout: &Layout<P>) -> Result<(), InitError<P::Error>> {
        self.pager.prepare(layout.range()).map_err(InitError::NotPrepared)?;
        let guard = self.pager.enter();
        meta::make_pages(&self.pager, layout.lines()).map_err(|error| match error {
            MetaError::NoFrames(error) => InitError::NoFrames(error),
            MetaError::NotMapped(error) => InitError::NotMapped(error),
        })?;
        for cpu in 0..layout.cpus {
            let line = layout.line(cpu).as_mut_ptr::<Line<P>>();
            // SAFETY: (1) it lies in the pages that were just mapped, and lines begin at a multiple of their size, which is one of their
            // alignment; (2) nobody else knows the range yet.
            unsafe { line.write(Line::new()) };
        }
        self.central.lock(&guard).fresh = layout.first;
        Ok(())
    }

    /// The platform.
    pub const fn pager(&self) -> &P {
        &self.pager
    }

    /// The whole range; empty before it is initialised. Any context.
    pub fn range(&self) -> VirtRange {
        self.meta().map_or(VirtRange::EMPTY, |meta| meta.layout.range())
    }

    /// The records, once there are any. Any context.
    #[inline]
    pub(crate) fn meta(&self) -> Option<Meta<'_, P>> {
        // Acquire: pairs with the Release in `init`.
        if self.cpus.load(Ordering::Acquire) == 0 {
            return None;
        }
        // SAFETY: it was written before there were CPUs, and is never written again.
        let layout = unsafe { &*self.layout.get() };
        Some(Meta { pager: &self.pager, layout, made: &self.made })
    }

    /// The records, if CPU number `cpu` is one of those that they are for.
    #[inline(always)]
    pub(crate) fn meta_for(&self, cpu: usize) -> Option<Meta<'_, P>> {
        // Acquire: as in `meta`.
        if cpu >= self.cpus.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: as in `meta`: there are CPUs.
        let layout = unsafe { &*self.layout.get() };
        Some(Meta { pager: &self.pager, layout, made: &self.made })
    }

    /// Enters this CPU's part.
    #[inline]
    pub(crate) fn here<'a>(&'a self, guard: &'a P::Guard) -> Result<Here<'a, P>, NotHere> {
        let meta = self.meta().ok_or(NotHere::NotInitialised)?;
        let cpu = self.pager.cpu();
        if cpu.index() >= meta.layout.cpus {
            return Err(NotHere::UnknownCpu { cpu, cpus: meta.layout.cpus });
        }
        let line = meta.line(cpu.index());
        // SAFETY: (1) it is the line of the CPU on which `guard` is held, which outlives the reference; (2) a `Here` is made where there is no other under
        // that guard: its methods take it exclusively, and nothing that they call comes back here.
        let near = unsafe { line.near() };
        Ok(Here { vmalloc: self, meta, line, near, guard })
    }
}

/// Why nothing can be had here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotHere {
    NotInitialised,
    UnknownCpu { cpu: Cpu, cpus: usize },
}

impl<P: Pager> fmt::Debug for Vmalloc<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vmalloc").field("range", &self.range().start()).finish_non_exhaustive()
    }
}
