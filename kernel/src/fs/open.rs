//! Open files: what `open` and its like make, and what descriptors stand for.
//!
//! An open file is counted: by the tables that have it, and by the calls that use it ([`Held`]). Descriptors that were copied share
//! its position and its flags. Nothing in it is locked: the position is one word, and a read takes its stretch of the file by
//! moving it, so that two readers never get the same bytes.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ops::Deref;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::device::Device;
use super::disk::DiskFile;
use super::entry::{Entry, What};
use super::epoll::Epoll;
use super::node::{Node, PIPE_DEVICE, Status};
use super::pipe::PipeEnd;
use super::ready::Ready;
use super::span::Span;
use super::text::TextFile;
use super::{mode, tree};
use crate::mm::heap;
use crate::process;
use crate::sync::Section;
use crate::syscall::Errno;
use crate::task::kept::{self, Keep, Kept};

/// Flags of `open` that the kernel looks at.
pub(crate) mod flags {
    /// Both bits of what is done: 0 reads, 1 writes, 2 both.
    pub(crate) const ACCESS: usize = 3;
    pub(crate) const WRITE_ONLY: usize = 1;
    pub(crate) const READ_WRITE: usize = 2;
    pub(crate) const CREATE: usize = 0o100;
    pub(crate) const EXCLUSIVE: usize = 0o200;
    pub(crate) const TRUNCATE: usize = 0o1000;
    pub(crate) const APPEND: usize = 0o2000;
    pub(crate) const NON_BLOCK: usize = 0o4000;
    pub(crate) const FOLDER: usize = 0o200_000;
    pub(crate) const NO_FOLLOW: usize = 0o400_000;
    pub(crate) const CLOSE_ON_EXEC: usize = 0o2_000_000;
    pub(crate) const PATH: usize = 0o10_000_000;
    /// What `fcntl` may change.
    pub(crate) const SETTABLE: usize = APPEND | NON_BLOCK;
}

/// What is open.
#[derive(Debug)]
pub(crate) enum Object {
    /// A file of the archive, or a folder.
    Node(Node),
    /// A text that the kernel makes.
    Text(TextFile),
    /// A device, and the path to it.
    Device(Node, &'static dyn Device),
    /// An end of a pipe.
    Pipe(PipeEnd),
    /// A list of files to wait for.
    Epoll(Epoll),
    /// A file of a disk, or a disk.
    Disk(Box<DiskFile>),
}

/// Files that were opened since boot.
static OPENED: AtomicU64 = AtomicU64::new(0);

/// An open file.
#[derive(Debug)]
pub(crate) struct OpenFile {
    object: Object,
    /// No other file ever has it: an address is another one's as soon as it is free.
    number: u64,
    /// As `open` was given them, less what matters only to `open`.
    flags: AtomicUsize,
    /// Where the next read begins; in a folder, which member comes next.
    position: AtomicUsize,
}

/// Where a position is moved to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seek {
    Start,
    Current,
    End,
}

impl OpenFile {
    /// Opens `object` with `flags`.
    pub(crate) fn new(object: Object, flags: usize) -> Result<Arc<Self>, Errno> {
        let kept = flags & (flags::ACCESS | flags::SETTABLE | flags::FOLDER | flags::PATH);
        let number = OPENED.fetch_add(1, Ordering::Relaxed);
        let (flags, position) = (AtomicUsize::new(kept), AtomicUsize::new(0));
        Ok(heap::try_arc(Self { object, number, flags, position })?)
    }

    /// Which file it is, of all that were ever open.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Opens what `node` is.
    pub(crate) fn of_node(node: Node, flags: usize) -> Result<Arc<Self>, Errno> {
        let object = match node {
            // What has no path: one would lead to itself once it has its own descriptor.
            Node::Open(_) if flags & flags::PATH != 0 => return Err(Errno::NOENT),
            _ if flags & flags::PATH != 0 => Object::Node(node),
            Node::Made(Entry { what: What::Device(device), .. }, _) => Object::Device(node, *device),
            Node::Made(Entry { what: What::Text(write), .. }, subject) => {
                Object::Text(TextFile::new(node, *write, subject))
            }
            Node::Made(Entry { what: What::Control(write, _), .. }, subject) => {
                Object::Text(TextFile::new(node, *write, subject))
            }
            Node::Open(subject) => return super::process::open_file(subject)?.again(flags),
            _ => Object::Node(node),
        };
        Self::new(object, flags)
    }

