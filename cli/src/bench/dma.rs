//! The suite `dma`, as far as it boots: what the door to devices costs a kernel, and a disk that reads and writes memory of every sort.
//!
//! Four boots. `mode=dma` counts (`kernel/src/count/dma.rs`). `mode=requests` makes requests at random on four CPUs, with every byte compared
//! (`kernel/src/requests.rs`); then once with a disk whose sectors fail, and once with one that does not answer in time.
//!
//! The figures are told apart from those of this process (`hosted::dma`) by their names: `dma.disk...` are of a disk that the emulator has.

use super::Setting;
use super::counted::{Facts, Figure, INSTRUCTIONS, Trial};
use crate::checks::{Aim, Check};
use crate::console::{BadFact, Transcript};
use crate::emulator::{Fault, scratch};
use crate::failure::Failure;
use crate::report::{grouped, show_figures};
use crate::screen::Screen;
use crate::words::Words;

/// The memory of the machine, in MiB.
const MEMORY: u32 = 256;
/// Requests at random, when the user does not say: transfers, and what is refused beside them.
const REQUESTS: u32 = 125_000;
const CPUS: u32 = 4;
/// The most that the check may take.
const MOST_TO_CHECK: f64 = 12.0;
/// The most that a bounced request of one sector may take, of one with a buffer of its own.
const MOST_TO_BOUNCE: f64 = 1.3;
/// Descriptors of the ring.
const RING: u64 = 64;

/// Where a checked address lies.
const PLACES: [(&str, &str); 3] = [
    ("direct", "in the direct map"),
    ("heap", "in the kernel's heap, which is mapped page by page beside the stacks"),
    ("static", "in the kernel's image, as the boot stacks are"),
];

/// Runs it, and shows it.
pub(super) fn run(setting: &Setting<'_>, screen: &mut Screen) -> Result<Vec<Check>, Failure> {
    let folder = scratch()?;
    let archive = setting.boots.write_archive(folder.path())?;
    screen.heading("What the door to devices costs, in instructions");
    let counted = Trial { disk: Some(Fault::None), ..Trial::of("dma", true, MEMORY) };
    let mut checks = costs(&counted.run(setting, &archive, screen)?);
    show_figures(screen, &checks);
    screen.heading("Requests at random, on four CPUs, by a disk");
    let count = setting.samples.unwrap_or(REQUESTS);
    let random = requests(Some(Fault::None), &[("count", &count.to_string())]).run(setting, &archive, screen)?;
    let silent = requests(Some(Fault::Slow), &[("disk", "silent")]).run(setting, &archive, screen)?;
    let failing = requests(Some(Fault::BadSectors), &[("disk", "failing")]).run(setting, &archive, screen)?;
    let rest = [at_random(&random, count), errors(&failing, &silent)].concat();
    show_figures(screen, &rest);
    checks.extend(rest);
    Ok(checks)
}

/// A boot of `mode=requests`.
fn requests(disk: Option<Fault>, words: &[(&str, &str)]) -> Trial {
    let words = words.iter().fold(Words::mode("requests"), |words, (name, value)| words.with(name, value));
    Trial { words, counting: false, cpus: CPUS, memory: MEMORY, disk }
}

/// What the check costs, and a request.
fn costs(facts: &Facts) -> Vec<Check> {
    let checks = PLACES.iter().map(|(place, what)| {
        facts.check(&format!("dma.check.{place}"), Some(Aim::AtMost(MOST_TO_CHECK)), |facts| {
            let [cost, suspected] = facts.numbers(&format!("dma.check.{place}"))?;
            let said = if suspected == 0 { "found to be no stack's" } else { "looked at, for it lies among stacks" };
            Ok(Figure::instructions(cost, format!("an address {what}, {said}")))
        })
    });
    let request = |how: &str, aim| {
        let name = format!("dma.request.{how}");
        facts.check(&name, aim, |facts| ratio(facts, &name, how))
    };
    checks.chain([request("bounced", Some(Aim::AtMost(MOST_TO_BOUNCE))), request("mapped", None)]).collect()
}

