//! Open files: the console, files of the archive, and the device that provokes crashes.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::archive::Entry;
use crate::arch::serial::{self, Port};
use crate::mm::heap::{self, OutOfHeap};
use crate::sync::{AnyLock, Mutex, ReadGuard, RwLock, Section, WriteGuard};
use crate::syscall::Errno;
use crate::task::kept::{self, Kept};
use crate::task::sched;

/// How many files a process can have open.
const MAX_FILES: usize = 64;
/// Where a program provokes a crash, as on a Linux with LKDTM.
pub(crate) const PROVOKE: &[u8] = b"/sys/kernel/debug/provoke-crash/DIRECT";

/// Where the kernel shows its task stacks.
pub(crate) const TASK_STACKS: &[u8] = b"/sys/kernel/debug/vmstack/tasks";

/// Where the kernel shows its last reports.
pub(crate) const REPORTS: &[u8] = b"/sys/kernel/debug/vmstack/reports";

/// Where a program that works beside a crash counts what it does. A write fails once it is to stop.
pub(crate) const WORK: &[u8] = b"/sys/kernel/debug/provoke-crash/work";

/// Where a program has nested brackets evaluated, by a call that recurses as deep as they are nested.
pub(crate) const NEST: &[u8] = b"/sys/kernel/debug/provoke-crash/nest";

/// An open file.
#[derive(Clone, Debug)]
pub(crate) enum File {
    /// The console, COM1.
    Console,
    /// Takes everything and gives nothing.
    Null,
    /// A file of the archive, and how far it was read.
    Data { data: &'static [u8], at: usize },
    /// A text that was made when the file was opened, and how far it was read.
    Text { text: Arc<Vec<u8>>, at: usize },
    /// Writing the name of a crash provokes it.
    Provoke,
    /// Each write counts as a piece of work.
    Work,
    /// Evaluates what is written.
    Nest,
}

impl File {
    /// The file of the archive that `entry` is.
    pub(crate) const fn of(entry: Entry) -> Self {
        Self::Data { data: entry.data, at: 0 }
    }

    /// What is left to read of a file that is in memory, and the place to move; `None` for others.
    pub(crate) fn rest(&mut self) -> Option<(&[u8], &mut usize)> {
        match self {
            Self::Data { data, at } => Some((data.get(*at..).unwrap_or(&[]), at)),
            Self::Text { text, at } => Some((text.get(*at..).unwrap_or(&[]), at)),
            Self::Console | Self::Null | Self::Provoke | Self::Work | Self::Nest => None,
        }
    }

    /// The size of the file, in bytes, if it is one with a size.
    pub(crate) fn size(&self) -> Option<usize> {
        match self {
            Self::Data { data, .. } => Some(data.len()),
            Self::Text { text, .. } => Some(text.len()),
            _ => None,
        }
    }
}

/// The byte that says that the console's other end has nothing more to say, and the one before bytes that would be taken for
/// either: what follows it has bit 6 changed.
const END_OF_TRANSMISSION: u8 = 0x04;
const ESCAPE: u8 = 0x10;
const ESCAPED: u8 = 0x40;
/// How often the port is looked at before the next byte is taken to be late.
const LOOKS: usize = 2000;

/// The console's input, for one reader at a time.
#[derive(Debug)]
struct Input {
    /// Nothing more comes: every read ends at once.
    ended: bool,
}

static INPUT: Mutex<Input> = Mutex::new("console-input", Input { ended: false });

/// The lock of the console's input.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &INPUT
}

/// The next byte of the port, if it comes soon.
fn soon() -> Option<u8> {
    (0..LOOKS).find_map(|_| serial::read_byte(Port::Com1))
}

/// The next byte of the port, however long it takes.
fn wait_for_byte() -> u8 {
    loop {
        match soon() {
            Some(byte) => return byte,
            None => sched::sleep_until(sched::ticks() + 1),
        }
    }
}

/// Waits for at least one byte, and takes what there is. Nothing is the end of the input, and stays so.
pub(crate) fn read_console(bytes: &mut [u8]) -> usize {
    // Also after a reader was killed: what is behind the lock is one bit.
    let mut input = INPUT.lock_anyway();
    let mut count = 0;
    while count < bytes.len() && !input.ended {
        let next = if count == 0 { Some(wait_for_byte()) } else { soon() };
        match next {
            None => break,
            Some(END_OF_TRANSMISSION) => input.ended = true,
            Some(byte) => {
                bytes[count] = if byte == ESCAPE { wait_for_byte() ^ ESCAPED } else { byte };
                count += 1;
                if byte == b'\n' {
                    break;
                }
            }
        }
    }
    count
}

/// A table of open files: a process's, or that of several that share one.
#[derive(Debug)]
pub(crate) struct FileTable(RwLock<Files>);

impl FileTable {
    pub(crate) fn new(files: Files) -> Result<Arc<Self>, OutOfHeap> {
        heap::try_arc(Self(RwLock::new("process-files", files)))
    }

    /// A copy with the same files, for a child.
    pub(crate) fn duplicate(&self) -> Result<Kept<Arc<Self>>, OutOfHeap> {
        let files = self.read().clone();
        let section = Section::enter();
        let copy = kept::keep(&"file table", Self::new(files)?);
        drop(section);
        Ok(copy)
    }

    /// The files, for reading.
    pub(crate) fn read(&self) -> ReadGuard<'_, Files> {
        match self.0.read() {
            Ok(files) => files,
            Err(poisoned) => {
                drop(poisoned.into_inner());
                drop(self.write());
                self.read()
            }
        }
    }

    /// The files, for change. None is open if a task was killed while it changed them.
    pub(crate) fn write(&self) -> WriteGuard<'_, Files> {
        self.0.write_or_reset(Files::left_behind)
    }

    /// Closes all of them. May be done again by a task that was killed in the middle of it.
    pub(crate) fn close_all(&self) {
        let files = core::mem::take(&mut *self.write());
        drop(files);
    }

    /// The table's lock.
    pub(crate) const fn any_lock(&self) -> &dyn AnyLock {
        &self.0
    }
}

/// A process's open files, by descriptor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files(Vec<Option<File>>);

impl Files {
    /// Standard input, output and error on the console.
    pub(crate) fn standard() -> Self {
        Self([File::Console, File::Console, File::Console].map(Some).into())
    }

    /// No files, in place of a table that was cut in the middle of a change: it is counted as lost, and what is open with it.
    pub(super) fn left_behind(&self) -> Self {
        heap::count_left(self.0.capacity() * size_of::<Option<File>>());
        Self::default()
    }

    pub(crate) fn get(&self, descriptor: usize) -> Result<&File, Errno> {
        self.0.get(descriptor).and_then(Option::as_ref).ok_or(Errno::BADF)
    }

    pub(crate) fn get_mut(&mut self, descriptor: usize) -> Result<&mut File, Errno> {
        self.0.get_mut(descriptor).and_then(Option::as_mut).ok_or(Errno::BADF)
    }

    /// Opens `file` at the lowest free descriptor.
    pub(crate) fn open(&mut self, file: File) -> Result<usize, Errno> {
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        if free >= MAX_FILES {
            return Err(Errno::MFILE);
        }
        if free == self.0.len() {
            self.0.push(None);
        }
        self.0[free] = Some(file);
        Ok(free)
    }

    pub(crate) fn close(&mut self, descriptor: usize) -> Result<(), Errno> {
        self.0.get_mut(descriptor).and_then(Option::take).map(drop).ok_or(Errno::BADF)
    }
}
