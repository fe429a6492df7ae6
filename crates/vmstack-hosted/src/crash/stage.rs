//! Where crashes are provoked: a machine of its own for each, with workers that must survive and victims that must not.
//!
//! ```text
//!   thread of each CPU   worker | victim | worker ...   run() until all have ended
//!   or, in a series      worker | driver ─ spawns a victim, yields, spawns the next ...
//! ```
//!
//! Workers count their rounds until every victim has started to crash, and a few rounds more, so that work before and after
//! can be seen. Context: a thread that is in no task; tasks see the stage through shared references and atomics only.

use core::sync::atomic::{AtomicUsize, Ordering};

use std::rc::{Rc, Weak};
use std::sync::Barrier;

use super::CrashError;
use super::catalogue::{Seat, Way};
use crate::config::Config;
use crate::cpu::{Cpu, yield_now};
use crate::machine::Machine;
use crate::task::{Ended, Outcome};

/// The size of a stack, in bytes.
pub(super) const STACK_SIZE: usize = 32 << 10;
/// How many workers a CPU has.
const WORKERS: usize = 3;
/// How many stacks there are for each CPU: workers, a victim, and some that are cached.
const SLOTS: usize = 16;
/// How many rounds a worker works after the last crash.
const ROUNDS_AFTER: usize = 16;
/// No victim has looked yet.
const UNSEEN: usize = usize::MAX;
/// How a victim is called, before its turn.
const VICTIM: &str = "victim ";
const WORKER: &str = "worker ";

/// What a worker did, as others see it.
#[derive(Debug)]
struct Work {
    rounds: AtomicUsize,
    /// Its rounds when the first victim crashed.
    before: AtomicUsize,
}

/// A machine with what its tasks share.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) machine: Machine,
    work: Vec<Work>,
    victims: usize,
    crashing: AtomicUsize,
    /// Where the victims of all CPUs meet, so that they crash at the same moment.
    meet: Barrier,
    cpus: usize,
}

/// What a victim knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene<'m> {
    stage: &'m Stage,
    turn: usize,
}

impl<'m> Scene<'m> {
    pub(super) const fn machine(&self) -> &'m Machine {
        &self.stage.machine
    }

    /// Which of a series of victims this is, from 0.
    pub(super) const fn turn(&self) -> usize {
        self.turn
    }
}

impl Stage {
    /// A stage for `victims` in all, on `cpus` CPUs.
    pub(super) fn new(cpus: usize, victims: usize, seat: Seat) -> Result<Self, CrashError> {
        let slots = if seat == Seat::Last { WORKERS + 1 } else { SLOTS * cpus };
        let machine = Machine::new(&Config::new(slots, STACK_SIZE).cpus(cpus)).map_err(CrashError::Machine)?;
        let work = || Work { rounds: AtomicUsize::new(0), before: AtomicUsize::new(UNSEEN) };
        Ok(Self {
            machine,
            work: (0..WORKERS * cpus).map(|_| work()).collect(),
            victims,
            crashing: AtomicUsize::new(0),
            meet: Barrier::new(cpus),
            cpus,
        })
    }

    /// One victim on each CPU, at the same moment.
    pub(super) fn all_at_once(&self, seat: Seat, way: Way) -> Result<Vec<Ended>, CrashError> {
        self.on_every_cpu(|cpu, number| {
            if seat == Seat::First {
                self.spawn_victim(cpu, number, way)?;
            }
            self.spawn_workers(cpu, number)?;
            if seat == Seat::First { Ok(()) } else { self.spawn_victim(cpu, number, way) }
        })
    }

    /// Victims one after the other, as many on each CPU.
    pub(super) fn in_series(&self, way: Way) -> Result<Vec<Ended>, CrashError> {
        let each = self.victims / self.cpus;
        self.on_every_cpu(|cpu, number| {
            self.spawn_workers(cpu, number)?;
            let again = Rc::downgrade(cpu);
            let drive = move || (0..each).for_each(|turn| self.next_victim(&again, number * each + turn, way));
            // SAFETY: nobody knows the driver's stack; what it captures is outside.
            unsafe { cpu.spawn("driver", drive) }.map_err(CrashError::Spawn)?;
            Ok(())
        })
    }

