//! From judged parts to one finding a name: a crash is as it should be if all of its parts are.

use super::catalogue::Crash;
use super::judge::Judged;
use super::plan::Act;
use super::sweep::{self, Run};
use crate::checks::{Check, Verdict};
use crate::report;
use crate::screen::Screen;
use crate::symbols::Symbol;

/// Columns of a name, and of an outcome.
const NAME: usize = 31;
const OUTCOME: usize = 18;
/// So many shortfalls are said; there is nothing to learn from the hundredth.
const SAID: usize = 5;

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    judged: Vec<(Act, Judged)>,
    checks: Vec<Check>,
    /// The runs of the sweep.
    pub(super) runs: Vec<Run>,
    /// Where the consoles of boots that fell short are, in lines for people.
    pub(super) kept: Vec<String>,
}

impl Findings {
    /// Takes in the parts of a boot, and shows each crash whose last part is in.
    pub(super) fn take(&mut self, judged: Vec<(Act, Judged)>, symbols: &[Symbol], screen: &mut Screen) {
        for (act, mut judged) in judged {
            if !judged.seen.runs.is_empty() {
                self.runs = core::mem::take(&mut judged.seen.runs);
                sweep::name(&mut self.runs, symbols);
                let said = &mut judged.seen.said;
                said.push_str(&format!("; reported with less: {}", sweep::fold(&self.runs)));
            }
            self.judged.push((act, judged));
            self.conclude(act.crash, screen);
        }
    }

    /// Makes a finding of `crash` if all of its parts are in.
    fn conclude(&mut self, crash: &'static Crash, screen: &mut Screen) {
        let parts: Vec<&(Act, Judged)> =
            self.judged.iter().filter(|(act, _)| core::ptr::eq(act.crash, crash)).collect();
        if parts.len() < crash.parts.len() {
            return;
        }
        let check = check(crash, &parts);
        show(&check, crash, screen);
        self.checks.push(check);
    }

    /// A crash that is not provoked.
    pub(super) fn skip(&mut self, crash: &Crash, why: &str, screen: &mut Screen) {
        let check = Check::skip(crash.name, why);
        show(&check, crash, screen);
        self.checks.push(check);
    }

    /// The findings of `crashes`, in that order.
    pub(super) fn in_order(&self, crashes: &[&Crash]) -> Vec<Check> {
        let of = |crash: &&Crash| self.checks.iter().find(|check| check.name == crash.name).cloned();
        crashes.iter().filter_map(of).collect()
    }
}

/// The finding of `crash` of the hosted port, where it has one part.
pub(super) fn conclude(crash: &'static Crash, judged: Judged) -> Check {
    check(crash, &[&(Act { crash, part: &crash.parts[0] }, judged)])
}

/// The finding of `crash`, all of whose parts these are.
pub(super) fn check(crash: &Crash, parts: &[&(Act, Judged)]) -> Check {
    let all_hold = parts.iter().all(|(_, judged)| judged.holds());
    let verdict = if all_hold { Verdict::Pass } else { Verdict::Fail };
    let said = parts.iter().filter(|(_, judged)| all_hold || !judged.holds()).map(|(act, judged)| said(act, judged));
    let check = Check::new(crash.name, verdict, said.collect::<Vec<_>>().join("; "));
    let figure: u64 = parts.iter().filter_map(|(_, judged)| judged.seen.figure).sum();
    if crash.unit.is_empty() || figure == 0 { check } else { check.with_figure(figure, crash.unit) }
}

/// What is said of one part: what was seen, or everything that fell short.
fn said(act: &Act, judged: &Judged) -> String {
    let words = match judged.shortfalls.as_slice() {
        [] => judged.seen.said.clone(),
        short if short.len() > SAID => {
            format!("{}; and {} more", short[..SAID].join("; "), short.len() - SAID)
        }
        short => short.join("; "),
    };
    let alone = act.part.word.is_empty();
    if alone { words } else { format!("{}: {words}", act.part.word) }
}

/// Shows one finding.
pub(super) fn show(check: &Check, crash: &Crash, screen: &mut Screen) {
    show_row(check, crash.outcome.words(), screen);
}

fn show_row(check: &Check, outcome: &str, screen: &mut Screen) {
    let mark = report::mark(screen, check.outcome);
    let figure = report::figure(check);
    let line = format!("{mark}  {:NAME$} {outcome:OUTCOME$} {figure}", check.name);
    screen.line(line.trim_end());
    report::explain(screen, &check.detail);
}

/// Shows findings that are no crashes.
pub(super) fn show_others(checks: &[Check], screen: &mut Screen) {
    screen.heading("Read from the kernel's image");
    checks.iter().for_each(|check| show_row(check, "", screen));
}
