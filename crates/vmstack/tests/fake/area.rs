//! An area on the fake platform, and what must hold of it.

use core::sync::atomic::Ordering;

use super::Fake;
use vmstack::{KernelStack, Placement, StackArea};

/// The stacks of these tests, in bytes.
pub(crate) const SIZE: usize = 16 << 10;

pub(crate) type Area<'f> = StackArea<&'f Fake>;
pub(crate) type Stack<'f> = KernelStack<'f, &'f Fake>;

pub(crate) fn area_of(fake: &Fake, slots: usize) -> Area<'_> {
    let area = StackArea::new(fake);
    // The fake's memory is this area's alone.
    unsafe { area.init(&fake.config(slots, SIZE)) }.expect("the area is initialised");
    area
}

/// As [`area_of`], with a slot for each number.
pub(crate) fn numbered_area_of(fake: &Fake, slots: usize) -> Area<'_> {
    let area = StackArea::new(fake);
    // As above.
    unsafe { area.init(&fake.config(slots, SIZE).placement(Placement::Numbered)) }.expect("the area is initialised");
    area
}

pub(crate) fn assert_guarded(fake: &Fake, stack: &KernelStack<'_, &Fake>) {
    assert!(!fake.is_mapped(stack.bottom().wrapping_sub(1)), "INV-GUARD below");
    assert!(!fake.is_mapped(stack.top()), "INV-GUARD above");
    assert!(fake.is_mapped(stack.bottom()) && fake.is_mapped(stack.top().wrapping_sub(1)));
}

/// What must hold when nothing runs: the bytes that the counters say are held are those of the stacks that are ready (INV-COUNT).
pub(crate) fn assert_held_is_right(area: &Area<'_>) {
    let (counters, recount) = (area.counters(), area.recount());
    assert_eq!(counters.held, (recount.ready * SIZE) as u64, "INV-COUNT: {counters:?} {recount:?}");
    assert_eq!(recount.miscounted, 0, "INV-COUNT: {recount:?}");
}

/// Each of the fake's `cpus` CPUs leaves what it keeps, and all of it goes back.
pub(crate) fn give_everything_back(fake: &Fake, area: &Area<'_>, cpus: usize) {
    fake.fail_in.store(-1, Ordering::Relaxed);
    for cpu in 0..cpus {
        fake.run_on(cpu);
        area.leave_cpu();
        assert_held_is_right(area);
    }
    area.drain();
}
