//! Memory: physical frames, the kernel's page tables, the heap, and users' address spaces.
//!
//! What may not enter: stacks (they are the library's), tasks, files.

pub(crate) mod fragments;
pub(crate) mod frames;
pub(crate) mod heap;
pub(crate) mod inject;
pub(crate) mod memory;
pub(crate) mod shortage;
pub(crate) mod slab;
pub(crate) mod space;
pub(crate) mod tables;
