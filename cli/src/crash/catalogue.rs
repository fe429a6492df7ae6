//! The catalogue: every crash that can be provoked, what it does, and what must come of it. Data only.
//!
//! A [`Crash`] is one name, and one finding. It has one [`Part`] or more: a part is one `crash=` word of a boot, with what must be
//! seen of it ([`Expect`]). Deaths that the machine survives share a boot; each orderly stop has its own. Names are
//! those of Linux's LKDTM (`drivers/misc/lkdtm`) where it has one.
//!
//! Expectations that are particular to one crash, and cannot be said with words, are functions in `special` and `sweep`.

use super::facts::{Finding, Kind, Verdict};
use super::special::{self, Extra};
use super::sweep;

/// What must come of a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The task in which it happened is gone, and its process; everything else goes on.
    TaskKilled,
    /// The interrupt's or NMI's handler is given up; the task that it interrupted goes on.
    HandlerAbandoned,
    /// The machine says what happened, and stops.
    OrderlyStop,
}

impl Outcome {
    /// As it is listed.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::TaskKilled => "task killed",
            Self::HandlerAbandoned => "handler abandoned",
            Self::OrderlyStop => "orderly stop",
        }
    }
}

/// One name of the catalogue.
#[derive(Debug)]
pub(super) struct Crash {
    pub(super) name: &'static str,
    /// One line.
    pub(super) does: &'static str,
    pub(super) outcome: Outcome,
    /// Where it can be provoked beside the kernel, or why not.
    pub(super) hosted: Result<(), &'static str>,
    /// The unit of its figure; empty without one.
    pub(super) unit: &'static str,
    pub(super) parts: &'static [Part],
}

/// One `crash=` word, and what must be seen of it.
#[derive(Debug)]
pub(super) struct Part {
    /// What follows the colon; empty without one.
    pub(super) word: &'static str,
    pub(super) boot: Boot,
    /// How long it may take, in seconds, on a slow machine.
    pub(super) seconds: u64,
    pub(super) expect: Expect,
}

/// What a part needs of its boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boot {
    /// Nothing: it shares one with others.
    Shared,
    /// One of its own.
    Own,
    /// One of its own, with four CPUs if the user does not say otherwise.
    OwnOfFourCpus,
    /// One of its own, with QEMU's educational device, which raises interrupts by line and by message.
    OwnWithDevice,
    /// One of its own, with unguarded stacks and thread_info at their bottom.
    Control,
    /// A kernel whose compiler puts canaries into frames.
    StackProtector,
}

/// What must be seen of a part.
#[derive(Debug)]
pub(super) enum Expect {
    Survived(Survival),
    Stopped(Stop),
    /// The control experiment: the attack works, and nobody notices.
    Undetected,
}

/// What must be seen of a crash that the machine survives.
#[derive(Debug)]
pub(super) struct Survival {
    pub(super) reports: Reports,
    pub(super) findings: &'static [Finding],
    pub(super) kinds: &'static [Kind],
    pub(super) verdict: Verdict,
    pub(super) victims: Victims,
    pub(super) extra: Option<Extra>,
}

/// How many reports there must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reports {
    /// One for each victim that was killed, and so many of them at least.
    EachKilled(usize),
    Exactly(usize),
    /// One on each CPU.
    EachCpu,
    /// As many as died by the second number of each fact of this name.
    DiedIn(&'static str),
    /// As many as runs of the sweep were reported.
    Swept,
}

/// How the tasks must have ended that the crash was provoked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victims {
    /// Killed, all of them, each by the report that names it.
    Killed,
    /// As the reports say: whoever is named was killed, and nobody else.
    AsReported,
    /// By themselves: those who are killed are others, of whom the crash has facts of its own.
    WentOn,
}

/// What must be seen of an orderly stop.
#[derive(Debug)]
pub(super) struct Stop {
    /// At least and at most so many reports.
    pub(super) reports: (usize, usize),
    pub(super) findings: &'static [Finding],
    pub(super) kinds: &'static [Kind],
}

use Finding::{Inside, Jumped, OtherGuard, Underflow, Walked, Wild};
use Kind::{Boot as BootStack, Emergency, Idle, Irq, Nmi, Task};

const OVERFLOW: &[Finding] = &[Walked, Jumped];
const IMAGE: &str = "what it breaks is the kernel's own; a process has no such thing";
const LOCKS: &str = "the port has no locks of a kernel";
const BAD_FRAMES: &str = "the port's walk of frame pointers has tests of its own";
const INTERRUPTS: &str = "a process has no interrupts";

