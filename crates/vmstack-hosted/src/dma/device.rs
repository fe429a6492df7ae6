//! A device: it has a way of its own to the memory, and knows physical addresses only.

use core::ptr;
use std::os::fd::BorrowedFd;

use vmstack::Segment;

use crate::sys::{Errno, Region};

/// A device, with a second mapping of all memory.
#[derive(Debug)]
pub(super) struct Device {
    memory: Region,
}

impl Device {
    /// One on a bus with `bytes` bytes of memory, which is `file`.
    pub(super) fn new(file: BorrowedFd<'_>, bytes: usize) -> Result<Self, Errno> {
        Ok(Self { memory: Region::share(file, bytes)? })
    }

    /// Where a segment is in this mapping.
    ///
    /// # Panics
    ///
    /// If there is no such memory: a device that is told so would stop the machine.
    fn at(&self, segment: Segment) -> *mut u8 {
        let range = self.memory.range();
        let at = range.start().wrapping_add(segment.start.get() as usize);
        let fits = range.contains(at) && segment.bytes <= range.end().distance(at);
        assert!(fits, "a device was told of {segment:?}, where there is no memory");
        at.as_mut_ptr()
    }

    /// Reads `segments`, one after the other.
    pub(super) fn read(&self, segments: &[Segment]) -> Vec<u8> {
        let mut bytes = vec![0; segments.iter().map(|segment| segment.bytes).sum()];
        let mut rest = &mut bytes[..];
        for &segment in segments {
            let (here, more) = rest.split_at_mut(segment.bytes);
            self.read_into(segment, here);
            rest = more;
        }
        bytes
    }

    /// Reads `segment`, as far as `here` has room.
    pub(super) fn read_into(&self, segment: Segment, here: &mut [u8]) {
        let bytes = segment.bytes.min(here.len());
        // SAFETY: the segment is in this mapping, which lives as long as `self`; the bytes read are nobody's reference.
        unsafe { ptr::copy_nonoverlapping(self.at(segment), here.as_mut_ptr(), bytes) };
    }

    /// Writes `bytes` to `segments`, one after the other: as many as there are, if they are fewer.
    pub(super) fn write(&self, segments: &[Segment], mut bytes: &[u8]) {
        for &segment in segments {
            let (here, more) = bytes.split_at(segment.bytes.min(bytes.len()));
            // SAFETY: as in `read_into`.
            unsafe { ptr::copy_nonoverlapping(here.as_ptr(), self.at(segment), here.len()) };
            bytes = more;
        }
    }
}
