//! Memory for many stacks of 16 KiB, as one mapping without guards.
//!
//! | kind | how it is had |
//! | --- | --- |
//! | scattered | no large pages; each top page touched in a shuffled order, so that neighbours come from anywhere |
//! | in a row | large pages, then split where they are: pages of 4 KiB that are neighbours in memory too |
//! | large | large pages (transparent ones, `madvise`) |
//!
//! What was asked for is not what one gets: the kernel's own account of the mapping is read (`/proc/self/smaps`), and memory of another kind is
//! refused. Where this process may see physical addresses (`/proc/self/pagemap`, for root), how many neighbours are neighbours is said.

use core::fmt;
use core::ptr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use vmstack::VirtAddr;

use crate::bench::available::available_mib;

/// The size of a stack, in bytes, and the distance from one to the next.
const STACK: usize = 16 << 10;
const PAGE: usize = 4 << 10;
const LARGE: usize = 2 << 20;

/// A kind of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Scattered,
    InARow,
    Large,
}

impl Kind {
    /// All kinds, in the order in which they are shown.
    pub(super) const ALL: [Self; 3] = [Self::Scattered, Self::InARow, Self::Large];

    /// Its part of a finding's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Scattered => "scattered",
            Self::InARow => "in_a_row",
            Self::Large => "large",
        }
    }

    /// What it is, for people.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Scattered => "pages of 4 KiB, scattered",
            Self::InARow => "pages of 4 KiB, in a row",
            Self::Large => "pages of 2 MiB",
        }
    }
}

/// Why there is no such memory.
#[derive(Debug)]
pub(super) enum NoMemory {
    System {
        what: &'static str,
        error: io::Error,
    },
    /// There is not so much memory that nobody needs.
    TooLittle {
        mib: usize,
        available_mib: usize,
    },
    /// The kernel gave other pages than were asked for.
    OtherPages {
        kib: usize,
        large_kib: usize,
    },
}

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { what, error } => write!(f, "{what}: {error}"),
            Self::TooLittle { mib, available_mib } => {
                write!(f, "it takes {mib} MiB, and this machine has {available_mib} MiB that nobody uses")
            }
            Self::OtherPages { kib, large_kib } => write!(
                f,
                "of {kib} KiB the kernel gave {large_kib} KiB in pages of 2 MiB, which is not what was asked for \
                 (see /sys/kernel/mm/transparent_hugepage/enabled)"
            ),
        }
    }
}

/// Memory for stacks.
///
/// Having a `Memory` means that the pages at the tops of its stacks are there, readable and writable, and of its kind.
pub(super) struct Memory {
    kind: Kind,
    /// The first stack's lowest address, on a boundary of 2 MiB.
    start: VirtAddr,
    stacks: usize,
    /// Kept as long as the rest.
    _mapping: Mapping,
}

impl Memory {
    /// Memory of `kind` for `stacks` stacks.
    pub(super) fn new(kind: Kind, stacks: usize) -> Result<Self, NoMemory> {
        let bytes = (stacks * STACK).next_multiple_of(LARGE);
        check_available(bytes)?;
        let mapping = Mapping::new(bytes + LARGE)?;
        let start = VirtAddr::new(mapping.start.get().next_multiple_of(LARGE));
        let memory = Self { kind, start, stacks, _mapping: mapping };
        memory.fill(bytes)?;
        Ok(memory)
    }

    fn fill(&self, bytes: usize) -> Result<(), NoMemory> {
        match self.kind {
            Kind::Scattered => {
                self.advise(bytes, libc::MADV_NOHUGEPAGE)?;
                scattered(self.stacks).for_each(|stack| self.touch(self.top(stack).wrapping_sub(PAGE)));
                self.check(bytes, 0)
            }
            Kind::Large => self.fill_with_large(bytes),
            Kind::InARow => {
                self.fill_with_large(bytes)?;
                self.split(bytes)?;
                self.check(bytes, 0)
            }
        }
    }

