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
//! and their text, the calls that led to them ([`Trace`]), the last reports for whoever reads them ([`Ring`]), usage
//! ([`Counters`], [`Recount`]), and the door to devices ([`DmaDoor`]).
//!
//! # Devices
//!
//! A stack of pages is no memory for a device: it lies in pieces, and it may be given back while the device still writes. [`DmaDoor::pass`] takes
//! an address and a length of whatever memory, knows in about ten instructions whether it is a stack's, of any task, and then does what the
//! kernel has chosen ([`DmaPolicy`]): refuses, naming the caller and the stack's owner; or gives the device a copy; or gives it the stack itself, pinned
//! until the device is done. A driver gets a [`Transfer`], whose [`segments`](Transfer::segments) are for the device, and ends it.
//!
//! # Contexts
//!
//! | what | task | interrupt | NMI | fault path |
//! | --- | --- | --- | --- | --- |
//! | [`StackArea::init`] | yes | | | |
//! | [`StackArea::alloc`], [`StackArea::alloc_numbered`], dropping a [`KernelStack`] or [`Pin`], [`StackArea::pin`] | yes | yes | | |
//! | [`StackArea::alloc_waiting`], [`StackArea::alloc_numbered_waiting`], [`StackArea::drain`], [`StackArea::leave_cpu`] | yes, may wait | | | |
//! | [`StackArea::trim`] | yes | | | |
//! | [`StackArea::pressure`], [`StackArea::answer_pressure`] | yes | yes | | |
//! | [`StackArea::on_fault`], [`StackArea::classify`], [`StackArea::geometry`] | yes | yes | yes | yes |
//! | [`StackArea::locate`], [`DmaDoor::locate`], [`DmaDoor::suspects`] | yes | yes | yes | yes |
//! | [`DmaDoor::pass`], [`Transfer::finish`] | yes | yes | | |
//! | [`Trace::take`], [`Trace::retake`], [`Ring`] | yes | yes | yes | yes |
#![cfg_attr(not(test), no_std)]
#![cfg_attr(
    all(loom, test),
    expect(dead_code, reason = "loom's atomics have no const constructors: only what the models use is compiled")
)]

mod addr;
#[cfg(not(all(loom, test)))]
mod area;
#[cfg(not(all(loom, test)))]
mod cache;
mod chain;
#[cfg(not(all(loom, test)))]
mod classify;
mod config;
mod depot;
mod dma;
#[cfg(not(all(loom, test)))]
mod error;
#[cfg(not(all(loom, test)))]
mod fault;
mod flight;
mod geometry;
#[cfg(not(all(loom, test)))]
mod hand;
#[cfg(not(all(loom, test)))]
mod here;
#[cfg(not(all(loom, test)))]
mod hit;
mod idle;
#[cfg(not(all(loom, test)))]
mod locate;
#[cfg(not(all(loom, test)))]
mod metadata;
#[cfg(not(all(loom, test)))]
mod numbered;
mod numbers;
mod platform;
mod pressure;
#[cfg(not(all(loom, test)))]
mod reclaim;
#[cfg(not(all(loom, test)))]
mod recover;
#[cfg(not(all(loom, test)))]
mod registry;
#[cfg(not(all(loom, test)))]
mod release;
#[cfg(not(all(loom, test)))]
mod report;
mod ring;
#[cfg(not(all(loom, test)))]
mod scrub;
mod slots;
#[cfg(not(all(loom, test)))]
mod stack;
mod sync;
#[cfg(not(all(loom, test)))]
mod trace;
mod usage;

pub use addr::{Cpu, Pages, PhysAddr, VirtAddr, VirtRange};
#[cfg(not(all(loom, test)))]
pub use area::StackArea;
#[cfg(not(all(loom, test)))]
pub use classify::Finding;
pub use config::{
    AreaConfig, GeometryError, MAX_CPUS, MAX_NODES, MAX_SLOTS, MAX_STACK_SIZE, MIN_STACK_SIZE, StackKind,
};
#[cfg(not(all(loom, test)))]
pub use dma::{
    BounceRegion, Direction, DmaCounters, DmaDoor, DmaError, DmaPolicy, DmaRequest, Passage, PoolError, PoolUsage,
    Refusal, Segment, Segments, Transfer, TransferList,
};
#[cfg(not(all(loom, test)))]
pub use error::{AllocError, InitError};
#[cfg(not(all(loom, test)))]
pub use fault::{FaultContext, StackFault, StackView, Verdict};
pub use flight::{Batch, Flight, Flushed, Retiring};
pub use geometry::{Geometry, SlotIndex};
#[cfg(not(all(loom, test)))]
pub use locate::{Located, StackSpan};
pub use numbers::Placement;
pub use platform::{Hint, Mapping, Node, NotMapped, Platform, Unmapped};
pub use pressure::Pressure;
#[cfg(not(all(loom, test)))]
pub use registry::{ExternalStack, RegisterError};
#[cfg(not(all(loom, test)))]
pub use report::Report;
pub use ring::{Claim, PrintState, Ring, RingFull, RingRecord, Writing};
#[cfg(not(all(loom, test)))]
pub use scrub::Scrub;
pub use slots::{Phase, PinError};
#[cfg(not(all(loom, test)))]
pub use stack::{KernelStack, Pin, RawStack, StackId};
#[cfg(not(all(loom, test)))]
pub use trace::{BigFrame, Call, CallGroup, MAX_CYCLE, Taking, Trace, TraceEnd, TraceText};
pub use usage::{Count, Counters, Recount};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Of the workspace, where there is one.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/adopt.md")]
struct Adopt;
