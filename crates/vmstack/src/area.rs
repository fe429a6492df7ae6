//! [`StackArea`]: a range of virtual memory full of stacks, as a value.
//!
//! A kernel puts one in a `static`, initialises it when it knows its range and its CPUs, and then allocates. Several
//! areas live side by side, each with its own geometry and its own kind of stack. There is no global state.
//!
//! This file is the front door: initialisation, allocation, pins, counts. The rest of a stack's life is in `stack` (the
//! owned handle), `cache` and `reclaim`; faults are in `fault`.

use core::cell::UnsafeCell;
use core::fmt;

use crate::addr::{Cpu, VirtAddr};
use crate::chain::FreeList;
use crate::config::{AreaConfig, GeometryError};
use crate::error::{AllocError, InitError};
use crate::geometry::{Geometry, Place, SlotIndex};
use crate::here::Here;
use crate::metadata::{self, Metadata, MetadataError};
use crate::numbers::{Numbers, Placement};
use crate::platform::{Node, Platform};
use crate::pressure::Pressure;
use crate::registry::Registry;
use crate::scrub::Scrub;
use crate::slots::{Phase, PinError};
use crate::stack::{KernelStack, Pin, StackId};
use crate::sync::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::usage::{Counters, Recount};

const NEW: u8 = 0;
const BEING_INITIALISED: u8 = 1;
const READY: u8 = 2;

/// A range of virtual memory in which every slot can hold one guarded stack.
pub struct StackArea<P: Platform> {
    platform: P,
    state: AtomicU8,
    geometry: UnsafeCell<Geometry>,
    free: FreeList,
    /// Slots from this index on were never used.
    pub(crate) fresh: AtomicU32,
    /// How many CPUs the area is for, once it is ready: zero until then.
    cpus: AtomicUsize,
    /// The same, but zero also while a stack that is given back needs more than a place.
    plain_cpus: AtomicUsize,
    /// A [`Scrub`].
    pub(crate) scrub: AtomicU8,
    /// How many ready stacks may be kept, all depots together.
    pub(crate) budget: AtomicU32,
    pub(crate) pressure: Pressure,
    pub(crate) numbers: Numbers,
    leaked: AtomicU64,
    pub(crate) faults: AtomicU64,
    pub(crate) registry: Registry,
}

// SAFETY: (1) the platform is `Sync`; (2) the geometry is written once, by the one who moved `state` from NEW, and read
// only after `state` is READY; (3) everything else is atomics.
unsafe impl<P: Platform> Sync for StackArea<P> {}
// SAFETY: moving the value moves the platform, which a `Platform` implementor allows by being shared between CPUs; mapped
// memory stays where it is.
unsafe impl<P: Platform + Send> Send for StackArea<P> {}

impl<P: Platform> StackArea<P> {
    /// An area on `platform` that is not initialised yet: every allocation is refused, every fault is somebody else's.
    #[must_use]
    pub const fn new(platform: P) -> Self {
        Self {
            platform,
            state: AtomicU8::new(NEW),
            geometry: UnsafeCell::new(Geometry::EMPTY),
            free: FreeList::new(),
            fresh: AtomicU32::new(0),
            cpus: AtomicUsize::new(0),
            plain_cpus: AtomicUsize::new(0),
            scrub: AtomicU8::new(Scrub::Dirty as u8),
            budget: AtomicU32::new(u32::MAX),
            pressure: Pressure::new(),
            numbers: Numbers::new(),
            leaked: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            registry: Registry::new(),
        }
    }

    /// The bytes of address space that are enough for an area as `config` says, its records included, wherever the range
    /// starts. The range of `config` is not looked at: [`VirtRange::EMPTY`](crate::VirtRange::EMPTY) will do.
    ///
    /// # Context
    ///
    /// Any: arithmetic.
    ///
    /// # Errors
    ///
    /// [`GeometryError`] if there can be no such area; `RangeTooSmall` if no address space could hold it.
    pub fn bytes_needed(config: &AreaConfig) -> Result<usize, GeometryError> {
        Geometry::bytes_needed(config, P::PAGE_SIZE, metadata::sizes::<P>())
    }

