//! Clearing and copying whole pages.

use core::arch::asm;

use vmstack::VirtAddr;

/// Copies the 4,096 bytes at `from` to `to`: 512 iterations of `rep movsq`.
///
/// # Safety
///
/// Both are the starts of mapped pages; `to` is writable, and nobody else uses it.
pub(crate) unsafe fn copy_page(from: VirtAddr, to: VirtAddr) {
    // SAFETY: reads one page, writes the other and nothing else; the direction flag is clear, as the calling convention has it.
    unsafe {
        asm!(
            "rep movsq",
            inout("rcx") 512_usize => _,
            inout("rsi") from.get() => _,
            inout("rdi") to.get() => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Clears the 4,096 bytes at `page`: 512 iterations of `rep stosq`.
///
/// # Safety
///
/// `page` is the start of a mapped, writable page that nobody else uses.
pub(crate) unsafe fn clear_page(page: VirtAddr) {
    // SAFETY: writes the page and nothing else; the direction flag is clear, as the calling convention has it.
    unsafe {
        asm!(
            "rep stosq",
            inout("rcx") 512_usize => _,
            inout("rdi") page.get() => _,
            in("rax") 0_usize,
            options(nostack, preserves_flags),
        );
    }
}
