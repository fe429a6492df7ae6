//! The judgement of one part: rules for every crash that the machine survives, rules for every orderly stop.
//!
//! A rule is a pure function from what was printed to nothing, or to what fell short. All rules are asked, so that one
//! finding names everything that is wrong. INV-ONCE is `counted`, `told`, `apart` and `recorded`; INV-ALONE is `died` and
//! `lived`; INV-COUNT is `balanced`.

use std::collections::HashMap;

use super::catalogue::{Expect, Reports, Stop, Survival, Victims};
use super::facts::{Evidence, Finding, Holds, Oops, REPORT, Shortfall, Verdict, hold, odd};
use super::special::{self, Seen};
use crate::console::number;
use crate::outcome::Outcome;

/// What came of a part.
#[derive(Clone, Debug, Default)]
pub(super) struct Judged {
    /// Everything that fell short; empty when it is as it should be.
    pub(super) shortfalls: Vec<String>,
    pub(super) seen: Seen,
}

impl Judged {
    /// A part that fell short.
    pub(super) fn fell(what: impl Into<String>) -> Self {
        Self { shortfalls: vec![what.into()], seen: Seen::default() }
    }

    pub(super) fn holds(&self) -> bool {
        self.shortfalls.is_empty()
    }
}

/// Judges a part whose boot ended so. A boot that should have gone on and did not is the caller's to judge.
pub(super) fn judge(expect: &Expect, crash: &Evidence, outcome: Outcome) -> Judged {
    match expect {
        Expect::Survived(survival) => survived(survival, crash),
        Expect::Stopped(stop) => stopped(stop, crash, outcome),
        Expect::Undetected => undetected(crash),
    }
}

/// How it ends one.
const REPORT_END: &str = "---[ end";
/// The fact that follows.
const FACT: &str = "fact oops ";
/// How it announces an orderly stop.
const PANIC: &str = "Kernel panic: ";
/// How wide guards are, in bytes, or as wide as their stack: no address in a guard is farther from it.
const GUARD: u64 = 16 << 10;
/// The reach of one frame, in bytes: an overflow that was walked down is no farther from the stack pointer.
const REACH: u64 = 4096;
/// Who works beside the victims: kernel tasks and processes, two of each.
const SURVIVORS: usize = 4;

type Rule = fn(&Survival, &Evidence) -> Holds;
const RULES: [Rule; 12] =
    [whole, counted, expected, bounded, told, apart, recorded, died, lived, balanced, unlocked, served];

fn survived(survival: &Survival, crash: &Evidence) -> Judged {
    let mut shortfalls: Vec<String> =
        RULES.iter().filter_map(|rule| rule(survival, crash).err()).map(|Shortfall(what)| what).collect();
    let seen = survival.extra.map_or_else(|| Ok(Seen::default()), |extra| extra(crash));
    let seen = seen.unwrap_or_else(|Shortfall(what)| {
        shortfalls.push(what);
        Seen::default()
    });
    // Two rules may stumble over the same odd fact.
    shortfalls.dedup();
    Judged { shortfalls, seen: complete(seen, crash) }
}

/// With the number of reports as the figure where there is no other, and what happened in words.
fn complete(seen: Seen, crash: &Evidence) -> Seen {
    let oopses = crash.oopses().unwrap_or_default();
    let said = if seen.said.is_empty() { String::new() } else { format!("; {}", seen.said) };
    let said = format!("{}{said}", summary(&oopses, crash));
    Seen { figure: seen.figure.or(Some(oopses.len() as u64)), said, runs: seen.runs }
}

/// What was found, how often, and who lives.
fn summary(oopses: &[Oops], crash: &Evidence) -> String {
    let mut found: Vec<(Finding, usize)> = Vec::new();
    for oops in oopses {
        match found.iter_mut().find(|(finding, _)| *finding == oops.finding) {
            Some((_, count)) => *count += 1,
            None => found.push((oops.finding, 1)),
        }
    }
    let found: Vec<String> = found.iter().map(|(finding, count)| format!("{count} {finding}")).collect();
    let killed = oopses.iter().filter(|oops| oops.verdict == Verdict::Killed).count();
    let killed = if killed == 0 { String::new() } else { format!("{killed} killed, ") };
    let survivors = crash.facts.all("survivor").len();
    format!("{}; {killed}{survivors} others went on", found.join(", "))
}

