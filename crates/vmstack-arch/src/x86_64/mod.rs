//! x86-64: System V calling convention, frame pointers in RBP.
//!
//! # A suspended context
//!
//! [`switch`] saves what the calling convention lets a callee change at will on the stack of the context that suspends,
//! and the stack pointer in its [`Context`]. There is nothing else: vector state belongs to user mode or to the
//! compiler, which treats `switch` as a call like any other.
//!
//! ```text
//!   higher addresses
//!   | return address |   where `switch` was called, or `start`
//!   | RBP            |   0 for a new context: the end of the frame chain
//!   | RBX            |   the entry function, for a new context
//!   | R12            |   its argument
//!   | R13            |
//!   | R14            |
//!   | R15            |   <── Context::sp
//!   lower addresses
//! ```
//!
//! Interrupt flag, direction flag and MXCSR are as the caller left them; a kernel switches with interrupts off.

use core::arch::{asm, naked_asm};

use vmstack::VirtAddr;

/// Where a suspended context stands.
///
/// Having a `Context` that was filled by [`switch`] or [`Context::new`] means that its stack holds the words drawn above.
#[derive(Debug)]
#[repr(C)]
pub struct Context {
    sp: VirtAddr,
}

/// The words that [`switch`] pushes, lowest first, and the return address above them.
#[repr(C)]
struct Saved {
    r15: usize,
    r14: usize,
    r13: usize,
    r12: usize,
    rbx: usize,
    rbp: usize,
    return_address: usize,
    /// What a caller of `start` would have pushed: zero, so that a walk ends.
    caller: usize,
}

impl Context {
    /// A context that nobody has suspended yet, to save one into.
    #[must_use]
    pub const fn empty() -> Self {
        Self { sp: VirtAddr::new(0) }
    }

    /// A context that, when it is first resumed, calls `entry(argument)` on the empty stack whose top is `top`.
    ///
    /// # Safety
    ///
    /// The 64 bytes below `top` are mapped and nobody else uses them, and `top` is a multiple of 16.
    #[must_use]
    pub unsafe fn new(top: VirtAddr, entry: extern "C" fn(usize) -> !, argument: usize) -> Self {
        let sp = top.wrapping_sub(size_of::<Saved>());
        let saved = Saved {
            r15: 0,
            r14: 0,
            r13: 0,
            r12: argument,
            rbx: entry as usize,
            rbp: 0,
            return_address: start as *const () as usize,
            caller: 0,
        };
        // SAFETY: the caller vouches for these bytes, and `sp` is a multiple of 16 as `top` is.
        unsafe { sp.as_mut_ptr::<Saved>().write(saved) };
        Self { sp }
    }

    /// The stack pointer at which the context is suspended.
    #[must_use]
    pub const fn stack_pointer(&self) -> VirtAddr {
        self.sp
    }

    /// The frame pointer at which a walk of the suspended context starts: the words that [`switch`] pushed last but one look as any
    /// function's link does.
    #[must_use]
    pub const fn frame_pointer(&self) -> VirtAddr {
        self.sp.wrapping_add(core::mem::offset_of!(Saved, rbp))
    }

    /// The instruction and the stack pointer with which a fault handler continues this context by rewriting the
    /// interrupted registers: it is the second half of [`switch`].
    #[must_use]
    pub fn resume_point(&self) -> (VirtAddr, VirtAddr) {
        (VirtAddr::new(resume_here as *const () as usize), self.sp)
    }
}

/// Suspends the running context in `save` and resumes `load`. Returns when something resumes `save`.
///
/// # Context
///
/// Task, with interrupts off or nothing that switches in interrupts.
///
/// # Safety
///
/// `load` was suspended by [`switch`] or made by [`Context::new`] and not resumed since; its stack is mapped and belongs to
/// it alone (INV-LIVE). `save` stays where it is until it is resumed.
#[unsafe(naked)]
pub unsafe extern "C" fn switch(save: *mut Context, load: *const Context) {
    naked_asm!(
        "push rbp",        // The frame chain goes through here: [rsp] is the caller's RBP ...
        "push rbx",        // ... then the other registers that a callee must keep
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",  // save->sp: the running context is suspended
        "mov rsp, [rsi]",  // load->sp: we stand on the other stack
        "jmp {resume}",    // and take up what was pushed there
        resume = sym resume_here,
    )
}

