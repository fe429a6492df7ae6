//! Signals that an instruction raises, with what they say, and handlers that put it right.

use std::hint::black_box;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};

use libc::{PROT_NONE, PROT_READ, PROT_WRITE, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP, c_int, c_void, siginfo_t};
use vmstack_programs::checks::{Checks, Outcome, equal, expect};
use vmstack_programs::{spawn, wait};

use crate::sys;

pub(crate) const CHECKS: &Checks = &[
    ("segv-fixed", segv_fixed),
    ("segv-kinds", segv_kinds),
    ("segv-jump", segv_jump),
    ("segv-overflow", segv_overflow),
    ("divide", divide),
    ("illegal", illegal),
    ("breakpoint", breakpoint),
    ("forced", forced),
];

static SIGNAL: AtomicI32 = AtomicI32::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);
static PAGE: AtomicUsize = AtomicUsize::new(0);
static SKIP: AtomicUsize = AtomicUsize::new(0);
static TARGET: AtomicUsize = AtomicUsize::new(0);

fn note(signal: c_int, info: *mut siginfo_t) {
    // SAFETY: the kernel gives what it says.
    let info = unsafe { &*info };
    SIGNAL.store(signal, SeqCst);
    CODE.store(info.si_code, SeqCst);
    // SAFETY: whatever the bits are, they are an address.
    ADDRESS.store(unsafe { info.si_addr() }.addr(), SeqCst);
}

fn register(context: *mut c_void, register: c_int) -> *mut i64 {
    let context: *mut libc::ucontext_t = context.cast();
    // SAFETY: the kernel gives a context.
    unsafe { &raw mut (*context).uc_mcontext.gregs[register as usize] }
}

/// Makes the page readable and writable, and goes on.
extern "C" fn fix(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    note(signal, info);
    let page = std::ptr::with_exposed_provenance_mut(PAGE.load(SeqCst));
    // SAFETY: the page is this check's.
    unsafe { libc::mprotect(page, 4096, PROT_READ | PROT_WRITE) };
}

/// Goes on after the instruction.
extern "C" fn skip(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    note(signal, info);
    let ip = register(context, libc::REG_RIP);
    // SAFETY: a register of the context.
    unsafe { *ip += SKIP.load(SeqCst) as i64 };
}

/// Goes on elsewhere.
extern "C" fn jump(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    note(signal, info);
    let ip = register(context, libc::REG_RIP);
    // SAFETY: a register of the context.
    unsafe { *ip = TARGET.load(SeqCst) as i64 };
}

fn said() -> (c_int, c_int) {
    (SIGNAL.load(SeqCst), CODE.load(SeqCst))
}

fn segv_fixed() -> Outcome {
    const ACCESS: c_int = 2;
    let page = sys::page(PROT_READ);
    PAGE.store(page.expose_provenance(), SeqCst);
    sys::handle(SIGSEGV, fix, 0);
    let place = page.wrapping_add(123);
    // SAFETY: the handler makes it writable.
    unsafe { place.write_volatile(45) };
    equal("signal and code", said(), (SIGSEGV, ACCESS))?;
    equal("address", ADDRESS.load(SeqCst), place.addr())?;
    // SAFETY: written above.
    equal("what was written", unsafe { place.read_volatile() }, 45)
}

/// Reads a byte at `address`, by an instruction of two bytes that can be skipped.
fn touch(address: usize) {
    SKIP.store(2, SeqCst);
    // SAFETY: the handler skips it. `8a 00` is `mov al, [rax]`.
    unsafe { core::arch::asm!(".byte 0x8a, 0x00", inout("rax") address => _) };
}

fn segv_kinds() -> Outcome {
    const NOT_MAPPED: c_int = 1;
    const ACCESS: c_int = 2;
    sys::handle(SIGSEGV, skip, 0);
    sys::handle(SIGBUS, skip, 0);
    touch(0x1234);
    equal("nothing there", said(), (SIGSEGV, NOT_MAPPED))?;
    equal("address", ADDRESS.load(SeqCst), 0x1234)?;
    touch(sys::page(PROT_NONE).addr() + 7);
    equal("nothing allowed", said(), (SIGSEGV, ACCESS))?;
    touch(0xffff_8000_0000_0000);
    equal("the kernel's", said().0, SIGSEGV)?;
    touch(0x8000_0000_0000_0000);
    equal("no address", said(), (SIGSEGV, libc::SI_KERNEL))
}

