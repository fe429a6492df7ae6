//! What a CPU was doing when it entered the kernel: the registers, in one layout for every way in.
//!
//! ```text
//! higher   ss  rsp  rflags  cs  rip      pushed by the CPU (by the SYSCALL entry: pushed by hand)
//!          error                         pushed by the CPU, or zero; of a system call: its number
//!          vector                        pushed by the entry; SYSCALL_VECTOR for a system call
//!          rax rbx rcx rdx rsi rdi rbp   pushed by the entry
//! lower    r8 ... r15
//! ```
//!
//! Below a frame the entry pushes a *link*, `{ saved rbp, saved rip }`, and points rbp at it, so that a walk of frame
//! pointers goes through an entry as through a call. A frame that came from user mode has a link of two zeros: the end.
//! Where an interrupt left a task's stack for the interrupt stack, the link lies on the former and is reached from the
//! latter: the one step of a walk that changes stacks. In the first and last instructions of an entry rbp is still user
//! mode's, and an NMI there gives its link: a walk believes no link that lies outside the kernel's stacks.

use core::fmt;
use core::mem::{offset_of, size_of};

use vmstack::VirtAddr;

use super::gdt;

/// The value of `vector` in the frame of a system call: no interrupt has it.
pub(crate) const SYSCALL_VECTOR: u64 = 0x100;

/// Exception vectors that the kernel tells apart.
pub(crate) mod vector {
    /// #DE, an integer was divided by zero, or the quotient is too large.
    pub(crate) const DIVIDE: u64 = 0;
    /// #DB, debug: on an IST stack if it interrupted the kernel.
    pub(crate) const DEBUG: u64 = 1;
    /// NMI: always on its IST stack.
    pub(crate) const NMI: u64 = 2;
    /// #BP, the `int3` instruction.
    pub(crate) const BREAKPOINT: u64 = 3;
    /// #UD.
    pub(crate) const INVALID_OPCODE: u64 = 6;
    /// #DF, double fault: always on its IST stack.
    pub(crate) const DOUBLE_FAULT: u64 = 8;
    /// #NP and #SS: segments that are none.
    pub(crate) const NO_SEGMENT: u64 = 11;
    /// See [`NO_SEGMENT`].
    pub(crate) const STACK_SEGMENT: u64 = 12;
    /// #GP, general protection.
    pub(crate) const GENERAL_PROTECTION: u64 = 13;
    /// #PF, page fault: on the stack that was current.
    pub(crate) const PAGE_FAULT: u64 = 14;
    /// #MF, of the x87 unit.
    pub(crate) const X87: u64 = 16;
    /// #AC, a misaligned access where that is asked to fault.
    pub(crate) const ALIGNMENT: u64 = 17;
    /// #MC, machine check: on an IST stack if it interrupted the kernel.
    pub(crate) const MACHINE_CHECK: u64 = 18;
    /// #XM, of the vector units.
    pub(crate) const SIMD: u64 = 19;
}

/// The registers of whoever was interrupted.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct TrapFrame {
    pub(crate) r15: u64,
    pub(crate) r14: u64,
    pub(crate) r13: u64,
    pub(crate) r12: u64,
    pub(crate) r11: u64,
    pub(crate) r10: u64,
    pub(crate) r9: u64,
    pub(crate) r8: u64,
    pub(crate) rbp: u64,
    pub(crate) rdi: u64,
    pub(crate) rsi: u64,
    pub(crate) rdx: u64,
    pub(crate) rcx: u64,
    pub(crate) rbx: u64,
    pub(crate) rax: u64,
    pub(crate) vector: u64,
    pub(crate) error: u64,
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
}

/// The interrupt flag in `rflags`.
pub(super) const RFLAGS_IF: u64 = 1 << 9;
/// The bit of `rflags` that always reads as one.
pub(super) const RFLAGS_FIXED: u64 = 1 << 1;

