//! What the crashes of `mode=crash` share: a script each, between a beginning and an end that the host looks for.
//!
//! ```text
//!   fact crash.begin NAME
//!     count everything; start the survivors                  a kernel task and a process on each side of the victim
//!     the script: victims, each waited for                   fact victim TASK STATUS
//!     stop the survivors                                     fact survivor TASK BEFORE AFTER STATUS
//!     count everything again                                 fact balance...
//!   fact crash.end NAME
//! ```
//!
//! Victims are kernel tasks where the crash needs no user mode, and the program `/bin/crash` where it does.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{
    Provocation, areas, attack, crowd, delivery, dma, emergency, find, graces, handler, locks, places, sweep, threads,
};
use vmstack::VirtAddr;

use crate::balance::Balance;
use crate::options::Options;
use crate::process::exec::Strings;
use crate::process::{Process, signal, start};
use crate::syscall::Errno;
use crate::task::{self, TaskRef, TaskStack, sched};
use crate::{fact, oops, println};

/// The program that provokes a crash by writing its name to the device, or works until it is told to stop.
pub(crate) const PROGRAM: &[u8] = b"/bin/crash";
/// How many victims are alive at once at most.
const AT_ONCE: usize = 128;
/// How many survivors of each sort work beside the victims.
const SURVIVORS: usize = 2;

/// After so many pieces of work a survivor of the kernel sleeps for a tick.
const WORK_AT_ONCE: usize = 64;

/// A crash of `mode=crash`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script {
    pub(super) name: &'static str,
    /// Gets what follows the colon in `crash=NAME:WORD`; empty without one.
    pub(super) run: fn(&str),
}

/// The scripts that are more than one victim which provokes the crash of the same name.
static SCRIPTS: &[&[Script]] = &[
    &SHARED,
    &areas::SCRIPTS,
    &attack::SCRIPTS,
    &crowd::SCRIPTS,
    &handler::SCRIPTS,
    &locks::SCRIPTS,
    &places::SCRIPTS,
    &sweep::SCRIPTS,
    &threads::SCRIPTS,
    &delivery::SCRIPTS,
    &dma::SCRIPTS,
    &emergency::SCRIPTS,
    &graces::SCRIPTS,
];

/// Several victims, each with a variant of its own.
static SHARED: [Script; 2] = [
    Script {
        name: "EXHAUST_STACK",
        run: |_| {
            let variants =
                ["EXHAUST_STACK", "EXHAUST_STACK:trait-objects", "EXHAUST_STACK:closures", "EXHAUST_STACK:mutual"];
            variants.into_iter().for_each(perform_provocation);
        },
    },
    Script {
        name: "BIG_FRAME",
        run: |_| {
            let variants = ["BIG_FRAME:page", "BIG_FRAME:guard", "BIG_FRAME:stack", "BIG_FRAME:unprobed"];
            variants.into_iter().for_each(perform_provocation);
        },
    },
];

/// Runs the crashes that the command line names, in its order.
pub(crate) fn run(options: &Options) {
    delivery::prepare();
    warm_up();
    for name in options.crashes() {
        println!("vmstack: provoking {name}");
        fact!("crash.begin", "{name}");
        oops::renew_budget();
        let before = Balance::take();
        let survivors = Survivors::start();
        perform(name);
        survivors.stop();
        sched::settle();
        Balance::take().print_since(&before);
        fact!("crash.end", "{name}");
    }
}

/// Lets queues and caches grow to what a crash needs of them, so that they do not count as a loss, and makes the area of two stacks.
fn warm_up() {
    places::take_edges();
    let victims: Vec<_> = (0..2 * SURVIVORS + AT_ONCE).filter_map(|_| Victim::start(|| ())).collect();
    victims.iter().for_each(|victim| {
        victim.end();
    });
    sched::settle();
}

/// Runs the script of `name`; where there is none, a process and a kernel task provoke the crash, one after the other.
fn perform(name: &str) {
    let (bare, word) = name.split_once(':').unwrap_or((name, ""));
    if let Some(script) = SCRIPTS.iter().copied().flatten().find(|script| script.name == bare) {
        return (script.run)(word);
    }
    perform_provocation(name);
}

pub(super) fn perform_provocation(name: &str) {
    match find(name) {
        Some(provocation) => {
            process_victim(provocation);
            kernel_victim(provocation.act);
        }
        None => println!("there is no crash called {name}"),
    }
}

/// A process that provokes the crash called `name`.
pub(super) fn perform_process(name: &str) {
    if let Some(provocation) = find(name) {
        process_victim(provocation);
    }
}

/// Lets others run for a while.
pub(super) fn wait_a_little() {
    sched::sleep_until(sched::ticks() + 2);
}

/// A process that provokes the crash in a system call.
fn process_victim(provocation: &Provocation) {
    match start_program(&[PROGRAM, provocation.name.as_bytes()]) {
        Ok(process) => wait_for_process(&process),
        Err(error) => println!("no victim: {error:?}"),
    }
}

/// Starts a program of the archive with these arguments, the first of which is its path.
pub(super) fn start_program(arguments: &[&[u8]]) -> Result<Arc<Process>, Errno> {
    let mut strings = Strings::default();
    for argument in arguments {
        strings.arguments.push(argument)?;
    }
    start::start(arguments.first().copied().unwrap_or(&[]), &strings)
}

/// Waits for a victim to end, and says how.
pub(super) fn wait_for_process(process: &Arc<Process>) {
    let end = process.wait_for_end();
    fact!("victim", "{} {}", process.id(), end.wait_status());
}

