//! What memory must be when several threads use it on several CPUs: each check changes what is mapped while another thread writes.
//!
//! Prints `fact memory.CHECK ROUNDS WRONG` for each, for the host to judge: `WRONG` is how often something was found that must not be. A
//! translation that a CPU should have forgotten shows as a word in memory that the writer cannot have, or as a write that went through.
//! `memory [CHECK...]`: all of them if none is named. Exit status 1: a call failed that must not.
//!
//! | check | what |
//! | --- | --- |
//! | `unmap` | a page is unmapped and mapped anew, again and again; nothing that was written before may be seen in the new one |
//! | `remap` | a page is moved; what is written to its old place after that may not be seen in the new one |
//! | `protect` | a page becomes read-only; what it says may not change from then on |
//! | `fork` | a child must see one moment of its parent's memory, while a thread of the parent goes on writing |
//! | `copies` | a child's copies are its own, and the parent's are the parent's |

use std::io;
use std::process::ExitCode;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use vmstack_programs::{spawn, wait};

const PAGE: usize = 4096;
const ROUNDS: u64 = 120;

/// A page at an address that stays the same, of which two threads know.
#[derive(Clone, Copy)]
struct Page(NonNull<AtomicU64>);

// SAFETY: the page is used by atomics alone.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// `count` pages, the first of them at `at` if it is not null.
    fn map(at: *mut libc::c_void, count: usize) -> io::Result<Self> {
        let fixed = if at.is_null() { 0 } else { libc::MAP_FIXED };
        let ways = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | fixed;
        // SAFETY: memory that nobody has, or that the caller gives up.
        let start = unsafe { libc::mmap(at, count * PAGE, libc::PROT_READ | libc::PROT_WRITE, ways, -1, 0) };
        let place = NonNull::new(start.cast::<AtomicU64>()).filter(|_| start != libc::MAP_FAILED);
        place.map(Self).ok_or_else(io::Error::last_os_error)
    }

    fn address(self) -> *mut libc::c_void {
        self.0.as_ptr().cast()
    }

    /// Word `index` of the page, or of those that were mapped with it.
    fn word(&self, index: usize) -> &AtomicU64 {
        // SAFETY: the pages are as many as the user wants words of.
        let word = unsafe { self.0.add(index) };
        // SAFETY: they are there: their user sees to it.
        unsafe { word.as_ref() }
    }

    fn protect(self, protection: libc::c_int) -> io::Result<()> {
        // SAFETY: the page's users expect it.
        check(unsafe { libc::mprotect(self.address(), PAGE, protection) })
    }
}

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What two threads say to each other: the round that is to be written, and whether it goes on.
static ROUND: AtomicU64 = AtomicU64::new(0);
static WRITTEN: AtomicU64 = AtomicU64::new(0);
static GOES_ON: AtomicBool = AtomicBool::new(false);

/// Runs `change` while another thread writes the number of the round to all words of `page`, which may refuse it: into it if `quiet` says
/// that it can.
fn beside_a_writer(page: Page, change: impl FnOnce() -> io::Result<u64>) -> io::Result<u64> {
    GOES_ON.store(true, Ordering::SeqCst);
    thread::scope(|scope| {
        scope.spawn(|| {
            while GOES_ON.load(Ordering::SeqCst) {
                let round = ROUND.load(Ordering::SeqCst);
                if round == 0 {
                    std::hint::spin_loop();
                    continue;
                }
                (0..64).for_each(|index| page.word(index * 8).store(round, Ordering::SeqCst));
                WRITTEN.store(round, Ordering::SeqCst);
            }
        });
        let wrong = change();
        ROUND.store(0, Ordering::SeqCst);
        GOES_ON.store(false, Ordering::SeqCst);
        wrong
    })
}

/// Lets the writer write `round`, and waits until it has.
fn let_write(round: u64) {
    ROUND.store(round, Ordering::SeqCst);
    while WRITTEN.load(Ordering::SeqCst) != round {
        thread::yield_now();
    }
}

/// The page is mapped anew in place while the other thread writes old numbers: a fresh page, read through another thread's TLB, says only
/// numbers that were written since.
fn unmap() -> io::Result<u64> {
    let page = Page::map(std::ptr::null_mut(), 1)?;
    // Where frames go that are free: a stale translation would write there.
    let canary = Page::map(std::ptr::null_mut(), 16)?;
    beside_a_writer(page, || {
        let mut wrong = 0;
        for round in 1..=ROUNDS {
            let_write(round);
            Page::map(page.address(), 1)?;
            // SAFETY: only asks for the pages to be dropped.
            check(unsafe { libc::madvise(canary.address(), 16 * PAGE, libc::MADV_DONTNEED) })?;
            for index in 0..16 * 512 {
                let word = canary.word(index);
                wrong += u64::from(word.load(Ordering::SeqCst) != 0);
                word.store(u64::MAX, Ordering::SeqCst);
            }
            for index in 0..16 * 512 {
                let word = canary.word(index);
                wrong += u64::from(word.load(Ordering::SeqCst) != u64::MAX);
            }
        }
        Ok(wrong)
    })
}

