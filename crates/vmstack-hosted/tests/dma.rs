//! Requests by chance at the door to devices, with a device that has a mapping of its own: every byte is compared, every refusal judged. And
//! tasks that stand on the stack that they ask about.

use core::alloc::Layout;
use std::alloc::alloc_zeroed;
use std::sync::Mutex;

use vmstack::{
    BounceRegion, Direction, DmaDoor, DmaError, DmaPolicy, DmaRequest, Located, Passage, PhysAddr, Refusal, Transfer,
    VirtAddr,
};
use vmstack_hosted::dma::at_random;
use vmstack_hosted::{Config, Hosted, Machine, Outcome};

#[test]
fn no_byte_is_wrong_and_no_answer_whatever_is_asked() {
    for (policy, tally) in at_random(5_000, 0x1d).expect("there is memory for a machine") {
        assert!(tally.is_good(), "{policy:?}: {tally:#?}");
        assert!(tally.requests >= 5_000 && tally.refused > 500 && tally.plain > 500, "{policy:?}: {tally:#?}");
        let (mapped, bounced) = (tally.mapped > 200, tally.bounced > 200);
        let expected = (policy == DmaPolicy::Map, policy != DmaPolicy::Refuse);
        assert_eq!((mapped, bounced), expected, "{policy:?}: {tally:#?}");
        assert!(tally.compared > 10 << 20, "{policy:?}: {tally:#?}");
        if policy != DmaPolicy::Refuse {
            assert!(tally.died > 20 && tally.lists > 50, "{policy:?}: {tally:#?}");
        }
    }
}

/// Memory for bounce buffers that no device reaches: it is for what the CPU does alone.
fn region() -> BounceRegion {
    let bytes = 256 << 10;
    // SAFETY: the size is not zero.
    let start = unsafe { alloc_zeroed(Layout::from_size_align(bytes, 4096).expect("a good layout")) };
    BounceRegion { virt: VirtAddr::new(start.expose_provenance()), phys: PhysAddr::new(1 << 40), bytes }
}

type Flying<'a> = Mutex<Option<Transfer<'a, Hosted>>>;

/// A buffer in this task's frame passes, and the transfer is left behind.
fn leave_behind<'a>(door: &'a DmaDoor<'a, Hosted>, flying: &Flying<'a>) {
    let mut local = [3_u8; 64];
    let at = VirtAddr::new((&raw mut local).expose_provenance());
    // SAFETY: the task ends; that this is found out is what the test is about.
    let passed = unsafe { door.pass(&DmaRequest::new(at, 64, Direction::FromDevice)) };
    *flying.lock().expect("nobody panics") = Some(passed.expect("it bounces"));
}

fn slot_of_this_task(door: &DmaDoor<'_, Hosted>) -> u32 {
    let here = 0_u8;
    match door.locate(VirtAddr::of(&raw const here), 1) {
        Located::Stack(span) => span.stack.slot,
        other => panic!("a task stands on a stack: {other:?}"),
    }
}

#[test]
fn who_stands_on_a_later_life_of_a_stack_does_not_finish_for_an_earlier_one() {
    let machine = Machine::new(&Config::new(2, 64 << 10)).expect("there is memory");
    let areas = [machine.area()];
    let door = DmaDoor::new(machine.area().platform(), &areas);
    door.set_policy(DmaPolicy::Bounce);
    // SAFETY: the region was just allocated, and is never freed.
    unsafe { door.fill_pool(&region()) }.expect("the region is good");
    door.look();
    let (flying, slots, ended) = (Flying::new(None), Mutex::new(Vec::new()), Mutex::new(None::<Result<(), DmaError>>));
    let cpu = machine.cpu().expect("there is one");
    let first = || {
        slots.lock().expect("nobody panics").push(slot_of_this_task(&door));
        leave_behind(&door, &flying);
    };
    let second = || {
        slots.lock().expect("nobody panics").push(slot_of_this_task(&door));
        let transfer = flying.lock().expect("nobody panics").take().expect("it was left");
        assert_eq!(transfer.passage(), Passage::Bounced);
        // SAFETY: there is no device.
        *ended.lock().expect("nobody panics") = Some(unsafe { transfer.finish() });
    };
    // SAFETY: nothing points into the stacks of these tasks, and the door finds out.
    unsafe { cpu.spawn("first", first) }.expect("there is a stack");
    assert!(matches!(cpu.run()[0].outcome, Outcome::Finished));
    // SAFETY: as above.
    unsafe { cpu.spawn("second", second) }.expect("there is a stack");
    assert!(matches!(cpu.run()[0].outcome, Outcome::Finished));
    let slots = slots.lock().expect("nobody panics");
    assert_eq!(slots[0], slots[1], "the same stack, in another life");
    let ended = ended.lock().expect("nobody panics").take().expect("it was finished");
    assert_eq!(ended.expect_err("its task is dead").refusal, Refusal::Gone);
    assert_eq!((door.counters().gone, door.pool_usage().in_use), (1, 0));
}
