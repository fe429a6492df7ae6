//! What the crate `virtio-drivers` wants of a kernel: memory for its queues, and bus addresses.
//!
//! Its way to memory for devices has no room for a refusal: `share` returns an address. So the disk passes the door beforehand, and what
//! comes here is in the direct map, and passes as it is. The crate's own drivers, which share what lies on their stacks, pass the door here; if it
//! refuses, the machine stops: there is no address that could be told.

use core::ptr::NonNull;

use virtio_drivers::{BufferDirection, Hal};
use vmstack::{Direction, DmaRequest, PhysAddr, VirtAddr};

use crate::arch::layout::{PAGE_SIZE, direct_map_to_phys, is_direct, phys_to_virt};
use crate::dma::DOOR;
use crate::mm::{frames, tables};

/// This kernel, as `virtio-drivers` sees it.
#[derive(Debug)]
pub(crate) struct Bus;

const fn order(pages: usize) -> u32 {
    pages.next_power_of_two().ilog2()
}

fn pointer(at: VirtAddr) -> NonNull<u8> {
    NonNull::new(at.as_mut_ptr()).unwrap_or(NonNull::dangling())
}

/// Maps the registers at `at`, as far as they are not mapped.
fn map_registers(at: PhysAddr, bytes: usize) -> Option<VirtAddr> {
    let first = at.get() & !(PAGE_SIZE as u64 - 1);
    for page in (first..at.get() + bytes as u64).step_by(PAGE_SIZE).map(PhysAddr::new) {
        if tables::translate(phys_to_virt(page)).is_none() {
            tables::map_device(page, PAGE_SIZE).ok()?;
        }
    }
    Some(phys_to_virt(at))
}

// SAFETY: (1) `dma_alloc` gives frames that were just taken, cleared, as the direct map shows them; (2) registers are mapped uncached, where only this
// driver knows of them; (3) `share` says where the bytes are, or where the door put them.
unsafe impl Hal for Bus {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (u64, NonNull<u8>) {
        let Some(start) = frames::take(order(pages)) else { return (0, NonNull::dangling()) };
        let each = (0..pages.next_power_of_two()).map(|page| start.wrapping_add((page * PAGE_SIZE) as u64));
        each.for_each(frames::clear);
        (start.get(), pointer(phys_to_virt(start)))
    }

    unsafe fn dma_dealloc(start: u64, _: NonNull<u8>, pages: usize) -> i32 {
        frames::give(PhysAddr::new(start), order(pages));
        0
    }

    unsafe fn mmio_phys_to_virt(start: u64, bytes: usize) -> NonNull<u8> {
        match map_registers(PhysAddr::new(start), bytes) {
            Some(at) => pointer(at),
            None => panic!("no memory to map a disk's registers with"),
        }
    }

    #[track_caller]
    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> u64 {
        let addr = VirtAddr::of(buffer.as_ptr().cast_const().cast::<u8>());
        if is_direct(addr) {
            return direct_map_to_phys(addr).get();
        }
        let direction = match direction {
            BufferDirection::DriverToDevice => Direction::ToDevice,
            BufferDirection::DeviceToDriver => Direction::FromDevice,
            BufferDirection::Both => Direction::Both,
        };
        // SAFETY: the crate's promise: the bytes stay until `unshare`.
        match unsafe { DOOR.share(&DmaRequest::new(addr, buffer.len(), direction)) } {
            Ok(bus) => bus.get(),
            Err(error) => panic!("a driver that cannot be told so: {error}"),
        }
    }

    #[track_caller]
    unsafe fn unshare(bus: u64, buffer: NonNull<[u8]>, _: BufferDirection) {
        let addr = VirtAddr::of(buffer.as_ptr().cast_const().cast::<u8>());
        if is_direct(addr) {
            return;
        }
        // SAFETY: `share` said so of these bytes, and the device is done with them.
        if let Err(error) = unsafe { DOOR.unshare(PhysAddr::new(bus), addr, buffer.len()) } {
            crate::println!("disk: {error}");
        }
    }
}
