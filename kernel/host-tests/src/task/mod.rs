//! The scheduler's queues and the slab under it: pure structures, run against models.

#[path = "../../../src/task/list.rs"]
mod list;
#[path = "../../../src/task/lot.rs"]
mod lot;
#[path = "../../../src/task/ready.rs"]
mod ready;
#[expect(dead_code, reason = "states, and how waits begin and end, are the scheduler's business")]
#[path = "../../../src/task/scheduling.rs"]
mod scheduling;
#[path = "../../../src/mm/slab/store.rs"]
mod store;
#[path = "../../../src/task/timers.rs"]
mod timers;

mod parking;
mod places;
mod slab;
mod wheels;

use std::ptr::NonNull;

use scheduling::{Node, Scheduling, State};

pub(crate) use crate::disk::world::{goes_on, sched};

/// Tasks of a test, by number: only what the scheduler keeps of them.
struct Tasks(Vec<NonNull<Scheduling>>);

impl Tasks {
    fn new(count: usize) -> Self {
        let new = |_| NonNull::from(Box::leak(Box::new(Scheduling::new(State::New))));
        Self((0..count).map(new).collect())
    }

    fn node(&self, number: usize) -> Node {
        // SAFETY: the struct is there until the tasks are dropped, and a test has one thread.
        unsafe { Node::new(self.0[number]) }
    }

    fn number(&self, node: Node) -> usize {
        self.0.iter().position(|&place| place == node.place()).expect("a task of this test")
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for place in &self.0 {
            // SAFETY: it came from a box, and the test is over.
            drop(unsafe { Box::from_raw(place.as_ptr()) });
        }
    }
}
