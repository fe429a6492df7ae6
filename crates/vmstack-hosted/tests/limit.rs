//! The number of mappings that Linux allows a process is found out, and is an error of its own. A program of its own,
//! because the limit is the process's.

#![expect(clippy::unwrap_used, clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]

use std::time::Instant;

use vmstack::{AllocError, KernelStack};
use vmstack_hosted::story::balance;
use vmstack_hosted::{Config, Hosted, HostedError, Machine, max_mappings};

const SIZE: usize = 16 << 10;

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

fn fill(machine: &Machine) -> (Vec<KernelStack<'_, Hosted>>, AllocError<HostedError>) {
    let mut stacks = Vec::with_capacity(machine.area().geometry().unwrap().slots());
    loop {
        match machine.area().alloc(0) {
            Ok(stack) => stacks.push(stack),
            Err(error) => return (stacks, error),
        }
    }
}

#[test]
fn the_map_limit_is_an_error_of_its_own_and_everything_comes_back() {
    let limit = max_mappings().unwrap();
    let before = mappings();
    let slots = limit / 4;
    if slots > vmstack::MAX_SLOTS {
        println!("vm.max_map_count is {limit}: no area has so many slots");
        return;
    }
    {
        let machine = Machine::new(&Config::new(slots, SIZE)).unwrap();
        let cpu = machine.cpu().unwrap();
        let idle = mappings();
        let mut counts = Vec::new();
        for _ in 0..3 {
            let started = Instant::now();
            let (stacks, error) = fill(&machine);
            let AllocError::NotMapped(HostedError::MapLimit { limit: found, mappings: at }) = error else {
                panic!("{error:?}");
            };
            assert!(found == limit && at + 256 >= limit, "{error}");
            counts.push(stacks.len());
            println!("{} stacks at a limit of {limit} mappings, in {:?}", stacks.len(), started.elapsed());
            for stack in [&stacks[0], &stacks[stacks.len() - 1]] {
                unsafe { stack.bottom().as_mut_ptr::<u8>().write(1) };
                unsafe { stack.top().wrapping_sub(1).as_mut_ptr::<u8>().write(1) };
            }
            drop(stacks);
            machine.area().drain();
            // Each page of slot records is a mapping too, and stays.
            let records = machine.area().recount().metadata_pages;
            assert!(mappings() <= idle + records, "{} mappings, {idle} when idle, {records}", mappings());
        }
        // A stack is four scattered pages and the guard to the next.
        assert!(counts.iter().all(|&count| count.abs_diff((limit - before) / 5) < 200), "{counts:?}");
        drop(cpu);
        let balance = balance(&machine);
        assert_eq!((balance.frames_taken, balance.slots_held), (balance.record_frames, 0));
    }
    assert!(mappings() <= before + 8, "{} mappings, {before} at first", mappings());
}