    /// Opens once more what has no path.
    fn again(&self, flags: usize) -> Result<Arc<Self>, Errno> {
        match &self.object {
            Object::Pipe(end) => {
                let writes = flags & flags::ACCESS != 0;
                Self::new(Object::Pipe(end.other(writes)), flags)
            }
            Object::Node(node) | Object::Device(node, _) => Self::of_node(*node, flags),
            Object::Text(text) => Self::of_node(text.node(), flags),
            Object::Epoll(_) | Object::Disk(_) => Err(Errno::NOENT),
        }
    }

    /// Opens an end of a pipe.
    pub(crate) fn of_pipe(end: PipeEnd, flags: usize) -> Result<Arc<Self>, Errno> {
        Self::new(Object::Pipe(end), flags)
    }

    pub(crate) const fn is_pipe(&self) -> bool {
        matches!(self.object, Object::Pipe(_))
    }

    pub(crate) const fn object(&self) -> &Object {
        &self.object
    }

    /// The flags that it was opened with, or that were set since.
    pub(crate) fn flags(&self) -> usize {
        self.flags.load(Ordering::Relaxed)
    }

    /// Sets those flags that can be.
    pub(crate) fn set_flags(&self, wanted: usize) {
        let kept = |flags: usize| Some(flags & !flags::SETTABLE | wanted & flags::SETTABLE);
        let _before = self.flags.fetch_update(Ordering::Relaxed, Ordering::Relaxed, kept);
    }

    /// Sets or clears the flag that calls do not wait.
    pub(crate) fn set_non_block(&self, on: bool) {
        let flags = self.flags();
        self.set_flags(if on { flags | flags::NON_BLOCK } else { flags & !flags::NON_BLOCK });
    }

    fn may(&self, write: bool) -> Result<(), Errno> {
        let flags = self.flags();
        let access = flags & flags::ACCESS;
        let may = flags & flags::PATH == 0 && (access == flags::READ_WRITE || write == (access == flags::WRITE_ONLY));
        may.then_some(()).ok_or(Errno::BADF)
    }

    /// Whether calls wait for what is not there yet.
    fn waits(&self) -> bool {
        self.flags() & flags::NON_BLOCK == 0
    }

    /// The path to it, if it has one.
    pub(crate) fn node(&self) -> Option<Node> {
        match &self.object {
            Object::Node(node) | Object::Device(node, _) => Some(*node),
            Object::Text(text) => Some(text.node()),
            Object::Pipe(_) | Object::Epoll(_) | Object::Disk(_) => None,
        }
    }

    /// The folder that it is.
    pub(crate) fn folder(&self) -> Result<Node, Errno> {
        self.node().filter(|node| node.is_folder()).ok_or(Errno::NOTDIR)
    }

    /// Reads into `to`, from the position on; `more` if something was read by this call already, so that it does not wait.
    pub(crate) fn read(&self, to: Span, more: bool) -> Result<usize, Errno> {
        self.may(false)?;
        match &self.object {
            Object::Node(node) => self.read_moving(file_data(*node)?, to),
            Object::Text(text) => {
                let at = self.position();
                let bytes = text.bytes(at == 0)?;
                self.read_moving(&bytes, to)
            }
            Object::Device(_, device) => device.read(to, self.waits() && !more),
            Object::Pipe(end) => end.read(to, self.waits() && !more),
            Object::Epoll(_) => Err(Errno::INVAL),
            Object::Disk(file) => self.read_disk(file, to),
        }
    }

