//! Which parts share a boot, and what a boot shows of each of them.
//!
//! Deaths that the machine survives share a boot; what cannot be shared is in a boot of its own. When a boot dies under a
//! crash, that crash has fallen short, and the others are tried again in a fresh boot without it: each boot that dies takes
//! one crash with it, so there is an end.

use core::time::Duration;
use std::collections::VecDeque;

use super::catalogue::{Boot, Crash, Expect, Part};
use super::facts::{Evidence, Machine, PANIC};
use super::judge::{Judged, judge};
use crate::boots::Reading;
use crate::console::Transcript;
use crate::outcome::Outcome;
use crate::words::Words;

/// CPUs when the user does not say.
pub(super) const CPUS: u32 = 2;
/// CPUs of the storm when the user does not say.
const STORM_CPUS: u32 = 4;
/// What a boot takes before its first crash, on a slow machine.
const BOOTING: Duration = Duration::from_secs(40);
/// The marker of every boot of `mode=crash`.
pub(super) const MARKER: &str = "end-of-crash";

/// One part of a crash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Act {
    pub(super) crash: &'static Crash,
    pub(super) part: &'static Part,
}

impl Act {
    /// What is said of it on the kernel's command line, and at its beginning.
    pub(super) fn word(&self) -> String {
        let (name, word) = (self.crash.name, self.part.word);
        if word.is_empty() { name.to_owned() } else { format!("{name}:{word}") }
    }

    /// The same part: parts are compared by where they lie in the catalogue.
    pub(super) fn is(&self, other: &Self) -> bool {
        core::ptr::eq(self.part, other.part) && core::ptr::eq(self.crash, other.crash)
    }
}

/// One boot, and the acts that share it.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) boot: Boot,
    pub(super) cpus: u32,
    pub(super) acts: Vec<Act>,
}

/// The boots of `crashes`, given the CPUs that the user asked for.
pub(super) fn plan(crashes: &[&'static Crash], cpus: Option<u32>) -> VecDeque<Plan> {
    let (mut shared, mut with_device, mut own) = (Vec::new(), Vec::new(), VecDeque::new());
    for &crash in crashes {
        for part in crash.parts {
            let act = Act { crash, part };
            match part.boot {
                Boot::Shared => shared.push(act),
                Boot::SharedWithDevice => with_device.push(act),
                boot => {
                    let default = if boot == Boot::OwnOfFourCpus { STORM_CPUS } else { CPUS };
                    own.push_back(Plan { boot, cpus: cpus.unwrap_or(default), acts: vec![act] });
                }
            }
        }
    }
    for (boot, acts) in [(Boot::SharedWithDevice, with_device), (Boot::Shared, shared)] {
        if !acts.is_empty() {
            own.push_front(Plan { boot, cpus: cpus.unwrap_or(CPUS), acts });
        }
    }
    own
}

impl Plan {
    /// The kernel's command line.
    pub(super) fn words(&self) -> Words {
        let words = Words::mode("crash");
        let words = match self.boot {
            Boot::Control => words.with("stacks", "direct").with("thread_info", "bottom"),
            _ => words,
        };
        self.acts.iter().fold(words, |words, act| words.with("crash", &act.word()))
    }

    /// The emulator's further devices.
    fn devices(&self) -> &'static [&'static str] {
        if matches!(self.boot, Boot::OwnWithDevice | Boot::SharedWithDevice) { &["edu"] } else { &[] }
    }

    /// How long it may take.
    fn limit(&self) -> Duration {
        BOOTING + Duration::from_secs(self.acts.iter().map(|act| act.part.seconds).sum())
    }

    /// How its console is read.
    pub(super) fn reading<'a>(&self, words: &'a str) -> Reading<'a> {
        Reading { words, marker: MARKER, cpus: self.cpus, devices: self.devices(), limit: self.limit() }
    }

    /// What it is, for people.
    pub(super) fn title(&self) -> String {
        let cpus = if self.cpus == 1 { "1 CPU".to_owned() } else { format!("{} CPUs", self.cpus) };
        match self.acts.as_slice() {
            [act] if self.boot == Boot::Control => format!("{}, the control without guards, on {cpus}", act.word()),
            [act] => format!("{} on {cpus}", act.word()),
            acts if self.boot == Boot::SharedWithDevice => {
                format!("{} crashes in one boot with a device, on {cpus}", acts.len())
            }
            acts => format!("{} crashes in one boot, on {cpus}", acts.len()),
        }
    }

    /// All of its parts, of a boot that could not be started.
    pub(super) fn fell(&self, why: &str) -> Vec<(Act, Judged)> {
        self.acts.iter().map(|act| (*act, Judged::fell(why))).collect()
    }

    /// Whether the machine was to stop.
    fn stops(&self) -> bool {
        matches!(self.acts.as_slice(), [act] if matches!(act.part.expect, Expect::Stopped(_)))
    }
}

