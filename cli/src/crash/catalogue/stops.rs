//! Faults that nobody can be ended for: the machine says so and stops, each in a boot of its own.

use super::Kind::Emergency;
use super::{Boot, Crash, Expect, ONE_STOP, Outcome, Part, Stop, stop};

const IMAGE: &str = "what it breaks is the kernel's own; a process has no such thing";
/// A stop for something else than an overflow.
const NO_REPORT: Stop = Stop { reports: (0, 0), ..ONE_STOP };
/// The handler of an overflow overflows its own stack.
const ON_EMERGENCY_STACK: Stop =
    Stop { kinds: &[Emergency], says: "a fault in the handler of a fault", state: "in a fault handler", ..ONE_STOP };
/// The handler of an overflow touches what is not there.
const WILD: Stop = Stop { says: "a fault in a fault handler", ..NO_REPORT };

/// In the order in which they are listed and provoked.
pub(super) static CRASHES: &[Crash] = &[
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
        name: "OVERFLOW_ON_EMERGENCY_STACK",
        does: "a fault inside the overflow handler, and one more inside that",
        outcome: Outcome::OrderlyStop,
        hosted: Err(IMAGE),
        unit: "",
        parts: &[
            stop("once", ON_EMERGENCY_STACK),
            stop("twice", Stop { says: "another fault while the machine was being stopped", ..NO_REPORT }),
            stop("wild", WILD),
            stop("wild-twice", WILD),
        ],
    },
    Crash {
        name: "OVERFLOW_IN_INIT",
        does: "the kernel's first task overflows, which carries out what a boot is for",
        outcome: Outcome::OrderlyStop,
        hosted: Err("a Linux process has no init of its own"),
        unit: "",
        parts: &[stop("", Stop { says: "init overflowed its stack", ..ONE_STOP })],
    },
    Crash {
        name: "DOUBLE_FAULT",
        does: "an exception whose own handling faults, far from every guard",
        outcome: Outcome::OrderlyStop,
        hosted: Err(IMAGE),
        unit: "",
        parts: &[stop("", Stop { says: "a double fault", ..NO_REPORT })],
    },
];

/// A canary that was overwritten: what is left cannot be trusted.
const CORRUPT: Part = Part {
    word: "",
    boot: Boot::StackProtector,
    seconds: 20,
    expect: Expect::Stopped(Stop { reports: (0, 1), says: "stack protector", ..ONE_STOP }),
};
