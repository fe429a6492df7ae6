//! Threads: made by `clone` itself and by Rust's library, and the ends of processes that have several.

use std::cell::Cell;
use std::ffi::CString;
use std::process::ExitCode;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::{Case, child, expect, say};
use crate::raw::{self, OF_THREAD, SPARE_STACKS, Stack, spin_until_zero};

pub(super) static CASES: [Case; 16] = [
    Case { name: "raw-thread", run: raw_thread },
    Case { name: "raw-storm", run: raw_storm },
    Case { name: "live-threads", run: live_threads },
    Case { name: "refused-flags", run: refused_flags },
    Case { name: "join", run: join },
    Case { name: "thread-local", run: thread_local },
    Case { name: "mutex", run: mutex },
    Case { name: "condition", run: condition },
    Case { name: "exit-group", run: exit_group },
    Case { name: "exit-group-of-waiters", run: exit_group_of_waiters },
    Case { name: "first-thread-ends-first", run: first_thread_ends_first },
    Case { name: "killed-with-threads", run: killed_with_threads },
    Case { name: "exec-from-thread", run: exec_from_thread },
    Case { name: "exec-from-first", run: exec_from_first },
    Case { name: "names", run: names },
    Case { name: "randomness", run: randomness },
];

/// What raw threads have done.
static DONE: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: usize) -> i32 {
    DONE.fetch_add(1, Ordering::SeqCst);
    0
}

/// A thread that the kernel says goodbye for: it writes zero where the number was.
fn start_raw(tid: &AtomicI32, stack: usize) -> Result<i32, String> {
    let flags = OF_THREAD | (libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID) as u64;
    // SAFETY: the function counts, and that is all.
    unsafe { raw::clone(flags, Stack::spare(stack), tid.as_ptr(), tid.as_ptr(), count, 0) }.map_err(say("clone"))
}

fn raw_thread() -> Result<(), String> {
    let before = DONE.load(Ordering::SeqCst);
    let tid = AtomicI32::new(-1);
    let number = start_raw(&tid, 0)?;
    spin_until_zero(&tid);
    expect("done", DONE.load(Ordering::SeqCst), before + 1)?;
    if number <= std::process::id() as i32 {
        Err(format!("thread {number} is not younger than its process"))
    } else {
        Ok(())
    }
}

/// Some at a time, one after the other.
fn raw_storm() -> Result<(), String> {
    let before = DONE.load(Ordering::SeqCst);
    for _ in 0..50 {
        let tids: [AtomicI32; 8] = std::array::from_fn(|_| AtomicI32::new(-1));
        for (stack, tid) in tids.iter().enumerate() {
            start_raw(tid, stack)?;
        }
        tids.iter().for_each(spin_until_zero);
    }
    expect("done", DONE.load(Ordering::SeqCst), before + 400)
}

static RELEASED: AtomicI32 = AtomicI32::new(1);

extern "C" fn wait_for_release(_: usize) -> i32 {
    spin_until_zero(&RELEASED);
    0
}

/// Many that are alive at once.
fn live_threads() -> Result<(), String> {
    RELEASED.store(1, Ordering::SeqCst);
    let tids: Vec<AtomicI32> = (0..SPARE_STACKS).map(|_| AtomicI32::new(-1)).collect();
    let flags = OF_THREAD | (libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID) as u64;
    let mut numbers = Vec::new();
    for (stack, tid) in tids.iter().enumerate() {
        // SAFETY: the function waits, and that is all.
        let made = unsafe { raw::clone(flags, Stack::spare(stack), tid.as_ptr(), tid.as_ptr(), wait_for_release, 0) };
        numbers.push(made.map_err(say("clone"))?);
    }
    let said: Vec<i32> = tids.iter().map(|tid| tid.load(Ordering::SeqCst)).collect();
    RELEASED.store(0, Ordering::SeqCst);
    tids.iter().for_each(spin_until_zero);
    expect("numbers", &said, &numbers)?;
    numbers.sort_unstable();
    numbers.dedup();
    expect("different numbers", numbers.len(), tids.len())
}