    fn fill_with_large(&self, bytes: usize) -> Result<(), NoMemory> {
        self.advise(bytes, libc::MADV_HUGEPAGE)?;
        (0..bytes).step_by(LARGE).for_each(|offset| self.touch(self.start.wrapping_add(offset)));
        if self.check(bytes, bytes).is_err() {
            // Where there were no 2 MiB in one piece: the kernel is asked to make room, which it may refuse.
            let _ = self.advise(bytes, libc::MADV_COLLAPSE);
        }
        self.check(bytes, bytes)
    }

    /// Splits each large page where it is: another protection for a part of it takes entries of its own, and they stay when it
    /// is the same for all again.
    fn split(&self, bytes: usize) -> Result<(), NoMemory> {
        self.advise(bytes, libc::MADV_NOHUGEPAGE)?;
        for offset in (0..bytes).step_by(LARGE) {
            for access in [libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE] {
                let at = self.start.wrapping_add(offset).as_mut_ptr();
                // SAFETY: a page of this memory, which nobody uses yet.
                check("mprotect", unsafe { libc::mprotect(at, PAGE, access) })?;
            }
        }
        Ok(())
    }

    fn advise(&self, bytes: usize, advice: i32) -> Result<(), NoMemory> {
        // SAFETY: advice about large pages, for memory that is ours, changes nothing that a program can see.
        check("madvise", unsafe { libc::madvise(self.start.as_mut_ptr(), bytes, advice) })
    }

    fn touch(&self, addr: VirtAddr) {
        // SAFETY: an address inside the mapping, which is readable and writable, and nobody else's.
        unsafe { ptr::write_volatile(addr.as_mut_ptr::<u8>(), 1) };
    }

    /// Whether the kernel did as it was asked: `large` bytes are in large pages.
    fn check(&self, bytes: usize, large: usize) -> Result<(), NoMemory> {
        let system = |error| NoMemory::System { what: "/proc/self/smaps", error };
        let smaps = std::fs::read_to_string("/proc/self/smaps").map_err(system)?;
        let large_kib = large_kib(&smaps, self.start.get(), self.start.get() + bytes);
        if large_kib == large >> 10 { Ok(()) } else { Err(NoMemory::OtherPages { kib: bytes >> 10, large_kib }) }
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    /// The first address above `stack`.
    pub(super) const fn top(&self, stack: usize) -> VirtAddr {
        self.start.wrapping_add((stack + 1) * STACK)
    }

    /// How the pages at the tops of neighbouring stacks lie to each other, as far as this process may know.
    pub(super) fn note(&self) -> String {
        let frames: io::Result<Vec<u64>> = self.frames();
        match frames {
            Ok(frames) if frames.iter().all(|&frame| frame != 0) => {
                let distance = (STACK / PAGE) as u64;
                let apart = frames.windows(2).filter(|pair| pair[1].wrapping_sub(pair[0]) != distance).count();
                format!("{apart} of {} neighbours lie elsewhere in memory", frames.len().saturating_sub(1))
            }
            _ => "where the pages lie in memory is not for this process to see".to_owned(),
        }
    }

    /// The numbers of the frames at the tops of all stacks; zeroes where they are secret.
    fn frames(&self) -> io::Result<Vec<u64>> {
        let pagemap = File::open("/proc/self/pagemap")?;
        let frame = |stack| {
            let mut entry = [0; 8];
            let page = (self.top(stack).get() - 1) / PAGE;
            pagemap.read_exact_at(&mut entry, page as u64 * 8)?;
            // Bits 0 to 54 are the frame's number (Linux, admin-guide/mm/pagemap).
            Ok(u64::from_ne_bytes(entry) & ((1 << 55) - 1))
        };
        (0..self.stacks).map(frame).collect()
    }
}

/// Refuses memory that would leave the machine with less than as much again.
fn check_available(bytes: usize) -> Result<(), NoMemory> {
    let system = |error| NoMemory::System { what: "/proc/meminfo", error };
    let (mib, available_mib) = (bytes >> 20, available_mib().map_err(system)?);
    if 2 * mib <= available_mib { Ok(()) } else { Err(NoMemory::TooLittle { mib, available_mib }) }
}

/// The numbers below `count` in an order in which no two neighbours follow each other, for most counts.
fn scattered(count: usize) -> impl Iterator<Item = usize> {
    // An odd step, which shares no divisor with a power of two.
    let step = (count * 382 / 1000) | 1;
    (0..count).map(move |i| i * step % count)
}

fn check(what: &'static str, result: i32) -> Result<(), NoMemory> {
    if result == 0 { Ok(()) } else { Err(NoMemory::System { what, error: io::Error::last_os_error() }) }
}

/// Anonymous memory that goes when this is dropped.
struct Mapping {
    start: VirtAddr,
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize) -> Result<Self, NoMemory> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a mapping at an address that the kernel chooses takes the place of no other.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(NoMemory::System { what: "mmap", error: io::Error::last_os_error() });
        }
        Ok(Self { start: VirtAddr::new(start.expose_provenance()), bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, whole, and whoever stood on its stacks is suspended for ever.
        let _ = unsafe { libc::munmap(self.start.as_mut_ptr(), self.bytes) };
    }
}

