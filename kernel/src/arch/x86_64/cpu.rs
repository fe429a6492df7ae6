//! Single instructions that Rust has no name for: ports, interrupts on and off, control registers, time.
//!
//! All of them may be called in any context.

use core::arch::asm;
use core::marker::PhantomData;

use vmstack::{PhysAddr, VirtAddr};

use super::percpu;

/// The port of QEMU's `isa-debug-exit` device, as the command configures it.
pub(super) const DEBUG_EXIT: u16 = 0xf4;

/// Reads a byte from I/O port `port`.
///
/// # Safety
///
/// The device behind the port expects it: reading may change its state.
pub(super) unsafe fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: the caller's promise; no memory is touched.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Reads a word of 32 bits from I/O port `port`.
///
/// # Safety
///
/// The device behind the port expects it: reading may change its state.
pub(super) unsafe fn in32(port: u16) -> u32 {
    let value;
    // SAFETY: the caller's promise; no memory is touched.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes a byte to I/O port `port`.
///
/// # Safety
///
/// The device behind the port expects it, and does nothing to memory that Rust relies on.
pub(super) unsafe fn out8(port: u16, value: u8) {
    // SAFETY: the caller's promise.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}

/// Writes a word of 32 bits to I/O port `port`.
///
/// # Safety
///
/// The device behind the port expects it, and does nothing to memory that Rust relies on.
pub(super) unsafe fn out32(port: u16, value: u32) {
    // SAFETY: the caller's promise.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags)) };
}

/// Ends the emulator with status `2 * code + 1`; where there is none, stops this CPU.
pub(crate) fn exit(code: u32) -> ! {
    // SAFETY: the port belongs to the exit device, or to nothing.
    unsafe { out32(DEBUG_EXIT, code) };
    halt_forever()
}

/// Stops this CPU: interrupts off, and back to sleep after each NMI.
pub(crate) fn halt_forever() -> ! {
    loop {
        // SAFETY: the CPU does nothing any more, so it needs no interrupt.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// Waits for an NMI, with interrupts off.
pub(crate) fn halt() {
    // SAFETY: the CPU sleeps; interrupts are off already, or nothing relies on their being on.
    unsafe { asm!("cli", "hlt", options(nostack)) };
}

/// Turns interrupts on, waits for one, and comes back after it with interrupts off.
///
/// `sti` takes effect after the next instruction, so nothing can arrive between the two and leave the CPU asleep.
///
/// # Safety
///
/// Interrupts may be taken here: no lock is held that a handler wants.
pub(crate) unsafe fn wait_for_interrupt() {
    // SAFETY: the caller's promise; handlers save what they use.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Says to the CPU that this is a loop that waits.
pub(crate) fn relax() {
    core::hint::spin_loop();
}

/// Whether interrupts are on.
#[must_use]
pub(crate) fn interrupts_on() -> bool {
    let flags: u64;
    // SAFETY: reads a register by way of the stack.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags)) };
    flags & super::frame::RFLAGS_IF != 0
}

/// Turns interrupts on.
///
/// # Safety
///
/// Interrupts may be taken from here on: the CPU's tables, stacks and APIC are set up, and no guard says otherwise.
pub(crate) unsafe fn enable_interrupts() {
    // SAFETY: the caller's promise. Not `nomem`: memory accesses stay on their side.
    unsafe { asm!("sti", options(nostack)) };
}

/// Turns interrupts off.
pub(crate) fn disable_interrupts() {
    // SAFETY: nothing relies on being interrupted. Not `nomem`: memory accesses stay on their side.
    unsafe { asm!("cli", options(nostack)) };
}

/// Takes the interrupts that wait, and comes back with interrupts off.
pub(crate) fn take_interrupts() {
    // SAFETY: callers have interrupts off because they are in the middle of something that handlers know nothing of. STI lets none in
    // before the next instruction is over.
    unsafe { asm!("sti", "nop", "nop", "cli", options(nostack)) };
}

/// Having an `InterruptsOff` means that, until it is dropped:
///
/// - interrupts are off on the CPU that this code runs on,
/// - so the code does not move to another CPU, unless it switches tasks itself,
/// - and no interrupt handler runs here. NMI and #MC may.
///
/// Dropping it makes interrupts what they were.
#[derive(Debug)]
pub(crate) struct InterruptsOff {
    were_on: bool,
    // A guard belongs to the CPU that made it.
    not_send: PhantomData<*mut ()>,
}

impl InterruptsOff {
    /// Turns interrupts off, and remembers what they were.
    #[must_use]
    pub(crate) fn new() -> Self {
        let were_on = interrupts_on();
        disable_interrupts();
        Self { were_on, not_send: PhantomData }
    }
}

impl Drop for InterruptsOff {
    fn drop(&mut self) {
        if self.were_on {
            // SAFETY: they were on when the guard was made, on this CPU.
            unsafe { enable_interrupts() };
        }
    }
}

/// How many bytes of stack a section may need that must not be cut short by an overflow. The deepest that was seen, by painting the
/// stack at the door, is 1,408 bytes: a stack area that makes a stack.
pub(crate) const HEADROOM: usize = 3072;

/// Looks at the stack [`HEADROOM`] bytes below here: where there is not so much, the overflow comes now, before anything is held.
///
/// The stack pointer goes along. So the fault is a double fault, on a stack that has room for its handler: a page fault's would
/// have to do with what is left of this one.
///
/// # Context
///
/// Interrupts are off: none is delivered down there. Inside a section, at whose door it was done, nothing is.
#[inline(always)]
pub(crate) fn check_headroom() {
    // SAFETY: reads a word of this CPU's block, at the offset of `vital`, and one of this stack or of the guard under it, into a register that
    // is not used. The stack pointer is what it was, and nothing was written.
    unsafe {
        asm!(
            "cmp dword ptr gs:[{vital}], 0",
            "jne 2f",
            "lea rsp, [rsp - {down}]",
            "pop {word}",
            "lea rsp, [rsp + {up}]",
            "2:",
            vital = const percpu::VITAL,
            down = const HEADROOM,
            up = const HEADROOM - 8,
            word = out(reg) _,
            options(readonly)
        );
    }
}

/// The cycle counter. Other CPUs' counters may differ, and its rate is measured by `pit::calibrate`.
#[must_use]
pub(crate) fn cycles() -> u64 {
    let (high, low): (u32, u32);
    // SAFETY: reads a register; the fence keeps it from being read before what comes before.
    unsafe { asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// The address whose access made the last page fault on this CPU.
#[must_use]
pub(crate) fn read_cr2() -> VirtAddr {
    let addr: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) addr, options(nomem, nostack, preserves_flags)) };
    VirtAddr::new(addr)
}

/// Sets CR2: to zero once a fault is handled, so that no later report shows it again.
pub(crate) fn write_cr2(addr: VirtAddr) {
    // SAFETY: the register only ever informs.
    unsafe { asm!("mov cr2, {}", in(reg) addr.get(), options(nomem, nostack, preserves_flags)) };
}

/// The root of this CPU's page tables.
#[must_use]
pub(crate) fn read_cr3() -> PhysAddr {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)) };
    PhysAddr::new(value & 0x000f_ffff_ffff_f000)
}

/// Makes `root` the root of this CPU's page tables, and flushes every translation that is not global.
///
/// # Safety
///
/// The tables map everything that this CPU uses as it was: the image, the current stack, the per-CPU tables and stacks,
/// the direct map.
pub(crate) unsafe fn write_cr3(root: PhysAddr) {
    // SAFETY: the caller's promise. Not `nomem`: what memory is changes.
    unsafe { asm!("mov cr3, {}", in(reg) root.get(), options(nostack, preserves_flags)) };
}
