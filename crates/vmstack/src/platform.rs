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

/// The number of a NUMA node: memory, and the CPUs that are near it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Node(pub(crate) u8);

impl Node {
    /// The node numbered `number`.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// The number, as an index into a table of nodes.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A word that the platform remembers of a mapping, so that it need not search for it again: where its page-table entries lie,
/// for instance. Zero if there is nothing to remember.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Hint(usize);

impl Hint {
    /// The hint `word`.
    #[must_use]
    pub const fn new(word: usize) -> Self {
        Self(word)
    }

    /// The word.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0
    }
}

/// The pages of a stack that nobody uses, and what the platform remembers of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    pages: Pages,
    hint: Hint,
}

impl Mapping {
    /// The mapping of `pages`, of which [`Platform::map`] or [`Platform::foresee`] said `hint`.
    #[must_use]
    pub const fn new(pages: Pages, hint: Hint) -> Self {
        Self { pages, hint }
    }

    /// The pages.
    #[must_use]
    pub const fn pages(self) -> Pages {
        self.pages
    }

    /// What [`Platform::map`] said when they were last mapped; or before that [`Platform::foresee`].
    #[must_use]
    pub const fn hint(self) -> Hint {
        self.hint
    }
}

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
/// 6. Where [`clear_written`](Self::clear_written) is provided: a page that it takes for clean was not written since it was mapped, or since its dirty bit was last taken back and the ticket of that was due. And what was
///    cleared reads as zero.
/// 7. No method unwinds.
/// 8. No method calls into an area.
/// 9. Code that holds a guard is not killed by a fault handler, for what it was changing would stay half changed: while a
///    guard is alive on the faulting CPU the kernel sets
///    [`FaultContext::indispensable`](crate::FaultContext::indispensable), or [`enter`](Self::enter) makes sure beforehand
///    that the stack has room, by touching memory well below the stack pointer before it enters.
/// 10. Where [`handed_over`](Self::handed_over) is provided: between a [`hand_over`](crate::KernelStack::hand_over) and the
///     [`reap`](crate::StackArea::reap) that follows it on the same CPU there was a full memory fence.
pub unsafe trait Platform: Sync + Sized {
    /// The page size in bytes: 4,096, 16,384 or 65,536.
    const PAGE_SIZE: usize;

    /// Physical frames, owned. Dropping it leaks them; [`give_frames`](Self::give_frames) returns them.
    ///
    /// It has at most three words, or it does not compile: those of an unmapped stack are remembered in the stack's record.
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

    /// Takes the frames of several stacks back, as [`give_frames`](Self::give_frames) does: to be provided where that is cheaper
    /// together.
    ///
    /// # Context
    ///
    /// As [`give_frames`](Self::give_frames).
    fn give_batch(&self, batch: impl Iterator<Item = Self::Frames>) {
        batch.for_each(|frames| self.give_frames(frames));
    }

    /// Maps `frames` at the pages of `mapping`: readable, writable, not executable, in every address space. All or nothing.
    ///
    /// No CPU holds a translation of these pages when it is called, so where the architecture does not remember an absent
    /// entry, there is nothing to flush.
    ///
    /// Returns what is worth remembering of the pages, for as long as the area lives, mapped or not, since the platform keeps its tables:
    /// [`Hint::default`] if that is nothing. What is called with a [`Mapping`] of these pages later gets it, this method included; the
    /// first time it gets the default.
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
    /// The pages lie in the range of an area of this platform, none of them is mapped, and `frames` holds as many frames.
    unsafe fn map(&self, mapping: Mapping, frames: Self::Frames) -> Result<Hint, NotMapped<Self>>;

    /// Takes `mapping` away, and returns the frames that it had, in the token that holds them back.
    ///
    /// Flushes nothing: see [`shootdown`](Self::shootdown).
    ///
    /// # Context
    ///
    /// Under a guard. Does not sleep, does not fail, does not need memory (INV-FREE).
    ///
    /// # Safety
    ///
    /// It was mapped by one call of [`map`](Self::map) and nobody uses the memory any more.
    unsafe fn unmap(&self, mapping: Mapping) -> Unmapped<Self>;

    /// Starts to flush all of `batch` from the TLB of every CPU, this one included. May finish it, need not.
    ///
    /// The batch is runs of pages that were unmapped since; there is at least one.
    ///
    /// # Context
    ///
    /// Under a guard. Does not wait for other CPUs if they may wait for this one.
    fn shootdown(&self, batch: impl Iterator<Item = Pages> + Clone) -> Self::Ticket;

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

    /// Where the `bytes` bytes from `addr` on are, if the platform knows without looking at page tables that they are in one piece: in its
    /// direct map, for instance. Not asked about stacks. The default does not know.
    ///
    /// # Context
    ///
    /// Any.
    fn direct(&self, addr: VirtAddr, bytes: usize) -> Option<PhysAddr> {
        let _ = (addr, bytes);
        None
    }

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

