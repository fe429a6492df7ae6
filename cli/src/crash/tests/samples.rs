//! Transcripts of boots in which all is well, made from what the catalogue expects.

use core::fmt::Write;

use crate::crash::catalogue::{Expect, Reports, Stop, Survival, Victims};
use crate::crash::facts::{Finding, Kind, Verdict};
use crate::crash::plan::{Act, Plan};
use crate::crash::special::HOTPLUGS;

/// The stack that overflows: its lowest address, and the first one above it.
const LOW: u64 = 0xffff_c900_0010_4000;
const HIGH: u64 = 0xffff_c900_0010_8000;

/// Everything that the boot of `plan` prints.
pub(super) fn boot(plan: &Plan) -> String {
    let mut reports = 0;
    let mut log = String::from("vmstack: booting\n");
    for act in &plan.acts {
        log.push_str(&section(act, plan.cpus, reports));
        reports += 100_000;
    }
    log
}

/// What is printed of one part, with `before` reports before it.
pub(super) fn section(act: &Act, cpus: u32, before: u64) -> String {
    let word = act.word();
    let end = format!("fact crash.end {word}\n");
    let (body, end) = match &act.part.expect {
        Expect::Survived(survival) => (survived(&word, survival, cpus, before), end.as_str()),
        Expect::Stopped(stop) => (stopped(stop, before), ""),
        Expect::Undetected => {
            ("fact attack.secret 0badcafe\nfact attack.read 0badcafe\nfact victim 3 0\n".into(), end.as_str())
        }
    };
    format!("fact crash.begin {word}\n{body}{end}")
}

fn stopped(stop: &Stop, before: u64) -> String {
    let mut log = String::new();
    for number in 0..stop.reports.1 as u64 {
        let report =
            Report { task: 1, ..Report::of(before + number + 1, stop.findings[0], stop.kinds[0], Verdict::Stopped) };
        log.push_str(&report.text(stop.state));
    }
    log + &format!("Kernel panic: {} {}; the end\n", stop.says, stop.names)
}

/// A part of the log that is being made: how many reports there were, and what is said of them.
struct Log<'a> {
    text: String,
    survival: &'a Survival,
    cpus: u64,
    before: u64,
    count: u64,
}

impl Log<'_> {
    /// The next report, of the next CPU, and of a task that nobody else is; with its victim's fact where victims are listed.
    fn report(&mut self, change: impl FnOnce(&mut Report)) {
        let Survival { findings, kinds, verdict, victims, .. } = self.survival;
        let mut report = Report::of(self.before + self.count + 1, findings[0], kinds[0], *verdict);
        (report.cpu, report.task) = (self.count % self.cpus, 100 + self.count);
        change(&mut report);
        self.count += 1;
        self.text.push_str(&report.text(""));
        if *victims != Victims::WentOn {
            self.say(&format!("fact victim {} 11", report.task));
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.text, "{line}").expect("text");
    }

    fn holding(&mut self, held: &str) {
        self.report(|report| report.held = Some(held.to_owned()));
    }
}

fn survived(name: &str, survival: &Survival, cpus: u32, before: u64) -> String {
    let mut log = Log { text: String::new(), survival, cpus: cpus.into(), before, count: 0 };
    match name {
        "OVERFLOW_HOLDING_LOCK" => each_lock(&mut log),
        "OVERFLOW_IN_INTERRUPT_DELIVERY" => each_source(&mut log),
        "OVERFLOW_OWNING" => log.report(|report| {
            report.held = Some("specimen-mutex (poisoned)".into());
            report.given = "; given back: file, counted pointer, file, pin";
        }),
        "OVERFLOW_AFTER_OVERFLOW" => (0..cpus).for_each(|_| {
            log.report(|_| ());
            let task = 100 + log.count;
            let handler =
                Report { task, ..Report::of(before + log.count + 1, Finding::Walked, Kind::Irq, Verdict::Abandoned) };
            log.text.push_str(&handler.text(""));
            log.count += 1;
            log.say("fact after 1 2");
        }),
        _ => (0..count(name, survival, cpus)).for_each(|_| log.report(|_| ())),
    }
    log.text.push_str(&own_facts(name, cpus));
    for task in [90, 91, 92, 93] {
        log.say(&format!("fact survivor {task} 5 9 0"));
    }
    let (lost, after) = if name == "OVERFLOW_OWNING" { (560, before + log.count) } else { (0, before + log.count) };
    log.text
        + &format!(
            "fact balance.frames 500 500\nfact balance.areas 1 1\nfact balance.area_pages 9 9\nfact balance.lent 0 0\nfact balance.owners 2 2\nfact balance.heap 64 {} {lost}\nfact balance.retired {} 0 0\n\
         fact balance.tasks 2 2\nfact balance.slots 0\nfact balance.reports {before} {after}\n\
         fact balance.reports_lost 0\n",
            64 + lost,
            survival.retires
        )
}

