//! Calls about descriptors, and what is open at them.

use super::{Errno, user};
use crate::fs::open::{Seek, flags};
use crate::fs::pipe::{self, PipeEnd};
use crate::fs::span::Span;
use crate::fs::table::Target;
use crate::fs::{FileTable, Held, MAX_FILES, OpenFile, seams};
use crate::process;

/// The most pieces that one call moves.
const MAX_PIECES: usize = 1024;

/// Runs `use_it` on the current process's table.
pub(super) fn with_files<T>(use_it: impl FnOnce(&FileTable) -> Result<T, Errno>) -> Result<T, Errno> {
    use_it(process::current().ok_or(Errno::BADF)?.files())
}

/// What is open at `descriptor`: given back even if the task is killed while it uses it.
pub(super) fn file(descriptor: usize) -> Result<Held, Errno> {
    with_files(|files| files.get(descriptor_of(descriptor)))
}

/// A descriptor as a program gives it: an `int`.
const fn descriptor_of(word: usize) -> usize {
    word as u32 as usize
}

pub(super) fn read(descriptor: usize, buffer: usize, count: usize) -> Result<usize, Errno> {
    file(descriptor)?.read(Span::new(buffer, count), false)
}

pub(super) fn write(descriptor: usize, buffer: usize, count: usize) -> Result<usize, Errno> {
    let file = file(descriptor)?;
    signal_if_broken(file.write(Span::new(buffer, count), false))
}

/// Who writes to a pipe that nobody reads gets a signal, too.
fn signal_if_broken(written: Result<usize, Errno>) -> Result<usize, Errno> {
    if written == Err(Errno::PIPE) {
        seams::broken_pipe();
    }
    written
}

