//! The storage stack: layers of block devices, one on the other, as deep as a description says.
//!
//! ```text
//!   a read ──> linear ──> mirror ──> crypt ──> disk          each arrow is a call through a vtable, and a frame
//!                           └──> fail                        a layer may have several below it
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `description` | from a line of text to layers: `linear*12.mirror.crypt=KEY.disk` |
//! | `linear` | a stretch of a device, or several stretches one after the other |
//! | `mirror` | devices that hold the same: reads from either, and may compare them |
//! | `crypt` | AES-XTS, as dm-crypt's `aes-xts-plain64` |
//! | `sources` | what lies at the bottom beside real disks: a file of the archive, and a device that always fails |
//! | `scratch` | buffers that layers and files own |
//!
//! A request is a call: it goes down as deep as the layers are, on the stack of whoever asked, and nothing of it is left when it is
//! answered. What it reads into is a [`DmaBuffer`], which owns its frames, from the first layer to the device's driver. Layers never
//! change, but for their own scratch buffers, so a task that is killed at any depth leaves all of them whole.
//!
//! Pure logic, tested in `kernel/host-tests` with disks in memory. What may not enter: drivers (`disk`), files (`fs::disk`).
//!
//! # Context
//!
//! Tasks that may wait.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::dma::DmaBuffer;
use crate::mm::heap::{self, OutOfHeap};

mod crypt;
pub(crate) mod description;
mod linear;
mod mirror;
pub(crate) mod scratch;
mod sources;

pub(crate) use scratch::Scratch;
pub(crate) use sources::Bytes;

/// Bytes of a sector.
pub(crate) const SECTOR: usize = 512;

/// Something that is read sector by sector.
pub(crate) trait Block: Send + Sync + fmt::Debug {
    /// How many sectors it has.
    fn sectors(&self) -> u64;

    /// Reads into `part` of `buffer`, in bytes, from `sector` on.
    ///
    /// # Errors
    ///
    /// Nothing of `part` is to be trusted then.
    fn read(&self, sector: u64, buffer: &mut DmaBuffer, part: Range<usize>) -> Result<(), BlockError>;
}

/// Why a read failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BlockError {
    /// What was asked for is no whole sectors, or does not lie in the buffer.
    BadPart { start: usize, end: usize, buffer: usize },
    /// It reaches behind the device's end.
    Outside { sector: u64, count: u64, sectors: u64 },
    /// The device says that it failed.
    Device { sector: u64 },
    /// Two devices that should hold the same do not, somewhere in the stretch that begins here.
    Different { sector: u64 },
    /// There is no memory for a buffer.
    NoMemory,
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadPart { start, end, buffer } => {
                write!(f, "bytes {start} to {end} of a buffer of {buffer} are no sectors of it")
            }
            Self::Outside { sector, count, sectors } => {
                write!(f, "{count} sectors from {sector} on reach behind the end of a device of {sectors}")
            }
            Self::Device { sector } => write!(f, "the device failed at sector {sector}"),
            Self::Different { sector } => write!(f, "two mirrors differ behind sector {sector}"),
            Self::NoMemory => write!(f, "there is no memory for a buffer"),
        }
    }
}

impl core::error::Error for BlockError {}

/// Whether `device` has what a read asks for: every layer begins with it, for each can be the top.
pub(crate) fn check(
    device: &dyn Block,
    sector: u64,
    buffer: &DmaBuffer,
    part: &Range<usize>,
) -> Result<(), BlockError> {
    if part.start > part.end || part.end > buffer.len() || !part.len().is_multiple_of(SECTOR) {
        return Err(BlockError::BadPart { start: part.start, end: part.end, buffer: buffer.len() });
    }
    let (count, sectors) = ((part.len() / SECTOR) as u64, device.sectors());
    let inside = sector.checked_add(count).is_some_and(|end| end <= sectors);
    inside.then_some(()).ok_or(BlockError::Outside { sector, count, sectors })
}

/// Layers on each other: every one stands behind those that it reads from, so the last is the top.
///
/// They go from the top: none goes while another one has it, so that however many they are, none is dropped inside another's drop.
#[derive(Debug, Default)]
pub(crate) struct Layers(Vec<Arc<dyn Block>>);

impl Layers {
    /// Puts `layer` on top, and says what it is now.
    fn push(&mut self, layer: Arc<dyn Block>) -> Result<Arc<dyn Block>, OutOfHeap> {
        heap::reserve(&mut self.0, 1)?;
        self.0.push(Arc::clone(&layer));
        Ok(layer)
    }

    /// The top.
    pub(crate) fn top(&self) -> Option<&dyn Block> {
        self.0.last().map(|layer| &**layer)
    }

    /// The layer with `depth` layers on top of each other, this one included, where all of them are in one column.
    pub(crate) fn at_depth(&self, depth: usize) -> Option<&dyn Block> {
        self.0.get(depth.checked_sub(1)?).map(|layer| &**layer)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}