fn count(name: &str, survival: &Survival, cpus: u32) -> u64 {
    match survival.reports {
        Reports::EachKilled(_) if name == "OVERFLOW_ON_ALL_CPUS" => u64::from(cpus),
        Reports::EachKilled(least) => least as u64,
        Reports::Exactly(count) => count as u64,
        Reports::EachCpu | Reports::EachCpuTwice => cpus.into(),
        Reports::Swept => 4 * 20,
        Reports::DiedIn("taking") => 8,
        Reports::DiedIn(_) => 8,
    }
}

/// A report, in words and as a fact.
struct Report {
    number: u64,
    finding: Finding,
    kind: Kind,
    verdict: Verdict,
    cpu: u64,
    task: u64,
    held: Option<String>,
    given: &'static str,
}

impl Report {
    fn of(number: u64, finding: Finding, kind: Kind, verdict: Verdict) -> Self {
        Self { number, finding, kind, verdict, cpu: 0, task: 0, held: None, given: "" }
    }

    /// Where it was, and how far past the end of the stack.
    fn place(&self) -> (u64, u64) {
        match self.finding {
            Finding::Walked | Finding::Jumped => (LOW - 24, 24),
            Finding::Underflow => (HIGH, 1),
            Finding::OtherGuard => (HIGH + 0x3ff0, 0x3ff1),
            Finding::Wild => (LOW - 0x2000, 0x2000),
            Finding::AreaAbove => (HIGH, 1),
            Finding::AreaBelow => (LOW - 1, 1),
            Finding::Inside | Finding::AreaFreed | Finding::AreaInside | Finding::AreaRecords | Finding::AreaUnused => {
                (HIGH - 0x1000, 0)
            }
        }
    }

    fn done(&self) -> String {
        let Self { cpu, task, given, .. } = self;
        let done = match self.verdict {
            Verdict::Killed => format!("pid {task} is killed; everything else goes on"),
            Verdict::Abandoned => "the handler is abandoned; what it interrupted goes on".into(),
            Verdict::Replaced => format!("CPU {cpu} idles anew, from an empty stack"),
            Verdict::Stopped => "nothing; nobody can be ended for it".into(),
        };
        let held = self.held.as_ref().map_or_else(String::new, |held| format!("; 1 lock was held: {held}"));
        format!("{done}{held}{given}")
    }

    /// In full, with `more` in its state.
    fn text(&self, more: &str) -> String {
        let Self { number, finding, kind, verdict, cpu, task, .. } = self;
        let ((address, beyond), done) = (self.place(), self.done());
        let what = finding.headline();
        let (named, thing, found) = match kind {
            Kind::Area => {
                let area = "bytes above the end of a vmalloc area of 12288 bytes, src/crash/areas.rs:9";
                (String::from("AREA"), "area", area)
            }
            _ => (format!("{kind} stack"), "stack", "bytes"),
        };
        let bare = self.held.as_ref().and_then(|held| held.split(' ').next());
        let holding = bare.map_or_else(String::new, |name| format!(", holding {name}"));
        let sp = address + 8;
        format!(
            "BUG: {named} {what} at {address:016x} ({thing} is {LOW:016x}..{HIGH:016x})\n\
             overflow, walked down: {beyond} {found}\n\
             cpu {cpu}, instruction ffffffff80200100, slot 1 life 1, guard 16384 bytes\n\
             Oops: stack guard page [#{number}] at entry+0x100\n\
             state: in a task, current task pid {task} (victim), interrupts on{holding}, {more}\n\
             rip 0008:ffffffff80200100 rsp 0010:{sp:016x} rflags 00000286\nrax 0000000000000000\n\
             Code: 55 <53> 48\nCall trace, 1 frame, 8 bytes:\ndone: {done}\n---[ end trace {number:016x} ]---\n\
             fact oops {number} {finding} {kind} {verdict} {address:#x} {LOW:#x} {HIGH:#x} {sp:#x} \
             0xffffffff80200100 {cpu} {task} {beyond}\n",
        )
    }
}

