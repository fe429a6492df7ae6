//! System calls, by Linux's numbers and with Linux's errors.
//!
//! | call | program that needs it |
//! | --- | --- |
//! | write, exit_group, brk, mmap, munmap, mprotect, arch_prctl, set_tid_address, prlimit64, readlink, getrandom | any static glibc program |
//! | clone3, exit, gettid | programs/threads, any with threads of the C library |
//! | clone, vfork, waitid, setpgid, getpgid, getpgrp, setsid, getsid, getcpu, prctl, personality, getrlimit, setrlimit, getrusage, times | programs/threads |
//! | read, open(at), close, fstat, newfstatat, ioctl, fcntl, getuid and its like | busybox |
//! | pipe, pipe2, dup, dup2, chdir, getcwd, umask, stat, lstat, access, faccessat, poll | sh |
//! | readv, pread64, lseek, sendfile (`EINVAL`: it reads and writes instead), getdents64, fchdir, statfs, sysinfo, select, fsync | cat, head, ls, find, df, free, dd and other applets |
//! | mkdir, rmdir, unlink, rename, link, symlink, chmod, chown, utimensat and their like (`EROFS`) | touch, rm, mv and other applets |
//! | epoll_create1, epoll_ctl, epoll_pwait | Go's runtime, in gojq |
//! | pwrite64, dup3, close_range, ppoll, pselect6, statx, faccessat2, flock | other C libraries, for what those above do |
//! | fork, wait4, getpid, getppid, sched_yield, nanosleep, clock_gettime, clock_nanosleep | programs/story |
//! | execve | programs/story, sh |
//! | mremap, madvise | glibc's and musl's malloc |
//! | msync, mincore, mlock, munlock | programs/memory |
//! | rt_sigaction, rt_sigprocmask, sigaltstack, poll, sched_getaffinity | Rust's standard library at start |
//! | rt_sigreturn, kill, tkill, tgkill, rt_sigsuspend, setitimer, alarm, pause, gettimeofday, time | sh, sleep and timeout of busybox |
//! | sched_setaffinity | programs/compile |
//! | futex, set_robust_list, get_robust_list, restart_syscall, clock_getres | programs/futexes, any with threads of the C library |
//! | rt_sigpending, rt_sigtimedwait, rt_sigqueueinfo, rt_tgsigqueueinfo, getitimer | programs/signals |
//! | rseq (`ENOSYS`: what it is for is a CPU's own data without atomics, and whoever asks has another way) | any glibc program |
//!
//! Everything else is `ENOSYS`, and counted. A call gets its arguments as words, checks all of them, and answers with a word or
//! an error; no argument can make the kernel fault.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::arch::frame::TrapFrame;
use crate::mm::heap::OutOfHeap;
use crate::mm::space::SpaceError;
use crate::pressure;
use crate::task::flags::Flag;
use crate::task::sched;
use path::HERE;

mod clone;
mod epoll;
mod file;
mod futex;
mod memory;
mod path;
mod poll;
mod process;
mod resource;
mod signal;
mod time;
pub(crate) mod trace;
pub(crate) mod user;

/// An error, by Linux's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Errno(u16);

impl Errno {
    pub(crate) const PERM: Self = Self(1);
    pub(crate) const NOENT: Self = Self(2);
    pub(crate) const BUSY: Self = Self(16);
    pub(crate) const SRCH: Self = Self(3);
    pub(crate) const INTR: Self = Self(4);
    pub(crate) const IO: Self = Self(5);
    pub(crate) const TOOBIG: Self = Self(7);
    pub(crate) const NOEXEC: Self = Self(8);
    pub(crate) const BADF: Self = Self(9);
    pub(crate) const CHILD: Self = Self(10);
    pub(crate) const AGAIN: Self = Self(11);
    pub(crate) const NOMEM: Self = Self(12);
    pub(crate) const ACCES: Self = Self(13);
    pub(crate) const FAULT: Self = Self(14);
    pub(crate) const EXIST: Self = Self(17);
    pub(crate) const NODEV: Self = Self(19);
    pub(crate) const NOTDIR: Self = Self(20);
    pub(crate) const ISDIR: Self = Self(21);
    pub(crate) const INVAL: Self = Self(22);
    pub(crate) const MFILE: Self = Self(24);
    pub(crate) const NOTTY: Self = Self(25);
    pub(crate) const NOSPC: Self = Self(28);
    pub(crate) const SPIPE: Self = Self(29);
    pub(crate) const ROFS: Self = Self(30);
    pub(crate) const PIPE: Self = Self(32);
    pub(crate) const RANGE: Self = Self(34);
    pub(crate) const NAMETOOLONG: Self = Self(36);
    pub(crate) const NOSYS: Self = Self(38);
    pub(crate) const LOOP: Self = Self(40);
    pub(crate) const TIMEDOUT: Self = Self(110);
    /// Not seen by programs: the call was interrupted. See `process/signal/deliver.rs`.
    pub(crate) const RESTART: Self = Self(512);
    /// As [`RESTART`](Self::RESTART), but `EINTR` if a handler runs.
    pub(crate) const RESTART_NO_HANDLER: Self = Self(514);
    /// As [`RESTART_NO_HANDLER`](Self::RESTART_NO_HANDLER), and the call goes on waiting until the time that was noted.
    pub(crate) const RESTART_TIMED: Self = Self(516);

