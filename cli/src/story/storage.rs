//! Storage: files of a real image, read through layers of block devices, until the stack of whoever reads ends.
//!
//! The image is made by the host's tools ([`Image`](crate::image::Image)), which says afterwards what it had put there and what is there now,
//! in facts of its own. What the guest's are: `docs/console.md`, "Storage".

use super::{Claim, Finding, Scene};
use crate::args::Stacks;
use crate::console::{BadFact, Transcript, number};
use crate::screen::{COLUMNS, Screen, Tone, wrap};

/// The boot.
pub(super) const SCENE: Scene = Scene {
    title: "A storage stack, deeper and deeper",
    mode: "storage",
    stacks: Stacks::Virtual,
    thread_info_at_bottom: false,
    counting: false,
    disk: true,
    claims: &[
        Claim { name: "storage.checksums", unit: "files", judge: checksums },
        Claim { name: "storage.overflow_depth", unit: "layers", judge: overflow },
        Claim { name: "storage.one_process", unit: "reads", judge: one_process },
        Claim { name: "storage.disk_unchanged", unit: "sectors", judge: unchanged },
        Claim { name: "storage.ring", unit: "descriptors", judge: ring },
        Claim { name: "storage.depth_8k", unit: "layers", judge: |facts| depth(facts, 8 << 10) },
        Claim { name: "storage.depth_16k", unit: "layers", judge: |facts| depth(facts, 16 << 10) },
        Claim { name: "storage.depth_32k", unit: "layers", judge: |facts| depth(facts, 32 << 10) },
        Claim { name: "storage.depth_64k", unit: "layers", judge: |facts| depth(facts, 64 << 10) },
        Claim { name: "storage.balance", unit: "frames", judge: balance },
    ],
    show,
};

/// How the kernel begins the report of an overflow, one a line.
const REPORT: &str = "BUG: ";
const OF_A_TASK: &str = "BUG: TASK stack guard page was hit at";
/// The signal that kills a process whose kernel stack overflowed.
const SIGSEGV: u64 = 11;
/// The ways that lead to the file system.
const WAYS: [&str; 5] = ["plain", "crypt", "mirror", "fallback", "compare"];
/// Sizes of stacks, in bytes.
const SIZES: [u64; 4] = [8 << 10, 16 << 10, 32 << 10, 64 << 10];
/// Who reads while a stack overflows.
const READERS: usize = 3;

/// Every file, by every way, is as long and has the checksum that the host says; and the large one, read again in the end.
fn checksums(facts: &Transcript) -> Result<Finding, BadFact> {
    let (read, put) = (facts.all("storage.read"), facts.all("storage.host.file"));
    if put.is_empty() {
        return Err(BadFact::Missing("storage.host.file".to_owned()));
    }
    let is_right = |words: &[String]| matches!(words, [_, file @ ..] if put.iter().any(|own| own == file));
    let right = read.iter().filter(|words| is_right(words)).count() as u64;
    let times = |way: &str, file: &str| {
        read.iter().filter(|words| words.len() == 4 && words[0] == way && words[1] == file).count()
    };
    let missing =
        WAYS.iter().flat_map(|&way| put.iter().map(move |file| (way, file.first().map_or("", String::as_str))));
    let missing = missing.filter(|&(way, file)| times(way, file) < if file == "/large" { 2 } else { 1 }).count();
    let detail = format!(
        "{right} of {} reads of {} files by {} ways gave the length and the SHA-256 that the host put there; {missing} are missing",
        read.len(),
        put.len(),
        WAYS.len()
    );
    Ok(Finding::new(right == read.len() as u64 && missing == 0, detail).with_figure(right))
}

/// A process read through ever more layers, and was killed by its first overflow.
fn overflow(facts: &Transcript) -> Result<Finding, BadFact> {
    let (grown, [layers, status]) = (facts.number("storage.grown")?, facts.numbers("storage.overflow")?);
    let detail = format!(
        "a process read a file through {grown} layers above the file system's own; with {layers} its 16 KiB stack ended, and wait4 gave \
         {status:#x}"
    );
    let holds = grown > 0 && layers == grown + 1 && status & 0x7f == SIGSEGV;
    Ok(Finding::new(holds, detail).with_figure(layers))
}

