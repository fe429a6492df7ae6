//! A kernel adopts vmstack: `docs/adopt.md` walks through this file.
//!
//! The kernel is tiny, imaginary and unlike the others here. Its virtual memory is one buffer, so what is mapped can truly
//! be read and written. It has one CPU, and nothing interrupts it.

use core::cell::{Cell, RefCell};
use std::collections::{BTreeMap, LinkedList};
use vmstack::{
    AreaConfig, Cpu, FaultContext, Hint, Mapping, NotMapped, Pages, PhysAddr, Platform, StackArea, Unmapped,
};
use vmstack::{Verdict, VirtAddr, VirtRange};

const PAGE: usize = 4096;
const UNMAPPED: u8 = 0xdd; // What this kernel's memory holds where nothing is mapped.
const BYTES: usize = 64 * PAGE;

/// This kernel's own frame handle. They are kept in linked lists, so that giving many back takes no memory.
struct FrameHandle(u64);
type Frames = LinkedList<FrameHandle>;

#[derive(Default)]
struct Tiny {
    free: RefCell<Frames>,
    page_table: RefCell<BTreeMap<VirtAddr, Frames>>,
    flushes: Cell<usize>,
}

// SAFETY: one CPU, and nothing interrupts it: see `enter`.
unsafe impl Sync for Tiny {}

// SAFETY: `map` opens the pages named and clears them, `unmap` closes them, and nobody else does either; frames are mapped
// once; every flush is complete when it returns; there is one CPU and it is not interrupted; no method calls the area, and nobody is ever killed.
unsafe impl Platform for Tiny {
    const PAGE_SIZE: usize = PAGE;
    type Frames = Frames;
    type Ticket = (); // Shootdowns are done when they return, so there is nothing to remember.
    type Guard = (); // Nothing interrupts, so there is nothing to turn off and on.
    type Error = &'static str;

    fn take_frames(&self, count: usize) -> Result<Frames, &'static str> {
        let rest = self.free.borrow().len().checked_sub(count).ok_or("out of frames")?;
        Ok(self.free.borrow_mut().split_off(rest))
    }
    fn give_frames(&self, mut frames: Frames) {
        self.free.borrow_mut().append(&mut frames);
    }
    unsafe fn map(&self, mapping: Mapping, mut frames: Frames) -> Result<Hint, NotMapped<Self>> {
        for page in mapping.pages().addresses(PAGE) {
            // SAFETY: the page lies in the area, in our buffer, and was not mapped. The frame reads as zero.
            unsafe { page.as_mut_ptr::<u8>().write_bytes(0, PAGE) };
            self.page_table.borrow_mut().insert(page, frames.split_off(frames.len() - 1));
        }
        Ok(Hint::default())
    }
    unsafe fn unmap(&self, mapping: Mapping) -> Unmapped<Self> {
        let mut frames = LinkedList::new();
        for page in mapping.pages().addresses(PAGE) {
            // SAFETY: a page of the buffer that was mapped, and that nobody uses any more.
            unsafe { page.as_mut_ptr::<u8>().write_bytes(UNMAPPED, PAGE) };
            self.page_table.borrow_mut().remove(&page).iter_mut().for_each(|frame| frames.append(frame));
        }
        Unmapped::new(frames)
    }
    fn shootdown(&self, _batch: impl Iterator<Item = Pages> + Clone) {
        self.flushes.set(self.flushes.get() + 1); // Everything, on every CPU, whatever the batch is.
    }
    fn flushed(&self, _ticket: &()) -> bool {
        true
    }
    fn translate(&self, addr: VirtAddr) -> Option<PhysAddr> {
        let offset = addr.get() % PAGE;
        let table = self.page_table.borrow();
        table.get(&addr.wrapping_sub(offset))?.front().map(|frame| PhysAddr::new(frame.0 + offset as u64))
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
    let area = StackArea::new(Tiny::default());
    area.platform().give_frames((0..16).map(|i| FrameHandle(i * PAGE as u64)).collect());
    // SAFETY: the buffer is this area's alone, and is never freed.
    unsafe { area.init(&AreaConfig::new(range, 4, 2 * PAGE, 1)) }?;

    let stack = area.alloc(7)?;
    // SAFETY: inside the stack, which is mapped and ours.
    unsafe { stack.top().wrapping_sub(64).as_mut_ptr::<u64>().write_volatile(42) };
    println!("stack {}..{}, {} bytes used", stack.bottom(), stack.top(), stack.watermark());
    let context = FaultContext::new(Cpu::new(0), VirtAddr::of(main as *const ()));
    if let Verdict::Kill(fault) = area.on_fault(stack.bottom().wrapping_sub(8), stack.bottom(), &context) {
        println!("{}", area.report(&fault));
    }
    drop(stack);
    area.drain();
    println!("{} pages mapped, {} flushes", area.platform().page_table.borrow().len(), area.platform().flushes.get());
    Ok(())
}
