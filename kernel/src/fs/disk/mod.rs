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
//! | file | what |
//! | --- | --- |
//! | `mount` | the file system, and the file of it that is open |
//! | `superblock` | what an image says of itself, and whether that can be |
//! | `machine` | what lies below all layers |
//!
//! # When a task is killed here
//!
//! Reading goes through the file system and all layers on the stack of the task that asked, with the mount's lock. If it dies there, the
//! lock is poisoned: the mount may be cut in the middle of anything, so the file answers `EIO` from then on, and what the mount had of the
//! heap is left behind when the file goes, and counted as lost (`heap::count_left`). The layers and their buffers never change; they are
//! not the mount's but the file's, and go with it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::mode;
use super::node::Status;
use super::span::Span;
use crate::block::BlockError;
use crate::block::description::{Bad, Why};
use crate::mm::heap::{self, Amount};
use crate::sync::{AnyLock, Mutex};
use crate::syscall::Errno;
use crate::task::sched;

mod machine;
mod mount;
mod superblock;

pub(crate) use machine::layers;
use mount::{Mount, Volume};

/// Where disks are, in paths.
const FOLDER: &[u8] = b"/disk/";
/// The number of their file systems.
const DEVICE: u64 = 4;
/// The longest description, in bytes: it is a part of a path.
const LONGEST: usize = 255;

/// The description and the path of the file, if `path` leads to a disk.
pub(crate) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = path.strip_prefix(FOLDER).filter(|rest| !rest.is_empty())?;
    let end = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
    Some(rest.split_at(end))
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
        if description.len() > LONGEST {
            return Err(Errno::NAMETOOLONG);
        }
        let volume = heap::try_box(Volume::new(layers(description)?))?;
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
        if self.is_whole() { self.volume.give(to, at) } else { self.with(|mount| mount.read(to, at)) }
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
            let metadata = mount.metadata();
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