/// Whoever read beside it read on, and rightly; and nobody else was reported but those who dive on purpose.
fn one_process(facts: &Transcript) -> Result<Finding, BadFact> {
    let rows = |name: &str, count: usize| -> Result<Vec<Vec<u64>>, BadFact> {
        let read = |words: &Vec<String>| words.iter().map(|word| number(word)).collect::<Option<Vec<u64>>>();
        let bad = |words: &Vec<String>| BadFact::Malformed(name.to_owned(), words.join(" "), count);
        let all = facts.all(name).iter();
        all.map(|words| read(words).filter(|row| row.len() == count).ok_or_else(|| bad(words))).collect()
    };
    let (reading, ended) = (rows("storage.reading", 3)?, rows("storage.reader", 2)?);
    let reads: u64 = reading.iter().map(|row| row[1]).sum();
    let wrong: u64 = reading.iter().map(|row| row[2]).sum();
    let well =
        ended.iter().filter(|row| row[1] == 0 && reading.iter().any(|own| own[0] == row[0] && own[1] > 0)).count();
    let reports = (facts.count_starting(REPORT), facts.count_starting(OF_A_TASK));
    let expected = 1 + SIZES.len();
    let detail = format!(
        "{well} of {READERS} others read the same disk meanwhile and ended well: {reads} reads of the large file, {wrong} of them wrong; {} \
         stacks ended, of {expected} that were to",
        reports.0
    );
    let holds = well == READERS && ended.len() == READERS && wrong == 0 && reports == (expected, expected);
    Ok(Finding::new(holds, detail).with_figure(reads))
}

/// The image is byte for byte what it was, for the guest before and after, and for the host.
fn unchanged(facts: &Transcript) -> Result<Finding, BadFact> {
    let host = facts.all("storage.host.disk");
    let [host] = host else { return Err(BadFact::Missing("storage.host.disk".to_owned())) };
    let [before, after] = host.as_slice() else {
        return Err(BadFact::Malformed("storage.host.disk".to_owned(), host.join(" "), 2));
    };
    let guest = facts.all("storage.disk");
    let same = guest.iter().filter(|words| words.len() == 2 && words[1] == *before).count();
    let sectors = guest.first().and_then(|words| number(words.first()?)).unwrap_or(0);
    let detail = format!(
        "{same} of {} times the guest read all {sectors} sectors and found the image as it was made; the host finds it {} after the boot",
        guest.len(),
        if before == after { "unchanged" } else { "CHANGED" }
    );
    Ok(Finding::new(same == 2 && guest.len() == 2 && sectors > 0 && before == after, detail).with_figure(sectors))
}

/// The device's ring is as it was: all descriptors free, nothing in flight, no reset; and the door has everything back.
fn ring(facts: &Transcript) -> Result<Finding, BadFact> {
    let rows = |name: &str, when: &str| -> Result<Vec<u64>, BadFact> {
        let found = facts.all(name).iter().find(|words| words.first().is_some_and(|word| word == when));
        let words = found.ok_or_else(|| BadFact::Missing(format!("{name} {when}")))?;
        let numbers = words[1..].iter().map(|word| number(word)).collect::<Option<Vec<u64>>>();
        numbers.ok_or_else(|| BadFact::Malformed(name.to_owned(), words.join(" "), words.len() - 1))
    };
    let [before, after] = ["before", "after"].map(|when| rows("storage.ring", when));
    let [door_before, door_after] = ["before", "after"].map(|when| rows("storage.door", when));
    let (before, after, door_before, door_after) = (before?, after?, door_before?, door_after?);
    let [free, all, flights, resets] = after[..] else {
        return Err(BadFact::Malformed("storage.ring".to_owned(), format!("{after:?}"), 4));
    };
    let detail = format!(
        "{free} of the ring's {all} descriptors are free when all is over, {flights} requests are in flight, the device was reset {resets} \
         times; bounce buffers in use, transfers lost and stacks held for the device: {door_after:?}"
    );
    let whole = free == all && all > 0 && flights == 0 && resets == 0;
    let holds = whole && before == after && door_before == door_after && door_after.iter().all(|&left| left == 0);
    Ok(Finding::new(holds && door_after.len() == 3, detail).with_figure(free))
}

/// How deep a task of the kernel came on a stack of `size` bytes.
struct Dive {
    task: u64,
    layers: u64,
    lost: u64,
}

