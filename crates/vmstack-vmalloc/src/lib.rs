//! A vmalloc for any kernel: memory that is contiguous in virtual addresses and need not be in physical ones.
//!
//! A [`Vmalloc`] hands out *areas* of a range of virtual memory: of memory of its own, of frames that somebody lends, or of addresses alone.
//! Every area has an unmapped guard at either end and a *tag*, which says who asked for it; whoever runs over its end faults there, and
//! [`Vmalloc::find`] says in the fault path whose area that was. It costs a few hundred instructions to make and free one, however many there are.
//!
//! ```text
//!   chunk cut for one class                        chunks of one area
//!   ┌──────┬─┬──────┬─┬──────┬─┬─────           ┌───────────────┬───────────────┬─────┬─────────┐
//!   │ area │g│ area │g│ free │g│ ...            │  large page   │  large page   │pages│ guard   │
//!   └──────┴─┴──────┴─┴──────┴─┴─────           └───────────────┴───────────────┴─────┴─────────┘
//! ```
//!
//! Freed areas are unmapped at once, and their frames come back after one shootdown for a whole batch (`vmstack`'s reclaim: INV-FRAME); then their addresses
//! lie ready in a per-CPU pool of their size class. Behind the pools are central lists, and behind those free runs of chunks.
//!
//! The crate is `no_std`, has no `alloc` and no dependency but `vmstack`, whose [`Platform`](vmstack::Platform) it extends by a [`Pager`]. A kernel that uses `vmstack` has to
//! provide two methods more.
//!
//! # Contexts
//!
//! | what | task | interrupt | NMI | fault path |
//! | --- | --- | --- | --- | --- |
//! | [`Vmalloc::init`] | yes | | | |
//! | [`Vmalloc::alloc`], [`Vmalloc::vmap`], [`Vmalloc::map_ram`], [`Vmalloc::reserve`], dropping an [`Area`], [`Vmalloc::free`] | yes | yes | | |
//! | [`Vmalloc::vmalloc`], [`Vmalloc::vzalloc`], [`Vmalloc::alloc_waiting`], [`Vmalloc::drain`], [`Vmalloc::leave_cpu`] | yes, may wait | | | |
//! | [`Vmalloc::pressure`], [`Vmalloc::answer_pressure`], [`Vmalloc::trim`] | yes | yes | | |
//! | [`Vmalloc::for_each`], [`Vmalloc::recount`], [`Vmalloc::fragmentation`] | yes | yes | | |
//! | [`Vmalloc::find`], [`Vmalloc::translate`], [`Vmalloc::usage`] | yes | yes | yes | yes |
#![cfg_attr(not(test), no_std)]
#![cfg_attr(
    all(loom, test),
    expect(dead_code, reason = "loom's atomics have no const constructors: only what the models use is compiled")
)]

#[cfg(not(all(loom, test)))]
mod alloc;
#[cfg(not(all(loom, test)))]
mod area;
#[cfg(not(all(loom, test)))]
mod central;
#[cfg(not(all(loom, test)))]
mod chain;
#[cfg(not(all(loom, test)))]
mod chunk;
mod class;
#[cfg(not(all(loom, test)))]
mod error;
#[cfg(not(all(loom, test)))]
mod find;
#[cfg(not(all(loom, test)))]
mod here;
#[cfg(not(all(loom, test)))]
mod info;
#[cfg(not(all(loom, test)))]
mod layout;
#[cfg(not(all(loom, test)))]
mod lent;
#[cfg(not(all(loom, test)))]
mod line;
#[cfg(not(all(loom, test)))]
mod listing;
mod lock;
#[cfg(not(all(loom, test)))]
mod meta;
#[cfg(not(all(loom, test)))]
mod pager;
#[cfg(not(all(loom, test)))]
mod quick;
#[cfg(not(all(loom, test)))]
mod reclaim;
mod record;
#[cfg(not(all(loom, test)))]
mod release;
mod request;
#[cfg(not(all(loom, test)))]
mod runs;
#[cfg(not(all(loom, test)))]
mod size;
mod sync;
mod tag;
#[cfg(not(all(loom, test)))]
mod usage;
#[cfg(not(all(loom, test)))]
mod vmalloc;

#[cfg(not(all(loom, test)))]
pub use alloc::Made;
#[cfg(not(all(loom, test)))]
pub use area::Area;
#[cfg(not(all(loom, test)))]
pub use error::{AreaError, FreeError, InitError};
#[cfg(not(all(loom, test)))]
pub use info::{AreaInfo, Found};
#[cfg(not(all(loom, test)))]
pub use lent::Frames;
#[cfg(not(all(loom, test)))]
pub use pager::{NotPopulated, Pager};
pub use request::{Kind, Request};
pub use tag::Tag;
#[cfg(not(all(loom, test)))]
pub use usage::{Fragmentation, Recount, Usage};
#[cfg(not(all(loom, test)))]
pub use vmalloc::Vmalloc;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
