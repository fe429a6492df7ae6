//! Children that make calls, one after the other, and a parent that sees how far they get.
//!
//! What they found is in memory that they share with the parent: which call is next, and how often each answer was given. A child that dies of
//! a call has said which one it was; the next child begins with the one after it.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::sleep;
use std::time::{Duration, Instant};

use vmstack_programs::{Pid, spawn};

use crate::call::{self, Call};
use crate::words;

/// Who makes no progress for so long waits for something that does not come.
const PATIENCE: Duration = Duration::from_millis(60);
/// How many calls a child makes at most: what the calls have done to it shall not spoil all others.
const A_CHILD: usize = 400;
const ERRORS: usize = 600;

/// What children and parent share.
struct Shared {
    next: AtomicUsize,
    answers: [AtomicUsize; ERRORS],
}

impl Shared {
    /// In memory of its own, which is never given back.
    fn new() -> io::Result<&'static Self> {
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: new memory, nowhere in particular.
        let memory = unsafe { libc::mmap(core::ptr::null_mut(), size_of::<Self>(), rights, flags, -1, 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it is large enough, aligned to a page and zero, as which all of the struct is valid; it stays.
        Ok(unsafe { &*memory.cast::<Self>() })
    }

    fn count(&self, answer: isize) {
        let error = usize::try_from(-answer).unwrap_or(0).min(ERRORS - 1);
        self.answers[if answer < 0 { error } else { 0 }].fetch_add(1, SeqCst);
    }
}

/// What came of many calls.
#[derive(Debug)]
pub(crate) struct Tally {
    calls: usize,
    answers: Vec<(usize, usize)>,
    ends: BTreeMap<String, usize>,
}

impl Tally {
    /// Prints it as facts. Whether it is good is the reader's to say.
    pub(crate) fn print(self) -> bool {
        println!("fact hostile.calls {}", self.calls);
        self.answers.iter().for_each(|(error, times)| println!("fact hostile.answers {error} {times}"));
        self.ends.iter().for_each(|(how, times)| println!("fact hostile.children {how} {times}"));
        true
    }
}

/// Makes the calls 0 to `count` in children, each of which starts with what `beside` does.
pub(crate) fn run(count: usize, call: impl Fn(usize) -> Call, beside: Option<fn()>) -> io::Result<Tally> {
    let shared = Shared::new()?;
    words::furnish()?;
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    while shared.next.load(SeqCst) < count {
        let before = shared.next.load(SeqCst);
        let child = spawn(|| {
            words::open_files();
            if let Some(begin) = beside {
                begin();
            }
            make(shared, count.min(before + A_CHILD), &call)
        })?;
        *ends.entry(watch(child, shared)?).or_default() += 1;
        if shared.next.load(SeqCst) == before {
            // It did not come to its first: the next shall not try it too.
            shared.next.fetch_add(1, SeqCst);
        }
    }
    let answers = shared.answers.iter().map(|times| times.load(SeqCst)).enumerate().filter(|(_, times)| *times != 0);
    Ok(Tally { calls: count, answers: answers.collect(), ends })
}

/// In a child: makes the calls up to `end`. Nothing of the C library: the calls may have taken its memory away.
fn make(shared: &Shared, end: usize, call: &impl Fn(usize) -> Call) -> i32 {
    loop {
        let index = shared.next.fetch_add(1, SeqCst);
        if index >= end {
            shared.next.fetch_sub(1, SeqCst);
            // All of it: there may be other threads.
            call::make(libc::SYS_exit_group, [DONE]);
        }
        shared.count(call(index).make());
    }
}

/// The status of a child that came to its end by itself.
const DONE: usize = 77;

/// Waits for `child` as long as it gets on, and says how it ended.
fn watch(child: Pid, shared: &Shared) -> io::Result<String> {
    let (mut last, mut since) = (shared.next.load(SeqCst), Instant::now());
    let mut stuck = false;
    loop {
        let mut status = 0;
        // SAFETY: `status` can be written to.
        match unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } {
            -1 => return Err(io::Error::last_os_error()),
            0 => sleep(Duration::from_millis(1)),
            _ if stuck => return Ok("stuck".into()),
            _ => return Ok(described(status)),
        }
        let next = shared.next.load(SeqCst);
        if next != last {
            (last, since) = (next, Instant::now());
        } else if since.elapsed() > PATIENCE {
            // SAFETY: the child is this process's own, and not waited for.
            unsafe { libc::kill(child, libc::SIGKILL) };
            stuck = true;
        }
    }
}

fn described(status: i32) -> String {
    match (libc::WIFSIGNALED(status), libc::WEXITSTATUS(status)) {
        (true, _) => format!("signal-{}", libc::WTERMSIG(status)),
        (false, status) if status == DONE as i32 => "done".into(),
        (false, _) => "gone".into(),
    }
}
