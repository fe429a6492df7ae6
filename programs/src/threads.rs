//! Threads without a threads library: `clone`, a stack from `mmap`, and a futex for the end.
//!
//! A measurement should count the kernel's work and as little else as can be. The flags are those that pthreads pass. A thread here
//! has no thread-local storage of its own and runs code that needs none: no allocation, no printing, nothing of the C library.
//!
//! ```text
//!   stack of a thread, high to low:   entry │ argument │ what the entry pushes ...
//!                                     ▲ where the thread starts; it pops both
//! ```
//!
//! The kernel clears a word and wakes whoever waits for it when the thread is gone (`CLONE_CHILD_CLEARTID`): that is the join.

use core::arch::asm;
use core::ffi::c_int;
use core::sync::atomic::{AtomicU32, Ordering};
use std::io;
use std::ptr::NonNull;

use crate::mapping::Mapping;
use crate::succeeded;

/// What pthreads ask for.
const FLAGS: c_int = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID;

/// The words that a thread finds on its stack.
const START: usize = 2;

/// What a thread runs: it gets one word, and never returns. It touches no thread-local storage.
pub type Entry = unsafe extern "C" fn(usize) -> !;

/// Stacks of threads, side by side, in memory of their own that is there and has been touched.
#[derive(Debug)]
pub struct Stacks {
    memory: Mapping,
    size: usize,
}

impl Stacks {
    /// `count` stacks of `size` bytes, a multiple of 16.
    ///
    /// # Errors
    ///
    /// The system's, when there is no such memory.
    ///
    /// # Panics
    ///
    /// When `size` is no multiple of 16 or too small for anything.
    pub fn new(count: usize, size: usize) -> io::Result<Self> {
        assert!(size.is_multiple_of(16) && size >= 256, "stacks of {size} bytes");
        let memory = Mapping::new(count * size)?;
        memory.touch();
        Ok(Self { memory, size })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.memory.length() / self.size
    }

    /// Stack `index` with `entry` and `argument` on it: where its thread's stack pointer begins.
    ///
    /// # Panics
    ///
    /// When there is no such stack.
    #[must_use]
    pub fn prepared(&self, index: usize, entry: Entry, argument: usize) -> Prepared {
        assert!(index < self.count(), "no stack {index}");
        let top = (index + 1) * self.size / size_of::<usize>();
        let words = self.memory.start().cast::<usize>();
        // SAFETY: the index lies in the mapping, for the stack does (asserted) and holds more than two words.
        let start = unsafe { words.add(top - START) };
        // SAFETY: as above; the memory is writable, aligned, and no thread runs on it: one that did would have been joined.
        unsafe { start.write(entry as usize) };
        // SAFETY: the word after it is the last of the stack.
        let second = unsafe { start.add(1) };
        // SAFETY: as for the first word.
        unsafe { second.write(argument) };
        Prepared(start)
    }
}

/// Where a thread can start. Having one means that an entry and its argument lie there, in stacks that outlive it as long as their
/// owner joins before it drops them.
#[derive(Clone, Copy, Debug)]
pub struct Prepared(NonNull<usize>);

/// The word that is not zero while a thread lives.
#[derive(Debug, Default)]
pub struct Alive(AtomicU32);

impl Alive {
    /// A word of a thread that is not there.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Waits for the end of the thread.
    pub fn join(&self) {
        loop {
            match self.0.load(Ordering::Acquire) {
                0 => return,
                // The kernel wakes as one who knows of no private futex.
                tid => drop(wait(&self.0, tid, false)),
            }
        }
    }
}

/// Starts a thread on a prepared stack, and returns when the system call does.
///
/// # Errors
///
/// The system's, when there can be no more threads.
///
/// # Safety
///
/// 1. No other thread is on the stack, and it stays mapped until the thread is joined; so does `alive`.
/// 2. The entry keeps what [`Entry`] asks, and may be called with the argument that was prepared.
pub unsafe fn start(stack: Prepared, alive: &Alive) -> io::Result<()> {
    let word = alive.0.as_ptr();
    let result: isize;
    // SAFETY: the parent comes back from the call as from any other. The child has a stack of its own (1), takes what lies there,
    // and calls the entry, which does not return (2). Its stack pointer is a multiple of 16 at the call, as the ABI asks.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "pop rax",         // child: the entry
            "pop rdi",         // child: its argument
            "xor ebp, ebp",    // child: the end of its frames
            "call rax",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone as isize => result,
            in("rdi") FLAGS as isize,
            in("rsi") stack.0.as_ptr(),
            in("rdx") word,
            in("r10") word,
            in("r8") stack.0.as_ptr(),
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    succeeded(result).map(|_| ())
}

/// An entry that ends its thread at once.
///
/// # Safety
///
/// The thread owns nothing that somebody needs.
pub unsafe extern "C" fn exit(_: usize) -> ! {
    // SAFETY: ends this thread; nothing comes after it.
    unsafe { asm!("syscall", "ud2", in("rax") libc::SYS_exit, in("rdi") 0, options(noreturn)) };
}

/// Where threads wait until they are let go.
#[derive(Debug, Default)]
pub struct Gate {
    open: AtomicU32,
    arrived: AtomicU32,
}

impl Gate {
    /// A gate that is shut.
    #[must_use]
    pub const fn new() -> Self {
        Self { open: AtomicU32::new(0), arrived: AtomicU32::new(0) }
    }

    /// The word that [`wait_at`] takes.
    #[must_use]
    pub fn word(&self) -> usize {
        (&raw const *self).expose_provenance()
    }

    /// Gives others the CPU until `count` threads have come to it.
    pub fn wait_for(&self, count: u32) {
        while self.arrived.load(Ordering::Acquire) < count {
            std::thread::yield_now();
        }
    }

    /// Lets all threads go.
    pub fn open(&self) {
        self.open.store(1, Ordering::Release);
        wake_all(&self.open);
    }

    /// Shuts it again; nobody is there any more.
    pub fn shut(&mut self) {
        *self = Self::new();
    }
}

/// An entry that waits at the gate whose word is `gate`, and ends its thread.
///
/// # Safety
///
/// The gate lives until the thread has been joined.
pub unsafe extern "C" fn wait_at(gate: usize) -> ! {
    let gate: *const Gate = core::ptr::with_exposed_provenance(gate);
    // SAFETY: the word is that of a gate which lives as long as this thread, as the caller promises.
    let gate = unsafe { &*gate };
    gate.arrived.fetch_add(1, Ordering::AcqRel);
    while gate.open.load(Ordering::Acquire) == 0 {
        // Any answer means to look again.
        let _ = wait(&gate.open, 0, true);
    }
    // SAFETY: the thread owns nothing.
    unsafe { exit(0) }
}

/// Waits until it is woken, as long as `word` is `value`.
fn wait(word: &AtomicU32, value: u32, private: bool) -> isize {
    let operation = libc::FUTEX_WAIT | if private { libc::FUTEX_PRIVATE_FLAG } else { 0 };
    futex(word, operation, value)
}

fn wake_all(word: &AtomicU32) {
    futex(word, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, i32::MAX.cast_unsigned());
}

/// The system call, without the C library: its `errno` is thread-local.
fn futex(word: &AtomicU32, operation: c_int, value: u32) -> isize {
    let result: isize;
    // SAFETY: the word is a shared one that lives as long as the call; there is no time limit (a null pointer).
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") libc::SYS_futex as isize => result,
            in("rdi") word.as_ptr(),
            in("rsi") operation as isize,
            in("rdx") value as usize,
            in("r10") 0_usize,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}
