//! Overflows of stacks that no task has, and interrupts that find none: a handler is given up, or the idle task replaced.

use super::Kind::{Emergency, Idle, Irq, Nmi, Task};
use super::{
    Boot, Crash, INTERRUPTS, OVERFLOW, Outcome, Part, Reports, Survival, Verdict, Victims, killed, nobody_killed,
    shared, with,
};
use crate::crash::special;

/// In the order in which they are listed and provoked.
pub(super) static CRASHES: &[Crash] = &[
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
                word: "storm",
                ..shared(Survival {
                    reports: Reports::Exactly(special::HANDLERS_IN_A_ROW as usize),
                    ..nobody_killed(&[Irq], Verdict::Abandoned, special::storm_of_handlers)
                })
            },
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
        name: "OVERFLOW_AFTER_OVERFLOW",
        does: "an interrupt's frame does not fit, and then its handler overflows",
        outcome: Outcome::TaskKilled,
        hosted: Err(INTERRUPTS),
        unit: "",
        parts: &[shared(Survival {
            reports: Reports::EachCpuTwice,
            kinds: &[Task, Irq],
            also: Some(Verdict::Abandoned),
            ..with(special::after_overflow, killed(1, OVERFLOW))
        })],
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
];
