//! The vmalloc: memory for the kernel itself, of any size, at addresses side by side.
//!
//! There is one, [`VMALLOC`], in a range of its own. How its areas are mapped is in [`pager`] and `slots`; all else is `vmstack-vmalloc`'s.
//!
//! Who frees what is no area has lost track of what it owns, and may go on to use it: the machine stops in order, and says whose
//! area it was ([`vfree`]).
//!
//! # Context
//!
//! As the methods of [`Vmalloc`]. [`VMALLOC`]'s `find` may be asked in the fault path.

use vmstack::{VirtAddr, VirtRange};
use vmstack_vmalloc::{InitError, Tag, Vmalloc};

use crate::oops;

pub(crate) mod pager;
mod slots;

pub(crate) use pager::{AreaTrouble, Kernel};

/// Where the areas lie: under a top-level entry of their own.
const BASE: usize = 0xffff_c980_0000_0000;
/// How much room there is, in bytes.
const ROOM: usize = 256 << 30;

pub(crate) static VMALLOC: Vmalloc<Kernel> = Vmalloc::new(Kernel);

/// Makes room for areas, for `cpus` CPUs.
///
/// # Safety
///
/// Called once, on the kernel's final tables, before any other function here.
pub(crate) unsafe fn init(cpus: usize) -> Result<(), InitError<AreaTrouble>> {
    let range = VirtRange::new(VirtAddr::new(BASE), ROOM).unwrap_or(VirtRange::EMPTY);
    // SAFETY: nothing else in the kernel maps anything between BASE and its end, nor in the page below.
    unsafe { VMALLOC.init(range, cpus) }
}

/// Frees the area that begins at `start`. If none does, the machine stops.
#[track_caller]
pub(crate) fn vfree(start: VirtAddr) {
    if let Err(error) = VMALLOC.free(start) {
        let caller = Tag::caller();
        oops::stop_in_order(format_args!("vfree at {caller}: {error}"));
    }
}

/// Slots and chunks that are unmapped, and whose frames and addresses wait for a shootdown.
pub(crate) fn waiting() -> u64 {
    let usage = VMALLOC.usage();
    usage.pieces_unmapped.saturating_sub(usage.pieces_retired)
}
