//! A mount: a file system on layers, and the one file of it that is open.
//!
//! # What images are trusted with
//!
//! An image may be wrong in any way. What its superblock says is looked at before the crate sees it (`superblock`); symbolic
//! links, whose targets it would read whole, are not followed: `ELOOP`.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::error::Error;
use core::mem;
use core::ptr::NonNull;

use ext4_view::{Ext4, Ext4Error, Ext4Read, File, Metadata};

use crate::block::{BlockError, Layers, SECTOR, Scratch};
use crate::fs::span::Span;
use crate::mm::heap;
use crate::syscall::Errno;

use super::superblock;

/// What is read at once, in bytes: as much as the file system reads ahead.
const PIECE: usize = 32 << 10;
/// What goes from the file system to a program at once, in bytes.
const CHUNK: usize = 4096;
/// More than a mount takes of the heap, in bytes: its cache, most of all.
const MOUNT: usize = 1 << 20;

/// What the file system says, as a program hears it.
fn errno(error: &Ext4Error) -> Errno {
    match error {
        Ext4Error::NotFound => Errno::NOENT,
        Ext4Error::IsADirectory => Errno::ISDIR,
        Ext4Error::NotADirectory => Errno::NOTDIR,
        Ext4Error::PathTooLong => Errno::NAMETOOLONG,
        Ext4Error::NotAbsolute | Ext4Error::MalformedPath | Ext4Error::IsASpecialFile => Errno::INVAL,
        Ext4Error::Io(error) => error.downcast_ref::<BlockError>().map_or(Errno::IO, |&error| error.into()),
        _ => Errno::IO,
    }
}

/// Layers, and a buffer to read through them.
#[derive(Debug)]
pub(super) struct Volume {
    layers: Layers,
    buffer: Scratch,
}

impl Volume {
    pub(super) fn new(layers: Layers) -> Self {
        Self { layers, buffer: Scratch::new(PIECE) }
    }

    /// Its size in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.layers.top().map_or(0, |top| top.sectors().saturating_mul(SECTOR as u64))
    }

    /// Reads `to.len()` bytes from byte `at` on: through the buffer, in whole sectors.
    fn read(&self, at: u64, to: &mut [u8]) -> Result<(), BlockError> {
        let top = self.layers.top().ok_or(BlockError::NoMemory)?;
        let (mut at, mut rest) = (at, to);
        while !rest.is_empty() {
            let (sector, into) = (at / SECTOR as u64, (at % SECTOR as u64) as usize);
            let here = rest.len().min(self.buffer.bytes() - into);
            let (piece, behind) = mem::take(&mut rest).split_at_mut(here);
            self.buffer.with(|buffer| {
                top.read(sector, buffer, 0..(into + here).next_multiple_of(SECTOR))?;
                piece.copy_from_slice(&buffer[into..into + here]);
                Ok::<(), BlockError>(())
            })??;
            (at, rest) = (at + here as u64, behind);
        }
        Ok(())
    }

    /// Gives `to` what the top layer has from byte `at` on.
    pub(super) fn give(&self, to: Span, at: usize) -> Result<usize, Errno> {
        let left = self.bytes().saturating_sub(at as u64);
        let to = to.first(usize::try_from(left).unwrap_or(usize::MAX));
        let top = self.layers.top().ok_or(Errno::IO)?;
        let mut at = at;
        to.in_pieces(PIECE - SECTOR, |piece| {
            let (sector, into) = ((at / SECTOR) as u64, at % SECTOR);
            let count = self.buffer.with(|buffer| {
                top.read(sector, buffer, 0..(into + piece.len()).next_multiple_of(SECTOR))?;
                piece.put(&buffer[into..into + piece.len()])
            })??;
            at += count;
            Ok(count)
        })
    }
}

/// The volume, as the file system has it.
struct Reader(NonNull<Volume>);

impl Ext4Read for Reader {
    fn read(&mut self, at: u64, to: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        // SAFETY: the volume is the box of the `DiskFile` whose mount this reader is a part of; nobody reads by a mount but through that
        // file, and the box is dropped after the mount. A mount that is left behind is not used again.
        let volume = unsafe { self.0.as_ref() };
        volume.read(at, to).map_err(|error| Box::new(error) as _)
    }
}

/// A file system, and the file of it that is open.
pub(super) struct Mount {
    file: File,
    /// Between the file system and a program.
    chunk: Vec<u8>,
}

// SAFETY: what keeps it from being sent are counts that are not atomic, and pointers to the volume. (1) All owners of a count are in this
// one value: the file has the last of the file system, and neither is ever given out or copied from it. (2) The volume is `Sync`.
// So whoever has the value is the only one who has any of the counts.
unsafe impl Send for Mount {}

impl Mount {
    /// Finds the file at `path` in what `volume` holds.
    pub(super) fn new(volume: &Volume, path: &[u8]) -> Result<Self, Errno> {
        check_superblock(volume)?;
        let mut chunk = Vec::new();
        // As much as the crate takes, to see whether the kernel can spare it.
        heap::reserve(&mut chunk, MOUNT).map(|()| chunk = Vec::new())?;
        heap::reserve(&mut chunk, CHUNK)?;
        chunk.resize(CHUNK, 0);
        let system = Ext4::load(Box::new(Reader(NonNull::from(volume)))).map_err(|error| errno(&error))?;
        refuse_links(&system, path)?;
        let file = system.open(path).map_err(|error| errno(&error))?;
        Ok(Self { file, chunk })
    }

    /// What the file system knows of the file.
    pub(super) fn metadata(&self) -> &Metadata {
        self.file.metadata()
    }

    /// Gives `to` what the file has from `at` on.
    pub(super) fn read(&mut self, to: Span, at: usize) -> Result<usize, Errno> {
        if self.file.position() != at as u64 {
            if at as u64 >= self.file.metadata().len() {
                return Ok(0);
            }
            self.file.seek_to(at as u64).map_err(|error| errno(&error))?;
        }
        let Self { file, chunk } = self;
        to.in_pieces(CHUNK, |piece| fill(file, chunk, piece))
    }
}

/// Fills `piece`, which is no longer than `chunk`, as far as the file goes.
fn fill(file: &mut File, chunk: &mut [u8], piece: Span) -> Result<usize, Errno> {
    let mut count = 0;
    while count < piece.len() {
        match file.read_bytes(&mut chunk[count..piece.len()]).map_err(|error| errno(&error))? {
            0 => break,
            more => count += more,
        }
    }
    piece.put(&chunk[..count])
}

/// Refuses an image whose superblock cannot be true.
fn check_superblock(volume: &Volume) -> Result<(), Errno> {
    let mut block = [0; superblock::BYTES];
    volume.read(superblock::PLACE, &mut block)?;
    superblock::is_believable(&block, volume.bytes()).then_some(()).ok_or(Errno::INVAL)
}

/// `ELOOP` if any part of `path` is a symbolic link.
fn refuse_links(system: &Ext4, path: &[u8]) -> Result<(), Errno> {
    let ends = path.iter().enumerate().skip(1).filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
    for end in ends.chain([path.len()]) {
        let part = system.symlink_metadata(&path[..end]).map_err(|error| errno(&error))?;
        if part.is_symlink() {
            return Err(Errno::LOOP);
        }
    }
    Ok(())
}
