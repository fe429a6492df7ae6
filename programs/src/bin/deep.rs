//! Calls that are made with ever more room on the kernel's stack, from none to plenty: at some point of its way each overflows it once, and
//! whoever made it is killed there. What others see of that must be the same at every point: `deep`.
//!
//! ```text
//!   kernel stack of a child        N bytes are left when its call enters: 0, 8, 16, ...
//!   bottom |<-- N -->|· · · · · · ·| top
//! ```
//!
//! Of each call it is looked at whether the other end of a pipe learns that the child has ended; and of a thread's end, whether the other
//! thread ends too if it was killed. `deep NAME...` is for some of the calls. Prints:
//!
//! ```text
//! fact deep.CALL RUNS KILLED       how often the call was made, and how many of those were killed
//! fact deep.lost CALL N            nobody learned of an end
//! ```
//!
//! Where there is no kernel that moves its stack pointer the calls are made as they are. Exit status: 0 nothing was lost, 1
//! something was.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::process::ExitCode;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use libc::c_int;
use vmstack_programs::PROVOKE;
use vmstack_programs::checks::{child, shared_words, status};
use vmstack_programs::pipe::{close, has_ended, pipe};
use vmstack_programs::raw::{self, OF_THREAD, Stack};

/// After so many runs of a call that were not killed, it has room enough.
const ENOUGH: usize = 64;
/// The most that is left, in bytes: more than any of the calls needs.
const MOST: usize = 8192;
/// What the kernel goes up by, in bytes.
const STEP: usize = 8;
/// How long a thread that was killed takes to say so, and to end the others.
const A_REPORT: Duration = Duration::from_millis(100);
/// How long anything may take.
const A_WHILE: Duration = Duration::from_secs(10);

/// What provokes: the kernel's device, if there is one.
struct Device(Option<File>);

impl Device {
    fn tell(&mut self, what: &str) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(()), |file| file.write_all(what.as_bytes()))
    }

    /// Makes the next call of this thread enter where so much is left.
    fn move_next_call(&mut self) {
        let _told = self.tell("SWEEP_MOVE_NEXT_CALL");
    }
}

/// Something that is done with the writing end of a pipe, by one call, in a child.
type Call = fn(device: &mut Device, writer: c_int, path: &CString);

/// Moves the stack pointer, and makes the call that follows.
macro_rules! moved {
    ($device:ident, $call:expr) => {{
        $device.move_next_call();
        // SAFETY: descriptors of this process, a string, and places that can be written to.
        let _answer = unsafe { $call };
    }};
}

const CALLS: [(&str, Call); 7] = [
    ("dup", |device, writer, _| moved!(device, libc::dup(writer))),
    ("dup2", |device, writer, _| moved!(device, libc::dup2(writer, 900))),
    ("fcntl", |device, writer, _| moved!(device, libc::fcntl(writer, libc::F_DUPFD, 500))),
    ("open", |device, _, path| moved!(device, libc::open(path.as_ptr(), libc::O_WRONLY))),
    ("write", |device, writer, _| moved!(device, libc::write(writer, b"x".as_ptr().cast(), 1))),
    ("poll", |device, writer, _| {
        let mut entry = libc::pollfd { fd: writer, events: libc::POLLOUT, revents: 0 };
        moved!(device, libc::poll(&raw mut entry, 1, 0));
    }),
    ("close", |device, writer, _| moved!(device, libc::close(writer))),
];

/// What came of one run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Run {
    Done,
    Killed,
    Lost,
}

/// A child makes the call; nobody else has the writing end.
fn run(device: &mut Device, call: Call) -> Result<Run, String> {
    let [reader, writer] = pipe().map_err(|error| error.to_string())?;
    let path = CString::new(format!("/proc/self/fd/{writer}")).map_err(|error| error.to_string())?;
    let maker = child(|| {
        call(device, writer, &path);
        0
    })?;
    let closed = close(writer);
    let status = status(maker)?;
    let learned = has_ended(reader);
    closed.and(close(reader)).map_err(|error| error.to_string())?;
    Ok(match (learned, status) {
        (false, _) => Run::Lost,
        (true, 0) => Run::Done,
        (true, _) => Run::Killed,
    })
}

