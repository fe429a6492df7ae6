//! The catalogue: every crash that can be provoked, what it does, and what must come of it. Data only, by theme.
//!
//! A [`Crash`] is one name, and one finding. It has one [`Part`] or more: a part is one `crash=` word of a boot, with what must be
//! seen of it ([`Expect`]). Deaths that the machine survives share a boot; each orderly stop has its own. Names are
//! those of Linux's LKDTM (`drivers/misc/lkdtm`) where it has one.
//!
//! Expectations that are particular to one crash, and cannot be said with words, are functions in `special` and `sweep`.

use super::facts::{Finding, Kind, Verdict};
use super::special::Extra;

mod areas;
mod dma;
mod handlers;
mod locks;
mod stops;
mod tasks;

/// What must come of a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The task in which it happened is gone, and its process; everything else goes on.
    TaskKilled,
    /// The interrupt's or NMI's handler is given up; the task that it interrupted goes on.
    HandlerAbandoned,
    /// The machine says what happened, and stops.
    OrderlyStop,
    /// What was asked for is refused, or done right; nobody dies.
    NobodyDies,
}

impl Outcome {
    /// As it is listed.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::TaskKilled => "task killed",
            Self::HandlerAbandoned => "handler abandoned",
            Self::OrderlyStop => "orderly stop",
            Self::NobodyDies => "nobody dies",
        }
    }
}

/// One name of the catalogue.
#[derive(Debug)]
pub(super) struct Crash {
    pub(super) name: &'static str,
    /// One line.
    pub(super) does: &'static str,
    pub(super) outcome: Outcome,
    /// Where it can be provoked beside the kernel, or why not.
    pub(super) hosted: Result<(), &'static str>,
    /// The unit of its figure; empty without one.
    pub(super) unit: &'static str,
    pub(super) parts: &'static [Part],
}

impl Crash {
    /// What must come of it, as it is listed: the parts of one may have two outcomes.
    pub(super) fn outcomes(&self) -> String {
        let has = |is: fn(&Expect) -> bool| self.parts.iter().any(|part| is(&part.expect));
        let words = self.outcome.words();
        let replaced = has(|expect| matches!(expect, Expect::Survived(of) if of.verdict == Verdict::Replaced));
        let stops = has(|expect| matches!(expect, Expect::Stopped(_)));
        match () {
            () if replaced => format!("{words} (the idle task, replaced)"),
            () if stops && self.outcome != Outcome::OrderlyStop => {
                format!("{words} or {}", Outcome::OrderlyStop.words())
            }
            () => words.to_owned(),
        }
    }
}

/// One `crash=` word, and what must be seen of it.
#[derive(Debug)]
pub(super) struct Part {
    /// What follows the colon; empty without one.
    pub(super) word: &'static str,
    pub(super) boot: Boot,
    /// How long it may take, in seconds, on a slow machine.
    pub(super) seconds: u64,
    pub(super) expect: Expect,
}

/// What a part needs of its boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boot {
    /// Nothing: it shares one with others.
    Shared,
    /// One of its own.
    Own,
    /// One of its own, with four CPUs if the user does not say otherwise.
    OwnOfFourCpus,
    /// One of its own, with QEMU's educational device, which raises interrupts by line and by message, and copies memory.
    OwnWithDevice,
    /// Nothing but that device: it shares one with others that need it.
    SharedWithDevice,
    /// One of its own, with unguarded stacks and thread_info at their bottom.
    Control,
    /// A kernel whose compiler puts canaries into frames.
    StackProtector,
}

/// What must be seen of a part.
#[derive(Debug)]
pub(super) enum Expect {
    Survived(Survival),
    Stopped(Stop),
    /// The control experiment: the attack works, and nobody notices.
    Undetected,
}

