//! What memory holds: patterns that are written and looked for, byte by byte, while the compiler thinks of nobody who writes there.

use vmstack::{PhysAddr, VirtAddr};

use super::engine;
use crate::arch::layout::phys_to_virt;
use crate::dma::DmaBuffer;
use crate::println;

/// Bytes of a pattern: which one is told by a seed. None of them is zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pattern(pub(super) u8);

/// What a task's memory holds before the device writes, and what the device reads from it.
pub(super) const OURS: Pattern = Pattern(0x41);
/// What the device writes.
pub(super) const DEVICES: Pattern = Pattern(0x92);
/// What the frames hold that nobody is to touch.
pub(super) const VICTIMS: Pattern = Pattern(0xe7);

impl Pattern {
    const fn at(self, index: usize) -> u8 {
        (index as u8).wrapping_mul(29).wrapping_add((index >> 8) as u8).wrapping_add(self.0) | 1
    }
}

/// A stretch of memory that scripts read and write, and devices too.
///
/// Having one means that it is mapped, and its bytes are the script's: of the current task's stack, or of another's who waits for that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) at: VirtAddr,
    pub(super) bytes: usize,
}

impl Stretch {
    pub(super) const fn new(at: VirtAddr, bytes: usize) -> Self {
        Self { at, bytes }
    }

    /// A stretch of a frame that the script owns.
    pub(super) const fn of_frame(frame: PhysAddr, bytes: usize) -> Self {
        Self::new(phys_to_virt(frame), bytes)
    }

    /// The `bytes` bytes from `skip` on.
    pub(super) const fn part(self, skip: usize, bytes: usize) -> Self {
        Self::new(self.at.wrapping_add(skip), bytes)
    }

    fn byte(self, index: usize) -> u8 {
        // SAFETY: mapped, and the script's; volatile, for a device writes it.
        unsafe { self.at.wrapping_add(index).as_mut_ptr::<u8>().read_volatile() }
    }

    /// Fills it with `pattern`, which begins `skip` bytes before it.
    pub(super) fn fill_from(self, pattern: Pattern, skip: usize) {
        for index in 0..self.bytes {
            // SAFETY: as above; nobody else writes it now.
            unsafe { self.at.wrapping_add(index).as_mut_ptr::<u8>().write_volatile(pattern.at(skip + index)) };
        }
    }

    pub(super) fn fill(self, pattern: Pattern) {
        self.fill_from(pattern, 0);
    }

    /// How many bytes are those of `pattern`, which begins `skip` bytes before the stretch.
    pub(super) fn like_from(self, pattern: Pattern, skip: usize) -> usize {
        (0..self.bytes).filter(|&index| self.byte(index) == pattern.at(skip + index)).count()
    }

    /// How many bytes are those of `pattern`.
    pub(super) fn like(self, pattern: Pattern) -> usize {
        self.like_from(pattern, 0)
    }

    /// How many bytes are not zero.
    pub(super) fn not_zero(self) -> usize {
        (0..self.bytes).filter(|&index| self.byte(index) != 0).count()
    }
}

/// A buffer that owns its frame.
fn buffer() -> Option<DmaBuffer> {
    let buffer = DmaBuffer::new(4096);
    if buffer.is_none() {
        println!("vmstack: no frame for a buffer");
    }
    buffer
}

/// Fills the first `bytes` bytes of the device's buffer with `pattern`.
pub(super) fn load_device(pattern: Pattern, bytes: usize) {
    let Some(mut buffer) = buffer() else { return };
    buffer.iter_mut().enumerate().for_each(|(index, byte)| *byte = pattern.at(index));
    engine::load(&buffer, bytes);
}

/// Which bytes the device has got: how many of the first `bytes` are as in each of `patterns`.
pub(super) fn in_device<const N: usize>(bytes: usize, patterns: [Pattern; N]) -> [usize; N] {
    let Some(mut buffer) = buffer() else { return [0; N] };
    engine::show(&mut buffer, bytes);
    let like =
        |pattern: Pattern| buffer.iter().take(bytes).enumerate().filter(|&(i, &byte)| byte == pattern.at(i)).count();
    patterns.map(like)
}