/// The second half of a switch: the stack pointer is a context's, nothing else matters.
#[unsafe(naked)]
unsafe extern "C" fn resume_here() {
    naked_asm!(
        "pop r15", // What `switch` pushed, or `Context::new` wrote
        "pop r14", "pop r13", "pop r12", "pop rbx", "pop rbp",
        "ret", // To where `switch` was called, or to `start`
    )
}

/// Resumes `load` and forgets the running context.
///
/// # Safety
///
/// As for [`switch`]; and whatever the running context's frames own is lost.
#[unsafe(naked)]
pub unsafe extern "C" fn resume(load: *const Context) -> ! {
    naked_asm!(
        "mov rsp, [rdi]",  // load->sp
        "jmp {resume}",    // its registers, and back to where it was
        resume = sym resume_here,
    )
}

/// The first instruction of a new context: RBX is the entry function and R12 its argument.
#[unsafe(naked)]
unsafe extern "C" fn start() -> ! {
    naked_asm!(
        // Before: RSP = top - 8, [RSP] = 0. The convention wants RSP + 8 to be a multiple of 16 after the call's push.
        "mov rdi, r12", // The argument
        "sub rsp, 8",   // RSP = top - 16, a multiple of 16
        "call rbx",     // The entry function does not return ...
        "ud2",          // ... and if it does, it ends here
    )
}

/// Calls `function(argument)` on the stack whose top is `top`, and comes back to this one.
///
/// The frame chain goes on across the two stacks: a walk of the other stack ends with the frame that links here.
///
/// # Context
///
/// Any. The running stack needs 16 bytes.
///
/// # Safety
///
/// `top` is a multiple of 16, and the stack below it is mapped, large enough for `function`, and not in use.
#[unsafe(naked)]
pub unsafe extern "C" fn call_on(top: VirtAddr, function: extern "C" fn(usize) -> usize, argument: usize) -> usize {
    naked_asm!(
        "push rbp",     // Links this stack's frames to the other's
        "mov rbp, rsp", // RBP finds the way back
        "mov rsp, rdi", // The other stack, empty, a multiple of 16
        "mov rdi, rdx", // The argument
        "call rsi",     // The function; its result stays in RAX
        "mov rsp, rbp", // Back to this stack
        "pop rbp",
        "ret",
    )
}

/// The frame pointer of the caller.
#[must_use]
#[inline(always)]
pub fn frame_pointer() -> VirtAddr {
    let rbp: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    VirtAddr::new(rbp)
}

/// The stack pointer of the caller.
#[must_use]
#[inline(always)]
pub fn stack_pointer() -> VirtAddr {
    let rsp: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    VirtAddr::new(rsp)
}

/// The TLB instructions. Privileged: in user mode they fault.
pub mod tlb {
    use super::{VirtAddr, asm};

    /// Forgets what this CPU remembers of the page at `page`, global or not (Intel SDM vol. 3, 4.10.4.1).
    ///
    /// # Safety
    ///
    /// The CPU runs in ring 0.
    #[inline]
    pub unsafe fn flush_page(page: VirtAddr) {
        // SAFETY: in ring 0 INVLPG only forgets; it reads no memory. Not `nomem`: earlier page-table writes stay before it.
        unsafe { asm!("invlpg [{}]", in(reg) page.get(), options(nostack, preserves_flags)) };
    }

