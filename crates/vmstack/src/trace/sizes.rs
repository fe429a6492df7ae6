//! What the frames of a trace take, and which are the largest.
//!
//! Taken from the groups of a trace when it is asked for. Once a frame is left out the groups do not say it any more: from then on it is
//! kept beside them, frame by frame.

use super::{BigFrame, Call, CallGroup};

/// How many of the largest frames are named.
const BIGGEST: usize = 3;

/// The sizes of some frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sizes {
    /// What they take together, as far as they can be sized.
    pub(super) bytes: usize,
    /// The largest, the largest first. What is not there has no count.
    pub(super) biggest: [BigFrame; BIGGEST],
}

impl Sizes {
    /// Of no frames.
    pub(super) const NONE: Self = {
        let none = BigFrame { call: Call { address: crate::addr::VirtAddr::new(0), bytes: 0 }, count: 0 };
        Self { bytes: 0, biggest: [none; BIGGEST] }
    };

    /// Of the frames of all `groups`.
    pub(super) fn of<'a>(groups: impl Iterator<Item = CallGroup<'a>>) -> Self {
        let mut sizes = Self::NONE;
        groups.for_each(|group| group.calls.iter().for_each(|&call| sizes.note(call, group.turns)));
        sizes
    }

    /// Notes so many frames of `call`.
    pub(super) fn note(&mut self, call: Call, times: usize) {
        let Some(bytes) = call.frame_bytes() else { return };
        self.bytes = self.bytes.saturating_add(bytes.saturating_mul(times));
        if let Some(known) = self.biggest.iter_mut().find(|big| big.count != 0 && big.call == call) {
            known.count += times as u32;
            return;
        }
        // Whoever is pushed out is never among the largest again, so that the counts of those who stay are exact.
        let place = self.biggest.iter().position(|big| big.count == 0 || big.call.frame_bytes() < Some(bytes));
        if let Some(place) = place {
            self.biggest[place..].rotate_right(1);
            self.biggest[place] = BigFrame { call, count: times as u32 };
        }
    }
}
