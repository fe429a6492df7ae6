//! What is expected of crashes that are about locks, and about what a victim's frames own.

use super::facts::{Evidence, Holds, Shortfall, hold, odd};
use super::reports::{self, Item, Report};
use super::special::{Seen, each_is_there};

/// The locks that may stop the machine: each has a boot of its own.
const VITAL: [&str; 8] =
    ["frame-allocator", "page-tables", "run-queue", "task-structs", "heap-small", "process-tree", "disk", "pci-ports"];
/// The locks that a task waits for while their holder dies.
const SPECIMENS: [&str; 3] = ["specimen-spin", "specimen-mutex", "specimen-rwlock"];
/// The locks that must be among those that are held.
const KNOWN: [&str; 7] =
    ["heap", "console", "process-memory", "process-files", "specimen-spin", "specimen-mutex", "specimen-rwlock"];
/// The ways to ask for a lock.
const WAYS: [&str; 4] = ["spin", "mutex", "read", "write"];
/// The locks whose next holder repairs what they protect: nobody finds them poisoned.
const REPAIRED: [&str; 2] = ["heap", "console"];
/// How the locks of a process begin, which go with it.
const OF_A_PROCESS: &str = "process-";
/// How much more than a victim's frames owned may be counted as lost, in bytes: a heap rounds up.
const ROUNDING: u64 = 512;

/// A `fact lock`.
#[derive(Clone, Copy, Debug)]
struct Lock<'a> {
    name: &'a str,
    kind: &'a str,
    state: &'a str,
}

impl<'a> Lock<'a> {
    fn read(words: &[&'a str]) -> Result<Self, Shortfall> {
        match *words {
            ["lock", name, kind, state] => Ok(Self { name, kind, state }),
            _ => Err(odd("lock", &words.iter().skip(1).map(|word| (*word).to_owned()).collect::<Vec<_>>())),
        }
    }

    /// How it must be left by a holder that was killed.
    fn expected(self) -> &'static str {
        match self {
            Self { kind: "shared" | "vital", .. } => "free",
            Self { name, .. } if REPAIRED.contains(&name) => "free",
            Self { name, .. } if name.starts_with(OF_A_PROCESS) => "gone",
            _ => "poisoned",
        }
    }