/// Its end was printed, and nothing came after it.
fn whole(_: &Survival, crash: &Evidence) -> Holds {
    hold(crash.ended, || "its end was never printed".into())?;
    hold(crash.late.is_empty(), || format!("after its end: {}", crash.late.join("; ")))
}

/// As many reports as expected, and not one more.
fn counted(survival: &Survival, crash: &Evidence) -> Holds {
    let reports = crash.oopses()?.len();
    let exactly = |count: usize, of: &str| hold(reports == count, || format!("{reports} reports, not {count}{of}"));
    match survival.reports {
        Reports::Exactly(count) => exactly(count, ""),
        Reports::EachCpu => exactly(usize::try_from(crash.cpus()).unwrap_or(0), ", one on each CPU"),
        Reports::EachKilled(least) => {
            // The port provokes each variant by a name of its own.
            let least = if crash.is_hosted() { least.min(1) } else { least };
            let killed = crash.victims()?.into_iter().filter(|victim| victim.was_killed()).count();
            hold(killed >= least, || format!("{killed} victims were killed, not {least} at least"))?;
            exactly(killed, ", one for each victim that was killed")
        }
        Reports::DiedIn(fact) => {
            let numbers = crash.facts.all(fact).iter().map(|words| words.get(2).and_then(|word| number(word)));
            let died = numbers.sum::<Option<u64>>().ok_or_else(|| Shortfall(format!("an odd fact `{fact}`")))?;
            exactly(usize::try_from(died).unwrap_or(usize::MAX), ", one for each that died")
        }
        Reports::Swept => {
            let swept = crash.facts.all("sweep").iter();
            let reported = swept.filter(|words| words.get(2).is_some_and(|word| word == "reported")).count();
            exactly(reported, ", the runs that were reported")
        }
    }
}

/// Each report says what happened, of the stack where it happened, and the right thing was done.
fn expected(survival: &Survival, crash: &Evidence) -> Holds {
    for oops in crash.oopses()? {
        let Oops { number, finding, kind, verdict, .. } = oops;
        hold(survival.findings.contains(&finding), || format!("report {number} says {finding}"))?;
        hold(survival.kinds.contains(&kind), || format!("report {number} is of the stack kind {kind}"))?;
        hold(verdict == survival.verdict, || {
            format!("report {number} ended with the verdict {verdict}, not {}", survival.verdict)
        })?;
    }
    Ok(())
}

/// Each address lies where its finding says, and its distance is right.
fn bounded(_: &Survival, crash: &Evidence) -> Holds {
    each_bounded(&crash.oopses()?)
}

fn each_bounded(oopses: &[Oops]) -> Holds {
    oopses.iter().try_for_each(|oops| {
        hold(is_bounded(oops), || {
            let Oops { number, finding, address, low, high, stack_pointer, beyond, .. } = oops;
            format!(
                "report {number}: {address:#x}, {beyond} bytes past the end of {low:#x}..{high:#x} with the stack \
                 pointer {stack_pointer:#x}, is no {finding}"
            )
        })
    })
}

fn is_bounded(oops: &Oops) -> bool {
    let Oops { address, low, high, stack_pointer, beyond, .. } = *oops;
    let guard = GUARD.max(high.saturating_sub(low));
    let below = (low.saturating_sub(guard)..low).contains(&address);
    let above = (high..high.saturating_add(guard)).contains(&address);
    let measured = (below && beyond == low - address) || (above && (beyond == address - high + 1));
    let by_kind = match oops.finding {
        Finding::Walked => below && measured && address.abs_diff(stack_pointer) <= REACH,
        Finding::Jumped => below && measured,
        Finding::Underflow => above && measured,
        Finding::Wild | Finding::OtherGuard => measured,
        Finding::Inside => (low..high).contains(&address),
    };
    low < high && oops.instruction != 0 && by_kind
}

/// Each report was printed in words before it was a fact, with the same address and bounds, once.
fn told(_: &Survival, crash: &Evidence) -> Holds {
    each_told(crash, |line| line.starts_with(REPORT))
}

/// Whether `line` begins the report of a stack: an orderly stop may have another cause, and say so.
fn is_of_a_stack(line: &str) -> bool {
    line.starts_with(REPORT)
        && (line.contains(" stack guard page was hit at ") || line.contains(" stack was touched at "))
}

