//! Devices, and the memory beside the areas that they are given: they know physical addresses, and nothing else.
//!
//! A frame that is mapped has its bytes at the page where it is mapped; one that is not has them in itself. A device finds them by
//! number, whatever was mapped when it was told the number: one that writes to a frame that was given back is found out when the frame
//! is taken again.

use core::alloc::Layout;
use std::alloc::{alloc, dealloc};

use vmstack::{BounceRegion, PhysAddr, Segment, VirtAddr};

use super::{FakeOf, Inner};

/// Blocks are this far from each other at least, so that what leaves one is nowhere.
const APART: usize = 256 << 10;

/// Host memory that has physical addresses, in one piece or page by page.
#[derive(Debug)]
pub(crate) struct Block {
    host: *mut u8,
    allocated: Layout,
    bytes: usize,
    phys: u64,
    /// Whether the platform knows that it is in one piece.
    direct: bool,
    /// For each page where it is: in units of a page, from the start of the block. Of none that is not mapped.
    pages: Vec<Option<usize>>,
}

impl Block {
    fn offset(&self, addr: VirtAddr) -> Option<usize> {
        addr.offset_from(VirtAddr::of(self.host)).filter(|&offset| offset < self.bytes)
    }

    fn page(&self) -> usize {
        self.bytes / self.pages.len()
    }

    pub(super) fn translate(&self, addr: VirtAddr) -> Option<PhysAddr> {
        let (offset, page) = (self.offset(addr)?, self.page());
        let at = self.pages[offset / page]?;
        Some(PhysAddr::new(self.phys + (at * page + offset % page) as u64))
    }

    pub(super) fn direct(&self, addr: VirtAddr, bytes: usize) -> Option<PhysAddr> {
        let last = self.offset(addr.wrapping_add(bytes - 1));
        last.filter(|_| self.direct).and_then(|_| self.translate(addr))
    }

    /// Where the byte at `phys` is, if it is of this block.
    fn byte(&self, phys: u64) -> Option<*mut u8> {
        let (offset, page) = (phys.checked_sub(self.phys)? as usize, self.page());
        let virt = self.pages.iter().position(|&at| at == Some(offset / page))?;
        Some(self.host.wrapping_add(virt * page + offset % page))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        unsafe { dealloc(self.host.wrapping_sub(APART), self.allocated) };
    }
}

impl<const PAGE: usize> FakeOf<PAGE> {
    fn plug(&self, phys: u64, direct: bool, pages: Vec<Option<usize>>) -> VirtAddr {
        let bytes = pages.len() * PAGE;
        let allocated = Layout::from_size_align(bytes + 2 * APART, PAGE).expect("a multiple of pages");
        let host = unsafe { alloc(allocated) }.wrapping_add(APART);
        unsafe { host.write_bytes(0x3c, bytes) };
        let _ = host.expose_provenance();
        self.inner().blocks.push(Block { host, allocated, bytes, phys, direct, pages });
        VirtAddr::of(host)
    }

    /// Memory at `phys`, in one piece.
    pub(crate) fn memory_at(&self, phys: u64, bytes: usize) -> VirtAddr {
        self.plug(phys, true, (0..bytes / PAGE).map(Some).collect())
    }

    /// Memory at `phys`, whose pages are where `pages` says, in pages from `phys` on; nowhere, where it says none.
    pub(crate) fn pages_at(&self, phys: u64, pages: &[Option<usize>]) -> VirtAddr {
        self.plug(phys, false, pages.to_vec())
    }

    /// Memory for bounce buffers.
    pub(crate) fn region(&self, phys: u64, bytes: usize) -> BounceRegion {
        BounceRegion { virt: self.memory_at(phys, bytes), phys: PhysAddr::new(phys), bytes }
    }

    fn byte(inner: &mut Inner, phys: u64) -> *mut u8 {
        let (frame, offset) = ((phys / PAGE as u64) as usize, (phys % PAGE as u64) as usize);
        match inner.frames.get_mut(frame) {
            Some(frame) => match frame.page {
                Some(page) => VirtAddr::new(page + offset).as_mut_ptr(),
                None => &raw mut frame.bytes[offset],
            },
            None => inner.blocks.iter().find_map(|block| block.byte(phys)).expect("there is memory at this address"),
        }
    }

    /// Where the host sees the byte at `phys`.
    pub(crate) fn host_of(&self, phys: PhysAddr) -> VirtAddr {
        VirtAddr::of(Self::byte(&mut self.inner(), phys.get()))
    }

    /// Code on this CPU has written these bytes, though not by [`write`](Self::write): the library copies to where a task said.
    pub(crate) fn wrote(&self, addr: VirtAddr, bytes: usize) {
        let pages = (addr.get() & !(PAGE - 1)..addr.get() + bytes).step_by(PAGE).map(VirtAddr::new);
        for page in pages.filter(|&page| self.is_mapped(page)) {
            let first = unsafe { page.as_mut_ptr::<u8>().read() };
            self.write(page, first);
        }
    }

    /// What a device reads at `bus`.
    pub(crate) fn device_reads_at(&self, bus: PhysAddr, bytes: usize) -> Vec<u8> {
        let mut inner = self.inner();
        (0..bytes as u64).map(|i| unsafe { Self::byte(&mut inner, bus.get() + i).read() }).collect()
    }

    /// A device writes `bytes` at `bus`.
    pub(crate) fn device_writes_at(&self, bus: PhysAddr, bytes: &[u8]) {
        let mut inner = self.inner();
        for (i, &byte) in bytes.iter().enumerate() {
            unsafe { Self::byte(&mut inner, bus.get() + i as u64).write(byte) };
        }
    }

    /// What a device reads that was given `segments`.
    pub(crate) fn device_reads(&self, segments: impl Iterator<Item = Segment>) -> Vec<u8> {
        segments.flat_map(|segment| self.device_reads_at(segment.start, segment.bytes)).collect()
    }

    /// A device that was given `segments` writes `bytes` there: as many as there are, if they are fewer.
    pub(crate) fn device_writes(&self, segments: impl Iterator<Item = Segment>, mut bytes: &[u8]) {
        for segment in segments {
            let (here, rest) = bytes.split_at(segment.bytes.min(bytes.len()));
            self.device_writes_at(segment.start, here);
            bytes = rest;
        }
    }
}

/// The bytes at `addr`, as the CPU reads them.
pub(crate) fn read(addr: VirtAddr, bytes: usize) -> Vec<u8> {
    unsafe { core::slice::from_raw_parts(addr.as_mut_ptr::<u8>(), bytes) }.to_vec()
}
