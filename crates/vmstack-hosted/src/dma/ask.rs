//! Requests by chance: near everything where something can go wrong.

use vmstack::{Direction, DmaRequest, Refusal, VirtAddr};

/// Numbers by chance, the same ones for the same seed (Marsaglia's xorshift).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`, which is not zero.
    pub(super) const fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 16) % end as u64) as usize
    }

    /// True once in `times`.
    pub(super) const fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// From 1 byte to 64 KiB: small and large ones alike.
    pub(super) const fn size(&mut self) -> usize {
        let most = 1 << self.below(17);
        1 + self.below(most)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = core::iter::repeat_with(|| self.next().to_le_bytes());
        words.take(count.div_ceil(8)).flatten().take(count).collect()
    }
}

/// What is asked at the door.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    pub(super) addr: usize,
    pub(super) bytes: usize,
    pub(super) direction: Direction,
    pub(super) align: usize,
    pub(super) reach: u64,
    pub(super) segments: usize,
}

impl Asked {
    /// About these bytes, for a device that can do anything.
    pub(super) const fn new(addr: usize, bytes: usize, direction: Direction) -> Self {
        Self { addr, bytes, direction, align: 1, reach: u64::MAX, segments: usize::MAX }
    }

    /// The same by chance for a device that can do less. What it reaches ends at `reach`, if it does not reach everything.
    pub(super) fn limited(self, random: &mut Random, reach: u64) -> Self {
        let align = if random.once_in(3) { [2, 4, 64, 512, 4096, 8192][random.below(6)] } else { 1 };
        let reach = if random.once_in(12) { reach } else { u64::MAX };
        let segments = if random.once_in(5) { 1 + random.below(4) } else { usize::MAX };
        Self { align, reach, segments, ..self }
    }

    pub(super) const fn request(&self) -> DmaRequest {
        let request = DmaRequest::new(VirtAddr::new(self.addr), self.bytes, self.direction);
        request.aligned(self.align).reaching(self.reach).in_segments(self.segments)
    }

    /// The same bytes, for a device that reads nothing.
    pub(super) const fn harmless(&self) -> Self {
        Self::new(self.addr, self.bytes, Direction::ToDevice)
    }

    /// Why it is no request at all, whatever it is about.
    pub(super) const fn nonsense(&self) -> Option<Refusal> {
        match self.bytes {
            0 => Some(Refusal::Empty),
            bytes if self.addr > usize::MAX - (bytes - 1) => Some(Refusal::Wraps),
            _ => None,
        }
    }

    /// From the first address up to the end.
    pub(super) const fn span(&self) -> (usize, usize) {
        (self.addr, self.addr + self.bytes)
    }

    pub(super) const fn meets(&self, (from, to): (usize, usize)) -> bool {
        self.addr < to && self.addr + self.bytes > from
    }
}

/// Which way bytes go, by chance.
pub(super) const fn direction(random: &mut Random) -> Direction {
    [Direction::ToDevice, Direction::FromDevice, Direction::Both][random.below(3)]
}
