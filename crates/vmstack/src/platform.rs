//! The seam: what a kernel gives, so that it gets virtually mapped stacks.
//!
//! [`Platform`] has nine required methods. Everything is a range or a batch, because that is what makes a cold
//! allocation cheap: frames are taken in bulk, a stack is mapped in one call, a batch of dead stacks is flushed by one
//! shootdown. A frame is never seen by this crate: [`Platform::Frames`] is an owned, opaque collection of them.
//!
//! ```text
//!   take_frames ──> Frames ──map──> (mapped) ──unmap──> Unmapped<P> ──shootdown──> Ticket
//!        ^                                                  │                        │ flushed? yes
//!        └───────────────── give_frames <── Frames ─────────┴────────────────────────┘
//! ```
//!
//! The token [`Unmapped`] carries the frames from the moment at which they lose their mapping to the moment at which
//! every CPU has forgotten it. Only this crate can open it, and it does so only after [`Platform::flushed`] said yes:
//! that is INV-FRAME as a type.
//!
//! The provided methods are for kernels that can do better than the safe default: dirty bits, clearing through a direct
//! map, names for owners, shared top-level tables.

use core::fmt;

use crate::addr::{Cpu, Pages, PhysAddr, VirtAddr, VirtRange};

/// What a kernel, hypervisor or fiber runtime provides to get virtually mapped stacks.
///
/// # Implementation safety
///
/// 1. [`map`](Self::map) makes exactly the named pages readable and writable (never executable) in every address space,
///    before it returns; nothing else maps, unmaps or protects any page of an area. (INV-GUARD)
/// 2. Frames from [`take_frames`](Self::take_frames) are mapped nowhere writable but in the platform's own direct map,
///    and read as zero. Whoever writes to them around the mapping later, reports it to
///    [`StackArea::mark_written`](crate::StackArea::mark_written). (INV-ZERO)
/// 3. After [`flushed`](Self::flushed) returned `true` for a ticket, no CPU holds a translation of any page in the batch
///    that the ticket was given for. (INV-FRAME)
/// 4. No two CPUs that run at the same time have the same [`cpu`](Self::cpu) number, as far as it is below the number of
///    CPUs that the area was initialised with. A number at or above that means that this code runs on no CPU of the area:
///    the library refuses it ([`AllocError::UnknownCpu`](crate::AllocError::UnknownCpu)), and a stack that is given back
///    there is leaked and counted.
/// 5. While a [`Guard`](Self::Guard) lives, the code that entered is not moved to another CPU, and no other code that
///    enters runs on this CPU (interrupts off, or a scheduler that does not preempt and handlers that never call in).
/// 6. Where [`dirty`](Self::dirty) or [`zero`](Self::zero) is provided: a page reported clean reads as zero, and a page
///    given to `zero` reads as zero afterwards.
/// 7. No method unwinds.
/// 8. No method calls into an area.
/// 9. Code that holds a guard is not killed by a fault handler, for what it was changing would stay half changed: while a
///    guard is alive on the faulting CPU the kernel sets
///    [`FaultContext::indispensable`](crate::FaultContext::indispensable), or [`enter`](Self::enter) makes sure beforehand
///    that the stack has room, by touching memory well below the stack pointer before it enters.
pub unsafe trait Platform: Sync + Sized {
    /// The page size in bytes: 4,096, 16,384 or 65,536.
    const PAGE_SIZE: usize;

    /// Physical frames, owned. Dropping it leaks them; [`give_frames`](Self::give_frames) returns them.
    ///
    /// Its size has a limit, and a type that is too large does not compile: eight of them, each with its run of pages, must
    /// fit in a page beside the rest of a CPU's block. With pages of 4 KiB that leaves 400 bytes for each and more.
    type Frames: Send;

    /// Proof of a shootdown that was started. See [`flushed`](Self::flushed).
    type Ticket: Send;

    /// Proof that this code is neither moved to another CPU nor re-entered on this one, for as long as the value lives.
    type Guard;

    /// Why frames or page-table memory could not be had.
    type Error: Copy + Eq + fmt::Debug;

    /// Takes `count` frames that read as zero. All of them or none.
    ///
    /// # Context
    ///
    /// Under a guard. Does not sleep.
    ///
    /// # Errors
    ///
    /// The platform's reason why there are not so many.
    fn take_frames(&self, count: usize) -> Result<Self::Frames, Self::Error>;

    /// Takes frames back, whatever they hold now.
    ///
    /// # Context
    ///
    /// Under a guard. Does not sleep, does not fail, does not need memory (INV-FREE).
    fn give_frames(&self, frames: Self::Frames);

    /// Maps `frames` at `pages`: readable, writable, not executable, in every address space. All or nothing.
    ///
    /// No CPU holds a translation of these pages when it is called, so where the architecture does not remember an absent
    /// entry, there is nothing to flush.
    ///
    /// # Context
    ///
    /// Under a guard. Does not sleep.
    ///
    /// # Errors
    ///
    /// [`NotMapped`], with the frames, if page-table memory cannot be had. Then nothing is mapped.
    ///
    /// # Safety
    ///
    /// `pages` lies in the range of an area of this platform, none of it is mapped, and `frames` holds as many frames.
    unsafe fn map(&self, pages: Pages, frames: Self::Frames) -> Result<(), NotMapped<Self>>;