/// What Linux refuses.
fn refused_flags() -> Result<(), String> {
    let flags = [
        libc::CLONE_THREAD,
        libc::CLONE_SIGHAND,
        libc::CLONE_THREAD | libc::CLONE_VM,
        libc::CLONE_NEWNS | libc::CLONE_FS,
        libc::CLONE_NEWUSER | libc::CLONE_FS,
    ];
    for flags in flags {
        // SAFETY: the function counts, and that is all; it is not reached.
        let made = unsafe { raw::clone(flags as u64, Stack::new(), ptr::null_mut(), ptr::null_mut(), count, 0) };
        expect(&format!("clone({flags:#x})"), made.map_err(|error| error.raw_os_error()), Err(Some(libc::EINVAL)))?;
    }
    let flags = OF_THREAD | libc::CLONE_SETTLS as u64;
    // SAFETY: as above; where thread-local storage would be is no address.
    let made = unsafe { raw::clone_with(flags, Stack::new(), 1 << 63, count) };
    expect("no such address", made.map_err(|error| error.raw_os_error()), Err(Some(libc::EPERM)))?;
    let mut words = [0_u64; 12];
    let clone3 = |words: &[u64], bytes: usize| {
        // SAFETY: the structure is as long as is said; what it asks for is refused.
        let answer = unsafe { libc::syscall(libc::SYS_clone3, words.as_ptr(), bytes) };
        (answer, std::io::Error::last_os_error().raw_os_error())
    };
    expect("clone3, short", clone3(&words, 56), (-1, Some(libc::EINVAL)))?;
    expect("clone3, long", clone3(&words, 4104), (-1, Some(libc::E2BIG)))?;
    words[11] = 1;
    expect("clone3, unknown", clone3(&words, 96), (-1, Some(libc::E2BIG)))?;
    words[11] = 0;
    words[5] = 4096;
    expect("clone3, a stack without a size", clone3(&words, 88), (-1, Some(libc::EINVAL)))?;
    words[5] = 0;
    words[4] = 65;
    expect("clone3, no such signal", clone3(&words, 88), (-1, Some(libc::EINVAL)))
}

fn join() -> Result<(), String> {
    let threads: Vec<_> = (0..32_usize).map(|index| thread::spawn(move || index * index)).collect();
    let sum: usize = threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum();
    expect("sum of squares", sum, (0..32).map(|index| index * index).sum())
}

thread_local! {
    static MINE: Cell<usize> = const { Cell::new(7) };
}

fn thread_local() -> Result<(), String> {
    MINE.set(1);
    let threads: Vec<_> = (0..16_usize)
        .map(|index| {
            thread::spawn(move || {
                let before = MINE.replace(index + 100);
                for _ in 0..20 {
                    thread::yield_now();
                }
                before == 7 && MINE.get() == index + 100
            })
        })
        .collect();
    let good =
        threads.into_iter().filter(|_| true).map(thread::JoinHandle::join).filter(|kept| matches!(kept, Ok(true)));
    expect("threads that kept their own", good.count(), 16)?;
    expect("the first thread's own", MINE.get(), 1)
}

fn mutex() -> Result<(), String> {
    const EACH: usize = 2000;
    let sum = Arc::new(Mutex::new(0_usize));
    let add = |sum: Arc<Mutex<usize>>| {
        move || {
            for _ in 0..EACH {
                if let Ok(mut sum) = sum.lock() {
                    *sum += 1;
                }
            }
        }
    };
    let threads: Vec<_> = (0..8).map(|_| thread::spawn(add(Arc::clone(&sum)))).collect();
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")?;
    }
    let sum = sum.lock().map(|sum| *sum).unwrap_or_default();
    expect("sum", sum, 8 * EACH)
}

/// Two threads hand a number back and forth.
fn condition() -> Result<(), String> {
    const ROUNDS: usize = 500;
    let shared = Arc::new((Mutex::new(0_usize), Condvar::new()));
    let play = |shared: Arc<(Mutex<usize>, Condvar)>, parity: usize| {
        move || {
            let (number, changed) = &*shared;
            for _ in 0..ROUNDS {
                let Ok(number) = number.lock() else { return };
                let Ok(mut number) = changed.wait_while(number, |number| *number % 2 != parity) else { return };
                *number += 1;
                changed.notify_all();
            }
        }
    };
    let other = thread::spawn(play(Arc::clone(&shared), 1));
    play(Arc::clone(&shared), 0)();
    other.join().map_err(|_| "the other thread panicked")?;
    let number = shared.0.lock().map(|number| *number).unwrap_or_default();
    expect("number", number, 2 * ROUNDS)
}

/// Threads that run, and one that ends the process.
fn exit_group() -> Result<(), String> {
    child("exit with threads that run", 42 << 8, || {
        let started = Arc::new(Barrier::new(4));
        for _ in 0..3 {
            let started = Arc::clone(&started);
            thread::spawn(move || {
                started.wait();
                loop {
                    std::hint::spin_loop();
                }
            });
        }
        started.wait();
        42
    })
}

/// Threads that sleep, wait for a child, and wait for a lock.
fn exit_group_of_waiters() -> Result<(), String> {
    child("exit with threads that wait", 43 << 8, || {
        thread::spawn(|| thread::sleep(Duration::from_secs(1000)));
        let lock = Arc::new(Mutex::new(()));
        let Ok(_guard) = lock.lock() else { return 1 };
        let other = Arc::clone(&lock);
        thread::spawn(move || drop(other.lock()));
        let Ok(pid) = crate::spawn(|| {
            thread::sleep(Duration::from_millis(200));
            0
        }) else {
            return 2;
        };
        thread::spawn(move || crate::wait(pid));
        thread::sleep(Duration::from_millis(50));
        43
    })
}

/// The process ends with its last thread, and as that one did.
fn first_thread_ends_first() -> Result<(), String> {
    child("the first thread ends first", 8 << 8, || {
        thread::spawn(|| {
            thread::sleep(Duration::from_millis(50));
            // SAFETY: ends this thread, and with it the process.
            unsafe { libc::syscall(libc::SYS_exit, 8) }
        });
        // SAFETY: ends this thread; nothing of its stack is used by the other.
        unsafe { libc::syscall(libc::SYS_exit, 9) };
        1
    })
}

