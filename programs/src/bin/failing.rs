//! Every allocation on the way to a new task, one after the other, is made to fail: `failing`.
//!
//! ```text
//!   fail-nth = n ── the call ── refused: the n-th allocation failed      n = 1, 2, 3, ... until the call
//!                        └───── done: it has fewer than n, the last n    is done without one that fails
//! ```
//!
//! `/proc/thread-self/fail-nth` is Linux's file for that (with `CONFIG_FAULT_INJECTION`), and so this runs there too. Prints:
//!
//! ```text
//! fact failing.CALL POINTS          allocations of the call, each of which has failed once
//! fact failing.refused CALL ERRNO N     what the caller was told
//! fact failing.survived CALL N      failures that the caller was not told of: the call was done without
//! fact failing.killed CALL N        that killed it, for they came when it touched its memory
//! ```
//!
//! Whether anything was lost is for the kernel's own count at the end.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use vmstack_programs::checks::until;
use vmstack_programs::pipe::{self, close, has_ended};
use vmstack_programs::{DROP_CACHES, Pid, children, raw, spawn, wait};

/// More allocations than any call makes.
const MOST: usize = 2000;

/// The file.
struct Injection(File);

impl Injection {
    fn open() -> io::Result<Self> {
        File::options().read(true).write(true).open("/proc/thread-self/fail-nth").map(Self)
    }

    fn set(&self, nth: usize) -> io::Result<()> {
        // Without allocating, for that would count: the digits of a number, on the stack.
        let digits = [1000, 100, 10, 1].map(|unit| b'0' + (nth / unit % 10) as u8);
        // Zeros before it would make it octal.
        let first = digits.iter().position(|&digit| digit != b'0').unwrap_or(digits.len() - 1);
        self.0.write_at(&digits[first..], 0).map(|_| ())
    }

    /// Whether the failure has happened, and none is left to happen.
    fn happened(&self) -> io::Result<bool> {
        let mut digits = [0; 8];
        let length = self.0.read_at(&mut digits, 0)?;
        Ok(digits[..length].trim_ascii() == b"0")
    }
}

/// One call, made for the `round`-th time in its process: the first time is there to have all memory touched.
type Attempt = fn(round: i32) -> io::Result<()>;

const CALLS: [(&str, Attempt); 15] = [
    ("clone", thread),
    ("clone_cold", thread_without_cache),
    ("fork", fork),
    ("vfork", vfork),
    ("share-files", share_files),
    ("execve", execute),
    ("pipe", pipe),
    ("mmap", map),
    ("munmap", unmap),
    ("touch", touch),
    ("mremap", remap),
    ("open", open),
    ("layers", layers),
    ("dup", dup),
    ("sigaction", act),
];

extern "C" fn nothing(_: usize) -> i32 {
    0
}

fn thread(_: i32) -> io::Result<()> {
    static ALIVE: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);
    ALIVE.store(1, std::sync::atomic::Ordering::SeqCst);
    let flags = raw::OF_THREAD | libc::CLONE_CHILD_CLEARTID as u64;
    // SAFETY: the thread does nothing, on a stack that its predecessor has left: its end was waited for.
    unsafe { raw::clone(flags, raw::Stack::spare(0), core::ptr::null_mut(), ALIVE.as_ptr(), nothing, 0) }?;
    raw::spin_until_zero(&ALIVE);
    Ok(())
}

/// Waits for a child that exits at once.
fn reap(child: io::Result<Pid>) -> io::Result<()> {
    wait(child?).map(|_| ())
}

/// No stack is left that is ready, on whichever CPU: the next one is mapped anew, with frames and page tables.
fn thread_without_cache(round: i32) -> io::Result<()> {
    thread(round)?;
    if round == 0 {
        // The thread is gone when its word is zero, and its stack a moment later.
        std::thread::sleep(Duration::from_millis(30));
        std::fs::write(DROP_CACHES, "3")?;
    }
    Ok(())
}

fn fork(_: i32) -> io::Result<()> {
    reap(children::fork_and_exit())
}

fn vfork(_: i32) -> io::Result<()> {
    reap(children::vfork_and_exit())
}

/// A child with the same table of files.
fn share_files(_: i32) -> io::Result<()> {
    let flags = (libc::CLONE_FILES | libc::SIGCHLD) as u64;
    let (stack, null) = (raw::Stack::spare(1), core::ptr::null_mut());
    // SAFETY: the function does nothing, in memory of its own.
    reap(unsafe { raw::clone(flags, stack, null, null, nothing, 0) })
}