/// What a request takes whose sector is on the caller's stack, of one with a buffer of its own.
fn ratio(facts: &Transcript, name: &str, how: &str) -> Result<Figure, BadFact> {
    let [owned, on_stack] = facts.numbers(name)?;
    let detail = format!(
        "a sector on the stack, {how}: {} {INSTRUCTIONS} to send and to end it; with a buffer that owns its frames {}",
        grouped(on_stack),
        grouped(owned)
    );
    Ok(Figure { value: on_stack as f64 / owned.max(1) as f64, unit: "times", detail })
}

/// What came of the requests at random.
fn at_random(facts: &Facts, wanted: u32) -> Vec<Check> {
    let sum = |facts: &Transcript| -> Result<[u64; 5], BadFact> {
        let [bounced, mapped] = ["requests.bounce", "requests.map"].map(|name| facts.numbers::<5>(name));
        let (bounced, mapped) = (bounced?, mapped?);
        Ok(core::array::from_fn(|i| bounced[i] + mapped[i]))
    };
    let count = |value: u64, unit, detail: String| Figure { value: value as f64, unit, detail };
    let least = f64::from(wanted);
    vec![
        facts.check("dma.disk.requests", Some(Aim::AtLeast(least)), |facts| {
            let [done, _, refused, ..] = sum(facts)?;
            let passed = grouped(done.saturating_sub(refused));
            let detail = format!(
                "{passed} that the disk did, 1 byte to 64 KiB, bounced and mapped; {} refused",
                grouped(refused)
            );
            Ok(count(done, "requests", detail))
        }),
        facts.check("dma.disk.wrong", Some(Aim::AtMost(0.0)), |facts| {
            let [_, wrong, _, _, failed] = sum(facts)?;
            let detail = format!("with a byte that is wrong, in the piece or around it; {failed} of them failed");
            Ok(count(wrong, "requests", detail))
        }),
        facts.check("dma.disk.refusals_wrong", Some(Aim::AtMost(0.0)), |facts| {
            let [_, _, refused, wrongly, _] = sum(facts)?;
            Ok(count(
                wrongly,
                "refusals",
                format!("of {}, each with the reason that its place gives it", grouped(refused)),
            ))
        }),
        facts.check("dma.disk.natural", Some(Aim::AtMost(0.0)), |facts| {
            let [bounced, mapped] = ["bounce", "map"].map(|how| facts.numbers::<2>(&format!("requests.natural.{how}")));
            let ([bounced, of], [mapped, as_many]) = (bounced?, mapped?);
            let detail =
                format!("wrong, of {of} bounced and {as_many} mapped by virtio-drivers' own driver, unchanged");
            Ok(count((of + as_many).saturating_sub(bounced + mapped), "sectors", detail))
        }),
        left(facts, "dma.disk.kept", "requests"),
    ]
}

/// What is left when all is over: descriptors that are not free, requests in flight, buffers, transfers, pins.
fn left(facts: &Facts, name: &str, prefix: &str) -> Check {
    facts.check(name, Some(Aim::AtMost(0.0)), |facts| {
        let [free, all, flights, _] = facts.numbers(&format!("{prefix}.disk"))?;
        let [buffers, lost] = facts.numbers::<2>(&format!("{prefix}.left")).or_else(|_| {
            facts.numbers::<3>(&format!("{prefix}.left")).map(|[buffers, lost, pinned]| [buffers, lost + pinned])
        })?;
        let kept = all.max(RING).saturating_sub(free) + flights + buffers + lost;
        let detail = format!("{free} of {all} descriptors are free, {flights} requests in flight, {buffers} buffers in use, {lost} lost or pinned");
        Ok(Figure { value: kept as f64, unit: "things", detail })
    })
}

/// What must come of requests that cannot be, to a disk that fails: the word of its error.
const FAILING: [(&str, &str); 10] = [
    ("empty", "not-sectors"),
    ("no_sectors", "not-sectors"),
    ("too_long", "too-long"),
    ("behind_the_end", "out-of-range"),
    ("far_behind", "out-of-range"),
    ("too_many_pieces", "too-many-pieces"),
    ("bad_read", "failed"),
    ("good_read", "ok"),
    ("bad_write", "failed"),
    ("good_write", "ok"),
];
/// The same of one that does not answer in time.
const SILENT: [(&str, &str); 4] = [("first", "ok"), ("second", "timed-out"), ("third", "timed-out"), ("later", "ok")];

