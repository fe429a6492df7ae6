//! The state of the x87, SSE and AVX registers, which belong to user mode alone: the kernel is compiled without them.
//!
//! A task's registers are saved into an area of `area_bytes` bytes, aligned to 64, that its task struct owns (off the
//! stack, so that a stack's size is what code needs), by XSAVE where there is one and by FXSAVE otherwise. `init_area`
//! writes what a new task begins with.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use raw_cpuid::CpuId;

use super::features::Features;

/// What areas are aligned to, in bytes.
pub(crate) const AREA_ALIGN: usize = 64;
/// Bytes that FXSAVE writes.
const LEGACY_BYTES: u32 = 512;
/// Bytes of the header that XSAVE adds.
const HEADER_BYTES: u32 = 64;
/// x87 and SSE, which XSAVE always has.
const XCR0_BASE: u64 = 0b011;
const XCR0_AVX: u64 = 0b100;
/// The sets of an FXSAVE area.
pub(super) const LEGACY_SETS: u64 = XCR0_BASE;
/// The largest area that there can be, in bytes: with AVX.
pub(crate) const MOST_BYTES: usize = 832;
/// Of a magic word that goes after an XSAVE area where programs see it (`signal.rs`).
const MAGIC_BYTES: usize = 4;
/// All x87 exceptions masked, 64-bit precision: what `fninit` sets.
const FCW: u16 = 0x037f;
/// All SSE exceptions masked.
const MXCSR: u32 = 0x1f80;
const MXCSR_OFFSET: usize = 24;
/// What MXCSR may have, where the CPU does not say.
const MXCSR_MASK: u32 = 0xffbf;
const MXCSR_MASK_OFFSET: usize = 28;

/// XCR0 as set, zero without XSAVE.
static XCR0: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU32 = AtomicU32::new(LEGACY_BYTES);
/// What MXCSR may have: loading anything else faults.
static CONTROL_MASK: AtomicU32 = AtomicU32::new(MXCSR_MASK);

/// Turns on the register sets that the CPU has. CR4 allows it already.
pub(super) fn set_up(features: Features) {
    read_control_mask();
    if !features.has(Features::XSAVE) {
        return;
    }
    let avx = if features.has(Features::AVX) { XCR0_AVX } else { 0 };
    let xcr0 = XCR0_BASE | avx;
    let (high, low) = (0u32, xcr0 as u32);
    // SAFETY: OSXSAVE is set; the bits are those of sets that the CPU has, x87 among them.
    unsafe { asm!("xsetbv", in("ecx") 0, in("eax") low, in("edx") high, options(nomem, nostack, preserves_flags)) };
    XCR0.store(xcr0, Relaxed);
    let bytes = CpuId::new().get_extended_state_info().map_or(0, |info| info.xsave_area_size_enabled_features());
    let bytes = bytes.max(LEGACY_BYTES + HEADER_BYTES);
    assert!(bytes as usize <= MOST_BYTES, "{bytes} bytes of vector registers");
    BYTES.store(bytes, Relaxed);
}

/// What FXSAVE aligns its area to.
#[repr(align(16))]
struct LegacyArea([u8; LEGACY_BYTES as usize]);

fn read_control_mask() {
    let mut area = LegacyArea([0; LEGACY_BYTES as usize]);
    // SAFETY: the area is as FXSAVE wants it, and nobody else's.
    unsafe { asm!("fxsave64 [{}]", in(reg) area.0.as_mut_ptr(), options(nostack, preserves_flags)) };
    let bytes = area.0[MXCSR_MASK_OFFSET..].first_chunk().copied().unwrap_or_default();
    let mask = u32::from_le_bytes(bytes);
    if mask != 0 {
        CONTROL_MASK.store(mask, Relaxed);
    }
}

/// What MXCSR may have.
#[must_use]
pub(super) fn control_mask() -> u32 {
    CONTROL_MASK.load(Relaxed)
}

/// The sets that areas hold, as bits of XCR0.
#[must_use]
pub(super) fn sets() -> u64 {
    XCR0.load(Relaxed).max(XCR0_BASE)
}

/// Whether areas are XSAVE's.
#[must_use]
pub(super) fn has_xsave() -> bool {
    XCR0.load(Relaxed) != 0
}

/// The size of an area as programs see it, in bytes.
#[must_use]
pub(super) fn image_bytes() -> usize {
    area_bytes() + if has_xsave() { MAGIC_BYTES } else { 0 }
}

/// The size of a task's area, in bytes. The same on all CPUs, and final once the boot CPU is set up.
#[must_use]
pub(crate) fn area_bytes() -> usize {
    BYTES.load(Relaxed) as usize
}

/// Writes the state of a new task into `area`. Returns whether it was big enough; nothing is written if not.
#[must_use]
pub(crate) fn init_area(area: &mut [u8]) -> bool {
    if area.len() < area_bytes() {
        return false;
    }
    // An XSAVE header of zeros says that every set is in its initial state; only MXCSR is read all the same.
    area.fill(0);
    area[..2].copy_from_slice(&FCW.to_le_bytes());
    area[MXCSR_OFFSET..MXCSR_OFFSET + 4].copy_from_slice(&MXCSR.to_le_bytes());
    true
}

/// Makes `area`, whose bytes are anything, one that [`save`] may write to: it leaves most of the header as it is.
///
/// # Safety
///
/// As for [`save`].
pub(crate) unsafe fn clear_header(area: *mut u8) {
    if XCR0.load(Relaxed) != 0 {
        // SAFETY: with XSAVE an area goes on after the header.
        let header = unsafe { area.add(LEGACY_BYTES as usize) };
        // SAFETY: as above; the header's bytes are in the area.
        unsafe { header.write_bytes(0, HEADER_BYTES as usize) };
    }
}

/// Saves this CPU's registers into `area`.
///
/// # Safety
///
/// `area` is `area_bytes()` bytes, aligned to `AREA_ALIGN`, writable, and nobody else uses it. Preemption is off, or
/// the registers may be another task's by then.
pub(crate) unsafe fn save(area: *mut u8) {
    let xcr0 = XCR0.load(Relaxed);
    if xcr0 == 0 {
        // SAFETY: the caller's promise; without XSAVE the area has FXSAVE's 512 bytes.
        unsafe { asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags)) };
    } else {
        // SAFETY: the caller's promise; the area was sized for the sets in XCR0, all of which are saved.
        unsafe {
            asm!("xsave64 [{}]", in(reg) area, in("eax") xcr0 as u32, in("edx") 0, options(nostack, preserves_flags));
        }
    }
}

/// Loads this CPU's registers from `area`.
///
/// # Safety
///
/// `area` is `area_bytes()` bytes, aligned to `AREA_ALIGN`, and was written by `init_area` or `save`, and by nobody
/// else: the instruction faults on reserved bits. Preemption is off.
pub(crate) unsafe fn restore(area: *const u8) {
    let xcr0 = XCR0.load(Relaxed);
    if xcr0 == 0 {
        // SAFETY: the caller's promise.
        unsafe { asm!("fxrstor64 [{}]", in(reg) area, options(readonly, nostack, preserves_flags)) };
    } else {
        // SAFETY: the caller's promise. Sets that the header does not name are put in their initial state.
        unsafe {
            asm!(
                "xrstor64 [{}]",
                in(reg) area,
                in("eax") xcr0 as u32,
                in("edx") 0,
                options(readonly, nostack, preserves_flags)
            );
        }
    }
}
