//! Any address with any stack pointer: what it is, who is named, and what to do.

#![expect(clippy::unwrap_used, clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]

mod fake;

use fake::{Fake, Flush};
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use vmstack::{
    Cpu, ExternalStack, FaultContext, Finding, Geometry, KernelStack, Platform, RegisterError, StackArea, StackKind,
    Verdict, VirtAddr,
};

const MIB: usize = 1 << 20;
const SIZE: usize = 16 << 10;
const SLOTS: usize = 4;

type Area<'f> = StackArea<&'f Fake>;

fn fake() -> Fake {
    Fake::new(2, 64, 4 * MIB, Flush::Now)
}

fn area_of_kind(fake: &Fake, kind: StackKind) -> Area<'_> {
    let area = StackArea::new(fake);
    // The fake's memory is this area's alone.
    unsafe { area.init(&fake.config(SLOTS, SIZE).kind(kind)) }.expect("the area is initialised");
    area
}

fn all_stacks<'f>(area: &'f Area<'f>) -> Vec<KernelStack<'f, &'f Fake>> {
    (0..SLOTS).map(|i| area.alloc(100 + i).unwrap()).collect()
}

fn context() -> FaultContext {
    FaultContext::new(Cpu::new(1), VirtAddr::new(0x1234))
}

fn killed(verdict: Verdict) -> vmstack::StackFault {
    match verdict {
        Verdict::Kill(fault) => fault,
        other => panic!("{other:?} is not a kill"),
    }
}

#[test]
fn each_finding_is_told_from_the_others() {
    let fake = fake();
    let area = area_of_kind(&fake, StackKind::Task);
    let stacks = all_stacks(&area);
    let (low, mid, far) = (&stacks[0], &stacks[1], &stacks[3]);
    let (bottom, top) = (mid.bottom(), mid.top());
    let cases = [
        // (name, address, stack pointer, finding)
        ("a push at the very bottom", bottom.wrapping_sub(8), bottom, Finding::OverflowWalked),
        ("a push, pointer already lowered", bottom.wrapping_sub(8), bottom.wrapping_sub(8), Finding::OverflowWalked),
        ("a leaf below its pointer", bottom.wrapping_sub(64), bottom.wrapping_add(32), Finding::OverflowWalked),
        ("a probe of a big frame", bottom.wrapping_sub(4096), bottom.wrapping_sub(4096), Finding::OverflowWalked),
        ("a big frame without probes", bottom.wrapping_sub(6000), bottom.wrapping_sub(6100), Finding::OverflowJumped),
        ("its local far above", bottom.wrapping_sub(100), bottom.wrapping_sub(8000), Finding::OverflowJumped),
        ("a pop from an empty stack", top, top, Finding::Underflow),
        ("a pop above the top", top.wrapping_add(16), top.wrapping_add(8), Finding::Underflow),
        ("a read just above a healthy stack", top, top.wrapping_sub(64), Finding::Underflow),
        ("a read below a healthy stack", bottom.wrapping_sub(1), bottom.wrapping_add(9000), Finding::WildPointer),
        ("a read above a healthy stack", top, bottom.wrapping_add(1000), Finding::WildPointer),
        ("the guard of another stack", far.bottom().wrapping_sub(8), top.wrapping_sub(64), Finding::OtherGuard),
        (
            "the guard of the stack just above",
            far.bottom().wrapping_sub(8),
            stacks[2].bottom().wrapping_add(64),
            Finding::OtherGuard,
        ),
        ("the guard of the stack just below", low.top().wrapping_add(8), top.wrapping_sub(64), Finding::OtherGuard),
        ("the same, off its own stack", far.bottom().wrapping_sub(8), bottom.wrapping_sub(64), Finding::OtherGuard),
        ("a guard from nowhere", bottom.wrapping_sub(8), VirtAddr::new(0x7fff_0000), Finding::WildPointer),
        ("inside a stack", low.bottom().wrapping_add(8), top.wrapping_sub(64), Finding::InsideStack),
        ("null", VirtAddr::new(0), top.wrapping_sub(64), Finding::Outside),
        ("the highest address", VirtAddr::new(usize::MAX), top.wrapping_sub(64), Finding::Outside),
    ];
    for (name, address, sp, finding) in cases {
        assert_eq!(area.classify(address, sp), finding, "{name}");
    }
}

