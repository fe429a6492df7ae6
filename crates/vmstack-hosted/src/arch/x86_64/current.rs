//! x86-64: three ways to the running task's flags, made again and again while one task after the other runs.
//!
//! GS is free in a Linux process: its base is a block as a kernel has one for each CPU.
//!
//! ```text
//!   GS ──> | pointer to the current task's struct | flags |       TASKS ──> | top of its stack | its struct | ...
//! ```

use core::arch::naked_asm;
use core::mem::offset_of;

use crate::current::{Block, TaskPlace, WINDOW};
use crate::sys::{Errno, check};

/// `arch_prctl`: sets the base of GS (`asm/prctl.h`).
const SET_GS: libc::c_int = 0x1001;

/// Sets the base of this thread's GS; zero: none.
///
/// # Safety
///
/// Nothing of this thread uses GS for anything else, and what is there stays until it is set again.
pub(crate) unsafe fn set_gs(base: usize) -> Result<(), Errno> {
    // SAFETY: the caller's promise; no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_arch_prctl, SET_GS, base) } as libc::c_int)
}

/// A loop over the tasks: each is switched to, pushes a word, and its flags are tested in the way of `$test`, which may use RCX. Comes
/// back early if a flag is up.
macro_rules! rounds {
    ($(#[$doc:meta])* $name:ident, $($test:literal),*) => {
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// There are `count` tasks, more than none, each with a struct, a window, and a stack at its end that nobody stands on; GS is set.
        #[unsafe(naked)]
        pub(crate) unsafe extern "C" fn $name(tasks: *const TaskPlace, count: usize, rounds: usize) {
            naked_asm!(
                "push rbx",
                "mov rbx, rsp",            // RBX finds the way back
                "2:",
                "mov r8, rdi",             // From the first task on
                "mov r9, rsi",
                "3:",
                "mov rsp, [r8 + {stack}]", // The switch: another stack,
                "mov rax, [r8 + {place}]",
                "mov gs:[{current}], rax", // and another current task
                "push rax",                // It uses its stack
                "pop rax",
                "cmp eax, eax",            // No flag is up, if none is looked at
                $($test,)*
                "jne 4f",
                "lfence",                  // The return to user mode waits for all of it
                "add r8, {bytes}",         // The next task
                "dec r9",
                "jnz 3b",
                "dec rdx",                 // The next round
                "jnz 2b",
                "4:",
                "mov rsp, rbx",
                "pop rbx",
                "ret",
                "/* {flags} {window} {own} */", // Each way uses some of them
                stack = const offset_of!(TaskPlace, stack),
                place = const offset_of!(TaskPlace, place),
                bytes = const size_of::<TaskPlace>(),
                current = const offset_of!(Block, current),
                flags = const offset_of!(Block, flags),
                window = const -(WINDOW as isize),
                own = const 0,
            )
        }
    };
}

rounds!(
    /// The switches alone.
    switch_only,
);
rounds!(
    /// In the CPU's block.
    per_cpu,
    "cmp dword ptr gs:[{flags}], 0"
);
rounds!(
    /// In the task's struct.
    task_struct,
    "mov rcx, gs:[{current}]",
    "cmp dword ptr [rcx + {own}], 0"
);
rounds!(
    /// In a page at the start of the stack's window.
    slot,
    "mov rcx, rsp",
    "and rcx, {window}",
    "cmp dword ptr [rcx + {own}], 0"
);
