//! What is expected of single crashes beyond the rules for all, from facts of their own.

use super::facts::{Evidence, Holds, Shortfall, Verdict, hold};
use super::reports::{self, Item};
use super::sweep::Run;

/// What an expectation of a single crash came to, beyond holding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its figure, if it has one of its own.
    pub(super) figure: Option<u64>,
    /// What to say of it.
    pub(super) said: String,
    /// The runs of the sweep.
    pub(super) runs: Vec<Run>,
}

impl Seen {
    pub(super) fn new(figure: usize, said: String) -> Self {
        Self { figure: Some(figure as u64), said, runs: Vec::new() }
    }
}

/// An expectation of a single crash.
pub(super) type Extra = fn(&Evidence) -> Result<Seen, Shortfall>;

/// How many handlers overflow in a row.
pub(super) const HANDLERS_IN_A_ROW: u64 = 110;
/// How many processes have a thread that overflows.
pub(super) const THREADS: usize = 4;
/// The word of a robust futex whose owner died, and that somebody waits for.
const OWNER_DIED: &str = "0xc0000000";
/// How often each CPU but the first goes offline and comes back.
pub(super) const HOTPLUGS: u64 = 100;
/// How interrupts are raised, and how else where there is a second CPU.
const SOURCES: [&str; 3] = ["ipi", "message", "line"];
const FROM_ANOTHER: &str = "ipi-from-another";
/// How often each is raised where its frame does not fit, at least.
const RUNS: usize = 3;
/// Kernel tasks of the storm, and the programs beside them.
const STORM_TASKS: u64 = 8000;
const STORM_PROGRAMS: usize = 2;

/// Each of `names` has one fact, whatever else has.
pub(super) fn each_is_there<const N: usize>(facts: &[(&str, [u64; N])], names: &[&str]) -> Holds {
    for name in names {
        let there = facts.iter().filter(|(there, _)| there == name).count();
        hold(there > 0, || format!("nothing is said of `{name}`"))?;
        hold(there == 1, || format!("`{name}` is told of {there} times"))?;
    }
    Ok(())
}

/// Each report names the area by these words.
pub(super) fn names(crash: &Evidence, area: &str) -> Result<Seen, Shortfall> {
    let silent = reports::reports(crash)?.into_iter().find(|report| !report.says(area));
    hold(silent.is_none(), || format!("report {} names no area", silent.map_or(0, |report| report.oops.number)))?;
    Ok(Seen { said: "the area and its caller are named".into(), ..Seen::default() })
}

/// Each CPU had one of the reports, which name the area; and its frames were not waited for any more.
pub(super) fn freed_everywhere(crash: &Evidence, area: &str) -> Result<Seen, Shortfall> {
    let mut cpus: Vec<u64> = crash.oopses()?.iter().map(|oops| oops.cpu).collect();
    cpus.sort_unstable();
    hold(cpus.iter().copied().eq(0..crash.cpus()), || format!("the CPUs that faulted are {cpus:?}"))?;
    let waiting = crash.facts.number("vmalloc.waiting")?;
    hold(waiting == 0, || format!("{waiting} pieces of the vmalloc wait for a shootdown still"))?;
    names(crash, area)
}

/// Every CPU had its share of the overflows.
pub(super) fn all_cpus(crash: &Evidence) -> Result<Seen, Shortfall> {
    let oopses = crash.oopses()?;
    let all = crash.cpus();
    for cpu in 0..all {
        let own = oopses.iter().filter(|oops| oops.cpu == cpu).count() as u64;
        let reports = oopses.len() as u64;
        hold(own * all == reports, || format!("CPU {cpu} had {own} of the {reports} overflows on {all} CPUs"))?;
        let full = reports::reports(crash)?.iter().any(|report| report.oops.cpu == cpu && report.is_full());
        hold(full, || format!("no report of CPU {cpu} is in full"))?;
    }
    Ok(Seen::default())
}

