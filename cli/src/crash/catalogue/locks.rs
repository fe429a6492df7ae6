//! A task overflows while it holds a lock, waits for one or takes one; or while its frames own all sorts of things.

use super::{
    Crash, ONE_STOP, OVERFLOW, Outcome, Part, Reports, Stop, Survival, killed, others_killed, shared, stop, with,
};
use crate::crash::{locks, special};

/// The orderly stop of an overflow under a lock that the machine cannot do without.
const VITAL: Stop = Stop {
    says: "a stack ended in a section that the machine cannot do without",
    state: "sections deep that must not be cut short",
    ..ONE_STOP
};

const LOCKS: &str = "the port has no locks of a kernel";

/// In the order in which they are listed and provoked.
pub(super) static CRASHES: &[Crash] = &[
    Crash {
        name: "OVERFLOW_HOLDING_LOCK",
        does: "once for each lock of the kernel; the eight that all tasks need: a stop",
        outcome: Outcome::TaskKilled,
        hosted: Err(LOCKS),
        unit: "locks",
        parts: &[
            shared(Survival { lost: 4096, retires: 1, ..with(locks::each_lock, killed(1, OVERFLOW)) }),
            stop("frame-allocator", VITAL),
            stop("page-tables", VITAL),
            stop("run-queue", VITAL),
            stop("task-structs", VITAL),
            stop("heap-small", VITAL),
            stop("process-tree", VITAL),
            stop("disk", VITAL),
            stop("pci-ports", VITAL),
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
            ..shared(Survival { reports: Reports::DiedIn("waiting"), ..others_killed(locks::each_way_to_wait) })
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
            ..shared(Survival { reports: Reports::DiedIn("taking"), ..others_killed(locks::each_door) })
        }],
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
        parts: &[shared(Survival { lost: 1024, ..with(locks::owning, killed(1, OVERFLOW)) })],
    },
];
