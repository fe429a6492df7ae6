//! Direct stacks that are kept and scrubbed as mapped ones are: the other side of a comparison that leaves only the mapping.
//!
//! A CPU keeps what it frees on a chain through the lowest words of the stacks, last in, first out, as far as memory goes: it never
//! visits a depot. There is no dirty bit for a stack in the direct map. So the topmost page is cleared, which is what the tasks of the
//! comparison use, and nothing else: for other tasks it would be too little.
//!
//! Contexts: under a section.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vmstack::PhysAddr;

use super::DirectStack;
use crate::arch::layout::{PAGE_SIZE, phys_to_virt};
use crate::arch::percpu::{self, MAX_CPUS};
use crate::mm::frames;
use crate::stacks::TASK_STACK;

/// Whether direct stacks are kept: what `stacks=equal` asks.
static KEPT: AtomicBool = AtomicBool::new(false);
/// The block that each CPU freed last; the lowest word of each block says which came before it.
static CHAINS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// Keeps direct stacks from here on.
pub(crate) fn keep() {
    KEPT.store(true, Ordering::Relaxed);
}

pub(super) fn is_on() -> bool {
    KEPT.load(Ordering::Relaxed)
}

fn chain() -> &'static AtomicU64 {
    &CHAINS[percpu::cpu_number().index()]
}

fn link(block: u64) -> *mut u64 {
    phys_to_virt(PhysAddr::new(block)).as_mut_ptr()
}

/// The stack that this CPU freed last, scrubbed.
pub(super) fn take() -> Option<DirectStack> {
    let chain = chain();
    let block = chain.load(Ordering::Relaxed);
    if block == 0 {
        return None;
    }
    // SAFETY: a block on the chain is nobody's, and its lowest word is the link, which `give` wrote.
    chain.store(unsafe { link(block).read() }, Ordering::Relaxed);
    // SAFETY: as above.
    unsafe { link(block).write(0) };
    let block = PhysAddr::new(block);
    frames::clear(block.wrapping_add((TASK_STACK - PAGE_SIZE) as u64));
    Some(DirectStack::of(block))
}

/// Keeps the stack that lies in `block`.
pub(super) fn give(block: PhysAddr) {
    let chain = chain();
    // SAFETY: the block is nobody's.
    unsafe { link(block.get()).write(chain.load(Ordering::Relaxed)) };
    chain.store(block.get(), Ordering::Relaxed);
}
