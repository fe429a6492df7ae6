//! Memory for what there are many of, all of one size: task structs, and the heap's small blocks.
//!
//! Objects are cut from single frames, so that memory in pieces serves as well as any ([`store`]). Each CPU has a few of them at
//! hand: one that is taken and given back soon costs a load and a store. A frame of which nothing is used goes back to the frame
//! allocator.
//!
//! # Context
//!
//! In a [`Section`]: nobody is killed between the store and the object's owner. Never the fault path.

use core::cell::UnsafeCell;
use core::ptr::NonNull;

use vmstack::VirtAddr;

use super::{frames, inject};
use crate::arch::layout::{direct_map_to_phys, phys_to_virt};
use crate::arch::percpu::{self, MAX_CPUS};
use crate::sync::{AnyLock, Section, VitalLock};

mod store;

pub(crate) use store::{ALIGN, Store};

/// How many objects a CPU has at hand at most, and how many move at once.
const AT_HAND: usize = 16;
const BATCH: usize = AT_HAND / 2;

/// What one CPU has at hand.
struct Hand {
    objects: [Option<NonNull<u8>>; AT_HAND],
    count: usize,
}

struct Local(UnsafeCell<Hand>);

// SAFETY: a CPU's objects are used by that CPU alone, in sections: see `Slab::hand`.
unsafe impl Sync for Local {}

/// A slab: objects of one size.
pub(crate) struct Slab {
    store: VitalLock<Store>,
    local: [Local; MAX_CPUS],
}

impl Slab {
    /// A slab whose objects are in `store`, which is empty.
    pub(crate) const fn new(store: VitalLock<Store>) -> Self {
        let local = [const { Local(UnsafeCell::new(Hand { objects: [None; AT_HAND], count: 0 })) }; MAX_CPUS];
        Self { store, local }
    }

    /// Says how large objects are, in bytes, before there is one. False if that is more than a frame holds.
    pub(crate) fn set_size(&self, bytes: usize) -> bool {
        self.store.lock().set_size(bytes)
    }

    /// The slab's lock.
    pub(crate) const fn lock(&'static self) -> &'static dyn AnyLock {
        &self.store
    }

    #[expect(clippy::mut_from_ref, reason = "the section makes it exclusive")]
    fn hand(&self, _section: &Section) -> &mut Hand {
        let local = &self.local[percpu::cpu_number().index()];
        // SAFETY: this CPU's own; in a section nothing else runs on it, and the callers below have one reference at a time.
        unsafe { &mut *local.0.get() }
    }

    /// An object, whose bytes are anything, aligned to [`ALIGN`] bytes. `None` if there is no memory.
    pub(crate) fn take(&self, section: &Section) -> Option<NonNull<u8>> {
        let hand = self.hand(section);
        if hand.count == 0 {
            self.fill(hand);
        }
        hand.count = hand.count.checked_sub(1)?;
        hand.objects[hand.count]
    }

    /// Takes `object` back.
    ///
    /// # Safety
    ///
    /// [`take`](Self::take) of this slab returned it, and nobody uses it.
    pub(crate) unsafe fn give(&self, object: NonNull<u8>, section: &Section) {
        let hand = self.hand(section);
        if hand.count == AT_HAND {
            self.empty(hand);
        }
        hand.objects[hand.count] = Some(object);
        hand.count += 1;
    }

    /// Fetches some objects from the store: one at least, if there is memory. Where a frame has few of them several frames are taken,
    /// so that one of many who want one pays for it.
    fn fill(&self, hand: &mut Hand) {
        let mut store = self.store.lock();
        while hand.count < BATCH {
            let Some(object) = store.take() else {
                if !add_frame(&mut store) {
                    return;
                }
                continue;
            };
            hand.objects[hand.count] = Some(object);
            hand.count += 1;
        }
    }

    /// Gives some objects back to the store.
    fn empty(&self, hand: &mut Hand) {
        let mut store = self.store.lock();
        for object in hand.objects[BATCH..].iter_mut().filter_map(Option::take) {
            // SAFETY: what is at hand was taken from this store, and is nobody's.
            if let Some(frame) = unsafe { store.give(object) } {
                frames::give(direct_map_to_phys(VirtAddr::new(frame.addr().get())), 0);
            }
        }
        hand.count = BATCH;
    }

    /// How many frames the slab has, counted by looking at them (INV-COUNT).
    pub(crate) fn frames(&self) -> usize {
        self.store.lock().recount().frames
    }
}

/// Takes one frame more. False if there is none.
fn add_frame(store: &mut Store) -> bool {
    // Whoever wants the object decides whether it fails on purpose.
    let Some(frame) = inject::spared(|| frames::take(0)) else { return false };
    let Some(place) = NonNull::new(phys_to_virt(frame).as_mut_ptr::<u8>()) else { return false };
    // SAFETY: a frame of the allocator's, shown by the direct map, and the store's from here on.
    unsafe { store.add(place) };
    true
}