    fn on_every_cpu<'m>(
        &'m self,
        cast: impl Fn(&Rc<Cpu<'m>>, usize) -> Result<(), CrashError> + Sync,
    ) -> Result<Vec<Ended>, CrashError> {
        let run = |number| {
            let cpu = Rc::new(self.machine.cpu().map_err(CrashError::Cpu)?);
            let spawned = cast(&cpu, number);
            if spawned.is_err() {
                self.crashing.store(self.victims, Ordering::Relaxed);
            }
            let ended = cpu.run();
            spawned.map(|()| ended)
        };
        let ended = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.cpus).map(|number| scope.spawn(move || run(number))).collect();
            threads.into_iter().map(|thread| thread.join().map_err(|_| CrashError::Panicked)?).collect::<Vec<_>>()
        });
        let mut all = Vec::new();
        for of_cpu in ended {
            all.extend(of_cpu?);
        }
        Ok(all)
    }

    fn spawn_workers<'m>(&'m self, cpu: &Cpu<'m>, number: usize) -> Result<(), CrashError> {
        let works = self.work.iter().enumerate().skip(number * WORKERS).take(WORKERS);
        for (i, work) in works {
            // SAFETY: nobody knows a worker's stack; it counts outside.
            unsafe { cpu.spawn(&format!("{WORKER}{i}"), move || self.work(work)) }.map_err(CrashError::Spawn)?;
        }
        Ok(())
    }

    fn work(&self, work: &Work) {
        let mut left = ROUNDS_AFTER;
        while left != 0 {
            if self.crashing.load(Ordering::Relaxed) >= self.victims {
                left -= 1;
            }
            work.rounds.fetch_add(1, Ordering::Relaxed);
            yield_now();
        }
    }

    fn spawn_victim<'m>(&'m self, cpu: &Cpu<'m>, turn: usize, way: Way) -> Result<(), CrashError> {
        let scene = Scene { stage: self, turn };
        let body = move || {
            // Meanwhile the others of this CPU have begun to work.
            yield_now();
            if self.victims == self.cpus {
                self.meet.wait();
            }
            self.note_crash();
            way(&scene);
        };
        // SAFETY: nobody knows a victim's stack, and what it captures is outside; nothing of it is needed when it is dead.
        unsafe { cpu.spawn(&format!("{VICTIM}{turn}"), body) }.map_err(CrashError::Spawn)?;
        Ok(())
    }

    fn note_crash(&self) {
        for work in &self.work {
            let rounds = work.rounds.load(Ordering::Relaxed);
            // Only the first victim's look counts.
            work.before.compare_exchange(UNSEEN, rounds, Ordering::Relaxed, Ordering::Relaxed).ok();
        }
        self.crashing.fetch_add(1, Ordering::Relaxed);
    }

    /// One more victim, which has crashed when this returns.
    fn next_victim<'m>(&'m self, cpu: &Weak<Cpu<'m>>, turn: usize, way: Way) {
        let spawned = cpu.upgrade().map(|cpu| self.spawn_victim(&cpu, turn, way));
        if !matches!(spawned, Some(Ok(()))) {
            // Nobody waits for it. It is missed among those who ended.
            self.crashing.fetch_add(1, Ordering::Relaxed);
        }
        // Twice: it yields once itself.
        (0..2).for_each(|_| yield_now());
    }

    /// The rounds of worker `ended` when the first victim crashed, and at the end; nothing if it is not a worker.
    pub(super) fn rounds(&self, ended: &Ended) -> Option<(usize, usize)> {
        let work = self.work.get(ended.name.strip_prefix(WORKER)?.parse::<usize>().ok()?)?;
        Some((work.before.load(Ordering::Relaxed), work.rounds.load(Ordering::Relaxed)))
    }

    /// How many tasks were started.
    pub(super) fn tasks(&self) -> usize {
        self.machine.tasks_started()
    }

    /// How many frames are free or held by the area, found by looking at each.
    pub(super) fn frames(&self) -> usize {
        let slots = self.machine.area().recount();
        let pages = self.machine.area().geometry().map_or(0, vmstack::Geometry::stack_pages);
        self.machine.frames().free + slots.metadata_pages + (slots.mapped() + slots.retiring) * pages
    }
}

/// Which of a series of victims `ended` was; nothing if it was none.
pub(super) fn victim(ended: &Ended) -> Option<usize> {
    ended.name.strip_prefix(VICTIM)?.parse().ok()
}

/// How a task ended, as wait4 would have it.
pub(super) const fn status(ended: &Ended) -> i32 {
    match ended.outcome {
        Outcome::Finished => 0,
        Outcome::Killed(_) => libc::SIGSEGV,
        Outcome::Strayed(_) => libc::SIGSEGV,
        Outcome::Panicked(_) => libc::SIGABRT,
    }
}
