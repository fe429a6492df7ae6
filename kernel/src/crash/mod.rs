//! Crashes on demand, by LKDTM's names where LKDTM has one.
//!
//! What is here may break everything in the kernel but the library: it provokes, and prints facts; the host judges them.
//!
//! | file | what |
//! | --- | --- |
//! | `script` | what every crash of `mode=crash` shares: victims, survivors, the balance |
//! | `delivery` | interrupts whose frame does not fit |
//! | `emergency` | faults in the handler of a fault, and those that no stack explains |
//! | `stack` | overflows of a task's stack, and accesses to its guards |
//! | `frames` | frames that are too big |
//! | `places` | the first and the last slot, other stacks' guards |
//! | `crowd` | many at once |
//! | `areas` | areas of the vmalloc: their guards, what is free, and frees of what is no area |
//! | `dma` | a device that has a task's stack, or is not to have it |
//! | `attack` | what thread_info on the stack invites |
//! | `sweep` | events with every number of bytes left on the stack |
//! | `threads` | overflows in one thread of a process that has several |
//! | `locks` | overflows of those who hold, take or wait for a lock, and of one who owns all sorts of things |
//! | `graces` | overflows beside grace periods, and while CPUs come and go |
//! | `handler` | overflows of the stacks of interrupts, NMIs and idle tasks |
//!
//! There are two doors. A program writes a name to the device, and the crash happens in its own system call, as with Linux's
//! LKDTM ([`provoke`]). And `mode=crash` runs whole scripts, each with victims, witnesses and a recount ([`run`]).

use crate::syscall::Errno;

mod areas;
mod attack;
mod crowd;
mod delivery;
mod dma;
mod emergency;
mod frames;
mod graces;
mod handler;
mod locks;
mod owning;
mod places;
mod script;
mod stack;
mod sweep;
mod threads;

pub(crate) use attack::evaluate;
pub(crate) use delivery::lock as device_lock;
pub(crate) use dma::lock as dma_lock;
pub(crate) use handler::{in_interrupt, in_nmi, while_idle};
pub(crate) use owning::shared_lock;
pub(crate) use places::kept_stacks;
pub(crate) use script::{PROGRAM, note_work, run};
pub(crate) use stack::{COUNTED, overflow_counted};

/// Something that goes wrong in the task that calls it. It comes back only if it did not go wrong.
#[derive(Clone, Copy, Debug)]
struct Provocation {
    name: &'static str,
    act: fn(),
}

/// What a program can provoke.
static PROVOCATIONS: &[&[Provocation]] = &[
    &areas::PROVOCATIONS,
    &stack::PROVOCATIONS,
    &frames::PROVOCATIONS,
    &locks::PROVOCATIONS,
    &places::PROVOCATIONS,
    &sweep::PROVOCATIONS,
    &emergency::PROVOCATIONS,
    &graces::PROVOCATIONS,
];

fn find(name: &str) -> Option<&'static Provocation> {
    PROVOCATIONS.iter().copied().flatten().find(|provocation| provocation.name == name)
}

/// Provokes the crash called `name`, of which a line break at the end does not count.
pub(crate) fn provoke(name: &[u8]) -> Result<(), Errno> {
    let name = core::str::from_utf8(name.strip_suffix(b"\n").unwrap_or(name)).map_err(|_| Errno::INVAL)?;
    let provocation = find(name).ok_or(Errno::INVAL)?;
    (provocation.act)();
    Ok(())
}