/// The device of a thread that ends, and the words of its process.
static mut DEVICE: Device = Device(None);

extern "C" fn end_moved(_: usize) -> i32 {
    let device = &raw mut DEVICE;
    // SAFETY: nobody else uses it from here on.
    unsafe { &mut *device }.move_next_call();
    // SAFETY: ends this thread.
    unsafe { libc::syscall(libc::SYS_exit, 0) as i32 }
}

/// Two threads, of which one makes the call. Its end makes the word zero.
fn be_two(device: &mut Device, word: &AtomicU32) -> i32 {
    let place = &raw mut DEVICE;
    // SAFETY: one thread as yet.
    unsafe { place.write(Device(device.0.take())) };
    let flags = OF_THREAD | libc::CLONE_CHILD_CLEARTID as u64;
    let (stack, number) = (Stack::spare(0), word.as_ptr().cast());
    // SAFETY: the function makes system calls.
    let made = unsafe { raw::clone(flags, stack, ptr::null_mut(), number, end_moved, 0) };
    while made.is_ok() {
        // SAFETY: the call has no arguments.
        unsafe { libc::pause() };
    }
    1
}

/// Lets others run until `is_so`, for so long at most. Whether it is.
fn soon(time: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > time {
            return false;
        }
        thread::yield_now();
    }
    true
}

/// A thread of two ends by the call. Killed, it takes the other one with it; else the other one stays.
fn run_thread(device: &mut Device, word: &AtomicU32) -> Result<Run, String> {
    word.store(1, SeqCst);
    let maker = child(|| be_two(device, word))?;
    let mut status = 0;
    // SAFETY: the status can be written to.
    let mut ended = || unsafe { libc::waitpid(maker, &raw mut status, libc::WNOHANG) } != 0;
    let is_over = soon(A_WHILE, || ended() || word.load(SeqCst) == 0);
    if !is_over || soon(A_REPORT, &mut ended) {
        return Ok(if is_over { Run::Killed } else { Run::Lost });
    }
    // SAFETY: a child of ours.
    unsafe { libc::kill(maker, libc::SIGKILL) };
    Ok(if soon(A_WHILE, &mut ended) && status == libc::SIGKILL { Run::Done } else { Run::Lost })
}

/// How often a call was made, and what came of it.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    runs: usize,
    killed: usize,
    lost: usize,
    /// Not killed, one after the other.
    done: usize,
}

impl Tally {
    fn count(&mut self, name: &str, left: usize, run: Run) {
        self.runs += 1;
        self.killed += usize::from(run == Run::Killed);
        self.done = if run == Run::Done { self.done + 1 } else { 0 };
        if run == Run::Lost {
            self.lost += 1;
            println!("fact deep.lost {name} {left}");
        }
    }
}

fn sweep() -> Result<bool, String> {
    let mut device = Device(OpenOptions::new().write(true).open(PROVOKE).ok());
    let word = &shared_words()?[0];
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut tallies = CALLS
        .iter()
        .map(|(name, _)| *name)
        .chain(["exit"])
        .map(|name| {
            let is_wanted = wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
            Tally { done: if is_wanted { 0 } else { ENOUGH }, ..Tally::default() }
        })
        .collect::<Vec<_>>();
    for left in (0..MOST).step_by(STEP) {
        let mut rest = tallies
            .iter_mut()
            .zip(CALLS.iter().map(Some).chain([None]))
            .filter(|(tally, _)| tally.done < ENOUGH)
            .peekable();
        if rest.peek().is_none() {
            break;
        }
        for (tally, call) in rest {
            match call {
                Some((name, call)) => tally.count(name, left, run(&mut device, *call)?),
                None => tally.count("exit", left, run_thread(&mut device, word)?),
            }
        }
        device.tell("SWEEP_JUDGE").map_err(|error| error.to_string())?;
    }
    let names = CALLS.iter().map(|(name, _)| *name).chain(["exit"]);
    names.zip(&tallies).for_each(|(name, tally)| println!("fact deep.{name} {} {}", tally.runs, tally.killed));
    Ok(tallies.iter().all(|tally| tally.lost == 0))
}

fn main() -> ExitCode {
    match sweep() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            println!("deep: {why}");
            ExitCode::FAILURE
        }
    }
}
