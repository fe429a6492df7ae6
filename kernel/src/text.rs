//! Texts that are made for programs to read: they grow only while the kernel can spare the memory.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::mm::heap::{self, OutOfHeap};

/// A text that is being written. A write fails when there is no memory for it.
#[derive(Debug, Default)]
pub(crate) struct Text(Vec<u8>);

impl Text {
    /// Adds `bytes`, which need be no text.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), OutOfHeap> {
        heap::reserve(&mut self.0, bytes.len())?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// What was written.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes()).map_err(|_| fmt::Error)
    }
}
