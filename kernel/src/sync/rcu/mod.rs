//! Read-copy-update: readers that take no lock, and frees that wait until no reader is left that could have seen the object.
//!
//! ```text
//!   reader                                  who frees
//!   let guard = rcu::read();                unpublish: the pointer leads elsewhere
//!   pointer.get(&guard)  ──────────>        rcu::call(head, function)     returns at once, allocates nothing
//!   drop(guard)                                ... a grace period ...      every CPU was seen outside reader sections
//!                                           function(head)                frees the object
//! ```
//!
//! A reader section is one in which the CPU does not switch tasks: entering one is one instruction, without a lock or an ordering,
//! on a word that no other CPU looks at. So a switch is a proof that the sections before it have ended. So is a tick that
//! interrupts user mode, or the kernel where preemption is on; and an idle CPU is in none, which it says before it halts: nobody wakes
//! it. [`periods`](mod@periods) has the protocol and the arguments; [`queue`] what waits.
//!
//! A reader that overflows is killed, and its task's preemption count is reset: the section has ended with its frames, and
//! grace periods go on (INV-ALONE).
//!
//! *What may not wait here* is a stack: it is given back by the next task on its CPU, before any grace period (the article's
//! comments say what comes of it otherwise; `stacks=rcu` shows it). The task's struct does wait.
//!
//! Callbacks run in the task `rcu`, in batches, with interrupts on and nothing locked. What is freed in the meantime is bounded by
//! memory alone, so batches grow with the backlog, as in Linux (`kernel/rcu/tree.c`, `blimit` and `qhimark`).
//!
//! # Context
//!
//! [`read`]: tasks and interrupt handlers; not NMI, not the fault path. A section does not sleep. [`call`]: the same.
//! [`synchronize`] and [`settle`]: tasks, outside sections.

use core::marker::PhantomData;
use core::sync::atomic::AtomicBool;

use super::Section;
use crate::arch::percpu::{self, MAX_CPUS};
use crate::println;
use crate::task::wait::Event;
use crate::task::{self, sched};

mod periods;
mod pointer;
mod queue;

/// The atomics of the protocol: loom's, in its tests.
mod atomic {
    pub(super) use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
}

use atomic::{AtomicU64, AtomicUsize, Ordering};
use periods::{IDLE, Periods};
pub(crate) use pointer::{Publish, Published};
use queue::{Basket, Chain, Orphans, Queues, Running};
pub(crate) use queue::{Callback, Head};

static PERIODS: Periods<MAX_CPUS> = Periods {
    begun: AtomicU64::new(0),
    over: AtomicU64::new(0),
    passed: [const { AtomicU64::new(IDLE) }; MAX_CPUS],
    known: AtomicUsize::new(0),
};
static QUEUES: Queues<MAX_CPUS> = Queues::new();
/// What may be freed.
static READY: Basket = Basket::new();
/// What a CPU left behind that went offline: whoever looks next takes it, as if it were new.
static ORPHANS: Orphans = Orphans::new();
static RUNNING: Running = Running::new();
/// The highest number of a period that somebody waits for.
static WANTED: AtomicU64 = AtomicU64::new(0);
/// Callbacks that were queued, and that were run, since boot.
static QUEUED: AtomicUsize = AtomicUsize::new(0);
static RUN: AtomicUsize = AtomicUsize::new(0);

/// So many callbacks on a CPU do not wait for a tick.
const MANY: usize = 32;
/// The task runs so many before it lets others run: a struct takes a thousand instructions and more.
const BATCH: usize = 10;
/// With a longer queue than this it runs them all.
const BACKLOG: usize = 1024;

/// A section in which what was found stays where it is.
///
/// Having a `ReadGuard` means that, until it is dropped, this CPU does not switch tasks, and no object is freed that was published
/// when the guard was made, or later.
#[derive(Debug)]
pub(crate) struct ReadGuard {
    // It belongs to the CPU that made it.
    not_send: PhantomData<*mut ()>,
}

/// Enters a reader section. They nest.
#[must_use]
pub(crate) fn read() -> ReadGuard {
    percpu::preempt_disable();
    ReadGuard { not_send: PhantomData }
}

impl Drop for ReadGuard {
    fn drop(&mut self) {
        percpu::preempt_enable();
    }
}

