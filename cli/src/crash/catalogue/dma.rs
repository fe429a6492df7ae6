//! A device that is to have a task's stack, and one that has it while the task dies. Each policy of the door is a part.

use super::{Boot, Crash, Expect, OVERFLOW, Outcome, Part, Reports, Survival, Victims, killed, others_killed};
use crate::crash::dma;
use crate::crash::special::Extra;

const HOSTED: &str = "no device reads the memory of a process by its bus address";

/// Nobody dies, and nothing is reported.
const fn quiet(extra: Extra) -> Survival {
    Survival { reports: Reports::Exactly(0), ..others_killed(extra) }
}

/// Tasks that overflow while the device has their stack, and others that do not.
const fn dying(reports: Reports, extra: Extra) -> Survival {
    Survival { reports, victims: Victims::AsReported, extra: Some(extra), ..killed(1, OVERFLOW) }
}

const fn part(word: &'static str, survival: Survival) -> Part {
    Part { word, boot: Boot::SharedWithDevice, seconds: 20, expect: Expect::Survived(survival) }
}

/// In the order in which they are listed and provoked.
pub(super) static CRASHES: &[Crash] = &[
    Crash {
        name: "DMA_FROM_STACK",
        does: "a task asks for a buffer of its own stack for a device: each policy",
        outcome: Outcome::NobodyDies,
        hosted: Err(HOSTED),
        unit: "",
        parts: &[
            part("refuse", quiet(dma::from_own_stack)),
            part("bounce", quiet(dma::from_own_stack)),
            part("map", quiet(dma::from_own_stack)),
        ],
    },
    Crash {
        name: "DMA_FROM_OTHER_STACK",
        does: "a task asks for a buffer of another task's stack: each policy",
        outcome: Outcome::NobodyDies,
        hosted: Err(HOSTED),
        unit: "",
        parts: &[
            part("refuse", quiet(dma::from_other_stack)),
            part("bounce", quiet(dma::from_other_stack)),
            part("map", quiet(dma::from_other_stack)),
        ],
    },
    Crash {
        name: "DMA_ACROSS_STACK_TOP",
        does: "ranges that begin in a stack and end above it, or below and in it",
        outcome: Outcome::NobodyDies,
        hosted: Err(HOSTED),
        unit: "",
        parts: &[
            part("refuse", quiet(dma::across_the_ends)),
            part("bounce", quiet(dma::across_the_ends)),
            part("map", quiet(dma::across_the_ends)),
        ],
    },
    Crash {
        name: "DMA_STACK_TASK_DIES",
        does: "a task overflows, or exits, while a device writes its stack",
        outcome: Outcome::TaskKilled,
        hosted: Err(HOSTED),
        unit: "overflows",
        parts: &[
            part("bounce", dying(Reports::Exactly(1), dma::task_dies)),
            part("map", dying(Reports::Exactly(1), dma::task_dies)),
        ],
    },
    Crash {
        name: "DMA_THEN_REUSE",
        does: "a device writes a page its task never touched: the next one reads zero",
        outcome: Outcome::NobodyDies,
        hosted: Err(HOSTED),
        unit: "",
        parts: &[part("map", quiet(dma::then_reuse))],
    },
    Crash {
        name: "DMA_BOUNCE_EXHAUSTED",
        does: "more requests than there are bounce buffers, until one is free again",
        outcome: Outcome::NobodyDies,
        hosted: Err(HOSTED),
        unit: "",
        parts: &[part("bounce", quiet(dma::exhausted))],
    },
    Crash {
        name: "DMA_BAD_INPUT",
        does: "ranges, lists and devices that make no sense: each an error of its own",
        outcome: Outcome::NobodyDies,
        hosted: Err(HOSTED),
        unit: "",
        parts: &[part("bounce", quiet(dma::bad_input))],
    },
    Crash {
        name: "DMA_BY_ARITHMETIC",
        does: "the control: a computed address hits another frame; by the library none",
        outcome: Outcome::NobodyDies,
        hosted: Err(HOSTED),
        unit: "",
        parts: &[part("", quiet(dma::control))],
    },
    Crash {
        name: "OVERFLOW_WITH_DMA_IN_FLIGHT",
        does: "on each CPU a task overflows whose stack a device reads and writes",
        outcome: Outcome::TaskKilled,
        hosted: Err(HOSTED),
        unit: "overflows",
        parts: &[
            part("bounce", dying(Reports::EachCpu, dma::overflow_in_flight)),
            part("map", dying(Reports::EachCpu, dma::overflow_in_flight)),
        ],
    },
];
