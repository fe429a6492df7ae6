//! The smallest program: it exits with status 0. What executing a program costs, without what a C library does before `main`.

// A test of all targets builds this one with the standard library, which has these two parts itself.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(not(test), no_main)]

#[cfg(not(test))]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "mov eax, 231", // exit_group
    "xor edi, edi", // status 0
    "syscall",
    "ud2", // never reached
);

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
