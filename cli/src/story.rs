//! The story: a list of boots, and what is claimed of each.
//!
//! A [`Scene`] is one boot. It has claims, pure functions from the facts that the guest printed to a [`Finding`]; and a way to
//! show people what happened. A fact that is missing fails the claim and is named; a boot that did not end in order
//! fails all claims of its scene with how it ended, for what a dying machine printed proves nothing.
//!
//! ```text
//!   A  control, direct stacks, thread_info at their bottom    the damage that unguarded stacks allow   (control)
//!   B  control, virtual stacks, thread_info at their bottom   why thread_info had to move away         (control)
//!   C  story, virtual stacks                                  overflow, survivors, memory, balance     (overflow, memory)
//!   D  count, one CPU, instructions as the clock              what a stack costs                       (cost)
//!   E  stale, virtual stacks                                  what flushes are for                     (stale)
//!   F  storage, virtual stacks of four sizes, a disk          how deep layers of a disk can be         (storage)
//! ```

use serde_json::Number;

use crate::args::Stacks;
use crate::checks::{Check, Verdict};
use crate::console::{BadFact, Transcript};
use crate::outcome::Outcome;
use crate::screen::Screen;
use crate::words::Words;

pub(crate) mod areas;
mod control;
mod cost;
pub(crate) mod drawing;
pub(crate) mod listing;
mod memory;
mod overflow;
mod stale;
mod storage;

/// What a claim's facts came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Whether the claim holds.
    pub holds: bool,
    /// The number behind it, when there is one.
    pub figure: Option<Number>,
    /// What was seen, in words.
    pub detail: String,
}

impl Finding {
    fn new(holds: bool, detail: impl Into<String>) -> Self {
        Self { holds, figure: None, detail: detail.into() }
    }

    fn with_figure(mut self, figure: impl Into<Number>) -> Self {
        self.figure = Some(figure.into());
        self
    }

    /// The check of this `name`; its figure, if any, is in `unit`.
    pub(crate) fn check(self, name: &str, unit: &str) -> Check {
        let check = Check::new(name, if self.holds { Verdict::Pass } else { Verdict::Fail }, self.detail);
        match self.figure {
            Some(figure) => check.with_figure(figure, unit),
            None => check,
        }
    }
}

/// One claim about a boot.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The check's name.
    pub name: &'static str,
    /// The unit of its figure; empty without one.
    pub unit: &'static str,
    /// The verdict on the facts.
    pub judge: fn(&Transcript) -> Result<Finding, BadFact>,
}

impl Claim {
    fn check(&self, transcript: &Transcript) -> Check {
        match (self.judge)(transcript) {
            Err(bad) => Check::fail(self.name, bad.to_string()),
            Ok(finding) => finding.check(self.name, self.unit),
        }
    }
}

/// One boot of the story.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// Its heading.
    pub title: &'static str,
    /// The kernel's `mode=`.
    pub mode: &'static str,
    /// How task stacks are made.
    pub stacks: Stacks,
    /// Whether thread_info lies at the bottom of the stacks.
    pub thread_info_at_bottom: bool,
    /// Whether instructions are counted: one CPU, software emulation.
    pub counting: bool,
    /// Whether it has a disk, with what [`Image`](crate::image::Image) puts on it.
    pub disk: bool,
    /// What is claimed of it.
    pub claims: &'static [Claim],
    /// Shows people what happened.
    pub show: fn(&Transcript, &mut Screen),
}

/// The story, in the order in which it is told.
pub const SCENES: [Scene; 6] =
    [control::DIRECT, control::MAPPED, overflow::SCENE, cost::SCENE, stale::SCENE, storage::SCENE];

impl Scene {
    /// The kernel's command line.
    #[must_use]
    pub fn words(&self) -> Words {
        let place = if self.thread_info_at_bottom { "bottom" } else { "off" };
        Words::mode(self.mode).with("stacks", word(self.stacks)).with("thread_info", place)
    }

    /// The marker that ends it.
    #[must_use]
    pub fn marker(&self) -> String {
        format!("end-of-{}", self.mode)
    }

    /// The findings of a boot that ended so and printed this.
    #[must_use]
    pub fn judge(&self, outcome: Outcome, transcript: &Transcript) -> Vec<Check> {
        if outcome != Outcome::Orderly {
            return self.claims.iter().map(|claim| Check::fail(claim.name, outcome.to_string())).collect();
        }
        self.claims.iter().map(|claim| claim.check(transcript)).collect()
    }

    /// Its claims, not looked at for `reason`.
    #[must_use]
    pub fn skip(&self, reason: &str) -> Vec<Check> {
        self.claims.iter().map(|claim| Check::skip(claim.name, reason)).collect()
    }
}

/// The word of the kernel's command line for this kind of stacks.
#[must_use]
pub fn word(stacks: Stacks) -> &'static str {
    match stacks {
        Stacks::Virtual => "virtual",
        Stacks::Direct => "direct",
    }
}

#[cfg(test)]
mod tests;
