//! What a program may give that is none: the error that Linux gives, or the end that Linux has for it.

use std::ptr;

use libc::{EFAULT, EINVAL, SIGSEGV, SIGUSR1, c_int, c_long, c_void, siginfo_t};
use vmstack_programs::checks::{Checks, Outcome, equal};
use vmstack_programs::{spawn, wait};

use crate::sys;

pub(crate) const CHECKS: &Checks =
    &[("bad-pointers", pointers), ("bad-sizes", sizes), ("bad-handlers", handlers), ("bad-returns", returns)];

/// Addresses that are none: low, the kernel's, not canonical, and one at the very end.
const NOWHERE: [usize; 4] = [0x10, 0xffff_8000_0000_0000, 0x8000_0000_0000_0000, usize::MAX - 4];

/// Makes a call, and says with which error it ended; zero: with none.
fn call(number: c_long, arguments: [usize; 5]) -> c_int {
    let [a, b, c, d, e] = arguments;
    // SAFETY: none of the calls here writes to memory that is there, but for what is named.
    let answer = unsafe { libc::syscall(number, a, b, c, d, e) };
    if answer < 0 { sys::errno() } else { 0 }
}

fn pointers() -> Outcome {
    let usr1 = SIGUSR1 as usize;
    let me = sys::process_id() as usize;
    for bad in NOWHERE {
        let calls = [
            ("rt_sigaction", call(libc::SYS_rt_sigaction, [usr1, bad, 0, 8, 0])),
            ("rt_sigaction old", call(libc::SYS_rt_sigaction, [usr1, 0, bad, 8, 0])),
            ("rt_sigprocmask", call(libc::SYS_rt_sigprocmask, [0, bad, 0, 8, 0])),
            ("rt_sigprocmask old", call(libc::SYS_rt_sigprocmask, [0, 0, bad, 8, 0])),
            ("rt_sigpending", call(libc::SYS_rt_sigpending, [bad, 8, 0, 0, 0])),
            ("rt_sigsuspend", call(libc::SYS_rt_sigsuspend, [bad, 8, 0, 0, 0])),
            ("rt_sigtimedwait", call(libc::SYS_rt_sigtimedwait, [bad, 0, 0, 8, 0])),
            ("rt_sigqueueinfo", call(libc::SYS_rt_sigqueueinfo, [me, usr1, bad, 0, 0])),
            ("rt_tgsigqueueinfo", call(libc::SYS_rt_tgsigqueueinfo, [me, me, usr1, bad, 0])),
            ("sigaltstack", call(libc::SYS_sigaltstack, [bad, 0, 0, 0, 0])),
            ("sigaltstack old", call(libc::SYS_sigaltstack, [0, bad, 0, 0, 0])),
            ("setitimer", call(libc::SYS_setitimer, [0, bad, 0, 0, 0])),
            ("getitimer", call(libc::SYS_getitimer, [0, bad, 0, 0, 0])),
            ("nanosleep", call(libc::SYS_nanosleep, [bad, 0, 0, 0, 0])),
            ("clock_nanosleep", call(libc::SYS_clock_nanosleep, [1, 0, bad, 0, 0])),
            ("clock_gettime", call(libc::SYS_clock_gettime, [1, bad, 0, 0, 0])),
            ("clock_getres", call(libc::SYS_clock_getres, [1, bad, 0, 0, 0])),
            ("gettimeofday", call(libc::SYS_gettimeofday, [bad, 0, 0, 0, 0])),
            ("time", call(libc::SYS_time, [bad, 0, 0, 0, 0])),
        ];
        for (name, error) in calls {
            equal(&format!("{name} with {bad:#x}"), error, EFAULT)?;
        }
    }
    Ok(())
}

