//! Memory that is short: before anybody is refused, the stacks that nobody uses come back, and what the vmalloc has unmapped.
//!
//! Ready stacks are kept on every CPU and in the depot, and while they are, their frames are of no use to anybody else; freed areas wait for a
//! shootdown on each CPU, and their chunks have page tables. What is kept is the libraries' to know; when it is to be given back is the kernel's
//! to say:
//!
//! ```text
//!   when                                      what
//!   ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────
//!   somebody found no memory                  everything, of all CPUs; then the call is made once more ([`relieve`])
//!   a person wants it, by drop_caches         everything, of all CPUs ([`give_everything_back`])
//!   every few seconds                         what nobody has missed since the last time ([`start`])
//!   each tick                                 what is due on this CPU ([`tick`])
//! ```
//!
//! A CPU's magazines are its own. So the others are sent a message, and empty theirs in its handler; what they have unmapped comes free at
//! their ticks, when all CPUs have flushed. Whoever waits for that does so for a bounded time: stacks that are in use by
//! then, or were given back since, are no reason to wait for ever.
//!
//! # Context
//!
//! [`relieve`] and [`give_everything_back`] wait: tasks, with nothing held that others wait for with interrupts off. [`answer`] and [`tick`]:
//! interrupt handlers.

use vmstack::Counters;

use crate::arch::cpu;
use crate::arch::percpu;
use crate::mm::shortage;
use crate::stacks::{TASK_STACK, TASKS, shootdown};
use crate::sync::rcu;
use crate::task::sched::{self, TICKS_PER_SECOND};
use crate::vmalloc::VMALLOC;
use crate::{hotplug, interrupts, println, task};

/// How long other CPUs are waited for, in ticks.
const PATIENCE: u64 = TICKS_PER_SECOND / 5;
/// How often idle stacks are looked for, in ticks.
const TRIM_EVERY: u64 = 3 * TICKS_PER_SECOND;

/// Gives everything back that is kept, if the current task found no memory since it last asked. Then what failed is worth another try.
pub(crate) fn relieve() -> bool {
    let may_wait = cpu::interrupts_on() && percpu::this_cpu().preempt_count() == 0;
    let wanted = may_wait && shortage::was_noted();
    if wanted {
        give_everything_back();
    }
    wanted
}

/// Gives back all stacks that are kept ready and all areas that wait for a shootdown, on whichever CPU, and waits until their frames are free, and those of
/// the structs of tasks that are dead by now; or for a fifth of a second. Where no time passes it does not wait.
pub(crate) fn give_everything_back() {
    let (at_first, areas_at_first) = (TASKS.counters(), VMALLOC.usage());
    TASKS.pressure();
    VMALLOC.pressure();
    let (end, periods) = (sched::ticks() + PATIENCE, rcu::periods());
    loop {
        interrupts::ask_to_give_back();
        TASKS.drain();
        VMALLOC.drain();
        let (now, areas) = (TASKS.counters(), VMALLOC.usage());
        let stacks_are_free = now.retired - at_first.retired >= kept(&at_first) || kept(&now) == 0;
        let areas_are_free = areas.pieces_retired >= areas_at_first.pieces_unmapped;
        let time_passes = sched::ticks() != 0;
        // The structs of dead tasks. What died since then is no reason to wait.
        let structs_are_free = rcu::pending() == 0 || rcu::periods() >= periods + 2;
        // One CPU has given back all of its own by now.
        let kept_is_free = stacks_are_free && areas_are_free || !shootdown::others_are_up();
        if kept_is_free && structs_are_free || sched::ticks() >= end || !time_passes {
            return;
        }
        sched::sleep_until(sched::ticks() + 1);
    }
}

/// How many stacks are ready, or on their way from there to the frame allocator.
const fn kept(counters: &Counters) -> u64 {
    counters.held / TASK_STACK as u64 + counters.unmapped.saturating_sub(counters.retired)
}

/// Another CPU wants what this one keeps. One that goes offline gives that back by itself, and begins nothing that it would have to wait for.
pub(crate) fn answer() {
    if !hotplug::is_leaving() {
        TASKS.answer_pressure();
        VMALLOC.answer_pressure();
    }
}

/// Does what is due on this CPU. On the one that keeps the time, passes on what was noted by those who could not wait.
pub(crate) fn tick() {
    if percpu::cpu_number().index() == 0 && shortage::was_noted_anywhere() {
        TASKS.pressure();
        VMALLOC.pressure();
    } else {
        answer();
    }
}

/// Starts the task that gives back what lies idle.
pub(crate) fn start() {
    if let Err(error) = task::spawn_kernel("trimmer", trim, 0) {
        println!("vmstack: no trimmer: {error}");
    }
}

extern "C" fn trim(_: usize) -> ! {
    sched::begin();
    loop {
        sched::sleep_until(sched::ticks() + TRIM_EVERY);
        TASKS.trim();
        VMALLOC.trim();
    }
}
