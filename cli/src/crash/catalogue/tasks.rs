//! Overflows, and other accesses to guards, of a task on its own stack: the task is killed, and nothing else.

use super::Finding::{Inside, OtherGuard, Underflow, Walked, Wild};
use super::{
    Boot, Crash, Expect, INTERRUPTS, OVERFLOW, Outcome, Part, Reports, Survival, Victims, killed, others_killed,
    shared, with,
};
use crate::crash::{special, sweep};

/// In the order in which they are listed and provoked.
pub(super) static CRASHES: &[Crash] = &[
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
        hosted: Err("the port's walk of frame pointers has tests of its own"),
        unit: "overflows",
        parts: &[shared(killed(4, OVERFLOW))],
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
        name: "OVERFLOW_IN_THREAD",
        does: "one of four threads overflows, holding a robust futex: its process dies",
        outcome: Outcome::TaskKilled,
        hosted: Err("the port has no processes"),
        unit: "overflows",
        parts: &[Part {
            seconds: 60,
            ..shared(Survival { reports: Reports::Exactly(special::THREADS), ..others_killed(special::in_thread) })
        }],
    },
    Crash {
        name: "OVERFLOW_IN_RCU_READER",
        does: "a task overflows inside an RCU reader section, beside readers and a writer",
        outcome: Outcome::TaskKilled,
        hosted: Err("the port has no grace periods"),
        unit: "overflows",
        parts: &[Part { seconds: 60, ..shared(with(special::reader, killed(3, OVERFLOW))) }],
    },
    Crash {
        name: "OVERFLOW_DURING_HOTPLUG",
        does: "tasks start, end and overflow while CPUs go offline and come back",
        outcome: Outcome::TaskKilled,
        hosted: Err("the port's CPUs are threads"),
        unit: "overflows",
        parts: &[Part {
            seconds: 240,
            boot: Boot::OwnOfFourCpus,
            ..shared(Survival { reports: Reports::DiedIn("hotplug.overflows"), ..others_killed(special::hotplug) })
        }],
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
