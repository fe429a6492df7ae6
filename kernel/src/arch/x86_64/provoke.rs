//! Events where no compiler would let them happen: with the stack pointer moved to within a few bytes of a stack's bottom,
//! on top of nothing, or in the handler of a fault. What the crashes of `crash/` are made of; nothing else calls it.
//!
//! | function | what happens at the moved stack pointer | bytes that it needs |
//! | --- | --- | --- |
//! | [`call_at`] | a call of a leaf | 8 |
//! | [`exception_at`] | a breakpoint, and the kernel's handler for it | a frame, and the handler's own |
//! | [`interrupt_at`] | a store that raises an interrupt, which is let in | a frame; the handler has a stack of its own |
//! | [`nmi_at`] | a store that raises an NMI | none |
//! | [`move_next_entry`] | the current task's next system call, all of it | a frame, and the call's own |
//! | [`cut_next_call`] | the current task's next system call, which enters as usual: see [`cut`](super::cut) | the call's own |
//!
//! An event either completes, and the function comes back on the stack that it was called on; or the stack ends under it,
//! and the fault path takes over. Interrupts are off around it, and an [`Alone`] keeps everything but what was provoked
//! from this CPU. The path of a killed task ends that by [`let_everything_in`].
//!
//! # Context
//!
//! Task context; one user at a time. [`is_expected`], [`note_nmi`] and [`fault_if_asked`] are for the kernel's hooks.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use vmstack::VirtAddr;

use super::apic;
use super::cpu::InterruptsOff;
use super::cut::Cut;
use super::frame::{TrapFrame, vector};
use super::{gdt, percpu};

/// How often an event is looked for before it is given up: about a second, under emulation or not.
const PATIENCE: u32 = 20_000_000;

global_asm!(include_str!("provoke.S"), patience = const PATIENCE, options(att_syntax));

unsafe extern "C" {
    safe static provoke_after_exception: u8;
    fn provoke_call(sp: usize);
    fn provoke_exception(sp: usize);
    fn provoke_interrupt(sp: usize, place: *mut u32, value: u32, flag: *const AtomicU32);
    fn provoke_nmi(sp: usize, place: *mut u32, value: u32, flag: *const AtomicU32);
    fn provoke_double_fault(nowhere: usize) -> !;
    fn provoke_use_up() -> !;
}

// ---- only what is provoked ------------------------------------------------------------------------------------------

/// Having an `Alone` means that, until it is dropped:
///
/// - interrupts are off on this CPU, but where an event lets them in;
/// - of maskable interrupts only the provoked ones, from [`apic::VECTOR_PROVOKED`], can be let in. The timer and messages
///   of other CPUs wait;
/// - where they are let in, no switch of tasks follows: none is wanted when it begins, and nobody comes who could want one.
///
/// Dropping it asks for a switch, in case it took one back.
///
/// A task that is killed meanwhile never drops it: [`let_everything_in`] is called on its way out.
#[derive(Debug)]
pub(crate) struct Alone {
    _interrupts: InterruptsOff,
}

impl Alone {
    /// Keeps everything else off this CPU.
    #[must_use]
    pub(crate) fn new() -> Self {
        let interrupts = InterruptsOff::new();
        apic::set_task_priority(apic::VECTOR_PROVOKED - 0x10);
        percpu::this_cpu().set_need_resched(false);
        Self { _interrupts: interrupts }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        percpu::this_cpu().set_need_resched(true);
        let_everything_in();
    }
}

/// Ends the hold-up of this CPU's interrupts. Does no harm where there is none.
pub(crate) fn let_everything_in() {
    apic::set_task_priority(0);
}

// ---- events with the stack pointer moved ----------------------------------------------------------------------------

/// A store to memory or to a device's register, to be made when the stack pointer is elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Store {
    place: *mut u32,
    value: u32,
}

impl Store {
    /// The store of `value` to a device's register.
    ///
    /// # Safety
    ///
    /// `place` can be written to as long as the store may be made, and that does nothing to memory that Rust relies on.
    pub(super) const unsafe fn new(place: *mut u32, value: u32) -> Self {
        Self { place, value }
    }

    /// The store that sets `flag`: another CPU looks at it, and raises the interrupt.
    pub(crate) const fn to(flag: &'static AtomicU32) -> Self {
        Self { place: flag.as_ptr(), value: 1 }
    }
}

/// Calls a leaf with the stack pointer at `sp`.
///
/// # Safety
///
/// `sp` lies in the current task's stack, below everything that is in use on it, or at its bottom.
pub(crate) unsafe fn call_at(_alone: &Alone, sp: VirtAddr) {
    // SAFETY: the caller's promise; a stack that is too short for it faults.
    unsafe { provoke_call(sp.get()) }
}

/// Takes a breakpoint with the stack pointer at `sp`; `hooks::exception` comes back at once.
///
/// # Safety
///
/// As for [`call_at`].
pub(crate) unsafe fn exception_at(_alone: &Alone, sp: VirtAddr) {
    // SAFETY: the caller's promise; a stack that is too short for it faults.
    unsafe { provoke_exception(sp.get()) }
}

