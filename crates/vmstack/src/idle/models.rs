//! The hand looks at a record while its holder makes the stack idle, in a chunk that had another idle one before.

use super::{IDLE, note, take};
use crate::platform::{Hint, Node};
use crate::slots::{Phase, SlotRecord};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU8, Ordering, fence};
use loom::thread;

struct Chunk {
    byte: AtomicU8,
    record: SlotRecord,
}

impl Chunk {
    /// What the hand does to a chunk, as in `hand`. True if it has claimed the stack.
    fn look(&self) -> bool {
        if !take(&self.byte) {
            return false;
        }
        let phase = self.record.phase();
        let claimed = phase == Phase::Ready && self.record.claim(Phase::Ready, Phase::Retiring);
        if !claimed && phase.is_idle_soon() {
            note(&self.byte);
        }
        claimed
    }
}

/// `holder` makes the stack of the chunk idle, from what it is after `before`, and the hand comes by.
fn none_is_forgotten(before: fn(&SlotRecord), holder: fn(&Chunk)) {
    loom::model(move || {
        let chunk = Arc::new(Chunk { byte: AtomicU8::new(IDLE), record: SlotRecord::new() });
        chunk.record.set_mapped(Node::new(0), Hint::new(0));
        before(&chunk.record);
        let other = Arc::clone(&chunk);
        let other = thread::spawn(move || holder(&other));
        let claimed = chunk.look();
        other.join().expect("nobody panics");
        let noted = chunk.byte.load(Ordering::Relaxed) == IDLE;
        assert!(claimed || noted, "an idle stack that no hand finds");
    });
}

#[test]
fn a_stack_that_is_given_back_meanwhile_is_found() {
    let alive = |record: &SlotRecord| assert_ne!(record.hand_out(1), 0);
    none_is_forgotten(alive, |chunk| {
        chunk.record.end_life();
        fence(Ordering::SeqCst);
        note(&chunk.byte);
        chunk.record.make_ready();
    });
}

#[test]
fn a_stack_that_is_recovered_meanwhile_is_found() {
    none_is_forgotten(
        |_| (),
        |chunk| {
            if chunk.record.claim(Phase::Ready, Phase::Recovering) {
                note(&chunk.byte);
                chunk.record.set_phase(Phase::Ready);
            }
        },
    );
}