/// The new program says what is left: [`after_execute`].
fn execute(round: i32) -> io::Result<()> {
    if round == 0 {
        return Ok(());
    }
    let (path, word) = (c"/proc/self/exe", c"--executed");
    let list = [path.as_ptr(), word.as_ptr(), core::ptr::null()];
    // SAFETY: a string, a list that ends with a null pointer, and no environment.
    unsafe { libc::execve(path.as_ptr(), list.as_ptr(), core::ptr::null()) };
    Err(io::Error::last_os_error())
}

/// What the program does that was executed: whatever it cannot do now was not made to fail before.
fn after_execute() -> ExitCode {
    let happened = Injection::open().and_then(|injection| injection.happened());
    ExitCode::from(if happened.unwrap_or(false) { SURVIVED } else { 0 })
}

/// The answer of a call that says -1 when it fails.
fn done(answer: i32) -> io::Result<()> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn pipe(_: i32) -> io::Result<()> {
    let mut ends = [0; 2];
    // SAFETY: there is room for two.
    done(unsafe { libc::pipe(ends.as_mut_ptr()) })
}

/// Eight pages of its own for each round, far from others.
fn place(round: i32) -> *mut libc::c_void {
    core::ptr::without_provenance_mut(0x3000_0000 + (round as usize) * 0x4000_0000)
}

const PAGE: usize = 4096;