fn sizes() -> Outcome {
    let set = sys::set(&[]);
    let there = (&raw const set).expose_provenance();
    let usr1 = SIGUSR1 as usize;
    let bad_time = [0_i64, 1_000_000_000];
    let time = bad_time.as_ptr().expose_provenance();
    let calls = [
        ("rt_sigaction with a size", call(libc::SYS_rt_sigaction, [usr1, 0, 0, 16, 0])),
        ("rt_sigaction of 0", call(libc::SYS_rt_sigaction, [0, 0, 0, 8, 0])),
        ("rt_sigaction of 65", call(libc::SYS_rt_sigaction, [65, 0, 0, 8, 0])),
        ("rt_sigaction of KILL", call(libc::SYS_rt_sigaction, [9, there, 0, 8, 0])),
        ("rt_sigprocmask with a size", call(libc::SYS_rt_sigprocmask, [0, there, 0, 4, 0])),
        ("rt_sigprocmask that is none", call(libc::SYS_rt_sigprocmask, [3, there, 0, 8, 0])),
        ("rt_sigsuspend with a size", call(libc::SYS_rt_sigsuspend, [there, 9, 0, 0, 0])),
        ("rt_sigtimedwait with a size", call(libc::SYS_rt_sigtimedwait, [there, 0, 0, 7, 0])),
        ("rt_sigtimedwait with a time", call(libc::SYS_rt_sigtimedwait, [there, 0, time, 8, 0])),
        ("nanosleep with a time", call(libc::SYS_nanosleep, [time, 0, 0, 0, 0])),
        ("clock_gettime of none", call(libc::SYS_clock_gettime, [77, there, 0, 0, 0])),
        ("setitimer of none", call(libc::SYS_setitimer, [3, 0, 0, 0, 0])),
        ("kill with signal 65", call(libc::SYS_kill, [1, 65, 0, 0, 0])),
        ("tgkill of group 0", call(libc::SYS_tgkill, [0, 1, 0, 0, 0])),
    ];
    calls.iter().try_for_each(|&(name, error)| equal(name, error, EINVAL))
}

/// How a child ends that does this.
fn end_of(work: fn()) -> i32 {
    let child = spawn(|| {
        // Rust's handler would let it pass once.
        sys::dispose(SIGSEGV, libc::SIG_DFL);
        work();
        0
    });
    child.and_then(wait).map_or(-1, |ended| ended.status & 0x7f)
}

/// Linux's `struct kernel_sigaction`.
#[repr(C)]
struct KernelAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

const RESTORER: u64 = 0x0400_0000;
const ON_STACK: u64 = libc::SA_ONSTACK as u64;

fn handle_at(handler: usize, flags: u64) {
    let action = KernelAction { handler, flags, restorer: 0x1000, mask: 0 };
    // SAFETY: reads the action.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, SIGUSR1, &raw const action, 0, 8) };
    sys::raise(SIGUSR1);
}

extern "C" fn nothing(_: c_int, _: *mut siginfo_t, _: *mut c_void) {}

fn handlers() -> Outcome {
    equal("one that is not mapped", end_of(|| handle_at(0x1000, RESTORER)), SIGSEGV)?;
    equal("the kernel's", end_of(|| handle_at(0xffff_8000_0000_0000, RESTORER)), SIGSEGV)?;
    equal("no address", end_of(|| handle_at(0x8000_0000_0000_0000, RESTORER)), SIGSEGV)?;
    equal("without a restorer", end_of(|| handle_at(nothing as *const () as usize, 0)), SIGSEGV)?;
    equal("with one that is not mapped", end_of(|| handle_at(nothing as *const () as usize, RESTORER)), SIGSEGV)?;
    equal("on a stack that is not mapped", end_of(on_no_stack), SIGSEGV)?;
    equal("under a stack pointer that is none", end_of(under_nothing), SIGSEGV)
}

fn on_no_stack() {
    let stack = libc::stack_t { ss_sp: ptr::without_provenance_mut(0x10000), ss_flags: 0, ss_size: 1 << 16 };
    // SAFETY: what is there is never used: it is not there.
    unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) };
    handle_at(nothing as *const () as usize, RESTORER | ON_STACK);
}

