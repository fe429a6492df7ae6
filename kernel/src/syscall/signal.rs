//! Calls about signals.

use super::time::{self, Form};
use super::{Errno, user};
use crate::arch::clock;
use crate::arch::frame::TrapFrame;
use crate::process::signal::action::Action;
use crate::process::signal::own::{self, Change};
use crate::process::signal::timers::{self, Setting};
use crate::process::signal::{self, Info, Set, Signal, StackWords, code, info};
use crate::process::tree::{self, Tree};
use crate::process::{self, Process};
use crate::task::{Task, sched};

/// The size of a set of signals, in bytes: the only one that Linux takes.
const SET_BYTES: usize = 8;

fn check_size(size: usize) -> Result<(), Errno> {
    if size == SET_BYTES { Ok(()) } else { Err(Errno::INVAL) }
}

fn signal_of(number: usize) -> Result<Signal, Errno> {
    Signal::new(number).ok_or(Errno::INVAL)
}

fn read_set(addr: usize) -> Result<Set, Errno> {
    user::word(addr).map(|word| Set(word as u64))
}

fn write_set(addr: usize, set: Set) -> Result<(), Errno> {
    user::write(addr, &set.0.to_le_bytes())
}

pub(super) fn rt_sigaction(number: usize, new: usize, old: usize, size: usize) -> Result<usize, Errno> {
    check_size(size)?;
    let signal = signal_of(number)?;
    if new != 0 && Set::UNSTOPPABLE.has(signal) {
        return Err(Errno::INVAL);
    }
    let before = if new == 0 { own::action(signal)? } else { own::set_action(signal, read_action(new)?)? };
    if old != 0 {
        write_action(old, &before)?;
    }
    Ok(0)
}

/// Linux's `struct kernel_sigaction`: handler, flags, restorer, mask.
fn read_action(addr: usize) -> Result<Action, Errno> {
    let words = user::words::<4>(addr)?;
    let [handler, flags, restorer, mask] = words;
    Ok(Action { handler, flags: flags as u64, restorer, mask: Set(mask as u64) & !Set::UNSTOPPABLE })
}

fn write_action(addr: usize, action: &Action) -> Result<(), Errno> {
    user::write_words(addr, [action.handler, action.flags as usize, action.restorer, action.mask.0 as usize])
}

pub(super) fn rt_sigprocmask(how: usize, new: usize, old: usize, size: usize) -> Result<usize, Errno> {
    const CHANGES: [Change; 3] = [Change::Block, Change::Unblock, Change::Set];
    check_size(size)?;
    let before = own::blocked()?;
    if new != 0 {
        let set = read_set(new)?;
        own::block(*CHANGES.get(how).ok_or(Errno::INVAL)?, set)?;
    }
    if old != 0 {
        write_set(old, before)?;
    }
    Ok(0)
}

pub(super) fn rt_sigpending(addr: usize, size: usize) -> Result<usize, Errno> {
    // Linux takes smaller ones here.
    if size > SET_BYTES {
        return Err(Errno::INVAL);
    }
    let bytes = own::pending()?.0.to_le_bytes();
    user::write(addr, &bytes[..size]).map(|()| 0)
}

pub(super) fn rt_sigsuspend(mask: usize, size: usize) -> Result<usize, Errno> {
    check_size(size)?;
    Err(own::suspend(read_set(mask)?))
}

/// Makes `call` while what is at `mask` is blocked in place of what is, if there is anything.
pub(super) fn with_mask(mask: usize, size: usize, call: impl FnOnce() -> Result<usize, Errno>) -> Result<usize, Errno> {
    if mask == 0 {
        return call();
    }
    check_size(size)?;
    own::mask_for_now(read_set(mask)?)?;
    let answer = call();
    // One that was interrupted is settled on the way back, and so is the mask.
    if !answer.is_err_and(Errno::is_of_interrupted) {
        own::unmask()?;
    }
    answer
}

pub(super) fn pause() -> Result<usize, Errno> {
    Err(own::pause())
}

