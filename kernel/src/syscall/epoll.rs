//! The calls of epoll.

use alloc::vec::Vec;

use super::{Errno, file, poll, time, user};
use crate::arch::clock;
use crate::fs::OpenFile;
use crate::fs::epoll::{Epoll, Interest};
use crate::fs::open::{Object, flags};
use crate::mm::heap;

/// A `struct epoll_event`, in bytes.
const EVENT: usize = 12;
/// The most that one call tells.
const MAX_EVENTS: usize = 1024;

pub(super) fn create(wanted: usize) -> Result<usize, Errno> {
    if wanted & !flags::CLOSE_ON_EXEC != 0 {
        return Err(Errno::INVAL);
    }
    let epoll = OpenFile::new(Object::Epoll(Epoll::new()), flags::READ_WRITE)?;
    file::with_files(|files| files.install(epoll, 0, wanted != 0))
}

fn epoll(file: &OpenFile) -> Result<&Epoll, Errno> {
    match file.object() {
        Object::Epoll(epoll) => Ok(epoll),
        _ => Err(Errno::INVAL),
    }
}

pub(super) fn control(list: usize, command: usize, descriptor: usize, event: usize) -> Result<usize, Errno> {
    const ADD: usize = 1;
    const REMOVE: usize = 2;
    const CHANGE: usize = 3;
    let interest = if command == REMOVE { None } else { Some(interest(event)?) };
    let (list, target) = (file::file(list)?, file::file(descriptor)?);
    let list = epoll(&list)?;
    match (command, interest) {
        // A list in a list may come to be in itself.
        (ADD, _) if epoll(&target).is_ok() => Err(Errno::INVAL),
        // What is always ready.
        (ADD, _) if target.is_memory() => Err(Errno::PERM),
        (ADD, Some(interest)) => list.add(descriptor, &target, interest),
        (REMOVE | CHANGE, interest) => list.change(descriptor, &target, interest),
        _ => Err(Errno::INVAL),
    }
    .map(|()| 0)
}

/// What is wanted, by the `struct epoll_event` at `addr`.
fn interest(addr: usize) -> Result<Interest, Errno> {
    let mut event = [0; EVENT];
    user::read(addr, &mut event)?;
    let [e0, e1, e2, e3, data @ ..] = event;
    Ok(Interest { events: u32::from_le_bytes([e0, e1, e2, e3]), data: u64::from_le_bytes(data) })
}

pub(super) fn wait(list: usize, events: usize, count: usize, milliseconds: usize) -> Result<usize, Errno> {
    let count = usize::try_from(count as i32).ok().filter(|&count| count != 0).ok_or(Errno::INVAL)?.min(MAX_EVENTS);
    let list = file::file(list)?;
    let list = epoll(&list)?;
    let until = u64::try_from(milliseconds as i32).ok().map(|ms| time::deadline(ms * (clock::SECOND / 1000)));
    let mut told: Vec<Interest> = Vec::new();
    heap::reserve(&mut told, count)?;
    let found = poll::wait(until, || {
        told.clear();
        list.look(count, file::file, |interest| told.push(interest))
    })?;
    for (index, interest) in told.iter().enumerate() {
        let mut event = [0; EVENT];
        event[..4].copy_from_slice(&interest.events.to_le_bytes());
        event[4..].copy_from_slice(&interest.data.to_le_bytes());
        user::write(events.checked_add(index * EVENT).ok_or(Errno::FAULT)?, &event)?;
    }
    Ok(found)
}