    /// Makes what `count` stacks will all need, page tables for instance, and says what [`map`](Self::map) is to be told of each, in
    /// order, as far as that is known beforehand. The pages of the first are `first`, those of each next begin `stride` bytes further up.
    ///
    /// Called under a guard, once for each stack, when its record is made and before it is first mapped. The default foresees nothing.
    fn foresee(&self, first: Pages, stride: usize, count: usize) -> impl Iterator<Item = Hint> {
        let _ = (first, stride, count);
        core::iter::empty()
    }

    /// Takes `count` frames of `node` that read as zero. All of them or none. The default does not know nodes.
    ///
    /// # Context
    ///
    /// As [`take_frames`](Self::take_frames).
    ///
    /// # Errors
    ///
    /// The platform's reason why that node has not so many.
    fn take_frames_on(&self, node: Node, count: usize) -> Result<Self::Frames, Self::Error> {
        let _ = node;
        self.take_frames(count)
    }

    /// The node of `cpu`. Asked once for each CPU, when an area is initialised. The default is node 0.
    fn node(&self, cpu: Cpu) -> Node {
        let _ = cpu;
        Node::new(0)
    }

    /// Whether the platform knows which pages were written: whether [`clear_written`](Self::clear_written) and
    /// [`take_dirty_bits`](Self::take_dirty_bits) are provided.
    const HAS_DIRTY: bool = false;

    /// Makes the pages of `mapping` read as zero that may have been written, and says how many they were. A page whose dirty bit is
    /// clear was not. The default clears all. Called at each allocation, unless the area's policy is another.
    ///
    /// # Context
    ///
    /// Under a guard.
    ///
    /// # Safety
    ///
    /// `mapping` is mapped, in an area of this platform, and nobody uses it.
    unsafe fn clear_written(&self, mapping: Mapping) -> usize {
        // SAFETY: the caller's promise.
        unsafe { self.clear(mapping) };
        mapping.pages().count()
    }

    /// Makes all pages of `mapping` read as zero.
    ///
    /// A platform with a direct map clears through it, so that the pages' own dirty bits stay as they are. The default
    /// writes through the mapping.
    ///
    /// # Context
    ///
    /// Under a guard.
    ///
    /// # Safety
    ///
    /// As for [`clear_written`](Self::clear_written).
    unsafe fn clear(&self, mapping: Mapping) {
        let (start, bytes) = (mapping.pages().start(), mapping.pages().count() * Self::PAGE_SIZE);
        // SAFETY: (1) the caller names pages that are mapped readable and writable, of `PAGE_SIZE` bytes each;
        // (2) nobody else uses them.
        unsafe { core::ptr::write_bytes(start.as_mut_ptr::<u8>(), 0, bytes) }
    }

    /// Takes the dirty bits of `stacks` back and starts to flush their pages from every TLB, which [`flushed`](Self::flushed) then
    /// asks about: a bit that is taken back without a flush lets the next write pass unrecorded. None if no bit was taken.
    ///
    /// # Context
    ///
    /// As [`shootdown`](Self::shootdown). Only called where [`HAS_DIRTY`](Self::HAS_DIRTY) is set.
    fn take_dirty_bits(&self, stacks: impl Iterator<Item = Mapping> + Clone) -> Option<Self::Ticket> {
        let _ = stacks;
        None
    }

    /// Orders what a dying task did before it handed its stack over before what comes after it, in every CPU's eyes.
    ///
    /// Called when the stack is given back, by the task that runs next. The default is a full memory fence. A kernel whose switch
    /// of tasks has one, after the hand-over, needs no second.
    #[inline]
    fn handed_over(&self) {
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
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

/// The frames of pages that lost their mapping: some TLB may still know the way to them.
///
/// Having an `Unmapped` means:
/// - no page table maps the pages any more;
/// - the frames belong to the token, and nobody can take them out but this crate, after the shootdown (INV-FRAME).
///
/// Dropping it leaks the frames, and the slot with them.
#[must_use = "the frames are lost unless the shootdown is redeemed"]
pub struct Unmapped<P: Platform> {
    frames: P::Frames,
}

impl<P: Platform> Unmapped<P> {
    /// What [`Platform::unmap`] returns: the `frames` that the pages had.
    pub const fn new(frames: P::Frames) -> Self {
        Self { frames }
    }

    /// The frames. Only for `flight`, which keeps them until the ticket was redeemed.
    pub(crate) fn into_frames(self) -> P::Frames {
        self.frames
    }
}

impl<P: Platform> fmt::Debug for Unmapped<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unmapped").finish_non_exhaustive()
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
