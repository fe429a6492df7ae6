//! The suite `hit`: how often a stack is ready when a task is made, in a build.
//!
//! `programs/src/bin/compile` builds, as far as processes and their stacks are concerned: what it is modelled on is in its essay. It prints the
//! kernel's own counters of before and after; here they become rates. A *hit* is a stack that was handed out as it lay ready: with its CPU, or in
//! the depot. It takes no frame and writes no page-table entry; that this is so is shown on a platform which counts both
//! (`crates/vmstack/tests/compile.rs`). What is no hit is made from frames.
//!
//! ```text
//!   mapped stacks ─► one boot, a pass for each budget ─┬─► table
//!   freed after RCU ─► one boot, likewise              └─► findings: cache.hit_rate[.rcu_delayed][.PASS], cache.held
//! ```
//!
//! The same build with stacks that wait for a grace period shows what is in the trap of the cure: they come back late and many at once, so more are
//! taken than are in use, and more are ready than may be kept.

use super::Setting;
use super::crowd::{Seen, Trial, verdict};
use crate::checks::{Aim, Check};
use crate::console::{BadFact, Transcript};
use crate::emulator::scratch;
use crate::failure::Failure;
use crate::report::{decimal, grouped, show_figures};
use crate::screen::Screen;

/// The CPUs of the machine, and its memory in MiB.
const CPUS: u32 = 4;
const MEMORY: u32 = 256;
/// How many directories there are to build.
const DIRECTORIES: u32 = 29;
/// The least part of all stacks that is to be ready, and the most that may be kept for it, in percent.
const READY: Aim = Aim::AtLeast(95.0);
const KEPT: Aim = Aim::AtMost(10.0);

/// One build of a boot.
struct Pass {
    /// As the program names it: bursts, and what may be kept in percent.
    word: &'static str,
    /// Behind the name of the boot's findings; the first of them has the name alone.
    part: &'static str,
    what: &'static str,
}

/// The pass that is judged.
const JUDGED: Pass = Pass { word: "4/10", part: "hit_rate", what: "10 % kept" };

/// The builds with stacks that are given back at once, in their order.
const AT_ONCE: [Pass; 6] = [
    Pass { word: "4/own", part: "hit_rate.own", what: "as many kept as the kernel keeps by itself" },
    JUDGED,
    Pass { word: "4/5", part: "hit_rate.kept5", what: "5 % kept" },
    Pass { word: "4/2", part: "hit_rate.kept2", what: "2 % kept" },
    Pass { word: "1/10", part: "hit_rate.burst1", what: "10 % kept, all in one burst" },
    Pass { word: "29/10", part: "hit_rate.burst29", what: "10 % kept, each directory a burst" },
];

/// The builds with stacks that wait for a grace period.
const LATE: [Pass; 2] = [
    Pass { word: "4/own", part: "hit_rate.rcu_delayed.own", what: "after a grace period; as many kept as by itself" },
    Pass { word: "4/10", part: "hit_rate.rcu_delayed", what: "after a grace period; 10 % kept" },
];

/// Runs the suite.
pub(super) fn run(setting: &Setting<'_>, screen: &mut Screen) -> Result<Vec<Check>, Failure> {
    let folder = scratch()?;
    let archive = setting.boots.write_archive(folder.path())?;
    screen.heading("How often a stack is ready, in a build on 4 CPUs");
    let mut checks = Vec::new();
    for (stacks, passes) in [("virtual", AT_ONCE.as_slice()), ("rcu", &LATE)] {
        let directories = setting.samples.map(|samples| samples.min(DIRECTORIES).to_string());
        let mut program = vec!["/bin/compile"];
        program.extend(directories.iter().flat_map(|directories| ["--directories", directories]));
        program.extend(passes.iter().map(|pass| pass.word));
        let words = [("stacks", stacks)];
        let trial = Trial { name: "cache", words: &words, program: &program, memory: MEMORY, cpus: CPUS };
        let seen = trial.run(setting, &archive, screen)?;
        checks.extend(passes.iter().map(|pass| pass.rate(&seen)));
        if stacks == "virtual" {
            checks.push(held(&seen));
        }
        checks.push(Check { name: format!("cache.balance.{stacks}"), ..seen.balance() });
    }
    show_figures(screen, &checks);
    Ok(checks)
}

/// What was counted in a pass.
struct Counted {
    started: u64,
    elsewhere: u64,
    limit: u64,
    allocated: u64,
    hits: u64,
    depot: u64,
    made: u64,
    peak: u64,
    most: u64,
    mean: u64,
    handed_out: u64,
}

impl Counted {
    fn of(facts: &Transcript, pass: &str) -> Result<Self, BadFact> {
        let [started, elsewhere, _] = numbers(facts, "compile.processes", pass)?;
        let [limit, allocated, hits, depot, made] = numbers(facts, "compile.stacks", pass)?;
        let [peak, most, mean, _, handed_out] = numbers(facts, "compile.held", pass)?;
        let counted = Self { started, elsewhere, limit, allocated, hits, depot, made, peak, most, mean, handed_out };
        if allocated < started || allocated != hits + depot + made || peak == 0 {
            let what = format!("{allocated} stacks for {started} processes: {hits}, {depot}, {made}; {peak} bytes");
            return Err(BadFact::Malformed("compile.stacks".into(), what, 5));
        }
        Ok(counted)
    }

