//! Where things lie in kernel address space: the image, the direct map, the stacks that are part of the image.
//!
//! ```text
//! 0xffff_8000_0000_0000  DIRECT_MAP   physical memory, one to one (the first 4 GiB while the boot tables are in use)
//! 0xffff_ffff_8000_0000  KERNEL_BASE  physical address 0, as the kernel's code sees it
//! 0xffff_ffff_8020_0000  the image    .text, .rodata, .data, .bss, each on pages of its own (kernel.ld)
//! ```
//!
//! Pure arithmetic on addresses and on the linker's symbols: callable in any context.

use core::slice;

use vmstack::{PhysAddr, VirtAddr, VirtRange};

/// Where the direct map of physical memory begins.
pub(crate) const DIRECT_MAP: VirtAddr = VirtAddr::new(0xffff_8000_0000_0000);

/// How long the direct map can be, in bytes: up to where the stack areas begin, with room between.
const DIRECT_MAP_BYTES: usize = 1 << 46;

/// Where the kernel's image sees physical address 0.
pub(crate) const KERNEL_BASE: VirtAddr = VirtAddr::new(0xffff_ffff_8000_0000);

/// The first address that is not user space: user addresses have 47 bits.
pub(crate) const USER_END: VirtAddr = VirtAddr::new(1 << 47);

/// The size of a page, in bytes.
pub(crate) const PAGE_SIZE: usize = 4096;

/// How much physical memory the boot page tables map, in bytes, from address 0.
pub(crate) const BOOT_MAPPED: u64 = 4 << 30;

unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __data_start: u8;
    static __data_end: u8;
    static __bss_start: u8;
    static __bss_end: u8;
}

/// The four parts of the image, by the rights that they need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image {
    /// Executed and read.
    pub(crate) text: VirtRange,
    /// Only read.
    pub(crate) rodata: VirtRange,
    /// Read and written: boot page tables and initialised statics.
    pub(crate) data: VirtRange,
    /// Read and written: boot stacks and zeroed statics. Guard pages that may be left unmapped: `stacks::ALL`.
    pub(crate) bss: VirtRange,
}

impl Image {
    /// The image as it was linked.
    pub(crate) fn linked() -> Self {
        Self {
            text: between(&raw const __text_start, &raw const __text_end),
            rodata: between(&raw const __rodata_start, &raw const __rodata_end),
            data: between(&raw const __data_start, &raw const __data_end),
            bss: between(&raw const __bss_start, &raw const __bss_end),
        }
    }

    /// Its code.
    pub(crate) const fn text(self) -> VirtRange {
        self.text
    }

    /// The whole image in physical memory: its first address and its length, in bytes.
    pub(crate) fn physical(self) -> (PhysAddr, u64) {
        let bytes = self.bss.end().distance(self.text.start());
        (image_to_phys(self.text.start()), bytes as u64)
    }
}

/// The range from one symbol of the linker script to another.
fn between(start: *const u8, end: *const u8) -> VirtRange {
    let start = VirtAddr::of(start);
    let bytes = VirtAddr::of(end).offset_from(start).unwrap_or(0);
    VirtRange::new(start, bytes).unwrap_or(VirtRange::EMPTY)
}

/// Where the direct map shows `addr`.
#[must_use]
pub(crate) const fn phys_to_virt(addr: PhysAddr) -> VirtAddr {
    // x86-64 has `usize` of 64 bits: the cast keeps every bit.
    DIRECT_MAP.wrapping_add(addr.get() as usize)
}

/// Whether `addr` is in the direct map.
#[must_use]
pub(crate) const fn is_direct(addr: VirtAddr) -> bool {
    addr.get() >= DIRECT_MAP.get() && addr.get() - DIRECT_MAP.get() < DIRECT_MAP_BYTES
}

/// The physical address of `addr`, an address in the direct map.
#[must_use]
pub(crate) const fn direct_map_to_phys(addr: VirtAddr) -> PhysAddr {
    PhysAddr::new(addr.wrapping_sub(DIRECT_MAP.get()).get() as u64)
}

/// The physical address of `addr`, an address in the kernel's image.
#[must_use]
pub(crate) const fn image_to_phys(addr: VirtAddr) -> PhysAddr {
    PhysAddr::new(addr.wrapping_sub(KERNEL_BASE.get()).get() as u64)
}

/// `bytes` bytes of physical memory from `addr`, if the boot page tables map all of them.
///
/// For what firmware and loader left: start info, ACPI tables, modules. It is what the parsers are given to read with.
///
/// # Safety
///
/// For as long as the slice is used, nobody writes to the range. A wrong address reads other memory, or a device.
pub(crate) unsafe fn boot_bytes(addr: PhysAddr, bytes: usize) -> Option<&'static [u8]> {
    let end = addr.get().checked_add(bytes as u64)?;
    if addr.get() == 0 || end > BOOT_MAPPED {
        return None;
    }
    let start = phys_to_virt(addr).as_mut_ptr::<u8>();
    // SAFETY: the boot tables map [0, 4 GiB) at the direct map, and so do the final ones for what is memory; `start` is
    // not null; bytes have no alignment and no invalid value; the caller keeps writers away.
    Some(unsafe { slice::from_raw_parts(start, bytes) })
}
