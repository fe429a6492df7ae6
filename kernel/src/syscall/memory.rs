//! Calls about memory.

use vmstack::{VirtAddr, VirtRange};
use vmstack_paging::Access;

use super::{Errno, user};
use crate::arch::layout::PAGE_SIZE;
use crate::arch::{clock, cpu};
use crate::fs;
use crate::mm::memory::Inner;
use crate::mm::space::pages_around;
use crate::task::sched;

const PROT_WRITE: usize = 2;
const PROT_EXEC: usize = 4;
const MAP_FIXED: usize = 0x10;
const MAP_ANONYMOUS: usize = 0x20;
/// The most that one call maps, in bytes.
const MAX_MAPPING: usize = 1 << 30;

fn with_memory<T>(use_it: impl FnOnce(&mut Inner) -> Result<T, Errno>) -> Result<T, Errno> {
    user::with_memory(|memory| use_it(&mut memory.lock()))
}

fn access(protection: usize) -> Result<Access, Errno> {
    Access::from_flags(protection & PROT_WRITE != 0, protection & PROT_EXEC != 0).map_err(|_| Errno::INVAL)
}

pub(super) fn mmap([addr, length, protection, flags, ..]: [usize; 6]) -> Result<usize, Errno> {
    if flags & MAP_ANONYMOUS == 0 || length == 0 || length > MAX_MAPPING {
        return Err(Errno::INVAL);
    }
    let access = access(protection)?;
    with_memory(|memory| {
        let fixed = flags & MAP_FIXED != 0;
        let start = if fixed { VirtAddr::new(addr) } else { memory.layout.next_mapping };
        if !start.is_aligned(PAGE_SIZE) {
            return Err(Errno::INVAL);
        }
        let range = pages_around(start, length)?;
        if fixed {
            memory.space.unmap(range)?;
        } else {
            // A page apart, so that running over the end of one is noticed.
            memory.layout.next_mapping = range.end().wrapping_add(PAGE_SIZE);
        }
        memory.space.map(range, access)?;
        Ok(range.start().get())
    })
}

pub(super) fn munmap(addr: usize, length: usize) -> Result<usize, Errno> {
    let start = VirtAddr::new(addr);
    if length == 0 || !start.is_aligned(PAGE_SIZE) {
        return Err(Errno::INVAL);
    }
    let range = pages_around(start, length)?;
    with_memory(|memory| Ok(memory.space.unmap(range).map(|()| 0)?))
}

pub(super) fn mprotect(addr: usize, length: usize, protection: usize) -> Result<usize, Errno> {
    let access = access(protection)?;
    let range = pages_around(VirtAddr::new(addr), length)?;
    with_memory(|memory| Ok(memory.space.protect(range, access).map(|()| 0)?))
}

/// Moves the end of the heap, and answers where it is.
pub(super) fn brk(end: usize) -> Result<usize, Errno> {
    with_memory(|memory| {
        let end = VirtAddr::new(end);
        let layout = memory.layout;
        if end < layout.heap_start || move_heap_end(memory, end).is_err() {
            return Ok(layout.heap_end.get());
        }
        memory.layout.heap_end = end;
        Ok(end.get())
    })
}

fn move_heap_end(memory: &mut Inner, end: VirtAddr) -> Result<(), Errno> {
    let start = memory.layout.heap_start;
    let bytes = |end: VirtAddr| end.distance(start).next_multiple_of(PAGE_SIZE);
    let (old, new) = (bytes(memory.layout.heap_end), bytes(end));
    if new > MAX_MAPPING {
        return Err(Errno::NOMEM);
    }
    let between = |from: usize, to: usize| VirtRange::new(start.wrapping_add(from), to - from).ok_or(Errno::NOMEM);
    if new > old {
        memory.space.map(between(old, new)?, Access::ReadWrite)?;
    } else if new < old {
        memory.space.unmap(between(new, old)?)?;
    }
    Ok(())
}

/// Bytes that look random. The kernel has no source of secrets, and says so in its limits.
pub(super) fn getrandom(buffer: usize, count: usize) -> Result<usize, Errno> {
    let count = count.min(256);
    let mut word = cpu::cycles() | 1;
    for index in 0..count {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        user::write(buffer.checked_add(index).ok_or(Errno::FAULT)?, &[word as u8])?;
    }
    Ok(count)
}

/// `sysinfo`: the uptime in seconds, and memory in bytes.
pub(super) fn sysinfo(buffer: usize) -> Result<usize, Errno> {
    let (total, free) = fs::frames_total_and_free();
    let bytes = |frames: usize| (frames * PAGE_SIZE) as u64;
    let (uptime, tasks) = (clock::now() / clock::SECOND, sched::tasks_alive() as u64);
    // After the processes, a `u16`, come words that are all zero, and the unit of memory: a byte.
    let words = [uptime, 0, 0, 0, bytes(total), bytes(free), 0, 0, 0, 0, tasks & 0xffff, 0, 0, 1];
    let mut sysinfo = [0; 112];
    sysinfo.chunks_exact_mut(8).zip(words).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_le_bytes()));
    user::write(buffer, &sysinfo).map(|()| 0)
}