/// Has `callback` free the object of `head` once no reader is left that may have found it. Does not wait.
///
/// # Safety
///
/// The object is not published any more; it stays where it is, and `head` is used for nothing else, until `callback(head)` is called;
/// `callback` may be called in another task.
pub(crate) unsafe fn call(head: &Head, callback: Callback) {
    head.prepare(callback);
    let section = Section::enter();
    QUEUED.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the caller's promise.
    unsafe { enqueue(Chain::of(core::ptr::from_ref(head).cast_mut()), &section) };
}

/// Puts `chain` on this CPU's queue.
///
/// # Safety
///
/// As for [`call`], for each of its heads; nobody else has the chain.
unsafe fn enqueue(chain: Chain, section: &Section) {
    let cpu = percpu::cpu_number().index();
    if PERIODS.is_idle(cpu) {
        PERIODS.leave_idle(cpu);
    }
    let number = PERIODS.number_after(cpu);
    // SAFETY: this CPU's, in the section.
    let queue = unsafe { QUEUES.of(cpu, section) };
    if queue.due().is_none_or(|due| due < number) {
        WANTED.fetch_max(number, Ordering::Relaxed);
    }
    // SAFETY: the caller's promise.
    let older = unsafe { queue.push(number, chain) };
    QUEUES.lengthen(cpu, chain.heads());
    QUEUES.shorten(cpu, older.heads());
    READY.put(older);
}

/// Waits until every reader section that there is has ended.
///
/// # Context
///
/// Tasks, in no section.
pub(crate) fn synchronize() {
    let number = {
        let _section = Section::enter();
        PERIODS.number_after(percpu::cpu_number().index())
    };
    WANTED.fetch_max(number, Ordering::Relaxed);
    ENDED.wait_for(|| {
        // SeqCst: with the one in `drive`, one of both sees the other.
        AWAITED.store(true, Ordering::SeqCst);
        (PERIODS.over.load(Ordering::SeqCst) >= number).then_some(())
    });
}

/// A period that somebody waits for is over.
static ENDED: Event = Event::new();
static AWAITED: AtomicBool = AtomicBool::new(false);

/// Callbacks that were queued and not run: of the moment.
pub(crate) fn pending() -> usize {
    let run = RUN.load(Ordering::Acquire);
    QUEUED.load(Ordering::Relaxed).saturating_sub(run)
}

/// How many periods are over since boot.
pub(crate) fn periods() -> u64 {
    PERIODS.over()
}

/// Waits until nothing is pending, for a second at most: for who counts everything again.
///
/// # Context
///
/// Tasks, in no section, with a timer.
pub(crate) fn settle() {
    let end = sched::ticks() + sched::TICKS_PER_SECOND;
    while pending() != 0 && sched::ticks() < end {
        sched::sleep_until(sched::ticks() + 1);
    }
}

// ---- what the scheduler and the interrupts tell ----------------------------------------------------------------------

/// This CPU is in no section: it is about to switch tasks, or could. Any context but a handler's; interrupts are off.
pub(crate) fn note_switch() {
    PERIODS.pass(percpu::cpu_number().index());
}

/// An interrupt came, and what it interrupted had so many reasons not to be preempted.
pub(crate) fn note_interrupt(preempt_count: u32) {
    if preempt_count == 0 {
        awake();
        note_switch();
    }
}

/// After each switch, with no lock held, interrupts off: drives grace periods on if somebody waits for one, or if much waits here. A few
/// callbacks have time until the next tick.
pub(crate) fn poll_switch() {
    let cpu = percpu::cpu_number().index();
    if QUEUES.length(cpu) >= MANY || AWAITED.load(Ordering::Relaxed) {
        poll();
    }
}

/// Drives grace periods on, and hands what is due to the task that runs it. At each tick, and where a CPU is about to idle; with no
/// lock held, interrupts off, and outside sections.
pub(crate) fn poll() {
    let cpu = percpu::cpu_number().index();
    let over = PERIODS.over();
    let wanted = WANTED.load(Ordering::Relaxed) > over;
    if wanted && (PERIODS.is_idle(cpu) || PERIODS.has_passed(cpu)) {
        drive(cpu);
    }
    let section = Section::enter();
    adopt(cpu, &section);
    // SAFETY: this CPU's, in the section.
    let queue = unsafe { QUEUES.of(cpu, &section) };
    let over = PERIODS.over();
    if queue.due().is_some_and(|due| due <= over) {
        let due = queue.take_due(over);
        QUEUES.shorten(cpu, due.heads());
        READY.put(due);
    }
    drop(section);
    if !READY.is_empty() {
        wake();
    }
}

