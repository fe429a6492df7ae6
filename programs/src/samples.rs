//! Samples of one measurement, and what is said of them.

use core::fmt;

/// Ticks, one number a sample. Their room is made before anything is measured.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<u64>);

/// What is said of samples: how many, the median, the mean, and what one in a hundred exceeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// How many samples there are.
    pub count: usize,
    /// Half of them are at most this.
    pub p50: u64,
    /// Their sum by their number.
    pub mean: u64,
    /// Of a hundred, 99 are at most this.
    pub p99: u64,
}

impl Samples {
    /// No samples yet, and touched room for `count`: a page fault would fall between two samples and change the second.
    #[must_use]
    pub fn with_room_for(count: usize) -> Self {
        let mut room = vec![u64::MAX; count];
        room.clear();
        Self(room)
    }

    /// Adds a sample.
    pub fn push(&mut self, ticks: u64) {
        self.0.push(ticks);
    }

    /// What is to be said of them; nothing of none.
    #[must_use]
    pub fn summary(mut self) -> Option<Summary> {
        self.0.sort_unstable();
        let count = self.0.len();
        let at = |percent: usize| self.0.get(percent * count.saturating_sub(1) / 100).copied();
        let sum: u128 = self.0.iter().copied().map(u128::from).sum();
        let mean = sum.checked_div(count as u128).and_then(|mean| u64::try_from(mean).ok())?;
        Some(Summary { count, p50: at(50)?, mean, p99: at(99)? })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.count, self.p50, self.mean, self.p99)
    }
}

#[cfg(test)]
mod tests {
    use super::{Samples, Summary};

    #[test]
    fn a_summary_is_of_the_sorted_samples() {
        let mut samples = Samples::with_room_for(101);
        (0..=100).rev().for_each(|ticks| samples.push(ticks));
        assert_eq!(samples.summary(), Some(Summary { count: 101, p50: 50, mean: 50, p99: 99 }));
    }

    #[test]
    fn of_no_samples_nothing_is_said() {
        assert_eq!(Samples::with_room_for(4).summary(), None);
    }
}
