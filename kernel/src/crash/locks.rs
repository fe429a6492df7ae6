//! Overflows of a task that holds a lock, waits for one, or is taking one.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hint::{self, black_box};
use core::sync::atomic::{AtomicUsize, Ordering};

use super::Provocation;
use super::owning::{own_all_sorts, owning};
use super::places::call_with_left;
use super::script::{Script, Victim, perform_process, wait_a_little};
use super::stack::exhaust_stack;
use crate::console::Console;
use crate::mm::frames;
use crate::stacks::TASKS;
use crate::sync::declared::{self, Declared, SPECIMEN_MUTEX, SPECIMEN_RWLOCK, SPECIMEN_SPIN};
use crate::sync::{self, Kind};
use crate::task::{reference, sched};
use crate::{boot, fact, oops};

pub(super) static SCRIPTS: [Script; 5] = [
    Script { name: "OVERFLOW_HOLDING_LOCK", run: holding },
    Script { name: "OVERFLOW_WAITING_FOR_LOCK", run: waiting },
    Script { name: "OVERFLOW_TAKING_VITAL_LOCK", run: taking },
    Script { name: "OVERFLOW_WITH_CONSOLE_BUSY", run: with_console_busy },
    Script { name: "OVERFLOW_OWNING", run: owning },
];

/// What processes do for these scripts in a system call.
pub(super) static PROVOCATIONS: [Provocation; 2] = [
    Provocation { name: "HOLD_CHOSEN_LOCK", act: hold_chosen },
    Provocation { name: "OWN_ALL_SORTS", act: own_all_sorts },
];

/// The lock that is meant, as an index of the table.
static CHOSEN: AtomicUsize = AtomicUsize::new(0);

fn chosen() -> &'static Declared {
    &declared::ALL[CHOSEN.load(Ordering::Relaxed) % declared::ALL.len()]
}

fn hold_chosen() {
    // Not a lock of a process, or this is one: so there is a lock.
    chosen().hold(exhaust_stack);
}

fn share_chosen() {
    chosen().hold_shared(exhaust_stack);
}

/// With a name: overflows under that lock. Without: under each lock but the vital ones, which stop the machine.
fn holding(name: &str) {
    for (index, lock) in declared::ALL.iter().enumerate() {
        let meant = if name.is_empty() { !lock.is_vital() } else { lock.name == name };
        if !meant {
            continue;
        }
        CHOSEN.store(index, Ordering::Relaxed);
        if lock.of_kernel().is_none() {
            // A process's own.
            perform_process("HOLD_CHOSEN_LOCK");
        } else {
            hold_with_waiters(lock);
        }
        show(lock);
        if lock.kind == Kind::ReadWrite && lock.of_kernel().is_some() {
            // A reader has changed nothing, and leaves no poison.
            super::script::kernel_victim(share_chosen);
            let state = lock.of_kernel().map_or("gone", |lock| lock.state().name());
            fact!("lock", "{} shared {state}", lock.name);
        }
    }
    fact!("locks.values_left", "{}", sync::values_left());
}

/// Says how a lock is after its holder was killed, and takes the poison from it. A process's lock is gone with the process.
fn show(declared: &Declared) {
    let (name, kind) = (declared.name, declared.kind.name());
    match declared.of_kernel() {
        Some(lock) => {
            let state = lock.state();
            fact!("lock", "{name} {kind} {}", state.name());
            lock.clear_poison();
        }
        None => fact!("lock", "{name} {kind} gone"),
    }
}

/// Who has come to the lock, who got it whole, and who got it poisoned.
static HOLDS: AtomicUsize = AtomicUsize::new(0);
static ARRIVED: AtomicUsize = AtomicUsize::new(0);
static GOT: AtomicUsize = AtomicUsize::new(0);
static GOT_POISONED: AtomicUsize = AtomicUsize::new(0);
/// How many a holder waits for before it overflows.
static EXPECTED: AtomicUsize = AtomicUsize::new(0);

