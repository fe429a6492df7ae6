//! Real overflows: the MMU catches each, the task is killed, and everything else goes on.

#![expect(clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]

use core::cell::Cell;
use core::hint::black_box;
use std::sync::Barrier;

use vmstack::{Finding, Phase};
use vmstack_hosted::story::{self, balance, recurse};
use vmstack_hosted::{Config, CpuError, Death, Ended, Machine, Outcome, SpawnError, yield_now};

const SIZE: usize = 16 << 10;

fn overflow() {
    black_box(recurse(1));
}

#[inline(never)]
fn big_frame() {
    black_box(&mut [1_u8; 64 << 10]);
}

fn killed(ended: &Ended) -> &Death {
    match &ended.outcome {
        Outcome::Killed(death) => death,
        other => panic!("{} was not killed: {other:?}", ended.name),
    }
}

fn finished(ended: &[Ended]) -> usize {
    ended.iter().filter(|ended| ended.outcome == Outcome::Finished).count()
}

/// Nothing is held but the area's own records, and no guard is open.
fn assert_balanced(machine: &Machine) {
    let balance = balance(machine);
    assert_eq!(balance.frames_taken, balance.record_frames, "{balance:?}");
    assert_eq!((balance.slots_held, balance.slots_leaked, balance.open_guard_pages), (0, 0, Some(0)), "{balance:?}");
    assert_eq!(machine.area().recount().miscounted, 0);
}

#[test]
fn an_overflow_is_reported_once_with_its_owner_and_the_others_go_on() {
    let machine = Machine::new(&Config::new(8, SIZE)).unwrap();
    let rounds = Cell::new(0);
    {
        let cpu = machine.cpu().unwrap();
        for name in ["before", "guilty", "after"] {
            let rounds = &rounds;
            let body = move || {
                for _ in 0..10 {
                    yield_now();
                    rounds.set(rounds.get() + 1);
                    if name == "guilty" {
                        overflow();
                    }
                }
            };
            unsafe { cpu.spawn(name, body) }.unwrap();
        }
        let ended = cpu.run();
        assert_eq!((ended.len(), finished(&ended), rounds.get()), (3, 2, 21));
        assert_eq!(ended[0].name, "guilty");
        let death = killed(&ended[0]);
        assert_eq!((death.fault.finding, death.fault.sequence), (Finding::OverflowWalked, 1));
        assert!(ended[0].used.unwrap() > SIZE - 1024, "all of the stack was used but for half a frame");
        let report = machine.report(&death.fault);
        assert!(report.starts_with("BUG: TASK stack guard page was hit at "), "{report}");
        assert!(report.contains("the stack of task 2 (guilty)"), "{report}");
    }
    assert_balanced(&machine);
}

#[test]
fn a_trace_names_the_recursion_once_and_counts_its_frames() {
    let machine = Machine::new(&Config::new(2, SIZE)).unwrap();
    let cpu = machine.cpu().unwrap();
    unsafe { cpu.spawn("deep", overflow) }.unwrap();
    let ended = cpu.run();
    let trace = &killed(&ended[0]).trace;
    let text = trace.to_string();
    assert!(text.contains("recurse"), "{text}");
    if trace.has_frame_pointers {
        let most = trace.calls.groups().max_by_key(|group| group.turns).unwrap();
        let bytes = most.turn_bytes().unwrap();
        assert!(most.turns > 50 && most.turns * bytes > SIZE / 2 && most.calls.len() == 1, "{trace:?}");
        assert!(text.contains(&format!("> {} turns of 1 frame, {bytes} bytes a turn", most.turns)), "{text}");
        let total = trace.calls.bytes();
        assert!(SIZE - 256 < total && total <= SIZE + 64, "from the top down to the last push: {text}");
        assert!(text.lines().count() < 35 && trace.calls.left_out() == 0, "{text}");
    } else {
        assert!(trace.calls.frames() == 0 && text.contains("force-frame-pointers"), "{text}");
    }
}

#[test]
fn a_frame_larger_than_stack_and_guard_does_not_jump_over_it() {
    let machine = Machine::new(&Config::new(4, SIZE)).unwrap();
    let cpu = machine.cpu().unwrap();
    unsafe { cpu.spawn("neighbour", || (0..3).for_each(|_| yield_now())) }.unwrap();
    unsafe { cpu.spawn("big", big_frame) }.unwrap();
    let ended = cpu.run();
    assert_eq!((ended[0].name.as_str(), finished(&ended)), ("big", 1));
    let fault = killed(&ended[0]).fault;
    assert_eq!(fault.finding, Finding::OverflowWalked, "probes walk down page by page");
    assert_eq!(fault.neighbour.slot, 0);
}

