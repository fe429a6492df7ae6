//! What a stack takes of memory, by its size: the suite `memory`.
//!
//! An area for each size, on which nothing runs, has as many stacks handed out as a machine has tasks. Then everything that the area maps
//! is counted by walking its tables: what is no page of a stack is a record, or was made with the area.

use alloc::vec::Vec;

use vmstack::{Geometry, Placement, StackArea, VirtRange};

use crate::arch::layout::PAGE_SIZE;
use crate::mm::heap;
use crate::mm::{frames, tables};
use crate::stacks::{self, Kernel, Stack};
use crate::{fact, println};

/// How many stacks an area has to give: 100,000, and as many as fill the last page of records.
const STACKS: usize = 100_032;
/// Records of a page.
const RECORDS: usize = PAGE_SIZE / 64;
/// Slots of an area: so many that free ones are never scarce.
const SLOTS: usize = 1 << 17;
/// Frames that are left to everybody else: 16 MiB.
const LEFT: usize = 4096;

static AREAS: [StackArea<Kernel>; 4] = [const { StackArea::new(Kernel) }; 4];

/// Counts everything.
#[inline(never)]
pub(crate) fn count() {
    for (number, area) in AREAS.iter().enumerate() {
        let size = (8 << 10) << number;
        if let Err(error) = stacks::make_idle_area(area, number, SLOTS, size, Placement::Any) {
            println!("vmstack: no area for stacks of {size} bytes: {error}");
        } else if fill(area, size).is_err() {
            println!("vmstack: no memory to remember stacks in");
        }
    }
}

/// Hands out stacks of `area`, says what all of it takes, and gives it back.
fn fill(area: &'static StackArea<Kernel>, size: usize) -> Result<(), heap::OutOfHeap> {
    let Some(range) = area.geometry().map(Geometry::whole_range) else { return Ok(()) };
    let fixed = mapped(range).0;
    let mut stacks: Vec<Stack> = Vec::new();
    heap::reserve(&mut stacks, STACKS)?;
    // Whole pages of records, also where there is no memory for all stacks.
    while stacks.len() < STACKS
        && (!stacks.len().is_multiple_of(RECORDS) || frames::free() > LEFT)
        && let Ok(stack) = area.alloc(1)
    {
        stacks.push(stack);
    }
    let (pages, tables) = mapped(range);
    let [of_stacks, tables, fixed, all] =
        [stacks.len() * size, tables * PAGE_SIZE, fixed * PAGE_SIZE, pages * PAGE_SIZE];
    let records = all.saturating_sub(of_stacks + fixed);
    fact!(format_args!("memory.{size}"), "{} {of_stacks} {tables} {records} {fixed}", stacks.len());
    drop(stacks);
    area.drain();
    Ok(())
}

/// How many pages are mapped in `range`, and how many tables it takes.
fn mapped(range: VirtRange) -> (usize, usize) {
    let census = tables::kernel().census(range);
    (census.leaves, census.tables)
}