fn segv_jump() -> Outcome {
    sys::handle(SIGSEGV, jump, 0);
    let (landed, kept): (u64, u64);
    // SAFETY: the access faults, and the handler goes on at `2:`, with all other registers as they were.
    unsafe {
        core::arch::asm!(
            "lea {there}, [rip + 2f]",
            "mov [{target}], {there}",
            "xor {landed:e}, {landed:e}",
            "mov {kept}, 1234567",
            "mov byte ptr [0x10], 0",
            "mov {landed}, 1",
            "2:",
            "add {landed}, 2",
            there = out(reg) _,
            target = in(reg) TARGET.as_ptr(),
            landed = out(reg) landed,
            kept = out(reg) kept,
        );
    }
    equal("signal", said().0, SIGSEGV)?;
    equal("where it went on, and a register", (landed, kept), (2, 1_234_567))
}

#[expect(unconditional_recursion, reason = "it is what overflows the stack")]
fn recurse(depth: usize) -> usize {
    let local = black_box([depth; 64]);
    black_box(recurse(black_box(depth + 1)) + local[depth % 64])
}

extern "C" fn end_well(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    let local = 0_u8;
    // SAFETY: as in `note`.
    let info = unsafe { &*info };
    // SAFETY: as in `note`.
    let address = unsafe { info.si_addr() }.addr();
    // The stack that overflowed is far from the one that this runs on.
    let far = address.abs_diff((&raw const local).addr()) > 64 << 10;
    // SAFETY: ends this process.
    unsafe { libc::_exit(if far { 42 } else { 43 }) };
}

fn segv_overflow() -> Outcome {
    let child = spawn(|| {
        let stack = libc::stack_t { ss_sp: sys::page(PROT_READ | PROT_WRITE).cast(), ss_flags: 0, ss_size: 4096 };
        let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 8 << 20 };
        // SAFETY: reads the limit.
        unsafe { libc::setrlimit(libc::RLIMIT_STACK, &raw const limit) };
        // SAFETY: the page stays.
        unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) };
        sys::handle(SIGSEGV, end_well, libc::SA_ONSTACK);
        black_box(recurse(0)) as i32
    });
    equal("how it ended", child.and_then(wait).map_err(|error| error.to_string())?.status, 42 << 8)
}

fn divide() -> Outcome {
    const INTEGER_DIVIDE: c_int = 1;
    sys::handle(SIGFPE, skip, 0);
    SKIP.store(2, SeqCst);
    // SAFETY: the handler skips `f7 f1`, `div ecx`.
    unsafe { core::arch::asm!(".byte 0xf7, 0xf1", inout("eax") 1 => _, inout("edx") 0 => _, in("ecx") 0) };
    equal("signal and code", said(), (SIGFPE, INTEGER_DIVIDE))?;
    expect(ADDRESS.load(SeqCst) != 0, "no address")
}

fn illegal() -> Outcome {
    const ILLEGAL_OPERAND: c_int = 2;
    sys::handle(SIGILL, skip, 0);
    SKIP.store(2, SeqCst);
    // SAFETY: the handler skips the instruction of two bytes.
    unsafe { core::arch::asm!("ud2") };
    equal("signal and code", said(), (SIGILL, ILLEGAL_OPERAND))
}

fn breakpoint() -> Outcome {
    sys::handle(SIGTRAP, skip, 0);
    SKIP.store(0, SeqCst);
    // SAFETY: the handler goes on after it.
    unsafe { core::arch::asm!("int3") };
    equal("signal and code", said(), (SIGTRAP, libc::SI_KERNEL))
}

/// A fault cannot be blocked or ignored.
fn forced() -> Outcome {
    let ended = |prepare: fn()| {
        let child = spawn(|| {
            prepare();
            touch(0x1234);
            0
        });
        child.and_then(wait).map_or(-1, |ended| ended.status & 0x7f)
    };
    equal("blocked", ended(|| _ = sys::mask(libc::SIG_BLOCK, &[SIGSEGV])), SIGSEGV)?;
    equal("ignored", ended(|| sys::dispose(SIGSEGV, libc::SIG_IGN)), SIGSEGV)?;
    equal("in its own handler", ended(|| sys::handle(SIGSEGV, fault_again, 0)), SIGSEGV)
}

extern "C" fn fault_again(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    touch(0x4321);
}