/// What came of a disk that fails, and of one that does not answer.
fn errors(failing: &Facts, silent: &Facts) -> Vec<Check> {
    let judged = |facts: &Facts, name: &str, wanted: &[(&str, &str)]| {
        facts.check(name, Some(Aim::AtMost(0.0)), |facts| {
            let mut wrong = Vec::new();
            for &(what, word) in wanted {
                let name = format!("failing.{what}");
                let came = facts.all(&name).first().and_then(|words| words.first()).ok_or(BadFact::Missing(name))?;
                if came != word {
                    wrong.push(format!("{what}: {came} and not {word}"));
                }
            }
            let detail = match wrong.as_slice() {
                [] => format!("of {}, each with an error of its own, or none", wanted.len()),
                wrong => wrong.join("; "),
            };
            Ok(Figure { value: wrong.len() as f64, unit: "requests", detail })
        })
    };
    vec![
        judged(failing, "dma.disk.errors_wrong", &FAILING),
        left(failing, "dma.disk.errors_kept", "failing"),
        judged(silent, "dma.disk.silence_wrong", &SILENT),
        left(silent, "dma.disk.silence_kept", "failing"),
    ]
}

#[cfg(test)]
mod tests {
    use super::{at_random, costs, errors};
    use crate::bench::counted::Facts;
    use crate::checks::{Check, Verdict};
    use crate::console::Transcript;
    use crate::outcome::Outcome;

    const COUNTED: &str = include_str!("../../tests/boots/dma.txt");
    const RANDOM: &str = include_str!("../../tests/boots/requests.txt");
    const FAILING: &str = include_str!("../../tests/boots/disk-failing.txt");
    const SILENT: &str = include_str!("../../tests/boots/disk-silent.txt");
    const WANTED: u32 = 2000;

    /// All findings of these four boots.
    fn judged([counted, random, failing, silent]: [&str; 4]) -> Vec<Check> {
        let facts = |log: &str, counting| Facts::of(Outcome::Orderly, &Transcript::of(log), counting);
        let rest = [at_random(&facts(random, false), WANTED), errors(&facts(failing, false), &facts(silent, false))];
        [costs(&facts(counted, true)), rest.concat()].concat()
    }

    /// Those that fall short when the line of `name` has other words.
    fn short_with(name: &str, words: &str) -> Vec<String> {
        let start = format!("fact {name} ");
        let changed = [COUNTED, RANDOM, FAILING, SILENT].map(|log| {
            let line = log.lines().find(|line| line.starts_with(&start));
            line.map_or_else(|| log.to_owned(), |line| log.replace(line, &format!("{start}{words}")))
        });
        let findings = judged(changed.each_ref().map(String::as_str));
        findings.into_iter().filter(|check| check.outcome != Verdict::Pass).map(|check| check.name).collect()
    }

    #[test]
    fn boots_as_they_were_are_as_they_should_be() {
        let findings = judged([COUNTED, RANDOM, FAILING, SILENT]);
        assert!(findings.iter().all(|check| check.outcome == Verdict::Pass), "{findings:?}");
        assert_eq!(findings.len(), 14);
    }

    #[test]
    fn each_fact_that_is_not_so_falls_short() {
        for (fact, words, name) in [
            ("dma.check.heap", "13 0", "dma.check.heap"),
            ("dma.request.bounced", "1000 1301", "dma.request.bounced"),
            ("requests.bounce", "999 0 200 0 0", "dma.disk.requests"),
            ("requests.map", "1000 1 200 0 1", "dma.disk.wrong"),
            ("requests.bounce", "1000 0 200 1 0", "dma.disk.refusals_wrong"),
            ("requests.natural.map", "63 64", "dma.disk.natural"),
            ("requests.disk", "63 64 0 2", "dma.disk.kept"),
            ("requests.left", "0 0 1", "dma.disk.kept"),
            ("failing.bad_read", "ok", "dma.disk.errors_wrong"),
            ("failing.good_write", "failed the device could not", "dma.disk.errors_wrong"),
            ("failing.later", "timed-out", "dma.disk.silence_wrong"),
        ] {
            assert_eq!(short_with(fact, words), [name], "{fact} {words}");
        }
    }

    #[test]
    fn a_boot_that_said_nothing_has_no_figures() {
        let nothing = ["", "", "", ""];
        assert!(judged(nothing).iter().all(|check| check.outcome == Verdict::Fail));
    }
}
