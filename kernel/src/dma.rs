//! Memory for devices: what the kernel's drivers hand out, and how.
//!
//! Two doors:
//!
//! - the safe one takes a [`DmaBuffer`], which owns its frames. There is no way to make one of a stack, so DMA from a stack does not compile;
//! - the raw one is [`DOOR`], the library's: an address and a length, of whatever memory. It knows every stack, and does what the policy
//!   says: the word `dma=` of the command line.
//!
//! Nothing else in the kernel turns an address into one for a device.

use core::fmt;

use vmstack::{BounceRegion, DmaDoor, DmaPolicy};

use crate::arch::layout::{PAGE_SIZE, phys_to_virt};
use crate::mm::frames;
use crate::println;
use crate::stacks::{AREAS, Kernel};

mod buffer;
#[cfg(dma_from_stack)]
mod from_stack;

pub(crate) use buffer::{DmaBuffer, Held};

/// Everything that is not a [`DmaBuffer`] passes here.
pub(crate) static DOOR: DmaDoor<'static, Kernel> = DmaDoor::new(&Kernel, &AREAS);

/// What the bounce buffers take, in frames: two to this power. 1 MiB.
const POOL_ORDER: u32 = 8;

/// Opens the door: it looks where the stacks are, and gets its pool. Without memory for one what would bounce is refused.
///
/// # Context
///
/// Task, when all areas are made.
pub(crate) fn init(policy: DmaPolicy) {
    DOOR.set_policy(policy);
    DOOR.look();
    let Some(phys) = frames::take(POOL_ORDER) else { return println!("vmstack: no memory for bounce buffers") };
    let region = BounceRegion { virt: phys_to_virt(phys), phys, bytes: PAGE_SIZE << POOL_ORDER };
    // SAFETY: the frames were just taken, side by side, and the direct map shows them for ever.
    if unsafe { DOOR.fill_pool(&region) }.is_err() {
        frames::give(phys, POOL_ORDER);
    }
}

/// Writes a refusal with the owner's name, where the stack has one.
pub(crate) fn explain(error: &vmstack::DmaError, out: &mut dyn fmt::Write) -> fmt::Result {
    write!(out, "{error}")?;
    if error.stack.exists() && error.stack.owner != 0 {
        write!(out, " (")?;
        crate::task::names::write(error.stack.owner, out)?;
        write!(out, ")")?;
    }
    Ok(())
}
