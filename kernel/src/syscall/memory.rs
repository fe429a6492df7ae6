//! Calls about memory.

use vmstack::{VirtAddr, VirtRange};

use super::{Errno, user};
use crate::arch::clock;
use crate::arch::layout::PAGE_SIZE;
use crate::fs;
use crate::fs::span::Span;
use crate::mm::memory::{Advice, Kind, MapRequest, Rights, Where};
use crate::mm::shortage;
use crate::mm::space::pages_around;
use crate::pressure;
use crate::process;
use crate::task::sched;

const PROT_READ: usize = 1;
const PROT_WRITE: usize = 2;
const PROT_EXEC: usize = 4;
const PROT_ALL: usize = PROT_READ | PROT_WRITE | PROT_EXEC;

const MAP_TYPE: usize = 0xf;
const MAP_SHARED: usize = 1;
const MAP_PRIVATE: usize = 2;
const MAP_SHARED_VALIDATE: usize = 3;
const MAP_FIXED: usize = 0x10;
const MAP_ANONYMOUS: usize = 0x20;
const MAP_GROWSDOWN: usize = 0x100;
const MAP_NORESERVE: usize = 0x4000;
const MAP_POPULATE: usize = 0x8000;
const MAP_HUGETLB: usize = 0x4_0000;
const MAP_FIXED_NOREPLACE: usize = 0x10_0000;

/// Never both write and execute: W^X is the kernel's rule, as SELinux's `execmem` is.
fn rights(protection: usize) -> Result<Rights, Errno> {
    if protection & !PROT_ALL != 0 {
        return Err(Errno::INVAL);
    }
    let has = |flag| protection & flag != 0;
    Rights::from_flags(has(PROT_READ), has(PROT_WRITE), has(PROT_EXEC)).ok_or(Errno::ACCES)
}

/// Whole pages from `addr`, which begins one, on. `none` is the error where they are no user's.
fn whole_pages(addr: usize, length: usize, none: Errno) -> Result<VirtRange, Errno> {
    if !VirtAddr::new(addr).is_aligned(PAGE_SIZE) {
        return Err(Errno::INVAL);
    }
    pages_around(VirtAddr::new(addr), length).map_err(|_| none)
}

pub(super) fn mmap([addr, length, protection, flags, descriptor, offset]: [usize; 6]) -> Result<usize, Errno> {
    if length == 0 || !VirtAddr::new(offset).is_aligned(PAGE_SIZE) {
        return Err(Errno::INVAL);
    }
    if flags & MAP_HUGETLB != 0 {
        return Err(Errno::NOMEM);
    }
    let rights = rights(protection)?;
    let shared = match flags & MAP_TYPE {
        MAP_SHARED | MAP_SHARED_VALIDATE => true,
        MAP_PRIVATE => false,
        _ => return Err(Errno::INVAL),
    };
    let file = if flags & MAP_ANONYMOUS == 0 { Some(file_bytes(descriptor, offset)?) } else { None };
    if file.is_some() && shared && rights.may_write() {
        return Err(Errno::ACCES);
    }
    let request = MapRequest {
        place: place(addr, flags),
        bytes: length,
        rights,
        kind: kind(shared, flags),
        file,
        populate: flags & MAP_POPULATE != 0,
    };
    user::with_memory(|memory| Ok(memory.map(&request)?.get()))
}

fn place(addr: usize, flags: usize) -> Where {
    let addr = VirtAddr::new(addr);
    match (flags & MAP_FIXED_NOREPLACE != 0, flags & MAP_FIXED != 0) {
        (true, _) => Where::ThereIfFree(addr),
        (false, true) => Where::There(addr),
        (false, false) => Where::Near(addr),
    }
}

fn kind(shared: bool, flags: usize) -> Kind {
    let mut kind = if shared { Kind::SHARED } else { Kind::PRIVATE };
    if flags & MAP_NORESERVE != 0 {
        kind = kind.with(Kind::UNRESERVED);
    }
    if flags & MAP_GROWSDOWN != 0 && !shared {
        kind = kind.with(Kind::GROWS_DOWN);
    }
    kind
}

/// The bytes from `offset` on of the file that is open as `descriptor`, if it is one of the archive.
fn file_bytes(descriptor: usize, offset: usize) -> Result<&'static [u8], Errno> {
    let process = process::current().ok_or(Errno::BADF)?;
    let node = process.files().get(descriptor)?.node().ok_or(Errno::NODEV)?;
    let data = fs::open::file_data(node).map_err(|_| Errno::NODEV)?;
    Ok(data.get(offset..).unwrap_or(&[]))
}

pub(super) fn munmap(addr: usize, length: usize) -> Result<usize, Errno> {
    if length == 0 {
        return Err(Errno::INVAL);
    }
    let range = whole_pages(addr, length, Errno::INVAL)?;
    user::with_memory(|memory| Ok(memory.unmap(range).map(|()| 0)?))
}

