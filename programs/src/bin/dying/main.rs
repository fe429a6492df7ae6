//! A task is killed at every instruction of the calls of its life, one after the other: `dying [STRIDE [CALL...]]`.
//!
//! ```text
//!   overflow-nth = n  ── the call ── killed: its stack overflowed behind instruction n      n = 1, 1 + stride, ... until the call
//!                          └──────── done: it has no more than n instructions               is done
//!   overflow-room = d ── the call ── killed: it needs more stack than d bytes               d = 0, 8, ... until it is done
//!   overflow-again = n ── killed ── and again behind instruction n of its end               n = 1, 1 + stride, ... until it has fewer
//! ```
//!
//! Three files of the reference kernel's in `/proc/thread-self` say where the next call of the thread that writes to them runs out of stack,
//! or its end. A child makes the call and dies of SIGSEGV, with its threads, or goes on; this process goes on in any case. Prints:
//!
//! ```text
//! fact dying.nth CALL INSTRUCTIONS OVERFLOWS      instructions of the call, and how often it was killed
//! fact dying.room CALL BYTES OVERFLOWS DONE       the stack that it takes, how often it was killed, and children that ended well
//! fact dying.again WHO INSTRUCTIONS OVERFLOWS NUMBERS FUTEXES      instructions of its end; how often its number was not cleared, and
//!                                                                  its robust futex not marked, for those who share its memory
//! ```
//!
//! Whether anything was lost or is held is for the kernel's own count at the end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::sync::atomic::Ordering::SeqCst;

use vmstack_programs::{spawn, wait};

mod again;
mod calls;

use again::{ENDS, TWICE, each_end, share};
use calls::CALLS;

/// More instructions than any call has, and more bytes than any stack.
const MOST: usize = 400_000;
/// From one depth to the next, in bytes, for a stride of one.
const WORD: usize = 8;
/// After so many calls in a row that had enough stack, the call is taken to need no more.
const ENOUGH: usize = 8;

/// One of the files.
struct Control(File);

impl Control {
    fn open(name: &str) -> io::Result<Self> {
        File::options().read(true).write(true).open(format!("/proc/thread-self/{name}")).map(Self)
    }

    /// The next call of this thread is the one that is meant.
    fn set(&self, number: usize) -> io::Result<()> {
        let digits = [100_000, 10_000, 1000, 100, 10, 1].map(|unit| b'0' + (number / unit % 10) as u8);
        // Zeros before it would make it octal.
        let first = digits.iter().position(|&digit| digit != b'0').unwrap_or(digits.len() - 1);
        self.0.write_at(&digits[first..], 0).map(|_| ())
    }

    /// Of `overflow-nth`: how many instructions the last call had, of whoever made it, until it was killed or done. Of `overflow-again`: how
    /// many its end had until it was killed again, if it was. Of `overflow-room`: how many overflows there were.
    fn count(&self) -> io::Result<usize> {
        let mut digits = [0; 16];
        let length = self.0.read_at(&mut digits, 0)?;
        let text = core::str::from_utf8(&digits[..length]).unwrap_or_default();
        text.trim().parse().map_err(io::Error::other)
    }
}

/// Says where the next call is to overflow.
type Arm<'a> = &'a dyn Fn() -> io::Result<()>;

/// One call, made by a child, which arms it right before.
type Attempt = fn(arm: Arm<'_>) -> io::Result<()>;

/// What came of one child.
enum Outcome {
    Killed,
    Done,
}

/// In a child: the call, armed with `number` in the file that `name` is of. Other children that this one left behind are waited for here,
/// for they come to the first process.
fn attempt(name: &str, number: usize, attempt: Attempt) -> io::Result<Outcome> {
    let child = spawn(|| {
        let armed = Control::open(name).and_then(|control| attempt(&|| control.set(number)));
        i32::from(armed.is_err())
    })?;
    let mut outcome = Err(io::Error::other("the child is nobody's"));
    while let Ok(ended) = wait(-1) {
        if ended.pid != child {
            continue;
        }
        outcome = match ended.status {
            0 => Ok(Outcome::Done),
            libc::SIGSEGV => Ok(Outcome::Killed),
            status => Err(io::Error::other(format!("{name} {number}: the child's status is {status:#x}"))),
        };
    }
    outcome
}

/// Every `stride`th instruction of one call.
fn each_instruction(name: &str, call: Attempt, stride: usize) -> io::Result<()> {
    let control = Control::open("overflow-nth")?;
    let (mut killed, mut next) = (0, 1);
    while next < MOST {
        let outcome = attempt("overflow-nth", next, call)?;
        let reached = control.count()?;
        match outcome {
            // It may have waited for the end of a section.
            Outcome::Killed => killed += 1,
            Outcome::Done if reached < next => {
                println!("fact dying.nth {name} {reached} {killed}");
                return Ok(());
            }
            // It ended well, and died after that.
            Outcome::Done => killed += 1,
        }
        next = reached.max(next) + stride;
    }
    Err(io::Error::other(format!("{name}: more than {MOST}")))
}

/// Every `stride`th depth of one call.
fn each_depth(name: &str, call: Attempt, stride: usize) -> io::Result<()> {
    let control = Control::open("overflow-room")?;
    let (mut overflows, mut done, mut enough, mut room) = (0, 0, 0, 0);
    while enough < ENOUGH {
        let before = control.count()?;
        let outcome = attempt("overflow-room", room, call)?;
        // Whose end was told before it died of this did well, too.
        done += usize::from(matches!(outcome, Outcome::Done));
        match control.count()? - before {
            0 => enough += 1,
            more => (overflows, enough) = (overflows + more, 0),
        }
        room += stride * WORD;
    }
    println!("fact dying.room {name} {} {overflows} {done}", room - enough * stride * WORD);
    Ok(())
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "--executed") {
        return ExitCode::SUCCESS;
    }
    let stride: usize = words.first().and_then(|word| word.parse().ok()).unwrap_or(1);
    let chosen = |name: &str| words.len() < 2 || words[1..].iter().any(|word| word == name);
    let mut well = true;
    for (name, call) in CALLS.into_iter().filter(|(name, _)| chosen(name)) {
        // Instructions are four times as near to each other as depths are, if these are not far apart.
        let swept =
            each_depth(name, call, stride.div_ceil(4).min(8)).and_then(|()| each_instruction(name, call, stride));
        well &= swept.inspect_err(|error| println!("dying: {name}: {error}")).is_ok();
    }
    for (name, of_two, twice) in ENDS.into_iter().filter(|(name, ..)| chosen(name)) {
        TWICE.store(twice, SeqCst);
        let swept = share().and_then(|()| each_end(name, of_two, stride));
        well &= swept.inspect_err(|error| println!("dying: {name}: {error}")).is_ok();
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