fn under_nothing() {
    sys::handle(SIGUSR1, nothing, 0);
    // SAFETY: the signal comes while the stack pointer is none, and ends the process.
    unsafe {
        core::arch::asm!(
            "mov rsp, 0x10", "syscall", "ud2",
            in("rax") libc::SYS_kill, in("rdi") sys::process_id(), in("rsi") SIGUSR1, options(noreturn)
        );
    }
}

/// Calls `rt_sigreturn` with the stack pointer at `frame`.
fn go_back_to(frame: *const u64) {
    // SAFETY: ends the process, or goes on where the frame says, which is nowhere.
    unsafe {
        core::arch::asm!("mov rsp, {frame}", "mov eax, 15", "syscall", "ud2", frame = in(reg) frame, options(noreturn));
    }
}

/// Words of a frame, as Linux has them from the ucontext on.
fn frame(fill: u64, words: &[(usize, u64)]) {
    let mut frame = [fill; 64];
    words.iter().for_each(|&(place, word)| frame[place] = word);
    go_back_to(frame.as_ptr());
}

const RSP: usize = 20;
const RIP: usize = 21;
const FLAGS: usize = 22;
const SELECTORS: usize = 23;
const VECTORS: usize = 28;
/// What user mode has.
const USER_SELECTORS: u64 = 0x002b_0000_0000_0033;

fn returns() -> Outcome {
    equal("to nowhere", end_of(|| go_back_to(ptr::without_provenance(0x10))), SIGSEGV)?;
    equal("to the kernel's", end_of(|| go_back_to(ptr::without_provenance(0xffff_8000_0000_0000))), SIGSEGV)?;
    equal("with zeros", end_of(|| frame(0, &[])), SIGSEGV)?;
    equal("with ones", end_of(|| frame(u64::MAX, &[])), SIGSEGV)?;
    equal("with the kernel's code", end_of(|| frame(0, &[(RIP, 0xffff_ffff_8020_0000), (SELECTORS, 8)])), SIGSEGV)?;
    let no_address = [(RIP, 0x8000_0000_0000_0000), (SELECTORS, USER_SELECTORS)];
    equal("with no address", end_of(move_to(&no_address)), SIGSEGV)?;
    let no_vectors = [(RIP, 0x1000), (SELECTORS, USER_SELECTORS), (VECTORS, 0x8000_0000_0000_0000)];
    equal("with no vector registers", end_of(move_to(&no_vectors)), SIGSEGV)?;
    let all_flags = [(RIP, 0x1000), (RSP, 0x2000), (SELECTORS, USER_SELECTORS), (FLAGS, u64::MAX)];
    equal("with all flags", end_of_any(move_to(&all_flags)), true)?;
    equal("with a control word that is none", end_of(return_with_bad_control), SIGSEGV)
}

extern "C" fn spoil_control(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    let context: *mut libc::ucontext_t = context.cast();
    // SAFETY: the kernel gives a context.
    let registers = unsafe { (*context).uc_mcontext.fpregs };
    // SAFETY: and in it, a pointer to the vector registers.
    unsafe { (*registers).mxcsr = 0xffff_ffff };
}

fn return_with_bad_control() {
    sys::handle(SIGUSR1, spoil_control, 0);
    sys::raise(SIGUSR1);
}

/// The words for the next child.
static WORDS: std::sync::Mutex<Vec<(usize, u64)>> = std::sync::Mutex::new(Vec::new());

fn move_to(words: &[(usize, u64)]) -> fn() {
    if let Ok(mut kept) = WORDS.lock() {
        words.clone_into(&mut kept);
    }
    || {
        if let Ok(words) = WORDS.lock() {
            frame(0, &words);
        }
    }
}

/// Whether a child ends by a signal of a fault.
fn end_of_any(work: fn()) -> bool {
    [SIGSEGV, libc::SIGTRAP, libc::SIGBUS].contains(&end_of(work))
}
