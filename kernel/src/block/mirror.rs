//! The mirror layer: devices that hold the same. A read goes to one of them, by turns, and to the next one where that fails.
//!
//! One that compares reads from all of them, and fails where they differ: nobody can say which is right.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use super::scratch::Scratch;
use super::{Block, BlockError, SECTOR, check};
use crate::dma::DmaBuffer;

/// Sectors that are read from one device before it is the next one's turn.
const TURN: u64 = 64;
/// Bytes that are compared at once.
const PIECE: usize = 4096;

/// Devices that hold the same.
#[derive(Debug)]
pub(super) struct Mirror {
    legs: Vec<Arc<dyn Block>>,
    sectors: u64,
    /// What the others say, where it is compared.
    others: Option<Scratch>,
}

impl Mirror {
    /// A mirror of `legs`, as long as the shortest; it compares them if `compares` is said. `None` without any.
    pub(super) fn new(legs: Vec<Arc<dyn Block>>, compares: bool) -> Option<Self> {
        let sectors = legs.iter().map(|leg| leg.sectors()).min()?;
        Some(Self { legs, sectors, others: compares.then(|| Scratch::new(PIECE)) })
    }

    /// Reads from the first device, from `turn` on, that does not fail.
    fn read_either(&self, sector: u64, buffer: &mut DmaBuffer, part: &Range<usize>) -> Result<(), BlockError> {
        let turn = (sector / TURN) as usize % self.legs.len();
        let mut result = Err(BlockError::Device { sector });
        for leg in self.legs[turn..].iter().chain(&self.legs[..turn]) {
            result = leg.read(sector, buffer, part.clone());
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Reads from all of them, and compares.
    fn read_all(
        &self,
        others: &Scratch,
        sector: u64,
        buffer: &mut DmaBuffer,
        part: &Range<usize>,
    ) -> Result<(), BlockError> {
        let [first, rest @ ..] = &*self.legs else { return Err(BlockError::Device { sector }) };
        first.read(sector, buffer, part.clone())?;
        let read = buffer.get(part.clone()).unwrap_or(&[]);
        for (number, piece) in read.chunks(PIECE).enumerate() {
            let sector = sector + (number * (PIECE / SECTOR)) as u64;
            for leg in rest {
                others.with(|other| compare(&**leg, sector, piece, other))??;
            }
        }
        Ok(())
    }
}

/// Reads what `leg` has from `sector` on into `other`, which should be `piece`.
fn compare(leg: &dyn Block, sector: u64, piece: &[u8], other: &mut DmaBuffer) -> Result<(), BlockError> {
    leg.read(sector, other, 0..piece.len())?;
    let same = other.get(..piece.len()) == Some(piece);
    same.then_some(()).ok_or(BlockError::Different { sector })
}

impl Block for Mirror {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn read(&self, sector: u64, buffer: &mut DmaBuffer, part: Range<usize>) -> Result<(), BlockError> {
        check(self, sector, buffer, &part)?;
        match &self.others {
            Some(others) => self.read_all(others, sector, buffer, &part),
            None => self.read_either(sector, buffer, &part),
        }
    }
}
