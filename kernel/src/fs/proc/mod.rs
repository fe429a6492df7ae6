//! `/proc`: what programs ask of processes and of the machine, as Linux writes it.
//!
//! | file | what |
//! | --- | --- |
//! | `machine` | memory, time, CPUs, the kernel's names |
//! | `process` | the folders of processes and threads |

use super::entry::{Entry, Numbered, Subject, put};
use super::process as people;

mod machine;
mod process;

pub(crate) use machine::frames_total_and_free;
pub(super) use machine::note_memory;

/// The folder of each process.
pub(super) static PROCESSES: Numbered = Numbered {
    each: Entry::folder("", &process::FILES),
    next: people::next,
    inner: |_, id| Subject { process: id, number: id },
    outer: |_| Subject { process: 0, number: 0 },
};

/// What is there beside them.
pub(super) static FILES: [Entry; 18] = [
    Entry::link("self", |_, text| put(text, format_args!("{}", people::current()?.0))),
    Entry::link("thread-self", |_, text| {
        let (process, thread) = people::current()?;
        put(text, format_args!("{process}/task/{thread}"))
    }),
    Entry::link("mounts", |_, text| put(text, format_args!("self/mounts"))),
    Entry::text("meminfo", machine::memory),
    Entry::text("vmallocinfo", machine::areas),
    Entry::text("stat", machine::statistics),
    Entry::text("uptime", machine::uptime),
    Entry::text("loadavg", machine::load),
    Entry::text("cpuinfo", machine::cpus),
    Entry::text("version", machine::version),
    Entry::text("filesystems", machine::file_systems),
    Entry::text("cmdline", machine::command_line),
    Entry::text("devices", machine::devices),
    Entry::text("interrupts", machine::nothing),
    Entry::text("modules", machine::nothing),
    Entry::text("partitions", machine::nothing),
    Entry::text("swaps", machine::swaps),
    Entry::folder("sys", &[Entry::folder("kernel", &machine::KERNEL), Entry::folder("vm", &machine::VM)]),
];