impl Dive {
    fn of(facts: &Transcript, size: u64) -> Result<Self, BadFact> {
        let is_meant = |words: &&Vec<String>| words.first().and_then(|word| number(word)) == Some(size);
        let mut found = facts.all("storage.depth").iter().filter(is_meant);
        let words = found.next().ok_or_else(|| BadFact::Missing(format!("storage.depth {size}")))?;
        if found.next().is_some() {
            return Err(BadFact::Repeated(format!("storage.depth {size}")));
        }
        let numbers: Vec<u64> = words.iter().filter_map(|word| number(word)).collect();
        match numbers[..] {
            [_, task, layers, lost] => Ok(Self { task, layers, lost }),
            _ => Err(BadFact::Malformed("storage.depth".to_owned(), words.join(" "), 4)),
        }
    }
}

/// A task of the kernel on a stack of `size` bytes died there, of an overflow, and came deeper than one on a smaller stack.
fn depth(facts: &Transcript, size: u64) -> Result<Finding, BadFact> {
    let dive = Dive::of(facts, size)?;
    let smaller = if size > SIZES[0] { Dive::of(facts, size / 2)?.layers } else { 0 };
    let died = facts.all("oops").iter().any(|words| is_its_end(words, size, dive.task));
    let end = if died { "its end was reported there" } else { "no report of its end is about such a stack" };
    let detail = format!(
        "on {} KiB a task of the kernel read through {} layers, and through {smaller} on half of that; {end}; {} bytes of the heap lost",
        size >> 10,
        dive.layers,
        dive.lost
    );
    Ok(Finding::new(died && dive.layers > smaller && dive.lost == 0, detail).with_figure(dive.layers))
}

/// Whether a report says that `task` was killed for an overflow of a stack of `size` bytes.
fn is_its_end(words: &[String], size: u64, task: u64) -> bool {
    let [_, finding, kind, verdict, _, low, high, _, _, _, own, _] = words else { return false };
    let bytes = number(high).zip(number(low)).map(|(high, low)| high.wrapping_sub(low));
    let is_overflow = finding.starts_with("overflow") && kind == "TASK" && verdict == "killed";
    is_overflow && bytes == Some(size) && number(own) == Some(task)
}

/// INV-COUNT: every frame and slot is back, whatever the dead had; and of the heap no more is gone than was said to be lost.
fn balance(facts: &Transcript) -> Result<Finding, BadFact> {
    let ([before, after], slots) = (facts.numbers("balance.frames")?, facts.number("balance.slots")?);
    let [owners, owners_after] = facts.numbers("balance.owners")?;
    let [tasks, tasks_after] = facts.numbers("balance.tasks")?;
    let [heap, heap_after, lost] = facts.numbers("balance.heap")?;
    let [arenas, _, _] = facts.numbers("balance.retired")?;
    let gone = heap_after.saturating_sub(heap);
    let detail = format!(
        "{before} frames before and {after} after; {slots} stacks without a task; {gone} bytes of the heap more in use, and {lost} were said to \
         be lost; {tasks} tasks before and {tasks_after} after"
    );
    let whole = before == after && owners == owners_after && tasks == tasks_after && slots == 0 && arenas == 0;
    Ok(Finding::new(whole && gone <= lost, detail).with_figure(before.abs_diff(after)))
}

/// How deep each stack went, drawn; and what came of it.
fn show(facts: &Transcript, screen: &mut Screen) {
    const WIDEST: u64 = 48;
    let dives: Vec<(u64, Dive)> = SIZES.iter().filter_map(|&size| Some((size, Dive::of(facts, size).ok()?))).collect();
    let most = dives.iter().map(|(_, dive)| dive.layers).max().unwrap_or(0).max(1);
    screen.line("");
    screen.line("  layers that a task of the kernel can read through, by the size of its stack");
    for (size, dive) in &dives {
        let drawn = usize::try_from((dive.layers * WIDEST).div_ceil(most)).unwrap_or(0);
        let bar = screen.paint(Tone::Good, &"█".repeat(drawn));
        screen.line(&format!("  {:>3} KiB {:>5}  {bar}", size >> 10, dive.layers));
    }
    if let [first, .., last] = dives.as_slice() {
        let (bytes, layers) = (last.0 - first.0, last.1.layers.saturating_sub(first.1.layers).max(1));
        screen.line(&format!("  a layer takes {} bytes of a stack", bytes / layers));
    }
    screen.line("");
    for claim in [overflow, one_process, unchanged, ring].map(|judge| judge(facts)).into_iter().flatten() {
        wrap(&claim.detail, COLUMNS - 2).iter().for_each(|line| screen.line(&format!("  {line}")));
    }
}
