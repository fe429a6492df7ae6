//! The kernel's buffers for devices, as the files that are tested here know them: bytes of the host's heap. And its door, which is the test's.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use vmstack::PhysAddr;

pub(crate) use crate::disk::world::DOOR;

#[derive(Debug)]
pub(crate) struct DmaBuffer {
    bytes: Vec<u8>,
    shares: Arc<()>,
}

/// A device's share of a buffer, which is counted.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    _shares: Arc<()>,
}

impl DmaBuffer {
    #[expect(clippy::unnecessary_wraps, reason = "the kernel's may fail")]
    pub(crate) fn new(bytes: usize) -> Option<Self> {
        Some(Self { bytes: vec![0; bytes], shares: Arc::new(()) })
    }

    /// Where it is on the host: no other physical memory of these tests lies so high.
    pub(crate) fn phys(&self) -> PhysAddr {
        PhysAddr::new(self.bytes.as_ptr().expose_provenance() as u64)
    }

    pub(crate) fn hold(&self) -> Held {
        Held { _shares: self.shares.clone() }
    }

    /// How many shares devices have.
    pub(crate) fn shares(&self) -> usize {
        Arc::strong_count(&self.shares) - 1
    }
}

impl Deref for DmaBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for DmaBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}
