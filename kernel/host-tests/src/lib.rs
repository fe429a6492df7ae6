//! What in the kernel is pure logic, run on the host: parsers on right bytes, wrong ones and rubbish; structures against models.
//!
//! The kernel is a bare-metal executable that the host cannot link, so its files are included here by path. From the
//! root: `cargo test --manifest-path kernel/host-tests/Cargo.toml`.

#![cfg(test)]

extern crate alloc;

mod acpi;
mod block;
mod callbacks;
mod disk;
mod dma;
mod files;
mod locks;
mod memory;
mod mm;
#[cfg(loom)]
mod models;
mod programs;
mod random;
mod start_info;
mod sync;
mod task;
mod user_memory;
mod x86_64;

/// Where the kernel sees physical memory.
mod arch {
    pub(crate) mod layout {
        pub(crate) use crate::disk::world::phys_to_virt;
    }
}

/// The kernel as a platform of the library.
mod stacks {
    pub(crate) use crate::disk::world::Kernel;
}
