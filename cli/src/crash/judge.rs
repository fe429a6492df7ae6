//! The judgement of one part: rules for every crash that the machine survives, rules for every orderly stop.
//!
//! A rule is a pure function from what was printed to nothing, or to what fell short. All rules are asked, so that one
//! finding names everything that is wrong. INV-ONCE is `counted`, `told` and `recorded`; INV-ALONE is `died` and
//! `lived`; INV-COUNT is `balanced`.

use super::catalogue::{Expect, Reports, Stop, Survival, Victims};
use super::facts::{Evidence, Finding, Holds, Oops, PANIC, REPORT, Shortfall, Verdict, hold, odd};
use super::reports::{self, FACT};
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

/// How wide guards are, in bytes, or as wide as their stack: no address in a guard is farther from it.
const GUARD: u64 = 16 << 10;
/// The reach of one frame, in bytes: an overflow that was walked down is no farther from the stack pointer.
const REACH: u64 = 4096;
/// Who works beside the victims: kernel tasks and processes, two of each.
const SURVIVORS: usize = 4;

type Rule = fn(&Survival, &Evidence) -> Holds;
const RULES: [Rule; 14] = [
    whole,
    calm,
    counted,
    expected,
    bounded,
    told,
    recorded,
    died,
    others_died,
    lived,
    balanced,
    heap_is_back,
    unlocked,
    served,
];

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
    let rest = format!("{killed}{survivors} others went on");
    if found.is_empty() { rest } else { format!("{}; {rest}", found.join(", ")) }
}

/// Its end was printed, and nothing came after it.
fn whole(_: &Survival, crash: &Evidence) -> Holds {
    hold(crash.ended, || "its end was never printed".into())?;
    hold(crash.late.is_empty(), || format!("after its end: {}", crash.late.join("; ")))
}

/// The machine never said that it stops: whoever goes on after that was not believed.
fn calm(_: &Survival, crash: &Evidence) -> Holds {
    let panic = crash.facts.lines().iter().find(|line| line.text.contains(PANIC));
    hold(panic.is_none(), || panic.map_or_else(String::new, |line| format!("it went on after `{}`", line.text)))
}

