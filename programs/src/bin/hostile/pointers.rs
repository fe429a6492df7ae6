//! Calls that would succeed, with each bad pointer in each place where a pointer goes.
//!
//! Anything but `EFAULT` is odd, and so is a call that does not get as far with good ones. Nothing here harms anybody: each call is about the
//! program itself, its room and its own descriptors.

use std::io;

use Word::{Aligned, In, Maybe, Out, OutMaybe, Part, Path};

use vmstack_programs::{spawn, wait};

use crate::call::Call;
use crate::words::{self, BEFORE_HOLE, GOOD, READ_ONLY, WILD};

/// What goes where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Word {
    /// No pointer.
    N(usize),
    /// Memory that the call reads.
    In,
    /// Memory that it reads, or null.
    Maybe,
    /// Memory that it writes.
    Out,
    /// Memory that it writes, or null.
    OutMaybe,
    /// Memory that it writes as far as it is there.
    Part,
    /// A string.
    Path,
    /// A word, where one can be: elsewhere that is what is wrong.
    Aligned,
}

impl Word {
    /// Whether `word` is a bad one here, which must be refused.
    fn refuses(self, word: usize) -> bool {
        match self {
            Self::N(_) => false,
            Self::Maybe => word != 0 && word != READ_ONLY,
            Self::In => word != READ_ONLY,
            // A string may end where memory does.
            Self::Path => word != READ_ONLY && word != BEFORE_HOLE,
            Self::Aligned => word != READ_ONLY && word.is_multiple_of(4),
            Self::OutMaybe => word != 0,
            Self::Part => word != BEFORE_HOLE,
            Self::Out => true,
        }
    }

    fn good(self) -> usize {
        match self {
            Self::N(number) => number,
            _ => GOOD,
        }
    }
}

const Z: Word = Word::N(0);
const ONE: Word = Word::N(1);
const EIGHT: Word = Word::N(8);
const LENGTH: Word = Word::N(64);
const HERE: Word = Word::N(-100_isize as usize);
/// Descriptors, as `words::open_files` has them.
const NULL: Word = Word::N(0);
const READS: Word = Word::N(3);
const WRITES: Word = Word::N(4);
const FOLDER: Word = Word::N(5);

/// A call and its words. Those that are not there are zero.
struct Row(&'static str, i64, &'static [Word]);

