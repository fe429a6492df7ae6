//! Overflows beside grace periods, and while CPUs come and go.
//!
//! Readers look at a specimen that somebody replaces all the time. Each one that they find must be whole for as long as their section
//! lasts: who is freed too early has lost its mark. A task that overflows inside such a section ends it with its life.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::Provocation;
use super::script::{Script, Victim, perform_provocation, start_program};
use super::stack::exhaust_stack;
use crate::sync::rcu::{self, Head, Publish, Published};
use crate::task::look::Look;
use crate::task::{self, sched};
use crate::{boot, fact, hotplug};

pub(super) static PROVOCATIONS: [Provocation; 1] =
    [Provocation { name: "OVERFLOW_IN_RCU_READER", act: overflow_in_reader }];

pub(super) static SCRIPTS: [Script; 2] = [
    Script { name: "OVERFLOW_IN_RCU_READER", run: in_reader },
    Script { name: "OVERFLOW_DURING_HOTPLUG", run: during_hotplug },
];

/// What is published.
struct Specimen {
    head: Head,
    mark: AtomicUsize,
}

/// The mark of a specimen that is there.
const WHOLE: usize = 0x5eed_5eed;

// SAFETY: the offset is that of a head that nothing else uses.
unsafe impl Publish for Specimen {
    const OFFSET: usize = offset_of!(Self, head);
}

impl Drop for Specimen {
    fn drop(&mut self) {
        self.mark.store(0, Ordering::Relaxed);
    }
}

static PUBLISHED: Published<Specimen> = Published::nothing();
/// Whether readers and the writer go on.
static GOING: AtomicBool = AtomicBool::new(false);
static READS: AtomicUsize = AtomicUsize::new(0);
/// Specimens that were freed under a reader.
static STALE: AtomicUsize = AtomicUsize::new(0);
static REPLACED: AtomicUsize = AtomicUsize::new(0);

/// How long a section lasts, in turns.
const TURNS: usize = 2_000;
/// How many sections a reader has before it lets others run.
const SECTIONS: usize = 16;

fn read_on() {
    while GOING.load(Ordering::Relaxed) {
        (0..SECTIONS).for_each(|_| read_once());
        sched::yield_now();
    }
}

fn read_once() {
    let guard = rcu::read();
    let Some(specimen) = PUBLISHED.get(&guard) else { return };
    (0..TURNS).for_each(|_| hint::spin_loop());
    READS.fetch_add(1, Ordering::Relaxed);
    STALE.fetch_add(usize::from(specimen.mark.load(Ordering::Relaxed) != WHOLE), Ordering::Relaxed);
    // A count that is raised in the section keeps it for longer.
    let counted = PUBLISHED.get_counted(&guard);
    drop(guard);
    let gone = counted.is_some_and(|specimen| specimen.mark.load(Ordering::Relaxed) != WHOLE);
    STALE.fetch_add(usize::from(gone), Ordering::Relaxed);
}

fn replace_on() {
    while GOING.load(Ordering::Relaxed) {
        PUBLISHED.retire();
        let specimen = Arc::new(Specimen { head: Head::new(), mark: AtomicUsize::new(WHOLE) });
        let published = PUBLISHED.publish(specimen).is_ok();
        REPLACED.fetch_add(usize::from(published), Ordering::Relaxed);
        sched::yield_now();
    }
    PUBLISHED.retire();
}

/// Looks at the stacks of all tasks, as they come and go.
fn look_on() {
    while GOING.load(Ordering::Relaxed) {
        let newest = task::last_id();
        (newest.saturating_sub(LOOKED_AT)..=newest).for_each(look_once);
        sched::yield_now();
    }
}

/// How many of the newest tasks are looked at.
const LOOKED_AT: usize = 32;

fn look_once(id: usize) {
    if let Some(look) = Look::at(id) {
        LOOKS.fetch_add(1, Ordering::Relaxed);
        CALLS.fetch_add(hint::black_box(look.trace()).frames(), Ordering::Relaxed);
    }
}

/// Stacks of others that were looked at, and the calls that were found on them.
static LOOKS: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Two sections, one in the other, that have no end.
fn overflow_in_reader() {
    let outer = rcu::read();
    let inner = rcu::read();
    hint::black_box(PUBLISHED.get(&inner).is_some());
    exhaust_stack();
    drop((outer, inner));
}

/// Readers on every CPU, and one who replaces what they read.
fn start_company() -> Vec<Victim> {
    for counter in [&READS, &STALE, &REPLACED, &LOOKS, &CALLS] {
        counter.store(0, Ordering::Relaxed);
    }
    GOING.store(true, Ordering::Relaxed);
    let readers = (0..boot::cpus()).filter_map(|_| Victim::start(read_on));
    let mut company: Vec<_> = readers.collect();
    company.extend(Victim::start(replace_on));
    company.extend(Victim::start(look_on));
    company
}

