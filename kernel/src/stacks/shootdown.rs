//! Shootdown: making every CPU forget pages that were unmapped, or whose dirty bits were taken back.
//!
//! A shootdown flushes this CPU, gets a number, and has the other CPUs flush; a ticket is its number, and is due when every CPU has passed
//! it (`epochs` has the protocol). Nobody waits with interrupts off. There are two ways to have the others flush:
//!
//! | way | the others flush | a batch waits | costs those who have nothing to flush |
//! | --- | --- | --- | --- |
//! | [`How::Message`] | in the handler of an interrupt that they are sent | until the last one has taken it | nothing |
//! | [`How::AtSwitch`] | where they next switch tasks, at a tick, or when they stop idling | for a tick at most | a look at each switch and tick |
//!
//! The first is what the kernel does; the second is there to be compared (`docs/design.md`, "Decisions"). With either, a CPU that is offline counts
//! as passed, because it touches no stack but its own ones and flushes first of all when it comes. With the second so does one that
//! idles. It halts with interrupts off, between [`idle`] and [`awake`], which is the first thing that the handler of whatever wakes it does;
//! an NMI's handler, which comes before, touches its own stack.
//!
//! The other ways are planted bugs, so that it can be shown that they would be noticed (`stale`, INV-FRAME, INV-ZERO).
//!
//! # Context
//!
//! [`begin`], [`pass`], [`idle`], [`awake`], [`acknowledge`]: interrupts off. [`is_over`]: any.

use core::iter;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use vmstack::{Pages, Platform};

use super::Kernel;
use super::epochs::Epochs;
use crate::arch::layout::PAGE_SIZE;
use crate::arch::percpu::{self, MAX_CPUS};
use crate::interrupts;
use crate::sync::Section;

/// How other CPUs come to flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum How {
    /// They are sent a message.
    Message,
    /// They look for themselves when they switch tasks.
    AtSwitch,
    /// A bug: nobody flushes, and every shootdown is over at once.
    Never,
    /// A bug: they are sent a message, and the shootdown is over before they have heard it.
    TooEarly,
}

static HOW: AtomicU8 = AtomicU8::new(How::Message as u8);
static EPOCHS: Epochs<MAX_CPUS> = Epochs {
    begun: AtomicU64::new(0),
    over: AtomicU64::new(0),
    passed: [const { AtomicU64::new(Epochs::<MAX_CPUS>::NEVER_CAME) }; MAX_CPUS],
};
/// The CPUs that are up, by bit.
static CPUS_UP: AtomicU64 = AtomicU64::new(0);

/// Has other CPUs flush in another way, from the next shootdown on.
pub(crate) fn flush_by(how: How) {
    let _section = Section::enter();
    HOW.store(how as u8, Ordering::Relaxed);
    // Those who have not flushed for an earlier one yet hear of this one.
    begin(iter::empty());
}

#[inline]
fn is(how: How) -> bool {
    HOW.load(Ordering::Relaxed) == how as u8
}

fn this_cpu() -> usize {
    percpu::cpu_number().index()
}

/// Begins to flush `batch` everywhere, and returns the number to ask about.
#[inline]
pub(super) fn begin(batch: impl Iterator<Item = Pages> + Clone) -> u64 {
    if is(How::Never) {
        return 0;
    }
    flush_here(batch);
    let number = EPOCHS.begin();
    if !is(How::AtSwitch) {
        interrupts::ask_for_shootdown();
    }
    if !EPOCHS.pass_own(this_cpu(), number) {
        acknowledge();
    }
    number
}

/// Whether every CPU has flushed for the shootdown `number`.
pub(super) fn is_over(number: u64) -> bool {
    let up = CPUS_UP.load(Ordering::Acquire);
    EPOCHS.is_over(number, (u64::BITS - up.leading_zeros()) as usize) || is(How::TooEarly)
}

/// Makes this CPU's TLB forget `batch`.
#[inline]
fn flush_here(batch: impl Iterator<Item = Pages> + Clone) {
    /// From so many pages on it is cheaper to forget everything (Linux has 33 too: `tlb_single_page_flush_ceiling`).
    const CEILING: usize = 33;
    let mut pages = 0;
    let are_many = |count| {
        pages += count;
        pages >= CEILING
    };
    if batch.clone().map(Pages::count).any(are_many) {
        return flush_all();
    }
    for page in batch.flat_map(|pages| pages.addresses(PAGE_SIZE)) {
        // SAFETY: the kernel runs in ring 0.
        unsafe { vmstack_arch::tlb::flush_page(page) };
    }
}

/// Makes this CPU's TLB forget everything. Interrupts are off.
pub(crate) fn flush_all() {
    // SAFETY: the kernel runs in ring 0, and interrupts are off.
    unsafe { vmstack_arch::tlb::flush_all() };
}

/// Makes this CPU's TLB forget what all shootdowns ask that have begun. Called by the handler of the message, on every CPU but the sender.
pub(crate) fn acknowledge() {
    EPOCHS.pass(this_cpu(), flush_all);
}

/// Where this CPU switches tasks, and at its ticks: flushes, if it is to look for itself and is behind.
#[inline]
pub(crate) fn pass() {
    if is(How::AtSwitch) {
        look();
    }
}

/// Flushes if this CPU is behind.
#[inline]
pub(crate) fn look() {
    if EPOCHS.is_behind(this_cpu()) {
        acknowledge();
    }
}

/// This CPU is about to halt, with interrupts off: where CPUs look for themselves it is not waited for until [`awake`].
pub(crate) fn idle() {
    if is(How::AtSwitch) {
        EPOCHS.leave(this_cpu());
    }
}

/// This CPU goes on, if it was idle.
#[inline]
pub(crate) fn awake() {
    if EPOCHS.is_away(this_cpu()) {
        EPOCHS.come(this_cpu(), flush_all);
    }
}

/// Counts the CPU that calls it among those that are asked to flush. Interrupts are off.
pub(crate) fn cpu_is_up() {
    // Before the fence in `come`: a shootdown that finds the CPU there also finds that there is somebody to be sent a message.
    CPUS_UP.fetch_or(1 << this_cpu(), Ordering::AcqRel);
    EPOCHS.come(this_cpu(), flush_all);
}

/// Counts the CPU that calls it no longer: from here on it touches nothing of any area but its own stacks, until it is up again.
/// Interrupts are off.
pub(crate) fn cpu_goes_down() {
    EPOCHS.leave(this_cpu());
    CPUS_UP.fetch_and(!(1 << this_cpu()), Ordering::AcqRel);
}

/// Whether there is another CPU to be asked.
pub(crate) fn others_are_up() -> bool {
    !CPUS_UP.load(Ordering::Acquire).is_power_of_two()
}

/// Runs `work` as if CPUs 0 to `cpus` were up, in a boot of one: those that are not there are away, and need not be waited for.
pub(crate) fn as_if_up<R>(cpus: usize, work: impl FnOnce() -> R) -> R {
    let up = CPUS_UP.fetch_or((1 << cpus) - 1, Ordering::AcqRel);
    let result = work();
    CPUS_UP.store(up, Ordering::Release);
    result
}

/// Puts this CPU behind, as another one does that begins a shootdown: to be counted. Interrupts are off.
pub(crate) fn fall_behind() {
    EPOCHS.begin();
}

/// Flushes the pages of `batch` as a shootdown does, and looks once whether every CPU has. What it costs is counted.
pub(crate) fn flush_everywhere(batch: impl Iterator<Item = Pages> + Clone) -> bool {
    let ticket = Kernel.shootdown(batch);
    Kernel.flushed(&ticket)
}
