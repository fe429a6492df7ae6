//! The suite `vmalloc`: what areas of any size cost, by Linux's own tests of its vmalloc.
//!
//! One boot of `mode=vmalloc` runs them (`kernel/src/count/vmalloc.rs`). A test's figure is all of it, from its first allocation until
//! everything that it deferred is drained, for each turn; clearing is taken off, as it is from Linux's figure. What Linux's tests take was counted in its
//! version 6.1, for each turn, too; what it defers beyond the test's end is not in that. A tenth of it is the aim.

use super::Setting;
use super::counted::{Facts, Figure, Trial};
use crate::checks::{Aim, Check};
use crate::console::{BadFact, Transcript};
use crate::emulator::scratch;
use crate::failure::Failure;
use crate::report::{grouped, show_figures};
use crate::screen::Screen;

/// The memory of the machine, in MiB: 100,000 areas are alive at once.
const MEMORY: u32 = 1024;

/// One of Linux's tests.
struct Test {
    name: &'static str,
    what: &'static str,
    /// What Linux 6.1 takes for a turn, in instructions, and the most that is to be taken here, clearing apart.
    linux: Option<(u32, f64)>,
}

const fn test(name: &'static str, what: &'static str, linux: Option<(u32, f64)>) -> Test {
    Test { name, what, linux }
}

const TESTS: [Test; 9] = [
    test("fix_size_alloc_test", "1 page", Some((3_550, 370.0))),
    test("full_fit_alloc_test", "1 page, among holes of one page", Some((159_000, 16_000.0))),
    test("long_busy_list_alloc_test", "100 pages and 1 page, 15,000 areas alive", Some((169_000, 17_000.0))),
    test("random_size_alloc_test", "1 to 100 pages", Some((31_900, 3_200.0))),
    test("fix_align_alloc_test", "5 zeroed pages, aligned to 32 KiB", Some((11_900, 940.0))),
    test("random_size_align_alloc_test", "1 to 10 zeroed pages, aligned up to 4 MiB", Some((23_300, 2_000.0))),
    test("pcpu_alloc_test", "up to 1 KiB, 35,000 alive", None),
    test("vm_map_ram_test", "1 given page, for a moment", None),
    test("by_address", "1 page, freed by its address and not by its handle", None),
];

/// How many areas are alive when allocations alone are counted.
const FEW: u32 = 10;
const MANY: u32 = 100_000;
/// By what more of them may make an allocation dearer.
const MOST_DEARER: f64 = 1.5;

/// Runs the suite.
pub(super) fn run(setting: &Setting<'_>, screen: &mut Screen) -> Result<Vec<Check>, Failure> {
    let folder = scratch()?;
    let archive = setting.boots.write_archive(folder.path())?;
    screen.heading("What areas of any size cost, in instructions");
    let facts = Trial::of("vmalloc", true, MEMORY).run(setting, &archive, screen)?;
    let checks = judge(&facts);
    show_figures(screen, &checks);
    Ok(checks)
}

/// All findings of the boot.
fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks: Vec<Check> = TESTS.iter().map(|test| test.check(facts)).collect();
    checks.push(facts.check("vmalloc.clear.page", None, |facts| {
        Ok(Figure::instructions(facts.number("vmalloc.clear.page")?, "clearing one page"))
    }));
    checks.extend(["page", "random"].map(|sizes| dearer(facts, sizes)));
    checks.extend([large(facts, "large"), large(facts, "small_pages")]);
    checks.extend(AROUND.iter().map(|part| part.check(facts)));
    checks
}

impl Test {
    fn check(&self, facts: &Facts) -> Check {
        let name = format!("vmalloc.{}", self.name);
        let aim = self.linux.map(|(_, most)| Aim::AtMost(most));
        facts.check(&name, aim, |facts| self.figure(facts, &name))
    }

    fn figure(&self, facts: &Transcript, name: &str) -> Result<Figure, BadFact> {
        let page = facts.number("vmalloc.clear.page")?;
        let [turns, all, around, drained, zeroed, shootdowns] = facts.numbers(name)?;
        let each = |instructions: u64| instructions.checked_div(turns).unwrap_or(0);
        let cleared = page * zeroed;
        let figure = each(all.saturating_sub(cleared));
        let share = 100.0 * drained as f64 / all as f64;
        let mut detail = format!("{}: all of it for each of {} turns", self.what, grouped(turns));
        if each(around) != 0 {
            detail += &format!(", {} of it around them", grouped(each(around)));
        }
        detail += &format!("; the last drain is {share:.1} %, with {} shootdowns in all", grouped(shootdowns));
        if cleared != 0 {
            detail += &format!("; clearing apart, {}", grouped(each(cleared)));
        }
        if let Some((linux, _)) = self.linux {
            detail += &format!("; Linux 6.1 takes {}, clearing included", grouped(u64::from(linux)));
        }
        Ok(Figure::instructions(figure, detail))
    }
}

/// By what an allocation is dearer with many areas alive than with few.
fn dearer(facts: &Facts, sizes: &str) -> Check {
    facts.check(&format!("vmalloc.alive.{sizes}"), Some(Aim::AtMost(MOST_DEARER)), |facts| {
        let [few, few_freed] = facts.numbers(&format!("vmalloc.alive.{FEW}.{sizes}"))?;
        let [many, many_freed] = facts.numbers(&format!("vmalloc.alive.{MANY}.{sizes}"))?;
        let value = many as f64 / few as f64;
        let what = if sizes == "page" { "1 page" } else { "1 to 100 pages" };
        let detail = format!(
            "allocating {what} with {} areas alive against {FEW}: {many} and {few} instructions; freeing: {many_freed} and {few_freed}",
            grouped(u64::from(MANY))
        );
        Ok(Figure { value, unit: "times", detail })
    })
}

