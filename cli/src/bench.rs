//! `vmstack bench`: what things cost, in suites.
//!
//! A suite boots what it measures, prints a table for people, and gives findings: a figure each, which passes when it is at most what was
//! aimed at, and a row that could not be measured falls short. Figures of a guest are instructions: one CPU, software
//! emulation, a clock that is the number of instructions (`emulator::Accelerator::Counting`), so that they are the same on every machine
//! with the same emulator and guest. *Native* suites boot nothing: they measure in this process, in nanoseconds (`native`), which are good as
//! ratios within one run.
//!
//! What can be refused at once is refused before anything is fetched, installed, built or booted.

use core::num::NonZeroU32;
use std::ffi::OsStr;
use std::process::ExitCode;

use crate::args::{self, Target};
use crate::boots::{Boots, Request};
use crate::checkout::Checkout;
use crate::checks::{Check, all_hold};
use crate::emulator::time_limit;
use crate::failure::Failure;
use crate::guest::Guest;
use crate::interrupt::Interrupts;
use crate::json::Sink;
use crate::linux::Linux;
use crate::machine::ThisMachine;
use crate::provision::provision;
use crate::report;
use crate::run::check_target;
use crate::screen::{Screen, Tone};
use crate::words::Words;

mod available;
mod counted;
mod crowd;
mod dma;
mod fault;
mod hit;
mod hosted;
mod life;
mod memory;
mod native;
mod plots;
mod scarcity;
mod stack;
mod storm;
mod switch;
mod vmalloc;

use plots::Plots;

/// The memory of a machine for which a suite does not say otherwise, in MiB.
const MEMORY: u32 = 256;

/// What suites are given: a guest, and what to compare it with.
#[derive(Debug)]
struct Setting<'a> {
    boots: Boots<'a>,
    linux: Option<Linux>,
    samples: Option<u32>,
}

/// What suites are given that boot nothing.
#[derive(Clone, Copy, Debug)]
struct NativeSetting<'a> {
    samples: Option<u32>,
    interrupts: &'a Interrupts,
}