/// Ends and begins periods, as far as that goes without waiting.
fn drive(cpu: usize) {
    loop {
        if PERIODS.end() {
            // SeqCst: with the one in `synchronize`.
            if AWAITED.swap(false, Ordering::SeqCst) {
                ENDED.announce();
            }
        }
        if WANTED.load(Ordering::Relaxed) <= PERIODS.over() || !PERIODS.begin() {
            return;
        }
        if !PERIODS.is_idle(cpu) {
            // In no section: see `poll`.
            PERIODS.pass(cpu);
        }
    }
}

/// This CPU is about to halt, with interrupts off: it reads nothing until [`awake`].
pub(crate) fn idle() {
    let cpu = percpu::cpu_number().index();
    PERIODS.enter_idle(cpu);
    poll();
}

/// This CPU is there from here on. Interrupts are off.
pub(crate) fn come() {
    PERIODS.come(percpu::cpu_number().index());
}

/// This CPU goes on, if it was idle. Interrupts are off.
pub(crate) fn awake() {
    let cpu = percpu::cpu_number().index();
    if PERIODS.is_idle(cpu) {
        PERIODS.leave_idle(cpu);
    }
}

/// This CPU goes offline: its callbacks are left to whoever looks next. It is idle from here on.
pub(crate) fn leave_cpu() {
    let section = Section::enter();
    let cpu = percpu::cpu_number().index();
    // SAFETY: this CPU's, in the section.
    let all = unsafe { QUEUES.of(cpu, &section) }.take_due(u64::MAX);
    QUEUES.shorten(cpu, all.heads());
    ORPHANS.put(all, &section);
    PERIODS.enter_idle(cpu);
    drive(cpu);
}

/// Takes what other CPUs left behind on to this CPU's queue, as if it were new: in one step, however much it is.
fn adopt(cpu: usize, section: &Section) {
    if !ORPHANS.is_empty() && !PERIODS.is_idle(cpu) {
        let orphans = ORPHANS.take();
        if !orphans.is_empty() {
            // SAFETY: they were queued by `call`, and are nobody's since.
            unsafe { enqueue(orphans, section) };
        }
    }
}

// ---- the task that runs callbacks ------------------------------------------------------------------------------------

/// Something is ready.
static CALLED: Event = Event::new();
/// The task is about to wait, or does.
static ASLEEP: AtomicBool = AtomicBool::new(false);
/// Its number.
static RUNNER: AtomicUsize = AtomicUsize::new(0);

/// Starts the task that runs callbacks.
pub(crate) fn start() {
    match task::spawn_kernel("rcu", run, 0) {
        Ok(task) => RUNNER.store(task.id(), Ordering::Relaxed),
        Err(error) => println!("vmstack: no task for callbacks: {error}"),
    }
}

/// Starts another one if the current task is the one that runs callbacks, and dies. What it had not run is run.
pub(crate) fn replace_if_dead() {
    if sched::current().id() == RUNNER.load(Ordering::Relaxed) {
        start();
    }
}

fn wake() {
    // SeqCst: either the task sees what is ready, or this sees that it waits.
    atomic::fence(Ordering::SeqCst);
    if ASLEEP.swap(false, Ordering::SeqCst) {
        CALLED.announce();
    }
}

extern "C" fn run(_: usize) -> ! {
    sched::begin();
    loop {
        CALLED.wait_for(|| {
            ASLEEP.store(true, Ordering::SeqCst);
            RUNNING.refill(&READY, &Section::enter()).then_some(())
        });
        ASLEEP.store(false, Ordering::Relaxed);
        run_batch();
        // What it frees is not its own.
        sched::current().heap().reset();
        sched::yield_now();
    }
}

fn run_batch() {
    let limit = if pending() > BACKLOG { usize::MAX } else { BATCH };
    for _ in 0..limit {
        if RUNNING.is_empty() && !RUNNING.refill(&READY, &Section::enter()) {
            return;
        }
        // Release: who sees it run sees what it freed.
        RUN.fetch_add(1, Ordering::Release);
        // SAFETY: this task alone; if it dies, the next one begins after it.
        unsafe { RUNNING.run_one() };
    }
}
