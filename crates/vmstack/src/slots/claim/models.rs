//! Two CPUs with one number, and the hand that comes by.

use super::Claim;
use crate::platform::{Hint, Node};
use crate::slots::{Phase, SlotRecord};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{Ordering, fence};
use loom::thread;

struct Shared {
    record: SlotRecord,
    /// Stands for the memory of the stack: loom reports an access that no hand-over orders.
    memory: UnsafeCell<u32>,
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self { record: SlotRecord::new(), memory: UnsafeCell::new(0) })
    }

    /// With a stack in the slot.
    fn ready() -> Arc<Self> {
        let shared = Self::new();
        shared.record.set_mapped(Node::new(0), Hint::new(0));
        shared
    }

    fn write_memory(&self) {
        self.memory.with_mut(|_| ());
    }

    /// What whoever has the stack does, up to when it is nobody's.
    fn live(&self) {
        self.write_memory();
        self.record.end_life();
        fence(Ordering::SeqCst);
        self.record.make_ready();
    }

    /// Comes with the number. The generation of the stack, if there was one to be had.
    fn come(&self, owner: usize) -> Option<u32> {
        match self.record.claim_any(owner) {
            Claim::Building => {
                self.write_memory();
                self.record.note_mapping(Node::new(0), Hint::new(0));
                Some(self.record.go_live(owner))
            }
            Claim::Live(generation) => Some(generation),
            Claim::Taken(phase) => {
                assert!(!matches!(phase, Phase::Free | Phase::Ready), "refused, but it is {phase:?}");
                None
            }
        }
    }

    /// The hand comes by. True if it took the memory.
    fn reclaim(&self) -> bool {
        let claimed = self.record.claim(Phase::Ready, Phase::Retiring);
        if claimed {
            self.write_memory();
            self.record.set_phase(Phase::Free);
        }
        claimed
    }
}

/// Two CPUs come with the number, and keep the stack.
fn one_of_two(shared: &Arc<Shared>) {
    let other = Arc::clone(shared);
    let other = thread::spawn(move || {
        let got = other.come(1);
        got.inspect(|_| other.write_memory())
    });
    let mine = shared.come(2);
    if mine.is_some() {
        shared.write_memory();
    }
    let theirs = other.join().expect("nobody panics");
    let generation = mine.xor(theirs).expect("one of both has it, and not both");
    assert_eq!(shared.record.owner(), if mine.is_some() { 2 } else { 1 });
    assert_eq!((shared.record.phase(), shared.record.state().generation), (Phase::Live, generation));
}

#[test]
fn of_two_cpus_with_the_same_number_one_gets_the_stack() {
    loom::model(|| one_of_two(&Shared::ready()));
}

#[test]
fn of_two_cpus_that_find_nothing_in_the_slot_one_builds_the_stack_and_has_it() {
    loom::model(|| one_of_two(&Shared::new()));
}

#[test]
fn who_comes_after_another_finds_what_that_one_did_before() {
    loom::model(|| {
        let shared = Shared::ready();
        let lives = |shared: &Shared| u32::from(shared.come(1).inspect(|_| shared.live()).is_some());
        let other = Arc::clone(&shared);
        let other = thread::spawn(move || lives(&other));
        let lives = lives(&shared) + other.join().expect("nobody panics");
        assert_eq!((shared.record.phase(), shared.record.state().generation), (Phase::Ready, lives));
    });
}

#[test]
fn the_hand_takes_no_stack_that_somebody_has_and_nobody_gets_one_that_the_hand_has() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Shared::ready();
        let [hand, owner] = [Arc::clone(&shared), Arc::clone(&shared)];
        let hand = thread::spawn(move || hand.reclaim());
        let owner = thread::spawn(move || owner.come(1).inspect(|_| owner.live()).is_some());
        let lives = u32::from(shared.come(2).inspect(|_| shared.live()).is_some());
        let reclaimed = hand.join().expect("nobody panics");
        let lives = lives + u32::from(owner.join().expect("nobody panics"));
        let state = shared.record.state();
        assert_eq!(state.generation, lives);
        assert!(state.phase == Phase::Ready || reclaimed && state.phase == Phase::Free, "{state:?}");
    });
}
