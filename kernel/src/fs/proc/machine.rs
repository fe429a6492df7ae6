//! The files of `/proc` about the machine and the kernel.

use core::sync::atomic::{AtomicUsize, Ordering};

use vmstack_vmalloc::{AreaInfo, Kind};

use super::super::entry::{Entry, Subject, line, put};
use crate::arch::layout::PAGE_SIZE;
use crate::mm::{frames, heap};
use crate::stacks::{AREAS, TASK_STACK, TASKS};
use crate::syscall::Errno;
use crate::task::sched::{self, TICKS_PER_SECOND};
use crate::text::Text;
use crate::vmalloc::VMALLOC;
use crate::{boot, pressure, task};

/// `/proc/sys/kernel`
pub(super) static KERNEL: [Entry; 7] = [
    Entry::control("pid_max", highest_number, set_highest_number),
    Entry::text("threads-max", |_, text| line!(text, "{}", crate::stacks::TASK_SLOTS)),
    Entry::text("ostype", |_, text| line!(text, "Linux")),
    Entry::text("osrelease", |_, text| line!(text, "6.1.0-vmstack")),
    Entry::text("hostname", |_, text| line!(text, "vmstack")),
    Entry::text("version", |_, text| line!(text, "#1")),
    Entry::text("ngroups_max", |_, text| line!(text, "65536")),
];

/// `/proc/sys/vm`
pub(super) static VM: [Entry; 2] = [
    Entry::text("overcommit_memory", |_, text| line!(text, "1")),
    Entry { permissions: 0o200, ..Entry::control("drop_caches", last_dropped, drop_caches) },
];

/// The number that was last written to `drop_caches`.
static DROPPED: AtomicUsize = AtomicUsize::new(0);

/// Frames that were free when the kernel had taken its own.
static FRAMES: AtomicUsize = AtomicUsize::new(0);

/// Notes how much memory there is: before programs use any.
pub(crate) fn note_memory() {
    FRAMES.store(frames::free() + heap::frames(), Ordering::Relaxed);
}

/// Nothing: what is asked for has no members here.
pub(super) fn nothing(_: Subject, _: &mut Text) -> Result<(), Errno> {
    Ok(())
}

/// Frames that there were for programs, and those that are left.
pub(crate) fn frames_total_and_free() -> (usize, usize) {
    (FRAMES.load(Ordering::Relaxed), frames::free())
}

/// `vmallocinfo`, as Linux writes it: each area's addresses, bytes, caller, pages and kind; `huge` says how many chunks large pages map.
pub(super) fn areas(_: Subject, text: &mut Text) -> Result<(), Errno> {
    let mut written = Ok(());
    VMALLOC.for_each(|area| {
        if written.is_ok() {
            written = write_area(area, text);
        }
    });
    written
}

fn write_area(area: &AreaInfo, text: &mut Text) -> Result<(), Errno> {
    let AreaInfo { range, kind, tag, large, .. } = area;
    let (start, end, bytes) = (range.start().get(), range.end().get(), range.bytes());
    put(text, format_args!("{start:#018x}-{end:#018x} {bytes:>7} {tag}"))?;
    if *kind != Kind::Reserved {
        put(text, format_args!(" pages={}", bytes / PAGE_SIZE))?;
    }
    if *large != 0 {
        put(text, format_args!(" huge={large}"))?;
    }
    line!(text, " {}", kind.name())
}

/// `meminfo`, in KiB. `KernelStack` is what the stack area has handed out and not got back, `KReclaimable` what it keeps ready. `Vmalloc...`
/// is both stacks and areas of the vmalloc; `VmallocChunk` the most that one area could have.
pub(super) fn memory(_: Subject, text: &mut Text) -> Result<(), Errno> {
    let kib = |frames: usize| frames * (PAGE_SIZE / 1024);
    let (total, free) = frames_total_and_free();
    let stacks = TASKS.counters();
    let kept = stacks.held as usize / 1024;
    let stacks = stacks.allocated.saturating_sub(stacks.released) as usize * (TASK_STACK / 1024);
    let areas: usize = AREAS.iter().filter_map(|area| area.geometry()).map(|area| area.whole_range().bytes()).sum();
    let room = VMALLOC.fragmentation();
    let (mapped, longest) = (VMALLOC.usage().pages() as usize, room.fresh.max(room.longest_run) as usize);
    let rows = [
        ("MemTotal", kib(total)),
        ("MemFree", kib(free)),
        ("MemAvailable", kib(free) + kept),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", 0),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", kib(total.saturating_sub(free + heap::frames())).saturating_sub(stacks + kept + kib(mapped))),
        ("Mapped", 0),
        ("Shmem", 0),
        ("KReclaimable", kept),
        ("Slab", heap::used() / 1024),
        ("SReclaimable", 0),
        ("SUnreclaim", heap::used() / 1024),
        ("KernelStack", stacks),
        ("PageTables", 0),
        ("CommitLimit", kib(total)),
        ("Committed_AS", kib(total.saturating_sub(free))),
        ("VmallocTotal", (areas + VMALLOC.range().bytes()) / 1024),
        ("VmallocUsed", stacks + kept + kib(mapped)),
        ("VmallocChunk", kib(longest)),
    ];
    rows.iter().try_for_each(|(name, value)| {
        let colon = ":";
        line!(text, "{name}{colon:<width$}{value:>8} kB", width = 16 - name.len())
    })
}

