//! Addresses, pages and CPUs as types, so that none of them is a bare `usize` in a public signature.
//!
//! Arithmetic on an address says what it does when it leaves the address space: `checked_add` returns `None`,
//! `offset_from` is defined only upwards. None of it touches memory, so all of it may be used in any context,
//! the fault path included.

use core::fmt;

/// A virtual address, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct VirtAddr(usize);

/// A physical address, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct PhysAddr(u64);

/// The number of a CPU, from 0, dense enough to index a table of per-CPU blocks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Cpu(usize);

impl VirtAddr {
    /// The address `addr`, in bytes. Any value is accepted: an address that faults may be any word at all.
    #[must_use]
    pub const fn new(addr: usize) -> Self {
        Self(addr)
    }

    /// The address of what `ptr` points to, without its provenance.
    #[must_use]
    pub fn of<T: ?Sized>(ptr: *const T) -> Self {
        Self(ptr.addr())
    }

    /// The address as an integer, in bytes.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0
    }

    /// The address `bytes` above this one, or `None` past the end of the address space.
    #[must_use]
    pub const fn checked_add(self, bytes: usize) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The address `bytes` above this one, wrapping at the end of the address space.
    ///
    /// For offsets already known to lie inside a range that was checked when it was made.
    #[must_use]
    pub const fn wrapping_add(self, bytes: usize) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// The address `bytes` below this one, wrapping at zero.
    #[must_use]
    pub const fn wrapping_sub(self, bytes: usize) -> Self {
        Self(self.0.wrapping_sub(bytes))
    }

    /// The distance in bytes from `lower` up to this address, or `None` if `lower` is above it.
    #[must_use]
    pub const fn offset_from(self, lower: Self) -> Option<usize> {
        self.0.checked_sub(lower.0)
    }

    /// The distance in bytes between the two addresses, whichever is the higher one.
    #[must_use]
    pub const fn distance(self, other: Self) -> usize {
        self.0.abs_diff(other.0)
    }

    /// Whether the address is a multiple of `align` bytes, a power of two.
    #[must_use]
    pub const fn is_aligned(self, align: usize) -> bool {
        self.0 & align.wrapping_sub(1) == 0
    }

    /// A pointer to this address, with the provenance of memory that the platform exposed.
    #[must_use]
    pub const fn as_mut_ptr<T>(self) -> *mut T {
        core::ptr::with_exposed_provenance_mut(self.0)
    }
}

impl PhysAddr {
    /// The physical address `addr`, in bytes.
    #[must_use]
    pub const fn new(addr: u64) -> Self {
        Self(addr)
    }

    /// The address as an integer, in bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The address `bytes` above this one, wrapping at the end of the address space.
    #[must_use]
    pub const fn wrapping_add(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl Cpu {
    /// The CPU numbered `index`.
    #[must_use]
    pub const fn new(index: u32) -> Self {
        Self(index as usize)
    }

    /// The CPU numbered `index`.
    #[must_use]
    pub const fn from_index(index: usize) -> Self {
        Self(index)
    }

    /// The number, as an index into a table of per-CPU blocks.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}

impl fmt::Debug for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::LowerHex for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{:x}", self.0)
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A half-open range of virtual addresses, `start..end`, in bytes.
///
/// Having a `VirtRange` means that `start <= end`: it never wraps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VirtRange {
    start: VirtAddr,
    end: VirtAddr,
}

impl VirtRange {
    /// The empty range at address zero.
    pub const EMPTY: Self = Self { start: VirtAddr::new(0), end: VirtAddr::new(0) };

    /// The range of `bytes` from `start`, or `None` if it leaves the address space.
    #[must_use]
    pub const fn new(start: VirtAddr, bytes: usize) -> Option<Self> {
        match start.checked_add(bytes) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// The first address in the range.
    #[must_use]
    pub const fn start(self) -> VirtAddr {
        self.start
    }

    /// The first address past the range.
    #[must_use]
    pub const fn end(self) -> VirtAddr {
        self.end
    }

    /// The length in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.end.get() - self.start.get()
    }

    /// Whether `addr` lies in the range.
    #[must_use]
    pub const fn contains(self, addr: VirtAddr) -> bool {
        self.start.get() <= addr.get() && addr.get() < self.end.get()
    }
}

/// A run of whole pages in virtual memory. The page size is the platform's.
///
/// Having a `Pages` from this crate means that the run starts on a page boundary, is not empty, and lies in one area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pages {
    start: VirtAddr,
    count: usize,
}

impl Pages {
    /// The run of `count` pages from the page boundary `start`.
    #[must_use]
    pub const fn new(start: VirtAddr, count: usize) -> Self {
        Self { start, count }
    }

    /// The address of the first page.
    #[must_use]
    pub const fn start(self) -> VirtAddr {
        self.start
    }

    /// The number of pages.
    #[must_use]
    pub const fn count(self) -> usize {
        self.count
    }

    /// The addresses of the pages, lowest first, for pages of `page_size` bytes.
    #[must_use]
    pub fn addresses(self, page_size: usize) -> impl DoubleEndedIterator<Item = VirtAddr> + ExactSizeIterator {
        (0..self.count).map(move |i| self.start.wrapping_add(i.wrapping_mul(page_size)))
    }
}
