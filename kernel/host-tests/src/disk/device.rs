//! A device that does what a test says: it works on the rings of a queue of `virtio-drivers`, in memory (virtio 1.2, 2.7).

#![expect(clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Error, Hal, PAGE_SIZE};
use vmstack::VirtAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::world::{device_reads, device_writes, virt_to_phys};

/// As the kernel's.
pub(super) const DESCRIPTORS: usize = 64;
/// A descriptor that others follow, and one that the device writes to.
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// The kernel, as `virtio-drivers` sees it: the rings are the host's memory.
#[derive(Debug)]
pub(super) struct Bus;

fn pages_of(pages: usize) -> Layout {
    Layout::from_size_align(pages * PAGE_SIZE, PAGE_SIZE).expect("a multiple of pages")
}

unsafe impl Hal for Bus {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (u64, NonNull<u8>) {
        let memory = NonNull::new(unsafe { alloc_zeroed(pages_of(pages)) }).expect("the host has memory");
        (memory.as_ptr().expose_provenance() as u64, memory)
    }

    unsafe fn dma_dealloc(_: u64, memory: NonNull<u8>, pages: usize) -> i32 {
        unsafe { dealloc(memory.as_ptr(), pages_of(pages)) };
        0
    }

    unsafe fn mmio_phys_to_virt(_: u64, _: usize) -> NonNull<u8> {
        unreachable!("there are no registers")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> u64 {
        virt_to_phys(VirtAddr::of(buffer.as_ptr().cast_const().cast::<u8>()))
    }

    unsafe fn unshare(_: u64, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// A piece of a chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    at: u64,
    bytes: usize,
    writes: bool,
}

/// What the driver wants.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) token: u16,
    pieces: Vec<Piece>,
}

impl Chain {
    /// What the device is told: header, and what is to be written.
    pub(super) fn told(&self) -> Vec<u8> {
        let pieces = self.pieces.iter().filter(|piece| !piece.writes);
        pieces.flat_map(|piece| device_reads(piece.at, piece.bytes)).collect()
    }

    fn outputs(&self) -> Vec<Piece> {
        self.pieces.iter().copied().filter(|piece| piece.writes).collect()
    }

    /// Writes data, as many bytes as are wanted.
    pub(super) fn fill(&self, byte: u8) {
        let outputs = self.outputs();
        outputs[..outputs.len() - 1].iter().for_each(|piece| device_writes(piece.at, &vec![byte; piece.bytes]));
    }

    pub(super) fn set_status(&self, status: u8) {
        let outputs = self.outputs();
        let last = outputs[outputs.len() - 1];
        assert_eq!(last.bytes, 1, "the status comes last");
        device_writes(last.at, &[status]);
    }

    /// All that the device is to write, in bytes.
    pub(super) fn wanted(&self) -> u32 {
        self.outputs().iter().map(|piece| piece.bytes as u32).sum()
    }
}

/// Where the three parts of a queue are.
#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    descriptors: u64,
    available: u64,
    used: u64,
}

/// The device's side of the queue.
#[derive(Debug)]
pub(super) struct Device {
    parts: Parts,
    /// Chains that it has taken, and those that it has ended.
    taken: u16,
    ended: u16,
}

fn number(at: u64, bytes: usize) -> u64 {
    let mut word = [0; 8];
    word[..bytes].copy_from_slice(&device_reads(at, bytes));
    u64::from_le_bytes(word)
}

impl Device {
    /// The next chain, if there is one.
    pub(super) fn take(&mut self) -> Option<Chain> {
        let Parts { descriptors, available, .. } = self.parts;
        if number(available + 2, 2) as u16 == self.taken {
            return None;
        }
        let slot = u64::from(self.taken) % DESCRIPTORS as u64;
        let token = number(available + 4 + 2 * slot, 2) as u16;
        self.taken = self.taken.wrapping_add(1);
        let (mut pieces, mut next) = (Vec::new(), Some(u64::from(token)));
        while let Some(at) = next.map(|index| descriptors + 16 * index) {
            let flags = number(at + 12, 2) as u16;
            pieces.push(Piece { at: number(at, 8), bytes: number(at + 8, 4) as usize, writes: flags & WRITE != 0 });
            next = (flags & NEXT != 0).then(|| number(at + 14, 2));
        }
        Some(Chain { token, pieces })
    }

    /// Says that the chain `token` is done.
    pub(super) fn say(&mut self, token: u16, wrote: u32) {
        let at = self.place();
        device_writes(at, &u32::from(token).to_le_bytes());
        device_writes(at + 4, &wrote.to_le_bytes());
        self.say_so_many(1);
    }

    /// Where it says so the next time.
    pub(super) fn place(&self) -> u64 {
        self.parts.used + 4 + 8 * (u64::from(self.ended) % DESCRIPTORS as u64)
    }

    /// Says that so many more are done.
    pub(super) fn say_so_many(&mut self, more: u16) {
        self.ended = self.ended.wrapping_add(more);
        device_writes(self.parts.used + 2, &self.ended.to_le_bytes());
    }

    /// Ends a chain as a good device does.
    pub(super) fn end(&mut self, chain: &Chain, byte: u8) {
        chain.fill(byte);
        chain.set_status(0);
        self.say(chain.token, chain.wanted());
    }
}

/// A device that runs, as the driver sees it, and as it is.
pub(super) struct Running {
    pub(super) queue: VirtQueue<Bus, DESCRIPTORS>,
    pub(super) device: Device,
    pub(super) notified: usize,
}

impl Running {
    pub(super) fn new() -> Self {
        let mut parts = Parts::default();
        let queue = VirtQueue::new(&mut Wires(&mut parts), 0, false, false).expect("a queue");
        Self { queue, device: Device { parts, taken: 0, ended: 0 }, notified: 0 }
    }

    pub(super) fn notify(&mut self) {
        self.notified += 1;
    }
}

/// What is between them when the queue is made.
struct Wires<'a>(&'a mut Parts);

impl Transport for Wires<'_> {
    fn device_type(&self) -> DeviceType {
        DeviceType::Block
    }

    fn read_device_features(&mut self) -> u64 {
        0
    }

    fn write_driver_features(&mut self, _: u64) {}

    fn max_queue_size(&mut self, _: u16) -> u32 {
        DESCRIPTORS as u32
    }

    fn notify(&mut self, _: u16) {}

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::empty()
    }

    fn set_status(&mut self, _: DeviceStatus) {}

    fn set_guest_page_size(&mut self, _: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(&mut self, _: u16, _: u32, descriptors: u64, available: u64, used: u64) {
        *self.0 = Parts { descriptors, available, used };
    }

    fn queue_unset(&mut self, _: u16) {}

    fn queue_used(&mut self, _: u16) -> bool {
        false
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::empty()
    }

    fn read_config_generation(&self) -> u32 {
        0
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, _: usize) -> Result<T, Error> {
        Err(Error::ConfigSpaceMissing)
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, _: usize, _: T) -> Result<(), Error> {
        Err(Error::ConfigSpaceMissing)
    }
}
