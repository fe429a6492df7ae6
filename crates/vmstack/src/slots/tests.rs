//! Records, one CPU at a time.

use super::{Hold, Home, Phase, PinError, Refused, SlotRecord};
use crate::platform::{Hint, Node};

const HERE: Node = Node::new(3);

/// The record of a stack that is mapped and ready.
fn ready() -> SlotRecord {
    let record = SlotRecord::new();
    record.set_mapped(HERE, Hint::new(0x1000));
    record
}

#[test]
fn a_pin_holds_the_stack_past_its_owner() {
    let record = ready();
    let generation = record.hand_out(7);
    assert_eq!(record.pin(generation), Ok(()));
    record.end_life();
    assert!(!record.is_plain(Home::new(HERE)), "it is pinned");
    assert!(record.leave_to_pins(), "the owner is not the last");
    assert_eq!(record.phase(), Phase::Pinned);
    let gone = Refused { reason: PinError::Gone, last: false };
    assert_eq!(record.pin(generation), Err(gone), "no pin is had any more, and the other one stays");
    assert!(record.unpin(), "the pin is the last");
    assert_eq!(record.phase(), Phase::Dead);
}

#[test]
fn a_pin_for_an_earlier_life_is_refused() {
    let record = ready();
    let first = record.hand_out(1);
    record.end_life();
    record.make_ready();
    let second = record.hand_out(2);
    assert_eq!(second, first + 1);
    assert_eq!(record.pin(first), Err(Refused { reason: PinError::Gone, last: false }));
    assert_eq!(record.pin(second), Ok(()));
}

#[test]
fn generations_wrap_and_leave_the_phase_alone() {
    let record = ready();
    record.life.store(u32::MAX << super::PHASE_BITS | Phase::Ready as u32, core::sync::atomic::Ordering::Relaxed);
    assert_eq!(record.hand_out(1), 0);
    assert_eq!(record.phase(), Phase::Live);
}

#[test]
fn there_are_only_so_many_pins_and_the_one_too_many_changes_nothing() {
    let record = ready();
    let generation = record.hand_out(1);
    (0..super::MOST_PINS).for_each(|_| record.pin(generation).expect("there is room"));
    let refused = Refused { reason: PinError::TooManyPins, last: false };
    assert_eq!(record.pin(generation), Err(refused));
    assert_eq!(record.pin(generation), Err(refused));
}

#[test]
fn what_was_noted_is_seen_when_the_stack_comes_back_and_its_node_is_kept() {
    let record = ready();
    let plain = Hold { pinned: false, written: false, deep: false, node: HERE };
    assert!(record.is_plain(Home::new(HERE)) && !record.is_plain(Home::new(Node::new(0))));
    record.mark_written();
    assert_eq!(record.hold(), Hold { written: true, ..plain });
    record.mark_deep();
    assert_eq!(record.hold(), Hold { written: true, deep: true, ..plain });
    assert!(!record.is_plain(Home::new(HERE)));
    record.unmark_written();
    assert_eq!(record.hold(), Hold { deep: true, ..plain });
    record.unmark_deep();
    assert_eq!(record.hold(), plain);
}

#[test]
fn a_slot_that_is_mapped_again_may_lie_on_another_node() {
    let record = ready();
    record.set_phase(Phase::Free);
    record.set_mapped(Node::new(1), Hint::new(7));
    assert_eq!((record.hold().node, record.hint()), (Node::new(1), Hint::new(7)));
}
