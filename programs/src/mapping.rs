//! Memory that a program asks the kernel for itself.

use core::ffi::c_int;
use std::io;
use std::ptr::NonNull;

/// Anonymous memory of this process, in small pages.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

impl Mapping {
    /// `length` bytes.
    ///
    /// # Errors
    ///
    /// The system's, when there is no such memory.
    pub fn new(length: usize) -> io::Result<Self> {
        const WAYS: c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: asks for memory that nobody has yet.
        let start = unsafe { libc::mmap(core::ptr::null_mut(), length, protection, WAYS, -1, 0) };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => {
                // A wish: a kernel without huge pages knows no such call.
                // SAFETY: changes how the memory is made, not what it holds.
                unsafe { libc::madvise(start.as_ptr().cast(), length, libc::MADV_NOHUGEPAGE) };
                Ok(Self { start, length })
            }
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Its first byte.
    #[must_use]
    pub const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Its bytes.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Writes to each page, so that it is there.
    pub fn touch(&self) {
        for offset in (0..self.length).step_by(4096) {
            // SAFETY: the offset lies in the mapping.
            let byte = unsafe { self.start.add(offset) };
            // SAFETY: the memory is writable; volatile, for nobody reads it.
            unsafe { byte.write_volatile(1) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the memory is this value's own, and goes with it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