/// Makes `store` with the stack pointer at `sp`, lets interrupts in, and waits until `flag` is not zero, or for about a second.
///
/// # Safety
///
/// As for [`call_at`].
pub(crate) unsafe fn interrupt_at(_alone: &Alone, sp: VirtAddr, store: Store, flag: &'static AtomicU32) {
    // SAFETY: the caller's promise, and `Store`'s; the guard says that what may come is wanted.
    unsafe { provoke_interrupt(sp.get(), store.place, store.value, flag) }
}

/// Sends this CPU an NMI with the stack pointer at `sp`. Whether one came: [`note_nmi`] saw it.
///
/// # Safety
///
/// As for [`call_at`].
pub(crate) unsafe fn nmi_at(_alone: &Alone, sp: VirtAddr) -> bool {
    let Some(store) = apic::to_self(apic::Message::Nmi) else { return false };
    NMI_SEEN.store(0, Relaxed);
    // SAFETY: the caller's promise; the store is to this CPU's own APIC, and an NMI has a stack of its own.
    unsafe { provoke_nmi(sp.get(), store.place, store.value, &raw const NMI_SEEN) };
    NMI_SEEN.load(Relaxed) != 0
}

/// Set by the hook when an NMI comes.
static NMI_SEEN: AtomicU32 = AtomicU32::new(0);

/// Notes that an NMI came. For `hooks::nmi`.
pub(crate) fn note_nmi() {
    NMI_SEEN.store(1, Relaxed);
}

/// Whether `frame` is that of the breakpoint that [`exception_at`] takes: its handler just goes back.
pub(crate) fn is_expected(frame: &TrapFrame) -> bool {
    let after = VirtAddr::of(&raw const provoke_after_exception);
    frame.vector == vector::BREAKPOINT && frame.instruction() == after
}

// ---- a system call on a moved stack ---------------------------------------------------------------------------------

/// The task whose next system call is to enter elsewhere, as the per-CPU block has it; zero: none.
static ENTRY_TASK: AtomicUsize = AtomicUsize::new(0);
/// Where it is to enter.
static ENTRY_TOP: AtomicUsize = AtomicUsize::new(0);
/// How far that is.
static ENTRY_STATE: AtomicU32 = AtomicU32::new(NOTHING);

const NOTHING: u32 = 0;
/// It was asked for, and the task has not returned to user mode.
const ASKED: u32 = 1;
/// The task is in user mode, and its next system call will enter there.
const MOVED: u32 = 2;
/// The call is being served there.
const ENTERED: u32 = 3;
/// The next system call enters as usual, and is to be cut.
const CUT: u32 = 4;

/// How it is to be cut: the words of a [`Cut`], and of the stack.
static CUT_AFTER: AtomicUsize = AtomicUsize::new(0);
static CUT_BOTTOM: AtomicUsize = AtomicUsize::new(0);

/// Cuts the current task's next system call; its stack begins at `bottom`.
///
/// # Safety
///
/// A place to serve it at lies in the current task's stack, far below what an entry uses of it.
pub(crate) unsafe fn cut_next_call(cut: Cut, bottom: VirtAddr) {
    let (after, top) = match cut {
        Cut::After(instructions) => (instructions, VirtAddr::default()),
        Cut::Room(top) => (0, top),
    };
    CUT_AFTER.store(after, Relaxed);
    CUT_BOTTOM.store(bottom.get(), Relaxed);
    ENTRY_TOP.store(top.get(), Relaxed);
    ENTRY_STATE.store(CUT, Relaxed);
    ENTRY_TASK.store(percpu::current_task(), Relaxed);
}

/// Makes the current task's next system call enter at `top` instead of at the end of its stack. Once.
///
/// From the return to user mode until the call is over, nothing but NMIs and exceptions comes in on that CPU: so the entry is
/// the call that was meant, and nothing else stands on what is left of the stack.
///
/// # Safety
///
/// `top` lies in the current task's stack, at least at its bottom, and the task makes a system call at once.
pub(crate) unsafe fn move_next_entry(top: VirtAddr) {
    ENTRY_TOP.store(top.get(), Relaxed);
    ENTRY_STATE.store(ASKED, Relaxed);
    ENTRY_TASK.store(percpu::current_task(), Relaxed);
}

/// Whether a system call is to enter elsewhere, is being served there, or has just been asked for.
pub(crate) fn moves_entry() -> bool {
    ENTRY_TASK.load(Relaxed) == percpu::current_task()
}

fn is_state(state: u32) -> bool {
    ENTRY_TASK.load(Relaxed) == percpu::current_task() && ENTRY_STATE.load(Relaxed) == state
}

/// A system call was entered: the next one enters at the stack's end again. Called first, with interrupts off. Where this one is to
/// be cut, and the bottom of its stack, if it is.
pub(super) fn entered() -> Option<(Cut, VirtAddr)> {
    if ENTRY_TASK.load(Relaxed) == 0 { None } else { entered_by_somebody() }
}