/// 64 MiB, made and freed.
fn large(facts: &Facts, pages: &str) -> Check {
    facts.check(&format!("vmalloc.64m.{pages}"), None, |facts| {
        let [large, made, freed] = facts.numbers(&format!("vmalloc.64m.{pages}"))?;
        let detail = format!(
            "64 MiB, {large} of its chunks in a large page each: {} to make it, the rest to free it",
            grouped(made)
        );
        Ok(Figure::instructions(made + freed, detail))
    })
}

/// What lies around areas, as a part of a hundred: the finding, the fact, what it is a part of, what is alive, and how it is read.
struct Part {
    name: &'static str,
    fact: &'static str,
    what: &'static str,
    alive: &'static str,
    read: fn([u64; 6]) -> (u64, u64),
}

const PAGE: (&str, &str) = ("vmalloc.around.100000", "100,000 areas of a page");
const MIXED: (&str, &str) = ("vmalloc.around.mixed", "1,000 areas of 1 to 100 pages");
const TABLES: &str = "page-table memory, of the areas' own";
const LOST: &str = "addresses lost to guards, alignment and size classes, of those that areas hold";

const fn part(
    name: &'static str,
    (fact, alive): (&'static str, &'static str),
    what: &'static str,
    read: fn([u64; 6]) -> (u64, u64),
) -> Part {
    Part { name, fact, what, alive, read }
}

/// Records that were made stay, so they are told where the most areas are alive.
const AROUND: [Part; 5] = [
    part("vmalloc.tables", PAGE, TABLES, tables),
    part("vmalloc.records", PAGE, "memory of records, of the areas' own", |[pages, _, records, ..]| (records, pages)),
    part("vmalloc.lost", PAGE, LOST, lost),
    part("vmalloc.tables.mixed", MIXED, TABLES, tables),
    part("vmalloc.lost.mixed", MIXED, LOST, lost),
];

fn tables([pages, tables, ..]: [u64; 6]) -> (u64, u64) {
    (tables, pages)
}

fn lost([_, _, _, used, guards, padding]: [u64; 6]) -> (u64, u64) {
    (guards + padding, used + guards + padding)
}

impl Part {
    fn check(&self, facts: &Facts) -> Check {
        facts.check(self.name, None, |facts| {
            let (some, all) = (self.read)(facts.numbers(self.fact)?);
            let detail = format!("{}, with {} alive", self.what, self.alive);
            Ok(Figure { value: 100.0 * some as f64 / all as f64, unit: "%", detail })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::bench::counted::Facts;
    use crate::checks::{Check, Verdict};
    use crate::console::Transcript;
    use crate::outcome::Outcome;

    const LOG: &str = include_str!("../../tests/boots/vmalloc.txt");

    fn finding(log: &str, name: &str) -> Check {
        let findings = judge(&Facts::of(Outcome::Orderly, &Transcript::of(log), true));
        findings.into_iter().find(|check| check.name == name).expect(name)
    }

    fn figure(log: &str, name: &str) -> f64 {
        finding(log, name).figure.and_then(|figure| figure.as_f64()).expect(name)
    }

    /// The facts, with another line for `name`.
    fn with(name: &str, words: &str) -> String {
        let line = LOG.lines().find(|line| line.starts_with(&format!("fact {name} "))).expect(name);
        LOG.replace(line, &format!("fact {name} {words}"))
    }

    #[test]
    fn everything_that_was_counted_keeps_to_its_aim() {
        let findings = judge(&Facts::of(Outcome::Orderly, &Transcript::of(LOG), true));
        assert!(findings.iter().all(|check| check.outcome == Verdict::Pass), "{findings:?}");
        assert_eq!(findings.iter().filter(|check| check.name.ends_with("_test")).count(), 8);
    }

    #[test]
    fn a_test_is_all_of_it_without_clearing_for_each_turn() {
        let log = with("vmalloc.fix_align_alloc_test", "2000 7190000 100000 40000 10000 27");
        // Of 7,190,000 instructions 519 for each of 10,000 pages are clearing.
        assert!((figure(&log, "vmalloc.fix_align_alloc_test") - 1000.0).abs() < 1e-9);
        let finding = finding(&log, "vmalloc.fix_align_alloc_test");
        assert_eq!(finding.outcome, Verdict::Fail);
        assert!(finding.detail.contains("2,595") && finding.detail.contains("0.6 %"), "{}", finding.detail);
    }

    #[test]
    fn more_areas_alive_must_not_make_an_allocation_much_dearer() {
        let log = with("vmalloc.alive.100000.page", "280 177");
        assert_eq!(finding(&log, "vmalloc.alive.page").outcome, Verdict::Fail);
        assert_eq!(finding(&log, "vmalloc.alive.random").outcome, Verdict::Pass);
    }

    #[test]
    fn a_test_that_failed_in_the_guest_has_no_figure() {
        let log = with("vmalloc.vm_map_ram_test", "an allocation failed");
        assert_eq!(finding(&log, "vmalloc.vm_map_ram_test").outcome, Verdict::Fail);
        let none = LOG.replace("cost.calibration 20000 20003", "cost.calibration 20000 30003");
        assert_eq!(finding(&none, "vmalloc.fix_size_alloc_test").outcome, Verdict::Fail);
    }

    #[test]
    fn what_lies_around_areas_is_told_in_parts_of_a_hundred() {
        let log = with("vmalloc.around.100000", "1000 5 16 1000 1000 0");
        let figures = ["tables", "records", "lost"].map(|part| figure(&log, &format!("vmalloc.{part}")));
        assert!((figures[0] - 0.5).abs() < 1e-9 && (figures[1] - 1.6).abs() < 1e-9 && (figures[2] - 50.0).abs() < 1e-9);
    }
}