const _: () = assert!(size_of::<TrapFrame>() == 22 * 8, "the entries push 22 words");
const _: () = assert!(offset_of!(TrapFrame, vector) == 15 * 8, "15 registers lie below the vector");
const _: () = assert!(size_of::<TrapFrame>().is_multiple_of(16), "a frame keeps the stack aligned for a call");

impl TrapFrame {
    /// The first state of a user task: at `entry`, on `stack`, interrupts on, every other register zero.
    #[must_use]
    pub(crate) fn user(entry: VirtAddr, stack: VirtAddr) -> Self {
        Self {
            rip: entry.get() as u64,
            cs: u64::from(gdt::USER_CODE),
            rflags: RFLAGS_FIXED | RFLAGS_IF,
            rsp: stack.get() as u64,
            ss: u64::from(gdt::USER_DATA),
            ..Self::default()
        }
    }

    /// The frame of nobody: zero from end to end.
    pub(crate) const BLANK: Self = {
        // SAFETY: all of it is plain numbers, of which zero is one.
        unsafe { core::mem::zeroed() }
    };

    /// Whether user mode was interrupted.
    #[must_use]
    pub(crate) const fn is_user(&self) -> bool {
        self.cs & 3 != 0
    }

    /// Whether interrupts were on in what was interrupted.
    #[must_use]
    pub(crate) const fn interrupts_on(&self) -> bool {
        self.rflags & RFLAGS_IF != 0
    }

    /// Notes which system call this is, before the answer takes the number's place.
    pub(crate) const fn begin_call(&mut self) -> usize {
        self.error = self.rax;
        self.rax as usize
    }

    /// The number of the system call, if the frame is of one.
    #[must_use]
    pub(crate) const fn call_number(&self) -> Option<usize> {
        if self.vector == SYSCALL_VECTOR { Some(self.error as usize) } else { None }
    }

    /// Has user mode make system call `number` instead of going on after the one of this frame.
    pub(crate) const fn make_call_again(&mut self, number: usize) {
        /// Bytes of the SYSCALL instruction.
        const INSTRUCTION: u64 = 2;
        self.rip -= INSTRUCTION;
        // SYSCALL leaves rip there, and so can SYSRET take it.
        self.rcx = self.rip;
        self.rax = number as u64;
    }

    /// The instruction that was interrupted, or that faulted.
    #[must_use]
    pub(crate) const fn instruction(&self) -> VirtAddr {
        VirtAddr::new(self.rip as usize)
    }

    /// The stack pointer of what was interrupted.
    #[must_use]
    pub(crate) const fn stack_pointer(&self) -> VirtAddr {
        VirtAddr::new(self.rsp as usize)
    }

    /// The frame pointer of what was interrupted.
    #[must_use]
    pub(crate) const fn frame_pointer(&self) -> VirtAddr {
        VirtAddr::new(self.rbp as usize)
    }
}

impl fmt::Debug for TrapFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "vector {:#x} error {:#x}", self.vector, self.error)?;
        let Self { cs, rip, ss, rsp, rflags, .. } = self;
        writeln!(f, "rip {cs:04x}:{rip:016x} rsp {ss:04x}:{rsp:016x} rflags {rflags:08x}")?;
        let Self { rax, rbx, rcx, rdx, .. } = self;
        writeln!(f, "rax {rax:016x} rbx {rbx:016x} rcx {rcx:016x} rdx {rdx:016x}")?;
        let Self { rsi, rdi, rbp, r8, .. } = self;
        writeln!(f, "rsi {rsi:016x} rdi {rdi:016x} rbp {rbp:016x} r8  {r8:016x}")?;
        let Self { r9, r10, r11, r12, .. } = self;
        writeln!(f, "r9  {r9:016x} r10 {r10:016x} r11 {r11:016x} r12 {r12:016x}")?;
        let Self { r13, r14, r15, .. } = self;
        write!(f, "r13 {r13:016x} r14 {r14:016x} r15 {r15:016x}")
    }
}