    /// Takes the mapping of `pages` away, and returns the frames that it had, in the token that holds them back.
    ///
    /// Flushes nothing: see [`shootdown`](Self::shootdown).
    ///
    /// # Context
    ///
    /// Under a guard. Does not sleep, does not fail, does not need memory (INV-FREE).
    ///
    /// # Safety
    ///
    /// `pages` was mapped by one call of [`map`](Self::map) and nobody uses the memory any more.
    unsafe fn unmap(&self, pages: Pages) -> Unmapped<Self>;

    /// Starts to flush all of `batch` from the TLB of every CPU, this one included. May finish it, need not.
    ///
    /// # Context
    ///
    /// Under a guard. Does not wait for other CPUs if they may wait for this one.
    fn shootdown(&self, batch: &[Unmapped<Self>]) -> Self::Ticket;

    /// Whether every CPU has flushed what `ticket` was given for. Once `true`, always `true`.
    ///
    /// # Context
    ///
    /// With or without a guard. Does not wait; a caller that waits asks again, without a guard.
    fn flushed(&self, ticket: &Self::Ticket) -> bool;

    /// The physical address that `addr` translates to, if it is mapped.
    ///
    /// # Context
    ///
    /// Any, the fault path included: reads page tables, takes no lock (INV-FAULT).
    fn translate(&self, addr: VirtAddr) -> Option<PhysAddr>;

    /// The CPU that runs this code.
    ///
    /// # Context
    ///
    /// Any, the fault path included. Without a guard the answer may be old when it arrives.
    fn cpu(&self) -> Cpu;

    /// Enters a section in which this code stays on its CPU and is not re-entered there.
    ///
    /// # Context
    ///
    /// Task or interrupt, nested or not. Never NMI.
    fn enter(&self) -> Self::Guard;

    /// Makes the top-level page-table entries of `range` exist in every address space, now and later (INV-MAPPED).
    ///
    /// Called once for each area, before anything in it is mapped. The default does nothing, for kernels whose address
    /// spaces share their kernel half by construction.
    ///
    /// # Errors
    ///
    /// The platform's reason why the tables cannot be had.
    fn prepare(&self, range: VirtRange) -> Result<(), Self::Error> {
        let _ = range;
        Ok(())
    }

    /// Which of the first 128 pages of `pages` may not read as zero: bit *i* stands for page *i*.
    ///
    /// A clear hardware dirty bit is a promise; a set one is not. The default says that all may be dirty.
    ///
    /// # Context
    ///
    /// Under a guard. The pages are mapped, and no CPU runs on them.
    fn dirty(&self, pages: Pages) -> u128 {
        match pages.count() {
            0 => 0,
            count => u128::MAX >> (128_usize.saturating_sub(count)),
        }
    }

    /// Makes the mapped page at `page` read as zero.
    ///
    /// A platform with a direct map clears through it, so that the page's own dirty bit stays as it is. The default
    /// writes through the mapping.
    ///
    /// # Context
    ///
    /// Under a guard.
    ///
    /// # Safety
    ///
    /// `page` is a mapped page of an area of this platform that nobody uses.
    unsafe fn zero(&self, page: VirtAddr) {
        // SAFETY: (1) the caller names a page that is mapped readable and writable, of `PAGE_SIZE` bytes;
        // (2) nobody else uses it.
        unsafe { core::ptr::write_bytes(page.as_mut_ptr::<u8>(), 0, Self::PAGE_SIZE) }
    }

    /// Writes the name of the owner that the kernel stored as `owner`, for a report.
    ///
    /// # Context
    ///
    /// Fault path: takes no lock, touches only memory that cannot fault. The default prints the word.
    ///
    /// # Errors
    ///
    /// Only the error of `out`.
    fn write_owner(&self, owner: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "owner {owner:#x}")
    }
}

/// Pages that lost their mapping, with the frames that they had: some TLB may still know the way to them.
///
/// Having an `Unmapped` means:
/// - no page table maps the pages any more;
/// - the frames belong to the token, and nobody can take them out but this crate, after the shootdown (INV-FRAME).
///
/// Dropping it leaks the frames, and the slot with them.
#[must_use = "the frames are lost unless the shootdown is redeemed"]
pub struct Unmapped<P: Platform> {
    pages: Pages,
    frames: P::Frames,
}

impl<P: Platform> Unmapped<P> {
    /// What [`Platform::unmap`] returns: the `pages` that were unmapped and the `frames` that they had.
    pub const fn new(pages: Pages, frames: P::Frames) -> Self {
        Self { pages, frames }
    }

    /// The pages to flush.
    pub const fn pages(&self) -> Pages {
        self.pages
    }

    /// The frames. Only for `reclaim`, after the ticket was redeemed.
    pub(crate) fn into_frames(self) -> P::Frames {
        self.frames
    }
}

impl<P: Platform> fmt::Debug for Unmapped<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unmapped").field(&self.pages).finish()
    }
}

/// Frames that could not be mapped, handed back, and why.
pub struct NotMapped<P: Platform> {
    /// The frames that [`Platform::map`] was given.
    pub frames: P::Frames,
    /// The platform's reason.
    pub reason: P::Error,
}

impl<P: Platform> fmt::Debug for NotMapped<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotMapped").field("reason", &self.reason).finish_non_exhaustive()
    }
}