    fn percent_ready(&self) -> f64 {
        percent(self.hits + self.depot, self.allocated)
    }

    fn percent_held(&self) -> f64 {
        percent(self.most, self.peak)
    }
}

fn percent(part: u64, all: u64) -> f64 {
    100.0 * part as f64 / all as f64
}

/// The numbers of the one fact `name` whose first word is `pass`.
fn numbers<const N: usize>(facts: &Transcript, name: &str, pass: &str) -> Result<[u64; N], BadFact> {
    let missing = || BadFact::Missing(format!("{name} {pass}"));
    let words = facts.all(name).iter().find(|words| words.first().is_some_and(|first| first == pass));
    let numbers: Option<Vec<u64>> = words.ok_or_else(missing)?[1..].iter().map(|word| word.parse().ok()).collect();
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(missing)
}

impl Pass {
    /// How often a stack was ready.
    fn rate(&self, seen: &Seen) -> Check {
        seen.check(self.part, |facts| {
            let counted = Counted::of(facts, self.word)?;
            let rate = counted.percent_ready();
            let check = verdict(true, self.detail(&counted)).with_measured(rate, "% of stacks");
            Ok(if self.word == JUDGED.word && self.part == JUDGED.part { check.judged(rate, READY) } else { check })
        })
    }

    fn detail(&self, counted: &Counted) -> String {
        let Counted { started, elsewhere, limit, allocated, hits, depot, made, .. } = counted;
        format!(
            "{}: of {} stacks {} were with the CPU, {} in the depot, and {} were made; {} of {} processes ended \
             elsewhere; {} may be kept, and at most {}% of {} KiB in use were, {}% on average; {} KiB were handed out",
            self.what,
            grouped(*allocated),
            grouped(*hits),
            grouped(*depot),
            grouped(*made),
            grouped(*elsewhere),
            grouped(*started),
            grouped(*limit),
            decimal(counted.percent_held()),
            grouped(counted.peak / 1024),
            decimal(percent(counted.mean, counted.peak)),
            grouped(counted.handed_out / 1024),
        )
    }
}

/// The bytes that were kept ready in the pass that is judged.
fn held(seen: &Seen) -> Check {
    seen.check("held", |facts| {
        let counted = Counted::of(facts, JUDGED.word)?;
        let held = counted.percent_held();
        let detail = format!(
            "{} bytes of ready stacks were kept at most, where {} bytes of stacks were in use at once",
            grouped(counted.most),
            grouped(counted.peak)
        );
        Ok(verdict(true, detail).with_measured(held, "% of the peak").judged(held, KEPT))
    })
}

#[cfg(test)]
mod tests {
    use super::{AT_ONCE, JUDGED, held};
    use crate::bench::crowd::Seen;
    use crate::checks::{Check, Verdict};
    use crate::console::Transcript;
    use crate::outcome::Outcome;

    const LOG: &str = "fact compile.processes 4/10 4000 2000 32\nfact compile.stacks 4/10 14 4000 1900 1900 200\n\
                       fact compile.held 4/10 2359296 229376 131072 0 2310144\nexit 0\n";

    fn seen(log: &str) -> Seen {
        Seen::of("cache", Outcome::Orderly, Transcript::of(log))
    }

    fn rate(log: &str) -> Check {
        JUDGED.rate(&seen(log))
    }

    #[test]
    fn nineteen_of_twenty_are_enough_and_one_less_is_not() {
        let good = rate(LOG);
        assert_eq!(
            (good.name.as_str(), good.outcome, good.figure.clone()),
            ("cache.hit_rate", Verdict::Pass, Some(95.into()))
        );
        assert!(good.detail.contains("2,000 of 4,000 processes ended elsewhere"), "{}", good.detail);
        assert_eq!(rate(&LOG.replace("1900 1900 200", "1900 1899 201")).outcome, Verdict::Fail);
    }

    #[test]
    fn counts_that_do_not_add_up_are_not_believed() {
        for bad in [LOG.replace("1900 200", "1900 199"), LOG.replace("14 4000", "14 3999"), LOG.replace("2359296", "0")]
        {
            assert!(rate(&bad).figure.is_none(), "{bad}");
        }
        assert_eq!(rate(&LOG.replace("exit 0", "exit 1")).outcome, Verdict::Fail);
    }

    #[test]
    fn more_than_a_tenth_kept_falls_short_and_other_passes_are_not_judged() {
        assert_eq!(held(&seen(LOG)).outcome, Verdict::Pass);
        assert_eq!(held(&seen(&LOG.replace("229376", "245760"))).outcome, Verdict::Fail);
        let other = LOG.replace("4/10", "29/10").replace("1900 1900 200", "0 0 4000");
        assert_eq!(AT_ONCE[5].rate(&seen(&other)).outcome, Verdict::Pass);
        assert_eq!(AT_ONCE[4].rate(&seen(&other)).outcome, Verdict::Fail, "it is not there");
    }
}