/// What a boot came to.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) judged: Vec<(Act, Judged)>,
    /// The boot in which the rest is tried again.
    pub(super) again: Option<Plan>,
    /// Whether the boot ended as no part of it should make it end.
    pub(super) surprise: bool,
}

/// Judges a boot that ended so and printed this.
pub(super) fn settle(plan: &Plan, outcome: Outcome, transcript: &Transcript) -> Settled {
    let crashes = Evidence::of_boot(transcript, Machine::Kernel { cpus: plan.cpus });
    if outcome == Outcome::Orderly || plan.stops() {
        let mut judged: Vec<(Act, Judged)> =
            plan.acts.iter().map(|act| (*act, judge_act(act, &crashes, outcome))).collect();
        if let Some(panic) = early_panic(transcript) {
            judged
                .iter_mut()
                .for_each(|(_, judged)| judged.shortfalls.push(format!("it was provoked after `{panic}`")));
        }
        let surprise = !matches!(outcome, Outcome::Orderly | Outcome::Panicked);
        return Settled { judged, again: None, surprise };
    }
    // What the last crash did may have broken the machine after its end, too.
    let culprit = crashes.last().and_then(|last| plan.acts.iter().find(|act| act.word() == last.word));
    let said = last_words(transcript);
    let Some(culprit) = culprit else {
        let judged = plan.fell(&format!("{outcome} before anything was provoked{said}"));
        return Settled { judged, again: None, surprise: true };
    };
    let under = if crashes.last().is_some_and(|last| last.ended) { "after" } else { "under" };
    let judged = Judged::fell(format!("{outcome}, {under} {}{said}", culprit.word()));
    let others: Vec<Act> = plan.acts.iter().filter(|act| !act.is(culprit)).copied().collect();
    let again = (!others.is_empty()).then(|| Plan { acts: others, ..plan.clone() });
    Settled { judged: vec![(*culprit, judged)], again, surprise: true }
}

fn judge_act(act: &Act, crashes: &[Evidence], outcome: Outcome) -> Judged {
    judge_one(&act.word(), &act.part.expect, crashes, outcome)
}

/// Judges the crash that began as `word`.
pub(super) fn judge_one(word: &str, expect: &Expect, crashes: &[Evidence], outcome: Outcome) -> Judged {
    let mut own = crashes.iter().filter(|crash| crash.word == word);
    match (own.next(), own.next()) {
        (Some(crash), None) if crash.is_unknown() => Judged::fell("this kernel has no such crash"),
        (Some(crash), None) => judge(expect, crash, outcome),
        (Some(_), Some(_)) => Judged::fell("it began more than once"),
        (None, _) => Judged::fell(format!("it never began; {outcome}")),
    }
}

/// The announcement of an orderly stop before the first crash began.
fn early_panic(transcript: &Transcript) -> Option<&str> {
    let before = transcript.lines().iter().take_while(|line| !line.text.starts_with("fact crash.begin "));
    before.map(|line| line.text.as_str()).find(|line| line.contains(PANIC))
}

/// What a dying machine said of it: its announcement, or else its last line.
fn last_words(transcript: &Transcript) -> String {
    let lines = transcript.lines();
    let panic = lines.iter().rev().find(|line| line.text.starts_with(PANIC));
    panic.or(lines.last()).map_or_else(String::new, |line| format!("; the kernel's last words: {}", line.text))
}
