//! Model-specific registers, by name.

use core::arch::asm;

/// A model-specific register.
#[derive(Clone, Copy, Debug)]
pub(super) struct Msr(u32);

/// Where the local APIC is and whether it is on.
pub(super) const APIC_BASE: Msr = Msr(0x1b);
/// Extended features: SYSCALL, long mode, no-execute.
pub(super) const EFER: Msr = Msr(0xc000_0080);
/// The selectors that SYSCALL and SYSRET load.
pub(super) const STAR: Msr = Msr(0xc000_0081);
/// Where SYSCALL enters from 64-bit code.
pub(super) const LSTAR: Msr = Msr(0xc000_0082);
/// The flags that SYSCALL clears.
pub(super) const SFMASK: Msr = Msr(0xc000_0084);
/// The base of FS.
pub(super) const FS_BASE: Msr = Msr(0xc000_0100);
/// The base of GS.
pub(super) const GS_BASE: Msr = Msr(0xc000_0101);
/// What SWAPGS exchanges the base of GS with.
pub(super) const KERNEL_GS_BASE: Msr = Msr(0xc000_0102);

impl Msr {
    /// The number that `rdmsr` and `wrmsr` take.
    pub(super) const fn number(self) -> u32 {
        self.0
    }

    /// Reads the register. Those named above exist on every CPU with long mode.
    pub(super) fn read(self) -> u64 {
        let (high, low): (u32, u32);
        // SAFETY: the register exists (only the constants above make an `Msr`), and reading it changes nothing.
        unsafe {
            asm!("rdmsr", in("ecx") self.0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
        }
        u64::from(high) << 32 | u64::from(low)
    }

    /// Writes the register.
    ///
    /// # Safety
    ///
    /// The value is valid for the register, and what it changes is what the caller's memory and code rely on.
    pub(super) unsafe fn write(self, value: u64) {
        let (high, low) = ((value >> 32) as u32, value as u32);
        // SAFETY: the caller's promise. Not `nomem`: bases and modes decide what an access to memory means.
        unsafe { asm!("wrmsr", in("ecx") self.0, in("eax") low, in("edx") high, options(nostack, preserves_flags)) };
    }
}
