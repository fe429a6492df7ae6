//! What all drivers share: the door, the device, and for each stack what its bytes should be.
//!
//! Locks are taken in this order: `order`, then the slots of a request, the lowest first. Whoever judges a request holds `order` for
//! reading until the door has answered, so that nobody gets a stack meanwhile that was judged to be nobody's.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use core::slice;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use vmstack::{BounceRegion, DmaDoor, ExternalStack, Geometry, KernelStack, PhysAddr, StackArea, StackKind, VirtAddr};

use super::ask::Asked;
use super::device::Device;
use super::oracle::{Pool, Span};
use crate::arch::PAGE_SIZE;
use crate::config::Config;
use crate::machine::{Machine, MachineError, system};
use crate::plain::RUN;
use crate::platform::Hosted;

/// How many threads are CPUs.
pub(super) const CPUS: usize = 4;
/// The size of a stack, in bytes: as large as the largest request.
const STACK: usize = 64 << 10;
/// How many stacks there are: those of the drivers, and as many as they ask about.
pub(super) const SLOTS: usize = 24;
/// How many frames there are for drivers.
const PLAIN: u32 = 8 << 10;
/// The memory for bounce buffers, in bytes.
const POOL: usize = 12 << 20;
/// The memory in one piece that each driver has, in bytes.
pub(super) const PIECE: usize = 256 << 10;

/// What around a range is compared too, in bytes.
const AROUND: usize = 256;

/// The machine on which all this runs.
pub(super) fn machine() -> Result<Machine, MachineError> {
    Machine::new(&Config::new(SLOTS, STACK).cpus(CPUS).plain(PLAIN))
}

/// A device on the bus of `machine`.
pub(super) fn device(machine: &Machine) -> Result<Device, MachineError> {
    let ram = &machine.platform().memory.ram;
    Device::new(ram.file(), ram.direct_map().bytes()).map_err(system("device"))
}

/// Bytes at an address, and what they should be.
#[derive(Debug)]
pub(super) struct Bytes {
    pub(super) start: usize,
    pub(super) model: Vec<u8>,
}

impl Bytes {
    /// Those that are there.
    pub(super) fn at(start: VirtAddr, bytes: usize) -> Self {
        let there = Self { start: start.get(), model: Vec::new() };
        let model = there.seen(0, bytes).to_vec();
        Self { model, ..there }
    }

    /// What is there, from `offset` on.
    fn seen(&self, offset: usize, bytes: usize) -> &[u8] {
        let first = VirtAddr::new(self.start + offset).as_mut_ptr::<u8>();
        // SAFETY: memory that is mapped, and that whoever has this lets nobody else write while the reference lives.
        unsafe { slice::from_raw_parts(first, bytes) }
    }

    /// How many of the bytes from offset `from` up to `to` are not what they should be.
    pub(super) fn wrong(&self, from: usize, to: usize) -> u64 {
        differing(self.seen(from, to - from), &self.model[from..to])
    }

    /// The same of the bytes that are asked about, and of those around them.
    pub(super) fn wrong_around(&self, asked: &Asked) -> u64 {
        let offset = asked.addr - self.start;
        self.wrong(offset.saturating_sub(AROUND), (offset + asked.bytes + AROUND).min(self.model.len()))
    }

    /// What the bytes that are asked about should be.
    pub(super) fn of(&self, asked: &Asked) -> &[u8] {
        let offset = asked.addr - self.start;
        &self.model[offset..offset + asked.bytes]
    }

    /// The same, to be changed.
    pub(super) fn of_mut(&mut self, asked: &Asked) -> &mut [u8] {
        let offset = asked.addr - self.start;
        &mut self.model[offset..offset + asked.bytes]
    }

    /// These, and none in their place.
    pub(super) fn taken(&mut self) -> Self {
        Self { start: self.start, model: core::mem::take(&mut self.model) }
    }

    pub(super) fn has(&self, (from, to): Span) -> bool {
        self.start <= from && to <= self.start + self.model.len()
    }
}

/// How many bytes differ.
pub(super) fn differing(ones: &[u8], others: &[u8]) -> u64 {
    if ones == others {
        return 0;
    }
    ones.iter().zip(others).filter(|(one, other)| one != other).count().max(1) as u64
}

/// Whose the stack of a slot is.
#[derive(Debug)]
pub(super) enum Slot<'m> {
    Nobodys,
    /// A driver's, which runs on it.
    Drivers,
    /// Somebody's who does nothing but have it. None: one that was there before the area.
    Somebodys(Option<KernelStack<'m, Hosted>>, Bytes),
}