    /// It is left as it must be, and each of `reports`, which came before it, says that it was held.
    fn was_held_in(self, reports: &[Report<'_>]) -> Holds {
        let Self { name, kind, state } = self;
        let expected = self.expected();
        hold(state == expected, || format!("the {kind} lock `{name}` is left {state}, not {expected}"))?;
        if kind == "vital" {
            return hold(VITAL.contains(&name), || {
                format!("the lock `{name}` may stop the machine, and has no boot of its own")
            });
        }
        hold(!reports.is_empty(), || format!("nobody overflowed while the lock `{name}` was held"))?;
        // A reader leaves no poison.
        let given = if kind == "shared" { name.to_owned() } else { format!("{name} (poisoned)") };
        reports.iter().try_for_each(|report| {
            let holding = report.state().split_once(", holding ").map_or("", |(_, names)| names);
            let holds = holding.split(", ").any(|held| held == name) && report.locks().contains(&given.as_str());
            hold(holds, || format!("report {} does not say that `{given}` was held", report.oops.number))
        })
    }
}

/// Each lock was held by a victim once; those that may stop the machine have boots of their own, and are all known here.
pub(super) fn each_lock(crash: &Evidence) -> Result<Seen, Shortfall> {
    let mut locks: Vec<Lock<'_>> = Vec::new();
    let mut before = Vec::new();
    let items = reports::items(crash)?;
    for item in &items {
        match item {
            Item::Report(report) => before.push(report.clone()),
            Item::Fact(words) if words.first() == Some(&"lock") => {
                let lock = Lock::read(words)?;
                lock.was_held_in(&before)?;
                let twice = locks.iter().any(|known| (known.name, known.kind) == (lock.name, lock.kind));
                hold(!twice, || format!("the {} lock `{}` is told of twice", lock.kind, lock.name))?;
                locks.push(lock);
                before.clear();
            }
            Item::Fact(_) => {}
        }
    }
    hold(before.is_empty(), || format!("{} reports are of no lock", before.len()))?;
    let names: Vec<&str> =
        locks.iter().filter(|lock| !["vital", "shared"].contains(&lock.kind)).map(|lock| lock.name).collect();
    all_told(&names, &KNOWN)?;
    let shared = locks.iter().any(|lock| lock.kind == "shared");
    hold(shared, || "no reader was killed".into())?;
    each_waiter(crash)?;
    few_values_left(crash, locks.iter().filter(|lock| lock.state == "poisoned").count() as u64)?;
    Ok(Seen::new(names.len(), format!("{} locks: {}", names.len(), names.join(", "))))
}

fn all_told(names: &[&str], known: &[&str]) -> Holds {
    let missing = known.iter().find(|known| !names.contains(known));
    hold(missing.is_none(), || format!("nothing is said of `{}`", missing.unwrap_or(&"")))
}

/// Whoever waited for a lock got it, and was told that it is poisoned.
fn each_waiter(crash: &Evidence) -> Holds {
    let facts = crash.named::<3>("lock.waiters")?;
    each_is_there(&facts, &SPECIMENS)?;
    for (lock, [waiters, got, poisoned]) in facts {
        hold(got == 0 && waiters == poisoned, || {
            format!("{poisoned} of {waiters} waiters were told that the lock `{lock}` is poisoned, {got} got it whole")
        })?;
        // Who spins needs a CPU beside the holder's.
        let nobody_can = lock == "specimen-spin" && crash.cpus() == 1;
        hold(waiters > 0 || nobody_can, || format!("nobody waited for the lock `{lock}`"))?;
    }
    Ok(())
}

/// What poisoned locks protected and nobody may drop is no more than one value each.
fn few_values_left(crash: &Evidence, poisoned: u64) -> Holds {
    let left = crash.facts.number("locks.values_left")?;
    hold(left <= poisoned, || format!("{left} values are left behind by {poisoned} poisoned locks"))
}

/// Locks were asked for in each way; some died of it, and the lock can be had after.
pub(super) fn each_way_to_wait(crash: &Evidence) -> Result<Seen, Shortfall> {
    let facts = crash.named::<3>("waiting")?;
    each_is_there(&facts, &WAYS)?;
    for (way, [started, died, got]) in &facts {
        some_died(way, *started, *died)?;
        hold(*got == 1, || format!("after those that died, nobody gets the lock by `{way}`"))?;
    }
    let parked = crash.named::<1>("waiting.parked")?;
    each_is_there(&parked, &WAYS)?;
    for (way, [parked]) in parked {
        hold(parked == 0, || format!("{parked} tasks are still parked where `{way}` waited"))?;
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

fn some_died(name: &str, started: u64, died: u64) -> Holds {
    hold(died > 0 && died < started, || {
        format!("of {started} that asked for `{name}` {died} died: not some, and not all")
    })
}

/// What the victim's frames owned is back, and said to be, or counted as lost.
pub(super) fn owning(crash: &Evidence) -> Result<Seen, Shortfall> {
    let [owned, bytes, objects] = crash.facts.numbers("owning.heap")?;
    let [_, _, lost] = crash.facts.numbers("balance.heap")?;
    hold(bytes >= owned && bytes <= owned + ROUNDING && objects > 0 && lost == bytes, || {
        format!("{owned} bytes were owned by frames, {bytes} are counted as lost, and {lost} in all")
    })?;
    let pointers = crash.facts.number("owning.pointers")?;
    hold(pointers == 1, || format!("{pointers} owners of a counted pointer are left, not 1"))?;
    let interrupts = crash.facts.number("owning.interrupts")?;
    hold(interrupts == 1, || "what was kept was given back with interrupts off".to_owned())?;
    for report in reports::reports(crash)? {
        let given = report.done().find_map(|clause| clause.strip_prefix("given back: ")).unwrap_or_default();
        let given: Vec<&str> = given.split(", ").collect();
        let missing = ["file", "counted pointer", "pin"].into_iter().find(|kept| !given.contains(kept));
        hold(missing.is_none(), || format!("the {} was not given back", missing.unwrap_or_default()))?;
        let locks = report.locks();
        hold(locks == ["specimen-mutex (poisoned)"], || format!("the locks that were held are {locks:?}"))?;
    }
    let lock = crash.facts.all("lock").first().map_or_else(String::new, |words| words.join(" "));
    hold(lock == "specimen-mutex mutex poisoned", || format!("the lock that was held is left as `{lock}`"))?;
    let said = format!("{bytes} bytes in {objects} objects counted as lost, pointer, file, pin and lock given back");
    Ok(Seen { said, ..Seen::default() })
}