/// The locks of the kernel, each under its victim.
fn each_lock(log: &mut Log<'_>) {
    log.say("fact lock frame-allocator vital free");
    for (name, end) in [
        ("heap", "spin free"),
        ("console", "spin free"),
        ("files", "mutex poisoned"),
        ("process-memory", "mutex gone"),
        ("process-files", "rwlock gone"),
        ("specimen-spin", "spin poisoned"),
        ("specimen-mutex", "mutex poisoned"),
        ("specimen-rwlock", "rwlock poisoned"),
    ] {
        log.holding(&format!("{name} (poisoned)"));
        if name.starts_with("specimen") {
            log.say(&format!("fact lock.waiters {name} 2 0 2"));
        }
        log.say(&format!("fact lock {name} {end}"));
    }
    log.holding("specimen-rwlock");
    log.say("fact lock specimen-rwlock shared free");
    log.say("fact locks.values_left 3");
}

/// Interrupts of each source, three times where they do not fit.
fn each_source(log: &mut Log<'_>) {
    for source in ["ipi", "ipi-from-another", "message", "line"] {
        for left in [0, 8, 16] {
            log.report(|_| ());
            log.say(&format!("fact interrupts.run {source} {left} 1"));
        }
        log.say(&format!("fact interrupts {source} 3 3\nfact victim 3 0\nfact interrupts {source}-after 1 1"));
    }
}

/// Grace periods that went on.
const GRACES: &str = "fact rcu.periods 5 9\nfact rcu.pending 0\nfact rcu.readers 900 0 7\nfact stack.looks 20 99\n";

/// The facts that only this crash has.
fn own_facts(name: &str, cpus: u32) -> String {
    match name {
        "OVERFLOW_TAKING_VITAL_LOCK" => {
            let vital = [
                "frame-allocator",
                "run-queue",
                "page-tables",
                "task-structs",
                "heap-small",
                "process-tree",
                "disk",
                "pci-ports",
            ];
            vital.map(|name| format!("fact taking {name} 9 1\n")).concat()
        }
        "OVERFLOW_OWNING" => "fact owning.heap 512 560 2\nfact owning.pointers 1\nfact owning.interrupts 1\n\
             fact lock specimen-mutex mutex poisoned\n"
            .into(),
        "OVERFLOW_WAITING_FOR_LOCK" => ["spin", "mutex", "read", "write"]
            .map(|way| format!("fact waiting.parked {way} 0\nfact waiting {way} 9 2 1\n"))
            .concat(),
        "VMALLOC_FREED" => "fact vmalloc.waiting 0\n".into(),
        "OVERFLOW_STORM" => "fact storm.tasks 8000 8000\nfact victim 3 0\nfact victim 4 0\n".into(),
        "OVERFLOW_ON_IRQ_STACK" | "OVERFLOW_ON_NMI_STACK" => "fact handler 0 1 1 1\nfact handler 1 1 1 1\n".into(),
        "OVERFLOW_ON_IRQ_STACK:storm" => "fact handler.storm 110 110\n".into(),
        "OVERFLOW_ON_IRQ_STACK:line" => "fact handler.line 1 0 1\n".into(),
        "OVERFLOW_WITH_CONSOLE_BUSY" => "fact console.busy 1 1\n".into(),
        "OVERFLOW_IN_IDLE" => "fact idle 0 1\nfact idle 1 1\n".into(),
        "OVERFLOW_IN_THREAD" => "fact thread 11 0xc0000000 0 0\n".repeat(4) + "fact victim 3 0\n",
        "OVERFLOW_IN_RCU_READER" => format!("{GRACES}fact stack.leaked 0 1\n"),
        "OVERFLOW_DURING_HOTPLUG" => {
            let times = HOTPLUGS * u64::from(cpus - 1);
            format!(
                "{GRACES}fact hotplug {times} {times} {times} 1\nfact hotplug.tasks ended 40 40\n\
                 fact hotplug.overflows overflowed 8 8\n"
            )
        }
        "ATTACK_THREAD_INFO" => "fact attack.secret 0badcafe\nfact attack.end 3 11\nfact victim 3 0\n".into(),
        "OVERFLOW_AT_EVERY_OFFSET" => sweep(),
        _ => super::dma::facts(name, cpus),
    }
}

/// Five kinds of 512 runs: all but NMIs are reported below 160 bytes.
fn sweep() -> String {
    let mut log = String::new();
    for kind in ["syscall", "exception", "interrupt", "nmi", "call"] {
        for bytes in (0..4096).step_by(8) {
            let reported = kind != "nmi" && bytes < 160;
            let end = if reported { "reported 0xffffffff80200100" } else { "completed 0x0" };
            writeln!(log, "fact sweep {kind} {bytes} {end}").expect("text");
        }
    }
    log
}
