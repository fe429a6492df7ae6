//! What the loader tells the kernel: the memory map, the command line, the modules, where ACPI's tables are.
//!
//! PVH's `hvm_start_info` (Xen, `public/arch-x86/hvm/start_info.h`), version 1, in little-endian words:
//!
//! ```text
//!  0 u32 magic 0x336ec578      4 u32 version      8 u32 flags     12 u32 number of modules
//! 16 u64 module list          24 u64 command line                 32 u64 RSDP
//! 40 u64 memory map           48 u32 its entries  52 u32 reserved
//! module:  u64 address, u64 bytes, u64 command line, u64 reserved
//! memory:  u64 address, u64 bytes, u32 type, u32 reserved
//! ```
//!
//! Nothing in it is believed before it is looked at: counts are bounded, ranges must not wrap, and memory is read
//! through a function that says no to an address it cannot reach. So all of this runs on any host, on any bytes. It
//! takes no lock and allocates nothing; the result borrows what the loader left, which must not be reused before the
//! command line and the modules are done with.

use core::fmt;

use vmstack::PhysAddr;

/// Reads physical memory: so many bytes from an address, or `None` if they cannot be reached.
pub(crate) trait ReadPhys: Fn(PhysAddr, usize) -> Option<&'static [u8]> {}

impl<F: Fn(PhysAddr, usize) -> Option<&'static [u8]>> ReadPhys for F {}

const MAGIC: u32 = 0x336e_c578;
const HEADER_BYTES: usize = 56;
const MODULE_BYTES: usize = 32;
const REGION_BYTES: usize = 24;
const MAX_MODULES: u32 = 16;
const MAX_REGIONS: u32 = 1024;
/// The longest command line, in bytes.
const MAX_COMMAND_LINE: usize = 64 * 1024;
const USABLE: u32 = 1;

/// Why the start info cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StartInfoError {
    /// This many bytes at this address cannot be read.
    Unreachable(PhysAddr, usize),
    /// The first word is not PVH's magic number.
    BadMagic(u32),
    /// The version is too old to hold a memory map.
    NoMemoryMap(u32),
    /// There are more modules or memory regions than this parser takes.
    TooMany(u32),
    /// The command line does not end, or is not UTF-8.
    BadCommandLine(PhysAddr),
}

impl fmt::Display for StartInfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(addr, bytes) => write!(f, "the loader left {bytes} bytes at {addr:?}: out of reach"),
            Self::BadMagic(word) => write!(f, "start info begins with {word:#x}: not booted through PVH"),
            Self::NoMemoryMap(version) => write!(f, "start info of version {version} has no memory map"),
            Self::TooMany(count) => write!(f, "start info lists {count} modules or memory regions: too many"),
            Self::BadCommandLine(addr) => write!(f, "the command line at {addr:?} is endless or not UTF-8"),
        }
    }
}

/// A range of physical memory, in bytes. It does not wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PhysRange {
    /// The first address.
    pub(crate) start: PhysAddr,
    /// The length in bytes.
    pub(crate) bytes: u64,
}

impl PhysRange {
    fn new(start: u64, bytes: u64) -> Option<Self> {
        start.checked_add(bytes).map(|_| Self { start: PhysAddr::new(start), bytes })
    }

    /// The first address past the range.
    #[must_use]
    pub(crate) const fn end(self) -> PhysAddr {
        self.start.wrapping_add(self.bytes)
    }

    /// Whether the two have a byte in common.
    #[must_use]
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

/// An entry of the memory map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Region {
    /// Where.
    pub(crate) range: PhysRange,
    /// The type, in E820's numbers: 1 is memory, everything else is to be left alone.
    pub(crate) kind: u32,
}

impl Region {
    /// Whether this is memory that the kernel may use. What the loader put there is memory too: see
    /// `StartInfo::in_use`.
    #[must_use]
    pub(crate) const fn is_usable(self) -> bool {
        self.kind == USABLE
    }
}

/// What the loader left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartInfo {
    header: PhysRange,
    regions: &'static [u8],
    modules: &'static [u8],
    regions_at: PhysRange,
    modules_at: PhysRange,
    command_line: &'static str,
    command_line_at: PhysRange,
    rsdp: Option<PhysAddr>,
}

impl StartInfo {
    /// Reads the start info at `addr`.
    ///
    /// # Errors
    ///
    /// The first thing that is not as PVH says it must be.
    pub(crate) fn read(addr: PhysAddr, read: impl ReadPhys) -> Result<Self, StartInfoError> {
        let header = fetch(&read, addr, HEADER_BYTES)?;
        let magic = word32(header, 0);
        if magic != MAGIC {
            return Err(StartInfoError::BadMagic(magic));
        }
        let version = word32(header, 4);
        if version < 1 {
            return Err(StartInfoError::NoMemoryMap(version));
        }
        let (modules, modules_at) = table(&read, word64(header, 16), word32(header, 12), MODULE_BYTES, MAX_MODULES)?;
        let (regions, regions_at) = table(&read, word64(header, 40), word32(header, 48), REGION_BYTES, MAX_REGIONS)?;
        let (command_line, command_line_at) = command_line(&read, PhysAddr::new(word64(header, 24)))?;
        let rsdp = word64(header, 32);
        Ok(Self {
            header: PhysRange { start: addr, bytes: HEADER_BYTES as u64 },
            regions,
            modules,
            regions_at,
            modules_at,
            command_line,
            command_line_at,
            rsdp: (rsdp != 0).then_some(PhysAddr::new(rsdp)),
        })
    }

