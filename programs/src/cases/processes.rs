//! Processes: children that borrow their parent's memory, orphans, what waiting finds, groups and sessions.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

use super::{Case, apart, child, expect, say};
use crate::raw::{self, Stack, wait4};
use crate::{cpus, is_alive, spawn, wait};

pub(super) static CASES: [Case; 13] = [
    Case { name: "vfork", run: vfork },
    Case { name: "vfork-from-thread", run: vfork_from_thread },
    Case { name: "shared-memory", run: shared_memory },
    Case { name: "orphans", run: orphans },
    Case { name: "no-hang", run: no_hang },
    Case { name: "zombies-stay", run: zombies_stay },
    Case { name: "wait-for-group", run: || apart("waiting for groups", wait_for_group) },
    Case { name: "wait-for-clone", run: || apart("waiting for clones", wait_for_clone) },
    Case { name: "waitid", run: waitid },
    Case { name: "groups", run: groups },
    Case { name: "sessions", run: sessions },
    Case { name: "limit", run: limit },
    Case { name: "places", run: || apart("keeping to a CPU", places) },
];

static WORD: AtomicI32 = AtomicI32::new(0);

extern "C" fn write_word(word: usize) -> i32 {
    // The parent waits all the while.
    for _ in 0..100 {
        // SAFETY: the call has no arguments.
        unsafe { libc::sched_yield() };
    }
    WORD.store(word as i32, Ordering::SeqCst);
    3
}

/// A child on the parent's memory, and on a stack of its own: the parent goes on when it has ended.
fn vfork_word(word: i32) -> Result<(), String> {
    let flags = (libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD) as u64;
    // SAFETY: the function stores a word, and that is all.
    let made = unsafe { raw::clone(flags, Stack::new(), ptr::null_mut(), ptr::null_mut(), write_word, word as usize) };
    let pid = made.map_err(say("clone"))?;
    expect("the word that the child wrote", WORD.load(Ordering::SeqCst), word)?;
    expect("its end", wait(pid).map_err(say("wait"))?.status, 3 << 8)
}

fn vfork() -> Result<(), String> {
    (1..20).try_for_each(vfork_word)
}

fn vfork_from_thread() -> Result<(), String> {
    thread::spawn(|| vfork_word(1000)).join().unwrap_or_else(|_| Err("the thread panicked".into()))
}

/// A child on the same memory, for which nobody waits.
fn shared_memory() -> Result<(), String> {
    WORD.store(0, Ordering::SeqCst);
    let flags = (libc::CLONE_VM | libc::SIGCHLD) as u64;
    // SAFETY: the function stores a word, and that is all.
    let made = unsafe { raw::clone(flags, Stack::new(), ptr::null_mut(), ptr::null_mut(), write_word, 5) };
    let pid = made.map_err(say("clone"))?;
    expect("its end", wait(pid).map_err(say("wait"))?.status, 3 << 8)?;
    expect("the word that the child wrote", WORD.load(Ordering::SeqCst), 5)
}

/// A grandchild whose parent ends gets another parent.
fn orphans() -> Result<(), String> {
    child("an orphan's parent", 0, || {
        let first = std::process::id();
        let Ok(pid) = spawn(|| {
            let parent = std::process::id() as i32;
            let orphan = spawn(|| {
                for _ in 0..200 {
                    // SAFETY: the call has no arguments.
                    let now = unsafe { libc::getppid() };
                    if now != parent {
                        return 0;
                    }
                    thread::sleep(Duration::from_millis(5));
                }
                1
            });
            i32::from(orphan.is_err())
        }) else {
            return 1;
        };
        let ended = wait(pid).is_ok_and(crate::Ended::well);
        let none = wait4(-1, 0).is_err_and(|error| error.raw_os_error() == Some(libc::ECHILD));
        i32::from(!(ended && none && first == std::process::id()))
    })
}

fn no_hang() -> Result<(), String> {
    let pid = spawn(|| {
        thread::sleep(Duration::from_millis(50));
        6
    });
    let pid = pid.map_err(say("fork"))?;
    expect("too early", wait4(pid, libc::WNOHANG).map_err(say("wait4"))?.0, 0)?;
    expect("its end", wait4(pid, 0).map_err(say("wait4"))?, (pid, 6 << 8))?;
    let again = wait4(pid, libc::WNOHANG).map_err(|error| error.raw_os_error());
    expect("too late", again, Err(Some(libc::ECHILD)))?;
    let odd = wait4(pid, 0x1234).map_err(|error| error.raw_os_error());
    expect("an odd option", odd, Err(Some(libc::EINVAL)))
}

/// A child that has ended keeps its number until it was waited for.
fn zombies_stay() -> Result<(), String> {
    let pids: Vec<i32> = (0..8).filter_map(|status| spawn(move || status).ok()).collect();
    thread::sleep(Duration::from_millis(50));
    expect("zombies", pids.iter().filter(|&&pid| is_alive(pid)).count(), 8)?;
    for (status, pid) in (0..).zip(&pids) {
        expect("status", wait(*pid).map_err(say("wait"))?.status, status << 8)?;
        expect("gone", is_alive(*pid), false)?;
    }
    Ok(())
}

