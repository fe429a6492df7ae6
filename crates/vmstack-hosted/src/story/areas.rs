//! The part of the story about areas: what a vmalloc lists, and what an access past the end of one comes to.
//!
//! A few areas are had, one of them of large size and one lent; some of them go again. A task writes past the end of a buffer: it is killed, and the
//! report names the area and who asked for it. When all areas are gone, so are their frames.

use core::error::Error;

use vmstack::{Platform, VirtAddr};
use vmstack_vmalloc::{Area, AreaInfo, Found, Fragmentation, Recount, Request, Tag, Usage};

use crate::arch::PAGE_SIZE;
use crate::areas::{Areas, AreasConfig};
use crate::config::Config;
use crate::machine::Machine;
use crate::mapped::Mapped;
use crate::paged::{Lending, Paged};
use crate::task::Outcome;

/// How many bytes the buffer has.
const BUFFER: usize = 5000;

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct AreaStory {
    /// Each area that was alive, lowest address first.
    pub listing: Vec<AreaInfo>,
    /// The bytes of a page.
    pub page_bytes: usize,
    /// What was counted while they were.
    pub usage: Usage,
    /// What there was, by walking all records.
    pub recount: Recount,
    /// How the addresses were used.
    pub fragmentation: Fragmentation,
    /// What was said of the access past the end.
    pub report: String,
    /// Whether that named the buffer, and who asked for it.
    pub named: bool,
    /// Frames that somebody held when all areas were gone, those of records apart.
    pub frames_left: usize,
}

type Held<'a> = Area<'a, Paged<Mapped>>;

/// Tells it.
///
/// # Errors
///
/// What kept it from being told.
pub(super) fn tell() -> Result<AreaStory, Box<dyn Error>> {
    let areas = Areas::mapped(&AreasConfig::new(64 << 20).frames(4096))?;
    let _cpu = areas.cpu()?;
    let vmalloc = areas.vmalloc();
    let held = have(&areas)?;
    let buffer = vmalloc.vzalloc(BUFFER)?;
    let mut listing = Vec::new();
    vmalloc.for_each(|area| listing.push(*area));
    let (usage, recount, fragmentation) = (vmalloc.usage(), vmalloc.recount(), vmalloc.fragmentation());
    let (report, named) = overrun(&buffer)?;
    drop((buffer, held));
    vmalloc.drain();
    let records = vmalloc.recount().record_pages as usize;
    let frames_left = areas.frames().taken.saturating_sub(records);
    Ok(AreaStory { listing, page_bytes: PAGE_SIZE, usage, recount, fragmentation, report, named, frames_left })
}

/// Some areas, between which others were.
fn have(areas: &Areas<Mapped>) -> Result<Vec<Held<'_>>, Box<dyn Error>> {
    let vmalloc = areas.vmalloc();
    let mut held = Vec::new();
    for pages in [1, 3, 17, 90] {
        held.push(vmalloc.vmalloc(pages * PAGE_SIZE)?);
        // In between, and gone again.
        drop(vmalloc.vmalloc(pages * PAGE_SIZE)?);
    }
    held.push(vmalloc.alloc_waiting(&Request::new(3 << 20).align(64 << 10).zeroed())?);
    let pager = vmalloc.pager();
    let frames: Vec<_> = held.first().into_iter().filter_map(|area| pager.translate(area.start())).collect();
    // SAFETY: the frames are those of an area that is freed after this one, which comes first in the list.
    let lent = unsafe { vmalloc.vmap(frames.into_iter(), Lending::Read, Tag::caller()) }?;
    held.insert(0, lent);
    Ok(held)
}

/// A task writes behind the last page of `buffer`. What was said of it, and whether that names the buffer.
fn overrun(buffer: &Held<'_>) -> Result<(String, bool), Box<dyn Error>> {
    let machine = Machine::new(&Config::new(2, super::STACK_SIZE))?;
    let (cpu, area) = (machine.cpu()?, buffer.info());
    let end = buffer.range().end();
    // SAFETY: nothing outside points into the task's stack.
    unsafe { cpu.spawn("overrun", move || touch(end)) }?;
    let ended = cpu.run();
    let Some(Outcome::Strayed(stray)) = ended.first().map(|ended| &ended.outcome) else {
        return Ok((String::from("nothing was found"), false));
    };
    let named = matches!(stray.found, Found::Guard { below, .. } if below.is_some() && below == area);
    Ok((stray.to_string(), named))
}

#[inline(never)]
fn touch(at: VirtAddr) {
    // SAFETY: it is a guard: the access does not come to its end.
    unsafe { at.as_mut_ptr::<u8>().write_volatile(1) };
}