    /// Whether it is one of the kernel's own, of a call that was interrupted.
    pub(crate) fn is_of_interrupted(self) -> bool {
        Self::of_interrupted(self.word()).is_some()
    }

    /// The error of a call that was interrupted and answered with `word`.
    pub(crate) fn of_interrupted(word: u64) -> Option<Self> {
        [Self::RESTART, Self::RESTART_NO_HANDLER, Self::RESTART_TIMED].into_iter().find(|error| error.word() == word)
    }

    /// The word that the program gets.
    pub(crate) fn word(self) -> u64 {
        (-i64::from(self.0)).cast_unsigned()
    }
}

impl From<SpaceError> for Errno {
    fn from(error: SpaceError) -> Self {
        match error {
            SpaceError::OutOfMemory => Self::NOMEM,
            SpaceError::BadRange => Self::INVAL,
            SpaceError::Fault(_) => Self::FAULT,
            SpaceError::Forbidden => Self::ACCES,
            SpaceError::Occupied => Self::EXIST,
        }
    }
}

impl From<OutOfHeap> for Errno {
    fn from(_: OutOfHeap) -> Self {
        Self::NOMEM
    }
}

/// A call's arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arguments([usize; 6]);

impl Arguments {
    fn of(frame: &TrapFrame) -> Self {
        Self([frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9].map(|word| word as usize))
    }
}

/// How often each call below this number was made and answered with `ENOSYS`.
const COUNTED: usize = 512;
static UNKNOWN: [AtomicU32; COUNTED] = [const { AtomicU32::new(0) }; COUNTED];

/// Carries out the system call in `frame` and puts the answer there.
pub(crate) fn handle(frame: &mut TrapFrame) {
    sched::current().heap().reset();
    let number = frame.begin_call();
    let mut answer = dispatch(number, Arguments::of(frame), frame);
    // Nothing is held here, and a call that is refused for want of memory has done nothing: one that may have forgets what it noted.
    if may_be_want_of_memory(number, answer) && pressure::relieve() {
        answer = dispatch(number, Arguments::of(frame), frame);
    }
    frame.rax = match answer {
        Ok(word) => word as u64,
        Err(error) => error.word(),
    };
    if Errno::of_interrupted(frame.rax).is_some() {
        // It is settled on the way back.
        sched::current().raise(Flag::Signal);
    }
}

/// Whether the call with this number may have been answered so because there was no memory.
const fn may_be_want_of_memory(number: usize, answer: Result<usize, Errno>) -> bool {
    match answer {
        Err(Errno::NOMEM) => true,
        // What a new task is told who gets no stack. Elsewhere it says that there is nothing to wait for, or no more time.
        Err(Errno::AGAIN) => matches!(number, CLONE | FORK | VFORK | CLONE3),
        _ => false,
    }
}

/// The calls that make tasks.
const CLONE: usize = 56;
const FORK: usize = 57;
const VFORK: usize = 58;
const CLONE3: usize = 435;

/// The call that goes on with one that was interrupted: `restart_syscall`.
pub(crate) const RESTART_CALL: usize = 219;

/// Makes the call again that was interrupted, with the time that was noted.
fn go_on(arguments: Arguments, frame: &mut TrapFrame) -> Result<usize, Errno> {
    let number = time::interrupted_call()?;
    let answer = dispatch(number, arguments, frame);
    time::end_interrupted_call();
    answer
}

/// The calls that were answered with `ENOSYS`, and how often.
pub(crate) fn unknown_calls() -> impl Iterator<Item = (usize, u32)> {
    UNKNOWN.iter().map(|count| count.load(Ordering::Relaxed)).enumerate().filter(|&(_, count)| count != 0)
}

