//! Virtually mapped kernel stacks, for any kernel.
//!
//! Each stack of a [`StackArea`] is built page by page in a range of virtual memory, with unmapped guards on both sides:
//! an overflow is caught at the instruction that makes it. [`StackArea::on_fault`] classifies the fault in constant time
//! from two words, the address and the stack pointer, without a lock, an allocation or a read that might fault, and says
//! whether the task can be killed and the machine go on. A per-CPU cache makes a stack as cheap as a direct-mapped one.
//!
//! The crate is `no_std`, has no `alloc` and no dependency, and knows no architecture, kernel or operating system: what it
//! needs, a kernel provides through one trait, [`Platform`].
//!
//! In the order in which a stack lives: [`geometry`](Geometry) (sizes, slots, addresses), slot records, the area itself
//! ([`StackArea`]), the owned handle ([`KernelStack`], [`Pin`]), the cache, reclaim, faults ([`StackFault`], [`Verdict`])
//! and their text, usage ([`Counters`], [`Recount`]).
//!
//! # Contexts
//!
//! | what | task | interrupt | NMI | fault path |
//! | --- | --- | --- | --- | --- |
//! | [`StackArea::init`] | yes | | | |
//! | [`StackArea::alloc`], dropping a [`KernelStack`] or [`Pin`], [`StackArea::pin`] | yes | yes | | |
//! | [`StackArea::alloc_waiting`], [`StackArea::drain`] | yes, may wait | | | |
//! | [`StackArea::on_fault`], [`StackArea::classify`], [`StackArea::geometry`] | yes | yes | yes | yes |
#![cfg_attr(not(any(test, loom)), no_std)]

mod addr;
#[cfg(not(loom))]
mod area;
#[cfg(not(loom))]
mod cache;
#[cfg(not(loom))]
mod fault;
mod geometry;
#[cfg(not(loom))]
mod metadata;
mod platform;
#[cfg(not(loom))]
mod reclaim;
#[cfg(not(loom))]
mod report;
mod slots;
#[cfg(not(loom))]
mod stack;
mod sync;
mod usage;

pub use addr::{Cpu, Pages, PhysAddr, VirtAddr, VirtRange};
#[cfg(not(loom))]
pub use area::{AllocError, InitError, StackArea};
#[cfg(not(loom))]
pub use fault::{ExternalStack, FaultContext, Finding, RegisterError, StackFault, StackView, Verdict};
pub use geometry::{
    AreaConfig, Geometry, GeometryError, MAX_CPUS, MAX_SLOTS, MAX_STACK_SIZE, MIN_STACK_SIZE, SlotIndex, StackKind,
};
pub use platform::{NotMapped, Platform, Unmapped};
#[cfg(not(loom))]
pub use report::Report;
pub use slots::{Phase, PinError};
#[cfg(not(loom))]
pub use stack::{KernelStack, Pin, RawStack, StackId};
pub use usage::{Counters, Recount};