/// The KiB of large pages in the mappings that overlap `start..end`, as `/proc/self/smaps` has them.
fn large_kib(smaps: &str, start: usize, end: usize) -> usize {
    let (mut inside, mut sum) = (false, 0);
    for line in smaps.lines() {
        if let Some((from, to)) = range(line) {
            inside = from < end && to > start;
        } else if let Some(rest) = line.strip_prefix("AnonHugePages:").filter(|_| inside) {
            sum += rest.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        }
    }
    sum
}

/// The addresses of a line that begins a mapping.
fn range(line: &str) -> Option<(usize, usize)> {
    let (from, to) = line.split_whitespace().next()?.split_once('-')?;
    let number = |word| usize::from_str_radix(word, 16).ok();
    Some((number(from)?, number(to)?))
}

#[cfg(test)]
mod tests {
    use super::{Kind, Memory, large_kib, scattered};

    const SMAPS: &str = "\
7f0000000000-7f0000400000 rw-p 00000000 00:00 0
Size:               4096 kB
AnonHugePages:      2048 kB
7f0000400000-7f0000600000 rw-p 00000000 00:00 0 [anon: x]
AnonHugePages:      1024 kB
7f0000800000-7f0000a00000 rw-p 00000000 00:00 0
AnonHugePages:       512 kB
";

    #[test]
    fn large_pages_are_counted_in_the_mappings_that_are_meant() {
        assert_eq!(large_kib(SMAPS, 0x7f00_0020_0000, 0x7f00_0050_0000), 3072);
        assert_eq!(large_kib(SMAPS, 0x7f00_0060_0000, 0x7f00_0080_0000), 0);
        assert_eq!(large_kib(SMAPS, 0x7f00_0090_0000, usize::MAX), 512);
    }

    #[test]
    fn each_stack_is_touched_once_and_neighbours_are_not_touched_in_a_row() {
        for count in [16, 1024, 65_536] {
            let order: Vec<usize> = scattered(count).collect();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..count) && order.windows(2).all(|pair| pair[0].abs_diff(pair[1]) > 1));
        }
    }

    #[test]
    fn memory_is_of_the_kind_that_was_asked_for_or_refused_with_the_reason() {
        for kind in Kind::ALL {
            match Memory::new(kind, 200) {
                Ok(memory) => assert!(memory.kind() == kind && !memory.note().is_empty()),
                Err(why) => assert!(kind != Kind::Scattered && !why.to_string().is_empty(), "{why}"),
            }
        }
    }
}