/// Runs a suite in boots of a guest and shows it; gives its findings.
type GuestRun = fn(&Setting<'_>, &mut Screen) -> Result<Vec<Check>, Failure>;
/// The same in this process.
type NativeRun = fn(&NativeSetting<'_>, &mut Screen) -> Result<Vec<Check>, Failure>;

/// Where a suite runs.
#[derive(Clone, Copy)]
enum Runner {
    Guest(GuestRun),
    Native(NativeRun),
    /// One part in a guest and then the other in this process; with `--on hosted` the other alone.
    Both(GuestRun, NativeRun),
}

/// One suite.
struct Suite {
    name: &'static str,
    does: &'static str,
    /// Whether it is measured on another kernel too.
    compares: bool,
    run: Runner,
}

impl Suite {
    const fn boots(&self) -> bool {
        !matches!(self.run, Runner::Native(_))
    }

    /// Whether there is something to measure in this process.
    const fn runs_here(&self) -> bool {
        !matches!(self.run, Runner::Guest(_))
    }
}

/// All suites, in the order in which they run.
const SUITES: [Suite; 11] = [
    Suite {
        name: "life",
        does: "the life of a task: clone, storms of threads, vfork, fork, execve; mapped and direct stacks, and Linux",
        compares: true,
        run: Runner::Guest(life::run),
    },
    Suite {
        name: "storm",
        does: "100,000 threads alive at once in 4 GiB, and as many processes as fit",
        compares: false,
        run: Runner::Guest(storm::run),
    },
    Suite {
        name: "scarcity",
        does: "tasks in fragmented memory until fork fails, and fork bombs; mapped and direct stacks",
        compares: false,
        run: Runner::Guest(scarcity::run),
    },
    Suite {
        name: "switch",
        does: "a context switch and the TLB, in this process: 16 to 65,536 stacks in three kinds of memory",
        compares: false,
        run: Runner::Native(switch::run),
    },
    Suite {
        name: "hosted",
        does: "stacks in this process: our area, corosensei, a pool of those, wasmtime, mmap, malloc",
        compares: false,
        run: Runner::Native(hosted::run),
    },
    Suite {
        name: "stack",
        does: "what a stack costs to make, use, clear and give back, part by part",
        compares: false,
        run: Runner::Guest(stack::run),
    },
    Suite {
        name: "hit",
        does: "how often a stack is ready: the processes of a build on 4 CPUs, by how many may be kept, and freed after RCU",
        compares: false,
        run: Runner::Guest(hit::run),
    },
    Suite {
        name: "fault",
        does: "the end of a task that overflows: from the fault to the next task, part by part",
        compares: false,
        run: Runner::Guest(fault::run),
    },
    Suite {
        name: "memory",
        does: "the bytes that a stack takes, by its size: pages, page tables, record",
        compares: false,
        run: Runner::Guest(memory::run),
    },
    Suite {
        name: "vmalloc",
        does: "areas of any size, after Linux's test_vmalloc",
        compares: false,
        run: Runner::Both(vmalloc::run, hosted::areas::run),
    },
    Suite {
        name: "dma",
        does: "the door to devices: requests by chance with every byte compared, and what it costs",
        compares: false,
        run: Runner::Both(dma::run, hosted::dma::run),
    },
];

/// Carries out `vmstack bench`.
///
/// # Errors
///
/// When it could not be carried out.
pub fn bench(bench: &args::Bench, interrupts: &Interrupts) -> Result<ExitCode, Failure> {
    check_flags(bench)?;
    let suites = chosen(bench)?;
    let limit = time_limit()?;
    let sink = Sink::open(bench.json.as_deref())?;
    let mut screen = Screen::standard(sink.takes_standard_output());
    if bench.list {
        list(&suites, &mut screen);
        return Ok(ExitCode::SUCCESS);
    }
    let plots = bench.plots.as_deref().map(Plots::open).transpose()?;
    let request = Request { cpus: 1, memory: MEMORY, limit, interrupts };
    let checks = measure(bench, &suites, request, &mut screen)?;
    report::sum(&mut screen, &checks);
    sink.write(&checks)?;
    if let Some(plots) = plots {
        let page = plots.write(&checks)?;
        screen.line(&format!("plots: {}", page.display()));
    }
    Ok(ExitCode::from(u8::from(!all_hold(&checks))))
}

/// Runs the suites, one after the other. Where none of them boots anything, nothing is fetched or built for it.
fn measure(
    bench: &args::Bench,
    suites: &[&Suite],
    request: Request<'_>,
    screen: &mut Screen,
) -> Result<Vec<Check>, Failure> {
    let native = NativeSetting { samples: bench.samples.map(NonZeroU32::get), interrupts: request.interrupts };
    let boots = bench.on != Some(Target::Hosted) && suites.iter().any(|suite| suite.boots());
    let setting = if boots { Some(set_up(bench, request)?) } else { None };
    let mut checks = Vec::new();
    for suite in suites {
        if let (Runner::Guest(run) | Runner::Both(run, _), Some(setting)) = (suite.run, &setting) {
            checks.extend(run(setting, screen)?);
        }
        if let Runner::Native(run) | Runner::Both(_, run) = suite.run {
            checks.extend(run(&native, screen)?);
        }
    }
    Ok(checks)
}

/// Refuses what can be seen to be impossible from the flags alone.
fn check_flags(bench: &args::Bench) -> Result<(), Failure> {
    check_target(bench.on)?;
    let refuse = |line: &str| Err(Failure::cannot(line));
    match () {
        () if bench.list && bench.json.is_some() => {
            refuse("--list is for people and gives no findings; leave --json away")
        }
        () if bench.list && bench.against.is_some() => refuse("--list boots nothing; leave --against away"),
        () if bench.list && bench.plots.is_some() => refuse("--list measures nothing to draw; leave --plots away"),
        () => Ok(()),
    }
}

/// The kernel's words for a program and its arguments.
fn with_program(words: Words, program: &str, arguments: &[String]) -> Words {
    let words = words.with_hex("argv", OsStr::new(program));
    arguments.iter().fold(words, |words, word| words.with_hex("argv", OsStr::new(word)))
}

/// The suites that were asked for, each once; all that are there when none was.
fn chosen(bench: &args::Bench) -> Result<Vec<&'static Suite>, Failure> {
    let mut suites: Vec<&'static Suite> = Vec::new();
    for name in &bench.suites {
        let suite = find(name)?;
        if !suites.iter().any(|chosen| chosen.name == suite.name) {
            suites.push(suite);
        }
    }
    let here = bench.on == Some(Target::Hosted);
    if suites.is_empty() {
        suites = SUITES.iter().collect();
        suites.retain(|suite| !here || suite.runs_here());
    }
    check_suites(bench, &suites)?;
    Ok(suites)
}

/// Refuses suites that do not go with the flags.
fn check_suites(bench: &args::Bench, suites: &[&Suite]) -> Result<(), Failure> {
    let here = bench.on == Some(Target::Hosted);
    if let Some(suite) = suites.iter().find(|suite| here && !suite.runs_here()) {
        let line = format!("the suite `{}` boots the kernel; leave --on hosted away, or name `hosted`", suite.name);
        return Err(Failure::cannot(line));
    }
    if bench.against.is_some() && !suites.iter().any(|suite| suite.compares) {
        return Err(Failure::cannot(
            "nothing of this is measured on another kernel; leave --against away, or add `life`",
        ));
    }
    Ok(())
}

fn find(name: &str) -> Result<&'static Suite, Failure> {
    SUITES.iter().find(|suite| suite.name == name).ok_or_else(|| {
        let names: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
        Failure::cannot(format!("there is no suite `{name}`; there are {}", names.join(", ")))
    })
}

fn list(suites: &[&Suite], screen: &mut Screen) {
    for suite in suites {
        screen.line(suite.name);
        let does = screen.paint(Tone::Faint, suite.does);
        screen.line(&format!("    {does}"));
    }
}

/// Gets an emulator, a guest, and another kernel where one was asked for.
fn set_up<'a>(bench: &args::Bench, request: Request<'a>) -> Result<Setting<'a>, Failure> {
    let checkout = Checkout::find()?;
    let build = Guest::folder_given().is_none();
    let ready = provision(&mut ThisMachine::new(request.interrupts), build)
        .map_err(|refusal| Failure::cannot(refusal.to_string()))?;
    let linux = bench.against.map(|args::Rival::Linux| Linux::find(&checkout, request.interrupts)).transpose()?;
    let samples = bench.samples.map(NonZeroU32::get);
    Ok(Setting { boots: Boots::set_up(ready, request)?, linux, samples })
}
