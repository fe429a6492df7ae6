//! The part of the story about areas of any size: some are made, listed and measured; then they go, and so do their frames.

use alloc::vec::Vec;

use vmstack::{PhysAddr, VirtRange};
use vmstack_paging::{Access, Attributes};
use vmstack_vmalloc::{AreaInfo, Request, Tag};

use crate::arch::layout::PAGE_SIZE;
use crate::balance::Balance;
use crate::mm::{frames, tables};
use crate::vmalloc::{self, Kernel, VMALLOC};
use crate::{fact, println};

type Area = vmstack_vmalloc::Area<'static, Kernel>;

/// Pages of areas that stay, and of as many between them that go.
const SIZES: [usize; 5] = [1, 3, 17, 17, 90];
/// Bytes of a buffer that is no whole number of pages.
const BUFFER: usize = 5000;
/// Bytes of an area that large pages map, but for its end; and of one below it that goes.
const BIG: usize = 5 << 20;
/// Bytes of addresses that are kept free of anything.
const RESERVED: usize = 1 << 20;
/// Frames that are lent.
const LENT: usize = 3;

/// Tells it.
pub(super) fn tell() {
    let before = Balance::take();
    let lent: Vec<PhysAddr> = (0..LENT).filter_map(|_| frames::take(0)).collect();
    match have(&lent) {
        Some(held) => {
            VMALLOC.drain();
            list();
            measure();
            drop(held);
        }
        None => println!("the story's areas could not be had"),
    }
    VMALLOC.drain();
    lent.into_iter().for_each(|frame| frames::give(frame, 0));
    left(&before);
}

/// Areas of several sizes and kinds, between which others were. None if one could not be had.
fn have(lent: &[PhysAddr]) -> Option<Vec<Area>> {
    let (mut held, mut gone) = (Vec::new(), Vec::new());
    for pages in SIZES {
        gone.push(VMALLOC.vmalloc(pages * PAGE_SIZE).ok()?);
        held.push(VMALLOC.vmalloc(pages * PAGE_SIZE).ok()?);
    }
    held.push(VMALLOC.vzalloc(BUFFER).ok()?);
    gone.push(VMALLOC.vmalloc(BIG).ok()?);
    held.push(VMALLOC.alloc_waiting(&Request::new(BIG).zeroed()).ok()?);
    // SAFETY: the frames are the caller's, who keeps them until the area is gone and drained; nobody else writes to them.
    let mapped =
        unsafe { VMALLOC.vmap(lent.iter().rev().copied(), Attributes::kernel(Access::ReadWrite), Tag::caller()) };
    held.push(mapped.ok()?);
    held.push(VMALLOC.reserve(&Request::new(RESERVED)).ok()?);
    Some(held)
}

/// A line for each area that is alive; and how many of the pages behind them, which are their guards, are mapped.
fn list() {
    let mut open_guards = 0;
    VMALLOC.for_each(|area| {
        let AreaInfo { range, bytes, kind, tag, large, .. } = area;
        let (start, end, pages) = (range.start().get(), range.end().get(), range.bytes() / PAGE_SIZE);
        fact!("vmalloc.area", "{start:#x} {end:#x} {bytes} {pages} {} {large} {tag}", kind.name());
        let guard = VirtRange::new(range.end(), PAGE_SIZE).unwrap_or(VirtRange::EMPTY);
        open_guards += tables::kernel().census(guard).leaves;
    });
    fact!("vmalloc.open_guards", "{open_guards}");
}

/// The totals, counted in three ways; and how the addresses are used.
fn measure() {
    let (usage, recount, room) = (VMALLOC.usage(), VMALLOC.recount(), VMALLOC.fragmentation());
    let census = tables::kernel().census(VMALLOC.range());
    fact!("vmalloc.usage", "{} {} {}", usage.allocated, usage.freed, usage.pages());
    fact!(
        "vmalloc.recount",
        "{} {} {} {} {}",
        recount.areas,
        recount.bytes,
        recount.pages,
        recount.reserved_pages,
        recount.record_pages
    );
    fact!("vmalloc.tables", "{} {}", census.bytes / PAGE_SIZE, census.tables);
    fact!(
        "vmalloc.addresses",
        "{} {} {} {} {} {}",
        room.used,
        room.guards,
        room.padding,
        room.free_slots,
        room.free_runs,
        room.waiting
    );
    fact!("vmalloc.never_used", "{} {} {}", room.fresh, room.records, room.range);
    fact!("vmalloc.free", "{} {}", room.runs, room.longest_run);
    fact!("vmalloc.permille", "{} {}", room.lost_permille(), room.scattered_permille());
}

/// What is left when all of them are gone.
fn left(before: &Balance) {
    let after = Balance::take();
    let frames = after.area_frames() + vmalloc::waiting() as usize;
    fact!("vmalloc.left", "{} {frames} {}", VMALLOC.recount().areas, frames::recount_lent());
    fact!("vmalloc.frames", "{} {}", before.frames, after.frames);
}
