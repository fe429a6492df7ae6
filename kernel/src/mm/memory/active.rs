//! Which CPUs run on a memory, and making them forget what has changed.
//!
//! A CPU is counted in before it loads a memory's root, and out after it has loaded another, which makes it forget all of the old one. Whoever
//! changes entries looks who is counted in *after* the change: a CPU that is not seen there walks the new entries when it comes.
//!
//! ```text
//!   change entries ── who runs on it? ── nobody else: done
//!                         └─ others: raise the generation, interrupt them, wait until each has heard of it or has left
//!   on each of them: read the generation ── forget everything ── say that it was heard
//! ```
//!
//! Frames that were taken out go back after that (INV-FRAME). Whoever waits has interrupts on and may be preempted; it holds the memory's lock
//! and no other.

use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};

use vmstack::{VirtAddr, VirtRange};

use super::Memory;
use crate::arch::cpu::{self, InterruptsOff};
use crate::arch::layout::PAGE_SIZE;
use crate::arch::percpu::{self, MAX_CPUS};
use crate::interrupts;
use crate::mm::tables;

const _: () = assert!(MAX_CPUS <= 64, "a word has a bit for each CPU");

/// What each CPU runs on; null: the kernel's own tables.
static LOADED: [AtomicPtr<Memory>; MAX_CPUS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];
/// How often CPUs were asked to forget, and what each of them has heard of that.
static GENERATION: AtomicU64 = AtomicU64::new(0);
static HEARD: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// The CPUs that run on a memory: a bit each.
#[derive(Debug)]
pub(crate) struct Active(AtomicU64);

impl Active {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The other CPUs that may know entries as they were before the caller changed them.
    fn others(&self) -> u64 {
        // The change comes before the look: pairs with the exchange in `load`, which comes before the walk.
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) & !bit(percpu::cpu_number().index())
    }

    fn has(&self, cpu: usize) -> bool {
        self.0.load(Ordering::Acquire) & bit(cpu) != 0
    }
}

const fn bit(cpu: usize) -> u64 {
    1 << cpu
}

/// Runs this CPU on `memory`, or on the kernel's own tables.
///
/// # Context
///
/// Interrupts off. The memory is there until this CPU is made to run on another.
pub(crate) fn load(memory: Option<&Memory>) {
    let me = percpu::cpu_number().index();
    let wanted = memory.map_or(core::ptr::null(), core::ptr::from_ref).cast_mut();
    let loaded = LOADED[me].load(Ordering::Relaxed);
    if loaded == wanted {
        return;
    }
    if let Some(memory) = memory {
        memory.active.0.fetch_or(bit(me), Ordering::SeqCst);
    }
    let root = memory.map_or_else(tables::kernel_root, Memory::root);
    // SAFETY: every address space has the kernel's half (INV-MAPPED).
    unsafe { cpu::write_cr3(root) };
    LOADED[me].store(wanted, Ordering::Relaxed);
    // SAFETY: null, or what this CPU ran on until now, which is there (see above).
    if let Some(left) = unsafe { loaded.as_ref() } {
        // Release: what was known of it is forgotten before.
        left.active.0.fetch_and(!bit(me), Ordering::Release);
    }
}

/// Forgets all of users' memory on this CPU.
fn forget_all() {
    // SAFETY: the root is what it was.
    unsafe { cpu::write_cr3(cpu::read_cr3()) };
}

/// Another CPU has changed what this one runs on. Called with interrupts off.
pub(crate) fn hear() {
    // Acquire: pairs with the exchange in `flush_others`: the change comes before what is read here, and so before the flush.
    let generation = GENERATION.load(Ordering::Acquire);
    forget_all();
    // Release: pairs with the load in `wait_for`.
    HEARD[percpu::cpu_number().index()].store(generation, Ordering::Release);
}

impl Memory {
    /// Whether this CPU runs on the memory. Interrupts are off.
    pub(super) fn is_loaded(&self) -> bool {
        core::ptr::eq(LOADED[percpu::cpu_number().index()].load(Ordering::Relaxed), self)
    }

    /// Makes this CPU forget `piece`, if it runs on the memory. Interrupts are off. Says whether others have to forget it too.
    pub(super) fn forget(&self, piece: VirtRange) -> bool {
        if self.is_loaded() {
            (0..piece.bytes()).step_by(PAGE_SIZE).for_each(|offset| forget_page(piece.start().wrapping_add(offset)));
        }
        self.active.others() != 0
    }

    /// Makes every CPU forget all that it knows of the memory, and waits for it.
    ///
    /// # Context
    ///
    /// Tasks, interrupts on, with no lock but the memory's.
    pub(super) fn flush(&self) {
        let section = InterruptsOff::new();
        if self.is_loaded() {
            forget_all();
        }
        let others = self.active.others();
        if others == 0 {
            return;
        }
        let generation = GENERATION.fetch_add(1, Ordering::AcqRel) + 1;
        cpus(others).for_each(interrupts::ask_to_forget);
        drop(section);
        cpus(others).for_each(|cpu| self.wait_for(cpu, generation));
    }

    fn wait_for(&self, cpu: usize, generation: u64) {
        debug_assert!(cpu::interrupts_on(), "two CPUs may wait for each other");
        // A CPU that has left has forgotten everything.
        while self.active.has(cpu) && HEARD[cpu].load(Ordering::Acquire) < generation {
            cpu::relax();
        }
    }
}

/// Makes this CPU forget `page`.
pub(super) fn forget_page(page: VirtAddr) {
    // SAFETY: the kernel runs in ring 0.
    unsafe { vmstack_arch::tlb::flush_page(page) };
}

/// The numbers of the bits that are set.
fn cpus(set: u64) -> impl Iterator<Item = usize> {
    (0..MAX_CPUS).filter(move |&cpu| set & bit(cpu) != 0)
}
