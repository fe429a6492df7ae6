//! The kernel's buffers for devices, as the files that are tested here know them: bytes of the host's heap.

use std::ops::{Deref, DerefMut};

#[derive(Debug)]
pub(crate) struct DmaBuffer(Vec<u8>);

impl DmaBuffer {
    #[expect(clippy::unnecessary_wraps, reason = "the kernel's may fail")]
    pub(crate) fn new(bytes: usize) -> Option<Self> {
        Some(Self(vec![0; bytes]))
    }
}

impl Deref for DmaBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for DmaBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