#[test]
fn the_first_and_the_last_slot_have_guards_of_their_own() {
    let fake = fake();
    let area = area_of_kind(&fake, StackKind::Task);
    let stacks = all_stacks(&area);
    let (first, last) = (&stacks[0], &stacks[SLOTS - 1]);
    let below = killed(area.on_fault(first.bottom().wrapping_sub(8), first.bottom(), &context()));
    assert_eq!((below.finding, below.stack.owner, below.neighbour.exists()), (Finding::OverflowWalked, 100, false));
    let above = killed(area.on_fault(last.top(), last.top(), &context()));
    assert_eq!((above.finding, above.stack.owner, above.neighbour.exists()), (Finding::Underflow, 103, false));
}

#[test]
fn an_address_between_two_stacks_names_both_and_the_one_that_the_pointer_speaks_for() {
    let fake = fake();
    let area = area_of_kind(&fake, StackKind::Task);
    let stacks = all_stacks(&area);
    let (low, high) = (&stacks[1], &stacks[2]);
    let overflow = killed(area.on_fault(high.bottom().wrapping_sub(24), high.bottom().wrapping_add(8), &context()));
    assert_eq!((overflow.stack.owner, overflow.neighbour.owner, overflow.beyond), (102, 101, 24));
    let underflow = killed(area.on_fault(low.top().wrapping_add(8), low.top().wrapping_add(8), &context()));
    assert_eq!((underflow.stack.owner, underflow.neighbour.owner, underflow.beyond), (101, 102, 9));
    let other = killed(area.on_fault(high.bottom().wrapping_sub(8), stacks[0].bottom().wrapping_add(64), &context()));
    assert_eq!((other.finding, other.stack.owner, other.neighbour.owner), (Finding::OtherGuard, 100, 102));
}

#[test]
fn a_stack_pointer_that_speaks_for_nobody_names_no_stack_but_the_neighbour() {
    let fake = fake();
    let area = area_of_kind(&fake, StackKind::Task);
    let stacks = all_stacks(&area);
    let (bottom, top) = (stacks[1].bottom(), stacks[1].top());
    let nowhere = VirtAddr::new(0x7fff_0000);
    let fault = killed(area.on_fault(bottom.wrapping_sub(8), nowhere, &context()));
    assert_eq!((fault.finding, fault.beyond), (Finding::WildPointer, 8));
    assert_eq!((fault.stack.exists(), fault.neighbour.owner), (false, 101));
    let expected = format!(
        "BUG: TASK stack guard page was hit at {} (stack is {bottom}..{top})\n\
         wild pointer: 8 bytes below the bottom of the stack of task 101\n\
         stack pointer {nowhere}, on no stack of the area\n\
         cpu 1, instruction 0000000000001234, slot 1 life 1, guard 16384 bytes",
        bottom.wrapping_sub(8),
    );
    assert_eq!(area.report(&fault).to_string(), expected);
    let above = killed(area.on_fault(top.wrapping_add(99), nowhere, &context()));
    assert_eq!((above.stack.exists(), above.neighbour.owner, above.beyond), (false, 101, 100));
    assert!(area.report(&above).to_string().contains("100 bytes above the top of the stack of task 101"));
}

#[test]
fn a_stack_pointer_off_its_stack_still_speaks_for_it() {
    let fake = fake();
    let area = area_of_kind(&fake, StackKind::Task);
    let stacks = all_stacks(&area);
    let guilty = &stacks[3];
    let pointer = guilty.bottom().wrapping_sub(16);
    let address = stacks[1].bottom().wrapping_sub(8);
    let fault = killed(area.on_fault(address, pointer, &context()));
    assert_eq!((fault.finding, fault.beyond), (Finding::OtherGuard, 8));
    assert_eq!((fault.stack.owner, fault.neighbour.owner), (103, 101));
}

#[test]
fn a_record_that_was_never_made_is_seen_as_such() {
    let fake = fake();
    let area = area_of_kind(&fake, StackKind::Task);
    let geometry = *area.geometry().unwrap();
    let bottom = geometry.bottom(geometry.slot(2).unwrap());
    let fault = killed(area.on_fault(bottom.wrapping_sub(8), bottom, &context()));
    assert_eq!((fault.stack.known, fault.stack.slot, fault.stack.owner), (0, 2, 0));
    assert!(area.report(&fault).to_string().contains("a slot that was never used"));
    let stack = area.alloc(1).unwrap();
    let fault = killed(area.on_fault(stack.top(), stack.top(), &context()));
    assert_eq!((fault.neighbour.known, fault.neighbour.slot), (1, 1), "made with its neighbour's");
    assert!(area.report(&fault).to_string().ends_with(", a slot that was never used"));
    assert!(area.report(&fault).to_string().contains("underflow: 1 byte above the top of the stack of task 1\n"));
}

