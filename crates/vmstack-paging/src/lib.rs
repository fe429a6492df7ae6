//! The page-table formats of x86-64, AArch64 and RISC-V as types, and one mapper over all of them.
//!
//! A kernel that gives its tasks virtually mapped stacks needs little of page tables, but needs that little to be
//! exact: map a handful of pages or none, take them away so that their frames are remembered without memory of their
//! own, read a translation in the fault path, and know which pages were written. This crate is that little.
//!
//! ```text
//!             attributes, entry              what an entry can say, in no architecture's words
//!                    │
//!   format: x86_64, aarch64, riscv64         how each architecture writes it in 64 bits
//!                    │
//!             table, memory                  512 atomic entries; the one door to memory
//!                    │
//!          run, walk ──> Mapper              from an address to its slot, once for each leaf table
//!                    │
//!     map · park · leaf · sweep · visit · tree       what is done with slots, in the order in which a mapping lives
//!                    │
//!                  group                    the same for a few slots that are remembered
//!        fill · unused · detach             many slots at once: from runs of frames, without dirty bits, whole tables
//! ```
//!
//! # What may not enter
//!
//! No assembly, no `cfg(target_arch)`, no allocation, no dependency but `vmstack` (for its address types). Every format
//! is compiled and tested on every host. Nothing here flushes a TLB, issues a barrier that only hardware sees, or loads
//! a root register: each method says what its caller has to flush and when, and `vmstack-arch` has the instructions.
//!
//! # What holds
//!
//! - An entry of a live mapping changes by atomic read-modify-write only, so a dirty bit that the hardware sets at the
//!   same moment is never lost; but where the caller says that nobody wants it ([`Unused`]).
//! - Every batch is all or nothing. [`Mapper::map`] first *claims* the entries with values that the hardware does not
//!   look at, then publishes them: a batch that fails was never visible to any CPU, so its frames need no shootdown
//!   (INV-FRAME).
//! - Tables appear on first use and are kept until [`Mapper::free_tables`] or [`Mapper::detach`] (INV-MAPPED).
//! - Taking mappings away needs no memory (INV-FREE): a [parked](Mapper::park) entry remembers its own frame.
//! - Nothing takes a lock, sleeps or recurses deeper than the levels of the format. [`Mapper::translate`] only reads,
//!   so the fault path may call it (INV-FAULT).
//!
//! Mappers on several CPUs may work in one tree at the same time, as long as no two of them name the same pages: tables
//! are put in by compare-and-exchange, and who comes second uses the first one's.

#![cfg_attr(not(test), no_std)]

mod attributes;
mod detach;
mod entry;
mod error;
mod fault;
mod fill;
mod format;
mod group;
mod leaf;
mod map;
mod mapper;
mod memory;
mod park;
mod run;
mod sweep;
mod table;
mod tree;
mod unused;
mod visit;
mod walk;

pub use attributes::{Access, Attributes, WritableAndExecutable};
pub use detach::Detached;
pub use entry::{Entry, Leaf, Level};
pub use error::{LeafError, MapError};
pub use fault::{Fault, FaultKind};
pub use format::aarch64::{self, Aarch64, Aarch64Kernel, Aarch64User};
pub use format::riscv64::{self, Riscv64, Sv39, Sv48, Sv57};
pub use format::x86_64::{self, X86_64, X86_64La57};
pub use format::{Format, Halves};
pub use group::{Group, LeafTable};
pub use mapper::Mapper;
pub use memory::TableMemory;
pub use table::{Slot, Table};
pub use unused::{Taken, Unused};
pub use visit::Census;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

const _: () = assert!(usize::BITS == 64, "the formats have 64-bit virtual addresses: build for a 64-bit target");
