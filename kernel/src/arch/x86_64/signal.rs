//! What a signal's handler finds on its stack, as Linux lays it out on x86-64: handlers read and change registers there.
//!
//! ```text
//!   higher   what the program had there; below its stack pointer 128 bytes that are its own, too (the red zone)
//!            vector registers, aligned to 64: as XSAVE writes them, with a note in the bytes that are software's, and a magic
//!            word after them
//!            siginfo_t                          128 bytes
//!            ucontext_t                         304 bytes: flags, link, stack_t, the registers, the mask
//!   lower    the restorer: where the handler returns to       <- rsp at the handler's entry, 8 below a multiple of 16
//! ```
//!
//! When the restorer calls `rt_sigreturn` the handler's `ret` has popped its word: rsp is at the ucontext. Nothing that is read back
//! from there is trusted: the return to user mode judges the registers (`trap.rs`), and the vector registers are put right before they are
//! loaded ([`FpuImage::accept`]).

use super::fpu::{self, MOST_BYTES};
use super::frame::TrapFrame;
use super::gdt;

/// Bytes below the stack pointer that a program uses all the same.
const RED_ZONE: usize = 128;
/// The frame without the vector registers, in words; and what of it is the ucontext.
const FRAME_WORDS: usize = 55;
pub(crate) const CONTEXT_WORDS: usize = 38;
const INFO_WORDS: usize = 16;
/// Where the frame's parts begin, in words.
const CONTEXT: usize = 1;
const INFO: usize = CONTEXT + CONTEXT_WORDS;
const _: () = assert!(INFO + INFO_WORDS == FRAME_WORDS, "the parts make the whole");

/// Words of the ucontext.
mod word {
    pub(super) const FLAGS: usize = 0;
    pub(super) const STACK: usize = 2;
    pub(super) const REGISTERS: usize = 5;
    pub(super) const SELECTORS: usize = 23;
    pub(super) const ERROR: usize = 24;
    pub(super) const VECTOR: usize = 25;
    pub(super) const ADDRESS: usize = 27;
    pub(super) const FPU: usize = 28;
    pub(super) const MASK: usize = 37;
}

/// In the ucontext's flags: there is an XSAVE area, ss is there, and is to be loaded.
const HAS_XSAVE: u64 = 1;
const HAS_SS: u64 = 2 | 4;

/// DF, RF and TF: a handler starts without them.
const CLEARED_FLAGS: u64 = 1 << 10 | 1 << 16 | 1 << 8;

/// What a handler is given beside the registers of whom it interrupts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) signal: u8,
    pub(crate) info: [u64; INFO_WORDS],
    pub(crate) handler: usize,
    pub(crate) restorer: usize,
    /// What is blocked when it has returned.
    pub(crate) mask: u64,
    /// The alternate stack: base, flags, bytes.
    pub(crate) stack: [u64; 3],
    /// The last fault: vector, error code, address.
    pub(crate) fault: [u64; 3],
}

/// Where the parts of a frame go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    /// The vector registers.
    pub(crate) fpu: usize,
    /// All the rest.
    pub(crate) frame: usize,
}

impl Places {
    /// Under the stack pointer of `registers`, or under `top`, the end of another stack; `None` if that is not in an address space.
    pub(crate) fn under(registers: &TrapFrame, top: Option<usize>) -> Option<Self> {
        let start = top.or_else(|| (registers.rsp as usize).checked_sub(RED_ZONE))?;
        let fpu = start.checked_sub(fpu::image_bytes())? & !63;
        let frame = (fpu.checked_sub(FRAME_WORDS * 8)? & !15).checked_sub(8)?;
        Some(Self { fpu, frame })
    }
}

/// The registers in the order of Linux's `sigcontext`.
fn registers_of(frame: &TrapFrame) -> [u64; 18] {
    let TrapFrame { r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags, .. } =
        *frame;
    [r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags]
}

/// The frame, as words.
pub(crate) fn frame(registers: &TrapFrame, call: &Call, places: Places) -> [u64; FRAME_WORDS] {
    let mut words = [0; FRAME_WORDS];
    words[0] = call.restorer as u64;
    let context = &mut words[CONTEXT..INFO];
    context[word::FLAGS] = HAS_SS | if fpu::has_xsave() { HAS_XSAVE } else { 0 };
    context[word::STACK..word::STACK + 3].copy_from_slice(&call.stack);
    context[word::REGISTERS..word::SELECTORS].copy_from_slice(&registers_of(registers));
    context[word::SELECTORS] = registers.cs & 0xffff | (registers.ss & 0xffff) << 48;
    let [vector, error, address] = call.fault;
    context[word::ERROR] = error;
    context[word::VECTOR] = vector;
    context[word::ADDRESS] = address;
    context[word::FPU] = places.fpu as u64;
    context[word::MASK] = call.mask;
    words[INFO..].copy_from_slice(&call.info);
    words
}

