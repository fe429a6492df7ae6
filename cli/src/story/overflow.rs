//! The story proper: a task overflows its stack, is reported and killed, and everybody else goes on.
//!
//! The host counts the reports on the console (INV-ONCE), reads what the task's parent was told by `wait4`, and who is
//! still alive (INV-ALONE). The same boot then goes on to what memory the stacks take: a machine that survived must also
//! be able to prove that nothing was lost.

use super::{Claim, Finding, Scene, areas, drawing, memory};
use crate::args::Stacks;
use crate::console::{BadFact, Line, Transcript};
use crate::screen::{COLUMNS, Screen};

/// How the kernel begins the report of an overflow, one a line.
const REPORT: &str = "BUG: TASK stack guard page was hit at";
/// How it ends one.
const REPORT_END: &str = "---[ end";
/// No report is longer, in lines; what follows an unfinished one is not shown as its part.
const REPORT_LINES: usize = 60;
/// The signal that kills a process whose kernel stack overflowed.
const SIGSEGV: u64 = 11;

/// The boot with mapped stacks.
pub(super) const SCENE: Scene = Scene {
    title: "Mapped stacks with guards, thread_info elsewhere",
    mode: "story",
    stacks: Stacks::Virtual,
    thread_info_at_bottom: false,
    counting: false,
    disk: false,
    claims: &[
        Claim { name: "overflow.reported_once", unit: "reports", judge: reported_once },
        Claim { name: "overflow.task_killed", unit: "", judge: task_killed },
        Claim { name: "overflow.survivors", unit: "tasks", judge: survivors },
        Claim { name: "fragmentation.direct_fails", unit: "stacks", judge: memory::direct_fails },
        Claim { name: "fragmentation.virtual_succeeds", unit: "stacks", judge: memory::virtual_succeeds },
        Claim { name: "zero.words", unit: "words", judge: memory::zero_words },
        Claim { name: "guard.frames", unit: "frames", judge: memory::guard_frames },
        Claim { name: "protection.writable_text", unit: "pages", judge: memory::writable_text },
        Claim { name: "balance.frames", unit: "frames", judge: memory::balance_frames },
        Claim { name: "balance.slots", unit: "slots", judge: memory::balance_slots },
        Claim { name: "vmalloc.listing", unit: "areas", judge: areas::listing },
        Claim { name: "vmalloc.guards", unit: "guards", judge: areas::guards },
        Claim { name: "vmalloc.addresses", unit: "permille", judge: areas::addresses },
        Claim { name: "balance.area_frames", unit: "frames", judge: areas::frames },
        Claim { name: "cost.page_table_bytes_per_stack", unit: "bytes", judge: memory::page_tables },
    ],
    show,
};

fn reported_once(facts: &Transcript) -> Result<Finding, BadFact> {
    let reports = facts.count_starting(REPORT);
    let detail = format!("{reports} lines of the console begin `{REPORT}`; one overflow was provoked");
    Ok(Finding::new(reports == 1, detail).with_figure(reports))
}

/// A raw wait status holds the killing signal in its low seven bits.
fn task_killed(facts: &Transcript) -> Result<Finding, BadFact> {
    let [pid, status] = facts.numbers("overflow.wait")?;
    let detail = format!("wait4 gave the parent of process {pid} the status {status:#x}");
    Ok(Finding::new(status & 0x7f == SIGSEGV, detail))
}

fn survivors(facts: &Transcript) -> Result<Finding, BadFact> {
    let (alive, expected) = (facts.number("overflow.alive")?, facts.number("overflow.expected")?);
    let detail = format!("{alive} of the {expected} other tasks went on after the overflow");
    Ok(Finding::new(alive == expected && expected > 0, detail).with_figure(alive))
}

fn show(facts: &Transcript, screen: &mut Screen) {
    screen.line("");
    for line in report(facts.lines()) {
        screen.line(line);
    }
    screen.line("");
    for claim in [task_killed, survivors].map(|judge| judge(facts)).into_iter().flatten() {
        screen.line(&format!("  {}", claim.detail));
    }
    memory::show(facts, screen);
    for line in drawing::area(facts, COLUMNS) {
        screen.line(&line);
    }
    areas::show(facts, screen);
}

/// The lines of the first report, verbatim; facts that other CPUs print meanwhile are left out.
fn report(lines: &[Line]) -> Vec<&str> {
    let mut shown = Vec::new();
    for line in lines.iter().skip_while(|line| !line.text.starts_with(REPORT)).take(REPORT_LINES) {
        let is_ours = ["fact ", "marker "].iter().any(|start| line.text.starts_with(start));
        if !is_ours {
            shown.push(line.text.as_str());
        }
        if line.text.starts_with(REPORT_END) || (is_ours && !has_end(lines)) {
            break;
        }
    }
    shown
}

fn has_end(lines: &[Line]) -> bool {
    lines.iter().any(|line| line.text.starts_with(REPORT_END))
}