const ROWS: [Row; 72] = [
    Row("read", libc::SYS_read, &[READS, Part, EIGHT]),
    Row("write", libc::SYS_write, &[WRITES, In, EIGHT]),
    Row("open", libc::SYS_open, &[Path]),
    Row("stat", libc::SYS_stat, &[Path]),
    Row("fstat", libc::SYS_fstat, &[NULL, Out]),
    Row("lstat", libc::SYS_lstat, &[Path]),
    Row("poll", libc::SYS_poll, &[In, ONE, Z]),
    Row("rt_sigaction", libc::SYS_rt_sigaction, &[Word::N(17), Maybe, OutMaybe, EIGHT]),
    Row("rt_sigprocmask", libc::SYS_rt_sigprocmask, &[Z, Maybe, OutMaybe, EIGHT]),
    Row("readv", libc::SYS_readv, &[READS, In, ONE]),
    Row("writev", libc::SYS_writev, &[WRITES, In, ONE]),
    Row("access", libc::SYS_access, &[Path]),
    Row("pipe", libc::SYS_pipe, &[Out]),
    Row("select", libc::SYS_select, &[EIGHT, OutMaybe, Z, Z, Maybe]),
    Row("mincore", libc::SYS_mincore, &[Word::N(words::ROOM), Word::N(8192), Out]),
    Row("nanosleep", libc::SYS_nanosleep, &[In]),
    Row("getitimer", libc::SYS_getitimer, &[Z, Out]),
    Row("setitimer", libc::SYS_setitimer, &[Z, Maybe, OutMaybe]),
    Row("execve", libc::SYS_execve, &[Path]),
    Row("uname", libc::SYS_uname, &[Out]),
    Row("getcwd", libc::SYS_getcwd, &[Out, LENGTH]),
    Row("chdir", libc::SYS_chdir, &[Path]),
    Row("rename", libc::SYS_rename, &[Path]),
    Row("mkdir", libc::SYS_mkdir, &[Path]),
    Row("rmdir", libc::SYS_rmdir, &[Path]),
    Row("unlink", libc::SYS_unlink, &[Path]),
    Row("symlink", libc::SYS_symlink, &[Path]),
    Row("readlink", libc::SYS_readlink, &[Path, Z, LENGTH]),
    Row("chmod", libc::SYS_chmod, &[Path]),
    Row("gettimeofday", libc::SYS_gettimeofday, &[OutMaybe, OutMaybe]),
    Row("getrlimit", libc::SYS_getrlimit, &[Z, Out]),
    Row("setrlimit", libc::SYS_setrlimit, &[Word::N(4), In]),
    Row("getrusage", libc::SYS_getrusage, &[Z, Out]),
    Row("sysinfo", libc::SYS_sysinfo, &[Out]),
    Row("times", libc::SYS_times, &[OutMaybe]),
    Row("rt_sigpending", libc::SYS_rt_sigpending, &[Out, EIGHT]),
    Row("rt_sigtimedwait", libc::SYS_rt_sigtimedwait, &[In, Z, Maybe, EIGHT]),
    Row("rt_sigsuspend", libc::SYS_rt_sigsuspend, &[In, EIGHT]),
    Row("sigaltstack", libc::SYS_sigaltstack, &[Z, OutMaybe]),
    Row("statfs", libc::SYS_statfs, &[Path]),
    Row("fstatfs", libc::SYS_fstatfs, &[FOLDER, Out]),
    Row("prctl name", libc::SYS_prctl, &[Word::N(15), Path]),
    Row("prctl get name", libc::SYS_prctl, &[Word::N(16), Out]),
    Row("arch_prctl get fs", libc::SYS_arch_prctl, &[Word::N(0x1003), Out]),
    Row("time", libc::SYS_time, &[OutMaybe]),
    Row("futex wait", libc::SYS_futex, &[Aligned, Word::N(128), Word::N(7)]),
    Row("futex wake", libc::SYS_futex, &[Aligned, ONE, ONE]),
    Row("sched_getaffinity", libc::SYS_sched_getaffinity, &[Z, LENGTH, Out]),
    Row("sched_setaffinity", libc::SYS_sched_setaffinity, &[Z, EIGHT, In]),
    Row("getdents64", libc::SYS_getdents64, &[FOLDER, Out, Word::N(1024)]),
    Row("clock_gettime", libc::SYS_clock_gettime, &[Z, Out]),
    Row("clock_getres", libc::SYS_clock_getres, &[Z, OutMaybe]),
    Row("clock_nanosleep", libc::SYS_clock_nanosleep, &[Z, Z, In]),
    Row("openat", libc::SYS_openat, &[HERE, Path]),
    Row("newfstatat", libc::SYS_newfstatat, &[HERE, Path]),
    Row("mkdirat", libc::SYS_mkdirat, &[HERE, Path]),
    Row("readlinkat", libc::SYS_readlinkat, &[HERE, Path, Z, LENGTH]),
    Row("faccessat", libc::SYS_faccessat, &[HERE, Path]),
    Row("pselect6", libc::SYS_pselect6, &[EIGHT, OutMaybe, Z, Z, Maybe]),
    Row("ppoll", libc::SYS_ppoll, &[In, ONE, Maybe]),
    Row("get_robust_list", libc::SYS_get_robust_list, &[Z, Out, Out]),
    Row("pipe2", libc::SYS_pipe2, &[Out]),
    Row("epoll_ctl", libc::SYS_epoll_ctl, &[Word::N(6), ONE, WRITES, In]),
    Row("prlimit64", libc::SYS_prlimit64, &[Z, Word::N(4), Maybe, OutMaybe]),
    Row("getcpu", libc::SYS_getcpu, &[OutMaybe, OutMaybe]),
    Row("getrandom", libc::SYS_getrandom, &[Part, LENGTH]),
    Row("statx", libc::SYS_statx, &[HERE, Path]),
    Row("clone3", libc::SYS_clone3, &[In, LENGTH]),
    Row("waitid", libc::SYS_waitid, &[Z, Word::N(0x4000_0000), Z, Word::N(4)]),
    Row("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo, &[Word::N(1), Z, In]),
    Row("pread64", libc::SYS_pread64, &[Word::N(7), Part, EIGHT]),
    Row("faccessat2", libc::SYS_faccessat2, &[HERE, Path]),
];

/// Makes all of them, in a child each.
pub(crate) fn try_all() -> io::Result<bool> {
    words::furnish()?;
    let mut calls = 0;
    for Row(name, number, row) in &ROWS {
        for (place, word) in row.iter().enumerate() {
            // In the last page there may be the stack.
            let wild = WILD.iter().copied().filter(|(name, _)| !name.starts_with("last"));
            let bad = wild.chain([("read-only", READ_ONLY)]);
            for (bad_name, bad) in bad.filter(|(_, bad)| word.refuses(*bad)) {
                let answer = answer(&call(*number, row, place, bad))?;
                calls += 1;
                if answer != libc::EFAULT {
                    println!("fact hostile.odd {} {place} {bad_name} {answer}", name.replace(' ', "-"));
                }
            }
        }
    }
    println!("fact hostile.calls {calls}");
    Ok(true)
}

fn call(number: i64, row: &[Word], place: usize, bad: usize) -> Call {
    let mut words = [0; 6];
    words.iter_mut().zip(row).for_each(|(word, kind)| *word = kind.good());
    words[place] = bad;
    Call { number: number as usize, words }
}

/// What a child hears, as its exit status; more than 255: it died.
fn answer(call: &Call) -> io::Result<i32> {
    let child = spawn(|| {
        words::open_files();
        i32::try_from(-call.make()).unwrap_or(255).min(255)
    })?;
    Ok(wait(child)?.status).map(|status| if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { status + 256 })
}