    /// Reads into `to`, from `at` on, and leaves the position alone.
    pub(crate) fn read_at(&self, to: Span, at: usize) -> Result<usize, Errno> {
        self.may(false)?;
        match &self.object {
            Object::Node(node) => to.put(file_data(*node)?.get(at..).unwrap_or(&[])),
            Object::Text(text) => to.put(text.bytes(at == 0)?.get(at..).unwrap_or(&[])),
            Object::Device(_, device) if !device.is_stream() => device.read(to, self.waits()),
            Object::Disk(file) => file.read_at(to, at),
            Object::Device(..) | Object::Pipe(_) | Object::Epoll(_) => Err(Errno::SPIPE),
        }
    }

    /// Writes what `from` has; `more` as for [`read`](Self::read).
    pub(crate) fn write(&self, from: Span, more: bool) -> Result<usize, Errno> {
        self.may(true)?;
        match &self.object {
            // It was not opened for writing.
            Object::Node(_) | Object::Disk(_) => Err(Errno::BADF),
            Object::Text(text) => write_control(text.node(), from),
            Object::Device(_, device) => device.write(from),
            Object::Pipe(end) => end.write(from, self.waits() && !more),
            Object::Epoll(_) => Err(Errno::INVAL),
        }
    }

    /// As [`write`](Self::write), at a place in the file, which only matters where there are places.
    pub(crate) fn write_at(&self, from: Span) -> Result<usize, Errno> {
        match &self.object {
            Object::Device(_, device) if device.is_stream() => Err(Errno::SPIPE),
            Object::Pipe(_) | Object::Epoll(_) => Err(Errno::SPIPE),
            _ => self.write(from, false),
        }
    }

    fn read_moving(&self, data: &[u8], to: Span) -> Result<usize, Errno> {
        let (at, count) = self.take(data.len(), to.len());
        let put = to.put(data.get(at..at.saturating_add(count)).unwrap_or(&[]));
        self.give_back(at + count, at + put.unwrap_or(0));
        put
    }

    fn read_disk(&self, file: &DiskFile, to: Span) -> Result<usize, Errno> {
        let (at, count) = self.take(file.status()?.size as usize, to.len());
        let read = file.read_at(to.first(count), at);
        self.give_back(at + count, at + read.unwrap_or(0));
        read
    }