#[test]
fn a_stack_that_nobody_uses_is_not_touched_with_impunity() {
    let fake = fake();
    let area = area_of_kind(&fake, StackKind::Task);
    let stack = area.alloc(5).unwrap();
    let inside = stack.bottom().wrapping_add(8);
    assert_eq!(area.on_fault(inside, stack.top(), &context()), Verdict::Resume, "live and mapped: a spurious fault");
    let protection = context().protection(true);
    assert_eq!(killed(area.on_fault(inside, stack.top(), &protection)).finding, Finding::InsideStack);
    drop(stack);
    let fault = killed(area.on_fault(inside, inside, &context()));
    assert!(area.report(&fault).to_string().contains("a stack that nobody uses, last of task 5"));
}

#[test]
fn nobody_is_killed_on_an_emergency_stack_or_where_nobody_can_be() {
    let fake = fake();
    let area = area_of_kind(&fake, StackKind::Emergency);
    let stack = area.alloc(0).unwrap();
    let verdict = area.on_fault(stack.bottom().wrapping_sub(8), stack.bottom(), &context());
    assert!(matches!(verdict, Verdict::Stop(_)), "{verdict:?}");
    let tasks_memory = self::fake();
    let tasks = area_of_kind(&tasks_memory, StackKind::Task);
    let stack = tasks.alloc(0).unwrap();
    let init = context().indispensable(true);
    assert!(matches!(tasks.on_fault(stack.bottom().wrapping_sub(8), stack.bottom(), &init), Verdict::Stop(_)));
}

#[test]
fn an_area_that_is_not_initialised_owns_no_fault() {
    let fake = fake();
    let area: Area<'_> = StackArea::new(&fake);
    assert_eq!(area.on_fault(fake.range().start(), VirtAddr::new(0), &context()), Verdict::NotOurs);
}

#[test]
fn a_registered_stack_is_named_too() {
    let fake = fake();
    let area = area_of_kind(&fake, StackKind::Task);
    let (bottom, top) = (VirtAddr::new(0x10_0000), VirtAddr::new(0x10_4000));
    let boot = ExternalStack { bottom, top, guard_bytes: 4096, kind: StackKind::Boot, owner: 9 };
    area.register(&boot).unwrap();
    let fault = killed(area.on_fault(bottom.wrapping_sub(8), bottom, &context()));
    assert_eq!((fault.finding, fault.beyond, fault.stack.owner), (Finding::OverflowWalked, 8, 9));
    assert!(area.report(&fault).to_string().starts_with("BUG: BOOT stack guard page was hit at 00000000000ffff8"));
    assert_eq!(area.on_fault(bottom.wrapping_sub(5000), bottom, &context()), Verdict::NotOurs);
    assert_eq!(killed(area.on_fault(top, top, &context())).finding, Finding::Underflow);
    let bad = ExternalStack { bottom: top, top: bottom, ..boot };
    assert_eq!(area.register(&bad), Err(RegisterError::BadBounds { bottom: top, top: bottom }));
    (1..16).for_each(|_| area.register(&boot).unwrap());
    assert_eq!(area.register(&boot), Err(RegisterError::Full { max: 16 }));
    assert_eq!(area.register(&boot), Err(RegisterError::Full { max: 16 }));
}

fn registered(area: &Area<'_>, bottom: usize, owner: usize) -> ExternalStack {
    let (bottom, top) = (VirtAddr::new(bottom), VirtAddr::new(bottom + 0x4000));
    let stack = ExternalStack { bottom, top, guard_bytes: 4096, kind: StackKind::Boot, owner };
    area.register(&stack).unwrap();
    stack
}

#[test]
fn of_two_adjacent_registered_stacks_the_one_is_named_that_the_pointer_speaks_for() {
    let fake = fake();
    let area = area_of_kind(&fake, StackKind::Task);
    // The page between them is the guard of both, whichever was registered first.
    for base in [0x10_0000, 0x20_0000] {
        let (first, second) = if base == 0x10_0000 { (0, 0x5000) } else { (0x5000, 0) };
        registered(&area, base + first, first);
        registered(&area, base + second, second);
        let (top, bottom) = (VirtAddr::new(base + 0x4000), VirtAddr::new(base + 0x5000));
        let seen = |address: VirtAddr, sp: VirtAddr| {
            let fault = killed(area.on_fault(address, sp, &context()));
            (fault.finding, fault.stack.owner, fault.beyond)
        };
        assert_eq!(seen(bottom.wrapping_sub(8), bottom), (Finding::OverflowWalked, 0x5000, 8));
        assert_eq!(seen(bottom.wrapping_sub(8), bottom.wrapping_sub(8)), (Finding::OverflowWalked, 0x5000, 8));
        assert_eq!(seen(top, top.wrapping_sub(8)), (Finding::Underflow, 0, 1));
        assert_eq!(seen(top.wrapping_add(8), top), (Finding::Underflow, 0, 9));
        let nobody = killed(area.on_fault(top, VirtAddr::new(0x7fff_0000), &context()));
        assert_eq!((nobody.finding, nobody.neighbour.owner), (Finding::WildPointer, first), "the first match");
    }
}