pub(super) fn mprotect(addr: usize, length: usize, protection: usize) -> Result<usize, Errno> {
    let rights = rights(protection)?;
    if length == 0 && VirtAddr::new(addr).is_aligned(PAGE_SIZE) {
        return Ok(0);
    }
    let range = whole_pages(addr, length, Errno::NOMEM)?;
    user::with_memory(|memory| Ok(memory.protect(range, rights).map(|()| 0)?))
}

/// Moves the end of the heap, and answers where it is.
pub(super) fn brk(end: usize) -> Result<usize, Errno> {
    let end = VirtAddr::new(end);
    user::with_memory(|memory| match memory.brk(end) {
        // It says no by what it answers.
        other if other != end && pressure::relieve() => Ok(memory.brk(end).get()),
        moved => Ok(moved.get()),
    })
}

pub(super) fn mremap(addr: usize, old: usize, new: usize, flags: usize, to: usize) -> Result<usize, Errno> {
    const MAY_MOVE: usize = 1;
    const FIXED: usize = 2;
    const DONT_UNMAP: usize = 4;
    let (may_move, leave) = (flags & MAY_MOVE != 0, flags & DONT_UNMAP != 0);
    let wrong = flags & !(MAY_MOVE | FIXED | DONT_UNMAP) != 0 || (flags != 0 && !may_move) || (leave && old != new);
    if wrong || old == 0 || new == 0 {
        return Err(Errno::INVAL);
    }
    let range = whole_pages(addr, old, Errno::FAULT)?;
    let to = (flags & FIXED != 0).then(|| VirtAddr::new(to));
    let moved = user::with_memory(|memory| Ok(memory.remap(range, new, may_move, to, leave)?.get()));
    if moved.is_err() && new < old {
        // What was to be cut off may be gone: there is no such range to try it with again.
        shortage::forget();
    }
    moved
}

pub(super) fn madvise(addr: usize, length: usize, advice: usize) -> Result<usize, Errno> {
    /// `MADV_DONTNEED`, `MADV_FREE`, of which nobody can say when it happens.
    const NOT_NEEDED: [usize; 2] = [4, 8];
    /// `MADV_POPULATE_READ`, `MADV_POPULATE_WRITE`.
    const POPULATE: [usize; 2] = [22, 23];
    /// How it will be used, whether in large pages, merged, dumped, soon.
    const MERE_ADVICE: [usize; 12] = [0, 1, 2, 3, 12, 13, 14, 15, 16, 17, 20, 21];
    if length == 0 && VirtAddr::new(addr).is_aligned(PAGE_SIZE) {
        return Ok(0);
    }
    let range = whole_pages(addr, length, Errno::NOMEM)?;
    user::with_memory(|memory| {
        let mapped = match advice {
            _ if NOT_NEEDED.contains(&advice) => memory.advise(range, Advice::NotNeeded)?,
            _ if POPULATE.contains(&advice) => memory.advise(range, Advice::Populate)?,
            _ if MERE_ADVICE.contains(&advice) => memory.covers(range),
            _ => return Err(Errno::INVAL),
        };
        if mapped { Ok(0) } else { Err(Errno::NOMEM) }
    })
}

/// Nothing is ever written back or swapped out: what is mapped is where it should be.
pub(super) fn msync(addr: usize, length: usize) -> Result<usize, Errno> {
    if length == 0 && VirtAddr::new(addr).is_aligned(PAGE_SIZE) {
        return Ok(0);
    }
    let range = whole_pages(addr, length, Errno::NOMEM)?;
    user::with_memory(|memory| if memory.covers(range) { Ok(0) } else { Err(Errno::NOMEM) })
}

/// Pages that are there stay there: so all of them come.
pub(super) fn mlock(addr: usize, length: usize) -> Result<usize, Errno> {
    let range = pages_around(VirtAddr::new(addr), length).map_err(|_| Errno::NOMEM)?;
    user::with_memory(|memory| if memory.advise(range, Advice::Populate)? { Ok(0) } else { Err(Errno::NOMEM) })
}

/// A byte for each page: whether it is there.
pub(super) fn mincore(addr: usize, length: usize, vector: usize) -> Result<usize, Errno> {
    let range = whole_pages(addr, length, Errno::NOMEM)?;
    user::with_memory(|memory| {
        if !memory.covers(range) {
            return Err(Errno::NOMEM);
        }
        for page in 0..range.bytes() / PAGE_SIZE {
            let there = memory.is_resident(range.start().wrapping_add(page * PAGE_SIZE));
            memory.write(vector.checked_add(page).ok_or(Errno::FAULT)?, &[u8::from(there)])?;
        }
        Ok(0)
    })
}

/// Random bytes: see [`random`](crate::random) for what they are worth. None of the flags makes a difference.
pub(super) fn getrandom(buffer: usize, count: usize, wanted: usize) -> Result<usize, Errno> {
    const FLAGS: usize = 7;
    if wanted & !FLAGS != 0 {
        return Err(Errno::INVAL);
    }
    fs::fill_with_random(Span::new(buffer, count))
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