impl Slot<'_> {
    /// Its owner dies, if it is somebody who does nothing but have it. Says how many of its bytes are not what they should be.
    pub(super) fn end(&mut self) -> u64 {
        let Slot::Somebodys(stack, bytes) = self else { return 0 };
        let wrong = bytes.wrong(0, bytes.model.len());
        if stack.is_some() {
            *self = Slot::Nobodys;
        }
        wrong
    }
}

/// What all drivers share.
#[derive(Debug)]
pub(super) struct World<'m> {
    pub(super) area: &'m StackArea<Hosted>,
    pub(super) door: &'m DmaDoor<'m, Hosted>,
    pub(super) device: Device,
    pub(super) order: RwLock<()>,
    /// One for each slot, and one for the stack that was there before.
    pub(super) slots: Vec<Mutex<Slot<'m>>>,
    pub(super) registered: Span,
    pub(super) pool: Pool,
    piece: VirtAddr,
    heap: VirtAddr,
    /// How many drivers are at a point where they wait for each other; and whether one of them never comes.
    met: [AtomicUsize; 2],
    broken: AtomicBool,
}

impl<'m> World<'m> {
    /// Of `machine`, whose door `door` is.
    pub(super) fn new(machine: &'m Machine, door: &'m DmaDoor<'m, Hosted>) -> Result<Self, MachineError> {
        let (area, memory) = (machine.area(), &machine.platform().memory);
        let plain = machine.platform().plain.as_ref().ok_or(MachineError::Frames)?;
        let (piece, phys) = plain.piece(&memory.ram);
        let pool = fill(door, piece.start(), phys);
        // Behind what the drivers have of the heap: two pages of a run, between two that belong to nobody.
        let bottom = plain.heap().start().wrapping_add((CPUS * RUN + 1) * PAGE_SIZE);
        let registered = register(area, bottom);
        door.look();
        let slots = (0..SLOTS).map(|_| Mutex::new(Slot::Nobodys));
        let boot = Mutex::new(Slot::Somebodys(None, Bytes::at(bottom, registered.1 - registered.0)));
        let device = device(machine)?;
        let (order, heap) = (RwLock::new(()), plain.heap().start());
        let piece = piece.start().wrapping_add(POOL);
        let slots = slots.chain([boot]).collect();
        let (met, broken) = Default::default();
        Ok(Self { area, door, device, order, slots, registered, pool, piece, heap, met, broken })
    }

    /// The memory of driver number `number`: in one piece, and scattered.
    pub(super) fn memory(&self, number: usize) -> [Bytes; 2] {
        let piece = self.piece.wrapping_add(number * PIECE);
        let heap = self.heap.wrapping_add(number * RUN * PAGE_SIZE);
        [Bytes::at(piece, PIECE), Bytes::at(heap, (RUN - 1) * PAGE_SIZE)]
    }

    pub(super) fn shape(&self) -> Option<&Geometry> {
        self.area.geometry()
    }

    /// Waits until all drivers are at `point`: while others ask nobody's stack becomes a driver's, or is one no longer.
    pub(super) fn meet(&self, point: usize) {
        self.met[point].fetch_add(1, Ordering::AcqRel);
        while self.met[point].load(Ordering::Acquire) < CPUS && !self.broken.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
    }

    /// A driver does not come.
    pub(super) fn part(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Gives all stacks back on which nobody runs. Says how many of their bytes are not what they should be. For a CPU whose driver is done.
    pub(super) fn end(&self) -> u64 {
        (0..self.slots.len()).map(|index| self.slot(index).end()).sum()
    }

    /// The slot numbered `index`, locked.
    pub(super) fn slot(&self, index: usize) -> MutexGuard<'_, Slot<'m>> {
        self.slots[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the door its pool, from the start of the memory in one piece.
fn fill(door: &DmaDoor<'_, Hosted>, virt: VirtAddr, phys: PhysAddr) -> Pool {
    // SAFETY: it is mapped as long as the machine lives, which the door does not outlive; and nobody else has this part of it.
    let filled = unsafe { door.fill_pool(&BounceRegion { virt, phys, bytes: POOL }) };
    debug_assert!(filled.is_ok(), "{filled:?}");
    Pool { last: phys.get() + POOL as u64 - 1, largest: door.pool_usage().largest }
}

/// Registers a stack that was there before the area, with guards of a page.
fn register(area: &StackArea<Hosted>, bottom: VirtAddr) -> Span {
    let top = bottom.wrapping_add(2 * PAGE_SIZE);
    let stack = ExternalStack { bottom, top, guard_bytes: PAGE_SIZE, kind: StackKind::Boot, owner: 0 };
    let registered = area.register(&stack);
    debug_assert!(registered.is_ok(), "{registered:?}");
    (bottom.get(), top.get())
}
