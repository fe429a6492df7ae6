//! Many at once: an overflow on every CPU at the same moment, and one after the other without end.

use alloc::vec::Vec;
use core::hint;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::script::{self, Script, Victim};
use super::stack;
use crate::arch::cpu;
use crate::task::sched;
use crate::{boot, fact, println};

pub(super) static SCRIPTS: [Script; 2] =
    [Script { name: "OVERFLOW_ON_ALL_CPUS", run: on_all_cpus }, Script { name: "OVERFLOW_STORM", run: storm }];

/// How often all CPUs overflow together.
const ROUNDS: usize = 16;
/// Who has come to the start, over all rounds.
static AT_THE_START: AtomicUsize = AtomicUsize::new(0);

fn on_all_cpus(_: &str) {
    for round in 1..=ROUNDS {
        let victims: Vec<_> = (0..boot::cpus()).filter_map(|_| Victim::start(overflow_together)).collect();
        victims.iter().for_each(Victim::wait);
        // One that could not be started is not waited for by the next round.
        AT_THE_START.store(round * boot::cpus(), Ordering::Release);
    }
}

/// Waits, alone on its CPU, until every CPU has somebody here.
fn overflow_together() {
    // With interrupts off nobody takes the CPU away, so each victim has one of its own.
    cpu::disable_interrupts();
    let place = AT_THE_START.fetch_add(1, Ordering::AcqRel);
    let all = (place / boot::cpus() + 1) * boot::cpus();
    while AT_THE_START.load(Ordering::Acquire) < all {
        hint::spin_loop();
    }
    stack::exhaust_stack();
}

/// Overflows of the storm: kernel tasks, some at a time, and processes one after the other beside them.
const TASKS: usize = 8_000;
const AT_A_TIME: usize = 8;
const STORMS: usize = 2;
const PROCESSES_EACH: &[u8] = b"1000";

fn storm(_: &str) {
    let arguments: [&[u8]; 3] = [b"/bin/storm", b"EXHAUST_STACK", PROCESSES_EACH];
    let programs: Vec<_> = (0..STORMS).filter_map(|_| script::start_program(&arguments).ok()).collect();
    let mut victims: Vec<Victim> = Vec::new();
    let (mut started, mut killed) = (0, 0);
    while started < TASKS || !victims.is_empty() {
        if started < TASKS && victims.len() < AT_A_TIME {
            victims.extend(Victim::start(stack::exhaust_stack));
            started += 1;
            continue;
        }
        match victims.iter().position(|victim| !victim.is_alive()) {
            Some(index) => killed += usize::from(victims.swap_remove(index).end()),
            None => sched::yield_now(),
        }
    }
    fact!("storm.tasks", "{started} {killed}");
    for program in &programs {
        // Status 0: each of its children was killed by the signal.
        script::wait_for_process(program);
    }
    if programs.len() != STORMS {
        println!("the storm's programs cannot be started");
    }
}