fn each_told(crash: &Evidence, is_report: fn(&str) -> bool) -> Holds {
    let mut printed: HashMap<&str, usize> = HashMap::new();
    for line in crash.facts.lines() {
        if is_report(&line.text) {
            *printed.entry(&line.text).or_default() += 1;
        } else if let Some(values) = line.text.strip_prefix(FACT) {
            let words: Vec<String> = values.split_whitespace().map(str::to_owned).collect();
            let headline = Oops::read(&words).ok_or_else(|| odd("oops", &words))?.headline();
            match printed.get_mut(headline.as_str()).filter(|count| **count > 0) {
                Some(count) => *count -= 1,
                None => return Err(Shortfall(format!("no report before its fact begins `{headline}`"))),
            }
        }
    }
    let twice = printed.into_iter().find(|(_, count)| *count > 0);
    hold(twice.is_none(), || format!("a report without its fact: {}", twice.unwrap_or_default().0))
}

/// No report begins in the middle of another.
fn apart(_: &Survival, crash: &Evidence) -> Holds {
    let mut open = false;
    for line in crash.facts.lines() {
        let begins = line.text.starts_with(REPORT);
        // The port ends a report with its fact.
        let ends = line.text.starts_with(if crash.is_hosted() { FACT } else { REPORT_END });
        hold(!(begins && open), || format!("in the middle of a report: {}", line.text))?;
        open = begins || (open && !ends);
    }
    hold(!open, || "the last report has no end".into())
}

/// The ring has exactly the reports that were printed, under consecutive numbers.
fn recorded(_: &Survival, crash: &Evidence) -> Holds {
    let [before, after] = crash.facts.numbers("balance.reports")?;
    let mut numbers: Vec<u64> = crash.oopses()?.iter().map(|oops| oops.number).collect();
    numbers.sort_unstable();
    hold(numbers.iter().copied().eq(before.saturating_add(1)..=after), || {
        format!("{} reports were printed, and those recorded are {before} before and {after} after", numbers.len())
    })
}

/// Whoever was reported is dead, and whoever is dead was reported.
fn died(survival: &Survival, crash: &Evidence) -> Holds {
    let (victims, oopses) = (crash.victims()?, crash.oopses()?);
    let odd = victims.iter().find(|victim| !victim.was_killed() && victim.status != 0);
    hold(odd.is_none(), || {
        odd.map_or_else(String::new, |odd| format!("task {} ended with {:#x}", odd.task, odd.status))
    })?;
    let mut killed: Vec<u64> = victims.iter().filter(|victim| victim.was_killed()).map(|victim| victim.task).collect();
    let guilty = oopses.iter().filter(|oops| oops.verdict == Verdict::Killed);
    let mut guilty: Vec<u64> = guilty.map(|oops| oops.task).collect();
    killed.sort_unstable();
    guilty.sort_unstable();
    // The port names every task that ends.
    let same = match survival.victims {
        _ if crash.is_hosted() => killed == guilty,
        Victims::Killed => killed == guilty && killed.len() == victims.len(),
        Victims::AsReported => killed == guilty,
        Victims::WentOn => killed.is_empty(),
    };
    hold(same, || {
        let some = |tasks: &[u64]| format!("{:?}", &tasks[..tasks.len().min(8)]);
        format!("of {} victims the killed are {}, and the reported {}", victims.len(), some(&killed), some(&guilty))
    })
}

/// Everybody else went on, and ended well.
fn lived(_: &Survival, crash: &Evidence) -> Holds {
    let survivors = crash.each::<4>("survivor")?;
    let enough = if crash.is_hosted() { !survivors.is_empty() } else { survivors.len() == SURVIVORS };
    hold(enough, || format!("{} survivors, not {SURVIVORS}", survivors.len()))?;
    survivors.into_iter().try_for_each(|[task, before, after, status]| {
        hold(status == 0, || format!("task {task}, which did nothing wrong, ended with {status:#x}"))?;
        hold(after > before, || format!("task {task} did not go on: it had counted to {before}, and then to {after}"))
    })
}

