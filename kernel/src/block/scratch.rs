//! Buffers that are always there for one user at a time: a layer's that compares, a file's that reads.
//!
//! A buffer is bytes, whatever they are, so it is whole at every instruction: its lock is taken although a holder was killed. It is
//! made when it is first used, in a section, so it is its owner's or nobody's: none is lost with a killed task's frames.

use crate::dma::DmaBuffer;
use crate::sync::{AnyLock, Mutex, Section};

use super::BlockError;

/// A buffer that is made when it is first used.
#[derive(Debug)]
pub(crate) struct Scratch {
    bytes: usize,
    buffer: Mutex<Option<DmaBuffer>>,
}

/// One that nobody reads into, for crashes that want its lock.
static SPECIMEN: Scratch = Scratch::new(0);

/// A buffer's lock.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &SPECIMEN.buffer
}

impl Scratch {
    /// A buffer of `bytes`, which takes nothing yet.
    pub(crate) const fn new(bytes: usize) -> Self {
        Self { bytes, buffer: Mutex::new("block-buffer", None) }
    }

    /// Its size in bytes.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Runs `use_it` on the buffer, when nobody else has it. What is in it is anything.
    ///
    /// # Errors
    ///
    /// There is no memory for it.
    pub(crate) fn with<T>(&self, use_it: impl FnOnce(&mut DmaBuffer) -> T) -> Result<T, BlockError> {
        let mut buffer = self.buffer.lock_anyway();
        if buffer.is_none() {
            let _section = Section::enter();
            *buffer = DmaBuffer::new(self.bytes);
        }
        buffer.as_mut().map(use_it).ok_or(BlockError::NoMemory)
    }
}
