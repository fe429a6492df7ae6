//! A kernel adopts vmstack: `docs/adopt.md` walks through this file.
//!
//! The kernel is tiny and imaginary, and unlike the others in this project. Its memory is one buffer, and a virtual address is
//! an address in that buffer: so what the library maps can truly be read and written. One CPU, nothing that interrupts it.

use core::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use vmstack::{
    AreaConfig, Cpu, FaultContext, NotMapped, Pages, PhysAddr, Platform, StackArea, Unmapped, Verdict, VirtAddr,
    VirtRange,
};

const PAGE: usize = 4096;
const UNMAPPED: u8 = 0xdd; // What this kernel's memory holds where nothing is mapped.
const BYTES: usize = 64 * PAGE;

/// This kernel's own kind of frame handle: it is not copied, and the library never looks inside.
#[derive(Debug)]
struct FrameHandle(u64);

struct Tiny {
    memory: *mut u8,
    free: RefCell<Vec<FrameHandle>>,
    page_table: RefCell<BTreeMap<VirtAddr, FrameHandle>>,
    flushes: Cell<usize>,
}

// SAFETY: one CPU, and nothing interrupts it: see `enter`.
unsafe impl Sync for Tiny {}

// SAFETY: `map` opens the pages named and clears them, `unmap` closes them, and nobody else does either; frames are mapped
// once; every flush is complete when it returns; there is one CPU and it is not interrupted; no method calls the area.
unsafe impl Platform for Tiny {
    const PAGE_SIZE: usize = PAGE;
    type Frames = Vec<FrameHandle>;
    type Ticket = (); // Shootdowns are done when they return, so there is nothing to remember.
    type Guard = (); // Nothing interrupts, so there is nothing to turn off and on.
    type Error = &'static str;

    fn take_frames(&self, count: usize) -> Result<Vec<FrameHandle>, &'static str> {
        let mut free = self.free.borrow_mut();
        let rest = free.len().checked_sub(count).ok_or("out of frames")?;
        Ok(free.split_off(rest))
    }
    fn give_frames(&self, frames: Vec<FrameHandle>) {
        self.free.borrow_mut().extend(frames);
    }
    unsafe fn map(&self, pages: Pages, frames: Vec<FrameHandle>) -> Result<(), NotMapped<Self>> {
        for (page, frame) in pages.addresses(PAGE).zip(frames) {
            // SAFETY: the page lies in the area, in our buffer, and was not mapped. The frame reads as zero.
            unsafe { page.as_mut_ptr::<u8>().write_bytes(0, PAGE) };
            self.page_table.borrow_mut().insert(page, frame);
        }
        Ok(())
    }
    unsafe fn unmap(&self, pages: Pages) -> Unmapped<Self> {
        let close = |page: VirtAddr| {
            // SAFETY: a page of the buffer that was mapped, and that nobody uses any more.
            unsafe { page.as_mut_ptr::<u8>().write_bytes(UNMAPPED, PAGE) };
            self.page_table.borrow_mut().remove(&page)
        };
        Unmapped::new(pages, pages.addresses(PAGE).filter_map(close).collect())
    }
    fn shootdown(&self, _batch: &[Unmapped<Self>]) {
        self.flushes.set(self.flushes.get() + 1); // Everything, on every CPU, whatever the batch is.
    }
    fn flushed(&self, _ticket: &()) -> bool {
        true
    }
    fn translate(&self, addr: VirtAddr) -> Option<PhysAddr> {
        let page = VirtAddr::new(addr.get() & !(PAGE - 1));
        self.page_table.borrow().get(&page).map(|frame| PhysAddr::new(frame.0))
    }
    fn cpu(&self) -> Cpu {
        Cpu::new(0)
    }
    fn enter(&self) {}
}

fn main() -> Result<(), Box<dyn core::error::Error>> {
    let buffer = Vec::leak(vec![UNMAPPED; BYTES + PAGE]).as_mut_ptr();
    let memory = buffer.wrapping_add(buffer.align_offset(PAGE));
    let range = VirtRange::new(VirtAddr::new(memory.expose_provenance()), BYTES).ok_or("no such range")?;
    let free = RefCell::new((0..16).map(|i| FrameHandle(i * PAGE as u64)).collect());
    let area = StackArea::new(Tiny { memory, free, page_table: RefCell::default(), flushes: Cell::new(0) });
    // SAFETY: the buffer is this area's alone, and is never freed.
    unsafe { area.init(&AreaConfig::new(range, 4, 2 * PAGE, 1)) }?;

    let stack = area.alloc(7)?;
    let word = stack.top().wrapping_sub(64).as_mut_ptr::<u64>();
    // SAFETY: inside the stack, which is mapped and ours.
    unsafe { word.write_volatile(42) };
    println!("stack {}..{}, {} bytes used", stack.bottom(), stack.top(), stack.watermark());
    let context = FaultContext::new(Cpu::new(0), VirtAddr::of(main as *const ()));
    if let Verdict::Kill(fault) = area.on_fault(stack.bottom().wrapping_sub(8), stack.bottom(), &context) {
        println!("{}", area.report(&fault));
    }
    drop(stack);
    area.drain();
    let kernel = area.platform();
    println!(
        "{} frames free, {} flushes, memory at {:p}",
        kernel.free.borrow().len(),
        kernel.flushes.get(),
        kernel.memory
    );
    Ok(())
}
