//! User memory of the current task, for the calls: each address that a program gives is looked up in its page tables, never used.

use alloc::vec::Vec;

use super::Errno;
use crate::arch::layout::USER_END;
use crate::control;
use crate::mm::heap;
use crate::mm::memory::Memory;
use crate::process::exec::StringList;
use crate::task::sched;

/// How many bytes of a string, and of pointers, are read at a time.
const PIECE: usize = 128;

/// Runs `use_it` on the current task's memory.
pub(crate) fn with_memory<T>(use_it: impl FnOnce(&Memory) -> Result<T, Errno>) -> Result<T, Errno> {
    let task = sched::current();
    // SAFETY: the task itself; `use_it` does not replace what it is given.
    use_it(unsafe { task.memory_place().get() }.ok_or(Errno::FAULT)?)
}

/// Copies user memory at `addr` into `bytes`.
pub(crate) fn read(addr: usize, bytes: &mut [u8]) -> Result<(), Errno> {
    if addr >= USER_END.get() && control::address_limit().is_some_and(|limit| addr.saturating_add(bytes.len()) <= limit)
    {
        // SAFETY: none: the control experiment, where thread_info says what a program may touch.
        unsafe { control::read_kernel(addr, bytes) };
        return Ok(());
    }
    with_memory(|memory| Ok(memory.read(addr, bytes)?))
}

/// Copies `bytes` to user memory at `addr`.
pub(crate) fn write(addr: usize, bytes: &[u8]) -> Result<(), Errno> {
    with_memory(|memory| Ok(memory.write(addr, bytes)?))
}

/// A word of user memory.
pub(crate) fn word(addr: usize) -> Result<usize, Errno> {
    let mut bytes = [0; 8];
    read(addr, &mut bytes)?;
    Ok(usize::from_le_bytes(bytes))
}

/// A task's name: at most 15 bytes, and zeros.
pub(super) fn name(addr: usize) -> Result<[u8; 16], Errno> {
    let mut name = [0; 16];
    for (index, byte) in name.iter_mut().take(15).enumerate() {
        let mut found = [0];
        read(addr.checked_add(index).ok_or(Errno::FAULT)?, &mut found)?;
        if found == [0] {
            break;
        }
        *byte = found[0];
    }
    Ok(name)
}

/// Words of user memory.
pub(crate) fn words<const COUNT: usize>(addr: usize) -> Result<[usize; COUNT], Errno> {
    let mut words = [0; COUNT];
    for (index, place) in words.iter_mut().enumerate() {
        *place = word(addr.checked_add(index * 8).ok_or(Errno::FAULT)?)?;
    }
    Ok(words)
}

/// Writes words to user memory.
pub(crate) fn write_words<const COUNT: usize>(addr: usize, words: [usize; COUNT]) -> Result<(), Errno> {
    for (index, word) in words.into_iter().enumerate() {
        write(addr.checked_add(index * 8).ok_or(Errno::FAULT)?, &word.to_le_bytes())?;
    }
    Ok(())
}

/// A string that ends with a zero, of at most `max` bytes, without the zero.
pub(crate) fn string(addr: usize, max: usize) -> Result<Vec<u8>, Errno> {
    let mut string = Vec::new();
    append_string(addr, max, &mut string)?;
    Ok(string)
}

/// Appends the string at `addr`, of at most `max` bytes and without its zero, to `string`.
fn append_string(addr: usize, max: usize, string: &mut Vec<u8>) -> Result<(), Errno> {
    let mut done = 0;
    loop {
        let at = addr.checked_add(done).ok_or(Errno::FAULT)?;
        // To the end of a piece at most: what comes after the string may not be there.
        let mut piece = [0; PIECE];
        let piece = &mut piece[..PIECE - at % PIECE];
        read(at, piece)?;
        let length = piece.iter().position(|&byte| byte == 0);
        let bytes = &piece[..length.unwrap_or(piece.len())];
        done += bytes.len();
        if done > max {
            return Err(Errno::TOOBIG);
        }
        heap::reserve(string, bytes.len())?;
        string.extend_from_slice(bytes);
        if length.is_some() {
            return Ok(());
        }
    }
}

/// An array of pointers to strings, ended by a null pointer: each at most `max_one` bytes, with the pointers at most `max` bytes.
pub(crate) fn strings(addr: usize, max_one: usize, max: usize) -> Result<StringList, Errno> {
    let mut strings = StringList::default();
    if addr == 0 {
        return Ok(strings);
    }
    for index in 0.. {
        let pointer = word(addr.checked_add(index * 8).ok_or(Errno::FAULT)?)?;
        if pointer == 0 {
            break;
        }
        strings.append(|bytes| append_string(pointer, max_one, bytes))?;
        if strings.bytes() + index * 8 > max {
            return Err(Errno::TOOBIG);
        }
    }
    Ok(strings)
}
