//! All memory, again and again: before a storm of threads, whose stacks the kernel then keeps ready, and after it.
//!
//! `brim THREADS`: a child uses up what there is, in four ways, and says how much it got; then THREADS threads (2,000 if not said) are alive at
//! once, and end; then the same once more, with another storm before each. What the kernel keeps ready must be of no consequence. Then it is
//! told to keep nothing, by words of which some are none; and then nobody does anything for a while.
//!
//! ```text
//! fact brim.WAY WHEN PAGES KEPT    pages that the child got, and KiB of stacks that the kernel kept ready before it began; WHEN before
//!                                  after; WAY touch: it writes to page after page until it is killed; fill: it asks for page after page
//!                                  until that is refused; fork: it forks when next to nothing is left, and PAGES is the error, or 0
//!                                  reap: when nothing is left it waits for one of its dead children, with a page for the status that cannot be
//!                                  had; PAGES is how many of them are gone with that
//! fact brim.kept WAY WHEN KEPT     KiB that were kept when it was over
//! fact brim.drop WORD KEPT AFTER ERRNO     KiB that were kept before and after that was written to drop_caches, and the error, or 0
//! fact brim.idle KEPT AFTER        KiB that were kept after a storm, and some seconds later
//! ```
//!
//! Exit status 1: something failed that must not. On Linux the first way would be the end of other programs: it is for the reference kernel.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use vmstack_programs::checks::shared_words;
use vmstack_programs::threads::{Alive, Gate, Stacks, start, wait_at};
use vmstack_programs::{DROP_CACHES, memory_info, spawn, wait};

/// Threads of a storm, if not said.
const THREADS: usize = 2000;
/// A thread's stack, in bytes: one futex call.
const STACK: usize = 512;
const PAGE: usize = 4096;
/// How often a storm is tried, and what a stack of the kernel takes, in KiB.
const STORMS: usize = 10;
const KERNEL_STACK: u64 = 16;
/// What is left free before a fork, in KiB: less than a fork wants to see.
const NEXT_TO_NOTHING: u64 = 400;

/// How often nothing is to be had before there is nothing.
const REFUSED: usize = 3;
/// Dead children that are there to be waited for.
const DEAD: usize = 8;

/// What is written to `drop_caches`: what Linux takes, and what it does not.
const WORDS: [&str; 7] = ["1", "2", "3", "4", "0", "5", "x"];
/// How long nobody does anything, at most.
const IDLE: Duration = Duration::from_secs(20);

/// A way to use up memory: counts the pages that it got.
type Way = fn(&AtomicU32) -> io::Result<()>;

const WAYS: [(&str, Way); 4] =
    [("touch", touch), ("fill", fill), ("fork", fork_at_the_brim), ("reap", reap_at_the_brim)];