/// Everything is back, or counted as lost.
fn balanced(_: &Survival, crash: &Evidence) -> Holds {
    let facts = &crash.facts;
    let [before, after] = facts.numbers("balance.frames")?;
    hold(before == after, || format!("{before} frames before, {after} after"))?;
    if !crash.is_hosted() {
        let [before, after, lost] = facts.numbers("balance.heap")?;
        // What frames may have owned is no less than what they did: a task that died may have given some of it back on its way out.
        hold(after <= before.saturating_add(lost), || {
            format!("{before} bytes of heap before, {after} after, {lost} counted as lost")
        })?;
    }
    let [before, after] = facts.numbers("balance.tasks")?;
    hold(before == after, || format!("{before} tasks before, {after} after"))?;
    let slots = facts.number("balance.slots")?;
    hold(slots == 0, || format!("{slots} stacks are handed out that no task has"))?;
    // Only the port looks.
    let open = if facts.all("balance.open_guards").is_empty() { 0 } else { facts.number("balance.open_guards")? };
    hold(open == 0, || format!("{open} pages of guards are open"))
}

/// No lock is left held: free, poisoned, or gone with its process.
fn unlocked(_: &Survival, crash: &Evidence) -> Holds {
    for words in crash.facts.all("lock") {
        let [name, kind, state] = words.as_slice() else { return Err(odd("lock", words)) };
        let free = ["free", "poisoned", "gone"].contains(&state.as_str());
        hold(free, || format!("the {kind} lock `{name}` is left {state}"))?;
    }
    Ok(())
}

/// No interrupt is lost, and none served twice.
fn served(_: &Survival, crash: &Evidence) -> Holds {
    crash.named::<2>("interrupts")?.into_iter().try_for_each(|(name, [raised, served])| {
        hold(raised == served, || format!("{raised} interrupts were raised by {name}, and {served} served"))
    })
}

/// The machine stopped, after saying why.
fn stopped(stop: &Stop, crash: &Evidence, outcome: Outcome) -> Judged {
    let rules = [
        hold(outcome == Outcome::Panicked, || format!("{outcome}, where it should have stopped in order")),
        hold(!crash.ended, || "it ended, where the machine should have stopped".into()),
        announced(crash),
        reported(stop, crash),
        each_told(crash, is_of_a_stack),
    ];
    let shortfalls = rules.into_iter().filter_map(Result::err).map(|Shortfall(what)| what).collect();
    let said = crash.facts.lines().iter().find(|line| line.text.starts_with(PANIC));
    let said = said.map_or_else(String::new, |line| line.text.clone());
    Judged { shortfalls, seen: Seen::new(1, said) }
}

/// The announcement comes after the last report, so that nothing is cut off.
fn announced(crash: &Evidence) -> Holds {
    let lines = crash.facts.lines();
    let last = |start: &str| lines.iter().rposition(|line| line.text.starts_with(start));
    let panic = last(PANIC);
    hold(panic.is_some(), || format!("no line begins `{PANIC}`"))?;
    hold(last(REPORT) < panic && last(FACT) < panic, || "a report begins after the last announcement".into())
}

fn reported(stop: &Stop, crash: &Evidence) -> Holds {
    let (oopses, (least, most)) = (crash.oopses()?, stop.reports);
    let count = oopses.len();
    hold((least..=most).contains(&count), || format!("{count} reports, not {least} to {most}"))?;
    for Oops { number, finding, kind, .. } in &oopses {
        hold(stop.findings.contains(finding), || format!("report {number} says {finding}"))?;
        hold(stop.kinds.contains(kind), || format!("report {number} is of the stack kind {kind}"))?;
    }
    each_bounded(&oopses)?;
    let verdict = oopses.last().map_or(Verdict::Stopped, |oops| oops.verdict);
    hold(verdict == Verdict::Stopped, || format!("the last report ended with the verdict {verdict}"))
}

/// The control: the attack gives the attacker the kernel's word, and nobody notices.
fn undetected(crash: &Evidence) -> Judged {
    let read = || -> Holds {
        let secret = special::secret(crash)?;
        hold(special::was_read(crash, secret), || format!("the attack did not read the kernel's word `{secret}`"))
    };
    let noticed = crash.facts.all("oops").len() + crash.facts.count_starting(REPORT);
    let unnoticed = hold(noticed == 0, || "the attack was noticed where nothing is there to notice it".into());
    let rules = [hold(crash.ended, || "its end was never printed".into()), read(), unnoticed];
    let shortfalls = rules.into_iter().filter_map(Result::err).map(|Shortfall(what)| what).collect();
    let said = "without guards, the same program reads the kernel's word".to_owned();
    Judged { shortfalls, seen: Seen { said, ..Seen::default() } }
}
