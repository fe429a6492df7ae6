//! What is expected of single crashes beyond the rules for all, from facts of their own.

use super::facts::{Evidence, Holds, Shortfall, hold};
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

/// The locks that may stop the machine: each has a boot of its own.
const VITAL: [&str; 3] = ["frame-allocator", "page-tables", "run-queue"];
/// The ways to ask for a lock.
const WAYS: [&str; 4] = ["spin", "mutex", "read", "write"];
/// How interrupts are raised.
const SOURCES: [&str; 3] = ["ipi", "message", "line"];

/// Whether `name` says its lock or its source, or begins so: `spin.2` is a spin lock.
fn is_of(name: &str, group: &str) -> bool {
    name.strip_prefix(group).is_some_and(|rest| rest.is_empty() || !rest.starts_with(char::is_alphanumeric))
}

/// The names and kinds of all `fact lock` lines.
fn locks(crash: &Evidence) -> Vec<(&str, &str)> {
    let words = crash.facts.all("lock").iter();
    words.filter_map(|words| Some((words.first()?.as_str(), words.get(1)?.as_str()))).collect()
}

/// Each lock was held by a victim once; those that may stop the machine have boots of their own, and are all known here.
pub(super) fn each_lock(crash: &Evidence) -> Result<Seen, Shortfall> {
    let locks = locks(crash);
    let others: Vec<&str> = locks.iter().filter(|(_, kind)| *kind != "vital").map(|(name, _)| *name).collect();
    let strange = locks.iter().find(|(name, kind)| *kind == "vital" && !VITAL.contains(name));
    if let Some((name, _)) = strange {
        return Err(Shortfall(format!("the lock `{name}` may stop the machine, and has no boot of its own")));
    }
    let reports = crash.oopses()?.len();
    hold(!others.is_empty() && reports >= others.len(), || {
        format!(
            "{} locks are declared that a killed task may hold, and {reports} overflows were reported",
            others.len()
        )
    })?;
    for (lock, [waiters, _, poisoned]) in crash.named::<3>("lock.waiters")? {
        hold(waiters == poisoned, || {
            format!("{poisoned} of {waiters} waiters were told that the lock `{lock}` is poisoned")
        })?;
    }
    Ok(Seen::new(others.len(), format!("{} locks: {}", others.len(), others.join(", "))))
}

/// Locks were asked for in each way; some died of it, and the lock can be had after.
pub(super) fn each_way_to_wait(crash: &Evidence) -> Result<Seen, Shortfall> {
    let facts = crash.named::<3>("waiting")?;
    each_is_there(&facts, &WAYS)?;
    for (way, [started, died, got]) in &facts {
        some_died(way, *started, *died)?;
        hold(*got == 1, || format!("after those that died, nobody gets the lock by `{way}`"))?;
    }
    let told: Vec<String> =
        facts.iter().map(|(way, [started, died, _])| format!("{way} {died} of {started}")).collect();
    Ok(Seen { said: format!("died: {}", told.join(", ")), ..Seen::default() })
}

/// The locks that may stop the machine were asked for with less and less room; some died of it, outside.
pub(super) fn each_door(crash: &Evidence) -> Result<Seen, Shortfall> {
    let facts = crash.named::<2>("taking")?;
    each_is_there(&facts, &VITAL)?;
    facts.iter().try_for_each(|(lock, [started, died])| some_died(lock, *started, *died))?;
    let told: Vec<String> = facts.iter().map(|(lock, [started, died])| format!("{lock} {died} of {started}")).collect();
    Ok(Seen { said: format!("died at the door: {}", told.join(", ")), ..Seen::default() })
}

fn each_is_there<const N: usize>(facts: &[(&str, [u64; N])], names: &[&str]) -> Holds {
    let missing = names.iter().find(|name| !facts.iter().any(|(there, _)| there == *name));
    hold(missing.is_none(), || format!("nothing is said of `{}`", missing.unwrap_or(&"")))
}

fn some_died(name: &str, started: u64, died: u64) -> Holds {
    hold(died > 0 && died < started, || {
        format!("of {started} that asked for `{name}` {died} died: not some, and not all")
    })
}

/// What the victim's frames owned is back, or counted as lost.
pub(super) fn owning(crash: &Evidence) -> Result<Seen, Shortfall> {
    let [owned, bytes, objects] = crash.facts.numbers("owning.heap")?;
    hold(bytes >= owned && objects > 0, || {
        format!("{owned} bytes were owned by frames, and {bytes} are counted as lost")
    })?;
    let pointers = crash.facts.number("owning.pointers")?;
    hold(pointers == 1, || format!("{pointers} owners of a counted pointer are left, not 1"))?;
    let said = format!("{bytes} bytes in {objects} objects counted as lost, pointer, file, pin and lock given back");
    Ok(Seen { said, ..Seen::default() })
}

/// Every CPU had its share of the overflows.
pub(super) fn all_cpus(crash: &Evidence) -> Result<Seen, Shortfall> {
    let oopses = crash.oopses()?;
    let all = crash.cpus();
    for cpu in 0..all {
        let own = oopses.iter().filter(|oops| oops.cpu == cpu).count() as u64;
        let reports = oopses.len() as u64;
        hold(own * all == reports, || format!("CPU {cpu} had {own} of the {reports} overflows on {all} CPUs"))?;
    }
    Ok(Seen::default())
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
    hold(started == killed, || format!("{started} tasks were started in the storm, and {killed} killed"))?;
    Ok(Seen { said: format!("{killed} of the victims were kernel tasks, the others processes"), ..Seen::default() })
}

/// Interrupts were raised in each of the three ways. That all were served is a rule for every crash.
pub(super) fn each_source(crash: &Evidence) -> Result<Seen, Shortfall> {
    let interrupts = crash.named::<2>("interrupts")?;
    for source in SOURCES {
        let raised = interrupts.iter().filter(|(name, _)| is_of(name, source)).map(|(_, [raised, _])| raised);
        hold(raised.sum::<u64>() > 0, || format!("no interrupt was raised by `{source}`"))?;
    }
    let served: Vec<String> = interrupts.iter().map(|(name, [_, served])| format!("{served} by {name}")).collect();
    let figure = interrupts.iter().map(|(_, [_, served])| served).sum();
    let said = format!("interrupts served: {}", served.join(", "));
    Ok(Seen { figure: Some(figure), said, ..Seen::default() })
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