fn map(round: i32) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: nothing else is there.
    let got = unsafe { libc::mmap(place(round), 8 * PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if got == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A hole makes two mappings of one.
fn unmap(round: i32) -> io::Result<()> {
    // SAFETY: nobody uses it.
    done(unsafe { libc::munmap(place(round).wrapping_byte_add(PAGE), PAGE) })
}

/// The page and the tables for it.
fn touch(round: i32) -> io::Result<()> {
    // SAFETY: `prepare` has mapped it, and nobody else uses it.
    unsafe { place(round).cast::<u8>().write_volatile(1) };
    Ok(())
}

/// How many pages of one mapping move, each from between others: enough for the kernel's list of mappings to need more memory twice.
const MOVES: usize = 96;

/// Page `index` of four for each move, behind what the other calls use.
fn moved_page(round: i32, index: usize) -> *mut libc::c_void {
    place(round).wrapping_byte_add((16 + index) * PAGE)
}

/// Whether nothing is mapped at `page`.
fn is_free(page: *mut libc::c_void) -> bool {
    // SAFETY: does nothing to what is there.
    unsafe { libc::msync(page, PAGE, libc::MS_ASYNC) == -1 }
}

/// Maps pages for moves from number `first` on.
fn map_pages(round: i32, first: usize, count: usize) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    let (start, bytes) = (moved_page(round, first), count * PAGE);
    // SAFETY: nothing else is there.
    let got = unsafe { libc::mmap(start, bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if got == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Where the next round's pages are, each with a word in it.
fn prepare_moves(round: i32) -> io::Result<()> {
    map_pages(round, 0, 4 * MOVES)?;
    // SAFETY: it was mapped just now.
    (0..4 * MOVES).for_each(|index| unsafe { moved_page(round, index).cast::<usize>().write_volatile(index) });
    Ok(())
}

/// Pages move, one by one; whoever is refused finds its page where it was, and nothing where it was to go.
fn remap(round: i32) -> io::Result<()> {
    if round == 0 {
        return prepare_moves(1);
    }
    for index in (1..4 * MOVES).step_by(4) {
        if index == 2 * MOVES + 1 {
            // Each move makes two mappings more. With one beside them it is the other of both that finds no room the second time.
            map_pages(round, 2048, 1)?;
        }
        // Where there are no page tables yet.
        let (from, to) = (moved_page(round, index), moved_page(round, 1024 + index));
        // SAFETY: nobody uses either place.
        let got = unsafe { libc::mremap(from, PAGE, PAGE, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, to) };
        let error = io::Error::last_os_error();
        let moved = got != libc::MAP_FAILED;
        // SAFETY: the page is at one of both.
        let number = unsafe { if moved { to } else { from }.cast::<usize>().read_volatile() };
        if number != index || !is_free(if moved { from } else { to }) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        if !moved {
            return Err(error);
        }
    }
    Ok(())
}

fn open(_: i32) -> io::Result<()> {
    // SAFETY: a string.
    done(unsafe { libc::open(c"/proc/self/exe".as_ptr(), libc::O_RDONLY) })
}

/// Layers of block devices over a file of the archive, and what is read through them. Linux has no such paths: there it is a file.
fn layers(_: i32) -> io::Result<()> {
    static PATH: OnceLock<&CStr> = OnceLock::new();
    let layers = c"/disk/linear*3.compare(mirror.file=symbols,linear@0+7.file=symbols)";
    let path = PATH.get_or_init(|| if Path::new("/disk").exists() { layers } else { c"/proc/self/exe" });
    // SAFETY: a string.
    let file = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) };
    done(file)?;
    let mut bytes = [0_u8; 1000];
    // SAFETY: there is room for as many bytes.
    let read = unsafe { libc::read(file, bytes.as_mut_ptr().cast(), bytes.len()) };
    let result = if read < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    close(file)?;
    result
}

/// So far up that the table grows.
fn dup(round: i32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    done(unsafe { libc::dup2(1, 300 + 300 * round) })
}

fn act(round: i32) -> io::Result<()> {
    // SAFETY: ignoring these signals changes nothing here.
    let before = unsafe { libc::signal(libc::SIGUSR1 + round, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Statuses of a child: the call was done although something failed; something else went wrong. Zero: nothing failed; else an error.
const SURVIVED: u8 = 200;
const UNCLEAR: u8 = 201;

/// In a child: makes the `nth` allocation of the call fail, and says what came of it.
fn attempt(name: &str, call: Attempt, nth: usize) -> io::Result<u8> {
    let injection = Injection::open()?;
    let mapped = matches!(name, "munmap" | "touch");
    (0..2).filter(|_| mapped).try_for_each(map)?;
    call(0)?;
    injection.set(0)?;
    let _warm = injection.happened()?;
    injection.set(nth)?;
    let result = call(1);
    // This may be what fails now; then the call did not.
    let happened = injection.happened().unwrap_or(false);
    if injection.set(0).is_err() {
        injection.set(0)?;
    }
    Ok(match result {
        Err(error) if happened => error.raw_os_error().and_then(|error| error.try_into().ok()).unwrap_or(UNCLEAR),
        Err(_) => UNCLEAR,
        Ok(()) if happened => SURVIVED,
        Ok(()) => 0,
    })
}

/// Runs `work` in a child, and says how it ended. Before it was waited for, and as soon as those have ended whom it left its files to, nobody
/// has a file of it: who reads from a pipe must not wait for its parent.
fn in_child(work: impl FnOnce() -> i32) -> io::Result<i32> {
    let [reader, writer] = pipe::pipe()?;
    let child = spawn(work)?;
    close(writer)?;
    let mut info = core::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the information can be written to.
    done(unsafe { libc::waitid(libc::P_PID, child as u32, info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT) })?;
    let ended = until("nobody has its files", || has_ended(reader));
    close(reader)?;
    let status = wait(child)?.status;
    ended.map(|()| status).map_err(io::Error::other)
}

/// Every allocation of one call, until there are no more. Whether that came to an end.
fn all_of(name: &str, call: Attempt) -> io::Result<bool> {
    let (mut survived, mut killed, mut refused) = (0, 0, BTreeMap::<i32, usize>::new());
    for nth in 1..MOST {
        let status = in_child(|| attempt(name, call, nth).map_or_else(|_| i32::from(UNCLEAR), i32::from))
            .map_err(|error| io::Error::other(format!("{name}: number {nth}: {error}")))?;
        match (libc::WIFEXITED(status), libc::WEXITSTATUS(status) as u8) {
            (false, _) => killed += 1,
            (true, 0) => {
                println!("fact failing.{name} {}", nth - 1);
                refused.iter().for_each(|(error, times)| println!("fact failing.refused {name} {error} {times}"));
                println!("fact failing.survived {name} {survived}");
                println!("fact failing.killed {name} {killed}");
                return Ok(true);
            }
            (true, SURVIVED) => survived += 1,
            (true, UNCLEAR) => return Err(io::Error::other(format!("{name}: number {nth} is unclear"))),
            (true, error) => *refused.entry(error.into()).or_default() += 1,
        }
    }
    println!("failing: {name}: more than {MOST}");
    Ok(false)
}

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|word| word == "--executed") {
        return after_execute();
    }
    let mut well = true;
    for (name, call) in CALLS {
        well &= all_of(name, call).unwrap_or_else(|error| {
            println!("failing: {error}");
            false
        });
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
