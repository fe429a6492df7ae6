//! A build, as far as stacks are concerned: how often one is ready, with a tenth of what is in use kept at most.
//!
//! The pattern is that of `programs/src/bin/compile`, whose essay says where it comes from: `make -j8` over the directories of BusyBox, in bursts; for
//! each object file a shell, the driver, the compiler and the assembler, alive at once, and then three small programs; half of them end on another
//! CPU than they were forked on. Here time is a number, so that all of it is the same each time; and the platform says what an allocation took.

mod fake;

use std::collections::BinaryHeap;

use fake::{Area, Fake, Flush, SIZE, Stack, area_of, assert_held_is_right};
use vmstack::Platform;

const MIB: usize = 1 << 20;
const CPUS: usize = 4;
const SEED: u64 = 20_251_117_140_747;
/// Objects in each directory.
const DIRECTORIES: [u32; 29] =
    [1, 11, 35, 15, 81, 2, 4, 4, 7, 3, 3, 1, 136, 2, 12, 5, 35, 3, 52, 15, 13, 2, 19, 5, 4, 8, 3, 59, 29];
/// `make -j`.
const JOBS: usize = 8;
/// Stacks of tasks that sleep all the while.
const SLEEPING: usize = 126;
const SLOTS: usize = 300;
/// Pages of a stack.
const PAGES: usize = SIZE / 4096;
/// Bursts in which directories are built side by side: all of one is done before the next begins.
const BURSTS: usize = 4;

/// What a process runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Program {
    /// A shell that has an object made: the driver, then three small programs.
    Object,
    /// A shell that has an archive made: two small programs.
    Archive,
    Driver,
    Compiler,
    Assembler,
    Fixdep,
    Small,
}

/// A process that is alive.
struct Process<'f> {
    program: Program,
    parent: Option<usize>,
    cpu: usize,
    /// Children that it still starts, one after the other, and those that it waits for.
    left: u32,
    waits: u32,
    stack: Stack<'f>,
}

/// What was seen of a build.
#[derive(Debug, Default)]
struct Seen {
    started: usize,
    elsewhere: usize,
    /// Stacks in use at once, and kept at once, at most.
    peak: usize,
    held: usize,
    /// Allocations that took a frame; that took none, but wrote an entry; and that did neither.
    made: usize,
    beside: usize,
    hits: usize,
    /// What would have had to be made, had all CPUs one cache that is as large as the budget: nothing can do with less.
    least: usize,
    common: usize,
}

struct Build<'f> {
    fake: &'f Fake,
    area: &'f Area<'f>,
    chance: u64,
    now: u64,
    /// What goes on when: the earliest first.
    agenda: BinaryHeap<(core::cmp::Reverse<u64>, usize)>,
    processes: Vec<Option<Process<'f>>>,
    alive: usize,
    budget: usize,
    seen: Seen,
}

impl<'f> Build<'f> {
    fn below(&mut self, limit: u64) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.chance ^ (self.chance >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// A stack, had on `cpu`, and what it took.
    fn stack(&mut self, cpu: usize) -> Stack<'f> {
        match self.seen.common {
            0 => self.seen.least += 1,
            _ => self.seen.common -= 1,
        }
        self.fake.run_on(cpu);
        let (before, counted) = (self.fake.work(), self.area.counters());
        let stack = self.area.alloc(self.seen.started).expect("there are enough");
        let (after, now) = (self.fake.work(), self.area.counters());
        let made = now.populated - counted.populated;
        let hit = now.hits + now.from_depot - counted.hits - counted.from_depot;
        assert_eq!(made + hit, 1, "an allocation is one of them");
        let taken = after.frames_taken - before.frames_taken;
        assert_eq!(taken, made as usize * PAGES, "a hit takes no frame");
        match (made, after.entries_written - before.entries_written) {
            (0, 0) => self.seen.hits += 1,
            (0, _) => self.seen.beside += 1,
            _ => self.seen.made += 1,
        }
        stack
    }

    /// A process is forked on `cpu`, and half of them move.
    fn start(&mut self, program: Program, parent: Option<usize>, cpu: usize) {
        let stack = self.stack(cpu);
        let moves = self.below(2) == 0;
        let to = if moves { (cpu + 1 + self.below(CPUS as u64 - 1) as usize) % CPUS } else { cpu };
        self.seen.started += 1;
        self.seen.elsewhere += usize::from(moves);
        self.alive += 1;
        self.seen.peak = self.seen.peak.max(self.alive);
        self.fake.run_on(to);
        self.fake.write(stack.top().wrapping_sub(8), 1);
        let (left, takes) = match program {
            Program::Object => (4, 1),
            Program::Archive => (2, 1),
            Program::Driver => (2, 1),
            // Milliseconds; the assembler has to wait for the compiler.
            Program::Compiler => (0, 54 + self.below(54)),
            Program::Assembler => (0, 1 << 20),
            Program::Fixdep => (0, 16),
            Program::Small => (0, 1),
        };
        self.processes.push(Some(Process { program, parent, cpu: to, left, waits: 0, stack }));
        self.agenda.push((core::cmp::Reverse(self.now + takes), self.processes.len() - 1));
    }

