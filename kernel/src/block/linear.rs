//! The linear layer: stretches of devices, one after the other. With one stretch it is a partition, with several a concatenation.
//!
//! ```text
//!   sectors of this    0 ......... a-1 │ a ........ a+b-1 │
//!                      below 0, from x │ below 1, from y  │
//! ```

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use super::{Block, BlockError, SECTOR, check};
use crate::dma::DmaBuffer;

/// `count` sectors of `below`, from `first` on.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub(super) below: Arc<dyn Block>,
    pub(super) first: u64,
    pub(super) count: u64,
}

/// Stretches, one after the other.
#[derive(Debug)]
pub(super) struct Linear {
    stretches: Vec<Stretch>,
    sectors: u64,
}

impl Linear {
    /// A device of `stretches`; `None` if one of them is not there, or if all of them are too many sectors.
    pub(super) fn new(stretches: Vec<Stretch>) -> Option<Self> {
        let mut sectors = 0_u64;
        for Stretch { below, first, count } in &stretches {
            first.checked_add(*count).filter(|&end| end <= below.sectors())?;
            sectors = sectors.checked_add(*count)?;
        }
        Some(Self { stretches, sectors })
    }

    /// Where `sector` is: the stretch, and how many sectors into it.
    fn find(&self, sector: u64) -> Option<(&Stretch, u64)> {
        let mut into = sector;
        for stretch in &self.stretches {
            match into.checked_sub(stretch.count) {
                None => return Some((stretch, into)),
                Some(behind) => into = behind,
            }
        }
        None
    }
}

impl Block for Linear {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn read(&self, sector: u64, buffer: &mut DmaBuffer, part: Range<usize>) -> Result<(), BlockError> {
        check(self, sector, buffer, &part)?;
        let (mut sector, mut start) = (sector, part.start);
        while start < part.end {
            let outside = BlockError::Outside { sector, count: 1, sectors: self.sectors };
            let (stretch, into) = self.find(sector).ok_or(outside)?;
            let here = (stretch.count - into).min(((part.end - start) / SECTOR) as u64);
            let end = start + here as usize * SECTOR;
            stretch.below.read(stretch.first + into, buffer, start..end)?;
            (sector, start) = (sector + here, end);
        }
        Ok(())
    }
}
