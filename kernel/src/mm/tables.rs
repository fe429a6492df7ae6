//! The kernel's page tables: what is mapped where, and with which rights.
//!
//! ```text
//!   0000_0000_0000_1000   a process's own half
//!   ffff_8000_0000_0000   the direct map: RAM, writable, not executable; the image's text and constants read-only in it too
//!   ffff_c900_0000_0000   stack areas
//!   ffff_c940_0000_0000   the heap
//!   ffff_c980_0000_0000   the vmalloc's areas
//!   ffff_ffff_8020_0000   the image: text executable, constants read-only, data writable
//! ```
//!
//! Nothing is writable and executable, under any of its addresses (W^X). Every top-level entry of the upper half that the
//! kernel will ever use is made here, before the first process; each process's root gets a copy of them (INV-MAPPED).
//!
//! # Context
//!
//! [`translate`] may be called in the fault path. What makes tables takes the frame allocator's lock.

use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU64, Ordering};

use vmstack::{PhysAddr, VirtAddr, VirtRange};
use vmstack_paging::{Access, Attributes, Format as _, Level, MapError, Mapper, Table, TableMemory, X86_64};

use super::frames::{self, FrameRange};
use crate::arch::cpu;
use crate::arch::layout::{DIRECT_MAP, Image, KERNEL_BASE, PAGE_SIZE, image_to_phys, phys_to_virt};
use crate::arch::stacks;

/// Where device registers lie on a PC: the I/O APICs, the local APICs, below the firmware.
const DEVICES: (u64, usize) = (0xfec0_0000, 0x40_0000);
/// The upper half: what every address space shares.
const UPPER_HALF: (usize, usize) = (0xffff_8000_0000_0000, 0x7fff_ffff_f000);
const LARGE: usize = 2 << 20;
const GIGANTIC_LEVEL: Level = Level::new(2);
const LARGE_LEVEL: Level = Level::new(1);

/// The format that the kernel runs on.
pub(crate) type Format = X86_64;

/// Page tables live in frames that the direct map shows.
#[derive(Debug)]
pub(crate) struct Tables;

static TABLES: Tables = Tables;
static ROOT: AtomicU64 = AtomicU64::new(0);

// SAFETY: (1) the direct map shows the frame that the hardware walks, for ever; (2) `take_zeroed` gives frames of a page,
// cleared, to one owner; (3) nothing here unwinds: panics abort.
unsafe impl TableMemory for Tables {
    unsafe fn table(&self, at: PhysAddr) -> &Table {
        // SAFETY: the caller names a frame that is a table: it is mapped, and accessed through `Table` alone.
        unsafe { &*phys_to_virt(at).as_mut_ptr::<Table>() }
    }

    fn new_table(&self) -> Option<PhysAddr> {
        frames::take_zeroed()
    }

    unsafe fn free_table(&self, at: PhysAddr) {
        frames::give(at, 0);
    }
}

/// A mapper of the tree at `root`.
///
/// # Safety
///
/// `root` is a root that this kernel made and that is not freed while the mapper is used.
pub(crate) unsafe fn mapper_of(root: PhysAddr) -> Mapper<'static, Format, Tables> {
    // SAFETY: the caller's promise, and every table in it is written by mappers alone.
    unsafe { Mapper::new(root, &TABLES) }
}

/// The mapper of the kernel's own tables.
pub(crate) fn kernel() -> Mapper<'static, Format, Tables> {
    // SAFETY: the root is made once, by `init`, and never freed.
    unsafe { mapper_of(kernel_root()) }
}

/// The root of the kernel's own tables, on which idle CPUs and kernel tasks run.
pub(crate) fn kernel_root() -> PhysAddr {
    PhysAddr::new(ROOT.load(Ordering::Relaxed))
}

/// The upper half of every address space.
pub(crate) fn upper_half() -> VirtRange {
    VirtRange::new(VirtAddr::new(UPPER_HALF.0), UPPER_HALF.1).unwrap_or(VirtRange::EMPTY)
}

/// Builds the final tables for `memory` and runs on them.
///
/// # Errors
///
/// There is too little memory for the tables.
///
/// # Safety
///
/// Called once, on the boot CPU, on the boot tables, with the frame allocator ready.
pub(crate) unsafe fn init(memory: &[FrameRange]) -> Result<(), MapError> {
    let root = frames::take_zeroed().ok_or(MapError::NoTable { at: DIRECT_MAP })?;
    ROOT.store(root.get(), Ordering::Relaxed);
    map_direct(memory)?;
    map_devices()?;
    map_image()?;
    // SAFETY: the new tables map the image, the direct map and the devices as the boot tables did, with fewer rights.
    unsafe { cpu::write_cr3(root) };
    Ok(())
}

/// Runs another CPU on the kernel's tables.
///
/// # Safety
///
/// The CPU stands on a stack of the image or of an area, and on the boot tables or the kernel's.
pub(crate) unsafe fn load() {
    // SAFETY: as in `init`.
    unsafe { cpu::write_cr3(kernel_root()) };
}