/// What must be seen of a crash that the machine survives.
#[derive(Debug)]
pub(super) struct Survival {
    pub(super) reports: Reports,
    pub(super) findings: &'static [Finding],
    pub(super) kinds: &'static [Kind],
    pub(super) verdict: Verdict,
    /// What else may come of a report, where a crash has another behind it.
    pub(super) also: Option<Verdict>,
    pub(super) victims: Victims,
    /// So many bytes of heap may be counted as lost, and no more: whoever counts too much could hide a leak.
    pub(super) lost: u64,
    /// So many arenas of the heap are given up by it.
    pub(super) retires: u64,
    pub(super) extra: Option<Extra>,
}

/// How many reports there must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reports {
    /// One for each victim that was killed, and so many of them at least.
    EachKilled(usize),
    Exactly(usize),
    /// One on each CPU.
    EachCpu,
    /// As many as there are CPUs, and as many again.
    EachCpuTwice,
    /// As many as died by the second number of each fact of this name.
    DiedIn(&'static str),
    /// As many as runs of the sweep were reported.
    Swept,
}

/// How the tasks must have ended that the crash was provoked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victims {
    /// Killed, all of them, each by the report that names it.
    Killed,
    /// As the reports say: whoever is named was killed, and nobody else.
    AsReported,
    /// By themselves: those who are killed are others, of whom the crash has facts of its own.
    WentOn,
}

/// What must be seen of an orderly stop.
#[derive(Debug)]
pub(super) struct Stop {
    /// At least and at most so many reports.
    pub(super) reports: (usize, usize),
    pub(super) findings: &'static [Finding],
    pub(super) kinds: &'static [Kind],
    /// Words of its announcement: it stopped for this, and not for something else.
    pub(super) says: &'static str,
    /// More of them: whom it names.
    pub(super) names: &'static str,
    /// Words of the `state:` line of each report.
    pub(super) state: &'static str,
}

use Finding::{Jumped, Walked};
use Kind::Task;

const OVERFLOW: &[Finding] = &[Walked, Jumped];
const INTERRUPTS: &str = "a process has no interrupts";

/// A crash that the machine survives: every task that it is provoked in is killed, and there are at least `victims`.
const fn killed(victims: usize, findings: &'static [Finding]) -> Survival {
    let reports = Reports::EachKilled(victims);
    Survival {
        reports,
        findings,
        kinds: &[Task],
        verdict: Verdict::Killed,
        also: None,
        victims: Victims::Killed,
        lost: 0,
        retires: 0,
        extra: None,
    }
}

/// A crash of something that is no task's, once on each CPU: nobody is killed.
const fn nobody_killed(kinds: &'static [Kind], verdict: Verdict, extra: Extra) -> Survival {
    let (reports, victims) = (Reports::EachCpu, Victims::WentOn);
    Survival { reports, kinds, verdict, victims, extra: Some(extra), ..killed(0, OVERFLOW) }
}

/// A crash whose victims are children of those that are named.
const fn others_killed(extra: Extra) -> Survival {
    Survival { victims: Victims::WentOn, extra: Some(extra), ..killed(0, OVERFLOW) }
}

const fn with(extra: Extra, survival: Survival) -> Survival {
    Survival { extra: Some(extra), ..survival }
}

/// A part that shares a boot.
const fn shared(survival: Survival) -> Part {
    Part { word: "", boot: Boot::Shared, seconds: 20, expect: Expect::Survived(survival) }
}

/// A part that stops the machine.
const fn stop(word: &'static str, stop: Stop) -> Part {
    Part { word, boot: Boot::Own, seconds: 20, expect: Expect::Stopped(stop) }
}

/// The orderly stop of one overflow of a task's stack.
const ONE_STOP: Stop = Stop { reports: (1, 1), findings: OVERFLOW, kinds: &[Task], says: "", names: "", state: "" };

/// All of them, in the order in which they are listed and provoked.
pub(super) fn all() -> impl Iterator<Item = &'static Crash> {
    [tasks::CRASHES, locks::CRASHES, handlers::CRASHES, areas::CRASHES, dma::CRASHES, stops::CRASHES]
        .into_iter()
        .flatten()
}
