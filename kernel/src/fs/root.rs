//! The folders that the kernel makes beside those of the archive: the first level of the tables that say what is where.

use super::console::Console;
use super::device::{Act, Null, Random, Work, Zero};
use super::entry::{Entry, put};
use super::{proc, sys};
use crate::crash;

/// The root, as far as the kernel makes it.
pub(crate) static ROOT: Entry = Entry::folder(
    "",
    &[
        Entry::folder("dev", &DEV),
        // What is in it is opened by `disk`: its names are descriptions of layers, and there is no end of them.
        Entry::folder("disk", &[]),
        Entry::numbered("proc", &proc::FILES, &proc::PROCESSES),
        Entry::folder("sys", &sys::FILES),
    ],
);

static DEV: [Entry; 12] = [
    Entry::device("null", 0o666, &Null),
    Entry::device("zero", 0o666, &Zero::Zero),
    Entry::device("full", 0o666, &Zero::Full),
    Entry::device("random", 0o666, &Random { minor: 8 }),
    Entry::device("urandom", 0o666, &Random { minor: 9 }),
    Entry::device("console", 0o600, &Console { major: 5, minor: 1 }),
    Entry::device("tty", 0o666, &Console { major: 5, minor: 0 }),
    Entry::device("ttyS0", 0o600, &Console { major: 4, minor: 64 }),
    Entry::link("fd", |_, text| put(text, format_args!("/proc/self/fd"))),
    Entry::link("stdin", |_, text| put(text, format_args!("/proc/self/fd/0"))),
    Entry::link("stdout", |_, text| put(text, format_args!("/proc/self/fd/1"))),
    Entry::link("stderr", |_, text| put(text, format_args!("/proc/self/fd/2"))),
];

/// Where a program provokes a crash, as on a Linux with LKDTM; says what it does beside one; and has nested brackets evaluated, by a
/// call that recurses as deep as they are nested.
pub(super) static PROVOKE_CRASH: [Entry; 3] = [
    Entry::device("DIRECT", 0o200, &Act(crash::provoke)),
    Entry::device("work", 0o200, &Work),
    Entry::device("nest", 0o200, &Act(crash::evaluate)),
];
