//! Numbers that look random and are the same each time: xorshift64* (Vigna, 2016).

/// A sequence of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The sequence that all counted boots have.
    pub(crate) const fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// Another one for each `number`.
    pub(crate) const fn numbered(number: usize) -> Self {
        Self(Self::new().0 ^ (number as u64 + 1).wrapping_mul(0xd129_0b26_4dc1_9d35))
    }

    /// The next number: 32 bits.
    pub(crate) fn next(&mut self) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize
    }

    /// From `least` to `most`.
    pub(crate) fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.next() % (most - least + 1)
    }
}