#[test]
fn two_threads_overflow_at_the_same_moment_and_each_loses_its_own_task() {
    let machine = Machine::new(&Config::new(16, SIZE).cpus(2)).unwrap();
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (machine, barrier) = (&machine, &barrier);
            scope.spawn(move || {
                let cpu = machine.cpu().unwrap();
                for round in 0..200 {
                    let name = format!("{thread}/{round}");
                    unsafe { cpu.spawn(&name, overflow) }.unwrap();
                    unsafe { cpu.spawn("other", yield_now) }.unwrap();
                    barrier.wait();
                    let ended = cpu.run();
                    assert_eq!((ended[0].name.as_str(), finished(&ended)), (name.as_str(), 1));
                    assert_eq!(killed(&ended[0]).fault.cpu, cpu.number());
                    assert!(machine.report(&killed(&ended[0]).fault).contains(&name));
                }
            });
        }
    });
    assert_balanced(&machine);
}

#[test]
fn an_overflow_after_many_yields_deep_in_calls_kills_that_task_alone() {
    fn deep(depth: usize) {
        yield_now();
        black_box(&depth);
        if depth < 10_000 {
            deep(depth + 1);
        }
        yield_now();
    }
    let machine = Machine::new(&Config::new(8, SIZE)).unwrap();
    let cpu = machine.cpu().unwrap();
    unsafe { cpu.spawn("deep", || deep(0)) }.unwrap();
    unsafe { cpu.spawn("shallow", || (0..2000).for_each(|_| yield_now())) }.unwrap();
    let ended = cpu.run();
    assert_eq!((ended.len(), finished(&ended)), (2, 1));
    let guilty = ended.iter().find(|ended| ended.name == "deep").unwrap();
    assert_eq!(killed(guilty).fault.finding, Finding::OverflowWalked);
}

#[test]
fn a_task_that_runs_another_machine_is_killed_with_what_it_ran() {
    let (outer, inner) =
        (Machine::new(&Config::new(2, 64 << 10)).unwrap(), Machine::new(&Config::new(2, SIZE)).unwrap());
    let seen = Cell::new(false);
    let cpu = outer.cpu().unwrap();
    let body = || {
        let inner_cpu = inner.cpu().unwrap();
        unsafe { inner_cpu.spawn("inner", overflow) }.unwrap();
        let ended = inner_cpu.run();
        seen.set(killed(&ended[0]).fault.finding == Finding::OverflowWalked);
        drop(inner_cpu);
        overflow();
    };
    unsafe { cpu.spawn("outer", body) }.unwrap();
    let ended = cpu.run();
    assert!(seen.get(), "the inner overflow cost the inner task");
    assert_eq!(killed(&ended[0]).fault.stack.top.offset_from(killed(&ended[0]).fault.stack.bottom), Some(64 << 10));
    unsafe { cpu.spawn("next", yield_now) }.unwrap();
    assert_eq!(finished(&cpu.run()), 1);
}

#[test]
fn an_overflow_in_the_executor_of_an_inner_machine_kills_the_outer_task_that_runs_it() {
    fn run_deep(cpu: &vmstack_hosted::Cpu<'_>, depth: usize) -> usize {
        let frame = black_box([0_u8; 128]);
        let ended = if depth == 0 { cpu.run().len() } else { run_deep(cpu, depth - 1) };
        black_box(&frame);
        ended
    }
    let outer = Machine::new(&Config::new(4, 32 << 10)).unwrap();
    let (mut through, mut dead) = (0, 0);
    for depth in 0..300 {
        let inner = Machine::new(&Config::new(4, SIZE)).unwrap();
        let cpu = outer.cpu().unwrap();
        let body = || {
            let inner_cpu = inner.cpu().unwrap();
            unsafe { inner_cpu.spawn("inner", yield_now) }.unwrap();
            assert_eq!(run_deep(&inner_cpu, depth), 1);
        };
        unsafe { cpu.spawn("outer", body) }.unwrap();
        unsafe { cpu.spawn("other", || (0..3).for_each(|_| yield_now())) }.unwrap();
        let ended = cpu.run();
        let killed = ended.iter().filter(|ended| matches!(ended.outcome, Outcome::Killed(_))).count();
        assert_eq!(killed + finished(&ended), 2, "{ended:?}");
        through += 1 - killed;
        dead += killed;
        yield_now();
    }
    assert!(through > 20 && dead > 20, "{through} {dead}");
    assert_balanced(&outer);
}