/// The specimen locks are waited for by others when their holder dies; the rest have just a holder.
fn hold_with_waiters(lock: &Declared) {
    let Some(wait) = waiter_for(lock) else {
        return super::script::kernel_victim(hold_chosen);
    };
    // Who waits for a spin lock needs a CPU of its own meanwhile.
    let waiters = if lock.kind == Kind::Spin { (boot::cpus() - 1).min(2) } else { 2 };
    for count in [&HOLDS, &ARRIVED, &GOT, &GOT_POISONED] {
        count.store(0, Ordering::Relaxed);
    }
    EXPECTED.store(waiters, Ordering::Relaxed);
    let Some(holder) = Victim::start(|| {
        chosen().hold(|| {
            HOLDS.store(1, Ordering::Release);
            let spins = chosen().kind == Kind::Spin;
            while ARRIVED.load(Ordering::Acquire) < EXPECTED.load(Ordering::Relaxed) {
                if spins { hint::spin_loop() } else { sched::yield_now() }
            }
            // They have said that they come: now let them come.
            if spins {
                (0..SPINS).for_each(|_| hint::spin_loop());
            } else {
                sched::sleep_until(sched::ticks() + 2);
            }
            exhaust_stack();
        });
    }) else {
        return;
    };
    while HOLDS.load(Ordering::Acquire) == 0 {
        sched::yield_now();
    }
    let waiting: Vec<_> = (0..waiters).filter_map(|_| Victim::start(wait)).collect();
    holder.wait();
    waiting.iter().for_each(|waiter| {
        waiter.end();
    });
    let (got, poisoned) = (GOT.load(Ordering::Relaxed), GOT_POISONED.load(Ordering::Relaxed));
    fact!("lock.waiters", "{} {} {got} {poisoned}", lock.name, waiting.len());
}

