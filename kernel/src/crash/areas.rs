//! Stray accesses to the vmalloc's range, and frees of what is no area.
//!
//! The area is the script's: who dies of touching its guard does not own it.

use alloc::vec::Vec;
use core::hint;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use vmstack::VirtAddr;

use super::Provocation;
use super::script::{Script, Victim, perform_provocation};
use super::stack::read;
use crate::arch::layout::PAGE_SIZE;
use crate::arch::percpu;
use crate::boot;
use crate::vmalloc::{VMALLOC, vfree};
use crate::{fact, println, vmalloc};

pub(super) static PROVOCATIONS: [Provocation; 2] = [
    Provocation { name: "VMALLOC_GUARD_ABOVE", act: || read(area().wrapping_add(BYTES)) },
    Provocation { name: "VMALLOC_GUARD_BELOW", act: || read(area().wrapping_sub(1)) },
];

pub(super) static SCRIPTS: [Script; 6] = [
    Script { name: "VMALLOC_GUARD_ABOVE", run: |_| beside_an_area("VMALLOC_GUARD_ABOVE") },
    Script { name: "VMALLOC_GUARD_BELOW", run: |_| beside_an_area("VMALLOC_GUARD_BELOW") },
    Script { name: "VMALLOC_FREED", run: freed },
    Script {
        name: "VFREE_TWICE",
        run: |_| {
            let Some(area) = take() else { return };
            vfree(area);
            vfree(area);
        },
    },
    Script { name: "VFREE_INSIDE", run: |_| take().into_iter().for_each(|area| vfree(area.wrapping_add(PAGE_SIZE))) },
    // Where the stacks are.
    Script { name: "VFREE_FOREIGN", run: |_| vfree(crate::stacks::spare_range().start()) },
];

/// What the area has.
const BYTES: usize = 3 * PAGE_SIZE;

/// Where it begins.
static AREA: AtomicUsize = AtomicUsize::new(0);

fn area() -> VirtAddr {
    VirtAddr::new(AREA.load(Ordering::Relaxed))
}

/// Takes an area, by its address. None if there is no memory.
fn take() -> Option<VirtAddr> {
    match VMALLOC.vmalloc(BYTES) {
        Ok(area) => Some(area.into_raw()),
        Err(error) => {
            println!("vmstack: no area: {error}");
            None
        }
    }
}

/// With an area, victims provoke the crash called `name`. It is freed after.
fn beside_an_area(name: &str) {
    let Some(start) = take() else { return };
    AREA.store(start.get(), Ordering::Relaxed);
    perform_provocation(name);
    vfree(start);
}

/// Victims that stand ready, each on a CPU of its own.
static READY: AtomicUsize = AtomicUsize::new(0);
/// Whether the area is free, on every CPU.
static FREED: AtomicBool = AtomicBool::new(false);

/// A victim on each CPU has the area in its TLB. The last one frees it and waits until all have flushed; then each touches it.
fn freed(_: &str) {
    // What lies beside it keeps its chunk from being given back: it is remembered whose the addresses were.
    let (Some(start), Some(beside)) = (take(), take()) else { return };
    AREA.store(start.get(), Ordering::Relaxed);
    READY.store(0, Ordering::Relaxed);
    FREED.store(false, Ordering::Relaxed);
    let victims: Vec<_> = (0..boot::cpus()).filter_map(|_| Victim::start(touch_freed)).collect();
    victims.iter().for_each(Victim::wait);
    fact!("vmalloc.waiting", "{}", vmalloc::waiting());
    vfree(beside);
}

fn touch_freed() {
    // Until it is killed: so each has a CPU of its own. Interrupts stay on, for the shootdown.
    percpu::preempt_disable();
    read(area());
    // AcqRel: the last one frees what all have read.
    if READY.fetch_add(1, Ordering::AcqRel) + 1 == boot::cpus() {
        vfree(area());
        VMALLOC.drain();
        FREED.store(true, Ordering::Release);
    }
    while !FREED.load(Ordering::Acquire) {
        hint::spin_loop();
    }
    read(area());
    percpu::preempt_enable();
}
