//! Chance that repeats: the same numbers from the same seed.

/// A generator of numbers: `splitmix64` (Steele, Lea & Flood, OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The generator of `seed`.
    #[must_use]
    pub const fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not zero and much less than 2^64.
    ///
    /// # Panics
    ///
    /// When `limit` is zero.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Another generator, whose numbers are its own.
    #[must_use]
    pub const fn branch(&mut self) -> Self {
        Self(self.next())
    }
}

#[cfg(test)]
mod tests {
    use super::Chance;

    #[test]
    fn numbers_are_those_of_splitmix64() {
        // As in the reference implementation, https://prng.di.unimi.it/splitmix64.c.
        let mut chance = Chance::of(1_234_567);
        assert_eq!([chance.next(), chance.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }
}
