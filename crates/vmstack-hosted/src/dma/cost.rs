//! What the door costs: operations for a clock, done so many times.
//!
//! A request here is 512 bytes that a device reads: it passes, the device copies them from where it was told, it ends. A real device takes
//! microseconds for that, and a driver hundreds of instructions; so the ratio of two such requests is more than any driver would see.

use core::hint::black_box;

use vmstack::{Direction, DmaDoor, DmaPolicy, DmaRequest, VirtAddr};

use super::device::Device;
use super::world::{World, device, machine};
use crate::cpu::Cpu;
use crate::machine::MachineError;
use crate::platform::Hosted;

/// The bytes of a request.
pub const REQUEST: usize = 512;

/// A door, a device, and a CPU to use them on.
#[derive(Debug)]
pub struct Costs<'m> {
    door: &'m DmaDoor<'m, Hosted>,
    device: &'m Device,
    owned: VirtAddr,
    cpu: Cpu<'m>,
}

/// Does `measure` with a machine of its own.
///
/// # Errors
///
/// [`MachineError`]; then nothing was measured.
pub fn with_costs<R>(measure: impl FnOnce(&Costs<'_>) -> R) -> Result<R, MachineError> {
    let machine = machine()?;
    let areas = [machine.area()];
    let door = DmaDoor::new(machine.platform(), &areas);
    let owned = VirtAddr::new(World::new(&machine, &door)?.memory(0)[0].start);
    let device = device(&machine)?;
    let cpu = machine.cpu().map_err(MachineError::Cpu)?;
    Ok(measure(&Costs { door: &door, device: &device, owned, cpu }))
}

/// Where the bytes of a request are.
#[derive(Clone, Copy)]
enum Where {
    /// In a buffer that owns its frames.
    Owned(VirtAddr),
    /// In the frame of the function that asks.
    Frame,
}

impl Costs<'_> {
    /// Asks whether memory that is no stack's is one.
    pub fn check(&self, count: u32) {
        for _ in 0..count {
            black_box(self.door.suspects(black_box(self.owned), black_box(REQUEST)));
        }
    }

    /// Requests of a buffer that owns its frames.
    pub fn owned(&self, count: u32) {
        self.in_task(count, Where::Owned(self.owned));
    }

    /// Requests of a buffer on the stack of the task that asks, which bounce.
    pub fn bounced(&self, count: u32) {
        self.door.set_policy(DmaPolicy::Bounce);
        self.in_task(count, Where::Frame);
    }

    /// The same, when the device gets the stack itself.
    pub fn mapped(&self, count: u32) {
        self.door.set_policy(DmaPolicy::Map);
        self.in_task(count, Where::Frame);
    }

    /// So many requests, in a task.
    fn in_task(&self, count: u32, at: Where) {
        let (door, device) = (self.door, self.device);
        let body = move || {
            let mut local = [1_u8; REQUEST];
            let at = match at {
                Where::Owned(at) => at,
                Where::Frame => VirtAddr::new((&raw mut local).expose_provenance()),
            };
            (0..count).for_each(|_| request(door, device, at));
        };
        // SAFETY: nothing outside of the task points into its stack but the door's transfers, which end before it does.
        let spawned = unsafe { self.cpu.spawn("driver", body) };
        spawned.iter().for_each(|_| drop(self.cpu.run()));
    }
}

/// The bytes at `at` pass, the device reads them, and the transfer ends.
fn request(door: &DmaDoor<'_, Hosted>, device: &Device, at: VirtAddr) {
    let mut seen = [0_u8; REQUEST];
    let request = DmaRequest::new(at, black_box(REQUEST), Direction::ToDevice);
    // SAFETY: the bytes are this task's, or nobody else's.
    let Ok(transfer) = (unsafe { door.pass(&request) }) else { return };
    let mut rest = &mut seen[..];
    for segment in transfer.segments() {
        device.read_into(segment, rest);
        rest = rest.get_mut(segment.bytes..).unwrap_or_default();
    }
    black_box(&seen);
    // SAFETY: the device does nothing when it is not told to.
    let _ = black_box(unsafe { transfer.finish() });
}