#[cold]
fn entered_by_somebody() -> Option<(Cut, VirtAddr)> {
    if is_state(MOVED) {
        ENTRY_STATE.store(ENTERED, Relaxed);
        gdt::restore_kernel_stack();
    }
    if !is_state(CUT) {
        return None;
    }
    ENTRY_STATE.store(NOTHING, Relaxed);
    ENTRY_TASK.store(0, Relaxed);
    let cut = match CUT_AFTER.load(Relaxed) {
        0 => Cut::Room(VirtAddr::new(ENTRY_TOP.load(Relaxed))),
        instructions => Cut::After(instructions),
    };
    Some((cut, VirtAddr::new(CUT_BOTTOM.load(Relaxed))))
}

/// The current task is about to return to user mode, with a flag up: the last thing that is done, with interrupts off.
pub(super) fn before_user() {
    if ENTRY_TASK.load(Relaxed) == 0 {
        return;
    }
    if is_state(ASKED) {
        ENTRY_STATE.store(MOVED, Relaxed);
        apic::set_task_priority(apic::VECTOR_PROVOKED - 0x10);
        percpu::this_cpu().set_kernel_stack_top(VirtAddr::new(ENTRY_TOP.load(Relaxed)));
    } else if is_state(ENTERED) {
        forget_entry();
    }
}

/// The current task does not return to user mode any more: its call was the one that ends it.
pub(crate) fn ends() {
    if moves_entry() {
        forget_entry();
    }
}

/// The call that was to enter elsewhere is over.
fn forget_entry() {
    ENTRY_STATE.store(NOTHING, Relaxed);
    ENTRY_TASK.store(0, Relaxed);
    let_everything_in();
}

/// Pops word after word, from `sp` on, until there is none.
///
/// # Safety
///
/// None can be given: it ends in a fault, wherever the stack above `sp` does.
pub(crate) unsafe fn pop_from(sp: VirtAddr) -> ! {
    // SAFETY: none: this is the crash. Interrupts are off, so that nothing is pushed to what has been popped.
    unsafe { asm!("cli", "mov rsp, {0}", "2:", "pop {0}", "jmp 2b", in(reg) sp.get(), options(noreturn)) }
}

/// Pushes a word below `bottom`, and notes the time just before.
///
/// # Safety
///
/// None can be given: it is the overflow of the stack that ends there.
pub(crate) unsafe fn push_below(bottom: VirtAddr, time: &AtomicU64) -> ! {
    // SAFETY: none: this is the crash. The time is an atomic's, and nothing else is written.
    unsafe {
        asm!(
            "mov rsp, {bottom}",
            "rdtsc",
            "shl rdx, 32",
            "or rax, rdx",
            "mov [{time}], rax",
            "push rax",
            "ud2",
            bottom = in(reg) bottom.get(),
            time = in(reg) time.as_ptr(),
            options(noreturn)
        )
    }
}

/// Calls `act` with a frame pointer that was never one.
///
/// # Safety
///
/// None can be given for a walk that believes it. `act` does not come back: its frames lead nowhere.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn call_with_frame_pointer(frame_pointer: usize, act: extern "C" fn() -> !) -> ! {
    core::arch::naked_asm!(
        "mov rbp, rdi", // what `act` saves as its caller's
        "call rsi",     // it does not come back ...
        "ud2",          // ... and if it does, it ends here
    )
}

// ---- faults that are about no stack, and faults in the handler of a fault --------------------------------------------

/// Where nothing is: canonical, in the kernel's half, in no area and not in the direct map.
const NOWHERE: usize = 0xffff_b000_0000_0000;

/// A double fault that no stack can be blamed for.
pub(crate) fn double_fault() -> ! {
    // SAFETY: nothing is pushed anywhere, for nothing is mapped there; the #DF stack takes over.
    unsafe { provoke_double_fault(NOWHERE) }
}

/// How many handlers of faults are to fault themselves.
pub(crate) static FAULT_IN_HANDLER: AtomicU32 = AtomicU32::new(0);
/// Whether they do so by an access on a healthy stack, not by using up their own.
pub(crate) static FAULT_WILDLY: AtomicBool = AtomicBool::new(false);

/// Faults, if that is still to be done. For the handlers of faults, which do not come back from it.
pub(crate) fn fault_if_asked() {
    if FAULT_IN_HANDLER.load(Relaxed) == 0 {
        return;
    }
    FAULT_IN_HANDLER.fetch_sub(1, Relaxed);
    if FAULT_WILDLY.load(Relaxed) {
        // SAFETY: nothing is there, so it faults, on a stack that is in order.
        unsafe { asm!("mov {0}, [{0}]", inout(reg) NOWHERE => _, options(nostack, preserves_flags, readonly)) };
    }
    // SAFETY: the handler ends here. Only its own stack is written to, down to its guard.
    unsafe { provoke_use_up() }
}