    /// Lays the area out as `config` says and maps its directory.
    ///
    /// # Context
    ///
    /// Task, once, before the first allocation.
    ///
    /// # Errors
    ///
    /// [`InitError`]; then nothing is kept, and it may be tried again.
    ///
    /// # Safety
    ///
    /// The range of `config` belongs to this area alone, nothing is mapped in it, and it stays so as long as any stack,
    /// pin or fault handler may use the area.
    pub unsafe fn init(&self, config: &AreaConfig) -> Result<&Geometry, InitError<P::Error>> {
        // Acquire/Release on the state word: whoever sees READY sees the geometry and the mapped directory.
        self.state
            .compare_exchange(NEW, BEING_INITIALISED, Ordering::Acquire, Ordering::Relaxed)
            .map_err(|_| InitError::AlreadyInitialised)?;
        let done = self.lay_out(config);
        self.state.store(if done.is_ok() { READY } else { NEW }, Ordering::Release);
        done.map(|()| {
            let geometry = self.geometry_unchecked();
            // Release: whoever sees the CPUs sees the geometry and the lines.
            self.cpus.store(geometry.cpus(), Ordering::Release);
            self.note_plain_cpus();
            geometry
        })
    }

    fn lay_out(&self, config: &AreaConfig) -> Result<(), InitError<P::Error>> {
        let geometry = Geometry::new(config, P::PAGE_SIZE, metadata::sizes::<P>()).map_err(InitError::Geometry)?;
        self.check_nodes(&geometry).map_err(InitError::Geometry)?;
        self.platform.prepare(geometry.whole_range()).map_err(InitError::NotPrepared)?;
        let _guard = self.platform.enter();
        metadata::make_first(&self.platform, &geometry, |cpu| self.platform.node(cpu)).map_err(
            |error| match error {
                MetadataError::NoFrames(reason) => InitError::NoFrames(reason),
                MetadataError::NotMapped(reason) => InitError::NotMapped(reason),
            },
        )?;
        // SAFETY: the state is BEING_INITIALISED, so nobody else reads or writes the geometry.
        unsafe { *self.geometry.get() = geometry };
        if config.placement == Placement::Numbered {
            self.numbers.begin(geometry.slots());
            // None is left for who comes without a number.
            self.fresh.store(geometry.slots() as u32, Ordering::Relaxed);
        }
        Ok(())
    }

    fn check_nodes(&self, geometry: &Geometry) -> Result<(), GeometryError> {
        let nodes = geometry.nodes();
        (0..geometry.cpus() as u32).map(Cpu::new).try_for_each(|cpu| match self.platform.node(cpu) {
            node if node.index() < nodes => Ok(()),
            node => Err(GeometryError::UnknownNode { cpu, node, nodes }),
        })
    }

    /// The platform that the area was made with.
    pub const fn platform(&self) -> &P {
        &self.platform
    }

    /// The area's shape, once it is initialised. Any context, the fault path included.
    pub fn geometry(&self) -> Option<&Geometry> {
        // Acquire: pairs with the Release in `init`.
        (self.state.load(Ordering::Acquire) == READY).then(|| self.geometry_unchecked())
    }

    fn geometry_unchecked(&self) -> &Geometry {
        // SAFETY: callers have seen the state READY, after which the geometry is never written again.
        unsafe { &*self.geometry.get() }
    }

