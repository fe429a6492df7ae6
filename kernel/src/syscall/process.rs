//! Calls about processes.

use vmstack::VirtAddr;

use super::{Errno, user};
use crate::arch::features;
use crate::arch::frame::TrapFrame;
use crate::process::exec::{self, MAX_STRINGS, Program, Strings};
use crate::process::{self, End, fork};
use crate::task::sched;
use crate::{boot, fs};

const MAX_PATH: usize = 4096;

pub(super) fn getpid() -> Result<usize, Errno> {
    Ok(process::current().ok_or(Errno::SRCH)?.id())
}

pub(super) fn getppid() -> Result<usize, Errno> {
    Ok(process::current().ok_or(Errno::SRCH)?.parent_id())
}

/// `fork`, `vfork` (which may be a fork), and `clone` without anything shared.
pub(super) fn fork(number: usize, flags: usize, frame: &TrapFrame) -> Result<usize, Errno> {
    const CLONE: usize = 56;
    const SHARED: usize = 0x0001_0f00;
    if number == CLONE && flags & SHARED != 0 {
        return Err(Errno::NOSYS);
    }
    fork::fork(frame)
}

pub(super) fn execve(path: usize, arguments: usize, environment: usize, frame: &mut TrapFrame) -> Result<usize, Errno> {
    let path = user::string(path, MAX_PATH)?;
    let strings = Strings {
        arguments: user::strings(arguments, MAX_STRINGS)?,
        environment: user::strings(environment, MAX_STRINGS)?,
    };
    let process = process::current().ok_or(Errno::SRCH)?;
    let (file, data) = fs::program(process.place().folder(), path.clone())?;
    let Program { memory, entry, stack } = exec::build(&path, data, &strings)?;
    process.files().close_on_exec();
    process.place().set_program(file, strings.arguments.to_shared().ok());
    drop(sched::current().change_memory(Some(memory)));
    process::rename_current(fork::base_name(&path));
    let cleared = features::set_user_fs_base(VirtAddr::default()) && features::set_user_gs_base(VirtAddr::default());
    debug_assert!(cleared, "zero is canonical");
    sched::current().reset_fpu();
    *frame = TrapFrame::user(entry, stack);
    Ok(0)
}

pub(super) fn exit(status: usize) -> ! {
    process::exit_current(End::Exited(status as u8))
}

pub(super) fn wait4(id: usize, status: usize, options: usize) -> Result<usize, Errno> {
    const NO_HANG: usize = 1;
    let process = process::current().ok_or(Errno::CHILD)?;
    let wanted = id as i32;
    let found = process.wait(|child| wanted <= 0 || child == id, options & NO_HANG == 0).map_err(|_| Errno::CHILD)?;
    let Some((child, end)) = found else { return Ok(0) };
    if status != 0 {
        user::write(status, &end.wait_status().to_le_bytes())?;
    }
    Ok(child)
}

/// Asks whether a process lives (signal 0), or does to oneself what a signal does by default.
pub(super) fn kill(id: usize, signal: usize) -> Result<usize, Errno> {
    /// SIGCHLD, SIGCONT, SIGURG, SIGWINCH: nothing happens.
    const IGNORED: [u8; 4] = [17, 18, 23, 28];
    let process = process::current().ok_or(Errno::SRCH)?;
    match u8::try_from(signal) {
        Ok(0) => {}
        Ok(signal @ 1..=64) if id == process.id() && IGNORED.contains(&signal) => return Ok(0),
        Ok(signal @ 1..=64) if id == process.id() => process::exit_current(End::Killed(signal)),
        Ok(1..=64) => return Err(Errno::NOSYS),
        _ => return Err(Errno::INVAL),
    }
    if process.sees_alive(id) { Ok(0) } else { Err(Errno::SRCH) }
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

/// The word at the address is for other threads, and there are none: only the task's number is given.
pub(super) fn set_tid_address() -> Result<usize, Errno> {
    Ok(sched::current().id())
}

pub(super) fn sched_getaffinity(size: usize, buffer: usize) -> Result<usize, Errno> {
    if size < 8 {
        return Err(Errno::INVAL);
    }
    let mask = u64::MAX >> (64 - boot::cpus().clamp(1, 64));
    user::write(buffer, &mask.to_le_bytes())?;
    Ok(8)
}

/// No limits: both words of the old limit are infinity.
pub(super) fn prlimit(old: usize) -> Result<usize, Errno> {
    if old != 0 {
        user::write(old, &[0xff; 16])?;
    }
    Ok(0)
}
