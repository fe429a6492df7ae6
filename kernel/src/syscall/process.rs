//! Calls about processes.

use core::sync::atomic::Ordering;

use vmstack::VirtAddr;

use super::{Errno, resource, user};
use crate::arch::frame::TrapFrame;
use crate::arch::{features, percpu};
use crate::boot;
use crate::process::exec::{self, MAX_STRING, MAX_STRINGS, Program, Strings};
use crate::process::signal::{Report, code};
use crate::process::wait::{Found, News, Query, Sort, Whom};
use crate::process::{self, End, Process, group, signal, start, tree};
use crate::task::{ANYWHERE, Task, names, sched};

const MAX_PATH: usize = 4096;

pub(super) fn getpid() -> Result<usize, Errno> {
    Ok(process::current().ok_or(Errno::SRCH)?.id())
}

pub(super) fn getppid() -> Result<usize, Errno> {
    Ok(process::current().ok_or(Errno::SRCH)?.parent_id())
}

pub(super) fn gettid() -> Result<usize, Errno> {
    Ok(sched::current().thread().ok_or(Errno::SRCH)?.id())
}

pub(super) fn execve(path: usize, arguments: usize, environment: usize, frame: &mut TrapFrame) -> Result<usize, Errno> {
    let path = user::string(path, MAX_PATH)?;
    let arguments = user::strings(arguments, MAX_STRING, MAX_STRINGS)?;
    let left = MAX_STRINGS.saturating_sub(arguments.bytes());
    let environment = user::strings(environment, MAX_STRING, left)?;
    let strings = Strings { arguments, environment };
    let process = process::current().ok_or(Errno::SRCH)?;
    let folder = process.place().folder();
    let (file, data) = exec::find(folder, &path)?;
    let Program { memory, entry, stack } = exec::build(folder, &path, data, &strings)?;
    process::become_only_thread()?;
    process.files().unshare()?;
    sched::current().heap().beside(|| {
        process.files().close_on_exec();
        process.place().set_program(file, strings.arguments.to_shared().ok());
        process::change_program(memory);
    });
    process::rename_current(start::base_name(&path));
    let cleared = features::set_user_fs_base(VirtAddr::default()) && features::set_user_gs_base(VirtAddr::default());
    debug_assert!(cleared, "zero is canonical");
    sched::current().reset_fpu();
    *frame = TrapFrame::user(entry, stack);
    Ok(0)
}

pub(super) fn exit(status: usize) -> ! {
    process::exit_thread(End::Exited(status as u8))
}

pub(super) fn exit_group(status: usize) -> ! {
    process::exit_current(End::Exited(status as u8))
}

/// Options of `wait4` and `waitid`.
mod option {
    pub(super) const NO_HANG: usize = 1;
    pub(super) const STOPPED: usize = 2;
    pub(super) const EXITED: usize = 4;
    pub(super) const CONTINUED: usize = 8;
    pub(super) const NO_WAIT: usize = 0x100_0000;
    pub(super) const NO_THREAD: usize = 0x2000_0000;
    pub(super) const ALL: usize = 0x4000_0000;
    pub(super) const CLONE: usize = 0x8000_0000;
}

/// What is waited for, if only `allowed` options are given, and those that every wait has.
fn query(whom: Whom, options: usize, allowed: usize) -> Result<Query, Errno> {
    let options = options & 0xffff_ffff;
    if options & !(allowed | option::NO_HANG | option::NO_THREAD | option::ALL | option::CLONE) != 0 {
        return Err(Errno::INVAL);
    }
    let sort = match (options & option::ALL, options & option::CLONE) {
        (0, 0) => Sort::Ordinary,
        (0, _) => Sort::Clones,
        _ => Sort::All,
    };
    let has = |option: usize| options & option != 0;
    let (stopped, continued) = (has(option::STOPPED), has(option::CONTINUED));
    Ok(Query { whom, sort, keep: has(option::NO_WAIT), ended: has(option::EXITED), stopped, continued })
}