#[test]
fn a_wild_pointer_into_a_guard_is_told_from_an_overflow() {
    let machine = Machine::new(&Config::new(2, SIZE)).unwrap();
    let cpu = machine.cpu().unwrap();
    let read_guard = || {
        let stack = machine.area().stack_at(vmstack_arch::stack_pointer()).unwrap();
        black_box(unsafe { stack.bottom.wrapping_sub(100).as_mut_ptr::<u8>().read_volatile() });
    };
    unsafe { cpu.spawn("wild", read_guard) }.unwrap();
    let ended = cpu.run();
    assert_eq!(killed(&ended[0]).fault.finding, Finding::WildPointer);
}

#[test]
fn a_stack_dropped_by_who_stands_on_it_is_leaked_and_counted_never_freed() {
    let machine = Machine::new(&Config::new(4, SIZE)).unwrap();
    let cpu = machine.cpu().unwrap();
    let stack = machine.area().alloc(0).unwrap();
    let top = stack.top();
    extern "C" fn drop_it(stack: usize) -> usize {
        let slot =
            core::ptr::with_exposed_provenance_mut::<Option<vmstack::KernelStack<'_, vmstack_hosted::Hosted>>>(stack);
        drop(unsafe { (*slot).take() });
        7
    }
    let mut slot = Some(stack);
    let returned = unsafe { vmstack_arch::call_on(top, drop_it, (&raw mut slot).expose_provenance()) };
    assert_eq!(returned, 7, "the ground was not pulled away");
    drop(cpu);
    let recount = machine.area().recount();
    assert_eq!((recount.leaked, recount.live, machine.area().counters().leaked), (1, 0, 1));
    let mut leaked = 0;
    machine.area().for_each_slot(|_, phase, _, _| leaked += usize::from(phase == Phase::Leaked));
    assert_eq!(leaked, 1);
}

#[test]
fn a_task_pins_its_own_stack_and_lets_go_and_the_stack_is_not_leaked() {
    let machine = Machine::new(&Config::new(4, 64 << 10)).unwrap();
    {
        let cpu = machine.cpu().unwrap();
        // Pins each stack that is in use, its own included.
        unsafe { cpu.spawn("looks", || drop(machine.slots())) }.unwrap();
        assert_eq!(finished(&cpu.run()), 1);
    }
    assert_balanced(&machine);
}

#[test]
fn a_panic_is_an_outcome_of_its_own() {
    let machine = Machine::new(&Config::new(4, 256 << 10)).unwrap();
    {
        let cpu = machine.cpu().unwrap();
        unsafe { cpu.spawn("panics", || panic!("expected: {}", black_box(7))) }.unwrap();
        unsafe { cpu.spawn("works", yield_now) }.unwrap();
        let ended = cpu.run();
        assert_eq!(ended[0].outcome, Outcome::Panicked("expected: 7".to_owned()));
        assert_eq!(ended[1].outcome, Outcome::Finished);
    }
    assert_balanced(&machine);
}

#[test]
fn a_task_starts_others_and_a_task_that_never_ran_gives_its_stack_back() {
    let machine = Machine::new(&Config::new(8, SIZE)).unwrap();
    let ran = Cell::new(0);
    {
        let cpu = std::rc::Rc::new(machine.cpu().unwrap());
        let (inner, counter) = (std::rc::Rc::downgrade(&cpu), &ran);
        let parent = move || {
            let cpu = inner.upgrade().unwrap();
            unsafe { cpu.spawn("child", move || counter.set(counter.get() + 1)) }.unwrap();
        };
        unsafe { cpu.spawn("parent", parent) }.unwrap();
        assert_eq!(finished(&cpu.run()), 2);
        unsafe { cpu.spawn("never", || unreachable!()) }.unwrap();
    }
    assert_eq!(ran.get(), 1);
    assert_balanced(&machine);
}

#[test]
fn a_task_without_headroom_is_killed_at_the_door_of_the_library_and_not_inside() {
    fn spawn_deep(cpu: &vmstack_hosted::Cpu<'_>, depth: usize) {
        let frame = black_box([0_u8; 256]);
        if depth == 0 {
            unsafe { cpu.spawn("child", || ()) }.unwrap();
        } else {
            spawn_deep(cpu, depth - 1);
        }
        black_box(&frame);
    }
    // Every depth from comfortable to beyond the end: spawned, or killed outside; never inside.
    let machine = Machine::new(&Config::new(8, 32 << 10)).unwrap();
    let (mut spawned, mut dead) = (0, 0);
    for depth in 0..150 {
        let cpu = std::rc::Rc::new(machine.cpu().unwrap());
        let inner = unsafe { &*std::rc::Rc::as_ptr(&cpu) };
        unsafe { cpu.spawn("parent", move || spawn_deep(inner, depth)) }.unwrap();
        for ended in cpu.run() {
            spawned += usize::from(ended.name == "child");
            dead += usize::from(matches!(ended.outcome, Outcome::Killed(_)));
        }
    }
    assert_eq!(spawned + dead, 150);
    assert!(spawned > 20 && dead > 20, "{spawned} {dead}");
    assert_balanced(&machine);
}