/// A kernel task that calls `act`, waited for.
pub(super) fn kernel_victim(act: fn()) {
    if let Some(victim) = Victim::start(act) {
        victim.wait();
    }
}

/// A kernel task that something is about to happen to.
#[derive(Debug)]
pub(super) struct Victim(TaskRef);

impl Victim {
    /// Starts a task that calls `act` and ends. None if there is no memory.
    pub(super) fn start(act: fn()) -> Option<Self> {
        // A function's address is a word: the task gets it as its argument.
        match task::spawn_kernel("victim", victim, act as usize) {
            Ok(task) => Some(Self(task)),
            Err(error) => {
                println!("no victim: {error}");
                None
            }
        }
    }

    /// Starts a task on `stack`. None if there is no memory.
    pub(super) fn start_on(stack: TaskStack, act: fn()) -> Option<Self> {
        task::spawn_on(task::next_id(), "victim", stack, victim, act as usize).map(Self)
    }

    /// The bottom and the top of its stack.
    pub(super) fn stack(&self) -> (VirtAddr, VirtAddr) {
        self.0.stack_bounds()
    }

    /// Its task number.
    pub(super) fn id(&self) -> usize {
        self.0.id()
    }

    /// Whether it still runs or will.
    pub(super) fn is_alive(&self) -> bool {
        // Not by its count: the scheduler's is given up after a grace period, which a CPU that is busy holds up.
        !self.0.is_over()
    }

    /// Waits until it is gone, without a word: whether it was killed.
    pub(super) fn end(&self) -> bool {
        while self.is_alive() {
            sched::yield_now();
        }
        self.0.was_killed()
    }

    /// Waits until it is gone, and says how it ended, in `wait4`'s words.
    pub(super) fn wait(&self) {
        let status = if self.end() { u32::from(signal::SEGV) } else { 0 };
        fact!("victim", "{} {status}", self.id());
    }
}

extern "C" fn victim(act: usize) -> ! {
    sched::begin();
    // SAFETY: the word is the address of a function of this type: `Victim::start` is the only caller.
    let act: fn() = unsafe { core::mem::transmute(act) };
    act();
    sched::exit()
}

/// Whether survivors go on working.
static WORKING: AtomicBool = AtomicBool::new(false);
/// What each survivor of the kernel has done.
static WORK: [AtomicUsize; SURVIVORS] = [const { AtomicUsize::new(0) }; SURVIVORS];

/// Counts a piece of work of the process that writes to the work file: false once it is to stop.
pub(crate) fn note_work() -> bool {
    let Some(process) = crate::process::current() else { return false };
    process.work.fetch_add(1, Ordering::Relaxed);
    WORKING.load(Ordering::Relaxed)
}

/// Those who must not notice.
#[derive(Debug)]
struct Survivors {
    tasks: Vec<(Victim, usize)>,
    processes: Vec<(Arc<Process>, usize)>,
}

extern "C" fn survivor(index: usize) -> ! {
    sched::begin();
    while WORKING.load(Ordering::Relaxed) {
        let work = WORK[index].fetch_add(1, Ordering::Relaxed);
        // Now and then there is nothing to do, so that idle tasks run too.
        if work.is_multiple_of(WORK_AT_ONCE) { sched::sleep_until(sched::ticks() + 1) } else { sched::yield_now() }
    }
    sched::exit()
}

impl Survivors {
    /// Starts them, and waits until each has done something.
    fn start() -> Self {
        WORKING.store(true, Ordering::Relaxed);
        let tasks = (0..SURVIVORS).filter_map(|index| {
            let task = task::spawn_kernel("survivor", survivor, index).ok()?;
            Some((Victim(task), WORK[index].load(Ordering::Relaxed)))
        });
        let tasks = tasks.collect();
        let processes = (0..SURVIVORS).filter_map(|_| Some((start_program(&[PROGRAM, b"--work"]).ok()?, 0)));
        let mut survivors = Self { tasks, processes: processes.collect() };
        survivors.let_work();
        survivors.note();
        survivors
    }

    /// Waits until each has done something since it was last noted, or for two seconds.
    fn let_work(&self) {
        let patience = sched::ticks() + 2 * sched::TICKS_PER_SECOND;
        let idle = |(process, noted): &(Arc<Process>, usize)| process.work.load(Ordering::Relaxed) == *noted;
        let still = || {
            let idle_task =
                self.tasks.iter().enumerate().any(|(index, (_, noted))| WORK[index].load(Ordering::Relaxed) == *noted);
            idle_task || self.processes.iter().any(idle)
        };
        while still() && sched::ticks() < patience {
            sched::yield_now();
        }
    }

    /// Notes what each has done so far.
    fn note(&mut self) {
        for (index, (_, noted)) in self.tasks.iter_mut().enumerate() {
            *noted = WORK[index].load(Ordering::Relaxed);
        }
        for (process, noted) in &mut self.processes {
            *noted = process.work.load(Ordering::Relaxed);
        }
    }

    /// Lets each work once more, stops them, and says what they did.
    fn stop(self) {
        self.let_work();
        WORKING.store(false, Ordering::Relaxed);
        for (index, (task, before)) in self.tasks.iter().enumerate() {
            let status = if task.end() { u32::from(signal::SEGV) } else { 0 };
            fact!("survivor", "{} {before} {} {status}", task.id(), WORK[index].load(Ordering::Relaxed));
        }
        for (process, before) in &self.processes {
            let status = process.wait_for_end().wait_status();
            fact!("survivor", "{} {before} {} {status}", process.id(), process.work.load(Ordering::Relaxed));
        }
    }
}
