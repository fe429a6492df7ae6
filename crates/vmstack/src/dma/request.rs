//! What is asked at the door: some bytes, which way they go, and what the device can do.

use crate::addr::VirtAddr;

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Direction {
    /// The device reads them.
    ToDevice = 0,
    /// The device writes them.
    FromDevice = 1,
    /// The device reads and writes them.
    Both = 2,
}

impl Direction {
    /// Whether the device may write.
    #[must_use]
    pub const fn writes(self) -> bool {
        !matches!(self, Self::ToDevice)
    }

    pub(super) const fn from_index(index: usize) -> Self {
        match index {
            0 => Self::ToDevice,
            1 => Self::FromDevice,
            _ => Self::Both,
        }
    }
}

/// Some bytes that a device is to have, and what the device can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DmaRequest {
    pub(super) addr: VirtAddr,
    pub(super) bytes: usize,
    pub(super) direction: Direction,
    pub(super) align: usize,
    pub(super) reach: u64,
    pub(super) segments: usize,
    pub(super) overwritten: bool,
}

impl DmaRequest {
    /// The `bytes` bytes from `addr` on, for a device that takes any number of segments, anywhere.
    #[must_use]
    pub const fn new(addr: VirtAddr, bytes: usize, direction: Direction) -> Self {
        Self { addr, bytes, direction, align: 1, reach: u64::MAX, segments: usize::MAX, overwritten: false }
    }

    /// Each segment has to begin at a multiple of `align` bytes: rounded up to a power of two.
    ///
    /// Where a segment ends nothing is said. A device whose writes do not reach the caches is not to have a stack that is
    /// [mapped](super::DmaPolicy::Map) for it: the line in which its bytes end has others.
    #[must_use]
    pub const fn aligned(self, align: usize) -> Self {
        // What is too much to round up is refused as it is: no buffer is aligned like that.
        let align = match align.checked_next_power_of_two() {
            Some(power) => power,
            None => usize::MAX,
        };
        Self { align, ..self }
    }

    /// The highest physical address that the device can reach.
    #[must_use]
    pub const fn reaching(self, highest: u64) -> Self {
        Self { reach: highest, ..self }
    }

    /// How many segments the device takes at most: at least one. Of a list: for each entry.
    #[must_use]
    pub const fn in_segments(self, most: usize) -> Self {
        Self { segments: if most == 0 { 1 } else { most }, ..self }
    }

    /// The device writes all of them, or the transfer is [cancelled](crate::Transfer::cancel): what they are now need not be kept when they bounce.
    ///
    /// Whoever finishes such a transfer though the device wrote fewer gets bytes of earlier transfers for the rest.
    #[must_use]
    pub const fn overwritten(self) -> Self {
        Self { overwritten: true, ..self }
    }

    /// The same bytes, the other way.
    #[must_use]
    pub const fn towards(self, direction: Direction) -> Self {
        Self { direction, ..self }
    }

    /// Where the bytes begin.
    #[must_use]
    pub const fn addr(&self) -> VirtAddr {
        self.addr
    }

    /// How many they are.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Which way they go.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        self.direction
    }
}