#[test]
fn a_stack_reads_as_zero_warm_and_cold_whoever_had_its_frames_before() {
    // Frames for two stacks, so that a cold one gets frames that were written before.
    let machine = Machine::new(&Config::new(4, SIZE).frames(16)).unwrap();
    let _cpu = machine.cpu().unwrap();
    for round in 0..4 {
        let stacks = [machine.area().alloc(0).unwrap(), machine.area().alloc(0).unwrap()];
        for stack in &stacks {
            let bytes = unsafe { core::slice::from_raw_parts_mut(stack.bottom().as_mut_ptr::<u8>(), SIZE) };
            assert!(bytes.iter().all(|&byte| byte == 0), "round {round}");
            bytes.fill(0xa5);
        }
        drop(stacks);
        if round % 2 == 1 {
            machine.area().drain();
        }
    }
    let counters = machine.area().counters();
    assert_eq!((counters.hits, counters.populated), (4, 4));
}

#[test]
fn a_guard_that_is_open_is_found_and_counted() {
    let machine = Machine::new(&Config::new(4, SIZE)).unwrap();
    let _cpu = machine.cpu().unwrap();
    let stack = machine.area().alloc(0).unwrap();
    assert_eq!(machine.open_guard_pages(), Some(0));
    let guard = stack.bottom().wrapping_sub(4096).as_mut_ptr();
    // A break of every rule, to see that it is seen.
    assert_eq!(unsafe { libc::mprotect(guard, 4096, libc::PROT_READ) }, 0);
    assert_eq!(machine.open_guard_pages(), Some(1));
}

#[test]
fn cpus_come_and_go_and_there_are_no_more_than_asked() {
    let machine = Machine::new(&Config::new(4, SIZE).cpus(2)).unwrap();
    let first = machine.cpu().unwrap();
    assert_eq!(machine.cpu().unwrap_err(), CpuError::AlreadyOnline { cpu: first.number() });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let second = machine.cpu().unwrap();
            assert_ne!(first_number(&machine), second.number());
            let third = scope.spawn(|| machine.cpu().map(drop).unwrap_err()).join().unwrap();
            assert_eq!(third, CpuError::AllOnline { cpus: 2 });
        });
    });
    std::thread::scope(|scope| {
        scope.spawn(|| machine.cpu().map(drop).unwrap());
    });
    drop(first);
}

fn first_number(_: &Machine) -> vmstack::Cpu {
    vmstack::Cpu::new(0)
}

#[test]
fn what_cannot_be_done_is_said() {
    let machine = Machine::new(&Config::new(4, 4 << 10)).unwrap();
    let cpu = machine.cpu().unwrap();
    let error = unsafe { cpu.spawn("small", || ()) }.unwrap_err();
    assert_eq!(error, SpawnError::StackTooSmall { size: 4 << 10, min: 16 << 10 });
    for config in [
        Config::new(0, SIZE),
        Config::new(usize::MAX, SIZE),
        Config::new(8, 12 << 10),
        Config::new(8, usize::MAX),
        Config::new(8, SIZE).frames(0),
        Config::new(8, SIZE).cpus(0),
        Config::new(8, SIZE).cpus(usize::MAX),
        Config::new(8, SIZE).leading_guard(0),
        Config::new(8, SIZE).stride(SIZE),
    ] {
        let error = Machine::new(&config).map(drop).unwrap_err();
        assert!(error.to_string().len() > 10, "{error}");
    }
    drop(cpu);
}

#[test]
fn the_story_is_told_whole() {
    let started = std::time::Instant::now();
    let story = story::tell().unwrap();
    assert!(started.elapsed().as_secs() < 5);
    assert_eq!((story.reported, story.killed.as_slice()), (1, ["recurse".to_owned()].as_slice()));
    assert_eq!((story.others, story.survivors), (4, 4));
    assert_eq!((story.open_guard_pages, story.after.open_guard_pages), (Some(0), Some(0)));
    assert_eq!((story.after.slots_held, story.after.slots_leaked), (0, 0));
    assert_eq!(story.after.frames_taken, story.after.record_frames);
    assert!(story.report.contains("recurse"), "{}", story.report);
    assert_eq!(story.slots.iter().filter(|slot| slot.phase == Phase::Live).count(), 4);
    let fragmented = story.fragmented;
    assert!(fragmented.mapped && fragmented.free_bytes > 4 * fragmented.stack_bytes);
    assert!(fragmented.longest_run_bytes < fragmented.stack_bytes);
    println!("{}", story.report);
}
