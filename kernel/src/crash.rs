//! Crashes on demand: what a program provokes by writing a name to the device, as with Linux's LKDTM.

use core::hint::black_box;

use crate::arch::cpu;
use crate::fact;
use crate::mm::heap;
use crate::process;
use crate::sync;
use crate::sync::declared::{self, Declared};
use crate::syscall::Errno;

/// Provokes the crash called `name`, of which a line break at the end does not count.
pub(crate) fn provoke(name: &[u8]) -> Result<(), Errno> {
    let name = core::str::from_utf8(name).map_err(|_| Errno::INVAL)?.trim_end_matches('\n');
    match name.split_once(':').unwrap_or((name, "")) {
        ("EXHAUST_STACK", "") => {
            exhaust_stack();
            Ok(())
        }
        ("HOLD", lock) => held(lock)?.hold(exhaust_stack).then_some(()).ok_or(Errno::INVAL),
        ("SHARE", lock) => held(lock)?.hold_shared(exhaust_stack).then_some(()).ok_or(Errno::INVAL),
        // Both with an argument, the second while another task does the first: the holder dies, the waiter gets the lock.
        ("HOLD_LONG", lock) => held(lock)?.hold(exhaust_stack_soon).then_some(()).ok_or(Errno::INVAL),
        ("WAIT", lock) => {
            let waited = held(lock)?;
            waited.hold(|| ());
            let state = waited.lock(None).map_or("", |lock| lock.state().name());
            fact!("waited", "{} {state}", waited.name);
            Ok(())
        }
        ("LOCKS", "") => {
            show_locks();
            Ok(())
        }
        _ => Err(Errno::INVAL),
    }
}

fn held(lock: &str) -> Result<&'static Declared, Errno> {
    declared::find(lock).ok_or(Errno::INVAL)
}

/// Says of each lock how it is, the current process's where there is one for each process; and takes poison from it.
fn show_locks() {
    let process = process::current();
    for declared in &declared::ALL {
        if let Some(lock) = declared.lock(process.as_ref().map(|process| &***process)) {
            // Before the fact: that takes the console.
            let state = lock.state();
            fact!("lock", "{} {} {}", declared.name, declared.kind.name(), state.name());
            if !declared.is_vital() {
                lock.clear_poison();
            }
        }
    }
    let (ignored, retired) = heap::retired();
    fact!("heap.lost", "{} {} {} {retired}", heap::used(), heap::lost().bytes, ignored.bytes);
    fact!("locks.values_left", "{}", sync::values_left());
}

/// Overflows after a while, in which others come to wait: a few hundred milliseconds. By the cycle counter: where interrupts are
/// off, the ticks may stand still.
fn exhaust_stack_soon() {
    let since = cpu::cycles();
    while cpu::cycles() - since < 600_000_000 {
        cpu::relax();
    }
    exhaust_stack();
}

/// Deeper than any stack: it does not come back.
fn exhaust_stack() {
    black_box(recursive_loop(black_box(usize::MAX)));
}

/// Calls itself until the stack ends. Each frame holds something that its caller needs, so none of them can be left out.
#[inline(never)]
fn recursive_loop(remaining: usize) -> usize {
    let frame = black_box([remaining; 8]);
    if remaining == 0 {
        return frame[0];
    }
    recursive_loop(remaining - 1) + frame[remaining % 8]
}
