//! What this CPU can, and turning on what the kernel wants of it.
//!
//! Everything here is optional but SYSCALL, NX and what long mode implies: a CPU without a feature runs the kernel
//! without that protection, and says so. Each CPU sets itself up, once, with interrupts off; the reported set is the
//! boot CPU's.

use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use raw_cpuid::{CpuId, ExtendedFeatures, ExtendedProcessorFeatureIdentifiers, FeatureInfo};
use vmstack::VirtAddr;

use super::fpu;
use super::gdt;
use super::msr;
use super::trap;

/// Whether SMAP is on, read by the entries: `clac` and `stac` exist only then.
pub(super) static SMAP_ON: AtomicBool = AtomicBool::new(false);
static FSGSBASE_ON: AtomicBool = AtomicBool::new(false);
static BOOT_FEATURES: AtomicU32 = AtomicU32::new(0);

const CR0_MP: u64 = 1 << 1;
const CR0_EM: u64 = 1 << 2;
const CR0_TS: u64 = 1 << 3;
const CR0_NE: u64 = 1 << 5;
const CR0_WP: u64 = 1 << 16;
const CR4_PGE: u64 = 1 << 7;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const CR4_UMIP: u64 = 1 << 11;
const CR4_FSGSBASE: u64 = 1 << 16;
const CR4_OSXSAVE: u64 = 1 << 18;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const EFER_SCE: u64 = 1 << 0;
const EFER_NXE: u64 = 1 << 11;
/// What SYSCALL clears: TF, IF, DF, IOPL, NT, AC.
const SYSCALL_CLEARS: u64 = 0x4_7700;

/// What a CPU can, of what the kernel would use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Features(u32);

impl Features {
    /// No-execute pages.
    pub(crate) const NX: Self = Self(1 << 0);
    /// Global pages.
    pub(crate) const PGE: Self = Self(1 << 1);
    /// The kernel executes no user page.
    pub(crate) const SMEP: Self = Self(1 << 2);
    /// The kernel reads and writes user pages only inside `UserAccess`.
    pub(crate) const SMAP: Self = Self(1 << 3);
    /// User mode cannot read the addresses of descriptor tables.
    pub(crate) const UMIP: Self = Self(1 << 4);
    /// User mode sets its own FS and GS bases.
    pub(crate) const FSGSBASE: Self = Self(1 << 5);
    /// XSAVE; otherwise FXSAVE.
    pub(crate) const XSAVE: Self = Self(1 << 6);
    /// AVX registers, and XSAVE to save them with.
    pub(crate) const AVX: Self = Self(1 << 7);
    /// Pages of 1 GiB.
    pub(crate) const GIB_PAGES: Self = Self(1 << 8);

