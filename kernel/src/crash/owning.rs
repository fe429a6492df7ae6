//! Overflow of a task whose frames own all sorts of things.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, Ordering};

use vmstack::StackId;

use super::script::perform_process;
use super::stack::exhaust_stack;
use crate::arch::cpu;
use crate::mm::heap;
use crate::stacks::TASKS;
use crate::sync::declared::SPECIMEN_MUTEX;
use crate::sync::{AnyLock, Section, SpinLock};
use crate::task::kept::{self, Keep};
use crate::{fact, println, process};

/// Bytes of what the victim's frames own on the heap.
const OWNED: usize = 512;

/// What a victim gets hold of: a counted pointer, and a stack that it can pin.
static SHARED: SpinLock<Option<(Arc<usize>, StackId)>> = SpinLock::new("crash-shared", None);

/// The lock of what is shared with the victim.
pub(crate) fn shared_lock() -> &'static dyn AnyLock {
    &SHARED
}

/// A victim whose frames own a box, a counted pointer, a file reference, a pin and a lock.
pub(super) fn owning(_: &str) {
    let Ok(stack) = TASKS.alloc_waiting(0) else { return println!("vmstack: no stack to pin") };
    let pointer = Arc::new(0);
    *SHARED.lock_or_reset(|_| None) = Some((Arc::clone(&pointer), stack.id()));
    let lost = heap::lost();
    perform_process("OWN_ALL_SORTS");
    let now = heap::lost();
    fact!("owning.heap", "{OWNED} {} {}", now.bytes - lost.bytes, now.objects - lost.objects);
    *SHARED.lock_or_reset(|_| None) = None;
    // One: the one that is here.
    fact!("owning.pointers", "{}", Arc::strong_count(&pointer));
    let state = SPECIMEN_MUTEX.state();
    fact!("lock", "specimen-mutex mutex {}", state.name());
    SPECIMEN_MUTEX.clear_poison();
    fact!("owning.interrupts", "{}", u8::from(GIVEN_BACK_UNDISTURBING.load(Ordering::Relaxed)));
    // A stack that is still pinned is not given back: the balance would show it.
    drop(stack);
}

/// Whether interrupts were on when the last [`Witness`] went.
static GIVEN_BACK_UNDISTURBING: AtomicBool = AtomicBool::new(false);

/// A counted pointer that sees how it is given back: what is long to give back may not keep others waiting.
struct Witness(#[expect(dead_code, reason = "it is there to be given back")] Arc<usize>);

impl Keep for Witness {
    fn settle(&self) {
        GIVEN_BACK_UNDISTURBING.store(cpu::interrupts_on(), Ordering::Relaxed);
    }
}

pub(super) fn own_all_sorts() {
    let Some(process) = process::current() else { return };
    let boxed = black_box(Box::new([0x5a_u8; OWNED]));
    let Some((pointer, id)) = SHARED.lock_or_reset(|_| None).clone() else { return };
    let section = Section::enter();
    let pointer = kept::keep(&"counted pointer", Witness(pointer), &section);
    drop(section);
    let file = process.files().get(1);
    let section = Section::enter();
    let pin = TASKS.pin(id).map(|pin| kept::keep(&"pin", pin, &section));
    drop(section);
    let guard = SPECIMEN_MUTEX.lock();
    if file.is_ok() && pin.is_ok() {
        exhaust_stack();
    }
    drop((boxed, pointer, file, pin, guard));
}