/// Waits for one of a set of signals, and takes it.
pub(super) fn rt_sigtimedwait(wanted: usize, info: usize, timeout: usize, size: usize) -> Result<usize, Errno> {
    check_size(size)?;
    let wanted = read_set(wanted)?;
    let until = if timeout == 0 { None } else { Some(time::deadline(time::read(timeout)?)) };
    let until = until.map_or_else(|| time::resumed().filter(|&until| until != u64::MAX), Some);
    let found = own::wait_for(wanted, until).inspect_err(|_| time::note_restart(until.unwrap_or(u64::MAX)))?;
    if info != 0 {
        user::write(info, &found.to_bytes())?;
    }
    Ok(usize::from(found.signal().number()))
}

pub(super) fn rt_sigreturn(frame: &mut TrapFrame) -> usize {
    signal::pop(frame);
    // What the call answers with goes into rax, and that was just restored.
    frame.rax as usize
}

pub(super) fn sigaltstack(new: usize, old: usize, frame: &TrapFrame) -> Result<usize, Errno> {
    let task = sched::current();
    let stack = task.thread().ok_or(Errno::SRCH)?.signals().stack();
    let sp = frame.rsp as usize;
    let before = stack.get();
    if new != 0 {
        let [base, flags, bytes] = user::words::<3>(new)?;
        stack.change(StackWords { base, flags: flags as u32, bytes }, sp)?;
    }
    if old != 0 {
        user::write_words(old, [before.base, before.shown_flags(sp) as usize, before.bytes])?;
    }
    Ok(0)
}

/// Whom a signal is for, if it is one: signal 0 only asks whether somebody is there.
struct Letter {
    signal: Option<Signal>,
}

impl Letter {
    fn to(number: usize) -> Result<Self, Errno> {
        let signal = if number == 0 { None } else { Some(signal_of(number)?) };
        Ok(Self { signal })
    }

    fn info_of_current(&self, code: i32) -> Result<Option<Info>, Errno> {
        let me = process::current().ok_or(Errno::SRCH)?.id();
        Ok(self.signal.map(|signal| Info::from_process(signal, code, me)))
    }
}

/// Sends `info`, if it is there, to `process`.
fn send(tree: &Tree, process: &Process, info: Option<&Info>, value_matters: bool) -> Result<(), Errno> {
    Ok(info.map_or(Ok(()), |info| signal::to_process(tree, process, info, value_matters))?)
}

pub(super) fn kill(id: usize, number: usize) -> Result<usize, Errno> {
    let info = Letter::to(number)?.info_of_current(code::USER)?;
    let (me, tree) = (process::current().ok_or(Errno::SRCH)?, tree::lock());
    match id as i32 {
        all @ ..=0 => {
            let group = if all == 0 { me.group() } else { all.unsigned_abs() as usize };
            let everybody = all == -1;
            let meant = |process: &&Process| match everybody {
                // Not the one that the others rely on, nor oneself.
                true => process.id() != me.id() && tree.parent(process).is_some(),
                false => process.group() == group,
            };
            let mut found = false;
            for process in tree.processes().filter(meant) {
                found = true;
                send(&tree, process, info.as_ref(), false)?;
            }
            if found { Ok(0) } else { Err(Errno::SRCH) }
        }
        id => {
            let process = tree.process(id as usize).ok_or(Errno::SRCH)?;
            send(&tree, process, info.as_ref(), false).map(|()| 0)
        }
    }
}

/// The thread with number `id`, of process `group` if one is named.
fn thread_of(tree: &Tree, group: Option<usize>, id: usize) -> Result<(&Task, &Process), Errno> {
    let task = tree.thread(id).ok_or(Errno::SRCH)?;
    let process = task.process().ok_or(Errno::SRCH)?;
    if group.is_none_or(|group| group == process.id()) { Ok((task, process)) } else { Err(Errno::SRCH) }
}

/// A number of a process or thread, which is positive.
fn positive(id: usize) -> Result<usize, Errno> {
    usize::try_from(id as i32).ok().filter(|&id| id != 0).ok_or(Errno::INVAL)
}

