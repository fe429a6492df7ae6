//! What may happen. Numbers mean something whatever they are, so that a fuzzer need not know their limits.

use arbitrary::Arbitrary;

use super::{PAGE, tag};
use vmstack_vmalloc::Request;

#[derive(Clone, Copy, Debug, Arbitrary)]
pub(crate) enum Op {
    Alloc(Size, Lay),
    /// Freed at once.
    Brief(Size, Lay),
    Reserve(Size, Lay),
    Vmap {
        pages: u16,
        first: u16,
        way: Way,
    },
    Free(u16),
    BadFree(Free, u16, u32),
    Find(u32),
    Write(u16, u16),
    /// A CPU goes somewhere ahead of need.
    Speculate(u32),
    RunOn(u8),
    FailIn(u8),
    Drain,
    Trim,
    Pressure,
    Answer,
    LeaveCpu,
}

/// Which address is freed that must not be.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub(crate) enum Free {
    Inside,
    Guard,
    Freed,
    Anywhere,
}

/// How many bytes: by the class that its low bits are, 0 to 64 MiB.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub(crate) struct Size(pub(crate) u32);

/// How an area is to lie, and what it is to hold.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub(crate) struct Lay(pub(crate) u16);

/// How lent frames are mapped.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub(crate) struct Way(pub(crate) u8);

impl Size {
    pub(crate) fn bytes(self) -> usize {
        const MIB: usize = 1 << 20;
        let (class, rest) = (self.0 % 16, self.0 as usize / 16);
        match class {
            0..=6 => rest % (4 * PAGE) + 1,
            7..=10 => (rest % 80 * PAGE + rest / 80 % 3).saturating_sub(1),
            11 => rest % MIB + 1,
            // About half a chunk, and whole ones: where one way of laying areas ends and another begins.
            12 => MIB - 3 * PAGE + rest % (6 * PAGE),
            13 => (1 + rest % 4) * 2 * MIB - 2 * PAGE + rest / 4 % (4 * PAGE),
            14 => rest % (8 * MIB) + 1,
            _ if rest.is_multiple_of(4) => rest / 4 % (64 * MIB) + 1,
            _ => rest % (2 * MIB) + 1,
        }
    }
}

impl Lay {
    pub(crate) fn align(self) -> usize {
        match self.0 & 15 {
            0..=7 => 1,
            8 => 64,
            9 => 2 * PAGE,
            10 => 16 * PAGE,
            11 => 128 * PAGE,
            12 => 256 * PAGE,
            13 => 512 * PAGE,
            14 => 1024 * PAGE,
            _ => 4096 * PAGE,
        }
    }

    pub(crate) fn zeroed(self) -> bool {
        self.0 & 16 != 0
    }

    pub(crate) fn waits(self) -> bool {
        self.0 & 32 != 0
    }

    pub(crate) fn request(self, size: Size) -> Request {
        let request = Request::new(size.bytes()).align(self.align()).tag(tag(usize::from(self.0 >> 8)));
        let request = if self.zeroed() { request.zeroed() } else { request };
        if self.0 & 0xc0 == 0xc0 { request.small_pages() } else { request }
    }
}

impl Way {
    pub(crate) fn read_only(self) -> bool {
        self.0 & 1 != 0
    }

    pub(crate) fn short_lived(self) -> bool {
        self.0 & 2 != 0
    }
}
