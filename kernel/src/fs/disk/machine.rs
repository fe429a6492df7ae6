//! What lies below all layers: the machine's disk, and files of the archive.

use alloc::sync::Arc;
use core::ops::Range;

use crate::block::description::{self, Sources, Why};
use crate::block::{self, Block, BlockError, Layers};
use crate::dma::DmaBuffer;
use crate::mm::heap;
use crate::syscall::Errno;
use crate::{boot, disk, println};

/// Where in the archive the files are that descriptions name.
const FOLDER: &[u8] = b"boot/";

/// The layers that `description` says, over the machine's disk.
pub(crate) fn layers(description: &[u8]) -> Result<Layers, Errno> {
    description::build(description, &Machine).map_err(Errno::from)
}

/// This machine.
struct Machine;

impl Sources for Machine {
    fn disk(&self) -> Result<Arc<dyn Block>, Why> {
        if !disk::is_there() {
            return Err(Why::NoSource);
        }
        let disk = heap::try_arc(Disk { sectors: disk::state().capacity }).or(Err(Why::Memory))?;
        Ok(disk)
    }

    fn file(&self, name: &[u8]) -> Result<&'static [u8], Why> {
        let mut entries = boot::archive().entries();
        let found = entries.find(|entry| entry.name.strip_prefix(FOLDER) == Some(name));
        found.map(|entry| entry.data).ok_or(Why::NoSource)
    }
}

/// The disk, as it was when it was opened.
#[derive(Debug)]
struct Disk {
    sectors: u64,
}

impl Block for Disk {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn read(&self, sector: u64, buffer: &mut DmaBuffer, part: Range<usize>) -> Result<(), BlockError> {
        block::check(self, sector, buffer, &part)?;
        if part.is_empty() {
            return Ok(());
        }
        disk::read(sector, buffer, part).map_err(|error| {
            println!("vmstack: the disk was read in vain at sector {sector}: {error}");
            BlockError::Device { sector }
        })
    }
}
