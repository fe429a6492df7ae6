//! The range in host memory. Only what is mapped of the library's records can be reached: all else faults, as it would in a kernel.

use core::ptr;

use super::tables::CHUNK;

#[derive(Debug)]
pub(super) struct Host {
    reserved: *mut libc::c_void,
    bytes: usize,
}

// It is a reservation of addresses.
unsafe impl Send for Host {}
unsafe impl Sync for Host {}

impl Host {
    /// Room for `bytes` from a chunk's beginning on.
    pub(super) fn new(bytes: usize) -> Self {
        let bytes = bytes + CHUNK;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let reserved = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(reserved, libc::MAP_FAILED, "the host has addresses");
        let _ = reserved.expose_provenance();
        Self { reserved, bytes }
    }

    pub(super) fn start(&self) -> usize {
        self.reserved.addr().next_multiple_of(CHUNK)
    }

    fn at(&self, addr: usize) -> *mut libc::c_void {
        self.reserved.wrapping_byte_add(addr - self.reserved.addr())
    }

    /// Makes memory there, which reads as zero.
    pub(super) fn map(&self, addr: usize, bytes: usize) {
        let result = unsafe { libc::mprotect(self.at(addr), bytes, libc::PROT_READ | libc::PROT_WRITE) };
        assert_eq!(result, 0, "the host has memory");
    }

    pub(super) fn unmap(&self, addr: usize, bytes: usize) {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        let result = unsafe { libc::mmap(self.at(addr), bytes, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(result, libc::MAP_FAILED, "the host takes memory back");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        unsafe { libc::munmap(self.reserved, self.bytes) };
    }
}
