//! `/sys`: the CPUs, and what the kernel shows of its stacks.

use super::entry::{Entry, Numbered, Subject, line, written_number};
use super::root;
use crate::mm::{fragments, frames};
use crate::stacks::{TASK_STACK, TASKS};
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

/// Where the kernel shows its task stacks, what is kept of them ready and how they were had, its last reports, and how often several frames side
/// by side were asked for and got; where it is told how many may be kept; and where memory is fragmented.
static VMSTACK: [Entry; 6] = [
    Entry::text("tasks", |_, text| Ok(text.push(&story::slots()?)?)),
    Entry::text("reports", |_, text| Ok(text.push(&oops::all()?)?)),
    Entry::text("cache", |_, text| cache(text)),
    Entry::control(
        "budget",
        |_, text| line!(text, "{}", TASKS.budget()),
        |_, text| written_number(text).map(|stacks| TASKS.set_budget(stacks)),
    ),
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

/// How the tasks' stacks were had and what became of them, since the boot, and the bytes that are kept now: of a moment at which nothing changed
/// while it was looked at twice, if there is one.
fn cache(text: &mut Text) -> Result<(), Errno> {
    const LOOKS: usize = 64;
    let mut counters = TASKS.counters();
    for _ in 0..LOOKS {
        let again = TASKS.counters();
        if again == core::mem::replace(&mut counters, again) {
            break;
        }
    }
    let c = counters;
    line!(text, "size {TASK_STACK}\nallocated {}\nhits {}\nfrom_depot {}", c.allocated, c.hits, c.from_depot)?;
    line!(text, "populated {}\nreleased {}\nrecovered {}", c.populated, c.released, c.recovered)?;
    line!(text, "unmapped {}\nretired {}\nheld {}", c.unmapped, c.retired, c.held)
}

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
