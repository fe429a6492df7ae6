//! From the entries in assembly to the kernel's hooks.
//!
//! Each function here is called by one entry, with a frame that the entry built on a stack that it chose (see the table
//! in `mod.rs`). They add what every kernel would have to: CR2 survives an NMI, and a return to user mode is made only
//! to a place that user mode could have come from.

use core::arch::{asm, global_asm};
use core::mem::{offset_of, size_of};
use core::ptr;

use vmstack::VirtAddr;

use super::cpu;
use super::cut;
use super::features::SMAP_ON;
use super::frame::{RFLAGS_FIXED, RFLAGS_IF, SYSCALL_VECTOR, TrapFrame, vector};
use super::gdt::{self, Ist};
use super::layout::USER_END;
use super::msr;
use super::percpu;
use super::provoke;
use super::serial::Port;
use super::stacks;
use crate::hooks;

/// Bytes of the link that an entry pushes under a frame.
pub(crate) const LINK_BYTES: usize = 2 * size_of::<u64>();

/// What user mode may have in rflags: the arithmetic flags, TF, DF, RF, AC, ID. No IOPL, no NT, no virtual interrupts.
const USER_RFLAGS: u64 = 0x25_0dd5 | RFLAGS_RF;
const RFLAGS_RF: u64 = 1 << 16;
const RFLAGS_TF: u64 = 1 << 8;
/// With one of these a system call does not go back by SYSRET: user mode may not have it, or SYSRET loses it (RF), or acts upon it
/// before user mode (TF). As the immediate operand of a test, which is sign-extended: so the upper half counts too.
const RFLAGS_STRANGE: i32 = (!(USER_RFLAGS | RFLAGS_IF | RFLAGS_FIXED) | RFLAGS_RF | RFLAGS_TF) as i32;

global_asm!(
    include_str!("macros.S"),
    include_str!("entry.S"),
    include_str!("syscall.S"),
    include_str!("ist.S"),
    frame_r11 = const offset_of!(TrapFrame, r11),
    frame_rbp = const offset_of!(TrapFrame, rbp),
    frame_rcx = const offset_of!(TrapFrame, rcx),
    frame_rip = const offset_of!(TrapFrame, rip),
    frame_cs = const offset_of!(TrapFrame, cs),
    frame_rflags = const offset_of!(TrapFrame, rflags),
    frame_ss = const offset_of!(TrapFrame, ss),
    frame_bytes = const size_of::<TrapFrame>(),
    link_bytes = const LINK_BYTES,
    kernel_stack = const percpu::KERNEL_STACK_TOP,
    user_rsp = const percpu::USER_RSP,
    irq_stack = const percpu::IRQ_STACK_TOP,
    irq_link = const percpu::IRQ_LINK,
    irq_depth = const percpu::IRQ_DEPTH,
    df_header = const percpu::DF_HEADER,
    flags = const percpu::FLAGS,
    need_resched = const percpu::NEED_RESCHED,
    rflags_strange = const RFLAGS_STRANGE,
    ist_busy = const gdt::IST_BUSY,
    ist_gs_base = const gdt::IST_GS_BASE,
    ist_nested = const gdt::IST_NESTED,
    user_code = const gdt::USER_CODE,
    user_data = const gdt::USER_DATA,
    syscall_vector = const SYSCALL_VECTOR,
    gs_base_msr = const msr::GS_BASE.number(),
    smap = sym SMAP_ON,
    com1 = const Port::Com1.base(),
    exit_port = const cpu::DEBUG_EXIT,
    last_resort_stack = sym stacks::LAST_RESORT,
    stack_top = const stacks::TOP_OFFSET,
    exception = sym exception,
    interrupt = sym interrupt,
    double_fault = sym double_fault,
    nmi = sym nmi,
    machine_check = sym machine_check,
    debug = sym debug,
    system_call = sym system_call,
    before_return = sym before_return,
    before_preemption = sym before_preemption,
    returnable = sym make_returnable,
    last_resort = sym last_resort,
    options(att_syntax)
);

unsafe extern "C" {
    safe static syscall_entry: u8;
    fn enter_user_frame(frame: *const TrapFrame) -> !;
    fn abandon_interrupt_handlers() -> !;
    fn abandon_nmi_handler(frame: *const TrapFrame) -> !;
}