#[test]
fn a_registered_stack_whose_guard_is_touched_from_elsewhere_is_the_neighbour() {
    let fake = fake();
    let area = area_of_kind(&fake, StackKind::Task);
    let boot = registered(&area, 0x10_0000, 9);
    let stack = area.alloc(7).unwrap();
    let address = boot.bottom.wrapping_sub(8);
    let task = killed(area.on_fault(address, stack.top().wrapping_sub(64), &context()));
    assert_eq!((task.finding, task.stack.owner, task.neighbour.owner), (Finding::OtherGuard, 7, 9));
    let nobody = killed(area.on_fault(address, VirtAddr::new(0x7fff_0000), &context()));
    assert_eq!((nobody.finding, nobody.stack.exists(), nobody.neighbour.owner), (Finding::WildPointer, false, 9));
    let text = area.report(&nobody).to_string();
    let bounds = format!("(stack is {}..{})", boot.bottom, boot.top);
    assert!(text.contains(&bounds) && text.ends_with("registered stack, guard 4096 bytes"), "{text}");
    let healthy = killed(area.on_fault(address, boot.top.wrapping_sub(64), &context()));
    assert_eq!((healthy.finding, healthy.stack.owner), (Finding::WildPointer, 9));
}

#[test]
fn the_text_has_the_owner_the_bounds_the_distance_the_kind_and_both_sides() {
    let fake = fake();
    let area = area_of_kind(&fake, StackKind::Task);
    let stacks = all_stacks(&area);
    let (low, high) = (&stacks[0], &stacks[1]);
    let (bottom, top) = (high.bottom(), high.top());
    let fault = killed(area.on_fault(bottom.wrapping_sub(8), bottom, &context()));
    let expected = format!(
        "BUG: TASK stack guard page was hit at {} (stack is {bottom}..{top})\n\
         overflow, walked down: 8 bytes below the bottom of the stack of task 101\n\
         stack pointer {bottom}, inside the stack, 0 bytes above its bottom\n\
         cpu 1, instruction 0000000000001234, slot 1 life 1, guard 16384 bytes\n\
         on the other side of the guard: {}..{}, the stack of task 100",
        bottom.wrapping_sub(8),
        low.bottom(),
        low.top(),
    );
    assert_eq!(area.report(&fault).to_string(), expected);
}

#[test]
fn the_text_says_where_the_stack_pointer_was() {
    let fake = fake();
    let area = area_of_kind(&fake, StackKind::Task);
    let stacks = all_stacks(&area);
    let (bottom, top) = (stacks[1].bottom(), stacks[1].top());
    for (address, sp, expected) in [
        (bottom.wrapping_sub(8), bottom.wrapping_add(24), "inside the stack, 24 bytes above its bottom"),
        (bottom.wrapping_sub(8), bottom.wrapping_sub(8), "in the guard of the stack, 8 bytes below its bottom"),
        (
            bottom.wrapping_sub(8000),
            bottom.wrapping_sub(8100),
            "in the guard of the stack, 8100 bytes below its bottom",
        ),
        (top, top, "at the top of the stack"),
        (top.wrapping_add(8), top.wrapping_add(16), "in the guard of the stack, 16 bytes above its top"),
        (bottom.wrapping_sub(8), VirtAddr::new(0x7fff_0000), "on no stack of the area"),
    ] {
        let text = area.report(&killed(area.on_fault(address, sp, &context()))).to_string();
        let line = text.lines().nth(2).unwrap();
        assert_eq!(line, format!("stack pointer {sp}, {expected}"), "{text}");
    }
    let other = context().protection(true);
    let text = area.report(&killed(area.on_fault(stacks[3].bottom(), top, &other))).to_string();
    assert!(text.starts_with("BUG: TASK stack was touched at "), "{text}");
    assert!(text.contains(&format!("stack pointer {top}, elsewhere\n")), "{text}");
}