/// A thread that does what kills: the whole process is killed.
fn killed_with_threads() -> Result<(), String> {
    child("a thread that is killed", libc::SIGKILL, || {
        thread::spawn(|| {
            loop {
                thread::yield_now();
            }
        });
        let killer = thread::spawn(|| {
            // SAFETY: kills this process.
            unsafe { libc::kill(std::process::id() as i32, libc::SIGKILL) };
        });
        let _never = killer.join();
        1
    })
}

/// Executes this program again, with what the process was called before.
fn execute_again(who: &str) -> i32 {
    let words = ["/proc/self/exe", "--after-exec", who, &std::process::id().to_string()];
    let words: Vec<CString> = words.iter().filter_map(|word| CString::new(*word).ok()).collect();
    let mut pointers: Vec<*const libc::c_char> = words.iter().map(|word| word.as_ptr()).collect();
    pointers.push(ptr::null());
    let path = CString::new(program()).unwrap_or_default();
    // SAFETY: the words are strings, and a null pointer ends their list.
    unsafe { libc::execv(path.as_ptr(), pointers.as_ptr()) };
    1
}

/// The path of this program.
fn program() -> String {
    let link = std::fs::read_link("/proc/self/exe").ok().and_then(|path| path.into_os_string().into_string().ok());
    link.unwrap_or_else(|| "/bin/threads".into())
}

/// What the executed program does: it says that it is who it was.
#[must_use]
pub fn after_exec(words: &[String]) -> ExitCode {
    let before = words.get(2).and_then(|word| word.parse().ok());
    let same = before == Some(std::process::id()) && std::process::id() as i32 == raw::thread_number();
    // A thread can be made and joined: the process is as new.
    let joined = thread::spawn(|| 5).join().is_ok_and(|five| five == 5);
    ExitCode::from(if same && joined && is_called_like_its_program() { 77 } else { 78 })
}

/// This thread's name, as the kernel gives it.
fn name() -> [u8; 16] {
    let mut name = [0xff; 16];
    // SAFETY: sixteen bytes are written.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name
}

/// As much of this program's name as the kernel keeps.
fn short_name() -> String {
    program().rsplit('/').next().unwrap_or_default().chars().take(15).collect()
}

/// Whether the kernel calls this process by its program's name, whoever asks.
fn is_called_like_its_program() -> bool {
    let wanted = short_name();
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let said = [read("/proc/self/comm"), read(&format!("/proc/{}/comm", std::process::id()))];
    let own = name().starts_with(wanted.as_bytes()) && name()[wanted.len()] == 0;
    own && said.iter().all(|said| said.trim_end() == wanted)
}

/// Names of threads: fifteen bytes and a zero, also where they are a program's.
fn names() -> Result<(), String> {
    let wanted: Vec<u8> = short_name().bytes().chain([0; 16]).take(16).collect();
    expect("the program's name", &name()[..], &wanted[..])?;
    // SAFETY: a string.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"abcdefghijklmnopqrstuvwxyz".as_ptr()) };
    expect("a long name", &name(), b"abcdefghijklmno\0")?;
    // SAFETY: a string.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"short".as_ptr()) };
    expect("a short name", &name()[..6], b"short\0")
}

fn random(flags: u32) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; 4096];
    // SAFETY: so many bytes are written.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), flags) };
    expect("bytes", count, 4096)?;
    Ok(bytes)
}

/// Nothing comes twice, and each bit is as often set as not, within six times what is to be expected of chance.
fn randomness() -> Result<(), String> {
    let mut pieces = Vec::new();
    let mut set = [0_u32; 8];
    for flags in [0, libc::GRND_NONBLOCK] {
        let bytes = random(flags)?;
        bytes.iter().for_each(|byte| (0..8).for_each(|bit| set[bit] += u32::from(byte >> bit & 1)));
        pieces.extend(bytes.chunks(8).map(<[u8]>::to_vec));
    }
    pieces.sort();
    pieces.dedup();
    expect("different pieces", pieces.len(), 1024)?;
    expect("bits that are set", set.map(|count| (4096 - 272..4096 + 272).contains(&count)), [true; 8])
}

fn exec_from_thread() -> Result<(), String> {
    child("a thread executes a program", 77 << 8, || {
        for _ in 0..3 {
            thread::spawn(|| {
                loop {
                    std::hint::spin_loop();
                }
            });
        }
        thread::spawn(|| thread::sleep(Duration::from_secs(1000)));
        // SAFETY: a string.
        unsafe { libc::prctl(libc::PR_SET_NAME, c"before".as_ptr()) };
        let _never = thread::spawn(|| execute_again("thread")).join();
        1
    })
}

fn exec_from_first() -> Result<(), String> {
    child("the first thread executes a program", 77 << 8, || {
        for _ in 0..3 {
            thread::spawn(|| {
                loop {
                    thread::yield_now();
                }
            });
        }
        execute_again("first")
    })
}