/// A crash that the machine survives: every task that it is provoked in is killed, and there are at least `victims`.
const fn killed(victims: usize, findings: &'static [Finding]) -> Survival {
    let reports = Reports::EachKilled(victims);
    Survival { reports, findings, kinds: &[Task], verdict: Verdict::Killed, victims: Victims::Killed, extra: None }
}

/// A crash of something that is no task's, once on each CPU: nobody is killed.
const fn nobody_killed(kinds: &'static [Kind], verdict: Verdict, extra: Extra) -> Survival {
    let (reports, victims) = (Reports::EachCpu, Victims::WentOn);
    Survival { reports, findings: OVERFLOW, kinds, verdict, victims, extra: Some(extra) }
}

/// A crash whose victims are children of those that are named.
const fn others_killed(extra: Extra) -> Survival {
    Survival { victims: Victims::WentOn, extra: Some(extra), ..killed(0, OVERFLOW) }
}

const fn with(extra: Extra, survival: Survival) -> Survival {
    Survival { extra: Some(extra), ..survival }
}

/// A part that shares a boot.
const fn shared(survival: Survival) -> Part {
    Part { word: "", boot: Boot::Shared, seconds: 20, expect: Expect::Survived(survival) }
}

/// A part that stops the machine.
const fn stop(word: &'static str, stop: Stop) -> Part {
    Part { word, boot: Boot::Own, seconds: 20, expect: Expect::Stopped(stop) }
}

/// The orderly stop of one overflow of a task's stack.
const ONE_STOP: Stop = Stop { reports: (1, 1), findings: OVERFLOW, kinds: &[Task] };

