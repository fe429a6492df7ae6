//! The part of the story about storage, in a boot with a disk: how deep layers can lie on each other, and what it costs to go deeper.
//!
//! First `programs/storage` reads files through layers, beside others, until its kernel stack overflows. Then tasks of the kernel do the
//! same on stacks of several sizes, without a file system: each reads through ever more layers until it is dead. What they read through
//! belongs to the task that waits for them.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::balance::Balance;
use crate::block::{BlockError, Layers, SECTOR, Scratch};
use crate::mm::heap::{lost, try_box};
use crate::stacks::{self, DEPTH_STACKS, DEPTHS, TASK_STACK, TASKS};
use crate::syscall::Errno;
use crate::task::{self, TaskStack, next_id, sched};
use crate::{disk, dma, fact, fs, println};

/// The program that is the story's first process.
const PROGRAM: &[u8] = b"/bin/storage";
/// More layers than the largest stack has room for.
const LAYERS: &[u8] = b"linear*1500.disk";

/// Tells it.
pub(crate) fn tell() {
    if let Err(error) = stacks::make_depths() {
        return println!("the areas of other stacks cannot be made: {error}");
    }
    // They are stacks too, for the door to devices.
    dma::DOOR.look();
    warm_up();
    tell_ring("before");
    sched::settle();
    let before = Balance::take();
    super::run_program(PROGRAM);
    sched::settle();
    for (area, size) in DEPTHS.iter().zip(DEPTH_STACKS) {
        dive(area, size);
    }
    dive(&TASKS, TASK_STACK);
    sched::settle();
    tell_ring("after");
    Balance::take().print_since(&before);
}

/// Has the tables and records that are kept for good made before anything is counted.
fn warm_up() {
    DEPTHS.iter().for_each(|area| drop(area.alloc(0)));
    drop((0..16).filter_map(|_| TASKS.alloc(0).ok()).collect::<alloc::vec::Vec<_>>());
}

/// What the disk's ring is like when nobody uses it: descriptors that are free, all of them, requests that somebody waits for, resets;
/// and what the door has not got back: bounce buffers in use, transfers that were lost, stacks that a device holds.
fn tell_ring(when: &str) {
    let (ring, door) = (disk::state(), &dma::DOOR);
    let pinned: usize = stacks::AREAS.iter().map(|area| area.recount().pinned).sum();
    let (free, all) = ring.descriptors;
    fact!("storage.ring", "{when} {free} {all} {} {}", ring.flights, ring.resets);
    fact!("storage.door", "{when} {} {} {pinned}", door.pool_usage().in_use, door.counters().lost);
}

/// What a diver reads through, and how deep it came.
struct Dive {
    layers: Layers,
    buffer: Scratch,
    deepest: AtomicUsize,
}

impl Dive {
    fn new() -> Result<Box<Self>, Errno> {
        let (layers, buffer) = (fs::disk::layers(LAYERS)?, Scratch::new(SECTOR));
        // So that the diver allocates nothing.
        buffer.with(|_| ())?;
        Ok(try_box(Self { layers, buffer, deepest: AtomicUsize::new(0) })?)
    }
}

/// Has a task on a stack of `area`, of `size` bytes, read through ever more layers, and says which task that was, and how many layers it
/// came through.
fn dive(area: &'static vmstack::StackArea<stacks::Kernel>, size: usize) {
    let lost_before = lost().bytes;
    let dive = Dive::new();
    let (Ok(dive), id) = (dive, next_id()) else { return println!("there are no layers") };
    let Ok(stack) = area.alloc_waiting(id) else { return println!("there is no stack of {size} bytes") };
    let place = Box::into_raw(dive);
    let task = task::spawn_on(id, "diver", TaskStack::Mapped(stack), go_down, place.expose_provenance());
    while task.as_ref().is_some_and(|task| !task.is_over()) {
        sched::sleep_until(sched::ticks() + 1);
    }
    // SAFETY: it came from the box above, and the task that had it is dead.
    let dive = unsafe { Box::from_raw(place) };
    fact!("storage.depth", "{size} {id} {} {}", dive.deepest.load(Ordering::Relaxed), lost().bytes - lost_before);
}

/// The diver: reads the first sector through one layer, through two, and so on.
extern "C" fn go_down(place: usize) -> ! {
    sched::begin();
    // SAFETY: `dive` has it until this task is dead.
    let dive = unsafe { &*core::ptr::with_exposed_provenance::<Dive>(place) };
    for depth in 1..=dive.layers.count() {
        let Some(layer) = dive.layers.at_depth(depth) else { break };
        let read = dive.buffer.with(|buffer| layer.read(0, buffer, 0..SECTOR)).and_then(|read| read);
        if let Err(error) = read {
            tell_failure(depth, error);
            break;
        }
        dive.deepest.store(depth, Ordering::Relaxed);
    }
    sched::exit()
}

#[cold]
fn tell_failure(depth: usize, error: BlockError) {
    println!("{depth} layers cannot be read: {error}");
}
