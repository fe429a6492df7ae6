//! What lies below all layers: the machine's disk, and files of the archive.

use alloc::sync::Arc;
use core::ops::Range;

use crate::block::description::{self, Sources};
use crate::block::{self, Block, BlockError, Layers};
use crate::dma::DmaBuffer;
use crate::mm::heap;
use crate::syscall::Errno;
use crate::text::Text;
use crate::{boot, disk, println};

/// The layers that `description` says, over the machine's disk.
pub(crate) fn layers(description: &[u8]) -> Result<Layers, Errno> {
    description::build(description, &Machine).map_err(Errno::from)
}

/// This machine.
struct Machine;

impl Sources for Machine {
    fn disk(&self) -> Option<Arc<dyn Block>> {
        let sectors = disk::state().capacity;
        if !disk::is_there() {
            return None;
        }
        Some(heap::try_arc(Disk { sectors }).ok()?)
    }

    fn file(&self, name: &[u8]) -> Option<&'static [u8]> {
        let mut path = Text::default();
        path.push(b"boot/").and_then(|()| path.push(name)).ok()?;
        boot::archive().find(&path.into_bytes()).map(|entry| entry.data)
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
