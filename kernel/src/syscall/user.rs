//! User memory of the current task, for the calls: each address that a program gives is looked up in its page tables, never used.

use alloc::vec::Vec;

use vmstack::VirtAddr;

use super::Errno;
use crate::arch::layout::USER_END;
use crate::control;
use crate::mm::heap;
use crate::mm::memory::Memory;
use crate::mm::space::AddressSpace;
use crate::process::exec::StringList;
use crate::task::sched;

/// Runs `use_it` on the current task's memory.
pub(crate) fn with_memory<T>(use_it: impl FnOnce(&Memory) -> Result<T, Errno>) -> Result<T, Errno> {
    let task = sched::current();
    // SAFETY: the task itself; `use_it` does not replace what it is given.
    use_it(unsafe { task.memory_place().get() }.ok_or(Errno::FAULT)?)
}

/// Copies user memory at `addr` into `bytes`.
pub(crate) fn read(addr: usize, bytes: &mut [u8]) -> Result<(), Errno> {
    with_memory(|memory| read_from(&memory.lock().space, addr, bytes))
}

/// Copies what lies at `addr` of the current task's memory, which the caller has in hand, into `bytes`.
pub(crate) fn read_from(space: &AddressSpace, addr: usize, bytes: &mut [u8]) -> Result<(), Errno> {
    if addr >= USER_END.get() && control::address_limit().is_some_and(|limit| addr.saturating_add(bytes.len()) <= limit)
    {
        // SAFETY: none: the control experiment, where thread_info says what a program may touch.
        unsafe { control::read_kernel(addr, bytes) };
        return Ok(());
    }
    Ok(space.read(VirtAddr::new(addr), bytes)?)
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

/// A string that ends with a zero, of at most `max` bytes, without the zero.
pub(crate) fn string(addr: usize, max: usize) -> Result<Vec<u8>, Errno> {
    let mut string = Vec::new();
    loop {
        let mut byte = [0];
        read(addr.checked_add(string.len()).ok_or(Errno::FAULT)?, &mut byte)?;
        if byte[0] == 0 {
            return Ok(string);
        }
        if string.len() >= max {
            return Err(Errno::TOOBIG);
        }
        heap::reserve(&mut string, 1)?;
        string.push(byte[0]);
    }
}

/// An array of pointers to strings, ended by a null pointer; with the pointers at most `max` bytes.
pub(crate) fn strings(addr: usize, max: usize) -> Result<StringList, Errno> {
    let mut strings = StringList::default();
    if addr == 0 {
        return Ok(strings);
    }
    for index in 0.. {
        let pointer = word(addr.checked_add(index * 8).ok_or(Errno::FAULT)?)?;
        if pointer == 0 {
            break;
        }
        strings.push(&string(pointer, max)?)?;
        if strings.bytes() + index * 8 > max {
            return Err(Errno::TOOBIG);
        }
    }
    Ok(strings)
}