/// Joins or makes group `group`.
fn set_group(pid: i32, group: i32) -> io::Result<()> {
    // SAFETY: the call takes two numbers.
    if unsafe { libc::setpgid(pid, group) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn wait_for_group() -> Result<(), String> {
    let first = spawn(|| 1).map_err(say("fork"))?;
    let sleeper = || {
        thread::sleep(Duration::from_millis(20));
        2
    };
    let second = spawn(sleeper).map_err(say("fork"))?;
    set_group(second, second).map_err(say("setpgid"))?;
    expect("of its group", wait4(-second, 0).map_err(say("wait4"))?, (second, 2 << 8))?;
    let none = wait4(-second, 0).map_err(|error| error.raw_os_error());
    expect("no more of it", none, Err(Some(libc::ECHILD)))?;
    expect("of one's own group", wait4(0, 0).map_err(say("wait4"))?, (first, 1 << 8))
}

extern "C" fn seven(_: usize) -> i32 {
    7
}

/// A child that sends nothing at its end is waited for by those who ask for such.
fn wait_for_clone() -> Result<(), String> {
    // SAFETY: the function returns a number, and that is all.
    let made = unsafe { raw::clone(0, Stack::new(), ptr::null_mut(), ptr::null_mut(), seven, 0) };
    let pid = made.map_err(say("clone"))?;
    let none = wait4(pid, 0).map_err(|error| error.raw_os_error());
    expect("an ordinary wait", none, Err(Some(libc::ECHILD)))?;
    expect("__WCLONE", wait4(pid, libc::__WCLONE).map_err(say("wait4"))?, (pid, 7 << 8))?;
    let pid = spawn(|| 4).map_err(say("fork"))?;
    expect("__WALL", wait4(-1, libc::__WALL).map_err(say("wait4"))?, (pid, 4 << 8))
}

/// `waitid`, twice for the same child: the first time it stays.
fn waitid() -> Result<(), String> {
    let pid = spawn(|| 12).map_err(say("fork"))?;
    for options in [libc::WEXITED | libc::WNOWAIT, libc::WEXITED] {
        // SAFETY: zeros are an information that says nothing.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` can be written to.
        let answer = unsafe { libc::waitid(libc::P_PID, pid as u32, &raw mut info, options) };
        expect("waitid", answer, 0)?;
        // SAFETY: the information is about a child.
        let number = unsafe { info.si_pid() };
        // SAFETY: as above.
        let status = unsafe { info.si_status() };
        expect(
            "what it says",
            (info.si_signo, info.si_code, number, status),
            (libc::SIGCHLD, libc::CLD_EXITED, pid, 12),
        )?;
    }
    let none = wait4(pid, 0).map_err(|error| error.raw_os_error());
    expect("it is gone", none, Err(Some(libc::ECHILD)))
}

/// The group of `pid`.
fn group(pid: i32) -> i32 {
    // SAFETY: the call takes a number.
    unsafe { libc::getpgid(pid) }
}

fn groups() -> Result<(), String> {
    let mine = group(0);
    child("a child's group", 0, move || i32::from(group(0) != mine))?;
    child("a group of its own", 0, || {
        let me = std::process::id() as i32;
        let made = set_group(0, 0).is_ok() && group(0) == me;
        let inherited = spawn(move || i32::from(group(0) != me)).and_then(wait).is_ok_and(crate::Ended::well);
        i32::from(!(made && inherited))
    })?;
    let refused = set_group(0, i32::MAX).map_err(|error| error.raw_os_error());
    expect("no such group", refused, Err(Some(libc::EPERM)))?;
    let refused = set_group(1 << 21, 0).map_err(|error| error.raw_os_error());
    expect("no such child", refused, Err(Some(libc::ESRCH)))
}

fn sessions() -> Result<(), String> {
    child("a session of its own", 0, || {
        let me = std::process::id() as i32;
        // SAFETY: the calls take numbers.
        let made = unsafe { libc::setsid() } == me && unsafe { libc::getsid(0) } == me && group(0) == me;
        // SAFETY: as above.
        let twice = unsafe { libc::setsid() } == -1;
        let left = set_group(0, 0).is_err();
        i32::from(!(made && twice && left))
    })
}

/// With a limit of no more tasks than there are, none can be made.
fn limit() -> Result<(), String> {
    child("RLIMIT_NPROC", 0, || {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` can be written to.
        if unsafe { libc::getrlimit(libc::RLIMIT_NPROC, &raw mut limit) } != 0 {
            return 1;
        }
        limit.rlim_cur = 1;
        // SAFETY: `limit` can be read.
        if unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) } != 0 {
            return 2;
        }
        // On Linux root has no such limit.
        match spawn(|| 0) {
            Ok(pid) => i32::from(!wait(pid).is_ok_and(crate::Ended::well)),
            Err(error) => i32::from(error.raw_os_error() != Some(libc::EAGAIN)),
        }
    })
}

/// Who is told to keep to a CPU is there at once and stays there, whatever it waits for; so do its children, until they are told otherwise.
fn places() -> Result<(), String> {
    let count = cpus::count();
    for cpu in (0..count).rev().chain(0..count) {
        cpus::stay_on(cpu).map_err(say("sched_setaffinity"))?;
        let child = spawn(|| {
            let there = stays(cpu);
            let other = (cpu + 1) % count;
            i32::from(!there || cpus::stay_on(other).is_err() || !stays(other))
        });
        let stayed = stays(cpu);
        let ended = child.and_then(wait).map_err(say("fork"))?;
        expect("keeping to a CPU, and the status of a child that did", (stayed, ended.status), (true, 0))?;
    }
    let nowhere = cpus::stay_on(libc::CPU_SETSIZE as usize - 1).map_err(|error| error.raw_os_error());
    expect("a CPU that is not there", nowhere, Err(Some(libc::EINVAL)))
}

/// Whether this stays on `cpu`, running, asleep and giving way.
fn stays(cpu: usize) -> bool {
    (0..20).all(|round| {
        match round % 5 {
            0 => thread::sleep(Duration::from_millis(1)),
            _ => thread::yield_now(),
        }
        cpus::here() == cpu
    })
}
