//! The kernel's locks: their protocol, cut at every step, and the table of all of them.
//!
//! The protocol's files are the kernel's own; the words that they are made of and the parking lot are the test's.

#[path = "../../../src/sync/held.rs"]
pub(crate) mod held;
#[path = "../../../src/sync/raw.rs"]
pub(crate) mod raw;

mod declared;
mod lot;
mod protocol;
mod word;