#[test]
fn who_touches_the_guard_of_another_has_not_overflowed() {
    let fake = fake();
    let area = area_of_kind(&fake, StackKind::Task);
    let stacks = all_stacks(&area);
    let (mine, other) = (&stacks[0], &stacks[2]);
    let sp = mine.top().wrapping_sub(96);
    let below = killed(area.on_fault(other.bottom().wrapping_sub(8), sp, &context()));
    let expected = format!(
        "BUG: TASK stack guard page was hit at {} (stack is {}..{})\n\
         another stack's guard: 8 bytes below the bottom of the stack of task 102\n\
         stack pointer {sp}, inside another stack, {} bytes above its bottom\n\
         cpu 1, instruction 0000000000001234, slot 2 life 1, guard 16384 bytes\n\
         touched by code on {}..{}, the stack of task 100",
        other.bottom().wrapping_sub(8),
        other.bottom(),
        other.top(),
        SIZE - 96,
        mine.bottom(),
        mine.top(),
    );
    assert_eq!(area.report(&below).to_string(), expected);
    let above = killed(area.on_fault(other.top().wrapping_add(7), sp, &context()));
    assert_eq!((above.finding, above.beyond, above.subject().owner), (Finding::OtherGuard, 8, 102));
    let text = area.report(&above).to_string();
    assert!(text.contains("another stack's guard: 8 bytes above the top of the stack of task 102\n"), "{text}");
}

#[test]
fn on_an_interrupt_or_nmi_stack_the_handler_pays_and_the_word_is_the_kinds() {
    for (kind, word) in [(StackKind::Interrupt, "IRQ"), (StackKind::Nmi, "NMI"), (StackKind::Idle, "IDLE")] {
        let fake = fake();
        let area = area_of_kind(&fake, kind);
        let stack = area.alloc(0).unwrap();
        let fault = killed(area.on_fault(stack.bottom().wrapping_sub(8), stack.bottom(), &context()));
        assert_eq!(fault.subject().stack_kind(), kind);
        assert!(area.report(&fault).to_string().starts_with(&format!("BUG: {word} stack guard page was hit at ")));
    }
}

#[test]
fn each_fault_is_counted_once() {
    let fake = fake();
    let area = area_of_kind(&fake, StackKind::Task);
    let stack = area.alloc(1).unwrap();
    for n in 1..4 {
        let fault = killed(area.on_fault(stack.bottom().wrapping_sub(8), stack.bottom(), &context()));
        assert_eq!(fault.sequence, n);
    }
    assert_eq!(area.on_fault(VirtAddr::new(0), stack.bottom(), &context()), Verdict::NotOurs);
}

/// What an address is, found the slow way: by looking at every stack.
fn is_guard(geometry: &Geometry, addr: VirtAddr) -> Option<bool> {
    let stacks = || (0..SLOTS).filter_map(|i| geometry.slot(i));
    if !geometry.slot_range().contains(addr) {
        return None;
    }
    Some(!stacks().any(|slot| geometry.bottom(slot) <= addr && addr < geometry.top(slot)))
}

proptest! {
    #[test]
    fn any_address_with_any_stack_pointer_is_classified(
        address in 0..SLOTS * 2 * SIZE + 8 * SIZE,
        sp in 0..SLOTS * 2 * SIZE + 8 * SIZE,
        wild in any::<usize>(),
        anywhere in 0..4,
    ) {
        let fake = fake();
        let area = area_of_kind(&fake, StackKind::Task);
        let _stacks = all_stacks(&area);
        let geometry = *area.geometry().unwrap();
        let near = |offset| geometry.slot_range().start().wrapping_sub(4 * SIZE).wrapping_add(offset);
        let address = if anywhere == 1 { VirtAddr::new(wild) } else { near(address) };
        let sp = if anywhere == 2 { VirtAddr::new(wild) } else { near(sp) };
        let finding = area.classify(address, sp);
        match is_guard(&geometry, address) {
            None => prop_assert_eq!(finding, Finding::Outside),
            Some(false) => prop_assert_eq!(finding, Finding::InsideStack),
            Some(true) => prop_assert!(!matches!(finding, Finding::Outside | Finding::InsideStack)),
        }
        let overflow = matches!(finding, Finding::OverflowWalked | Finding::OverflowJumped);
        if overflow || finding == Finding::Underflow {
            let fault = killed(area.on_fault(address, sp, &context()));
            let (bottom, top) = (fault.stack.bottom, fault.stack.top);
            prop_assert_eq!(overflow, address < bottom);
            prop_assert!(sp.get() >= bottom.get() - geometry.guard() && sp.get() < top.get() + geometry.guard());
            let distance = if overflow { bottom.get() - address.get() } else { address.get() - top.get() + 1 };
            prop_assert_eq!(fault.beyond, distance);
        }
        prop_assert!((&fake).translate(address).is_none() || finding == Finding::InsideStack || finding == Finding::Outside);
    }
}