/// The page is moved away and a new one put in its place: what the writer writes from then on is in the new one.
fn remap() -> io::Result<u64> {
    let page = Page::map(std::ptr::null_mut(), 1)?;
    let away = Page::map(std::ptr::null_mut(), 2)?;
    beside_a_writer(page, || {
        let mut wrong = 0;
        for round in 1..=ROUNDS {
            let_write(round);
            let ways = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
            // SAFETY: the writer finds an empty page in its place.
            let moved = unsafe { libc::mremap(page.address(), PAGE, PAGE, ways, away.address()) };
            if moved != away.address() {
                return Err(io::Error::last_os_error());
            }
            let before: Vec<u64> = (0..64).map(|index| away.word(index * 8).load(Ordering::SeqCst)).collect();
            let_write(round + ROUNDS);
            wrong +=
                (0..64).filter(|&index| away.word(index * 8).load(Ordering::SeqCst) != before[index]).count() as u64;
        }
        Ok(wrong)
    })
}

/// The page is made read-only by one thread while the kernel writes to it for another: what it says must not change from then on.
fn protect() -> io::Result<u64> {
    let page = Page::map(std::ptr::null_mut(), 1)?;
    let go_on = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            // A child that writes by itself dies of it; the kernel says EFAULT.
            while go_on.load(Ordering::SeqCst) {
                // SAFETY: writes a time to the page, or says that it cannot.
                unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, page.address()) };
            }
        });
        let mut wrong = 0;
        for _ in 0..ROUNDS {
            page.protect(libc::PROT_READ)?;
            let before = page.word(1).load(Ordering::SeqCst);
            (0..100).for_each(|_| wrong += u64::from(page.word(1).load(Ordering::SeqCst) != before));
            page.protect(libc::PROT_READ | libc::PROT_WRITE)?;
        }
        go_on.store(false, Ordering::SeqCst);
        Ok(wrong)
    })
}

/// A child looks at the page twice, and sees the same: the parent's thread writes to another.
fn fork() -> io::Result<u64> {
    let page = Page::map(std::ptr::null_mut(), 1)?;
    beside_a_writer(page, || {
        let mut wrong = 0;
        for round in 1..=ROUNDS / 6 {
            let_write(round);
            let look = || (0..64).map(|index| page.word(index * 8).load(Ordering::SeqCst)).fold(0, u64::wrapping_add);
            let child = spawn(|| {
                let first = look();
                (0..20).for_each(|_| thread::yield_now());
                i32::from(first != look())
            })?;
            let_write(round + ROUNDS);
            wrong += u64::from(!wait(child)?.well());
        }
        Ok(wrong)
    })
}

/// Parent and child both write to what they had in common, and each sees its own.
fn copies() -> io::Result<u64> {
    let pages: Vec<Page> = (0..64).map(|_| Page::map(std::ptr::null_mut(), 1)).collect::<io::Result<_>>()?;
    let mut wrong = 0;
    for round in 1..=20 {
        pages.iter().for_each(|page| page.word(0).store(round, Ordering::SeqCst));
        let child = spawn(|| {
            pages.iter().for_each(|page| {
                page.word(0).fetch_add(1000, Ordering::SeqCst);
            });
            thread::yield_now();
            i32::from(pages.iter().any(|page| page.word(0).load(Ordering::SeqCst) != round + 1000))
        })?;
        pages.iter().for_each(|page| {
            page.word(0).fetch_add(2000, Ordering::SeqCst);
        });
        wrong += u64::from(!wait(child)?.well());
        wrong += pages.iter().filter(|page| page.word(0).load(Ordering::SeqCst) != round + 2000).count() as u64;
    }
    Ok(wrong)
}

/// A check: how much it found that must not be.
type Check = fn() -> io::Result<u64>;

const CHECKS: [(&str, Check); 5] =
    [("unmap", unmap), ("remap", remap), ("protect", protect), ("fork", fork), ("copies", copies)];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut well = true;
    for (name, check) in CHECKS.into_iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| w == name)) {
        match check() {
            Ok(wrong) => println!("fact memory.{name} {ROUNDS} {wrong}"),
            Err(error) => {
                eprintln!("memory: {name}: {error}");
                well = false;
            }
        }
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
