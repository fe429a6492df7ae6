//! Texts that are made for programs to read: they grow only while the kernel can spare the memory.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::mm::heap;

/// A text that is being written. A write fails when there is no memory for it.
#[derive(Debug, Default)]
pub(crate) struct Text(Vec<u8>);

impl Text {
    /// What was written.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        heap::reserve(&mut self.0, text.len()).map_err(|_| fmt::Error)?;
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