/// Where SYSCALL enters.
pub(super) fn syscall_entry_address() -> VirtAddr {
    VirtAddr::of(&raw const syscall_entry)
}

extern "C" fn exception(frame: &mut TrapFrame) {
    if frame.vector == vector::PAGE_FAULT && !frame.is_user() {
        kernel_page_fault(frame);
    } else {
        hooks::exception(frame);
    }
}

/// A page fault in the kernel is judged on the #DF stack: the stack that faulted may be at its end, with room for the
/// hardware's frame and for little more. An overflow in the middle of judging one would be reported as another.
///
/// A fault while that stack is in use is one in the handler of a fault, and is handled where it is.
fn kernel_page_fault(frame: &mut TrapFrame) {
    match gdt::claim_ist(Ist::DoubleFault) {
        Some(top) => {
            let frame = ptr::from_mut(frame).expose_provenance();
            // SAFETY: the stack was claimed just now, ends there, and is released below or by whoever leaves for good.
            unsafe { vmstack_arch::call_on(top, page_fault_on_its_own_stack, frame) };
            // SAFETY: the call has come back, so nobody stands there any more.
            unsafe { gdt::release_ist(Ist::DoubleFault) };
        }
        None => hooks::nested_page_fault(frame, cpu::read_cr2()),
    }
}

extern "C" fn page_fault_on_its_own_stack(frame: usize) -> usize {
    // SAFETY: `kernel_page_fault` passes its own frame, and waits.
    let frame = unsafe { &mut *VirtAddr::new(frame).as_mut_ptr::<TrapFrame>() };
    hooks::page_fault(frame, cpu::read_cr2());
    0
}

extern "C" fn interrupt(frame: &mut TrapFrame) {
    hooks::interrupt(frame);
}

extern "C" fn system_call(frame: &mut TrapFrame) {
    match provoke::entered() {
        None => hooks::system_call(frame),
        Some((cut, bottom)) => cut::serve(frame, cut, bottom),
    }
}

extern "C" fn double_fault(frame: &mut TrapFrame) -> ! {
    hooks::double_fault(frame, cpu::read_cr2())
}

extern "C" fn last_resort(frame: &mut TrapFrame) -> ! {
    hooks::last_resort(frame, cpu::read_cr2())
}

extern "C" fn machine_check(frame: &mut TrapFrame) {
    hooks::machine_check(frame);
}

extern "C" fn debug(frame: &mut TrapFrame) {
    hooks::debug(frame);
}

/// The NMI may have come between a page fault and its handler's reading CR2: a fault in the hook must not show through.
///
/// NMIs that the entry dropped meanwhile make one more call, as one that the hardware holds back would. Not more than
/// one: whoever sends them without end must not keep this CPU here for ever.
extern "C" fn nmi(frame: &mut TrapFrame) {
    let cr2 = cpu::read_cr2();
    percpu::this_cpu().keep_for_nmi(cr2);
    let dropped = || gdt::ist_nested(percpu::this_cpu(), Ist::Nmi);
    let before = dropped();
    hooks::nmi(frame);
    if dropped() != before {
        hooks::nmi(frame);
    }
    if cpu::read_cr2() != cr2 {
        cpu::write_cr2(cr2);
    }
}

/// The last stop on a task's stack before user mode, if a flag of this CPU is up.
extern "C" fn before_return(frame: &mut TrapFrame) {
    hooks::before_return(frame);
    make_returnable(frame);
    provoke::before_user();
}

/// The last stop on a task's stack before the kernel goes on, if a switch of tasks is wanted.
extern "C" fn before_preemption(frame: &mut TrapFrame) {
    let block = percpu::this_cpu();
    let may_switch = frame.interrupts_on() && block.irq_depth() == 0 && block.preempt_count() == 0;
    if may_switch && hooks::may_be_preempted() {
        hooks::preempt();
    }
}

/// Lets no frame through that IRET could fault on in the kernel, or that would give user mode the kernel's privileges.
///
/// The entries call it where a frame may have been changed: after `hooks::before_return`, and for a system call that does not go back
/// by SYSRET. Frames of exceptions and interrupts are the hardware's own; a hook that changes one raises a flag.
extern "C" fn make_returnable(frame: &mut TrapFrame) {
    while !is_returnable(frame) {
        // As the hardware reports it when user mode itself jumps to such a place. A handler that catches it may be at such a place
        // too: that ends with its stack.
        frame.vector = vector::GENERAL_PROTECTION;
        frame.error = 0;
        hooks::exception(frame);
        hooks::before_return(frame);
    }
    frame.rflags = frame.rflags & USER_RFLAGS | RFLAGS_IF | RFLAGS_FIXED;
}

