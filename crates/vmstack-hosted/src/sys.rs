//! The system calls that the port makes, each with a type that says what it leaves behind.
//!
//! [`Region`] is a piece of address space that belongs to one owner and goes back when the owner is dropped. Everything
//! else of the port that maps or protects does it inside a region. Contexts: task; [`Region::cover`] and
//! [`Region::close`] need no memory of ours, so they also serve where nothing may be allocated.

use core::fmt;
use core::ptr;
use core::sync::atomic::AtomicU32;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use vmstack::{VirtAddr, VirtRange};

use crate::arch::PAGE_SIZE;

/// An error number of a system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(i32);

impl Errno {
    /// The number that the last failed call of this thread left.
    pub(crate) fn last() -> Self {
        Self(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }

    /// The number, as `errno.h` names it.
    #[must_use]
    pub const fn get(self) -> i32 {
        self.0
    }

    /// Whether the kernel said that memory, address space or mappings ran out.
    pub(crate) const fn is_out_of_memory(self) -> bool {
        self.0 == libc::ENOMEM
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&std::io::Error::from_raw_os_error(self.0), f)
    }
}

impl core::error::Error for Errno {}

/// Nothing if a call returned zero, else its error number.
pub(crate) fn check(result: libc::c_int) -> Result<(), Errno> {
    if result == 0 { Ok(()) } else { Err(Errno::last()) }
}

/// The page size of this system, in bytes.
pub(crate) fn page_size() -> usize {
    // SAFETY: sysconf only reads.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(0)
}

/// An anonymous file of `bytes` that takes memory only where it is touched.
pub(crate) fn memory_file(bytes: u64) -> Result<OwnedFd, Errno> {
    // SAFETY: the name is a C string that lives for ever.
    let fd = unsafe { libc::memfd_create(c"vmstack".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the call just returned it, so it is open and nobody else owns it.
    let file = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: sizes a file that is ours; a size out of range is refused.
    check(unsafe { libc::ftruncate(file.as_raw_fd(), bytes as libc::off_t) })?;
    Ok(file)
}

/// Address space that belongs to one owner.
///
/// Having a `Region` means that nothing outside of it maps, unmaps or protects any page of its range.
#[derive(Debug)]
pub(crate) struct Region {
    start: VirtAddr,
    bytes: usize,
}

impl Region {
    /// Reserves `bytes` of address space: no memory, no access.
    pub(crate) fn reserve(bytes: usize) -> Result<Self, Errno> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        Self::new(bytes, libc::PROT_NONE, flags, -1)
    }

    /// The same, at a multiple of `align` bytes, which is one of the page size.
    pub(crate) fn reserve_aligned(bytes: usize, align: usize) -> Result<Self, Errno> {
        let mut whole = Self::reserve(bytes + align)?;
        let below = whole.start.get().next_multiple_of(align) - whole.start.get();
        // What is below and above it goes back, each as a region of its own.
        let part = |start: usize, bytes| Self { start: whole.start.wrapping_add(start), bytes };
        let (low, high) = (part(0, below), part(below + bytes, align - below));
        (whole.start, whole.bytes) = (whole.start.wrapping_add(below), bytes);
        drop((low, high));
        Ok(whole)
    }

    /// Maps the first `bytes` of `file`, shared, readable and writable.
    pub(crate) fn share(file: BorrowedFd<'_>, bytes: usize) -> Result<Self, Errno> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        Self::new(bytes, access, libc::MAP_SHARED | libc::MAP_NORESERVE, file.as_raw_fd())
    }

    fn new(bytes: usize, access: i32, flags: i32, fd: i32) -> Result<Self, Errno> {
        // SAFETY: a mapping at an address that the kernel chooses takes the place of no other.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, flags, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(Self { start: VirtAddr::new(start.expose_provenance()), bytes })
    }

    /// The first address.
    pub(crate) const fn start(&self) -> VirtAddr {
        self.start
    }

    /// The address range.
    pub(crate) fn range(&self) -> VirtRange {
        VirtRange::new(self.start, self.bytes).unwrap_or(VirtRange::EMPTY)
    }

    fn at(&self, offset: usize, bytes: usize) -> *mut libc::c_void {
        debug_assert!(offset.checked_add(bytes).is_some_and(|end| end <= self.bytes));
        self.start.wrapping_add(offset).as_mut_ptr()
    }

    /// Makes `bytes` at `offset` readable and writable, with zeroes behind them if they were reserved.
    pub(crate) fn open(&self, offset: usize, bytes: usize) -> Result<(), Errno> {
        self.protect(offset, bytes, libc::PROT_READ | libc::PROT_WRITE)
    }

    /// Takes all access to `bytes` at `offset` away and leaves what is mapped there.
    pub(crate) fn close(&self, offset: usize, bytes: usize) -> Result<(), Errno> {
        self.protect(offset, bytes, libc::PROT_NONE)
    }

    fn protect(&self, offset: usize, bytes: usize, access: i32) -> Result<(), Errno> {
        // SAFETY: the range is this region's own; its owner knows who uses what in it.
        check(unsafe { libc::mprotect(self.at(offset, bytes), bytes, access) })
    }

    /// Maps `bytes` of `file` from `file_offset` at `offset`, in the place of what is there: readable, and `writable` if it is to be.
    pub(crate) fn place(
        &self,
        offset: usize,
        bytes: usize,
        file: BorrowedFd<'_>,
        file_offset: u64,
        writable: bool,
    ) -> Result<(), Errno> {
        let access = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        self.replace(offset, bytes, access, libc::MAP_SHARED, file.as_raw_fd(), file_offset)
    }

    /// Puts reserved address space in the place of what is mapped in `bytes` at `offset`.
    pub(crate) fn cover(&self, offset: usize, bytes: usize) -> Result<(), Errno> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        self.replace(offset, bytes, libc::PROT_NONE, flags, -1, 0)
    }

    fn replace(
        &self,
        offset: usize,
        bytes: usize,
        access: i32,
        flags: i32,
        fd: i32,
        file_offset: u64,
    ) -> Result<(), Errno> {
        let at = self.at(offset, bytes);
        // SAFETY: MAP_FIXED inside a region replaces only what belongs to it; its owner knows that nobody uses it.
        let got = unsafe { libc::mmap(at, bytes, access, flags | libc::MAP_FIXED, fd, file_offset as libc::off_t) };
        if got == at { Ok(()) } else { Err(Errno::last()) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the region is ours alone, whole, and nobody uses it any more. Whole regions can always be unmapped.
        let _ = unsafe { libc::munmap(self.at(0, self.bytes), self.bytes) };
    }
}

/// A table of words that are zero until they are stored, and take memory only from then on.
#[derive(Debug)]
pub(crate) struct Table {
    region: Region,
    words: usize,
}

impl Table {
    pub(crate) fn new(words: usize) -> Result<Self, Errno> {
        let bytes = (words * size_of::<AtomicU32>()).next_multiple_of(PAGE_SIZE).max(PAGE_SIZE);
        let region = Region::reserve(bytes)?;
        region.open(0, bytes)?;
        Ok(Self { region, words })
    }

    pub(crate) fn word(&self, index: usize) -> Option<&AtomicU32> {
        let word = self.region.start.wrapping_add(index * size_of::<AtomicU32>());
        // SAFETY: (1) below `words`, so inside the region, aligned, and readable and writable as long as `self` lives;
        // (2) only ever accessed as atomics, of which zero is a valid value.
        (index < self.words).then(|| unsafe { &*word.as_mut_ptr::<AtomicU32>() })
    }
}