    pub(crate) fn metadata(&self) -> Option<Metadata<'_, P>> {
        Some(Metadata { platform: &self.platform, geometry: self.geometry()? })
    }

    pub(crate) fn free_list(&self) -> &FreeList {
        &self.free
    }

    /// How many CPUs the area is for: none until it is ready.
    #[inline]
    pub(crate) fn cpus(&self) -> usize {
        // Acquire: pairs with the Release in `init`: whoever sees the CPUs sees the geometry, and that the lines are made.
        self.cpus.load(Ordering::Acquire)
    }

    /// How many CPUs the area is for, if a stack that is given back needs nothing but a place.
    #[inline]
    pub(crate) fn plain_cpus(&self) -> usize {
        // Acquire: as in `cpus`.
        self.plain_cpus.load(Ordering::Acquire)
    }

    fn note_plain_cpus(&self) {
        loop {
            let on_exit = self.scrubs_on_exit();
            let plain = if on_exit || self.numbers.lead() { 0 } else { self.cpus() };
            // Release: as in `init`. Acquire: whoever overwrites what another has noted sees the policy that it was noted for.
            self.plain_cpus.swap(plain, Ordering::AcqRel);
            if self.scrubs_on_exit() == on_exit {
                return;
            }
        }
    }

    /// The metadata, for whoever has seen that there are CPUs.
    #[inline]
    pub(crate) fn ready_metadata(&self) -> Metadata<'_, P> {
        Metadata { platform: &self.platform, geometry: self.geometry_unchecked() }
    }

    /// Enters this CPU's part of the area, for what is more than a hit.
    pub(crate) fn here<'a>(&'a self, guard: &'a P::Guard) -> Result<Here<'a, P>, AllocError<P::Error>> {
        let (meta, line, near) = self.lines(guard).ok_or_else(|| self.not_here())?;
        Ok(Here { area: self, meta, line, near })
    }

    /// Why there is nothing here for this CPU.
    #[cold]
    pub(crate) fn not_here(&self) -> AllocError<P::Error> {
        match self.geometry() {
            Some(geometry) => AllocError::UnknownCpu { cpu: self.platform.cpu(), cpus: geometry.cpus() },
            None => AllocError::NotInitialised,
        }
    }

    /// Allocates a stack for `owner`, a word that reports render through [`Platform::write_owner`].
    ///
    /// It reads as zero from end to end (INV-ZERO), unless the area's policy is another, and its guards are unmapped (INV-GUARD).
    /// Its frames are on this CPU's node if there are any.
    ///
    /// # Context
    ///
    /// Task or interrupt. Does not sleep; never NMI.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; then nothing is kept.
    #[inline]
    pub fn alloc(&self, owner: usize) -> Result<KernelStack<'_, P>, AllocError<P::Error>> {
        let guard = self.platform.enter();
        self.alloc_in(&guard, owner)
    }

    /// Allocates as [`alloc`](Self::alloc) does, for a caller that has a guard already.
    ///
    /// # Context
    ///
    /// Task or interrupt, under `guard`, which is of this area's platform.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; then nothing is kept.
    #[inline]
    pub fn alloc_in(&self, guard: &P::Guard, owner: usize) -> Result<KernelStack<'_, P>, AllocError<P::Error>> {
        self.hit_or_miss(guard, owner).map(|id| KernelStack::new(self, id))
    }

    /// Allocates as [`alloc`](Self::alloc) does, but with frames of `node` only.
    ///
    /// # Context
    ///
    /// Task or interrupt. Does not sleep; never NMI.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; then nothing is kept.
    pub fn alloc_on(&self, node: Node, owner: usize) -> Result<KernelStack<'_, P>, AllocError<P::Error>> {
        let guard = self.platform.enter();
        let id = self.here(&guard)?.alloc_on(node, owner)?;
        Ok(KernelStack::new(self, id))
    }

    /// Allocates as [`alloc`](Self::alloc) does, but before it says that there are no frames or slots, gives back what this
    /// CPU and the depots keep, and waits for the shootdowns that this takes.
    ///
    /// # Context
    ///
    /// Task that may wait; not under a guard or a lock that other CPUs may wait for.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; then nothing is kept.
    pub fn alloc_waiting(&self, owner: usize) -> Result<KernelStack<'_, P>, AllocError<P::Error>> {
        self.alloc(owner).or_else(|_| {
            self.drain();
            self.alloc(owner)
        })
    }

    /// When and how much of a stack is cleared between two owners. [`Scrub::Dirty`] unless said otherwise.
    ///
    /// # Context
    ///
    /// Any. To [`Scrub::OnExit`] before the first allocation: what is ready by then is handed out as it is, for it was to be cleared
    /// later.
    pub fn set_scrub(&self, scrub: Scrub) {
        self.scrub.store(scrub as u8, Ordering::Relaxed);
        self.note_plain_cpus();
    }

    /// Pins the stack `id`, so that it can be read while its task runs, sleeps or dies.
    ///
    /// # Context
    ///
    /// Any but NMI and the fault path: giving a pin back may free the stack.
    ///
    /// # Errors
    ///
    /// [`PinError::Gone`] if that stack was given back; the slot may be somebody else's by now.
    pub fn pin(&self, id: StackId) -> Result<Pin<'_, P>, PinError> {
        let meta = self.metadata().ok_or(PinError::NoSuchSlot)?;
        let slot = meta.geometry.slot(id.slot().get() as usize).ok_or(PinError::NoSuchSlot)?;
        let record = meta.try_record(slot).ok_or(PinError::NoSuchSlot)?;
        match record.pin(id.generation()) {
            Ok(()) => Ok(Pin::new(self, slot)),
            Err(refused) => {
                if refused.last {
                    self.take_back(slot);
                }
                Err(refused.reason)
            }
        }
    }

    /// Notes that something writes to the stack memory at `addr` around its mapping: a device, or the direct map.
    ///
    /// The stack is then cleared whole before it is handed out again (INV-ZERO). An address outside the stacks is ignored.
    ///
    /// # Context
    ///
    /// Any. Call it before the write starts, while the stack cannot be freed.
    pub fn mark_written(&self, addr: VirtAddr) {
        let Some(meta) = self.metadata() else { return };
        if let Place::Stack(slot) = meta.geometry.place(addr)
            && let Some(record) = meta.try_record(slot)
        {
            record.mark_written();
        }
    }

    /// The counters, summed over all CPUs.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        if let Some(meta) = self.metadata() {
            (0..meta.geometry.cpus()).for_each(|cpu| meta.line(cpu).counters.add_to(&mut sum));
            sum.leaked = self.leaked.load(Ordering::Relaxed);
            sum.derive(meta.geometry.stack_pages(), P::PAGE_SIZE);
        }
        sum
    }

    /// Counts the slots in each phase by walking their records. For checks: its time grows with the slots ever used.
    pub fn recount(&self) -> Recount {
        let mut recount = Recount::default();
        let Some(meta) = self.metadata() else { return recount };
        let mut seen = 0;
        for (_, record) in meta.records() {
            recount.note(record.phase(), record.is_pinned());
            seen += 1;
        }
        recount.free += meta.geometry.slots() - seen;
        recount.metadata_pages = meta.pages_made();
        recount
    }

    /// Calls `visit` with the index, phase, owner and deepest use (bytes) of every slot that was ever used.
    ///
    /// A stack that is in use is measured, under a pin; for the others it is the deepest use that was measured before.
    ///
    /// # Context
    ///
    /// As [`pin`](Self::pin); its time grows with the slots ever used and their size.
    pub fn for_each_slot(&self, mut visit: impl FnMut(SlotIndex, Phase, usize, usize)) {
        let Some(meta) = self.metadata() else { return };
        for (slot, record) in meta.records() {
            let id = StackId::new(slot, record.state().generation);
            let used = self.pin(id).map_or(record.watermark(), |pin| pin.watermark());
            visit(slot, record.phase(), record.owner(), used);
        }
    }

    /// Takes `slot` out of circulation for ever, and counts it (INV-LIVE). Any context.
    pub(crate) fn leak(&self, slot: SlotIndex) {
        if let Some(record) = self.metadata().and_then(|meta| meta.try_record(slot)) {
            record.leak();
        }
        self.leaked.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes back the stack in `slot`, which is dead, and whose owner has had a full fence since it ended its life.
    pub(crate) fn take_back(&self, slot: SlotIndex) {
        let guard = self.platform.enter();
        self.take_back_in(&guard, slot, self.ready_metadata().known_record(slot));
    }
}

impl<P: Platform> fmt::Debug for StackArea<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackArea").field("geometry", &self.geometry()).finish_non_exhaustive()
    }
}