pub(super) fn wait4(id: usize, status: usize, options: usize, usage: usize) -> Result<usize, Errno> {
    let process = process::current().ok_or(Errno::CHILD)?;
    let whom = match id as i32 {
        i32::MIN => return Err(Errno::SRCH),
        -1 => Whom::Anybody,
        0 => Whom::Group(process.group()),
        id @ 1.. => Whom::Process(id as usize),
        group => Whom::Group(group.unsigned_abs() as usize),
    };
    let query = query(whom, options, option::STOPPED | option::CONTINUED)?;
    let query = Query { ended: true, ..query };
    let Some(ended) = process.wait(&query, options & option::NO_HANG == 0)? else { return Ok(0) };
    if usage != 0 {
        resource::write_usage(usage, ended.ticks)?;
    }
    if status != 0 {
        user::write(status, &ended.news.wait_status().to_le_bytes())?;
    }
    Ok(ended.id)
}

pub(super) fn waitid([kind, id, info, options, usage, _]: [usize; 6]) -> Result<usize, Errno> {
    let process = process::current().ok_or(Errno::CHILD)?;
    let whom = match (kind, id as i32) {
        (0, _) => Whom::Anybody,
        (1, id @ 1..) => Whom::Process(id as usize),
        (2, 0) => Whom::Group(process.group()),
        (2, id @ 1..) => Whom::Group(id as usize),
        _ => return Err(Errno::INVAL),
    };
    let states = option::EXITED | option::STOPPED | option::CONTINUED;
    let query = query(whom, options, states | option::NO_WAIT)?;
    if options & states == 0 {
        return Err(Errno::INVAL);
    }
    let ended = process.wait(&query, options & option::NO_HANG == 0)?;
    if let Some(ended) = ended.filter(|_| usage != 0) {
        resource::write_usage(usage, ended.ticks)?;
    }
    if info != 0 {
        user::write(info, &ended.map_or([0; SIGINFO], |ended| child_information(&ended)))?;
    }
    Ok(0)
}

/// Bytes of `siginfo_t` that are about a child.
const SIGINFO: usize = 48;

