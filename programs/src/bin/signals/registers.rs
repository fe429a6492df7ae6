//! Registers over a handler: those of computing, and the vector registers.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use libc::{SIGALRM, SIGUSR1, c_int, c_void, siginfo_t};

use vmstack_programs::checks::{Checks, Outcome, equal, expect};

use crate::sys;

pub(crate) const CHECKS: &Checks = &[
    ("vectors", vectors),
    ("vectors-spun", vectors_spun),
    ("vectors-changed", vectors_changed),
    ("red-zone", red_zone),
];

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Spoils all sixteen vector registers, and the control word.
extern "C" fn spoil(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    let word = 0x1f80_u32 | 0x6000;
    // SAFETY: a valid control word; the registers are the handler's to spoil.
    unsafe {
        core::arch::asm!(
            "ldmxcsr [{word}]", "pcmpeqd xmm0, xmm0", "pcmpeqd xmm1, xmm1", "pcmpeqd xmm7, xmm7", "pcmpeqd xmm15, xmm15",
            "fninit", "fld1",
            word = in(reg) &raw const word, out("xmm0") _, out("xmm1") _, out("xmm7") _, out("xmm15") _
        );
    }
    COUNT.fetch_add(1, SeqCst);
}

/// Two words in each of four registers; what is there after `kill` has come back.
fn through_kill(signal: c_int) -> [u64; 4] {
    let mut kept = [1_u64, 2, 3, 4];
    // SAFETY: the call sends this process a signal; the registers that it does not name are as before.
    unsafe {
        core::arch::asm!(
            "movq xmm0, [{kept}]", "movq xmm1, [{kept} + 8]", "movq xmm7, [{kept} + 16]", "movq xmm15, [{kept} + 24]",
            "syscall",
            "movq [{kept}], xmm0", "movq [{kept} + 8], xmm1", "movq [{kept} + 16], xmm7", "movq [{kept} + 24], xmm15",
            kept = in(reg) kept.as_mut_ptr(),
            inout("rax") libc::SYS_kill => _, in("rdi") sys::process_id(), in("rsi") signal,
            out("rcx") _, out("r11") _, out("xmm0") _, out("xmm1") _, out("xmm7") _, out("xmm15") _
        );
    }
    kept
}

fn control_word() -> u32 {
    let mut word = 0_u32;
    // SAFETY: stores the control word.
    unsafe { core::arch::asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack)) };
    word & !0x3f
}

fn vectors() -> Outcome {
    sys::handle(SIGUSR1, spoil, 0);
    let word = control_word();
    equal("what the registers hold", through_kill(SIGUSR1), [1, 2, 3, 4])?;
    equal("handlers", COUNT.load(SeqCst), 1)?;
    equal("the control word", control_word(), word)
}

/// A wide register, if the CPU has it, while handlers come at any instruction.
fn vectors_spun() -> Outcome {
    sys::handle(SIGALRM, spoil, 0);
    sys::timer(Duration::from_millis(10), Duration::from_millis(10));
    let wide = std::arch::is_x86_feature_detected!("avx");
    while COUNT.load(SeqCst) < 10 {
        let found = if wide { spin_wide() } else { spin() };
        equal("what the register holds", found, [0x1111, 0x2222, 0x3333, 0x4444])?;
    }
    Ok(())
}

fn spin() -> [u64; 4] {
    let mut words = [0x1111_u64, 0x2222, 0x3333, 0x4444];
    // SAFETY: counts down; the registers are named.
    unsafe {
        core::arch::asm!(
            "movdqu xmm0, [{words}]", "movdqu xmm15, [{words} + 16]",
            "2:", "dec {count}", "jnz 2b",
            "movdqu [{words}], xmm0", "movdqu [{words} + 16], xmm15",
            words = in(reg) words.as_mut_ptr(), count = inout(reg) 1_000_000_u64 => _, out("xmm0") _, out("xmm15") _
        );
    }
    words
}

fn spin_wide() -> [u64; 4] {
    let mut words = [0x1111_u64, 0x2222, 0x3333, 0x4444];
    // SAFETY: the CPU has AVX; counts down; the register is named.
    unsafe {
        core::arch::asm!(
            "vmovdqu ymm7, [{words}]",
            "2:", "dec {count}", "jnz 2b",
            "vmovdqu [{words}], ymm7", "vzeroupper",
            words = in(reg) words.as_mut_ptr(), count = inout(reg) 1_000_000_u64 => _, out("ymm7") _
        );
    }
    words
}

/// Changes a register of whoever was interrupted.
extern "C" fn change(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    let context: *mut libc::ucontext_t = context.cast();
    // SAFETY: the kernel gives a context.
    let registers = unsafe { (*context).uc_mcontext.fpregs };
    // SAFETY: and in it, a pointer to the vector registers.
    let vectors = unsafe { &mut (*registers)._xmm };
    vectors[7].element[0] = 0x1234;
    COUNT.fetch_add(1, SeqCst);
}

fn vectors_changed() -> Outcome {
    sys::handle(SIGUSR1, change, 0);
    equal("what the registers hold", through_kill(SIGUSR1), [1, 2, 0x1234, 4])?;
    equal("handlers", COUNT.load(SeqCst), 1)
}

/// What lies under the stack pointer is the program's, 128 bytes of it.
fn red_zone() -> Outcome {
    sys::handle(SIGALRM, spoil, 0);
    sys::timer(Duration::from_millis(10), Duration::from_millis(10));
    while COUNT.load(SeqCst) < 5 {
        let found: u64;
        // SAFETY: writes under the stack pointer, as the ABI allows; counts down.
        unsafe {
            core::arch::asm!(
                "mov qword ptr [rsp - 8], 77", "mov qword ptr [rsp - 128], 99",
                "2:", "dec {count}", "jnz 2b",
                "mov {found}, [rsp - 8]", "add {found}, [rsp - 128]",
                count = inout(reg) 1_000_000_u64 => _, found = lateout(reg) found
            );
        }
        expect(found == 176, "a handler wrote there")?;
    }
    Ok(())
}