    /// The memory map, as the loader has it: unsorted, perhaps overlapping. Entries that wrap are left out.
    pub(crate) fn regions(&self) -> impl Iterator<Item = Region> + use<> {
        self.regions.chunks_exact(REGION_BYTES).filter_map(|entry| {
            let range = PhysRange::new(word64(entry, 0), word64(entry, 8))?;
            Some(Region { range, kind: word32(entry, 16) })
        })
    }

    /// Where the modules are: the first is the initial file system. Entries that wrap are left out.
    pub(crate) fn modules(&self) -> impl Iterator<Item = PhysRange> + use<> {
        let entries = self.modules.chunks_exact(MODULE_BYTES);
        entries.filter_map(|entry| PhysRange::new(word64(entry, 0), word64(entry, 8)))
    }

    /// The command line, without its final zero; empty if there is none.
    #[must_use]
    pub(crate) fn command_line(&self) -> &'static str {
        self.command_line
    }

    /// Where ACPI's root pointer is, if the loader says so.
    #[must_use]
    pub(crate) fn rsdp(&self) -> Option<PhysAddr> {
        self.rsdp
    }

    /// Memory that holds what the loader left: not to be given away while it is wanted. ACPI's tables are not in it, as
    /// they lie in memory that the map does not call usable.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = PhysRange> + use<> {
        [self.header, self.regions_at, self.modules_at, self.command_line_at].into_iter().chain(self.modules())
    }

    /// The highest free page below 640 KiB, where an AP can begin: usable, and not one that the loader left something
    /// in.
    #[must_use]
    pub(crate) fn trampoline_page(&self) -> Option<PhysAddr> {
        const PAGE: u64 = 4096;
        (1..0xa0).rev().map(|page| PhysRange { start: PhysAddr::new(page * PAGE), bytes: PAGE }).find_map(|page| {
            let contains = |range: PhysRange| range.start <= page.start && page.end() <= range.end();
            let usable = self.regions().any(|region| region.is_usable() && contains(region.range));
            let reserved = self.regions().any(|region| !region.is_usable() && region.range.overlaps(page));
            let taken = self.in_use().any(|range| range.overlaps(page));
            (usable && !reserved && !taken).then_some(page.start)
        })
    }
}

fn fetch(read: &impl ReadPhys, addr: PhysAddr, bytes: usize) -> Result<&'static [u8], StartInfoError> {
    read(addr, bytes).filter(|found| found.len() == bytes).ok_or(StartInfoError::Unreachable(addr, bytes))
}

/// A table of `count` entries of `entry` bytes each; empty if there are none.
fn table(
    read: &impl ReadPhys,
    addr: u64,
    count: u32,
    entry: usize,
    most: u32,
) -> Result<(&'static [u8], PhysRange), StartInfoError> {
    let start = PhysAddr::new(addr);
    if count > most {
        return Err(StartInfoError::TooMany(count));
    }
    if count == 0 {
        return Ok((&[], PhysRange { start, bytes: 0 }));
    }
    let bytes = count as usize * entry;
    let found = fetch(read, start, bytes)?;
    Ok((found, PhysRange { start, bytes: bytes as u64 }))
}

/// The zero-terminated text at `addr`, and where it lies, its zero included.
fn command_line(read: &impl ReadPhys, addr: PhysAddr) -> Result<(&'static str, PhysRange), StartInfoError> {
    if addr.get() == 0 {
        return Ok(("", PhysRange { start: addr, bytes: 0 }));
    }
    let bad = StartInfoError::BadCommandLine(addr);
    let mut length = 0;
    // Byte by byte: what lies behind the zero may be out of reach.
    while fetch(read, addr.wrapping_add(length as u64), 1)? != [0] {
        length += 1;
        if length > MAX_COMMAND_LINE {
            return Err(bad);
        }
    }
    let text = core::str::from_utf8(fetch(read, addr, length)?).map_err(|_| bad)?;
    Ok((text, PhysRange { start: addr, bytes: length as u64 + 1 }))
}

/// The word at `offset`, which lies within `bytes`; zero if it does not.
pub(super) fn word32(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}

/// The double word at `offset`, which lies within `bytes`; zero if it does not.
pub(super) fn word64(bytes: &[u8], offset: usize) -> u64 {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word))
}