fn dispatch(number: usize, arguments: Arguments, frame: &mut TrapFrame) -> Result<usize, Errno> {
    let [a, b, c, d, e, f] = arguments.0;
    match number {
        0 => file::read(a, b, c),
        1 => file::write(a, b, c),
        2 => path::open(HERE, a, b),
        3 => file::close(a),
        4 => path::stat(a, b, true),
        5 => path::fstat(a, b),
        6 => path::stat(a, b, false),
        7 => poll::poll(a, b, c),
        8 => file::lseek(a, b, c),
        9 => memory::mmap(arguments.0),
        10 => memory::mprotect(a, b, c),
        11 => memory::munmap(a, b),
        12 => memory::brk(a),
        13 => signal::rt_sigaction(a, b, c, d),
        14 => signal::rt_sigprocmask(a, b, c, d),
        15 => Ok(signal::rt_sigreturn(frame)),
        25 => memory::mremap(a, b, c, d, e),
        26 => memory::msync(a, b),
        27 => memory::mincore(a, b, c),
        28 => memory::madvise(a, b, c),
        16 => file::ioctl(a, b, c),
        17 => file::pread(a, b, c, d),
        18 => file::pwrite(a, b, c, d),
        19 => file::readv(a, b, c),
        20 => file::writev(a, b, c),
        21 => path::access(HERE, a, b, 0),
        22 => file::pipe(a, 0),
        23 => poll::select(arguments.0),
        24 => time::sched_yield(),
        32 => file::dup(a),
        33 => file::dup2(a, b),
        34 => signal::pause(),
        35 => time::nanosleep(a, b),
        36 => signal::getitimer(a, b),
        37 => signal::alarm(a),
        38 => signal::setitimer(a, b, c),
        39 => process::getpid(),
        40 => file::sendfile(a, b),
        CLONE => clone::clone(arguments.0, frame),
        FORK => clone::fork(frame),
        VFORK => clone::vfork(frame),
        59 => process::execve(a, b, c, frame),
        60 => process::exit(a),
        61 => process::wait4(a, b, c, d),
        62 => signal::kill(a, b),
        63 => process::uname(a),
        72 => file::fcntl(a, b, c),
        73 => file::flock(a),
        74 | 75 => file::fsync(a),
        76 | 84 | 87 | 90 | 92 | 94 | 132 | 235 => path::change(HERE, a),
        77 | 91 | 93 => path::change_open(a),
        79 => path::getcwd(a, b),
        80 => path::chdir(a),
        81 => path::fchdir(a),
        82 => path::change(HERE, a),
        83 | 133 => path::make(HERE, a),
        86 | 88 => path::make(HERE, b),
        89 => path::readlink(HERE, a, b, c),
        95 => path::umask(a),
        96 => time::gettimeofday(a, b),
        97 => resource::getrlimit(a, b),
        98 => resource::getrusage(a, b),
        99 => memory::sysinfo(a),
        100 => resource::times(a),
        102 | 104 | 107 | 108 => Ok(0),
        109 => process::setpgid(a, b),
        110 => process::getppid(),
        111 => process::getpgid(0),
        112 => process::setsid(),
        121 => process::getpgid(a),
        124 => process::getsid(a),
        127 => signal::rt_sigpending(a, b),
        128 => signal::rt_sigtimedwait(a, b, c, d),
        129 => signal::rt_sigqueueinfo(a, b, c),
        130 => signal::rt_sigsuspend(a, b),
        131 => signal::sigaltstack(a, b, frame),
        135 => process::personality(a),
        137 => path::statfs(a, b),
        138 => path::fstatfs(a, b),
        149 | 325 => memory::mlock(a, b),
        150..=152 => Ok(0),
        157 => process::prctl(a, b),
        158 => process::arch_prctl(a, b),
        160 => resource::setrlimit(a, b),
        186 => process::gettid(),
        200 => signal::tgkill(None, a, b),
        201 => time::time(a),
        202 => futex::futex(arguments.0),
        203 => process::sched_setaffinity(a, b, c),
        204 => process::sched_getaffinity(a, b, c),
        217 => path::getdents(a, b, c),
        218 => process::set_tid_address(a),
        RESTART_CALL => go_on(arguments, frame),
        228 => time::clock_gettime(a, b),
        229 => time::clock_getres(a, b),
        230 => time::clock_nanosleep(a, b, c, d),
        231 => process::exit_group(a),
        232 => epoll::wait(a, b, c, d),
        233 => epoll::control(a, b, c, d),
        234 => signal::tgkill(Some(a), b, c),
        247 => process::waitid(arguments.0),
        257 => path::open(a, b, c),
        258 | 259 => path::make(a, b),
        260 | 261 | 263 | 264 | 268 | 280 | 316 => path::change(a, b),
        262 => path::fstatat(a, b, c, d),
        265 => path::make(c, d),
        266 => path::make(b, c),
        267 => path::readlink(a, b, c, d),
        269 => path::access(a, b, c, 0),
        270 => poll::pselect(arguments.0),
        271 => poll::ppoll(a, b, c, d, e),
        281 => signal::with_mask(e, f, || epoll::wait(a, b, c, d)),
        273 => futex::set_robust_list(a, b),
        274 => futex::get_robust_list(a, b, c),
        291 => epoll::create(a),
        292 => file::dup3(a, b, c),
        293 => file::pipe(a, b),
        297 => signal::rt_tgsigqueueinfo(a, b, c, d),
        302 => resource::prlimit(a, b, c, d),
        309 => process::getcpu(a, b),
        318 => memory::getrandom(a, b, c),
        332 => path::statx(a, b, c, e),
        // `rseq`, refused on purpose: every program of the C library asks for it, and does without.
        334 => Err(Errno::NOSYS),
        CLONE3 => clone::clone3(a, b, frame),
        436 => file::close_range(a, b, c),
        439 => path::access(a, b, c, d),
        _ => {
            if let Some(count) = UNKNOWN.get(number) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            Err(Errno::NOSYS)
        }
    }
}