/// Address space that nothing is in yet: more than there is memory.
fn space() -> io::Result<(*mut u8, usize)> {
    let kib = memory_info::kib("MemTotal").ok_or(io::ErrorKind::NotFound)?;
    let bytes = kib as usize * 1024 / PAGE * PAGE;
    let (rights, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: new memory.
    match unsafe { libc::mmap(core::ptr::null_mut(), bytes, rights, flags, -1, 0) } {
        libc::MAP_FAILED => Err(io::Error::last_os_error()),
        start => Ok((start.cast(), bytes / PAGE)),
    }
}

/// Writes to page after page, until it is killed.
fn touch(got: &AtomicU32) -> io::Result<()> {
    let (start, pages) = space()?;
    for page in 0..pages {
        // SAFETY: memory of its own, of which nobody else knows.
        unsafe { start.wrapping_add(page * PAGE).write_volatile(1) };
        got.fetch_add(1, Ordering::SeqCst);
    }
    Err(io::Error::other("there was more than all memory"))
}

/// Asks for page after page, until it is refused.
fn fill(got: &AtomicU32) -> io::Result<()> {
    let (start, pages) = space()?;
    for page in 0..pages {
        if let Err(error) = populate(start, page) {
            return if error.raw_os_error() == Some(libc::ENOMEM) { Ok(()) } else { Err(error) };
        }
        got.fetch_add(1, Ordering::SeqCst);
    }
    Err(io::Error::other("there was more than all memory"))
}

fn populate(start: *mut u8, page: usize) -> io::Result<()> {
    // SAFETY: memory of its own.
    let done = unsafe { libc::madvise(start.wrapping_add(page * PAGE).cast(), PAGE, libc::MADV_POPULATE_WRITE) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks for page after page until next to nothing is free, and forks.
fn fork_at_the_brim(error: &AtomicU32) -> io::Result<()> {
    let (start, pages) = space()?;
    let mut page = 0;
    while let Some(free) = memory_info::kib("MemFree").filter(|&free| free > NEXT_TO_NOTHING) {
        // Half of the way at a time: page tables and the reading of the file take some, too.
        let step = ((free - NEXT_TO_NOTHING) as usize / 4 / 2).max(1);
        (page..page + step).filter(|&page| page < pages).try_for_each(|page| populate(start, page))?;
        page += step;
    }
    match spawn(|| 0) {
        Ok(child) => wait(child).map(|_| ()),
        Err(refused) => {
            error.store(refused.raw_os_error().unwrap_or(-1).cast_unsigned(), Ordering::SeqCst);
            Ok(())
        }
    }
}

/// Asks for page after page until nothing is left, and waits for a child, whose status is to go where there is no page: one child is gone
/// with that, and no other. Where a page came back meanwhile, from a CPU that is slow to give back what it keeps, it does so again.
fn reap_at_the_brim(gone: &AtomicU32) -> io::Result<()> {
    let (start, pages) = space()?;
    // Later there is no page to be had, for this program's own code either: what it does then it does once before, in vain.
    gone.store(0, Ordering::SeqCst);
    let (none, no_child) = (take_rest(), take_one(core::ptr::null_mut()));
    for _ in 0..DEAD {
        spawn(|| 0)?;
    }
    // By then they are dead, and what they had is free.
    thread::sleep(Duration::from_secs(1));
    let (mut page, mut left) = (0, DEAD);
    while left > 1 && none == 0 && no_child != 0 {
        for _ in 0..REFUSED {
            while page < pages && populate(start, page).is_ok() {
                page += 1;
            }
        }
        let error = take_one(start.wrapping_add(page * PAGE).cast());
        if error == libc::ENOMEM {
            gone.store(left.saturating_sub(take_rest()) as u32, Ordering::SeqCst);
            return Ok(());
        }
        (page, left) = (page + 1, left - 1);
    }
    Err(io::Error::other("there was a page each time"))
}

/// Waits for a child whose status goes to `status`. The error, or 0.
#[inline(never)]
fn take_one(status: *mut i32) -> i32 {
    // SAFETY: the kernel writes to memory of this program, if there is any.
    let answer = unsafe { libc::waitpid(-1, status, 0) };
    if answer == -1 { io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { 0 }
}

/// Waits for all children, and says how many they were.
#[inline(never)]
fn take_rest() -> usize {
    let mut found = 0;
    while wait(-1).is_ok() {
        found += 1;
    }
    found
}

/// What the kernel keeps ready, in KiB.
fn kept() -> u64 {
    memory_info::kib("KReclaimable").unwrap_or(0)
}

/// Has a child use up memory in one way, where so much is kept ready. Whether it ended as it had to.
fn use_up(name: &str, way: Way, when: &str, at_first: u64) -> io::Result<bool> {
    let got = &shared_words().map_err(io::Error::other)?[0];
    let child = spawn(|| match way(got) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("brim: {name}: {error}");
            1
        }
    })?;
    let status = wait(child)?.status;
    println!("fact brim.{name} {when} {} {at_first}", got.load(Ordering::SeqCst));
    println!("fact brim.kept {name} {when} {}", kept());
    let killed = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL;
    Ok(if name == "touch" { killed } else { status == 0 })
}

/// Starts `count` threads that live at the same time, in a child, and ends them; again, if their stacks are not kept any more: on a slow
/// machine they may have lain idle before anybody looked. What is kept then.
fn storm(count: usize) -> io::Result<u64> {
    let stacks = count as u64 * KERNEL_STACK;
    for _ in 0..STORMS {
        let child = spawn(|| i32::from(!threads(count).is_ok_and(|started| started == count)))?;
        if wait(child)?.status != 0 {
            return Err(io::Error::other("a storm of threads"));
        }
        if kept() > stacks / 2 {
            return Ok(kept());
        }
    }
    Err(io::Error::other("what a storm leaves is not kept"))
}

fn threads(count: usize) -> io::Result<usize> {
    let stacks = Stacks::new(count, STACK)?;
    let gate = Gate::new();
    let threads: Vec<Alive> = (0..count).map(|_| Alive::new()).collect();
    let begin = |(index, alive): &(usize, &Alive)| {
        // SAFETY: each has a stack of its own, and is joined below before stacks and gate go (1); the gate's word (2).
        unsafe { start(stacks.prepared(*index, wait_at, gate.word()), alive) }.is_ok()
    };
    let started = threads.iter().enumerate().take_while(begin).count();
    gate.wait_for(started as u32);
    gate.open();
    threads[..started].iter().for_each(Alive::join);
    Ok(started)
}

/// Has the kernel told to keep nothing, after a storm, by this word.
fn drop_caches(word: &str, count: usize) -> io::Result<()> {
    let at_first = storm(count)?;
    let error = fs::write(DROP_CACHES, word).err().map_or(0, |error| error.raw_os_error().unwrap_or(-1));
    println!("fact brim.drop {word} {at_first} {} {error}", kept());
    Ok(())
}

/// Waits for what lies idle to go, after a storm.
fn lie_idle(count: usize) -> io::Result<()> {
    let at_first = storm(count)?;
    let begun = Instant::now();
    while begun.elapsed() < IDLE && kept() > at_first / 2 {
        thread::sleep(Duration::from_millis(100));
    }
    println!("fact brim.idle {at_first} {}", kept());
    Ok(())
}

fn all(count: usize) -> io::Result<bool> {
    let mut well = true;
    for (name, way) in WAYS {
        well &= use_up(name, way, "before", kept())?;
    }
    for (name, way) in WAYS {
        let at_first = storm(count)?;
        well &= use_up(name, way, "after", at_first)?;
    }
    WORDS.iter().try_for_each(|word| drop_caches(word, count))?;
    lie_idle(count)?;
    Ok(well)
}

fn main() -> ExitCode {
    let count = match std::env::args().nth(1).map(|word| word.parse()) {
        None => THREADS,
        Some(Ok(count)) => count,
        Some(Err(_)) => {
            eprintln!("brim: how many threads? brim [THREADS]");
            return ExitCode::from(2);
        }
    };
    match all(count) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("brim: {error}");
            ExitCode::FAILURE
        }
    }
}
