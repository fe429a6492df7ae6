//! The build: what `make` starts, and what that starts.
//!
//! Every process is forked on the CPU of its parent, and half of them move to another one before they do anything: a scheduler moves a process
//! when it begins, for then nothing of it is in a cache. What they start is forked there, and they end there.

use std::io::{self, Read};

use vmstack_programs::chance::Chance;
use vmstack_programs::{Pid, cpus, spawn, wait};

use crate::ledger::Ledger;

/// Object files in each directory of BusyBox 1.35.0, `make defconfig`, in the order of the names of those. So many come of a directory before its
/// archive is made.
pub(crate) const DIRECTORIES: [u32; 29] =
    [1, 11, 35, 15, 81, 2, 4, 4, 7, 3, 3, 1, 136, 2, 12, 5, 35, 3, 52, 15, 13, 2, 19, 5, 4, 8, 3, 59, 29];

/// Rounds of the shortest compilation: each compiler has 1 to 16 times as many, by the logarithm.
const SHORTEST: u64 = 100_000;
/// Rounds of any other program.
const SMALL: u64 = 20_000;

/// What a build needs, and what its processes count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Build {
    pub(crate) ledger: Ledger,
    pub(crate) cpus: usize,
    /// Jobs at a time: `make -j`.
    pub(crate) jobs: usize,
}

impl Build {
    /// Builds one directory after the other, and calls `look` whenever a job begins or ends, with how many there are.
    pub(crate) fn make(&self, directories: &[u32], mut chance: Chance, mut look: impl FnMut(usize)) -> io::Result<()> {
        for &objects in directories {
            let mut left = objects;
            let mut running = 0;
            while left != 0 || running != 0 {
                if left != 0 && running < self.jobs {
                    // Whoever ended woke it, wherever that was.
                    cpus::stay_on(chance.below(self.cpus as u64) as usize)?;
                    self.start(chance.branch(), Self::object)?;
                    (left, running) = (left - 1, running + 1);
                } else {
                    self.heed(wait(-1)?.well());
                    running -= 1;
                }
                look(running);
            }
            self.run(chance.branch(), Self::archive)?;
            look(0);
        }
        Ok(())
    }

    /// An object file: a shell, which has it compiled and then tidies up, as Kbuild's rule does: `fixdep`, `mv`, `rm`.
    fn object(&self, mut chance: Chance) -> io::Result<()> {
        self.run(chance.branch(), Self::driver)?;
        (0..3).try_for_each(|_| self.run(chance.branch(), Self::small))
    }

    /// The compiler driver, told to use a pipe (`gcc -pipe`): compiler and assembler are alive at once.
    fn driver(&self, mut chance: Chance) -> io::Result<()> {
        let (mut read, write) = io::pipe()?;
        let compiler = self.start(chance.branch(), move |_, chance| {
            let _until_the_end = &write;
            compile(chance);
            Ok(())
        })?;
        let assembler = self.start(chance.branch(), move |build, chance| {
            // There is nothing to read, until the compiler has ended.
            let _ = read.read(&mut [0])?;
            build.small(chance)
        })?;
        [compiler, assembler].into_iter().try_for_each(|child| self.wait_for(child))
    }

    /// The archive of a directory: a shell, `rm`, `ar`.
    fn archive(&self, mut chance: Chance) -> io::Result<()> {
        (0..2).try_for_each(|_| self.run(chance.branch(), Self::small))
    }

    /// A program that has little to do.
    #[expect(clippy::unnecessary_wraps, reason = "it is a part of a build like others, which can fail")]
    fn small(&self, mut chance: Chance) -> io::Result<()> {
        work(SMALL + chance.below(SMALL));
        Ok(())
    }

    /// Starts a process that does `part`.
    fn start(&self, mut chance: Chance, part: impl FnOnce(&Self, Chance) -> io::Result<()>) -> io::Result<Pid> {
        let parent = cpus::here();
        spawn(move || {
            self.ledger.begin();
            let moved = if chance.below(2) == 0 { self.move_from(parent, &mut chance) } else { Ok(()) };
            self.heed(moved.and_then(|()| part(self, chance)).is_ok());
            self.ledger.end(parent);
            0
        })
    }

    /// Goes to another CPU than `cpu`, if there is one.
    fn move_from(&self, cpu: usize, chance: &mut Chance) -> io::Result<()> {
        match self.cpus {
            0 | 1 => Ok(()),
            cpus => cpus::stay_on((cpu + 1 + chance.below(cpus as u64 - 1) as usize) % cpus),
        }
    }

    /// Starts a process that does `part`, and waits for it.
    fn run(&self, chance: Chance, part: impl FnOnce(&Self, Chance) -> io::Result<()>) -> io::Result<()> {
        self.start(chance, part).and_then(|child| self.wait_for(child))
    }

    fn wait_for(&self, child: Pid) -> io::Result<()> {
        wait(child).map(|ended| self.heed(ended.well()))
    }

    fn heed(&self, well: bool) {
        if !well {
            self.ledger.fail();
        }
    }
}

/// A compilation: what takes long, and differs most.
fn compile(mut chance: Chance) {
    let doublings = chance.below(4);
    work((SHORTEST << doublings) + chance.below(SHORTEST << doublings));
}

/// So many rounds of a loop that no compiler shortens.
fn work(rounds: u64) {
    let mut chance = Chance::of(rounds);
    (0..rounds).for_each(|_| {
        std::hint::black_box(chance.next());
    });
}
