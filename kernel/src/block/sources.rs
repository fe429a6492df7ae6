//! What lies at the bottom of a stack beside real disks.

use core::ops::Range;

use super::{Block, BlockError, SECTOR, check};
use crate::dma::DmaBuffer;

/// Bytes in memory: a file of the archive. What is no whole sector of its end is not there.
#[derive(Debug)]
pub(crate) struct Bytes(pub(crate) &'static [u8]);

impl Block for Bytes {
    fn sectors(&self) -> u64 {
        (self.0.len() / SECTOR) as u64
    }

    fn read(&self, sector: u64, buffer: &mut DmaBuffer, part: Range<usize>) -> Result<(), BlockError> {
        check(self, sector, buffer, &part)?;
        let start = sector as usize * SECTOR;
        let from = self.0.get(start..start + part.len());
        match (buffer.get_mut(part), from) {
            (Some(to), Some(from)) => to.copy_from_slice(from),
            _ => return Err(BlockError::Device { sector }),
        }
        Ok(())
    }
}

/// A device that is as long as any, and fails.
#[derive(Debug)]
pub(super) struct Failing;

impl Block for Failing {
    fn sectors(&self) -> u64 {
        u64::MAX / SECTOR as u64
    }

    fn read(&self, sector: u64, buffer: &mut DmaBuffer, part: Range<usize>) -> Result<(), BlockError> {
        check(self, sector, buffer, &part)?;
        Err(BlockError::Device { sector })
    }
}
