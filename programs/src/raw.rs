//! System calls that the C library makes for its own ends, made directly: threads without the library's knowledge, and waits.

use std::arch::asm;
use std::cell::UnsafeCell;
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

/// A stack for a raw thread. It is never freed: nobody knows when its thread has left it.
#[derive(Debug)]
pub struct Stack(&'static mut [u128]);

impl Stack {
    /// One of 64 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self(vec![0; 4096].leak())
    }

    /// One of a few that are there from the start, for those who must not allocate. Whoever had number `index` before has ended.
    ///
    /// # Panics
    ///
    /// When there is no such number.
    #[must_use]
    pub fn spare(index: usize) -> Self {
        static SPARE: [SpareStack; SPARE_STACKS] = [const { SpareStack(UnsafeCell::new([0; 1024])) }; SPARE_STACKS];
        let words = SPARE[index].0.get();
        // SAFETY: its last user has ended, says the caller; nobody else has it.
        Self(unsafe { &mut *words })
    }

    fn top(&mut self) -> *mut u128 {
        self.0.as_mut_ptr_range().end
    }
}

/// How many spare stacks there are.
pub const SPARE_STACKS: usize = 256;

/// Memory for a stack.
struct SpareStack(UnsafeCell<[u128; 1024]>);

// SAFETY: a stack is one thread's at a time, says who asks for it.
unsafe impl Sync for SpareStack {}

impl Default for Stack {
    fn default() -> Self {
        Self::new()
    }
}

/// What the threads of a process share.
pub const OF_THREAD: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM) as u64;

/// `clone` with these flags and words: `run(argument)` runs on the stack, and the thread ends with what it returns.
///
/// # Errors
///
/// The system's.
///
/// # Safety
///
/// What `run` does is right in a thread that the C library does not know: no allocation, no thread-local storage.
pub unsafe fn clone(
    flags: u64,
    stack: Stack,
    parent_tid: *mut i32,
    child_tid: *mut i32,
    run: extern "C" fn(usize) -> i32,
    argument: usize,
) -> io::Result<i32> {
    // SAFETY: the caller's promise.
    unsafe {
        clone_words(flags, stack, [parent_tid.expose_provenance(), child_tid.expose_provenance(), 0], run, argument)
    }
}

/// `clone` of a thread whose thread-local storage is at `tls`.
///
/// # Errors
///
/// The system's.
///
/// # Safety
///
/// As for [`clone`].
pub unsafe fn clone_with(flags: u64, stack: Stack, tls: usize, run: extern "C" fn(usize) -> i32) -> io::Result<i32> {
    // SAFETY: the caller's promise.
    unsafe { clone_words(flags, stack, [0, 0, tls], run, 0) }
}

/// `clone` with these words behind the stack.
///
/// # Safety
///
/// As for [`clone`]; the first two words are null or can be written to.
unsafe fn clone_words(
    flags: u64,
    mut stack: Stack,
    [parent_tid, child_tid, tls]: [usize; 3],
    run: extern "C" fn(usize) -> i32,
    argument: usize,
) -> io::Result<i32> {
    let answer: isize;
    // SAFETY: the child finds its function and its argument in registers that the kernel keeps, and a stack of its own; it never
    // returns from here. The parent's registers are as the call leaves them.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "mov edi, eax",
            "mov eax, 60",
            "syscall",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone as isize => answer,
            in("rdi") flags,
            in("rsi") stack.top(),
            in("rdx") parent_tid,
            in("r10") child_tid,
            in("r8") tls,
            in("r12") run,
            in("r13") argument,
            out("rcx") _,
            out("r11") _,
        );
    }
    if answer < 0 { Err(io::Error::from_raw_os_error(-answer as i32)) } else { Ok(answer as i32) }
}

/// Waits until `word` is zero, without sleeping.
pub fn spin_until_zero(word: &AtomicI32) {
    while word.load(Ordering::SeqCst) != 0 {
        // SAFETY: the call has no arguments.
        unsafe { libc::sched_yield() };
    }
}

/// The number of the current thread.
#[must_use]
pub fn thread_number() -> i32 {
    // Not the C library's function: the standard library refers to that weakly, so it may not be there.
    // SAFETY: the call has no arguments.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

/// `wait4`, or its error.
///
/// # Errors
///
/// The system's.
pub fn wait4(pid: i32, options: i32) -> io::Result<(i32, i32)> {
    let mut status = 0;
    // SAFETY: `status` can be written to.
    match unsafe { libc::wait4(pid, &raw mut status, options, std::ptr::null_mut()) } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok((pid, status)),
    }
}
