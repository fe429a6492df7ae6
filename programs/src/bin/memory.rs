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
//! | `common` | what is shared is the same for parent and child, also where it came to be by growing, and where nobody could use it at first |
//! | `cut` | a page becomes read-only in a call that then fails at a hole: it is read-only all the same |
//! | `beyond` | all pages of a file come, and no more, however much is mapped behind its end |

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use vmstack_programs::{spawn, wait};

const PAGE: usize = 4096;
const ROUNDS: u64 = 120;
/// Words of a page.
const WORDS: usize = PAGE / size_of::<u64>();
const READ_WRITE: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;

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
        // SAFETY: memory that nobody has, or that the caller gives up.
        Self::at(unsafe {
            libc::mmap(at, count * PAGE, READ_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | fixed, -1, 0)
        })
    }

    /// `count` pages that are shared with children.
    fn common(count: usize, protection: libc::c_int) -> io::Result<Self> {
        let ways = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: memory that nobody has.
        Self::at(unsafe { libc::mmap(std::ptr::null_mut(), count * PAGE, protection, ways, -1, 0) })
    }

    /// What `mmap` or `mremap` answered.
    fn at(start: *mut libc::c_void) -> io::Result<Self> {
        let place = NonNull::new(start.cast::<AtomicU64>()).filter(|_| start != libc::MAP_FAILED);
        place.map(Self).ok_or_else(io::Error::last_os_error)
    }

    /// The first of `count` pages, made of one where it is, or at `away`.
    fn grow(self, count: usize, away: Option<Self>) -> io::Result<Self> {
        let (ways, to) =
            away.map_or((0, std::ptr::null_mut()), |away| (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, away.address()));
        // SAFETY: nobody uses what is there.
        Self::at(unsafe { libc::mremap(self.address(), PAGE, count * PAGE, ways, to) })
    }

    /// Unmaps the pages from `first` to the one before `end`.
    fn unmap(self, first: usize, end: usize) -> io::Result<()> {
        // SAFETY: nobody uses them.
        check(unsafe { libc::munmap(self.word(first * WORDS).as_ptr().cast(), (end - first) * PAGE) })
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
            page.protect(READ_WRITE)?;
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

/// How often parent and child do not see each other's words in `count` pages, of which they may not be able to use the first before.
fn differs(pages: Page, count: usize) -> io::Result<u64> {
    let words = || (0..count).map(|page| pages.word(page * WORDS));
    let child = spawn(|| {
        let usable = pages.protect(READ_WRITE).is_ok();
        words().zip(1..).for_each(|(word, number)| word.store(number, Ordering::SeqCst));
        i32::from(!usable)
    })?;
    let ended = wait(child)?;
    pages.protect(READ_WRITE)?;
    let seen = words().zip(1..).filter(|(word, number)| word.load(Ordering::SeqCst) == *number).count();
    Ok((count - seen) as u64 + u64::from(!ended.well()))
}

/// A shared page that had others behind it: on Linux it cannot grow to more than there were.
fn one_of_four() -> io::Result<Page> {
    let page = Page::common(4, READ_WRITE)?;
    page.unmap(1, 4)?;
    Ok(page)
}

/// Shared pages that came by growing, in place and elsewhere, and one that nobody could use before.
fn common() -> io::Result<u64> {
    let grown = one_of_four()?.grow(4, None)?;
    let moved = one_of_four()?.grow(4, Some(Page::map(std::ptr::null_mut(), 4)?))?;
    Ok(differs(grown, 4)? + differs(moved, 4)? + differs(Page::common(1, libc::PROT_NONE)?, 1)?)
}

/// The child dies of its write, or the right to write was not taken away.
fn cut() -> io::Result<u64> {
    let pages = Page::map(std::ptr::null_mut(), 3)?;
    pages.unmap(1, 2)?;
    let mut wrong = 0;
    for _ in 0..20 {
        let child = spawn(|| {
            pages.word(0).store(1, Ordering::SeqCst);
            // SAFETY: nothing else is in the pages.
            let answer = unsafe { libc::mprotect(pages.address(), 3 * PAGE, libc::PROT_READ) };
            pages.word(0).store(2, Ordering::SeqCst);
            answer
        })?;
        let status = wait(child)?.status;
        wrong += u64::from(!libc::WIFSIGNALED(status) || libc::WTERMSIG(status) != libc::SIGSEGV);
    }
    Ok(wrong)
}

/// A kernel that looks at each page is busy for hours.
fn beyond() -> io::Result<u64> {
    const BYTES: usize = 1 << 46;
    let file = File::open("/proc/self/exe")?;
    let ways = libc::MAP_PRIVATE | libc::MAP_POPULATE;
    // SAFETY: memory that nobody has.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), BYTES, libc::PROT_READ, ways, file.as_raw_fd(), 0) };
    let head = Page::at(start)?.word(0).load(Ordering::SeqCst).to_le_bytes();
    // SAFETY: nobody uses it.
    check(unsafe { libc::munmap(start, BYTES) })?;
    Ok(u64::from(!head.starts_with(b"\x7fELF")))
}

/// A check: how much it found that must not be.
type Check = fn() -> io::Result<u64>;

const CHECKS: [(&str, Check); 8] = [
    ("unmap", unmap),
    ("remap", remap),
    ("protect", protect),
    ("fork", fork),
    ("copies", copies),
    ("common", common),
    ("cut", cut),
    ("beyond", beyond),
];

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