/// All of them, in the order in which they are listed and provoked.
pub(super) const CATALOGUE: &[Crash] = &[
    Crash {
        name: "EXHAUST_STACK",
        does: "recursion without end: direct, through trait objects, closures, and mutual",
        outcome: Outcome::TaskKilled,
        hosted: Ok(()),
        unit: "overflows",
        parts: &[shared(killed(4, &[Walked]))],
    },
    Crash {
        name: "STACK_GUARD_PAGE_LEADING",
        does: "a healthy task touches the byte below its stack",
        outcome: Outcome::TaskKilled,
        hosted: Ok(()),
        unit: "",
        parts: &[shared(killed(1, &[Wild, Walked]))],
    },
    Crash {
        name: "STACK_GUARD_PAGE_TRAILING",
        does: "a healthy task touches the byte above its stack",
        outcome: Outcome::TaskKilled,
        hosted: Ok(()),
        unit: "",
        parts: &[shared(killed(1, &[Wild, Underflow]))],
    },
    Crash {
        name: "FIRST_SLOT_BELOW",
        does: "the area's first stack overflows: there is a guard below it, too",
        outcome: Outcome::TaskKilled,
        hosted: Ok(()),
        unit: "",
        parts: &[shared(killed(1, &[Walked, Wild]))],
    },
    Crash {
        name: "LAST_SLOT_ABOVE",
        does: "the area's last stack underflows: there is a guard above it, too",
        outcome: Outcome::TaskKilled,
        hosted: Ok(()),
        unit: "",
        parts: &[shared(killed(1, &[Underflow, Wild]))],
    },
    Crash {
        name: "BIG_FRAME",
        does: "one frame larger than a page, than the whole guard, than the stack",
        outcome: Outcome::TaskKilled,
        hosted: Ok(()),
        unit: "overflows",
        parts: &[shared(killed(3, OVERFLOW))],
    },
    Crash {
        name: "OVERFLOW_IN_MEMCPY",
        does: "memcpy, a leaf without a frame, copies over the bottom of the stack",
        outcome: Outcome::TaskKilled,
        hosted: Ok(()),
        unit: "",
        parts: &[shared(killed(1, OVERFLOW))],
    },
    Crash {
        name: "JUMP_TO_OTHER_GUARD",
        does: "a task touches the guard of another task's stack",
        outcome: Outcome::TaskKilled,
        hosted: Ok(()),
        unit: "",
        parts: &[shared(Survival { victims: Victims::AsReported, ..killed(1, &[OtherGuard, Walked]) })],
    },
    Crash {
        name: "WILD_POINTER",
        does: "a pointer far from the stack pointer leads into a guard",
        outcome: Outcome::TaskKilled,
        hosted: Ok(()),
        unit: "",
        parts: &[shared(killed(1, &[Wild, OtherGuard]))],
    },
    Crash {
        name: "UNDERFLOW",
        does: "a task pops more than was pushed, over the top of its stack",
        outcome: Outcome::TaskKilled,
        hosted: Ok(()),
        unit: "",
        parts: &[shared(killed(1, &[Underflow]))],
    },
    Crash {
        name: "EXEC_STACK",
        does: "a task jumps to code on its own stack",
        outcome: Outcome::TaskKilled,
        hosted: Ok(()),
        unit: "",
        parts: &[shared(killed(1, &[Inside]))],
    },
    Crash {
        name: "CORRUPT_STACK",
        does: "a function overruns a buffer of its frame",
        outcome: Outcome::OrderlyStop,
        hosted: Err("canaries are the kernel's compiler's"),
        unit: "",
        parts: &[CORRUPT],
    },
    Crash {
        name: "CORRUPT_STACK_STRONG",
        does: "the same in a function that only a strong stack protector covers",
        outcome: Outcome::OrderlyStop,
        hosted: Err("canaries are the kernel's compiler's"),
        unit: "",
        parts: &[CORRUPT],
    },
    Crash {
        name: "OVERFLOW_AT_EVERY_OFFSET",
        does: "system call, exception, interrupt, NMI, call with 0, 8, ... 4,088 bytes left",
        outcome: Outcome::TaskKilled,
        hosted: Ok(()),
        unit: "runs",
        parts: &[Part {
            seconds: 600,
            boot: Boot::Own,
            ..shared(Survival { reports: Reports::Swept, ..others_killed(sweep::judge) })
        }],
    },
    Crash {
        name: "OVERFLOW_HOLDING_LOCK",
        does: "once for each lock of the kernel; allocator, page tables, run queue: a stop",
        outcome: Outcome::TaskKilled,
        hosted: Err(LOCKS),
        unit: "locks",
        parts: &[
            shared(with(special::each_lock, killed(1, OVERFLOW))),
            stop("frame-allocator", ONE_STOP),
            stop("page-tables", ONE_STOP),
            stop("run-queue", ONE_STOP),
        ],
    },
    Crash {
        name: "OVERFLOW_WAITING_FOR_LOCK",
        does: "a spin lock, a mutex, a read-write lock is taken with too little stack left",
        outcome: Outcome::TaskKilled,
        hosted: Err(LOCKS),
        unit: "overflows",
        parts: &[Part {
            seconds: 60,
            ..shared(Survival { reports: Reports::DiedIn("waiting"), ..others_killed(special::each_way_to_wait) })
        }],
    },
    Crash {
        name: "OVERFLOW_TAKING_VITAL_LOCK",
        does: "the locks that may stop the machine: an overflow comes at their door",
        outcome: Outcome::TaskKilled,
        hosted: Err(LOCKS),
        unit: "overflows",
        parts: &[Part {
            seconds: 60,
            ..shared(Survival { reports: Reports::DiedIn("taking"), ..others_killed(special::each_door) })
        }],
    },
    Crash {
        name: "OVERFLOW_WITH_INTERRUPTS_OFF",
        does: "a task overflows while its CPU takes no interrupts",
        outcome: Outcome::TaskKilled,
        hosted: Err(INTERRUPTS),
        unit: "",
        parts: &[shared(killed(1, OVERFLOW))],
    },
    Crash {
        name: "OVERFLOW_WITH_PREEMPTION_OFF",
        does: "a task overflows while it may not be preempted",
        outcome: Outcome::TaskKilled,
        hosted: Err("tasks of the port are never preempted"),
        unit: "",
        parts: &[shared(killed(1, OVERFLOW))],
    },
    Crash {
        name: "OVERFLOW_WITH_BAD_FRAMES",
        does: "the chain of frame pointers leads nowhere, off the stack, or in a circle",
        outcome: Outcome::TaskKilled,
        hosted: Err(BAD_FRAMES),
        unit: "overflows",
        parts: &[shared(killed(4, OVERFLOW))],
    },
    Crash {
        name: "OVERFLOW_WITH_CONSOLE_BUSY",
        does: "another CPU holds the console for longer than a report waits",
        outcome: Outcome::TaskKilled,
        hosted: Err(LOCKS),
        unit: "",
        parts: &[shared(with(special::console_busy, killed(1, OVERFLOW)))],
    },
    Crash {
        name: "OVERFLOW_OWNING",
        does: "its frames own Box, Arc, file, pin and lock: given back, or counted as lost",
        outcome: Outcome::TaskKilled,
        hosted: Err("what a killed task of the port owned in its frames is lost, as documented"),
        unit: "",
        parts: &[shared(with(special::owning, killed(1, OVERFLOW)))],
    },
    Crash {
        name: "OVERFLOW_ON_ALL_CPUS",
        does: "a task on each CPU overflows at the same moment",
        outcome: Outcome::TaskKilled,
        hosted: Ok(()),
        unit: "overflows",
        parts: &[shared(with(special::all_cpus, killed(1, OVERFLOW)))],
    },
    Crash {
        name: "OVERFLOW_STORM",
        does: "10,000 overflows in a row while other processes work",
        outcome: Outcome::TaskKilled,
        hosted: Ok(()),
        unit: "overflows",
        parts: &[Part {
            seconds: 900,
            boot: Boot::OwnOfFourCpus,
            ..shared(Survival { reports: Reports::Exactly(10_000), ..others_killed(special::storm) })
        }],
    },
    Crash {
        name: "OVERFLOW_IN_INTERRUPT_DELIVERY",
        does: "interrupts whose frames do not fit, by IPI, message and line: none is lost",
        outcome: Outcome::TaskKilled,
        hosted: Err(INTERRUPTS),
        unit: "interrupts",
        parts: &[Part {
            boot: Boot::OwnWithDevice,
            seconds: 60,
            ..shared(Survival { victims: Victims::AsReported, ..with(special::each_source, killed(3, OVERFLOW)) })
        }],
    },
    Crash {
        name: "OVERFLOW_ON_IRQ_STACK",
        does: "an interrupt's handler overflows its CPU's interrupt stack",
        outcome: Outcome::HandlerAbandoned,
        hosted: Err(INTERRUPTS),
        unit: "",
        parts: &[
            shared(nobody_killed(&[Irq], Verdict::Abandoned, special::each_handler)),
            Part {
                word: "line",
                boot: Boot::OwnWithDevice,
                ..shared(Survival {
                    reports: Reports::Exactly(1),
                    ..nobody_killed(&[Irq], Verdict::Abandoned, special::masked_line)
                })
            },
        ],
    },
    Crash {
        name: "OVERFLOW_ON_NMI_STACK",
        does: "an NMI's handler overflows its stack",
        outcome: Outcome::HandlerAbandoned,
        hosted: Err(INTERRUPTS),
        unit: "",
        parts: &[shared(nobody_killed(&[Nmi, Emergency], Verdict::Abandoned, special::each_handler))],
    },
    Crash {
        name: "OVERFLOW_IN_IDLE",
        does: "the idle task overflows: a fresh idle task takes its place",
        outcome: Outcome::TaskKilled,
        hosted: Err("the port's CPUs have no idle task"),
        unit: "",
        parts: &[shared(nobody_killed(&[Idle], Verdict::Replaced, special::each_idle))],
    },
    Crash {
        name: "OVERFLOW_ON_EMERGENCY_STACK",
        does: "a fault inside the overflow handler, and one more inside that",
        outcome: Outcome::OrderlyStop,
        hosted: Err(IMAGE),
        unit: "",
        parts: &[
            stop("once", Stop { reports: (1, 2), findings: OVERFLOW, kinds: &[Task, Emergency, BootStack] }),
            stop("twice", Stop { reports: (0, 3), findings: OVERFLOW, kinds: &[Task, Emergency, BootStack] }),
        ],
    },
    Crash {
        name: "OVERFLOW_IN_INIT",
        does: "the first process overflows, without which there is nothing to go on for",
        outcome: Outcome::OrderlyStop,
        hosted: Err("a Linux process has no init of its own"),
        unit: "",
        parts: &[stop("", ONE_STOP)],
    },
    Crash {
        name: "DOUBLE_FAULT",
        does: "an exception whose own handling faults, far from every guard",
        outcome: Outcome::OrderlyStop,
        hosted: Err(IMAGE),
        unit: "",
        parts: &[stop("", Stop { reports: (0, 1), findings: &[Walked, Jumped, Wild, Inside], kinds: &[Task] })],
    },
    Crash {
        name: "ATTACK_THREAD_INFO",
        does: "a program overwrites thread_info to read kernel memory; works in the control",
        outcome: Outcome::TaskKilled,
        hosted: Err("thread_info is the kernel's"),
        unit: "",
        parts: &[
            shared(Survival { reports: Reports::Exactly(1), ..others_killed(special::attack_fails) }),
            Part { word: "", boot: Boot::Control, seconds: 20, expect: Expect::Undetected },
        ],
    },
];

/// A canary that was overwritten: what is left cannot be trusted.
const CORRUPT: Part = Part {
    word: "",
    boot: Boot::StackProtector,
    seconds: 20,
    expect: Expect::Stopped(Stop { reports: (0, 1), findings: OVERFLOW, kinds: &[Task] }),
};
