//! x86-64: instructions that leave a stack at a chosen byte. Each moves the stack pointer there first, within the stack that
//! the caller runs on, and puts it back if nothing faulted.

use core::arch::naked_asm;

use vmstack::VirtAddr;

/// A function that returns at once: RET, and traps after it.
pub(crate) const RETURN: [u8; 16] = {
    let mut bytes = [0xcc; 16];
    bytes[0] = 0xc3;
    bytes
};

/// The bytes of the locals of what [`call_at`] calls. With return address and saved frame pointer it takes 16 more.
const CALL_LOCALS: usize = 1000;

/// Calls a function that takes 1,016 bytes of stack, with the stack pointer `sp`.
///
/// # Safety
///
/// `sp` is on the caller's stack, or at its bottom, with nothing in use below; a task that can be killed runs.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn call_at(sp: VirtAddr) {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp", // RBP finds the way back
        "mov rsp, rdi", // So many bytes are left
        "call {leaf}",
        "mov rsp, rbp",
        "pop rbp",
        "ret",
        leaf = sym leaf,
    )
}

/// A plain function with locals. It asks for no alignment, so it can be called at any multiple of 8.
#[unsafe(naked)]
unsafe extern "C" fn leaf() {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "sub rsp, {locals}",
        "mov byte ptr [rsp], 1", // The lowest local is written first, as a probe would
        "leave",
        "ret",
        locals = const CALL_LOCALS,
    )
}

/// Sends `signal` to thread `thread` of process `process`, the caller's, with the stack pointer `sp`. It is delivered
/// there, before the next instruction. Returns what the system call did.
///
/// # Safety
///
/// As for [`call_at`]; the signal's handler runs on an alternate stack and returns.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn signal_at(sp: VirtAddr, process: i32, thread: i32, signal: i32) -> isize {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "mov rsp, rdi",
        "mov edi, esi", // tgkill(process, thread, signal)
        "mov esi, edx",
        "mov edx, ecx",
        "mov eax, {tgkill}",
        "syscall",      // The signal comes on the way back
        "mov rsp, rbp",
        "pop rbp",
        "ret",
        tgkill = const libc::SYS_tgkill,
    )
}

/// Clears the 256 bytes below the stack pointer `sp` from the top down, as a leaf without a frame does in its red zone and
/// beyond.
///
/// # Safety
///
/// As for [`call_at`].
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn fill_down(sp: VirtAddr) {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "mov rsp, rdi",
        "lea rdi, [rsp - 1]",
        "mov ecx, 256",
        "xor eax, eax",
        "std", // Downwards: the order of a memmove to a higher address
        "rep stosb",
        "cld",
        "mov rsp, rbp",
        "pop rbp",
        "ret",
    )
}

/// Pops a word with the stack pointer `sp`, as a return does that nobody called.
///
/// # Safety
///
/// `sp` is the top of the caller's stack; a task that can be killed runs.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn pop_at(sp: VirtAddr) -> usize {
    naked_asm!("push rbp", "mov rbp, rsp", "mov rsp, rdi", "pop rax", "mov rsp, rbp", "pop rbp", "ret",)
}
