//! Models of what CPUs do to a record at the same time, checked by loom in every order (`--cfg loom`).

use super::{Home, SlotRecord};
use crate::platform::{Hint, Node};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{Ordering, fence};
use loom::thread;

const FIRST_LIFE: u32 = 1;

struct Shared {
    record: SlotRecord,
    /// Stands for the memory of a stack: loom reports an access that no hand-over orders.
    memory: UnsafeCell<u32>,
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self { record: SlotRecord::new(), memory: UnsafeCell::new(0) })
    }

    fn read_memory(&self) {
        self.memory.with(|_| ());
    }

    fn write_memory(&self) {
        self.memory.with_mut(|_| ());
    }

    /// Looks at the stack of the first life. True if it was left to this reader.
    fn read(&self) -> bool {
        match self.record.pin(FIRST_LIFE) {
            Ok(()) => {
                self.read_memory();
                self.record.unpin()
            }
            Err(refused) => refused.last,
        }
    }

    /// What whoever holds the stack does next: gives it to somebody who writes.
    fn reuse(&self) {
        self.write_memory();
        self.record.make_ready();
    }

    /// A life of the stack, up to its end. True if the owner, and no reader, holds it after that.
    fn live(&self) -> bool {
        self.record.set_mapped(Node::new(0), Hint::new(0));
        self.write_memory();
        assert_eq!(self.record.hand_out(7), FIRST_LIFE);
        self.record.end_life();
        // What `Platform::handed_over` is.
        fence(Ordering::SeqCst);
        self.record.is_plain(Home::new(Node::new(0))) || !self.record.leave_to_pins()
    }
}

/// One owner and `readers` readers: the stack is held by one of them in the end, after all others are done with it.
fn exactly_one_is_last(readers: usize) {
    let shared = Shared::new();
    let reader = |_| {
        let reader = Arc::clone(&shared);
        thread::spawn(move || {
            let last = reader.read();
            if last {
                reader.reuse();
            }
            usize::from(last)
        })
    };
    let readers: Vec<_> = (0..readers).map(reader).collect();
    let owner_was_last = shared.live();
    if owner_was_last {
        shared.reuse();
    }
    let others: usize = readers.into_iter().map(|reader| reader.join().expect("a reader does not panic")).sum();
    assert_eq!(usize::from(owner_was_last) + others, 1, "the stack is given back once, by the last");
}

#[test]
fn exactly_one_of_owner_and_pin_is_last_and_it_comes_after_the_other() {
    loom::model(|| exactly_one_is_last(1));
}

#[test]
fn so_it_is_with_two_pins() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| exactly_one_is_last(2));
}

/// A second life of the stack, for the owner who holds it after the first. True if he holds it after that one too.
fn live_again(shared: &Shared) -> bool {
    shared.reuse();
    shared.record.hand_out(8);
    shared.record.end_life();
    fence(Ordering::SeqCst);
    shared.record.is_plain(Home::new(Node::new(0))) || !shared.record.leave_to_pins()
}

#[test]
fn a_reader_of_the_first_life_that_comes_late_gives_the_second_back_at_most_once() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Shared::new();
        let readers = [FIRST_LIFE, FIRST_LIFE + 1].map(|life| {
            let reader = Arc::clone(&shared);
            thread::spawn(move || {
                let last = match reader.record.pin(life) {
                    Ok(()) => {
                        reader.read_memory();
                        reader.record.unpin()
                    }
                    Err(refused) => refused.last,
                };
                if last {
                    reader.reuse();
                }
                usize::from(last)
            })
        });
        let lives = if shared.live() { 2 } else { 1 };
        let owner = if lives == 2 { 1 + usize::from(live_again(&shared)) } else { 0 };
        if owner == 2 {
            shared.reuse();
        }
        let others: usize = readers.into_iter().map(|reader| reader.join().expect("a reader does not panic")).sum();
        assert_eq!(owner + others, lives, "each life is given back once");
    });
}
