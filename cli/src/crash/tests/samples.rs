//! Transcripts of boots in which all is well, made from what the catalogue expects.

use core::fmt::Write;

use crate::crash::catalogue::{Expect, Reports, Stop, Survival, Victims};
use crate::crash::facts::{Finding, Kind, Verdict};
use crate::crash::plan::{Act, Plan};

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
    let reports = 0..stop.reports.1 as u64;
    let mut log = String::new();
    for number in reports {
        log.push_str(&report(before + number + 1, stop.findings[0], stop.kinds[0], Verdict::Stopped, 0, 1));
    }
    log + "Kernel panic: the end\n"
}

fn survived(name: &str, survival: &Survival, cpus: u32, before: u64) -> String {
    let count = match survival.reports {
        Reports::EachKilled(_) if name == "OVERFLOW_HOLDING_LOCK" => 2,
        Reports::EachKilled(_) if name == "OVERFLOW_ON_ALL_CPUS" => u64::from(cpus),
        Reports::EachKilled(least) => least as u64,
        Reports::Exactly(count) => count as u64,
        Reports::EachCpu => cpus.into(),
        Reports::Swept => 4 * 20,
        Reports::DiedIn("taking") => 3,
        Reports::DiedIn(_) => 8,
    };
    let mut log = String::new();
    for number in 0..count {
        let cpu = number % u64::from(cpus);
        let finding = survival.findings[0];
        log.push_str(&report(before + number + 1, finding, survival.kinds[0], survival.verdict, cpu, 7 + number));
    }
    for number in 0..count {
        if survival.victims != Victims::WentOn {
            writeln!(log, "fact victim {} 11", 7 + number).expect("text");
        }
    }
    log.push_str(&own_facts(name));
    for (task, status) in [(90, 0), (91, 0), (92, 0), (93, 0)] {
        writeln!(log, "fact survivor {task} 5 9 {status}").expect("text");
    }
    log + &format!(
        "fact balance.frames 500 500\nfact balance.heap 64 96 32\nfact balance.tasks 2 2\nfact balance.slots 0\n\
         fact balance.reports {before} {}\n",
        before + count
    )
}

/// A report, in words and as a fact.
fn report(number: u64, finding: Finding, kind: Kind, verdict: Verdict, cpu: u64, task: u64) -> String {
    let (address, beyond) = match finding {
        Finding::Walked | Finding::Jumped => (LOW - 24, 24),
        Finding::Underflow => (HIGH, 1),
        Finding::OtherGuard => (HIGH + 0x3ff0, 0x3ff1),
        Finding::Wild => (LOW - 0x2000, 0x2000),
        Finding::Inside => (HIGH - 0x1000, 0),
    };
    let what = if finding == Finding::Inside { "was touched" } else { "guard page was hit" };
    format!(
        "BUG: {kind} stack {what} at {address:016x} (stack is {LOW:016x}..{HIGH:016x})\noverflow, walked down\n\
         ---[ end trace {number} ]---\n\
         fact oops {number} {finding} {kind} {verdict} {address:#x} {LOW:#x} {HIGH:#x} {:#x} 0xffffffff80200100 {cpu} \
         {task} {beyond}\n",
        address + 8
    )
}

/// The facts that only this crash has.
fn own_facts(name: &str) -> String {
    match name {
        "OVERFLOW_HOLDING_LOCK" => {
            "fact lock frame-allocator vital free\nfact lock one spin poisoned\nfact lock two mutex gone\n\
             fact lock.waiters one 2 0 2\n"
                .into()
        }
        "OVERFLOW_TAKING_VITAL_LOCK" => {
            "fact taking frame-allocator 9 1\nfact taking run-queue 9 1\nfact taking page-tables 9 1\n".into()
        }
        "OVERFLOW_OWNING" => "fact owning.heap 512 560 2\nfact owning.pointers 1\n".into(),
        "OVERFLOW_WAITING_FOR_LOCK" => {
            "fact waiting spin 9 2 1\nfact waiting mutex 9 2 1\nfact waiting read 9 2 1\nfact waiting write 9 2 1\n"
                .into()
        }
        "OVERFLOW_STORM" => "fact storm.tasks 8000 8000\nfact victim 3 0\n".into(),
        "OVERFLOW_IN_INTERRUPT_DELIVERY" => {
            "fact victim 3 0\nfact interrupts ipi 2 2\nfact interrupts message 2 2\nfact interrupts line 2 2\n".into()
        }
        "OVERFLOW_ON_IRQ_STACK" | "OVERFLOW_ON_NMI_STACK" => "fact handler 0 1 1 1\nfact handler 1 1 1 1\n".into(),
        "OVERFLOW_ON_IRQ_STACK:line" => "fact handler.line 1 0 1\n".into(),
        "OVERFLOW_WITH_CONSOLE_BUSY" => "fact console.busy 1 1\n".into(),
        "OVERFLOW_IN_IDLE" => "fact idle 0 1\nfact idle 1 1\n".into(),
        "ATTACK_THREAD_INFO" => "fact attack.secret 0badcafe\nfact attack.end 3 11\nfact victim 3 0\n".into(),
        "OVERFLOW_AT_EVERY_OFFSET" => sweep(),
        _ => String::new(),
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