/// Of each victim's swallowed interrupt the handler overflowed too: it was given up, once.
pub(super) fn after_overflow(crash: &Evidence) -> Result<Seen, Shortfall> {
    let pairs = crash.facts.all("after");
    let expected = pairs.len() as u64 == crash.cpus() && pairs.iter().all(|words| words == &["1", "2"]);
    hold(expected, || format!("one dead task and two reports each: {pairs:?}"))?;
    let abandoned = crash.oopses()?.iter().filter(|oops| oops.verdict == Verdict::Abandoned).count() as u64;
    hold(abandoned == crash.cpus(), || format!("{abandoned} handlers were given up, not {}", crash.cpus()))?;
    Ok(Seen { said: "the swallowed interrupt's handler is given up, once".into(), ..Seen::default() })
}

/// More handlers in a row than the reporter has places for: each is reported.
pub(super) fn storm_of_handlers(crash: &Evidence) -> Result<Seen, Shortfall> {
    let [raised, reported] = crash.facts.numbers("handler.storm")?;
    hold(raised == HANDLERS_IN_A_ROW && reported == raised, || {
        format!("of {raised} handlers {reported} were reported")
    })?;
    Ok(Seen { said: format!("{raised} handlers in a row, each reported"), ..Seen::default() })
}

/// A line whose handler was given up was held back, and was heard when it was let through again.
pub(super) fn masked_line(crash: &Evidence) -> Result<Seen, Shortfall> {
    let [reported, masked, heard] = crash.facts.numbers("handler.line")?;
    hold([reported, masked, heard] == [1, 0, 1], || {
        format!("of the line: reported {reported}, served {masked} while it was masked, heard {heard} after")
    })?;
    Ok(Seen { said: "the line is masked until it is let through again".into(), ..Seen::default() })
}

/// Whoever dies while the console is held dies before it is free.
pub(super) fn console_busy(crash: &Evidence) -> Result<Seen, Shortfall> {
    let [others, killed] = crash.facts.numbers("console.busy")?;
    hold(killed == 1, || "the victim waited for the console".to_owned())?;
    let said =
        if others == 0 { "one CPU: nobody else could hold it" } else { "the report came when the console was free" };
    Ok(Seen { said: said.into(), ..Seen::default() })
}

/// On each CPU a handler was given up, and the next interrupt of the same source was heard.
pub(super) fn each_handler(crash: &Evidence) -> Result<Seen, Shortfall> {
    each_cpu(crash, "handler", [1, 1, 1], "[reported, sent again, heard again]")?;
    Ok(Seen { said: "each CPU hears the next one".into(), ..Seen::default() })
}

/// On each CPU an idle task was replaced, once.
pub(super) fn each_idle(crash: &Evidence) -> Result<Seen, Shortfall> {
    each_cpu(crash, "idle", [1], "[reports]")?;
    Ok(Seen { said: "each CPU idles anew".into(), ..Seen::default() })
}

/// For each CPU, in order, `fact NAME CPU` and then these numbers.
fn each_cpu<const N: usize>(crash: &Evidence, name: &str, expected: [u64; N], what: &str) -> Holds {
    let facts = crash.named::<N>(name)?;
    let cpus = facts.iter().map(|(cpu, _)| (*cpu).to_owned());
    let all = cpus.eq((0..crash.cpus()).map(|cpu| cpu.to_string()));
    hold(all, || format!("{} facts `{name}`, not one for each of {} CPUs", facts.len(), crash.cpus()))?;
    facts.iter().try_for_each(|(cpu, seen)| {
        hold(*seen == expected, || format!("on CPU {cpu} {what} was {seen:?}, not {expected:?}"))
    })
}

