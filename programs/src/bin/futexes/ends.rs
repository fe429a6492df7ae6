//! What a thread leaves behind when it ends: robust futexes, and the word that says that it is gone.

use std::sync::Barrier;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use libc::{EAGAIN, c_long};
use vmstack_programs::checks::{Checks, Outcome, child, equal, shared_words, status};
use vmstack_programs::{spawn, wait};

use crate::sys::{SOON, WAIT, address, error, futex};

pub(crate) const CHECKS: &Checks =
    &[("robust", robust), ("robust-process", robust_process), ("robust-bad", robust_bad), ("cleared", cleared)];

const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;

/// A list of robust futexes, as Linux reads it.
#[repr(C)]
struct Head {
    next: AtomicUsize,
    offset: AtomicUsize,
    pending: AtomicUsize,
}

/// An entry: the pointer, and the word right after it.
#[repr(C)]
struct Entry {
    next: AtomicUsize,
    word: AtomicU32,
}

const fn entry() -> Entry {
    Entry { next: AtomicUsize::new(0), word: AtomicU32::new(0) }
}

fn set_robust_list(head: usize, bytes: usize) -> c_long {
    // SAFETY: the kernel looks at the list when the thread ends.
    unsafe { libc::syscall(libc::SYS_set_robust_list, head, bytes) }
}

fn thread_number() -> u32 {
    // SAFETY: only asks.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// A list of these entries, of which the last is being taken.
fn link(head: &Head, entries: &[Entry]) {
    let me = thread_number();
    let Some((pending, listed)) = entries.split_last() else { return };
    let mut next = address(head);
    for entry in listed.iter().rev() {
        entry.next.store(next, SeqCst);
        next = address(entry);
    }
    head.next.store(next, SeqCst);
    head.offset.store(8, SeqCst);
    head.pending.store(address(pending), SeqCst);
    entries.iter().for_each(|entry| entry.word.store(me | WAITERS, SeqCst));
    set_robust_list(address(head), size_of::<Head>());
}

static HEAD: Head = Head { next: AtomicUsize::new(0), offset: AtomicUsize::new(0), pending: AtomicUsize::new(0) };
static ENTRIES: [Entry; 4] = [const { entry() }; 4];

fn robust() -> Outcome {
    equal("another size", set_robust_list(address(&HEAD), 23), -1)?;
    let ready = Barrier::new(2);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            ready.wait();
            let word = &ENTRIES[1].word;
            let held = word.load(SeqCst);
            if held & OWNER_DIED == 0 { futex(word, WAIT, held, 0, 0, 0) } else { 0 }
        });
        scope.spawn(|| {
            link(&HEAD, &ENTRIES);
            // Not this thread's: not marked.
            ENTRIES[2].word.store(1 | WAITERS, SeqCst);
            ready.wait();
            thread::sleep(SOON);
        });
        let answer = waiter.join().unwrap_or(-1);
        if answer == error(EAGAIN) { Ok(()) } else { equal("who waited", answer, 0) }
    })?;
    // The last one is marked after whoever waited for another has been woken.
    let begun = Instant::now();
    while ENTRIES[3].word.load(SeqCst) & OWNER_DIED == 0 && begun.elapsed() < Duration::from_secs(10) {
        thread::yield_now();
    }
    let words: Vec<u32> = ENTRIES.iter().map(|entry| entry.word.load(SeqCst)).collect();
    let died = OWNER_DIED | WAITERS;
    equal("the words", words, vec![died, died, 1 | WAITERS, died])
}

/// The same when a process is killed.
fn robust_process() -> Outcome {
    let words = shared_words()?;
    let child = child(|| {
        // SAFETY: the page holds words; the list is in its second half.
        let head: &Head = unsafe { &*(&raw const words[512]).cast() };
        // SAFETY: as above.
        let entries: &[Entry; 2] = unsafe { &*(&raw const words[528]).cast() };
        link(head, entries);
        words[0].store(1, SeqCst);
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    });
    let child = child?;
    while words[0].load(SeqCst) == 0 {
        thread::yield_now();
    }
    // SAFETY: our child.
    unsafe { libc::kill(child, libc::SIGKILL) };
    equal("how it ended", status(child)?, libc::SIGKILL)?;
    equal("its word", words[530].load(SeqCst), OWNER_DIED | WAITERS)
}

/// Lists that lead nowhere, or in a circle.
fn robust_bad() -> Outcome {
    let ends = |make: fn()| {
        let child = spawn(|| {
            make();
            0
        });
        child.and_then(wait).map_or(-1, |ended| ended.status)
    };
    equal("a head that is none", ends(|| _ = set_robust_list(0x10, 24)), 0)?;
    equal("the kernel's", ends(|| _ = set_robust_list(0xffff_8000_0000_0000, 24)), 0)?;
    let circle = || {
        link(&HEAD, &ENTRIES);
        ENTRIES[0].next.store(address(&ENTRIES[0]), SeqCst);
    };
    equal("a circle", ends(circle), 0)?;
    let nowhere = || {
        link(&HEAD, &ENTRIES);
        ENTRIES[1].next.store(0x8000_0000_0000_0001, SeqCst);
        HEAD.offset.store(usize::MAX / 2, SeqCst);
    };
    equal("entries that are none", ends(nowhere), 0)
}

static TID: AtomicI32 = AtomicI32::new(0);

/// The word that is cleared at a thread's end.
fn cleared() -> Outcome {
    let other = thread::spawn(|| {
        TID.store(1, SeqCst);
        // SAFETY: the word stays. (What the C library waits on is another one from here on, so this thread is not joined.)
        unsafe { libc::syscall(libc::SYS_set_tid_address, TID.as_ptr()) };
    });
    let begun = Instant::now();
    while TID.load(SeqCst) != 1 && begun.elapsed() < Duration::from_secs(10) {
        thread::yield_now();
    }
    let word = (&raw const TID).cast::<AtomicU32>();
    let answer = futex(word, WAIT, 1, 0, 0, 0);
    std::mem::forget(other);
    if answer != error(EAGAIN) {
        equal("the wait", answer, 0)?;
    }
    equal("the word", TID.load(SeqCst), 0)
}
