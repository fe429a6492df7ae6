//! Who keeps a memory is counted right, whether a task ever ran or not: the last one takes it apart, piece by piece.

#[path = "../../../src/mm/memory/place.rs"]
mod place;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use place::{MemoryPlace, Users};

/// A memory, as far as its places know it.
struct Memory {
    users: Users,
    cleared: AtomicUsize,
}

impl Memory {
    fn new() -> Arc<Self> {
        Arc::new(Self { users: Users::none(), cleared: AtomicUsize::new(0) })
    }

    const fn users(&self) -> &Users {
        &self.users
    }

    fn cleared(&self) -> usize {
        self.cleared.load(Ordering::Relaxed)
    }

    fn clear(&self) {
        self.cleared.fetch_add(1, Ordering::Relaxed);
    }
}

/// A place with a count of `memory`.
fn place_of(memory: &Arc<Memory>) -> MemoryPlace {
    MemoryPlace::new(Some(Arc::clone(memory)))
}

fn give_up(place: &MemoryPlace) {
    // SAFETY: the test has no reference into the place.
    unsafe { place.give_up() };
}

#[test]
fn the_last_of_several_takes_the_memory_apart() {
    let memory = Memory::new();
    let places = [place_of(&memory), place_of(&memory), MemoryPlace::new(None)];
    // SAFETY: nothing is there.
    unsafe { places[2].put(Arc::clone(&memory), &crate::sync::Section) };
    give_up(&places[1]);
    give_up(&places[1]);
    give_up(&places[0]);
    assert_eq!(memory.cleared(), 0, "one is left");
    give_up(&places[2]);
    assert_eq!((memory.cleared(), Arc::strong_count(&memory)), (1, 1));
}

#[test]
fn a_task_that_was_refused_is_no_user_of_its_memory() {
    let memory = Memory::new();
    let first = place_of(&memory);
    drop(place_of(&memory));
    assert_eq!(memory.cleared(), 0, "another has it");
    give_up(&first);
    assert_eq!((memory.cleared(), Arc::strong_count(&memory)), (1, 1), "nobody took it apart");
}
