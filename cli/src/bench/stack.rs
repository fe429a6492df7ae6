//! The suite `stack`: what a stack costs to make, use, clear and give back.
//!
//! One boot of `mode=stack` counts (`kernel/src/count/stack.rs`). What has to be composed is composed here, so that the parts can be
//! seen in what the kernel printed:
//!
//! - the shootdown's share of a cold stack, with several CPUs: the sender's part and each receiver's handler, divided by the stacks of a
//!   batch. CPUs that wait for each other would count something else each time, so none does;
//! - the same where CPUs look for themselves when they switch tasks, and how long batches wait with either ([`flush`]);
//! - what a policy of clearing pays: pages cleared against pages handed out, in the steady state.
//!
//! Stacks whose slots go by their tasks' numbers are in `numbered`.

use super::Setting;
use super::counted::{Facts, Figure, INSTRUCTIONS, Trial};
use crate::checks::{Aim, Check};
use crate::console::{BadFact, Transcript};
use crate::emulator::scratch;
use crate::failure::Failure;
use crate::report::show_figures;
use crate::screen::Screen;

mod flush;
mod numbered;

/// The memory of the machine, in MiB.
const MEMORY: u32 = 512;

/// A figure that the kernel prints as it is: its finding and fact, what it is, and the most that it may be.
struct Plain {
    name: &'static str,
    what: &'static str,
    most: Option<f64>,
}

const fn plain(name: &'static str, what: &'static str, most: Option<f64>) -> Plain {
    Plain { name, what, most }
}

/// Stacks that were there already.
const READY: [Plain; 7] = [
    plain("stack.hot", "from the magazine and back into it, no clearing", Some(60.0)),
    plain("stack.hot.tested", "the same with its dirty bits tested", None),
    plain("stack.hot.guarded", "the same with a section of its own each time", None),
    plain("stack.hot.handed_over", "the same given back as by a task that ends", None),
    plain("stack.hot_used1", "the same with the top page written, and cleared", Some(650.0)),
    plain("stack.depot", "in long runs, through the depot", Some(90.0)),
    plain("stack.clear.page", "clearing one page", None),
];

/// The policies of clearing, as facts name them, and what they are.
pub(super) const POLICIES: [(&str, &str); 4] =
    [("dirty", "what was written"), ("whole", "all of it"), ("exit", "what was written, at once"), ("none", "nothing")];
/// How deep a task goes, and the pages that it writes.
pub(super) const DEPTHS: [(&str, &str); 3] = [("shallow", "1 page"), ("middling", "2 pages"), ("deep", "4 pages")];

/// Runs the suite.
pub(super) fn run(setting: &Setting<'_>, screen: &mut Screen) -> Result<Vec<Check>, Failure> {
    let folder = scratch()?;
    let archive = setting.boots.write_archive(folder.path())?;
    screen.heading("What a stack costs, in instructions");
    let facts = Trial::of("stack", true, MEMORY).run(setting, &archive, screen)?;
    let mut checks = judge(&facts);
    checks.extend(flush::run(setting, &archive, screen)?);
    show_figures(screen, &checks);
    Ok(checks)
}

/// All findings of the boot.
fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks: Vec<Check> = READY.iter().map(|plain| plain.check(facts)).collect();
    checks.extend(cold(facts));
    checks.push(facts.check("stack.scrub_shallow", Some(Aim::AtMost(0.30)), |facts| paid(facts, "dirty")));
    POLICIES.iter().for_each(|(policy, _)| checks.extend(scrubbing(facts, policy)));
    checks.extend(numbered::judge(facts));
    checks
}

impl Plain {
    fn check(&self, facts: &Facts) -> Check {
        let read = |facts: &Transcript| Ok(Figure::instructions(facts.number(self.name)?, self.what));
        facts.check(self.name, self.most.map(Aim::AtMost), read)
    }
}

/// A stack from nothing and back to nothing, its parts, and what several CPUs add to it.
fn cold(facts: &Facts) -> [Check; 6] {
    let part = |name, index: usize, what: &'static str| {
        facts.check(name, None, move |facts| Ok(Figure::instructions(facts.numbers::<4>("stack.cold")?[index], what)))
    };
    let all = facts.check("stack.cold", Some(Aim::AtMost(600.0)), |facts| {
        let [all, ..] = facts.numbers::<4>("stack.cold")?;
        let [unmapped, shootdowns] = facts.numbers("stack.cold.batches")?;
        let batch = unmapped.checked_div(shootdowns).unwrap_or(0);
        let detail = format!("from nothing and back to nothing, clearing apart, {batch} stacks in a batch");
        Ok(Figure::instructions(all, detail))
    });
    [
        all,
        part("stack.cold.made", 1, "of this, making it"),
        part("stack.cold.freed", 2, "of this, giving it back"),
        part("stack.cold.drained", 3, "of this, unmapping it in a batch"),
        facts.check("stack.cold.shootdown", None, shootdown),
        facts.check("stack.cold.flush_at_switch", None, flush::at_switch),
    ]
}

/// What the flush of a batch takes on all CPUs together, for each of its stacks.
fn shootdown(facts: &Transcript) -> Result<Figure, BadFact> {
    let [cpus, sender, receiver, stacks, bytes] = facts.numbers("stack.shootdown")?;
    let receivers = cpus.saturating_sub(1);
    let all = sender + receivers * receiver;
    let value = if stacks == 0 { f64::NAN } else { all as f64 / stacks as f64 };
    let detail = format!(
        "the shootdown's share with {cpus} CPUs, composed: {sender} of the sender and {receivers} x {receiver} of \
         the receivers, for a batch of {stacks} stacks; {} KiB are pending on a CPU at most",
        bytes / 1024
    );
    Ok(Figure { value, unit: INSTRUCTIONS, detail })
}

/// What a policy pays, and what stacks of each depth cost under it.
fn scrubbing(facts: &Facts, policy: &str) -> Vec<Check> {
    let mut checks = vec![facts.check(&format!("stack.scrub.{policy}.paid"), None, |facts| paid(facts, policy))];
    for (depth, pages) in DEPTHS {
        let name = format!("stack.scrub.{policy}.{depth}");
        checks.push(facts.check(&name, None, |facts| {
            Ok(Figure::instructions(facts.number(&name)?, format!("for each stack whose task writes {pages}")))
        }));
    }
    checks
}

/// Pages that a policy clears, against all pages that it hands out.
fn paid(facts: &Transcript, policy: &str) -> Result<Figure, BadFact> {
    let [cleared, handed, recovered] = facts.numbers(&format!("stack.scrub.{policy}"))?;
    let value = if handed == 0 { f64::NAN } else { cleared as f64 / handed as f64 };
    let detail = format!(
        "clearing paid against clearing all: {cleared} of {handed} pages, where 1 task in 100 goes deep; \
         {recovered} stacks had their dirty bits taken back"
    );
    Ok(Figure { value, unit: "of all pages", detail })
}

#[cfg(test)]
mod tests;
