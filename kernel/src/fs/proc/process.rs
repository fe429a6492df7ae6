//! The folders of processes and threads.

use super::super::entry::{Entry, Numbered, Subject, What, line, put};
use super::super::node::ROOT;
use super::super::process as people;
use super::super::process::Facts;
use crate::arch::layout::PAGE_SIZE;
use crate::syscall::Errno;
use crate::task::names::Name;
use crate::text::Text;

/// What is in the folder of a process.
pub(super) static FILES: [Entry; 21] = [
    Entry::text("stat", stat),
    Entry::text("statm", pages),
    Entry::text("status", status),
    Entry::text("comm", name),
    Entry::text("cmdline", arguments),
    Entry::text("environ", super::machine::nothing),
    Entry::text("maps", maps),
    Entry::text("limits", limits),
    Entry::text("mounts", mounts),
    Entry::text("mountinfo", mount_facts),
    Entry::text("stack", stack),
    Entry::text("wchan", |_, text| put(text, format_args!("0"))),
    Entry::jump("exe", people::program),
    Entry::jump("cwd", people::folder),
    Entry::jump("root", |_| Ok(ROOT)),
    Entry::control("fail-nth", failures_left, fail_nth),
    Entry::control("overflow-nth", cut_after, cut_next_call),
    Entry::control("overflow-room", overflows, leave_room),
    Entry::control("overflow-again", cut_again_at, cut_again),
    Entry::numbered("fd", &[], &OPEN),
    Entry::numbered("task", &[], &THREADS),
];

/// A link for each open file.
static OPEN: Numbered = Numbered {
    each: Entry { name: "", permissions: 0o700, what: What::Open },
    next: people::next_open,
    inner: |subject, descriptor| Subject { number: descriptor, ..subject },
    outer: |subject| Subject { number: subject.process, ..subject },
};

/// A folder for each thread.
static THREADS: Numbered = Numbered {
    each: Entry::folder("", &THREAD),
    next: people::next_thread,
    inner: |subject, thread| Subject { number: thread, ..subject },
    outer: |subject| Subject { number: subject.process, ..subject },
};

static THREAD: [Entry; 11] = [
    Entry::text("stat", stat),
    Entry::text("statm", pages),
    Entry::text("status", status),
    Entry::text("comm", name),
    Entry::text("cmdline", arguments),
    Entry::text("maps", maps),
    Entry::text("stack", stack),
    Entry::control("fail-nth", failures_left, fail_nth),
    Entry::control("overflow-nth", cut_after, cut_next_call),
    Entry::control("overflow-room", overflows, leave_room),
    Entry::control("overflow-again", cut_again_at, cut_again),
];

/// `stat`, on one line: programs find their fields by counting.
fn stat(subject: Subject, text: &mut Text) -> Result<(), Errno> {
    let Facts { id, state, parent, group, session, threads, pages, bytes, ticks, started } = people::facts(subject)?;
    put(text, format_args!("{id} ({}) {state} {parent} {group} {session} 0 -1 0 0 0 0 0 ", Name(id)))?;
    put(text, format_args!("0 {ticks} 0 0 20 0 {threads} 0 {started} {bytes} {pages} "))?;
    line!(text, "18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0")
}

/// `statm`, in pages.
fn pages(subject: Subject, text: &mut Text) -> Result<(), Errno> {
    let Facts { pages, bytes, .. } = people::facts(subject)?;
    let mapped = bytes / PAGE_SIZE;
    line!(text, "{mapped} {pages} 0 0 0 {pages} 0")
}

/// `status`
fn status(subject: Subject, text: &mut Text) -> Result<(), Errno> {
    let facts = people::facts(subject)?;
    let state = match facts.state {
        'R' => "R (running)",
        'Z' => "Z (zombie)",
        _ => "S (sleeping)",
    };
    line!(text, "Name:\t{}\nUmask:\t0022\nState:\t{state}", Name(facts.id))?;
    line!(text, "Tgid:\t{}\nNgid:\t0\nPid:\t{}\nPPid:\t{}", subject.process, facts.id, facts.parent)?;
    line!(text, "TracerPid:\t0\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t64\nGroups:\t")?;
    let (mapped, there) = (facts.bytes / 1024, facts.pages * (PAGE_SIZE / 1024));
    line!(text, "VmPeak:\t{mapped:8} kB\nVmSize:\t{mapped:8} kB\nVmRSS:\t{there:8} kB\nThreads:\t{}", facts.threads)
}

