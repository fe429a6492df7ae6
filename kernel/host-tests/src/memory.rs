//! Physical memory of a few kilobytes, to put tables in.

use vmstack::PhysAddr;

pub(crate) const BASE: u64 = 0x1000;

/// Memory from `BASE`.
pub(crate) struct Memory(Vec<u8>);

impl Memory {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(vec![0; bytes])
    }

    pub(crate) fn put(&mut self, addr: u64, bytes: &[u8]) {
        let at = (addr - BASE) as usize;
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn byte(&mut self, addr: u64) -> &mut u8 {
        &mut self.0[(addr - BASE) as usize]
    }

    /// A reader of it. The bytes are leaked: they must be `'static`, and a test is short.
    pub(crate) fn reader(&self) -> impl Fn(PhysAddr, usize) -> Option<&'static [u8]> + use<> {
        let bytes: &'static [u8] = self.0.clone().leak();
        move |addr, length| {
            let start = usize::try_from(addr.get().checked_sub(BASE)?).ok()?;
            bytes.get(start..start.checked_add(length)?)
        }
    }
}

/// Numbers that look random and are the same each time.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        // xorshift64: Marsaglia 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