/// Everybody who was to overflow in the storm was started, and is dead.
pub(super) fn storm(crash: &Evidence) -> Result<Seen, Shortfall> {
    if crash.is_hosted() {
        return Ok(Seen::default());
    }
    let [started, killed] = crash.facts.numbers("storm.tasks")?;
    hold([started, killed] == [STORM_TASKS; 2], || {
        format!("{started} tasks were started in the storm, and {killed} killed, not {STORM_TASKS}")
    })?;
    let programs = crash.victims()?.len();
    hold(programs == STORM_PROGRAMS, || format!("{programs} programs overflowed in the storm, not {STORM_PROGRAMS}"))?;
    Ok(Seen { said: format!("{killed} of the victims were kernel tasks, the others processes"), ..Seen::default() })
}

/// Grace periods went on, nothing waits for one any more, and no reader lost what it read.
fn graces(crash: &Evidence) -> Result<String, Shortfall> {
    let [before, after] = crash.facts.numbers("rcu.periods")?;
    let over = after.saturating_sub(before);
    hold(over >= 3, || format!("{over} grace periods were over after it, not 3 at least"))?;
    let pending = crash.facts.number("rcu.pending")?;
    hold(pending == 0, || format!("{pending} callbacks still wait for a grace period"))?;
    let [reads, stale, replaced] = crash.facts.numbers("rcu.readers")?;
    hold(stale == 0, || format!("{stale} of {reads} readers lost what they read"))?;
    hold(reads > 0 && replaced > 0, || format!("{reads} reads, and {replaced} replacements: nothing is shown"))?;
    let [looks, calls] = crash.facts.numbers("stack.looks")?;
    hold(looks > 0 && calls > looks, || format!("{calls} calls were seen in {looks} looks at others' stacks"))?;
    Ok(format!("{over} grace periods, {reads} reads of {replaced} objects, {looks} looks at stacks"))
}

/// Each process whose thread overflowed was killed by SIGSEGV and is gone, with all its threads; whoever waited for its futex knows.
pub(super) fn in_thread(crash: &Evidence) -> Result<Seen, Shortfall> {
    let seen = crash.facts.all("thread");
    hold(seen.len() == THREADS, || format!("{} threads overflowed, not {THREADS}", seen.len()))?;
    for words in seen {
        hold(*words == ["11", OWNER_DIED, "0", "0"], || {
            format!("status, futex, threads that are left, and whether it is there: {}", words.join(" "))
        })?;
    }
    Ok(Seen {
        said: "the whole process is killed each time, and who waited for its futex knows".into(),
        ..Seen::default()
    })
}

/// A reader's end did not stop grace periods, and did not hurt others' readers.
pub(super) fn reader(crash: &Evidence) -> Result<Seen, Shortfall> {
    let [before, after] = crash.facts.numbers("stack.leaked")?;
    hold(after == before + 1, || format!("{before} stacks were leaked before, {after} after the one of a live task"))?;
    Ok(Seen { said: graces(crash)?, ..Seen::default() })
}

/// Each CPU but the first went, and came back, each time; every task that was started ended, and those that overflowed were killed.
pub(super) fn hotplug(crash: &Evidence) -> Result<Seen, Shortfall> {
    let said = graces(crash)?;
    let [asked, gone, back, refused] = crash.facts.numbers("hotplug")?;
    hold(asked == HOTPLUGS * (crash.cpus() - 1) && gone == asked && back == asked, || {
        format!("of {asked} times CPUs went offline {gone} times and came back {back} times")
    })?;
    hold(refused == 1, || "CPU 0 went offline".into())?;
    for fact in ["hotplug.tasks", "hotplug.overflows"] {
        for (what, [started, ended]) in crash.named::<2>(fact)? {
            hold(started == ended && started > 0, || format!("{started} tasks were started, and {ended} {what}"))?;
        }
    }
    Ok(Seen { said: format!("CPUs went and came {asked} times; {said}"), ..Seen::default() })
}

