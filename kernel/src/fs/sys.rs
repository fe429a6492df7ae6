//! `/sys`: the CPUs, and what the kernel shows of its stacks.

use super::entry::{Entry, Numbered, Subject, line, written_number};
use super::root;
use crate::mm::{fragments, frames};
use crate::syscall::Errno;
use crate::text::Text;
use crate::{boot, hotplug, oops, story};

pub(super) static FILES: [Entry; 2] = [
    Entry::folder("devices", &[Entry::folder("system", &[Entry::numbered("cpu", &CPU_FILES, &CPUS)])]),
    Entry::folder(
        "kernel",
        &[Entry::folder(
            "debug",
            &[Entry::folder("provoke-crash", &root::PROVOKE_CRASH), Entry::folder("vmstack", &VMSTACK)],
        )],
    ),
];

/// Where the kernel shows its task stacks, its last reports, and how often several frames side by side were asked for and got; and where
/// memory is fragmented.
static VMSTACK: [Entry; 4] = [
    Entry::text("tasks", |_, text| Ok(text.push(&story::slots()?)?)),
    Entry::text("reports", |_, text| Ok(text.push(&oops::all()?)?)),
    Entry::text("contiguous", |_, text| {
        let (asked, got) = frames::contiguous();
        line!(text, "{asked} {got}")
    }),
    Entry::control(
        "fragmented",
        |_, text| line!(text, "{}", u8::from(fragments::are_held())),
        |_, text| match written_number(text)? {
            wanted @ (0 | 1) => {
                fragments::fragment(wanted == 1);
                Ok(())
            }
            _ => Err(Errno::INVAL),
        },
    ),
];

static CPU_FILES: [Entry; 3] = [
    Entry::text("online", |_, text| ranges(text, hotplug::is_online)),
    Entry::text("possible", |_, text| ranges(text, |_| true)),
    Entry::text("present", |_, text| ranges(text, |_| true)),
];

/// A folder for each CPU that was ever up.
static CPUS: Numbered = Numbered {
    each: Entry::folder("cpu", &CPU),
    next: |_, from| (from < boot::cpus()).then_some(from),
    inner: |_, cpu| Subject { process: 0, number: cpu },
    outer: |_| Subject { process: 0, number: 0 },
};

static CPU: [Entry; 1] = [Entry::control(
    "online",
    |subject, text| line!(text, "{}", u8::from(hotplug::is_online(subject.number))),
    |subject, text| match written_number(text)? {
        wanted @ (0 | 1) => hotplug::set_online(subject.number, wanted == 1),
        _ => Err(Errno::INVAL),
    },
)];

/// The CPUs for which `is` so, as ranges: `0-3,5`.
fn ranges(text: &mut Text, is: impl Fn(usize) -> bool) -> Result<(), Errno> {
    let (cpus, mut next, mut comma) = (boot::cpus(), 0, "");
    while let Some(first) = (next..cpus).find(|&cpu| is(cpu)) {
        let end = (first..cpus).find(|&cpu| !is(cpu)).unwrap_or(cpus);
        super::entry::put(text, format_args!("{comma}{first}"))?;
        if end - first > 1 {
            super::entry::put(text, format_args!("-{}", end - 1))?;
        }
        (next, comma) = (end, ",");
    }
    line!(text, "")
}