/// As many reports as expected, and not one more.
fn counted(survival: &Survival, crash: &Evidence) -> Holds {
    let reports = crash.oopses()?.len();
    let exactly = |count: usize, of: &str| hold(reports == count, || format!("{reports} reports, not {count}{of}"));
    match survival.reports {
        Reports::Exactly(count) => exactly(count, ""),
        Reports::EachCpuTwice => exactly(usize::try_from(2 * crash.cpus()).unwrap_or(0), ", two for each CPU"),
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
        let Oops { number, finding, kind, verdict, cpu, .. } = oops;
        hold(cpu < crash.cpus(), || format!("report {number} is of CPU {cpu}, of {}", crash.cpus()))?;
        hold(survival.findings.contains(&finding), || format!("report {number} says {finding}"))?;
        hold(survival.kinds.contains(&kind), || format!("report {number} is of the stack kind {kind}"))?;
        hold(verdict == survival.verdict || survival.also == Some(verdict), || {
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
        Finding::AreaAbove => above && measured,
        Finding::AreaBelow => below && measured,
        Finding::Inside | Finding::AreaFreed | Finding::AreaInside | Finding::AreaRecords | Finding::AreaUnused => {
            (low..high).contains(&address)
        }
    };
    low < high && oops.instruction != 0 && by_kind
}

/// Each report was printed in words and as a fact, whole; and there is none that is no stack's.
fn told(_: &Survival, crash: &Evidence) -> Holds {
    reports::each_is_whole(crash)?;
    let (printed, facts) = (crash.facts.count_starting(REPORT), crash.facts.count_starting(FACT));
    hold(printed == facts, || format!("{printed} reports were printed, and {facts} are of a stack"))
}

/// The ring has exactly the reports that were printed, under consecutive numbers.
fn recorded(_: &Survival, crash: &Evidence) -> Holds {
    if !crash.is_hosted() {
        let lost = crash.facts.number("balance.reports_lost")?;
        hold(lost == 0, || format!("{lost} reports were lost"))?;
    }
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
    let mut guilty = killed_tasks(&oopses);
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

/// Each report that killed a task killed another one: none of those who went on.
fn others_died(_: &Survival, crash: &Evidence) -> Holds {
    let mut dead: Vec<u64> = killed_tasks(&crash.oopses()?);
    let all = dead.len();
    dead.sort_unstable();
    dead.dedup();
    // The port begins anew, with its numbers too, where it tries a crash more than once.
    let anew = crash.is_hosted();
    hold(anew || dead.len() == all, || format!("{all} reports killed {} tasks", dead.len()))?;
    let went_on = crash.victims()?.into_iter().filter(|victim| !victim.was_killed()).map(|victim| victim.task);
    let survivors = crash.each::<4>("survivor")?.into_iter().map(|[task, ..]| task);
    let risen = went_on.chain(survivors).chain([0]).find(|task| dead.binary_search(task).is_ok());
    hold(anew || risen.is_none(), || format!("a report killed task {}, which is not dead", risen.unwrap_or(0)))
}

fn killed_tasks(oopses: &[Oops]) -> Vec<u64> {
    oopses.iter().filter(|oops| oops.verdict == Verdict::Killed).map(|oops| oops.task).collect()
}

/// Everybody else went on, and ended well.
fn lived(_: &Survival, crash: &Evidence) -> Holds {
    let survivors = crash.each::<4>("survivor")?;
    let mut tasks: Vec<u64> = survivors.iter().map(|[task, ..]| *task).collect();
    tasks.sort_unstable();
    tasks.dedup();
    let enough = if crash.is_hosted() { !tasks.is_empty() } else { tasks.len() >= SURVIVORS };
    hold(enough && (crash.is_hosted() || tasks.len() == survivors.len()), || {
        format!("{} survivors, not {SURVIVORS} at least, each another", tasks.len())
    })?;
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
    if !facts.all("balance.areas").is_empty() {
        let [before, after] = facts.numbers("balance.areas")?;
        hold(before == after, || format!("{before} areas of the vmalloc before, {after} after"))?;
        let [mapped, recorded] = facts.numbers("balance.area_pages")?;
        hold(mapped == recorded, || format!("the vmalloc has {mapped} pages mapped, and records of {recorded}"))?;
        let [before, after] = facts.numbers("balance.lent")?;
        hold(before == after, || format!("{before} frames were lent before, {after} after"))?;
    }
    // The port's memory is Linux's.
    if !facts.all("balance.owners").is_empty() {
        let [before, after] = facts.numbers("balance.owners")?;
        hold(before == after, || format!("{before} frames were shared by memories before, {after} are after"))?;
    }
    let [before, after] = facts.numbers("balance.tasks")?;
    hold(before == after, || format!("{before} tasks before, {after} after"))?;
    let slots = facts.number("balance.slots")?;
    hold(slots == 0, || format!("{slots} stacks are handed out that no task has"))?;
    // Only the port looks.
    let open = if facts.all("balance.open_guards").is_empty() { 0 } else { facts.number("balance.open_guards")? };
    hold(open == 0, || format!("{open} pages of guards are open"))
}

/// What is not back was counted as lost, and no more than this crash may lose. The port has no heap of its own.
fn heap_is_back(survival: &Survival, crash: &Evidence) -> Holds {
    if crash.is_hosted() {
        return Ok(());
    }
    let [before, after, lost] = crash.facts.numbers("balance.heap")?;
    // What frames may have owned is no less than what they did: a task that died may have given some of it back on its way out.
    hold(after <= before.saturating_add(lost), || {
        format!("{before} bytes of heap before, {after} after, {lost} counted as lost")
    })?;
    hold(lost <= survival.lost, || format!("{lost} bytes of heap are counted as lost, of {} at most", survival.lost))?;
    let [arenas, _, _] = crash.facts.numbers("balance.retired")?;
    let retired = arenas.checked_sub(crash.retired_before);
    hold(retired == Some(survival.retires), || {
        format!("{} arenas of the heap were given up before, {arenas} are now", crash.retired_before)
    })
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
        announced(stop, crash),
        reported(stop, crash),
        reports::each_is_whole(crash),
    ];
    let shortfalls = rules.into_iter().filter_map(Result::err).map(|Shortfall(what)| what).collect();
    let said = crash.facts.lines().iter().find(|line| line.text.starts_with(PANIC));
    let said = said.map_or_else(String::new, |line| line.text.clone());
    Judged { shortfalls, seen: Seen::new(1, said) }
}

/// The announcement says why, once, and comes after the last report, so that nothing is cut off.
fn announced(stop: &Stop, crash: &Evidence) -> Holds {
    let lines = crash.facts.lines();
    let last = |start: &str| lines.iter().rposition(|line| line.text.starts_with(start));
    let panics: Vec<&str> =
        lines.iter().map(|line| line.text.as_str()).filter(|line| line.starts_with(PANIC)).collect();
    let [panic] = panics[..] else {
        return Err(Shortfall(format!("{} lines begin `{PANIC}`, not one", panics.len())));
    };
    hold(panic.contains(stop.says), || format!("it stopped with `{panic}`, not because `{}`", stop.says))?;
    hold(panic.contains(stop.names), || format!("it stopped with `{panic}`, which does not name `{}`", stop.names))?;
    let at = last(PANIC);
    hold(last(REPORT) < at && last(FACT) < at, || "a report begins after the announcement".into())
}

fn reported(stop: &Stop, crash: &Evidence) -> Holds {
    let reports = reports::reports(crash)?;
    let other = reports.iter().find(|report| !report.state().contains(stop.state));
    hold(other.is_none(), || format!("a report does not say `{}` of where it was", stop.state))?;
    let (oopses, (least, most)) = (crash.oopses()?, stop.reports);
    let count = oopses.len();
    hold((least..=most).contains(&count), || format!("{count} reports, not {least} to {most}"))?;
    for Oops { number, finding, kind, cpu, .. } in &oopses {
        hold(*cpu < crash.cpus(), || format!("report {number} is of CPU {cpu}, of {}", crash.cpus()))?;
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
    let noticed =
        crash.facts.all("oops").len() + crash.facts.count_starting(REPORT) + crash.facts.count_starting(PANIC);
    let unnoticed = hold(noticed == 0, || "the attack was noticed where nothing is there to notice it".into());
    let rules = [hold(crash.ended, || "its end was never printed".into()), read(), unnoticed];
    let shortfalls = rules.into_iter().filter_map(Result::err).map(|Shortfall(what)| what).collect();
    let said = "without guards, the same program reads the kernel's word".to_owned();
    Judged { shortfalls, seen: Seen { said, ..Seen::default() } }
}