fn is_returnable(frame: &TrapFrame) -> bool {
    let selectors = frame.cs == u64::from(gdt::USER_CODE) && frame.ss == u64::from(gdt::USER_DATA);
    selectors && frame.rip < USER_END.get() as u64
}

/// Enters user mode with the registers of `frame`, for good: the way back into the kernel is a trap, on the kernel
/// stack that `gdt::set_kernel_stack` named.
///
/// # Safety
///
/// 1. `frame` is of user mode: made by `TrapFrame::user`, or a copy of one that a hook was given.
/// 2. Nothing of the current stack is needed any more; locks are released, and the preemption count is what it should
///    be.
/// 3. The address space of the task is current, and so are its FPU state and its FS and GS bases.
/// 4. `frame` lies in memory that this CPU may write to below it, a page at most, should the return fault: on the
///    task's own stack.
pub(crate) unsafe fn enter_user(frame: &mut TrapFrame) -> ! {
    make_returnable(frame);
    // SAFETY: the caller's promises; the registers that IRET judges were checked just now.
    unsafe { enter_user_frame(frame) }
}

/// Gives up this CPU's interrupt handlers, all that are nested, and goes on in what the first of them interrupted.
///
/// `before_return` is called there as after any interrupt. Ending the interrupts in the APIC is the caller's business.
///
/// # Safety
///
/// 1. `irq_depth` is not zero: there is an interrupted frame, and it is whole.
/// 2. Nothing that the handlers' frames own is needed any more, and nothing points into them (INV-PRIVATE).
/// 3. The stack that the caller stands on is not used again. The #DF stack is freed on the way.
pub(crate) unsafe fn abandon_interrupt() -> ! {
    // SAFETY: the caller's promises.
    unsafe { abandon_interrupt_handlers() }
}

/// Gives up this CPU's NMI handler and goes on in what the NMI interrupted, with CR2 and the preemption count as they were.
///
/// # Safety
///
/// 1. An NMI handler has begun on this CPU and not ended (`gdt::ist_busy`), and its frame is whole.
/// 2. Nothing that the handler's frames own is needed any more, and nothing points into them (INV-PRIVATE).
/// 3. The stack that the caller stands on is not used again. The #DF stack is freed on the way.
pub(crate) unsafe fn abandon_nmi() -> ! {
    // What it interrupted may have been on its way to reading CR2.
    let cr2 = percpu::this_cpu().put_back_after_nmi();
    cpu::write_cr2(cr2);
    let header = percpu::this_cpu().ist_header(Ist::Nmi);
    // Between the header and the frame: where NMIs land, five words, and one for alignment.
    let frame = header.wrapping_sub(6 * size_of::<u64>() + size_of::<TrapFrame>());
    // SAFETY: (1) the frame lies where the entry put it; the rest is the caller's promise.
    unsafe { abandon_nmi_handler(frame.as_mut_ptr()) }
}

/// Moves to the stack that ends at `top` and calls `run(argument)` there; the old stack is not come back to. If that was the #DF
/// stack it is free from then on, and not a moment earlier: an NMI in between might need it.
///
/// # Safety
///
/// 1. `top` is the end of a mapped stack, aligned to 16 bytes, that nobody uses; `run` wants `argument`; nothing of the current
///    stack is needed any more.
/// 2. This CPU's IST stacks are set, and no other handler of it is on the #DF stack.
pub(crate) unsafe fn run_on_stack(top: VirtAddr, run: extern "C" fn(usize) -> !, argument: usize) -> ! {
    // SAFETY: the caller's promises. rbp is cleared: the chain of frame pointers begins anew.
    unsafe {
        asm!(
            "mov rsp, {top}",
            "mov {top}, gs:[{header}]",
            "mov qword ptr [{top} + {busy}], 0",
            "xor ebp, ebp",
            "call {run}",
            "ud2",
            top = in(reg) top.get(),
            run = in(reg) run,
            header = const percpu::DF_HEADER,
            busy = const gdt::IST_BUSY,
            in("rdi") argument,
            options(noreturn)
        )
    }
}
