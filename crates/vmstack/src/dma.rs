//! DMA and stacks: a stack address never becomes a bus address by accident.
//!
//! A device sees physical memory. A stack that is virtually mapped lies there in pieces, it may be given back while the device still
//! writes, and `address - offset` of an address in it is the address of something else. So a kernel that hands memory to devices asks at a
//! door ([`DmaDoor`]) whether it touches a stack: any stack of any area, in constant time, always. What happens then is the kernel's choice:
//!
//! ```text
//!                             no stack's ──────────────────────────> segments          12 instructions to know
//!   address, length ── pass ──┤
//!                             a stack's ──┬─ Refuse ──> DmaError      who asked, for what, in whose stack
//!                                         ├─ Bounce ──> a buffer of the pool: copied there now, and back when the device is done
//!                                         └─ Map ─────> segments      the stack is pinned, and marked if the device writes
//! ```
//!
//! What is never let through, whatever the policy: nothing at all, a range that leaves the address space, one that is in a stack with a
//! part and not with another, guards, the areas' records, and stacks that are nobody's. Each has a [`Refusal`] of its own.
//!
//! A [`Transfer`] is what was let through. While it lives, what the device sees stays what it is: a pin holds the stack even if its task dies
//! (INV-LIVE), and a buffer of the pool is nobody else's. Dropping one is taken to mean that nobody knows whether the device is done: what it holds is
//! kept for ever then, and counted.
//!
//! | file | owns |
//! | --- | --- |
//! | `door` | the check, the policy, the counters |
//! | `hulls` | where stacks may be: what the check compares with |
//! | `pass` | what is done about a request |
//! | `share` | the same for drivers that keep no transfers |
//! | `request` | what is asked: address, length, direction, what the device can reach |
//! | `refusal` | why not |
//! | `transfer` | what was let through, until the device is done with it; lists of such |
//! | `segments` | from pages to pieces of physical memory |
//! | `pool` | buffers that own their frames, for what bounces |
//! | `taken` | which of them are taken: a bit for each |
//!
//! # In a driver
//!
//! A kernel's function that prepares memory for a device becomes one call at the door, for whatever memory it is given:
//!
//! ```
//! use vmstack::{Direction, DmaDoor, DmaError, DmaRequest, Platform, VirtAddr};
//!
//! /// Tells a device of `buffer`, by `tell`, which returns when the device is done.
//! fn read_into<P: Platform>(
//!     door: &DmaDoor<'_, P>,
//!     buffer: &mut [u8],
//!     mut tell: impl FnMut(u64, usize),
//! ) -> Result<(), DmaError> {
//!     // The device begins at multiples of 4, and reaches 4 GiB.
//!     let request = DmaRequest::new(VirtAddr::of(buffer.as_mut_ptr()), buffer.len(), Direction::FromDevice);
//!     // SAFETY: the buffer is borrowed until the transfer has ended, so it stays, and nobody else looks at it.
//!     let transfer = unsafe { door.pass(&request.aligned(4).reaching(u32::MAX.into())) }?;
//!     transfer.segments().for_each(|segment| tell(segment.start.get(), segment.bytes));
//!     // SAFETY: the device is done.
//!     unsafe { transfer.finish() }
//! }
//! ```
//!
//! # What it cannot know
//!
//! A stack is known by its own addresses. Who gives the address at which a direct map shows a stack's frame is not found out; so is who makes up
//! a bus address. What the door hands out is for one device's use at a time, and whether a device keeps to it is for an IOMMU to say.
//!
//! Contexts: task and interrupt. Never NMI, never the fault path; but [`DmaDoor::suspects`] may be asked anywhere.

#[cfg(not(all(loom, test)))]
mod door;
mod hulls;
#[cfg(not(all(loom, test)))]
mod pass;
#[cfg(not(all(loom, test)))]
mod pool;
#[cfg(not(all(loom, test)))]
mod refusal;
#[cfg(not(all(loom, test)))]
mod request;
#[cfg(not(all(loom, test)))]
mod segments;
#[cfg(not(all(loom, test)))]
mod share;
mod taken;
#[cfg(not(all(loom, test)))]
mod transfer;

#[cfg(not(all(loom, test)))]
pub use door::{DmaCounters, DmaDoor, DmaPolicy};
#[cfg(not(all(loom, test)))]
pub use pool::{BounceRegion, PoolError, PoolUsage};
#[cfg(not(all(loom, test)))]
pub use refusal::{DmaError, Refusal};
#[cfg(not(all(loom, test)))]
pub use request::{Direction, DmaRequest};
#[cfg(not(all(loom, test)))]
pub use segments::{Segment, Segments};
#[cfg(not(all(loom, test)))]
pub use transfer::{Passage, Transfer, TransferList};