/// What SIGCHLD says of a child: signal, error, code; from byte 16 on its number, its user, and its status.
fn child_information(found: &Found) -> [u8; SIGINFO] {
    let (code, status) = match found.news {
        News::Ended(End::Exited(status)) => (code::EXITED, status),
        News::Ended(End::Killed(signal)) => (code::KILLED, signal.number()),
        News::Still(Report::Stopped(signal)) => (code::STOPPED, signal.number()),
        News::Still(Report::Continued) => (code::CONTINUED, signal::CONT.number()),
    };
    let mut bytes = [0; SIGINFO];
    let words =
        [(0, u32::from(signal::CHLD)), (8, code.cast_unsigned()), (16, found.id as u32), (24, u32::from(status))];
    for (offset, word) in words {
        bytes[offset..offset + 4].copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

pub(super) fn setpgid(id: usize, group: usize) -> Result<usize, Errno> {
    let process = process::current().ok_or(Errno::SRCH)?;
    let number = |word: usize| usize::try_from(word as i32).map_err(|_| Errno::INVAL);
    process.set_group(number(id)?, number(group)?).map(|()| 0)
}

pub(super) fn getpgid(id: usize) -> Result<usize, Errno> {
    group::of(id, Process::group)
}

pub(super) fn getsid(id: usize) -> Result<usize, Errno> {
    group::of(id, Process::session)
}

pub(super) fn setsid() -> Result<usize, Errno> {
    process::current().ok_or(Errno::SRCH)?.new_session()
}

pub(super) fn uname(buffer: usize) -> Result<usize, Errno> {
    const FIELD: usize = 65;
    let mut name = [0_u8; 6 * FIELD];
    for (index, text) in ["Linux", "vmstack", "6.1.0-vmstack", "#1", "x86_64", ""].iter().enumerate() {
        name[index * FIELD..index * FIELD + text.len()].copy_from_slice(text.as_bytes());
    }
    user::write(buffer, &name)?;
    Ok(0)
}

pub(super) fn arch_prctl(code: usize, addr: usize) -> Result<usize, Errno> {
    const SET_GS: usize = 0x1001;
    const SET_FS: usize = 0x1002;
    const GET_FS: usize = 0x1003;
    let base = VirtAddr::new(addr);
    let set = match code {
        SET_FS => features::set_user_fs_base(base),
        SET_GS => features::set_user_gs_base(base),
        GET_FS => {
            user::write(addr, &features::user_fs_base().get().to_le_bytes())?;
            true
        }
        _ => false,
    };
    if set { Ok(0) } else { Err(Errno::INVAL) }
}

/// Notes where a zero is written when the thread ends.
pub(super) fn set_tid_address(addr: usize) -> Result<usize, Errno> {
    let task = sched::current();
    let thread = task.thread().ok_or(Errno::SRCH)?;
    thread.set_clear_child_tid(addr);
    Ok(thread.id())
}

/// Runs `use_it` on the thread with this number, which may be zero for the current one.
fn with_thread<T>(id: usize, use_it: impl FnOnce(&Task) -> T) -> Result<T, Errno> {
    if id == 0 {
        return Ok(use_it(&sched::current()));
    }
    tree::lock().thread(id).map(use_it).ok_or(Errno::SRCH)
}

/// The CPUs that there are, a bit each.
fn all_cpus() -> u64 {
    u64::MAX >> (64 - boot::cpus().clamp(1, 64))
}

pub(super) fn sched_getaffinity(id: usize, size: usize, buffer: usize) -> Result<usize, Errno> {
    if size < 8 || !size.is_multiple_of(8) {
        return Err(Errno::INVAL);
    }
    let cpus = with_thread(id, sched::cpus_of)? & all_cpus();
    user::write(buffer, &cpus.to_le_bytes())?;
    Ok(8)
}

/// Another thread moves at its next turn; the current one has when this returns.
pub(super) fn sched_setaffinity(id: usize, size: usize, buffer: usize) -> Result<usize, Errno> {
    let mut mask = [0; 8];
    user::read(buffer, &mut mask[..size.min(8)])?;
    let cpus = u64::from_le_bytes(mask) & all_cpus();
    let cpus = if cpus == all_cpus() { ANYWHERE } else { cpus };
    let bind = |task: &Task| (cpus != 0).then(|| sched::bind(task, cpus));
    with_thread(id, bind)?.ok_or(Errno::INVAL)?;
    sched::go_where_it_may();
    Ok(0)
}

/// The CPU that runs this, and its node, of which there is one.
pub(super) fn getcpu(cpu: usize, node: usize) -> Result<usize, Errno> {
    let number = percpu::cpu_number().index() as u32;
    if cpu != 0 {
        user::write(cpu, &number.to_le_bytes())?;
    }
    if node != 0 {
        user::write(node, &[0; 4])?;
    }
    Ok(0)
}

pub(super) fn personality(wanted: usize) -> Result<usize, Errno> {
    const ASK: usize = 0xffff_ffff;
    let process = process::current().ok_or(Errno::SRCH)?;
    let before = process.personality.load(Ordering::Relaxed);
    if wanted & ASK != ASK {
        process.personality.store(wanted as u32, Ordering::Relaxed);
    }
    Ok(before as usize)
}

pub(super) fn prctl(what: usize, argument: usize) -> Result<usize, Errno> {
    const SET_PARENT_DEATH_SIGNAL: usize = 1;
    const GET_DUMPABLE: usize = 3;
    const SET_DUMPABLE: usize = 4;
    const SET_NAME: usize = 15;
    const GET_NAME: usize = 16;
    match what {
        SET_PARENT_DEATH_SIGNAL if argument <= 64 => Ok(0),
        GET_DUMPABLE => Ok(0),
        SET_DUMPABLE if argument <= 1 => Ok(0),
        SET_NAME => {
            let name = user::name(argument)?;
            let length = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
            process::rename_current(core::str::from_utf8(&name[..length]).map_err(|_| Errno::INVAL)?);
            Ok(0)
        }
        GET_NAME => user::write(argument, &names::bytes(sched::current().id())).map(|()| 0),
        _ => Err(Errno::INVAL),
    }
}
