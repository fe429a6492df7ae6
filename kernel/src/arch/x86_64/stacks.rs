//! The stacks that are part of the image: what the boot CPU stands on until it has mapped better ones, and the last
//! resort.
//!
//! Each lies between two pages that nothing uses. The boot tables map the image in pages of 2 MiB, so those pages are no
//! guards yet; whoever makes the final tables leaves them unmapped and may use their frames, and then they are (INV-GUARD).
//!
//! ```text
//! guard   4 KiB   unmapped in the final tables
//! stack   16 KiB  grows down towards the guard
//! guard   4 KiB   unmapped in the final tables; its start is the stack's top, the first push writes below it
//! ```
//!
//! All of them are at the end of the image (`kernel.ld`): whatever else is in it lies below, and is told from a stack by one comparison.
//!
//! A stack here is written by a CPU's pushes, never through a reference: `UnsafeCell` says so to the compiler.

use core::cell::UnsafeCell;
use core::mem::offset_of;

use vmstack::{VirtAddr, VirtRange};

use super::layout::PAGE_SIZE;

/// The size of each stack of the image, without its guard, in bytes.
pub(crate) const STACK_BYTES: usize = 16 * 1024;

/// A page that becomes a guard, a stack above it, and another guard.
#[repr(C, align(4096))]
pub(crate) struct StaticStack {
    below: UnsafeCell<[u8; PAGE_SIZE]>,
    stack: UnsafeCell<[u8; STACK_BYTES]>,
    above: UnsafeCell<[u8; PAGE_SIZE]>,
}

// SAFETY: no reference to the bytes is ever made; a CPU uses a stack as its stack, and no two CPUs the same one.
unsafe impl Sync for StaticStack {}

/// The distance from a `StaticStack` to its stack's end, in bytes.
pub(crate) const TOP_OFFSET: usize = offset_of!(StaticStack, stack) + STACK_BYTES;

impl StaticStack {
    pub(crate) const fn new() -> Self {
        Self {
            below: UnsafeCell::new([0; PAGE_SIZE]),
            stack: UnsafeCell::new([0; STACK_BYTES]),
            above: UnsafeCell::new([0; PAGE_SIZE]),
        }
    }

    /// The pages below and above the stack, to be left unmapped.
    pub(crate) fn guards(&self) -> [VirtAddr; 2] {
        [VirtAddr::of(self.below.get()), VirtAddr::of(self.above.get())]
    }

    /// The stack itself.
    pub(crate) fn range(&self) -> VirtRange {
        VirtRange::new(VirtAddr::of(self.stack.get()), STACK_BYTES).unwrap_or(VirtRange::EMPTY)
    }

    /// The end of the stack, where it starts to grow down.
    pub(crate) fn top(&self) -> VirtAddr {
        self.range().end()
    }
}

/// What the boot CPU enters Rust on.
#[unsafe(link_section = ".bss.0stacks")]
pub(crate) static BOOT: StaticStack = StaticStack::new();
/// The boot CPU's first interrupt stack.
#[unsafe(link_section = ".bss.0stacks")]
pub(crate) static INTERRUPT: StaticStack = StaticStack::new();
/// The boot CPU's first #DF stack.
#[unsafe(link_section = ".bss.0stacks")]
pub(crate) static DOUBLE_FAULT: StaticStack = StaticStack::new();
/// The boot CPU's first NMI stack.
#[unsafe(link_section = ".bss.0stacks")]
pub(crate) static NMI: StaticStack = StaticStack::new();
/// The boot CPU's first #MC stack.
#[unsafe(link_section = ".bss.0stacks")]
pub(crate) static MACHINE_CHECK: StaticStack = StaticStack::new();
/// The boot CPU's first #DB stack.
#[unsafe(link_section = ".bss.0stacks")]
pub(crate) static DEBUG: StaticStack = StaticStack::new();
/// Where the machine is stopped when a fault hits the handler of a fault. One for all CPUs: the first to come has it.
#[unsafe(link_section = ".bss.0stacks")]
pub(crate) static LAST_RESORT: StaticStack = StaticStack::new();

/// Every stack of the image, with the name that reports give it.
pub(crate) static ALL: [(&str, &StaticStack); 7] = [
    ("boot", &BOOT),
    ("boot interrupt", &INTERRUPT),
    ("boot double fault", &DOUBLE_FAULT),
    ("boot NMI", &NMI),
    ("boot machine check", &MACHINE_CHECK),
    ("boot debug", &DEBUG),
    ("last resort", &LAST_RESORT),
];

/// Whether the page at `page` is one of their guards.
pub(crate) fn is_guard(page: VirtAddr) -> bool {
    ALL.iter().any(|(_, stack)| stack.guards().contains(&page))
}