pub(super) fn tgkill(group: Option<usize>, id: usize, number: usize) -> Result<usize, Errno> {
    let (group, id) = (group.map(positive).transpose()?, positive(id)?);
    let info = Letter::to(number)?.info_of_current(code::THREAD)?;
    let tree = tree::lock();
    let (task, process) = thread_of(&tree, group, id)?;
    if let Some(info) = info {
        signal::to_thread(&tree, task, process, &info, false)?;
    }
    Ok(0)
}

/// What a program wants a signal to say. Only to itself may it say that the kernel or `kill` sent it.
fn check_info(signal: Signal, bytes: &[u8; info::BYTES], to_itself: bool) -> Result<Info, Errno> {
    let info = Info::from_program(signal, bytes);
    let pretends = info.code() >= code::USER || info.code() == code::THREAD;
    if pretends && !to_itself { Err(Errno::PERM) } else { Ok(info) }
}

/// The bytes of what a program wants a signal to say.
fn read_info(addr: usize) -> Result<[u8; info::BYTES], Errno> {
    let mut bytes = [0; info::BYTES];
    user::read(addr, &mut bytes)?;
    Ok(bytes)
}

pub(super) fn rt_sigqueueinfo(id: usize, number: usize, addr: usize) -> Result<usize, Errno> {
    let bytes = read_info(addr)?;
    let id = positive(id).map_err(|_| Errno::SRCH)?;
    let me = process::current().ok_or(Errno::SRCH)?.id();
    let info = Letter::to(number)?.signal.map(|signal| check_info(signal, &bytes, id == me)).transpose()?;
    let tree = tree::lock();
    let process = tree.process(id).ok_or(Errno::SRCH)?;
    send(&tree, process, info.as_ref(), true).map(|()| 0)
}

pub(super) fn rt_tgsigqueueinfo(group: usize, id: usize, number: usize, addr: usize) -> Result<usize, Errno> {
    let bytes = read_info(addr)?;
    let (group, id) = (positive(group)?, positive(id)?);
    let me = process::current().ok_or(Errno::SRCH)?.id();
    let info = Letter::to(number)?.signal.map(|signal| check_info(signal, &bytes, group == me)).transpose()?;
    let tree = tree::lock();
    let (task, process) = thread_of(&tree, Some(group), id)?;
    if let Some(info) = info {
        signal::to_thread(&tree, task, process, &info, true)?;
    }
    Ok(0)
}

/// Only real time runs: the other timers would need the time that a process has of the CPUs.
fn check_timer(which: usize) -> Result<(), Errno> {
    const REAL: usize = 0;
    const PROFILING: usize = 2;
    match which {
        REAL => Ok(()),
        _ if which <= PROFILING => Err(Errno::NOSYS),
        _ => Err(Errno::INVAL),
    }
}

fn write_setting(addr: usize, setting: Setting) -> Result<(), Errno> {
    time::write(addr, setting.every, Form::Microseconds)?;
    time::write(addr + time::BYTES, setting.left, Form::Microseconds)
}

pub(super) fn getitimer(which: usize, addr: usize) -> Result<usize, Errno> {
    check_timer(which)?;
    let me = process::current().ok_or(Errno::SRCH)?.id();
    write_setting(addr, timers::get(me)).map(|()| 0)
}

pub(super) fn setitimer(which: usize, new: usize, old: usize) -> Result<usize, Errno> {
    check_timer(which)?;
    let setting = if new == 0 {
        Setting::default()
    } else {
        let left = time::read_as(new.checked_add(time::BYTES).ok_or(Errno::FAULT)?, Form::Microseconds)?;
        Setting { left, every: time::read_as(new, Form::Microseconds)? }
    };
    let before = timers::set(process::current().ok_or(Errno::SRCH)?.id(), setting)?;
    if old != 0 {
        write_setting(old, before)?;
    }
    Ok(0)
}

pub(super) fn alarm(seconds: usize) -> Result<usize, Errno> {
    let left = u64::from(seconds as u32) * clock::SECOND;
    let before = timers::set(process::current().ok_or(Errno::SRCH)?.id(), Setting { left, every: 0 })?;
    Ok(before.left.div_ceil(clock::SECOND) as usize)
}