/// Ends them, and says what they saw, and how grace periods went on since there were `before` of them.
fn stop_company(company: &[Victim], before: u64) {
    // As many as a free waits for, and one that begins after all that happened.
    (0..3).for_each(|_| rcu::synchronize());
    fact!("rcu.periods", "{before} {}", rcu::periods());
    GOING.store(false, Ordering::Relaxed);
    company.iter().for_each(|task| {
        task.end();
    });
    rcu::settle();
    fact!("rcu.pending", "{}", rcu::pending());
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    fact!("rcu.readers", "{} {} {}", count(&READS), count(&STALE), count(&REPLACED));
    fact!("stack.looks", "{} {}", count(&LOOKS), count(&CALLS));
}

fn in_reader(_: &str) {
    let leaked = task::leaked_stacks();
    task::give_up_alive();
    fact!("stack.leaked", "{leaked} {}", task::leaked_stacks());
    let company = start_company();
    let before = rcu::periods();
    perform_provocation("OVERFLOW_IN_RCU_READER");
    let victims: Vec<_> = (0..2 * boot::cpus()).filter_map(|_| Victim::start(overflow_in_reader)).collect();
    victims.iter().for_each(Victim::wait);
    stop_company(&company, before);
}

/// How often each CPU goes and comes.
const ROUNDS: usize = 100;
/// How many tasks start others beside it.
const STORMS: usize = 2;
/// How many children each of as many programs has, one after the other, which overflow: as a number, and as its argument.
const PROCESSES: (usize, &[u8]) = (50, b"50");
/// One in so many of these overflows; the others just end.
const OVERFLOWS: usize = 8;

static STARTED: AtomicUsize = AtomicUsize::new(0);
static ENDED: AtomicUsize = AtomicUsize::new(0);
static OVERFLOWED: AtomicUsize = AtomicUsize::new(0);
static KILLED: AtomicUsize = AtomicUsize::new(0);

/// Starts tasks, a few at a time, and waits for them.
fn storm() {
    while GOING.load(Ordering::Relaxed) {
        let overflows = STARTED.fetch_add(1, Ordering::Relaxed).is_multiple_of(OVERFLOWS);
        let victim = if overflows { Victim::start(exhaust_stack) } else { Victim::start(sched::yield_now) };
        let killed = victim.is_some_and(|victim| victim.end());
        OVERFLOWED.fetch_add(usize::from(overflows), Ordering::Relaxed);
        KILLED.fetch_add(usize::from(killed), Ordering::Relaxed);
        ENDED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Every CPU but the first goes offline and comes back, again and again, while tasks start, end, overflow and read.
fn during_hotplug(_: &str) {
    for counter in [&STARTED, &ENDED, &OVERFLOWED, &KILLED] {
        counter.store(0, Ordering::Relaxed);
    }
    let before = rcu::periods();
    let mut company = start_company();
    company.extend((0..STORMS).filter_map(|_| Victim::start(storm)));
    let arguments: [&[u8]; 3] = [b"/bin/storm", b"EXHAUST_STACK", PROCESSES.1];
    let programs: Vec<_> = (0..STORMS).filter_map(|_| start_program(&arguments).ok()).collect();
    let refused = hotplug::set_online(0, false).is_err();
    let (mut gone, mut back) = (0, 0);
    for _ in 0..ROUNDS {
        for cpu in 1..boot::cpus() {
            gone += usize::from(hotplug::set_online(cpu, false).is_ok() && !hotplug::is_online(cpu));
        }
        for cpu in 1..boot::cpus() {
            back += usize::from(hotplug::set_online(cpu, true).is_ok() && hotplug::is_online(cpu));
        }
    }
    fact!("hotplug", "{} {gone} {back} {}", ROUNDS * (boot::cpus() - 1), u32::from(refused));
    for program in &programs {
        // Status 0: each of its children was killed by the signal.
        OVERFLOWED.fetch_add(PROCESSES.0, Ordering::Relaxed);
        let killed = if program.wait_for_end().wait_status() == 0 { PROCESSES.0 } else { 0 };
        KILLED.fetch_add(killed, Ordering::Relaxed);
    }
    stop_company(&company, before);
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    fact!("hotplug.tasks", "ended {} {}", count(&STARTED), count(&ENDED));
    fact!("hotplug.overflows", "overflowed {} {}", count(&OVERFLOWED), count(&KILLED));
}
