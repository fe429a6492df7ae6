//! Faults where faults are handled: nobody can be killed for them, and the machine must stop in order, never reset.
//!
//! ```text
//!   a task overflows ──> #DF, on its own stack: the handler faults
//!     as #DF  ──> the last-resort stack: the handler stops the machine         once
//!                   it faults too ──> no stack at all: a line, and the end     twice
//!     as #PF  ──> where it stood: the handler stops the machine                wild
//!                   it faults too ──> as before, one deeper                    wild-twice
//! ```
//!
//! The word after the colon says which.

use core::sync::atomic::Ordering::Relaxed;

use super::script::{Script, kernel_victim};
use super::{Provocation, find};
use crate::arch::provoke::{self, FAULT_IN_HANDLER, FAULT_WILDLY};
use crate::println;

pub(super) static SCRIPTS: [Script; 1] = [Script { name: "OVERFLOW_ON_EMERGENCY_STACK", run: fault_in_handler }];

pub(super) static PROVOCATIONS: [Provocation; 1] = [Provocation { name: "DOUBLE_FAULT", act: double_fault }];

fn fault_in_handler(word: &str) {
    let (times, wildly) = match word {
        "" | "once" => (1, false),
        "twice" => (2, false),
        "wild" => (1, true),
        "wild-twice" => (2, true),
        _ => return println!("a fault handler cannot fault {word}"),
    };
    FAULT_WILDLY.store(wildly, Relaxed);
    FAULT_IN_HANDLER.store(times, Relaxed);
    if let Some(overflow) = find("EXHAUST_STACK") {
        kernel_victim(overflow.act);
    }
}

/// The stack pointer is nowhere, and so is the address: no stack overflowed.
fn double_fault() {
    provoke::double_fault()
}