fn linear(start: VirtAddr, bytes: usize, frame: PhysAddr, attributes: Attributes) -> Result<(), MapError> {
    let Some(range) = VirtRange::new(start, bytes) else { return Err(MapError::NotCanonical { at: start }) };
    // SAFETY: (1) what is mapped already is refused, and the kernel's own mappings are made by `init`, on the boot CPU, before
    // there is another; (2) the kernel alone is given access.
    unsafe { kernel().map_linear(range, frame, attributes, GIGANTIC_LEVEL) }
}

/// All RAM, in the largest pages that fit; the large pages that hold the image are split, its constants read-only.
fn map_direct(memory: &[FrameRange]) -> Result<(), MapError> {
    let (image, bytes) = Image::linked().physical();
    let image_start = image.get() as usize & !(LARGE - 1);
    let image_end = (image.get() + bytes).next_multiple_of(LARGE as u64) as usize;
    let data = Attributes::kernel(Access::ReadWrite);
    for range in memory {
        let (start, end) = (range.start * PAGE_SIZE, range.end * PAGE_SIZE);
        for (low, high) in [(start, end.min(image_start)), (start.max(image_end), end)] {
            if low < high {
                linear(DIRECT_MAP.wrapping_add(low), high - low, PhysAddr::new(low as u64), data)?;
            }
        }
    }
    map_direct_image(image_start, image_end)
}

/// The direct map of the image: single pages, of which text and constants cannot be written.
fn map_direct_image(start: usize, end: usize) -> Result<(), MapError> {
    let linked = Image::linked();
    let read_only_end = image_to_phys(linked.rodata.end()).get() as usize;
    let read_only_start = image_to_phys(linked.text.start()).get() as usize;
    for address in (start..end).step_by(PAGE_SIZE) {
        let constant = read_only_start <= address && address < read_only_end;
        let access = if constant { Access::Read } else { Access::ReadWrite };
        let at = DIRECT_MAP.wrapping_add(address);
        linear(at, PAGE_SIZE, PhysAddr::new(address as u64), Attributes::kernel(access))?;
    }
    Ok(())
}

fn map_devices() -> Result<(), MapError> {
    let uncached = Attributes::kernel(Access::ReadWrite).with_uncached(true);
    let Some(range) = VirtRange::new(phys_to_virt(PhysAddr::new(DEVICES.0)), DEVICES.1) else { return Ok(()) };
    // SAFETY: as in `linear`. No RAM lies there on a PC.
    unsafe { kernel().map_linear(range, PhysAddr::new(DEVICES.0), uncached, LARGE_LEVEL) }
}

/// Maps the registers of a device at `at`, uncached, where the direct map would show them if they were memory.
///
/// # Errors
///
/// Something is mapped there, or there is no memory for tables.
pub(crate) fn map_device(at: PhysAddr, bytes: usize) -> Result<VirtAddr, MapError> {
    let uncached = Attributes::kernel(Access::ReadWrite).with_uncached(true);
    linear(phys_to_virt(at), bytes, at, uncached)?;
    Ok(phys_to_virt(at))
}

/// The image where it was linked, in single pages, each part with its own rights; guard pages of its stacks stay unmapped.
fn map_image() -> Result<(), MapError> {
    let linked = Image::linked();
    let parts = [
        (linked.text, Access::ReadExecute),
        (linked.rodata, Access::Read),
        (linked.data, Access::ReadWrite),
        (linked.bss, Access::ReadWrite),
    ];
    for (range, access) in parts {
        for offset in (0..range.bytes()).step_by(PAGE_SIZE) {
            let at = range.start().wrapping_add(offset);
            if !stacks::is_guard(at) {
                linear(at, PAGE_SIZE, image_to_phys(at), Attributes::kernel(access))?;
            }
        }
    }
    debug_assert!(linked.text.start() > KERNEL_BASE);
    Ok(())
}

/// The physical address of `addr` in the kernel's tables. Any context.
pub(crate) fn translate(addr: VirtAddr) -> Option<PhysAddr> {
    kernel().translate(addr).map(|(frame, _)| frame)
}

/// Pages that can be executed under one address and written under any: found by looking at every leaf of the upper half (W^X).
pub(crate) fn writable_text() -> usize {
    let text = Image::linked().text;
    let low = image_to_phys(text.start()).get();
    let high = image_to_phys(text.end()).get();
    let mut found = 0;
    let walked: ControlFlow<()> = kernel().for_each_leaf(upper_half(), |leaf| {
        let bytes = Format::leaf_bytes(leaf.level).unwrap_or(PAGE_SIZE) as u64;
        let overlaps = leaf.frame.get() < high && low < leaf.frame.get() + bytes;
        found += usize::from(overlaps && leaf.attributes.access().is_writable());
        ControlFlow::Continue(())
    });
    debug_assert!(walked.is_continue());
    found
}
