//! The build: what `make` starts, and what that starts.
//!
//! Every process is forked on the CPU of its parent, and half of them move to another one before they do anything: a scheduler moves a process
//! when it begins, for then nothing of it is in a cache. What they start is forked there, and they end there.

use core::time::Duration;
use std::io::{self, Read};
use std::thread;

use vmstack_programs::chance::Chance;
use vmstack_programs::{Pid, cpus, spawn, wait};

use crate::ledger::Ledger;

/// Object files in each directory of BusyBox 1.35.0, `make defconfig`, in the order of the names of those.
pub(crate) const DIRECTORIES: [u32; 29] =
    [1, 11, 35, 15, 81, 2, 4, 4, 7, 3, 3, 1, 136, 2, 12, 5, 35, 3, 52, 15, 13, 2, 19, 5, 4, 8, 3, 59, 29];

/// How long half of the compilations took that were watched, at least and at most, and half of the runs of `fixdep`; a tenth of it, in milliseconds.
/// Nearly all of what else there was took much less.
const COMPILATION: [u64; 2] = [54, 108];
const FIXDEP: u64 = 16;

/// What a build needs, and what its processes count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Build {
    pub(crate) ledger: Ledger,
    pub(crate) cpus: usize,
    /// Jobs at a time: `make -j`.
    pub(crate) jobs: usize,
}

/// What a job of `make` has its shell do.
type Job = fn(&Build, Chance) -> io::Result<()>;

impl Build {
    /// Builds `directories` in so many bursts: what is in one is built side by side, and nothing of the next is begun before it is done. Calls
    /// `look` whenever a job begins or ends.
    pub(crate) fn make(
        &self,
        directories: &[u32],
        bursts: usize,
        mut chance: Chance,
        mut look: impl FnMut(),
    ) -> io::Result<()> {
        let first_of = |burst: usize| burst * directories.len() / bursts;
        (0..bursts).try_for_each(|burst| {
            self.burst(&directories[first_of(burst)..first_of(burst + 1)], &mut chance, &mut look)
        })
    }

    fn burst(&self, directories: &[u32], chance: &mut Chance, look: &mut impl FnMut()) -> io::Result<()> {
        let objects = |&count: &u32| core::iter::repeat_n(Self::object as Job, count as usize);
        let mut jobs = directories.iter().flat_map(|count| objects(count).chain([Self::archive as Job]));
        let mut running = 0;
        loop {
            if running < self.jobs
                && let Some(job) = jobs.next()
            {
                // Whoever ended woke it, wherever that was.
                cpus::stay_on(chance.below(self.cpus as u64) as usize)?;
                self.start(chance.branch(), job)?;
                running += 1;
            } else if running == 0 {
                return Ok(());
            } else {
                self.heed(wait(-1)?.well());
                running -= 1;
            }
            look();
        }
    }

    /// An object file: a shell, which has it compiled and then tidies up, as Kbuild's rule does: `fixdep`, `mv`, `rm`.
    fn object(&self, mut chance: Chance) -> io::Result<()> {
        self.run(chance.branch(), Self::driver)?;
        self.run(chance.branch(), Self::fixdep)?;
        (0..2).try_for_each(|_| self.run(chance.branch(), Self::nothing))
    }

    /// The compiler driver, told to use a pipe (`gcc -pipe`): compiler and assembler are alive at once.
    fn driver(&self, mut chance: Chance) -> io::Result<()> {
        let (mut read, write) = io::pipe()?;
        let compiler = self.start(chance.branch(), move |build, chance| {
            let _until_the_end = &write;
            build.compile(chance)
        })?;
        let assembler = self.start(chance.branch(), move |build, chance| {
            // There is nothing to read, until the compiler has ended.
            let _ = read.read(&mut [0])?;
            build.nothing(chance)
        })?;
        [compiler, assembler].into_iter().try_for_each(|child| self.wait_for(child))
    }

    /// The archive of a directory: a shell, `rm`, `ar`.
    fn archive(&self, mut chance: Chance) -> io::Result<()> {
        (0..2).try_for_each(|_| self.run(chance.branch(), Self::nothing))
    }

    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "a part of a build like others, which can fail")]
    fn compile(&self, mut chance: Chance) -> io::Result<()> {
        let [least, most] = COMPILATION;
        take(least + chance.below(most - least));
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "as above")]
    fn fixdep(&self, _: Chance) -> io::Result<()> {
        take(FIXDEP);
        Ok(())
    }

    /// A program that has little to do.
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "as above")]
    fn nothing(&self, _: Chance) -> io::Result<()> {
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

/// Takes so many milliseconds, asleep: the CPUs of an emulator share fewer real ones, and of a process that computes it matters here only how long it
/// is alive.
fn take(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}
