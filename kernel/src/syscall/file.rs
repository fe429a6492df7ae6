//! Calls about files.

use alloc::sync::Arc;

use super::{Errno, user};
use crate::console::Console;
use crate::process::files::{NEST, PROVOKE, REPORTS, TASK_STACKS, WORK, read_console};
use crate::process::{self, File, Process};
use crate::story;
use crate::task::kept::{self, Kept};
use crate::{boot, crash, oops};

const MAX_PATH: usize = 4096;
/// How many bytes one call moves at most; the program is told, and asks again.
const MAX_TRANSFER: usize = 64 << 10;
/// How many bytes go over the stack at a time.
const PIECE: usize = 256;
/// Open for writing, in `open`'s flags.
const WRITE_FLAGS: usize = 3;
/// Kinds of files, in `stat`'s mode.
const CHARACTER_DEVICE: u32 = 0o020_666;
const REGULAR_FILE: u32 = 0o100_555;

/// A reference to an open file, which is given back even if the task is killed while it uses it.
fn open_file(process: &Process, descriptor: usize) -> Result<Kept<File>, Errno> {
    Ok(kept::keep(&"file", process.files().get(descriptor)?.clone()))
}

pub(super) fn read(descriptor: usize, buffer: usize, count: usize) -> Result<usize, Errno> {
    let process = process::current().ok_or(Errno::BADF)?;
    let file = open_file(&process, descriptor)?;
    match &*file {
        File::Console => {
            // Off the heap: it is held for as long as nobody types.
            let mut bytes = [0; PIECE];
            let length = read_console(&mut bytes[..count.min(PIECE)]);
            user::write(buffer, &bytes[..length]).map(|()| length)
        }
        File::Null => Ok(0),
        File::Provoke | File::Work | File::Nest => Err(Errno::INVAL),
        File::Data { .. } | File::Text { .. } => read_memory(&process, descriptor, buffer, count),
    }
}

/// Reads a file that is in memory.
fn read_memory(process: &Process, descriptor: usize, buffer: usize, count: usize) -> Result<usize, Errno> {
    let mut file = open_file(process, descriptor)?;
    let (rest, at) = file.rest().ok_or(Errno::INVAL)?;
    let length = rest.len().min(count);
    user::write(buffer, &rest[..length])?;
    *at += length;
    *process.files_mut().get_mut(descriptor)? = file.clone();
    Ok(length)
}

pub(super) fn write(descriptor: usize, buffer: usize, count: usize) -> Result<usize, Errno> {
    let process = process::current().ok_or(Errno::BADF)?;
    let file = open_file(&process, descriptor)?;
    write_file(&file, buffer, count)
}

pub(super) fn writev(descriptor: usize, vector: usize, count: usize) -> Result<usize, Errno> {
    if count > 1024 {
        return Err(Errno::INVAL);
    }
    let process = process::current().ok_or(Errno::BADF)?;
    let file = open_file(&process, descriptor)?;
    let mut written = 0;
    for index in 0..count {
        let entry = vector.checked_add(index * 16).ok_or(Errno::FAULT)?;
        let (base, length) = (user::word(entry)?, user::word(entry + 8)?);
        written += write_file(&file, base, length)?;
    }
    Ok(written)
}

fn write_file(file: &File, buffer: usize, count: usize) -> Result<usize, Errno> {
    let count = count.min(MAX_TRANSFER);
    match file {
        File::Console => write_console(buffer, count),
        File::Null => Ok(count),
        File::Data { .. } | File::Text { .. } => Err(Errno::BADF),
        File::Work => crash::note_work().then_some(count).ok_or(Errno::AGAIN),
        File::Provoke | File::Nest => {
            // On the stack: what a crash leaves there is not missed.
            let mut text = [0; PIECE];
            let text = text.get_mut(..count).ok_or(Errno::INVAL)?;
            user::read(buffer, text)?;
            let act = if matches!(file, File::Nest) { crash::evaluate } else { crash::provoke };
            act(text).map(|()| count)
        }
    }
}

/// Writes to the console, piece by piece, whole as seen by other CPUs.
fn write_console(buffer: usize, count: usize) -> Result<usize, Errno> {
    user::with_memory(|memory| {
        // Before the console: who holds that does not wait.
        let memory = memory.lock();
        let console = Console::take();
        for start in (0..count).step_by(PIECE) {
            let mut bytes = [0; PIECE];
            let piece = &mut bytes[..PIECE.min(count - start)];
            user::read_from(&memory.space, buffer.checked_add(start).ok_or(Errno::FAULT)?, piece)?;
            console.program_output(piece);
        }
        Ok(count)
    })
}

