//! Files on disks: `/disk/DESCRIPTION/path/of/the/file`, where the description says through which layers it is read (`block`).
//!
//! The file system is ext4's, read-only, by the crate `ext4-view`. Without a path of a file it is the top layer itself that is open.
//!
//! ```text
//!   open file ──> DiskFile ──> lock ──> Mount: Ext4, File ──> Reader ┐
//!                    └──> Volume: layers, buffer  <──────────────────┘ a pointer, no count
//! ```
//!
//! A mount belongs to one open file, so it goes with the table that has the file: nothing is shared between processes but what lies
//! below all layers. It is made when something is first asked of the file, which is in the table by then.
//!
//! # When a task is killed here
//!
//! Reading goes through the file system and all layers on the stack of the task that asked, with the mount's lock. If it dies there, the
//! lock is poisoned: the mount may be cut in the middle of anything, so the file answers `EIO` from then on, and what the mount had of the
//! heap is left behind when the file goes, and counted as lost (`heap::count_left`). The layers and their buffers never change; they are
//! not the mount's but the file's, and go with it.
//!
//! # What images are trusted with
//!
//! A description or an image may be wrong in any way. What the crate would allocate for a superblock that lies is looked at before;
//! symbolic links, whose targets it would read whole, are not followed: `ELOOP`.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;
use core::mem::{self, ManuallyDrop};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use ext4_view::{Ext4, Ext4Error, Ext4Read, File, Metadata};

use super::mode;
use super::node::Status;
use super::span::Span;
use crate::block::description::{self, Bad, Sources, Why};
use crate::block::{Block, BlockError, Bytes, Layers, SECTOR, Scratch};
use crate::boot;
use crate::mm::heap::{self, Amount};
use crate::sync::{AnyLock, Mutex};
use crate::syscall::Errno;
use crate::task::sched;

/// Where disks are, in paths.
const FOLDER: &[u8] = b"/disk/";
/// The number of their file systems.
const DEVICE: u64 = 4;
/// What is read at once, in bytes: as much as the file system reads ahead.
const PIECE: usize = 32 << 10;
/// What goes from the file system to a program at once, in bytes.
const CHUNK: usize = 4096;
/// More than a mount takes of the heap, in bytes: its cache, most of all.
const MOUNT: usize = 1 << 20;
/// How many groups a file system may have: each takes some bytes of the heap.
const MOST_GROUPS: u64 = 4096;

/// The description and the path of the file, if `path` leads to a disk.
pub(crate) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = path.strip_prefix(FOLDER).filter(|rest| !rest.is_empty())?;
    let end = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
    Some(rest.split_at(end))
}

/// What lies below all layers.
struct Machine;

impl Sources for Machine {
    fn disk(&self) -> Option<Arc<dyn Block>> {
        let bytes = self.file(b"disk")?;
        Some(heap::try_arc(Bytes(bytes)).ok()?)
    }

    fn file(&self, name: &[u8]) -> Option<&'static [u8]> {
        let name = [b"boot/", name].concat();
        boot::archive().find(&name).map(|entry| entry.data)
    }
}

/// The layers that `description` says, over the machine's disks.
pub(crate) fn layers(description: &[u8]) -> Result<Layers, Errno> {
    description::build(description, &Machine).map_err(Errno::from)
}

impl From<Bad> for Errno {
    fn from(bad: Bad) -> Self {
        match bad.why {
            Why::Name | Why::Word | Why::Number => Self::INVAL,
            Why::TooMany => Self::TOOBIG,
            Why::NoSource => Self::NODEV,
            Why::Outside => Self::RANGE,
            Why::Memory => Self::NOMEM,
        }
    }
}

impl From<BlockError> for Errno {
    fn from(error: BlockError) -> Self {
        if error == BlockError::NoMemory { Self::NOMEM } else { Self::IO }
    }
}

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
struct Volume {
    layers: Layers,
    buffer: Scratch,
}