/// `comm`
fn name(subject: Subject, text: &mut Text) -> Result<(), Errno> {
    line!(text, "{}", Name(people::facts(subject)?.id))
}

/// `cmdline`: the arguments, each ended by a zero.
fn arguments(subject: Subject, text: &mut Text) -> Result<(), Errno> {
    people::with(subject.process, |process| process.place().with_arguments(|arguments| Ok(text.push(arguments)?)))
}

/// `maps`: what lies where in the process's memory, for itself.
fn maps(subject: Subject, text: &mut Text) -> Result<(), Errno> {
    people::facts(subject)?;
    people::with_own_memory(subject, |memory| memory.write_maps(text).map_err(|_| Errno::NOMEM)).map(drop)
}

/// `limits`: those that there are.
fn limits(subject: Subject, text: &mut Text) -> Result<(), Errno> {
    people::facts(subject)?;
    line!(text, "{:<25} {:<20} {:<20} {:<10}", "Limit", "Soft Limit", "Hard Limit", "Units")?;
    let files = super::super::MAX_FILES;
    line!(text, "{:<25} {files:<20} {files:<20} {:<10}", "Max open files", "files")
}

/// `mounts`
fn mounts(_: Subject, text: &mut Text) -> Result<(), Errno> {
    line!(
        text,
        "archive / ramfs ro 0 0\nproc /proc proc rw 0 0\nsysfs /sys sysfs rw 0 0\ndevtmpfs /dev devtmpfs rw 0 0"
    )
}

/// `mountinfo`
fn mount_facts(_: Subject, text: &mut Text) -> Result<(), Errno> {
    line!(text, "1 1 0:1 / / ro - ramfs archive ro\n2 1 0:2 / /proc rw - proc proc rw")
}

/// `stack`: the calls that the task's kernel stack holds.
fn stack(subject: Subject, text: &mut Text) -> Result<(), Errno> {
    people::facts(subject)?;
    super::super::seams::write_stack(subject.number, text)
}

/// `fail-nth`: how many allocations of the thread that reads are left before one fails.
fn failures_left(_: Subject, text: &mut Text) -> Result<(), Errno> {
    line!(text, "{}", super::super::seams::failures_left())
}

/// Makes the allocation with this number, from now on, of the thread that writes fail.
fn fail_nth(_: Subject, number: &[u8]) -> Result<(), Errno> {
    super::super::seams::fail_nth(super::super::entry::written_number(number)?)
}

/// `overflow-nth`: how many instructions of the last system call that was to overflow were carried out.
fn cut_after(_: Subject, text: &mut Text) -> Result<(), Errno> {
    line!(text, "{}", super::super::seams::cut_after())
}

/// Has the next system call of the thread that writes overflow behind its instruction with this number.
fn cut_next_call(_: Subject, number: &[u8]) -> Result<(), Errno> {
    super::super::seams::cut_next_call_after(super::super::entry::written_number(number)?);
    Ok(())
}

/// `overflow-room`: how many overflows there were.
fn overflows(_: Subject, text: &mut Text) -> Result<(), Errno> {
    line!(text, "{}", super::super::seams::overflows())
}

/// Has the next system call of the thread that writes begin with so many bytes of its stack left.
fn leave_room(_: Subject, bytes: &[u8]) -> Result<(), Errno> {
    super::super::seams::leave_room(super::super::entry::written_number(bytes)?)
}

/// `overflow-again`: behind how many instructions of its end the last task that was to overflow again did.
fn cut_again_at(_: Subject, text: &mut Text) -> Result<(), Errno> {
    line!(text, "{}", super::super::seams::cut_again_at())
}

/// Has the thread that writes overflow again behind the instruction with this number of what it does when it dies of an overflow.
fn cut_again(_: Subject, number: &[u8]) -> Result<(), Errno> {
    super::super::seams::cut_again_after(super::super::entry::written_number(number)?);
    Ok(())
}