pub(super) fn open(path: usize, flags: usize) -> Result<usize, Errno> {
    let path = user::string(path, MAX_PATH)?;
    let file = match path.as_slice() {
        b"/dev/null" => File::Null,
        b"/dev/console" | b"/dev/tty" => File::Console,
        PROVOKE => File::Provoke,
        WORK => File::Work,
        NEST => File::Nest,
        TASK_STACKS => File::Text { text: Arc::new(story::slots()?), at: 0 },
        REPORTS => File::Text { text: Arc::new(oops::all()?), at: 0 },
        path => {
            let entry = boot::archive().find(path).ok_or(Errno::NOENT)?;
            if flags & WRITE_FLAGS != 0 {
                return Err(Errno::ROFS);
            }
            File::of(entry)
        }
    };
    process::current().ok_or(Errno::BADF)?.files_mut().open(file)
}

pub(super) fn close(descriptor: usize) -> Result<usize, Errno> {
    process::current().ok_or(Errno::BADF)?.files_mut().close(descriptor).map(|()| 0)
}

pub(super) fn fstat(descriptor: usize, buffer: usize) -> Result<usize, Errno> {
    let process = process::current().ok_or(Errno::BADF)?;
    let size = process.files().get(descriptor)?.size();
    write_stat(buffer, size)
}

pub(super) fn newfstatat(descriptor: usize, path: usize, buffer: usize, _flags: usize) -> Result<usize, Errno> {
    let path = user::string(path, MAX_PATH)?;
    if path.is_empty() {
        return fstat(descriptor, buffer);
    }
    let entry = boot::archive().find(&path).ok_or(Errno::NOENT)?;
    write_stat(buffer, Some(entry.data.len()))
}

/// A `struct stat`: a regular file of `size` bytes, or a character device.
fn write_stat(buffer: usize, size: Option<usize>) -> Result<usize, Errno> {
    let mut stat = [0_u8; 144];
    let mode = if size.is_some() { REGULAR_FILE } else { CHARACTER_DEVICE };
    let mut put = |at: usize, bytes: &[u8]| stat[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &1_u64.to_le_bytes());
    put(24, &mode.to_le_bytes());
    put(48, &(size.unwrap_or(0) as u64).to_le_bytes());
    put(56, &4096_u64.to_le_bytes());
    user::write(buffer, &stat)?;
    Ok(0)
}

/// Everything that is open is ready.
pub(super) fn poll(entries: usize, count: usize) -> Result<usize, Errno> {
    let process = process::current().ok_or(Errno::BADF)?;
    let mut ready = 0;
    for index in 0..count.min(64) {
        let entry = entries.checked_add(index * 8).ok_or(Errno::FAULT)?;
        let word = user::word(entry)?;
        let (descriptor, wanted) = (word & 0xffff_ffff, (word >> 32) as u16);
        const INVALID: u16 = 0x20;
        const READABLE_OR_WRITABLE: u16 = 5;
        let open = process.files().get(descriptor).is_ok();
        let found = if open { wanted & READABLE_OR_WRITABLE } else { INVALID };
        user::write(entry + 6, &found.to_le_bytes())?;
        ready += usize::from(found != 0);
    }
    Ok(ready)
}

/// No file is a terminal.
pub(super) fn ioctl(descriptor: usize) -> Result<usize, Errno> {
    process::current().ok_or(Errno::BADF)?.files().get(descriptor)?;
    Err(Errno::NOTTY)
}

pub(super) fn fcntl(descriptor: usize, command: usize) -> Result<usize, Errno> {
    const GET_FLAGS: usize = 3;
    const READ_WRITE: usize = 2;
    process::current().ok_or(Errno::BADF)?.files().get(descriptor)?;
    Ok(if command == GET_FLAGS { READ_WRITE } else { 0 })
}

/// There are no links.
pub(super) fn readlink(path: usize, _buffer: usize, _count: usize) -> Result<usize, Errno> {
    let path = user::string(path, MAX_PATH)?;
    Err(if boot::archive().find(&path).is_some() { Errno::INVAL } else { Errno::NOENT })
}
