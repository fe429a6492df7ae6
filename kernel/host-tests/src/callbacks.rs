//! Callbacks on their way: whatever CPUs left behind is taken as one chain, and each is run once.

#[expect(dead_code, reason = "the kernel uses more of it than the tests")]
#[path = "../../src/sync/rcu/queue.rs"]
mod queue;

use std::cell::Cell;

use queue::{Basket, Chain, Head, Orphans, Queues, Running};

use crate::sync::Section;

thread_local! {
    static RUN: Cell<usize> = const { Cell::new(0) };
}

/// Counts that it was run, and gives the head's memory back: so one that is run twice is found.
unsafe fn run(head: *const Head) {
    RUN.set(RUN.get() + 1);
    // SAFETY: it came from a box, in `wait`.
    drop(unsafe { Box::from_raw(head.cast_mut()) });
}

/// Puts `count` new heads on the queue of `cpu`, for period `number`.
fn wait(queues: &Queues<2>, cpu: usize, number: u64, count: usize) {
    for _ in 0..count {
        let head = Box::new(Head::new());
        head.prepare(run);
        // SAFETY: the test has one thread, and no other reference is alive.
        let queue = unsafe { queues.of(cpu, &Section) };
        // SAFETY: the head is new.
        let older = unsafe { queue.push(number, Chain::of(Box::into_raw(head))) };
        assert!(older.is_empty());
        queues.lengthen(cpu, 1);
    }
}

/// Takes everything off the queue of `cpu`.
fn take(queues: &Queues<2>, cpu: usize) -> Chain {
    // SAFETY: as in `wait`.
    let all = unsafe { queues.of(cpu, &Section) }.take_due(u64::MAX);
    queues.shorten(cpu, all.heads());
    all
}

#[test]
fn what_cpus_leave_behind_is_taken_at_once_and_run_once() {
    let (queues, orphans) = (Queues::<2>::new(), Orphans::new());
    RUN.set(0);
    for count in [3, 1, 5] {
        wait(&queues, 0, 7, count);
        wait(&queues, 0, 8, count);
        orphans.put(take(&queues, 0), &Section);
    }
    orphans.put(Chain::EMPTY, &Section);
    wait(&queues, 1, 9, 2);
    // SAFETY: as in `wait`; the chain is nobody's.
    let older = unsafe { queues.of(1, &Section).push(9, orphans.take()) };
    assert!(older.is_empty() && orphans.is_empty() && orphans.take().is_empty());
    assert_eq!((queues.length(0), queues.length(1)), (0, 2), "nobody counts what was left behind again");
    let (ready, running) = (Basket::new(), Running::new());
    ready.put(take(&queues, 1));
    assert!(running.refill(&ready, &Section));
    // SAFETY: the only one who runs them.
    while unsafe { running.run_one() } {}
    assert_eq!((RUN.get(), queues.length(1)), (2 * (3 + 1 + 5) + 2, 0));
}