    /// Forgets everything that this CPU remembers, global pages included, by toggling CR4.PGE (Intel SDM vol. 3, 4.10.4.1).
    ///
    /// # Safety
    ///
    /// The CPU runs in ring 0, and interrupts are off or no handler changes CR4.
    pub unsafe fn flush_all() {
        const PGE: usize = 1 << 7;
        let cr4: usize;
        // SAFETY: reads a control register, allowed in ring 0.
        unsafe { asm!("mov {}, cr4", out(reg) cr4, options(nostack, preserves_flags)) };
        // SAFETY: changes only PGE, which decides nothing but what the TLB keeps. Changing it flushes everything.
        unsafe { asm!("mov cr4, {}", in(reg) cr4 ^ PGE, options(nostack, preserves_flags)) };
        // SAFETY: the value that was there before.
        unsafe { asm!("mov cr4, {}", in(reg) cr4, options(nostack, preserves_flags)) };
    }
}

#[cfg(test)]
mod tests {
    use super::{Context, call_on, frame_pointer, stack_pointer, switch};
    use crate::walk::frames;
    use core::cell::UnsafeCell;
    use vmstack::VirtAddr;

    #[repr(align(16))]
    struct Stack(UnsafeCell<[u8; 64 << 10]>);

    impl Stack {
        fn boxed() -> Box<Self> {
            // SAFETY: zero is a valid value of bytes.
            unsafe { Box::new_zeroed().assume_init() }
        }

        fn bounds(&self) -> (VirtAddr, VirtAddr) {
            let low = VirtAddr::new(self.0.get().expose_provenance());
            (low, low.wrapping_add(64 << 10))
        }
    }

    struct PingPong {
        main: Context,
        other: Context,
        log: Vec<usize>,
        inside: bool,
        stack: (VirtAddr, VirtAddr),
    }

    extern "C" fn other(state: usize) -> ! {
        let state = core::ptr::with_exposed_provenance_mut::<PingPong>(state);
        for round in 1.. {
            // SAFETY: the two contexts never run at the same time.
            let both = unsafe { &mut *state };
            let here = stack_pointer();
            both.inside = both.stack.0 <= here && here < both.stack.1;
            both.log.push(round * 10);
            // SAFETY: `main` was suspended by the switch that brought us here.
            unsafe { switch(&raw mut both.other, &raw const both.main) };
        }
        unreachable!()
    }

    #[test]
    fn two_contexts_take_turns_each_on_its_own_stack() {
        let stack = Stack::boxed();
        let (low, high) = stack.bounds();
        let mut state = Box::new(PingPong {
            main: Context::empty(),
            other: Context::empty(),
            log: Vec::new(),
            inside: false,
            stack: (low, high),
        });
        let pointer = &raw mut *state;
        // SAFETY: the stack is ours and empty.
        state.other = unsafe { Context::new(high, other, pointer.expose_provenance()) };
        // SAFETY: a field of `state`, which stays where it is.
        let here = unsafe { &raw mut (*pointer).main };
        // SAFETY: the same.
        let there = unsafe { &raw const (*pointer).other };
        for round in 1..4 {
            state.log.push(round);
            // SAFETY: `other` is new, or was suspended by its own switch.
            unsafe { switch(here, there) };
        }
        assert_eq!(state.log, [1, 10, 2, 20, 3, 30]);
        assert!(state.inside);
    }

    extern "C" fn double_on_other_stack(argument: usize) -> usize {
        assert!(stack_pointer().get() > 0xff, "a call with a frame");
        argument * 2
    }

    #[test]
    fn a_call_on_another_stack_comes_back_with_its_result() {
        let stack = Stack::boxed();
        // SAFETY: the stack is ours and empty.
        assert_eq!(unsafe { call_on(stack.bounds().1, double_on_other_stack, 21) }, 42);
    }

    extern "C" fn count_frames(low: usize) -> usize {
        let low = VirtAddr::new(low);
        // SAFETY: the range is the test's stack.
        let walk = unsafe { frames(frame_pointer(), low, low.wrapping_add(64 << 10)) };
        walk.count()
    }

    #[test]
    fn a_walk_stays_on_the_stack_that_it_was_given() {
        let stack = Stack::boxed();
        let (low, high) = stack.bounds();
        // SAFETY: the stack is ours and empty.
        let frames = unsafe { call_on(high, count_frames, low.get()) };
        // With frame pointers, the function's own frame is there; its caller's is on the other stack.
        assert!(frames <= 2, "{frames} frames");
    }
}