/// Makes `registers` those with which the handler starts.
pub(crate) fn enter_handler(registers: &mut TrapFrame, call: &Call, places: Places) {
    registers.rdi = u64::from(call.signal);
    registers.rsi = (places.frame + INFO * 8) as u64;
    registers.rdx = (places.frame + CONTEXT * 8) as u64;
    registers.rax = 0;
    registers.rip = call.handler as u64;
    registers.rsp = places.frame as u64;
    registers.rflags &= !CLEARED_FLAGS;
    registers.cs = u64::from(gdt::USER_CODE);
    registers.ss = u64::from(gdt::USER_DATA);
    // No system call's any more.
    registers.vector = 0;
}

/// What `rt_sigreturn` goes back to, beside the registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Returned {
    pub(crate) mask: u64,
    /// The alternate stack: base, flags, bytes.
    pub(crate) stack: [u64; 3],
    /// Where the vector registers are; zero for those that a program starts with.
    pub(crate) fpu: usize,
}

/// Puts the registers of a ucontext into `registers`. Whoever returns with them judges what may not be so.
pub(crate) fn leave_handler(registers: &mut TrapFrame, context: &[u64; CONTEXT_WORDS]) -> Returned {
    let mut words = [0; 18];
    words.copy_from_slice(&context[word::REGISTERS..word::SELECTORS]);
    let [r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags] = words;
    // Whatever the handler wrote there: user mode's privileges.
    let cs = context[word::SELECTORS] & 0xffff | 3;
    let ss = context[word::SELECTORS] >> 48 | 3;
    // Not a system call any more: nothing is made again.
    let (vector, error) = (0, 0);
    *registers = TrapFrame {
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rdi,
        rsi,
        rbp,
        rbx,
        rdx,
        rax,
        rcx,
        rsp,
        rip,
        rflags,
        cs,
        ss,
        vector,
        error,
    };
    let mut stack = [0; 3];
    stack.copy_from_slice(&context[word::STACK..word::STACK + 3]);
    Returned { mask: context[word::MASK], stack, fpu: context[word::FPU] as usize }
}

/// Where Linux's note lies among the vector registers: in the part of an FXSAVE area that is software's.
const NOTE: usize = 464;
/// Where the registers of an FXSAVE area end.
const REGISTERS_END: usize = 416;
const MAGIC_BEFORE: u32 = 0x4650_5853;
const MAGIC_AFTER: u32 = 0x4650_5845;
const MAGIC_BYTES: usize = 4;
/// In an XSAVE area: which sets are there.
const PRESENT: usize = 512;
const HEADER_END: usize = 576;
const CONTROL: usize = 24;

/// Vector registers on their way between a task and its program.
#[derive(Clone, Debug)]
pub(crate) struct FpuImage([u8; MOST_BYTES + MAGIC_BYTES]);

impl FpuImage {
    /// How much there is where nobody wrote more than FXSAVE does.
    pub(crate) const LEGACY_BYTES: usize = 512;

    /// Nothing yet.
    pub(crate) const fn new() -> Self {
        Self([0; MOST_BYTES + MAGIC_BYTES])
    }

    /// Where the registers go.
    pub(crate) fn area(&mut self) -> &mut [u8] {
        let bytes = fpu::area_bytes().min(MOST_BYTES);
        &mut self.0[..bytes]
    }

    /// All that goes to the program.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.0[..fpu::image_bytes()]
    }

    fn word(&self, at: usize) -> u32 {
        let bytes = self.0.get(at..at + 4).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Says, in the bytes that are software's, what there is. Without XSAVE there is nothing to say.
    pub(crate) fn describe(&mut self) {
        let bytes = self.area().len();
        // Saving leaves these as they were.
        self.0[REGISTERS_END..Self::LEGACY_BYTES].fill(0);
        if !fpu::has_xsave() {
            return;
        }
        self.put(NOTE, &MAGIC_BEFORE.to_le_bytes());
        self.put(NOTE + 4, &((bytes + MAGIC_BYTES) as u32).to_le_bytes());
        self.put(NOTE + 8, &fpu::sets().to_le_bytes());
        self.put(NOTE + 16, &(bytes as u32).to_le_bytes());
        self.put(bytes, &MAGIC_AFTER.to_le_bytes());
    }

    /// Makes what came from a program something that can be loaded: unknown sets are not there. What has not the words that
    /// [`describe`](Self::describe) writes is an FXSAVE area. False if the control word cannot be.
    #[must_use]
    pub(crate) fn accept(&mut self) -> bool {
        let bytes = self.area().len();
        let whole = self.word(NOTE) == MAGIC_BEFORE
            && self.word(NOTE + 16) as usize == bytes
            && self.word(bytes) == MAGIC_AFTER;
        if fpu::has_xsave() {
            let present = u64::from(self.word(PRESENT)) & fpu::sets();
            self.0[PRESENT..HEADER_END].fill(0);
            self.put(PRESENT, &if whole { present } else { fpu::LEGACY_SETS }.to_le_bytes());
            if !whole {
                self.0[HEADER_END..].fill(0);
            }
        }
        self.word(CONTROL) & !fpu::control_mask() == 0
    }
}