/// Interrupts were raised in each way: every one of them killed its victim and was served, once, and the source works after it.
pub(super) fn each_source(crash: &Evidence) -> Result<Seen, Shortfall> {
    let sums = crash.named::<2>("interrupts")?;
    let mut sources = SOURCES.to_vec();
    sources.extend((crash.cpus() > 1).then_some(FROM_ANOTHER));
    let after = sources.iter().map(|source| format!("{source}-after")).collect::<Vec<_>>();
    each_is_there(&sums, &sources)?;
    each_is_there(&sums, &after.iter().map(String::as_str).collect::<Vec<_>>())?;
    let mut runs: Vec<[&str; 3]> = Vec::new();
    let mut deaths = 0;
    let items = reports::items(crash)?;
    for item in &items {
        match item {
            Item::Report(_) => deaths += 1,
            Item::Fact(words) => match *words.as_slice() {
                ["interrupts.run", name, left, served] => runs.push([name, left, served]),
                ["interrupts", name, raised, served] => {
                    one_source(name, [raised, served], &runs, core::mem::take(&mut deaths))?;
                    runs.clear();
                }
                _ => {}
            },
        }
    }
    hold(deaths == 0, || format!("{deaths} deaths are of no source"))?;
    let served: Vec<String> = sums.iter().map(|(name, [_, served])| format!("{served} by {name}")).collect();
    let figure = sums.iter().map(|(_, [_, served])| served).sum();
    let said = format!("interrupts served: {}", served.join(", "));
    Ok(Seen { figure: Some(figure), said, ..Seen::default() })
}

/// The runs of one source since the last one, and who died meanwhile. With room enough there is one interrupt, and nobody dies.
fn one_source(source: &str, sums: [&str; 2], runs: &[[&str; 3]], deaths: usize) -> Holds {
    if source.ends_with("-after") {
        return hold(sums == ["1", "1"] && runs.is_empty() && deaths == 0, || {
            format!("of `{source}` {sums:?} were raised and served, with {deaths} deaths: not 1, 1 and 0")
        });
    }
    let bad = runs.iter().find(|[name, _, served]| *name != source || *served != "1");
    hold(bad.is_none(), || format!("an interrupt was raised, and not served once: {bad:?}"))?;
    let mut places: Vec<&str> = runs.iter().map(|[_, left, _]| *left).collect();
    places.sort_unstable();
    places.dedup();
    hold(places.len() == runs.len() && runs.len() >= RUNS, || {
        format!("`{source}` was raised with {places:?} bytes left, not {RUNS} times at least, each elsewhere")
    })?;
    hold(deaths == runs.len(), || format!("`{source}` was raised {} times, and {deaths} died of it", runs.len()))?;
    let count = runs.len().to_string();
    hold(sums == [count.as_str(); 2], || format!("`{source}` was raised {count} times, and the sums are {sums:?}"))
}

/// The word that no program may read.
pub(super) fn secret(crash: &Evidence) -> Result<&str, Shortfall> {
    match crash.facts.all("attack.secret") {
        [words] if words.len() == 1 => Ok(&words[0]),
        all => Err(Shortfall(format!("the guest printed {} usable facts `attack.secret`, not one", all.len()))),
    }
}

/// Whether the attacker showed that it had read `secret`.
pub(super) fn was_read(crash: &Evidence, secret: &str) -> bool {
    crash.facts.all("attack.read").iter().any(|words| words.join(" ").contains(secret))
}

/// The attacker never read the word that it was after, and the child that tried was killed.
pub(super) fn attack_fails(crash: &Evidence) -> Result<Seen, Shortfall> {
    let secret = secret(crash)?;
    hold(!was_read(crash, secret), || format!("the program read the kernel's word `{secret}`"))?;
    let [_, status] = crash.facts.numbers("attack.end")?;
    hold(status & 0x7f == 11, || format!("the attacker ended with {status:#x}, and was not killed"))?;
    Ok(Seen { said: "the attacker is killed and reads nothing".into(), ..Seen::default() })
}
