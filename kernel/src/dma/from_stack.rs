//! What must not compile: DMA from a stack, by the door for buffers that own their frames.
//!
//! Built by a test alone (`kernel/host-tests/tests/dma_from_stack.rs`), with `--cfg dma_from_stack`: each line that is marked must be an error, the one that it
//! is marked with, and there must be no other.

use super::DmaBuffer;
use crate::disk;

/// An array on the stack is no buffer.
pub(crate) fn array() {
    let mut bytes = [0_u8; disk::SECTOR];
    let _ = disk::read(0, &mut bytes, 0..disk::SECTOR); //~ E0308
}

/// Neither is a slice, whatever it is of: nobody knows what owns it.
pub(crate) fn slice(bytes: &mut [u8]) {
    let _ = disk::read(0, bytes, 0..disk::SECTOR); //~ E0308
    let _ = disk::write(0, bytes, 0..disk::SECTOR); //~ E0308
}

/// No buffer can be made of memory that somebody has.
pub(crate) fn of_an_array(bytes: [u8; disk::SECTOR]) -> DmaBuffer {
    bytes.into() //~ E0277
}

/// What a device has does not go while it has it: the buffer that was lent cannot be used for something else meanwhile.
pub(crate) fn twice(buffer: &mut DmaBuffer) {
    let bytes: &[u8] = buffer;
    let _ = disk::read(0, buffer, 0..disk::SECTOR); //~ E0502
    let _ = bytes.len();
}

/// The raw door can be had, but not without a word: whoever goes through it answers for the memory.
pub(crate) fn raw(list: &[vmstack::DmaRequest]) {
    let _ = disk::read_raw(0, list); //~ E0133
}