/// Counts one who has the lock at last.
fn count<Guard>(taken: sync::LockResult<Guard>) {
    let counter = if taken.is_ok() { &GOT } else { &GOT_POISONED };
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Takes a specimen lock and counts how it was had; `None` for other locks.
fn waiter_for(lock: &Declared) -> Option<fn()> {
    match lock.name {
        "specimen-spin" => Some(|| {
            ARRIVED.fetch_add(1, Ordering::AcqRel);
            count(SPECIMEN_SPIN.lock());
        }),
        "specimen-mutex" => Some(|| {
            ARRIVED.fetch_add(1, Ordering::AcqRel);
            count(SPECIMEN_MUTEX.lock());
        }),
        "specimen-rwlock" => Some(|| {
            let reads = ARRIVED.fetch_add(1, Ordering::AcqRel) == 0;
            if reads { count(SPECIMEN_RWLOCK.read()) } else { count(SPECIMEN_RWLOCK.write()) }
        }),
        _ => None,
    }
}

/// The bytes that are left when a lock is asked for.
const LEFT: core::ops::Range<usize> = 32..4096;
const STEP: usize = 64;
/// How long a holder of a spin lock gives others to come, in turns of a loop: a millisecond or so under emulation.
const SPINS: usize = 20_000;

/// A way to ask for a lock.
struct Asking {
    name: &'static str,
    /// Takes the lock, lets it go.
    ask: extern "C" fn(usize) -> usize,
    /// Holds the lock until [`HOLDS`] is zero again, or for a moment.
    hold: fn(),
    spins: bool,
}

fn while_held() {
    while HOLDS.load(Ordering::Acquire) != 0 {
        sched::sleep_until(sched::ticks() + 1);
    }
}

/// Not for ever: whoever lets it go may be waiting for this CPU.
fn while_held_spinning() {
    (0..SPINS).for_each(|_| hint::spin_loop());
}

static ASKINGS: [Asking; 4] = [
    Asking {
        name: "spin",
        ask: {
            extern "C" fn ask(_: usize) -> usize {
                drop(SPECIMEN_SPIN.lock());
                1
            }
            ask
        },
        hold: || SPECIMEN_SPIN.lock().map_or((), |_guard| while_held_spinning()),
        spins: true,
    },
    Asking {
        name: "mutex",
        ask: {
            extern "C" fn ask(_: usize) -> usize {
                drop(SPECIMEN_MUTEX.lock());
                1
            }
            ask
        },
        hold: || SPECIMEN_MUTEX.lock().map_or((), |_guard| while_held()),
        spins: false,
    },
    Asking {
        name: "read",
        ask: {
            extern "C" fn ask(_: usize) -> usize {
                drop(SPECIMEN_RWLOCK.read());
                1
            }
            ask
        },
        hold: || SPECIMEN_RWLOCK.write().map_or((), |_guard| while_held()),
        spins: false,
    },
    Asking {
        name: "write",
        ask: {
            extern "C" fn ask(_: usize) -> usize {
                drop(SPECIMEN_RWLOCK.write());
                1
            }
            ask
        },
        hold: || SPECIMEN_RWLOCK.read().map_or((), |_guard| while_held()),
        spins: false,
    },
];

/// How many bytes are left to the next victim, and which way it asks.
static BYTES: AtomicUsize = AtomicUsize::new(0);
static WAY: AtomicUsize = AtomicUsize::new(0);

/// Somebody holds the lock; one after the other asks for it with a little more of the stack left.
///
/// Those for whom it is too little die, in the middle of asking or of waiting. The others wait, and get it when it is let go; then
/// somebody with a whole stack gets it too.
fn waiting(_: &str) {
    for (way, asking) in ASKINGS.iter().enumerate() {
        WAY.store(way, Ordering::Relaxed);
        let (started, died) = if asking.spins { one_by_one(asking) } else { all_at_once(asking) };
        // Whoever was cut while it held the lock has poisoned it.
        ["specimen-spin", "specimen-mutex", "specimen-rwlock"].into_iter().filter_map(declared::find).for_each(show);
        let after = Victim::start(|| {
            black_box((ASKINGS[WAY.load(Ordering::Relaxed)].ask)(0));
        });
        let got = after.is_some_and(|victim| !victim.end());
        // Nobody who died is waited with: the lot has the living only.
        fact!("waiting.parked", "{} {}", asking.name, left_parked());
        fact!("waiting", "{} {started} {died} {}", asking.name, usize::from(got));
    }
}

/// Tasks of the kernel that are parked when there is nothing to do: the one that runs callbacks.
const RESIDENT: usize = 1;

/// How many are parked beside those, once these have had a second to come to rest.
fn left_parked() -> usize {
    let end = sched::ticks() + sched::TICKS_PER_SECOND;
    while (sched::parked() > RESIDENT || sync::rcu::pending() != 0) && sched::ticks() < end {
        sched::sleep_until(sched::ticks() + 1);
    }
    sched::parked().saturating_sub(RESIDENT)
}

fn ask_with_little_left() {
    call_with_left(BYTES.load(Ordering::Relaxed), ASKINGS[WAY.load(Ordering::Relaxed)].ask);
}

/// For a lock that is waited for off the CPU: all wait together.
fn all_at_once(asking: &Asking) -> (usize, usize) {
    HOLDS.store(1, Ordering::Release);
    let holder = Victim::start(asking.hold);
    wait_a_little();
    let mut victims = Vec::new();
    for bytes in LEFT.step_by(STEP) {
        BYTES.store(bytes, Ordering::Relaxed);
        victims.extend(Victim::start(ask_with_little_left));
        // It reads the bytes first of all; then it dies or waits.
        wait_a_little();
    }
    HOLDS.store(0, Ordering::Release);
    if let Some(holder) = holder {
        holder.end();
    }
    let died = victims.iter().filter(|victim| victim.end()).count();
    (victims.len(), died)
}

/// For a lock that is waited for on the CPU: the holder has it for a moment only, for each victim anew.
fn one_by_one(asking: &Asking) -> (usize, usize) {
    let (mut started, mut died) = (0, 0);
    for bytes in LEFT.step_by(STEP) {
        BYTES.store(bytes, Ordering::Relaxed);
        // On one CPU nobody can wait for it.
        let holder = (boot::cpus() > 1).then(|| Victim::start(asking.hold)).flatten();
        let Some(victim) = Victim::start(ask_with_little_left) else { continue };
        started += 1;
        died += usize::from(victim.end());
        if let Some(holder) = holder {
            holder.end();
        }
    }
    (started, died)
}

/// The locks that may stop the machine are asked for with a little more of the stack left each time: at their door there is room or
/// an overflow, and never one inside.
fn taking(_: &str) {
    extern "C" fn take_frame(_: usize) -> usize {
        frames::take(0).map(|frame| frames::give(frame, 0)).map_or(0, |()| 1)
    }
    extern "C" fn leave_cpu(_: usize) -> usize {
        sched::yield_now();
        1
    }
    extern "C" fn map_stack(_: usize) -> usize {
        TASKS.alloc(0).map_or(0, |stack| {
            drop(stack);
            1
        })
    }
    extern "C" fn count_structs(_: usize) -> usize {
        reference::frames().min(1)
    }
    extern "C" fn take_block(_: usize) -> usize {
        usize::from(*black_box(Box::new(true)))
    }
    fn take(name: &str) -> usize {
        let lock = declared::find(name).and_then(Declared::of_kernel);
        lock.map_or(0, |lock| {
            lock.hold(|| ());
            1
        })
    }
    extern "C" fn take_tree(_: usize) -> usize {
        take("process-tree")
    }
    extern "C" fn take_disk(_: usize) -> usize {
        take("disk")
    }
    extern "C" fn take_ports(_: usize) -> usize {
        take("pci-ports")
    }
    static ASKS: [(&str, extern "C" fn(usize) -> usize); 8] = [
        ("frame-allocator", take_frame),
        ("run-queue", leave_cpu),
        ("page-tables", map_stack),
        ("task-structs", count_structs),
        ("heap-small", take_block),
        ("process-tree", take_tree),
        ("disk", take_disk),
        ("pci-ports", take_ports),
    ];
    for (way, (name, _)) in ASKS.iter().enumerate() {
        WAY.store(way, Ordering::Relaxed);
        let (mut started, mut died) = (0, 0);
        for bytes in (LEFT.start..3 * 4096).step_by(STEP) {
            BYTES.store(bytes, Ordering::Relaxed);
            let ask = || call_with_left(BYTES.load(Ordering::Relaxed), ASKS[WAY.load(Ordering::Relaxed)].1);
            let Some(victim) = Victim::start(ask) else { continue };
            started += 1;
            died += usize::from(victim.end());
        }
        fact!("taking", "{name} {started} {died}");
    }
}

/// Another CPU holds the console, with interrupts off, for longer than a report waits: the task dies all the same, and the report is
/// printed later, once.
fn with_console_busy(_: &str) {
    HOLDS.store(1, Ordering::Release);
    ARRIVED.store(0, Ordering::Release);
    let holder = (boot::cpus() > 1).then(|| {
        Victim::start(|| {
            let console = Console::take();
            ARRIVED.store(1, Ordering::Release);
            while HOLDS.load(Ordering::Acquire) != 0 {
                hint::spin_loop();
            }
            drop(console);
        })
    });
    while holder.is_some() && ARRIVED.load(Ordering::Acquire) == 0 {
        sched::yield_now();
    }
    let victim = Victim::start(exhaust_stack);
    let killed = victim.as_ref().is_some_and(Victim::end);
    HOLDS.store(0, Ordering::Release);
    if let Some(holder) = holder.flatten() {
        holder.end();
    }
    fact!("console.busy", "{} {}", boot::cpus() - 1, usize::from(killed));
    oops::print_left();
    if let Some(victim) = victim {
        victim.wait();
    }
}
