//! Epoll: what an entry means once its descriptor means another file, and what is told once.

use std::process::ExitCode;

use libc::{EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLONESHOT, EPOLLOUT, c_int};
use vmstack_programs::checks::{Checks, Outcome, equal};

use crate::sys::{answer, close, pipe, poll, read, write};

pub(crate) const CHECKS: &Checks =
    &[("epoll-reused", reused), ("epoll-nested", nested), ("epoll-one-shot", one_shot), ("epoll-edge", edge)];

fn create() -> Result<c_int, String> {
    // SAFETY: no memory is involved.
    answer(unsafe { libc::epoll_create1(0) })
}

fn control(list: c_int, what: c_int, descriptor: c_int, events: c_int) -> Result<(), String> {
    let mut event = libc::epoll_event { events: events as u32, u64: descriptor as u64 };
    // SAFETY: the event can be read.
    answer(unsafe { libc::epoll_ctl(list, what, descriptor, &raw mut event) }).map(drop)
}

/// What is told, after so many milliseconds at most: descriptors and events.
fn told(list: c_int, milliseconds: c_int) -> Result<Vec<(c_int, c_int)>, String> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
    // SAFETY: there is room for so many.
    let count = answer(unsafe { libc::epoll_wait(list, events.as_mut_ptr(), 16, milliseconds) })?;
    Ok(events[..count as usize].iter().map(|event| (event.u64 as c_int, event.events as c_int)).collect())
}

/// An entry goes with its file: the next file at its descriptor is not meant.
fn reused() -> Outcome {
    let list = create()?;
    let [reader, writer] = pipe()?;
    control(list, EPOLL_CTL_ADD, reader, EPOLLIN)?;
    for _ in 0..20 {
        close(reader)?;
        close(writer)?;
        equal("the same descriptors", pipe()?, [reader, writer])?;
        write(writer)?;
        equal("what is told of another file", told(list, 0)?, vec![])?;
        control(list, EPOLL_CTL_ADD, reader, EPOLLIN)?;
        equal("what is told of this one", told(list, 0)?, vec![(reader, EPOLLIN)])?;
    }
    close(reader)?;
    equal("what is told of none", told(list, 0)?, vec![])
}

/// Lists that stand where a file of another list was are not in that list: a chain of them would be as deep as one likes.
fn nested() -> Outcome {
    let first = create()?;
    let (mut last, mut kept) = (first, Vec::new());
    for _ in 0..30 {
        let [reader, writer] = pipe()?;
        control(last, EPOLL_CTL_ADD, reader, EPOLLIN)?;
        close(reader)?;
        last = create()?;
        equal("where the next list is", last, reader)?;
        kept.push(writer);
    }
    let [reader, writer] = pipe()?;
    control(last, EPOLL_CTL_ADD, reader, EPOLLIN)?;
    write(writer)?;
    equal("the last list", told(last, 0)?, vec![(reader, EPOLLIN)])?;
    equal("the first list", (told(first, 0)?, poll(first)), (vec![], 0))
}

/// What was told once and is not to be told again is not ready either.
fn one_shot() -> Outcome {
    let list = create()?;
    let [reader, writer] = pipe()?;
    control(list, EPOLL_CTL_ADD, reader, EPOLLIN | EPOLLONESHOT)?;
    write(writer)?;
    close(writer)?;
    equal("a list with news", poll(list), libc::POLLIN)?;
    equal("the news", told(list, 0)?, vec![(reader, EPOLLIN | EPOLLHUP)])?;
    equal("a list without", (poll(list), told(list, 0)?), (0, vec![]))?;
    control(list, EPOLL_CTL_MOD, reader, EPOLLIN | EPOLLONESHOT)?;
    equal("once more", (poll(list), told(list, 0)?), (libc::POLLIN, vec![(reader, EPOLLIN | EPOLLHUP)]))?;
    control(list, EPOLL_CTL_DEL, reader, 0)
}

/// News are told once, and new ones again.
fn edge() -> Outcome {
    let list = create()?;
    let [reader, writer] = pipe()?;
    control(list, EPOLL_CTL_ADD, reader, EPOLLIN | EPOLLET)?;
    for _ in 0..5 {
        write(writer)?;
        equal("news", told(list, 0)?, vec![(reader, EPOLLIN)])?;
        equal("no news", told(list, 0)?, vec![])?;
    }
    equal("what there is to read", read(reader).map(|bytes| bytes.len()).unwrap_or(0), 5)
}

/// Reads the standard input whenever there are news of it, as Go's runtime would, and prints what it read, until it ends. Before it waits for
/// a line it says so, for who has to say something then.
pub(crate) fn console() -> ExitCode {
    let read_all = || -> Outcome {
        let list = create()?;
        control(list, EPOLL_CTL_ADD, 0, EPOLLIN | EPOLLOUT | EPOLLET)?;
        let mut line = Vec::new();
        loop {
            if line.is_empty() {
                println!("waiting");
            }
            while told(list, 10_000)?.iter().all(|(_, events)| events & (EPOLLIN | EPOLLHUP) == 0) {}
            loop {
                match read(0) {
                    Ok(bytes) if bytes.is_empty() => return Ok(()),
                    Ok(bytes) => line.extend(bytes),
                    Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => break,
                    Err(error) => return Err(error.to_string()),
                }
                // It may come in pieces.
                if let Some(whole) = line.strip_suffix(b"\n") {
                    println!("read {}", String::from_utf8_lossy(whole));
                    line.clear();
                }
            }
        }
    };
    // A wait of ten seconds without news is the end, too.
    // SAFETY: without a handler it ends this process.
    unsafe { libc::alarm(30) };
    match read_all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}