/// The clock in seconds and hundredths.
fn seconds(ticks: u64) -> (u64, u64) {
    (ticks / TICKS_PER_SECOND, ticks % TICKS_PER_SECOND * 100 / TICKS_PER_SECOND)
}

/// `uptime`: since the timer was started, and how much of it was idle, which nobody counts.
pub(super) fn uptime(_: Subject, text: &mut Text) -> Result<(), Errno> {
    let (whole, part) = seconds(sched::ticks());
    line!(text, "{whole}.{part:02} 0.00")
}

/// `loadavg`: nobody counts the load; the tasks that there are, and the last number that was given.
pub(super) fn load(_: Subject, text: &mut Text) -> Result<(), Errno> {
    line!(text, "0.00 0.00 0.00 1/{} {}", sched::tasks_alive(), task::last_id())
}

/// `stat`: all time is the system's, for nobody counts whose it is.
pub(super) fn statistics(_: Subject, text: &mut Text) -> Result<(), Errno> {
    let (ticks, cpus) = (sched::ticks(), boot::cpus());
    line!(text, "cpu  0 0 {} 0 0 0 0 0 0 0", ticks * cpus as u64)?;
    (0..cpus).try_for_each(|cpu| line!(text, "cpu{cpu} 0 0 {ticks} 0 0 0 0 0 0 0"))?;
    line!(text, "intr 0\nctxt 0\nbtime 0\nprocesses {}", task::last_id())?;
    line!(text, "procs_running 1\nprocs_blocked 0")
}

/// `cpuinfo`
pub(super) fn cpus(_: Subject, text: &mut Text) -> Result<(), Errno> {
    (0..boot::cpus()).try_for_each(|cpu| {
        line!(
            text,
            "processor\t: {cpu}\nvendor_id\t: vmstack\nmodel name\t: x86-64\ncpu MHz\t\t: 1000.000\nflags\t\t: fpu\n"
        )
    })
}

/// `version`
pub(super) fn version(_: Subject, text: &mut Text) -> Result<(), Errno> {
    line!(text, "Linux version 6.1.0-vmstack (vmstack) #1")
}

/// `filesystems`
pub(super) fn file_systems(_: Subject, text: &mut Text) -> Result<(), Errno> {
    line!(text, "nodev\tproc\nnodev\tramfs\nnodev\tsysfs\nnodev\tdevtmpfs\nnodev\tpipefs")
}

/// `cmdline`: what the boot was asked to do is not kept.
pub(super) fn command_line(_: Subject, text: &mut Text) -> Result<(), Errno> {
    line!(text, "")
}

/// `devices`
pub(super) fn devices(_: Subject, text: &mut Text) -> Result<(), Errno> {
    line!(text, "Character devices:\n  1 mem\n  4 ttyS\n  5 /dev/tty\n  5 /dev/console\n\nBlock devices:")
}

/// `swaps`
pub(super) fn swaps(_: Subject, text: &mut Text) -> Result<(), Errno> {
    line!(text, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority")
}

/// `drop_caches`: what was written there last.
fn last_dropped(_: Subject, text: &mut Text) -> Result<(), Errno> {
    line!(text, "{}", DROPPED.load(Ordering::Relaxed))
}

/// Gives back the stacks that are kept ready, whether files' pages (1), the kernel's own objects (2) or both (3) are named: there is nothing
/// else. Linux says so in its log until it is told not to (4): nothing is said here.
fn drop_caches(_: Subject, which: &[u8]) -> Result<(), Errno> {
    const QUIETLY: usize = 4;
    let which = super::super::entry::written_number(which)?;
    match which {
        1..QUIETLY => pressure::give_everything_back(),
        QUIETLY => {}
        _ => return Err(Errno::INVAL),
    }
    DROPPED.store(which, Ordering::Relaxed);
    Ok(())
}

/// `pid_max`: numbers of tasks are less.
fn highest_number(_: Subject, text: &mut Text) -> Result<(), Errno> {
    line!(text, "{}", task::highest_id() + 1)
}

/// Sets what numbers of tasks are to be less than.
fn set_highest_number(_: Subject, number: &[u8]) -> Result<(), Errno> {
    let number = super::super::entry::written_number(number)?;
    task::set_highest_id(number.wrapping_sub(1)).then_some(()).ok_or(Errno::INVAL)
}
