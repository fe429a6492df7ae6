//! DMA in a process: requests by chance at the library's door, and a device that reaches memory by physical address alone.
//!
//! Four threads are CPUs. On each runs a driver, which asks for 1 byte to 64 KiB of whatever there is: stacks of tasks that come and go, its own
//! stack, one that was there before, memory in one piece and memory whose pages lie about; inside of them and over their ends, one by one
//! and in lists, with each policy, for devices that can do little and for those that can do everything. An oracle that looks at everything says what
//! should come of each (`oracle`), and every byte is compared: what the device reads, what is there afterwards, and what a new owner finds in its
//! stack.
//!
//! | file | owns |
//! | --- | --- |
//! | `world` | what all share: door, device, and what every stack should hold |
//! | `device` | the second mapping of the memory |
//! | `ask` | requests by chance |
//! | `oracle` | what should come of them |
//! | `driver`, `list` | asking, comparing |
//! | `tally` | the numbers |
//! | `cost` | what the door costs, for a clock |
//!
//! Contexts: task; threads of its own.

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread;

use vmstack::{DmaDoor, DmaPolicy};

use crate::machine::{Machine, MachineError};
use crate::platform::Hosted;

mod ask;
mod cost;
mod device;
mod driver;
mod list;
mod oracle;
mod tally;
mod world;

pub use cost::{Costs, REQUEST, with_costs};
pub use tally::Tally;

use driver::Driver;
use world::{CPUS, World, machine};

/// Asks `requests` times with each of the policies, all CPUs together, and says what came of it.
///
/// # Errors
///
/// [`MachineError`]; then nothing was asked.
///
/// # Panics
///
/// If a driver does.
pub fn at_random(requests: u64, seed: u64) -> Result<[(DmaPolicy, Tally); 3], MachineError> {
    let run = |policy| Ok((policy, with_policy(policy, requests, seed)?));
    Ok([run(DmaPolicy::Refuse)?, run(DmaPolicy::Bounce)?, run(DmaPolicy::Map)?])
}

fn with_policy(policy: DmaPolicy, requests: u64, seed: u64) -> Result<Tally, MachineError> {
    let machine = machine()?;
    let areas = [machine.area()];
    let door = DmaDoor::new(machine.area().platform(), &areas);
    door.set_policy(policy);
    let world = World::new(&machine, &door)?;
    let tally = drive_all(&machine, &world, requests, seed);
    drop(world);
    Ok(Tally { kept: kept(&machine, &door), ..tally })
}

/// What is kept when all drivers are gone.
fn kept(machine: &Machine, door: &DmaDoor<'_, Hosted>) -> u64 {
    let recount = machine.area().recount();
    let stacks = recount.live + recount.dead + recount.pinned + recount.leaked + recount.miscounted;
    (stacks + door.pool_usage().in_use) as u64 + door.counters().lost
}

/// A driver on each CPU.
fn drive_all(machine: &Machine, world: &World<'_>, requests: u64, seed: u64) -> Tally {
    let share = requests.div_ceil(CPUS as u64);
    thread::scope(|scope| {
        let drivers: Vec<_> =
            (0..CPUS).map(|number| scope.spawn(move || drive(machine, world, number, share, seed))).collect();
        let tallies = drivers.into_iter().map(|driver| driver.join().unwrap_or_else(|panic| resume_unwind(panic)));
        tallies.fold(Tally::default(), Tally::with)
    })
}

/// A driver on this thread, in a task with a stack of the area. One that does not come back has misjudged everything.
fn drive(machine: &Machine, world: &World<'_>, number: usize, share: u64, seed: u64) -> Tally {
    let (tally, mut wrong) = (Mutex::new(None), 0);
    if let Ok(cpu) = machine.cpu() {
        let body = || {
            let driven = Driver::new(world, number, seed).drive(share);
            *tally.lock().unwrap_or_else(PoisonError::into_inner) = Some(driven);
        };
        // SAFETY: nothing outside of the task points into its stack but the door's transfers, which end before it does.
        let spawned = unsafe { cpu.spawn("driver", body) };
        spawned.iter().for_each(|_| drop(cpu.run()));
        wrong = world.end();
    }
    let driven = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    let driven = driven.unwrap_or_else(|| {
        world.part();
        Tally { requests: share, misjudged: share, ..Tally::default() }
    });
    driven.with(Tally { wrong, ..Tally::default() })
}