    /// Process `number` goes on: with its next child, or to its end.
    fn go_on(&mut self, number: usize) {
        let Some(process) = &mut self.processes[number] else { return };
        let (program, cpu) = (process.program, process.cpu);
        if process.waits != 0 {
            return;
        }
        if process.left == 0 {
            return self.end(number);
        }
        let children: &[Program] = match (program, process.left) {
            (Program::Object, 4) => &[Program::Driver],
            (Program::Object, 3) => &[Program::Fixdep],
            (Program::Driver, _) => &[Program::Compiler, Program::Assembler],
            _ => &[Program::Small],
        };
        process.left -= children.len() as u32;
        process.waits = children.len() as u32;
        children.iter().for_each(|&child| self.start(child, Some(number), cpu));
    }

    /// It ends as tasks do: whoever is next on its CPU gives its stack back.
    fn end(&mut self, number: usize) {
        let Some(process) = self.processes[number].take() else { return };
        self.fake.run_on(process.cpu);
        process.stack.hand_over(&self.fake.enter());
        self.area.reap();
        self.alive -= 1;
        self.seen.common = self.budget.min(self.seen.common + 1);
        self.seen.held = self.seen.held.max(self.area.counters().held as usize / SIZE);
        let Some(parent) = process.parent else { return };
        if process.program == Program::Compiler {
            // It wrote to the assembler, which has been started after it.
            let assembler = (number..self.processes.len()).find(|&other| {
                let other = self.processes[other].as_ref();
                other.is_some_and(|other| other.parent == Some(parent) && other.program == Program::Assembler)
            });
            self.agenda.extend(assembler.map(|other| (core::cmp::Reverse(self.now + 2), other)));
        }
        if let Some(parent_process) = &mut self.processes[parent] {
            parent_process.waits -= 1;
            self.agenda.push((core::cmp::Reverse(self.now + 1), parent));
        }
    }

    /// Builds all directories.
    fn make(&mut self) {
        for burst in 0..BURSTS {
            let part = |burst: usize| burst * DIRECTORIES.len() / BURSTS;
            let directories = &DIRECTORIES[part(burst)..part(burst + 1)];
            self.burst(directories.iter().flat_map(|&objects| {
                core::iter::repeat_n(Program::Object, objects as usize).chain([Program::Archive])
            }));
            self.processes.clear();
            self.agenda.clear();
        }
    }

    fn burst(&mut self, jobs: impl Iterator<Item = Program>) {
        let mut jobs = jobs.peekable();
        while jobs.peek().is_some() || self.alive != SLEEPING {
            let running = self.processes.iter().flatten().filter(|job| job.parent.is_none()).count();
            if running < JOBS
                && let Some(job) = jobs.next()
            {
                let cpu = self.below(CPUS as u64) as usize;
                self.start(job, None, cpu);
            } else {
                self.step();
            }
        }
    }

    fn step(&mut self) {
        let Some((core::cmp::Reverse(at), number)) = self.agenda.pop() else { return };
        self.now = at;
        self.go_on(number);
    }
}

/// A build with `budget` stacks that may be kept.
fn build(budget: usize, flush: Flush) -> Seen {
    let fake = Fake::new(CPUS, 64 + SLOTS * 4, (SLOTS + 64) * 2 * SIZE + MIB, flush);
    let area = area_of(&fake, SLOTS);
    area.set_budget(budget);
    // The records of all slots, so that none is made on the way.
    drop((0..SLOTS).map(|i| area.alloc(i).expect("there are enough")).collect::<Vec<_>>());
    (0..CPUS).for_each(|cpu| {
        fake.run_on(cpu);
        area.pressure();
        area.drain();
    });
    let sleeping: Vec<_> = (0..SLEEPING).map(|i| area.alloc(i).expect("there are enough")).collect();
    assert_eq!(area.counters().held, 0, "nothing is kept at first");
    let mut build = Build {
        fake: &fake,
        area: &area,
        chance: SEED,
        now: 0,
        agenda: BinaryHeap::new(),
        processes: Vec::new(),
        alive: SLEEPING,
        budget,
        seen: Seen::default(),
    };
    build.make();
    let seen = build.seen;
    assert_held_is_right(&area);
    drop(sleeping);
    seen
}

/// Half of all ended elsewhere, whoever was counted took what it should, and most took nothing.
fn assert_most_were_ready(seen: &Seen) {
    assert_eq!(seen.made + seen.hits, seen.started, "no hit writes an entry: {seen:?}");
    assert!(seen.elsewhere.abs_diff(seen.started / 2) < seen.started / 50, "half ended elsewhere: {seen:?}");
    assert!(20 * seen.hits >= 19 * seen.started, "{seen:?}");
}

#[test]
fn nineteen_of_twenty_are_ready_with_a_tenth_of_what_is_in_use_kept() {
    let unbounded = build(usize::MAX, Flush::Now);
    assert_most_were_ready(&unbounded);
    let tenth = unbounded.peak / 10;
    let at_once = build(tenth, Flush::Now);
    assert_most_were_ready(&at_once);
    assert!(at_once.held <= tenth, "{at_once:?}");
    // So few are kept that no CPU has its own; and where there are too many, a few more go at once.
    assert!(at_once.made >= at_once.least && at_once.made * 4 <= at_once.least * 5, "{at_once:?}");
    let late = build(tenth, Flush::WhenAsked);
    assert_most_were_ready(&late);
    assert!(late.held <= tenth, "also while some are on their way: {late:?}");
}
