//! Entry from the loader. The code is in `boot.S`; this file fills in the names that it needs.

use core::arch::global_asm;

use super::stacks;

global_asm!(
    include_str!("boot.S"),
    boot_stack = sym stacks::BOOT,
    boot_stack_top = const stacks::TOP_OFFSET,
    kernel_main = sym crate::kernel_main,
    options(att_syntax)
);
