//! Areas of the vmalloc: accesses to their guards and to what is free, and frees of what is no area.

use super::Finding::{AreaAbove, AreaBelow, AreaFreed};
use super::Kind::Area;
use super::{Boot, Crash, ONE_STOP, Outcome, Part, Reports, Stop, Survival, killed, shared, stop};
use crate::crash::special;

const HOSTED: &str = "the port has stacks, and no other memory";
/// The area that the scripts take, and who asked for it.
const TAKEN: &str = "a vmalloc area of 12288 bytes, src/crash/areas.rs:";
const FREED: &str = "(vmalloc of 12288 bytes, src/crash/areas.rs:";

/// A stray access: it is said whose area it was.
const STRAY: Survival =
    Survival { kinds: &[Area], extra: Some(|crash| special::names(crash, TAKEN)), ..killed(2, &[]) };
/// A free that the machine stops for: no stack overflowed.
const BAD_FREE: Stop = Stop { reports: (0, 0), names: FREED, ..ONE_STOP };

/// In the order in which they are listed and provoked.
pub(super) static CRASHES: &[Crash] = &[
    Crash {
        name: "VMALLOC_GUARD_ABOVE",
        does: "a task reads the byte above an area of the vmalloc",
        outcome: Outcome::TaskKilled,
        hosted: Err(HOSTED),
        unit: "",
        parts: &[shared(Survival { findings: &[AreaAbove], ..STRAY })],
    },
    Crash {
        name: "VMALLOC_GUARD_BELOW",
        does: "a task reads the byte below an area of the vmalloc",
        outcome: Outcome::TaskKilled,
        hosted: Err(HOSTED),
        unit: "",
        parts: &[shared(Survival { findings: &[AreaBelow], ..STRAY })],
    },
    Crash {
        name: "VMALLOC_FREED",
        does: "on every CPU a task reads an area that it had in its TLB, and that is free",
        outcome: Outcome::TaskKilled,
        hosted: Err(HOSTED),
        unit: "",
        parts: &[Part {
            boot: Boot::OwnOfFourCpus,
            ..shared(Survival {
                findings: &[AreaFreed],
                reports: Reports::EachCpu,
                extra: Some(|crash| special::freed_everywhere(crash, TAKEN)),
                ..STRAY
            })
        }],
    },
    Crash {
        name: "VFREE_TWICE",
        does: "an area of the vmalloc is freed a second time",
        outcome: Outcome::OrderlyStop,
        hosted: Err(HOSTED),
        unit: "",
        parts: &[stop("", Stop { says: "is free already: it was", ..BAD_FREE })],
    },
    Crash {
        name: "VFREE_INSIDE",
        does: "an address inside an area of the vmalloc is freed",
        outcome: Outcome::OrderlyStop,
        hosted: Err(HOSTED),
        unit: "",
        parts: &[stop("", Stop { says: "is not where an area begins: it lies in", ..BAD_FREE })],
    },
    Crash {
        name: "VFREE_FOREIGN",
        does: "an address is freed by the vmalloc that is none of its own",
        outcome: Outcome::OrderlyStop,
        hosted: Err(HOSTED),
        unit: "",
        // There is no area to be named, but who freed it.
        parts: &[stop(
            "",
            Stop { says: "is not in the range of the vmalloc", names: "vfree at src/crash/areas.rs:", ..BAD_FREE },
        )],
    },
];