    /// Takes a stretch of a file of `size` bytes by moving the position: where it is, and how long, at most `wanted`.
    fn take(&self, size: usize, wanted: usize) -> (usize, usize) {
        let mut count = 0;
        let taken = self.position.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| {
            count = size.saturating_sub(at).min(wanted);
            Some(at.saturating_add(count))
        });
        (taken.unwrap_or_else(|at| at), count)
    }

    /// Moves the position from `end` back to `read`: as if the rest had not been taken, unless somebody has read on.
    fn give_back(&self, end: usize, read: usize) {
        let _read_on = self.position.compare_exchange(end, read, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(crate) fn position(&self) -> usize {
        self.position.load(Ordering::Relaxed)
    }

    pub(crate) fn set_position(&self, at: usize) {
        self.position.store(at, Ordering::Relaxed);
    }

    /// Moves the position, and says where it is then.
    pub(crate) fn seek(&self, from: Seek, by: isize) -> Result<usize, Errno> {
        let end = match &self.object {
            Object::Pipe(_) | Object::Epoll(_) => return Err(Errno::SPIPE),
            Object::Device(_, device) if device.is_stream() => return Err(Errno::SPIPE),
            Object::Device(..) => return Ok(0),
            Object::Node(node) => node.status()?.size as usize,
            Object::Disk(file) if from == Seek::End => file.status()?.size as usize,
            Object::Disk(_) => 0,
            Object::Text(_) if from == Seek::End => return Err(Errno::INVAL),
            Object::Text(_) => 0,
        };
        let base = match from {
            Seek::Start => 0,
            Seek::Current => self.position(),
            Seek::End => end,
        };
        let at = base.checked_add_signed(by).filter(|at| isize::try_from(*at).is_ok()).ok_or(Errno::INVAL)?;
        self.set_position(at);
        Ok(at)
    }

    /// What can be done without waiting.
    pub(crate) fn ready(&self) -> Ready {
        match &self.object {
            Object::Node(_) | Object::Text(_) | Object::Disk(_) => Ready::READ.and(Ready::WRITE),
            Object::Device(_, device) => device.ready(),
            Object::Pipe(end) => end.ready(),
            Object::Epoll(epoll) => epoll.ready(user_file),
        }
    }

    /// Whether it lies in memory or on a disk, and so is always ready.
    pub(crate) const fn is_memory(&self) -> bool {
        matches!(self.object, Object::Node(_) | Object::Text(_) | Object::Disk(_))
    }

    /// A number that another one follows when it may have become ready.
    pub(crate) fn news(&self) -> usize {
        match &self.object {
            Object::Pipe(end) => end.news(),
            Object::Device(_, device) => device.news(),
            _ => 0,
        }
    }

    /// Whether nobody announces that it is ready, so that whoever waits has to look from time to time.
    pub(crate) const fn is_silent(&self) -> bool {
        matches!(self.object, Object::Device(..))
    }

    /// What `fstat` says of it.
    pub(crate) fn status(&self) -> Result<Status, Errno> {
        match &self.object {
            Object::Pipe(end) => Ok(end.status()),
            Object::Epoll(_) => Ok(Status { device: PIPE_DEVICE, mode: 0o600, links: 1, ..Status::default() }),
            Object::Node(node) | Object::Device(node, _) => node.status(),
            Object::Text(text) => text.node().status(),
            Object::Disk(file) => file.status(),
        }
    }

    /// How many bytes can be read at once.
    pub(crate) fn available(&self) -> Result<usize, Errno> {
        match &self.object {
            Object::Pipe(end) => Ok(end.available()),
            Object::Node(node) => Ok(file_data(*node)?.len().saturating_sub(self.position())),
            Object::Text(_) => Ok(0),
            Object::Disk(file) => Ok((file.status()?.size as usize).saturating_sub(self.position())),
            Object::Device(..) | Object::Epoll(_) => Err(Errno::NOTTY),
        }
    }
}

/// What the current process has open at `descriptor`.
fn user_file(descriptor: usize) -> Result<Held, Errno> {
    process::current().ok_or(Errno::BADF)?.files().get(descriptor)
}

/// The bytes of a file of the archive.
pub(crate) fn file_data(node: Node) -> Result<&'static [u8], Errno> {
    match node {
        _ if node.is_folder() => Err(Errno::ISDIR),
        Node::Archive(number) => {
            let file = tree::node(number).filter(|node| mode::is_regular(node.mode)).ok_or(Errno::INVAL)?;
            Ok(file.data)
        }
        _ => Err(Errno::INVAL),
    }
}

/// Gives what `from` has to the function of a file that acts on what is written.
fn write_control(node: Node, from: Span) -> Result<usize, Errno> {
    const LONGEST: usize = 256;
    let Node::Made(Entry { what: What::Control(_, act), .. }, subject) = node else { return Err(Errno::BADF) };
    let mut bytes = [0; LONGEST];
    let text = bytes.get_mut(..from.len()).ok_or(Errno::INVAL)?;
    from.get(text)?;
    act(subject, text).map(|()| from.len())
}

/// An open file that a call uses.
///
/// Having one means: the file stays open until it is dropped or the task is killed, whoever closes its descriptor meanwhile.
/// Nobody is killed while the last one lets go of a file: the other end of a pipe always learns of it.
#[derive(Debug)]
pub(crate) struct Held(Kept<Arc<OpenFile>>);

impl Keep for Arc<OpenFile> {}

impl Held {
    /// Holds `file`. In the section nobody is killed between the count and the list that has it.
    pub(crate) fn new(file: Arc<OpenFile>, section: &Section) -> Self {
        Self(kept::keep(&"file", file, section))
    }
}

impl Deref for Held {
    type Target = OpenFile;

    fn deref(&self) -> &OpenFile {
        &self.0
    }
}