    const NAMES: [(Self, &'static str); 9] = [
        (Self::NX, "nx"),
        (Self::PGE, "pge"),
        (Self::SMEP, "smep"),
        (Self::SMAP, "smap"),
        (Self::UMIP, "umip"),
        (Self::FSGSBASE, "fsgsbase"),
        (Self::XSAVE, "xsave"),
        (Self::AVX, "avx"),
        (Self::GIB_PAGES, "gib-pages"),
    ];

    /// Whether all of `other` is in this set.
    #[must_use]
    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What the boot CPU can. Empty before it has been set up.
    #[must_use]
    pub(crate) fn of_boot_cpu() -> Self {
        Self(BOOT_FEATURES.load(Relaxed))
    }

    /// Asks the CPU that runs this.
    fn detect() -> Self {
        let id = CpuId::new();
        let basic = id.get_feature_info();
        let more = id.get_extended_feature_info();
        let extended = id.get_extended_processor_and_feature_identifiers();
        let found = [
            (Self::NX, extended.as_ref().is_some_and(ExtendedProcessorFeatureIdentifiers::has_execute_disable)),
            (Self::GIB_PAGES, extended.as_ref().is_some_and(ExtendedProcessorFeatureIdentifiers::has_1gib_pages)),
            (Self::PGE, basic.as_ref().is_some_and(FeatureInfo::has_pge)),
            (Self::XSAVE, basic.as_ref().is_some_and(FeatureInfo::has_xsave)),
            (Self::AVX, basic.as_ref().is_some_and(|basic| basic.has_avx() && basic.has_xsave())),
            (Self::SMEP, more.as_ref().is_some_and(ExtendedFeatures::has_smep)),
            (Self::SMAP, more.as_ref().is_some_and(ExtendedFeatures::has_smap)),
            (Self::UMIP, more.as_ref().is_some_and(ExtendedFeatures::has_umip)),
            (Self::FSGSBASE, more.as_ref().is_some_and(ExtendedFeatures::has_fsgsbase)),
        ];
        Self(found.iter().filter(|(_, has)| *has).fold(0, |set, (feature, _)| set | feature.0))
    }

    /// The bits of CR4 that turn on what is in the set.
    fn cr4(self) -> u64 {
        let wanted = [
            (Self::PGE, CR4_PGE),
            (Self::SMEP, CR4_SMEP),
            (Self::SMAP, CR4_SMAP),
            (Self::UMIP, CR4_UMIP),
            (Self::FSGSBASE, CR4_FSGSBASE),
            (Self::XSAVE, CR4_OSXSAVE),
        ];
        wanted.iter().filter(|(feature, _)| self.has(*feature)).fold(0, |bits, (_, bit)| bits | bit)
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (_, name) in Self::NAMES.iter().filter(|(feature, _)| self.has(*feature)) {
            write!(f, "{separator}{name}")?;
            separator = " ";
        }
        Ok(())
    }
}

/// The local APIC id that this CPU was born with.
pub(super) fn initial_apic_id() -> u32 {
    CpuId::new().get_feature_info().map_or(0, |info| u32::from(info.initial_local_apic_id()))
}

/// Turns on, on the CPU that runs this, what the kernel wants of it.
///
/// # Safety
///
/// Interrupts are off; this CPU's GDT is loaded; the kernel's mappings have no user bit, so that SMEP and SMAP change
/// nothing for it.
pub(super) unsafe fn set_up() -> Features {
    let features = Features::detect();
    let nx = if features.has(Features::NX) { EFER_NXE } else { 0 };
    // SAFETY: SCE exists with long mode, NXE was detected; neither changes what present mappings mean.
    unsafe { msr::EFER.write(msr::EFER.read() | EFER_SCE | nx) };
    let cr0 = read_cr0() & !(CR0_EM | CR0_TS) | CR0_MP | CR0_NE | CR0_WP;
    // SAFETY: paging and protection stay on; WP makes the kernel heed read-only pages; the rest is about the FPU.
    unsafe { asm!("mov cr0, {}", in(reg) cr0, options(nostack, preserves_flags)) };
    let cr4 = read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT | features.cr4();
    // SAFETY: only bits of features that were detected; the caller's promise for SMEP and SMAP.
    unsafe { asm!("mov cr4, {}", in(reg) cr4, options(nostack, preserves_flags)) };
    SMAP_ON.store(features.has(Features::SMAP), Relaxed);
    FSGSBASE_ON.store(features.has(Features::FSGSBASE), Relaxed);
    BOOT_FEATURES.compare_exchange(0, features.0, Relaxed, Relaxed).ok();
    fpu::set_up(features);
    set_up_syscall();
    features
}

/// Points SYSCALL at its entry.
fn set_up_syscall() {
    // SYSRET adds 8 and 16 to its base, for the stack and the code; SYSCALL adds 8 for the stack.
    let sysret_base = u64::from(gdt::USER_DATA) - 8;
    let star = sysret_base << 48 | u64::from(gdt::KERNEL_CODE) << 32;
    // SAFETY: the selectors are those of the GDT that is loaded.
    unsafe { msr::STAR.write(star) };
    // SAFETY: the entry is kernel code made for this.
    unsafe { msr::LSTAR.write(trap::syscall_entry_address().get() as u64) };
    // SAFETY: flags that the entry must not run with.
    unsafe { msr::SFMASK.write(SYSCALL_CLEARS) };
}

const _: () = assert!(gdt::USER_CODE == gdt::USER_DATA + 8, "SYSRET's order");
const _: () = assert!(gdt::KERNEL_DATA == gdt::KERNEL_CODE + 8, "SYSCALL's order");

fn read_cr0() -> u64 {
    let value;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr0", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

fn read_cr4() -> u64 {
    let value;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// What the CPU can do, as programs are told when they start: CPUID's leaf 1, register EDX.
#[must_use]
pub(crate) fn hardware_capabilities() -> usize {
    raw_cpuid::cpuid!(1).edx as usize
}

/// Sets the bases that user mode will see to what they were: any that user mode itself could set, with WRFSBASE and WRGSBASE
/// in the kernel's half too. One that is not canonical becomes zero.
///
/// To be called on every switch to a user task: after a #DF that killed the one before, the registers hold anything.
pub(crate) fn restore_user_bases(fs: VirtAddr, gs: VirtAddr) {
    let canonical = |base: VirtAddr| {
        let base = base.get() as u64;
        if matches!(base >> 47, 0 | 0x1_ffff) { base } else { 0 }
    };
    // SAFETY: canonical, and the kernel itself does not use FS.
    unsafe { msr::FS_BASE.write(canonical(fs)) };
    // SAFETY: canonical; the kernel's own base is in `GS_BASE` now, and comes back with `swapgs`.
    unsafe { msr::KERNEL_GS_BASE.write(canonical(gs)) };
}

/// The FS base of the current task: what its user mode set, where it can set it.
#[must_use]
pub(crate) fn user_fs_base() -> VirtAddr {
    if !FSGSBASE_ON.load(Relaxed) {
        return VirtAddr::new(msr::FS_BASE.read() as usize);
    }
    let base: usize;
    // SAFETY: the instruction was turned on in CR4; it reads a register.
    unsafe { asm!("rdfsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
    VirtAddr::new(base)
}

/// Sets the FS base that user mode will see. Returns whether it was valid: below the end of user space.
#[must_use]
pub(crate) fn set_user_fs_base(base: VirtAddr) -> bool {
    if base >= super::layout::USER_END {
        return false;
    }
    if FSGSBASE_ON.load(Relaxed) {
        // SAFETY: the instruction was turned on in CR4; the base is canonical, and the kernel itself does not use FS.
        unsafe { asm!("wrfsbase {}", in(reg) base.get(), options(nomem, nostack, preserves_flags)) };
    } else {
        // SAFETY: canonical, and the kernel itself does not use FS.
        unsafe { msr::FS_BASE.write(base.get() as u64) };
    }
    true
}

/// The GS base that user mode will see, kept in `KERNEL_GS_BASE` while in the kernel.
#[must_use]
pub(crate) fn user_gs_base() -> VirtAddr {
    VirtAddr::new(msr::KERNEL_GS_BASE.read() as usize)
}

/// Sets the GS base that user mode will see. Returns whether it was valid: below the end of user space.
#[must_use]
pub(crate) fn set_user_gs_base(base: VirtAddr) -> bool {
    if base >= super::layout::USER_END {
        return false;
    }
    // SAFETY: canonical; the kernel's own base is in `GS_BASE` now, and comes back with `swapgs`.
    unsafe { msr::KERNEL_GS_BASE.write(base.get() as u64) };
    true
}