/// Moves piece after piece of `vector`, until one is not moved whole. An error after the first is for the next call.
fn each_piece(
    vector: usize,
    count: usize,
    mut each: impl FnMut(Span, bool) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    if count > MAX_PIECES {
        return Err(Errno::INVAL);
    }
    let mut done = 0;
    for index in 0..count {
        let entry = vector.checked_add(index * 16).ok_or(Errno::FAULT)?;
        let piece = Span::new(user::word(entry)?, user::word(entry + 8)?);
        match each(piece, done != 0) {
            Ok(moved) if moved < piece.len() => return Ok(done + moved),
            Ok(moved) => done += moved,
            Err(_) if done != 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

pub(super) fn readv(descriptor: usize, vector: usize, count: usize) -> Result<usize, Errno> {
    let file = file(descriptor)?;
    each_piece(vector, count, |piece, more| if piece.len() == 0 { Ok(0) } else { file.read(piece, more) })
}

pub(super) fn writev(descriptor: usize, vector: usize, count: usize) -> Result<usize, Errno> {
    let file = file(descriptor)?;
    signal_if_broken(each_piece(
        vector,
        count,
        |piece, _| if piece.len() == 0 { Ok(0) } else { file.write(piece, false) },
    ))
}

pub(super) fn pread(descriptor: usize, buffer: usize, count: usize, at: usize) -> Result<usize, Errno> {
    if isize::try_from(at).is_err() {
        return Err(Errno::INVAL);
    }
    file(descriptor)?.read_at(Span::new(buffer, count), at)
}

pub(super) fn pwrite(descriptor: usize, buffer: usize, count: usize, at: usize) -> Result<usize, Errno> {
    if isize::try_from(at).is_err() {
        return Err(Errno::INVAL);
    }
    file(descriptor)?.write_at(Span::new(buffer, count))
}

pub(super) fn lseek(descriptor: usize, by: usize, from: usize) -> Result<usize, Errno> {
    let from = match from {
        0 => Seek::Start,
        1 => Seek::Current,
        2 => Seek::End,
        _ => return Err(Errno::INVAL),
    };
    file(descriptor)?.seek(from, by.cast_signed())
}

/// There is no short cut from file to file: programs read and write instead.
pub(super) fn sendfile(to: usize, from: usize) -> Result<usize, Errno> {
    let _files = (file(to)?, file(from)?);
    Err(Errno::INVAL)
}

pub(super) fn close(descriptor: usize) -> Result<usize, Errno> {
    with_files(|files| files.close(descriptor_of(descriptor)).map(|()| 0))
}

pub(super) fn close_range(first: usize, last: usize, how: usize) -> Result<usize, Errno> {
    /// Not closed now, but by `execve`.
    const LATER: usize = 4;
    let (first, last) = (descriptor_of(first), descriptor_of(last));
    if first > last || how & !LATER != 0 {
        return Err(Errno::INVAL);
    }
    with_files(|files| {
        let mut next = first;
        while let Some(descriptor) = files.next_open(next).filter(|&descriptor| descriptor <= last) {
            // Who closes it meanwhile has done what was wanted.
            let _done = if how == LATER { files.set_closes_on_exec(descriptor, true) } else { files.close(descriptor) };
            next = descriptor + 1;
        }
        Ok(0)
    })
}

pub(super) fn pipe(descriptors: usize, wanted: usize) -> Result<usize, Errno> {
    if wanted & !(flags::CLOSE_ON_EXEC | flags::NON_BLOCK) != 0 {
        return Err(Errno::INVAL);
    }
    let closes = wanted & flags::CLOSE_ON_EXEC != 0;
    let (reader, writer) = PipeEnd::both()?;
    let reader = OpenFile::of_pipe(reader, wanted & flags::NON_BLOCK)?;
    let writer = OpenFile::of_pipe(writer, wanted & flags::NON_BLOCK | flags::WRITE_ONLY)?;
    with_files(|files| {
        let reading = files.install(reader, 0, closes)?;
        let close = |descriptor| {
            let _closed_by_another = files.close(descriptor);
        };
        let writing = files.install(writer, 0, closes).inspect_err(|_| close(reading))?;
        let both = (writing as u64) << 32 | reading as u64;
        let told = user::write(descriptors, &both.to_le_bytes());
        told.map(|()| 0).inspect_err(|_| [reading, writing].into_iter().for_each(close))
    })
}

pub(super) fn dup(descriptor: usize) -> Result<usize, Errno> {
    with_files(|files| files.copy(descriptor_of(descriptor), Target::AtLeast(0), false))
}

pub(super) fn dup2(from: usize, to: usize) -> Result<usize, Errno> {
    let (from, to) = (descriptor_of(from), descriptor_of(to));
    if from == to {
        return with_files(|files| files.get(from)).map(|_| to);
    }
    with_files(|files| files.copy(from, Target::Exactly(to), false))
}

pub(super) fn dup3(from: usize, to: usize, wanted: usize) -> Result<usize, Errno> {
    let (from, to) = (descriptor_of(from), descriptor_of(to));
    if from == to || wanted & !flags::CLOSE_ON_EXEC != 0 {
        return Err(Errno::INVAL);
    }
    with_files(|files| files.copy(from, Target::Exactly(to), wanted != 0))
}

pub(super) fn fcntl(descriptor: usize, command: usize, argument: usize) -> Result<usize, Errno> {
    const DUP: usize = 0;
    const GET_DESCRIPTOR_FLAGS: usize = 1;
    const SET_DESCRIPTOR_FLAGS: usize = 2;
    const GET_FLAGS: usize = 3;
    const SET_FLAGS: usize = 4;
    const GET_LOCK: usize = 5;
    const SET_LOCK: usize = 6;
    const SET_LOCK_WAITING: usize = 7;
    const DUP_CLOSE_ON_EXEC: usize = 1030;
    const GET_PIPE_SIZE: usize = 1032;
    let file = file(descriptor)?;
    let number = descriptor_of(descriptor);
    match command {
        DUP | DUP_CLOSE_ON_EXEC => with_files(|files| {
            files.copy(number, Target::AtLeast(argument.min(MAX_FILES)), command == DUP_CLOSE_ON_EXEC)
        }),
        GET_DESCRIPTOR_FLAGS => with_files(|files| files.closes_on_exec(number).map(usize::from)),
        SET_DESCRIPTOR_FLAGS => with_files(|files| files.set_closes_on_exec(number, argument & 1 != 0).map(|()| 0)),
        GET_FLAGS => Ok(file.flags()),
        SET_FLAGS => {
            file.set_flags(argument);
            Ok(0)
        }
        GET_LOCK => no_lock(argument),
        // What cannot be written needs no locks between those who use it.
        SET_LOCK | SET_LOCK_WAITING => Ok(0),
        GET_PIPE_SIZE => file.is_pipe().then_some(pipe::CAPACITY).ok_or(Errno::BADF),
        _ => Err(Errno::INVAL),
    }
}

/// Says in the `struct flock` at `addr` that nobody has a lock.
fn no_lock(addr: usize) -> Result<usize, Errno> {
    const UNLOCKED: u16 = 2;
    user::write(addr, &UNLOCKED.to_le_bytes()).map(|()| 0)
}

/// No file is a terminal.
pub(super) fn ioctl(descriptor: usize, request: usize, argument: usize) -> Result<usize, Errno> {
    const READABLE: usize = 0x541b;
    const NON_BLOCK: usize = 0x5421;
    const NO_CLOSE_ON_EXEC: usize = 0x5450;
    const CLOSE_ON_EXEC: usize = 0x5451;
    let file = file(descriptor)?;
    match request as u32 as usize {
        READABLE => user::write(argument, &(file.available()? as u32).to_le_bytes())?,
        NON_BLOCK => {
            let mut on = [0; 4];
            user::read(argument, &mut on)?;
            file.set_non_block(on != [0; 4]);
        }
        request @ (NO_CLOSE_ON_EXEC | CLOSE_ON_EXEC) => {
            with_files(|files| files.set_closes_on_exec(descriptor_of(descriptor), request == CLOSE_ON_EXEC))?;
        }
        _ => return Err(Errno::NOTTY),
    }
    Ok(0)
}

/// There is nothing that would have to be written to a disk.
pub(super) fn fsync(descriptor: usize) -> Result<usize, Errno> {
    if file(descriptor)?.is_pipe() { Err(Errno::INVAL) } else { Ok(0) }
}

/// As for `fcntl`'s locks.
pub(super) fn flock(descriptor: usize) -> Result<usize, Errno> {
    file(descriptor).map(|_| 0)
}