impl Volume {
    fn bytes(&self) -> u64 {
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
struct Mount {
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
    fn new(volume: &Volume, path: &[u8]) -> Result<Self, Errno> {
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

    /// Gives `to` what the file has from `at` on.
    fn read(&mut self, to: Span, at: usize) -> Result<usize, Errno> {
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

/// Looks at what the crate believes of a superblock before it has seen the rest: how many blocks and groups there are.
fn check_superblock(volume: &Volume) -> Result<(), Errno> {
    let mut block = [0; 64];
    volume.read(1024, &mut block)?;
    let word = |at: usize| {
        block.get(at..at + 4).map_or(0, |word| u64::from(u32::from_le_bytes([word[0], word[1], word[2], word[3]])))
    };
    let (blocks, log_size, in_group) = (word(4), word(24), word(32));
    let bytes =
        1024_u64.checked_shl(log_size as u32).filter(|_| log_size <= 6).and_then(|size| blocks.checked_mul(size));
    let fits =
        bytes.is_some_and(|bytes| bytes <= volume.bytes()) && in_group > 0 && blocks.div_ceil(in_group) <= MOST_GROUPS;
    fits.then_some(()).ok_or(Errno::INVAL)
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

/// A mount behind its lock, if there is one yet; and what it took of the heap, which is known although a task died with it.
type Place = Mutex<Option<ManuallyDrop<Mount>>>;

/// One that is never made, for crashes that want its lock.
static SPECIMEN: Place = new_lock();

/// A mount's lock.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &SPECIMEN
}

const fn new_lock() -> Place {
    Mutex::new("disk-mount", None)
}

/// A file on a disk, or the top layer itself.
pub(crate) struct DiskFile {
    /// In the file system; none for the top layer.
    path: Vec<u8>,
    place: Place,
    /// Bytes and blocks that the mount has of the heap.
    taken: [AtomicUsize; 2],
    volume: Box<Volume>,
}

impl DiskFile {
    /// The file at `path` of what `description` describes. Nothing is read yet.
    pub(crate) fn new(description: &[u8], path: &[u8]) -> Result<Box<Self>, Errno> {
        let volume = heap::try_box(Volume { layers: layers(description)?, buffer: Scratch::new(PIECE) })?;
        let mut own = Vec::new();
        heap::reserve(&mut own, path.len())?;
        own.extend_from_slice(path.strip_suffix(b"/").unwrap_or(path));
        let taken = [const { AtomicUsize::new(0) }; 2];
        Ok(heap::try_box(Self { path: own, place: new_lock(), taken, volume })?)
    }

    /// Runs `use_it` on the mount, which is made if there is none.
    ///
    /// # Errors
    ///
    /// `EIO`: a task was killed with it.
    fn with<T>(&self, use_it: impl FnOnce(&mut Mount) -> Result<T, Errno>) -> Result<T, Errno> {
        let mut place = self.place.lock().map_err(|_| Errno::IO)?;
        if place.is_none() {
            let before = sched::current().heap().amount();
            let mount = Mount::new(&self.volume, &self.path)?;
            self.note_taken(before);
            *place = Some(ManuallyDrop::new(mount));
        }
        place.as_mut().map_or(Err(Errno::IO), |mount| use_it(mount))
    }

    /// Notes what the current task has of the heap more than `before`.
    fn note_taken(&self, before: Amount) {
        let now = sched::current().heap().amount();
        let more = [now.bytes.saturating_sub(before.bytes), now.objects.saturating_sub(before.objects)];
        self.taken.iter().zip(more).for_each(|(taken, more)| taken.store(more, Ordering::Relaxed));
    }

    const fn is_whole(&self) -> bool {
        self.path.is_empty()
    }

    /// Reads into `to`, from `at` on.
    pub(crate) fn read_at(&self, to: Span, at: usize) -> Result<usize, Errno> {
        if self.is_whole() { self.read_whole(to, at) } else { self.with(|mount| mount.read(to, at)) }
    }

    /// Reads the top layer itself into `to`, from byte `at` on.
    fn read_whole(&self, to: Span, at: usize) -> Result<usize, Errno> {
        let left = self.volume.bytes().saturating_sub(at as u64);
        let to = to.first(usize::try_from(left).unwrap_or(usize::MAX));
        let top = self.volume.layers.top().ok_or(Errno::IO)?;
        let mut at = at;
        to.in_pieces(PIECE - SECTOR, |piece| {
            let (sector, into) = ((at / SECTOR) as u64, at % SECTOR);
            let count = self.volume.buffer.with(|buffer| {
                top.read(sector, buffer, 0..(into + piece.len()).next_multiple_of(SECTOR))?;
                piece.put(&buffer[into..into + piece.len()])
            })??;
            at += count;
            Ok(count)
        })
    }

    /// What is known of it.
    pub(crate) fn status(&self) -> Result<Status, Errno> {
        let of = |size, mode| Status {
            device: DEVICE,
            number: 1,
            mode: mode::REGULAR | mode,
            links: 1,
            size,
            ..Status::default()
        };
        if self.is_whole() {
            return Ok(of(self.volume.bytes(), 0o444));
        }
        self.with(|mount| {
            let metadata: &Metadata = mount.file.metadata();
            Ok(of(metadata.len(), u32::from(metadata.mode()) & 0o777))
        })
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        let was_killed = self.place.is_poisoned();
        match self.place.get_mut().take() {
            // Cut in the middle of anything: nothing of it may be looked at again.
            Some(_) if was_killed => {
                let [bytes, objects] = self.taken.each_ref().map(|taken| taken.load(Ordering::Relaxed));
                heap::count_left(Amount { bytes, objects });
            }
            Some(mount) => drop(ManuallyDrop::into_inner(mount)),
            None => {}
        }
    }
}

impl fmt::Debug for DiskFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskFile").field("path", &self.path).field("volume", &self.volume).finish_non_exhaustive()
    }
}
