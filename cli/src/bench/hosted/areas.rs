//! The suite `vmalloc`, as far as it runs in this process: areas had, touched at the start and given back, by one thread and by two at once.
//!
//! | | one page | 1 to 100 pages, by chance |
//! | --- | --- | --- |
//! | page tables in memory (`Tabled`) | our allocator, its locks, its tables | the same, and as many entries and frames |
//! | the host's (`Mapped`) | that, and a call of mmap each way or less | the same |
//!
//! Linux lets one thread of a process at a time change its mappings: two that only call mmap take about twice as long for each call, which is measured
//! beside. So what is judged is ours alone, with tables in memory that nobody walks and a flush that the other thread acknowledges when it next
//! enters; what it is with the host's mappings is told too.
//!
//! What is given back waits for a shootdown of many, which is a part of the figure: each sample has one at least.
//!
//! Each of seven runs takes all by turns, each run beginning with another one; the figure of a run is the median of its rounds (`scaling`), and the
//! median of the runs is what is told.

use core::hint::black_box;

use vmstack_hosted::{AreaCpu, Areas, AreasConfig, Backing, MachineError, Mapped, Tabled};

use vmstack_vmalloc::Usage;

use super::super::NativeSetting;
use super::super::native::{Series, number};
use super::scaling::{self, FEWEST, Pair, pairs, ratios_where, two_cpus};
use super::{no_machine, others};
use crate::checks::{Aim, Check, Verdict};
use crate::failure::Failure;
use crate::report::{explain, show_rows};
use crate::screen::Screen;

/// How much longer an operation may take when another thread does the same.
const TARGET: f64 = 1.3;
const RUNS: usize = 7;
/// Rounds of a run, when the user does not say.
const ROUNDS: u32 = 100;
/// How often a run is prolonged, on a machine that is too busy for both threads.
const ATTEMPTS: usize = 5;
/// How many areas make an operation of a sample: those of a shootdown, so that each sample has its share of it.
const TOGETHER: u32 = 32;
const PAGE: usize = 4096;
/// The addresses and the memory of each vmalloc.
const RANGE: usize = 4 << 30;
const FRAMES: usize = 64 << 10;

const NAME: &str = "vmalloc.hosted.threads";
const TOO_BUSY: &str = "in too few rounds did two threads run at once: this machine has too much else to do";

/// How large areas are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sizes {
    Page,
    Random,
    /// As large as a stack of the suite `hosted`.
    Stack,
}

impl Sizes {
    const fn words(self) -> &'static str {
        match self {
            Self::Page => "1 page",
            Self::Random => "1 to 100 pages",
            Self::Stack => "4 pages",
        }
    }

    /// The sizes of a sample, in bytes: the same in every sample, whoever takes it.
    fn each(self, count: u32) -> impl Iterator<Item = usize> {
        let mut word = 0x2545_f491_4f6c_dd1d_u64;
        (0..count).map(move |_| match self {
            Self::Page => PAGE,
            Self::Stack => super::SIZE,
            Self::Random => {
                word ^= word << 13;
                word ^= word >> 7;
                word ^= word << 17;
                (1 + word as usize % 100) * PAGE
            }
        })
    }
}

/// Who maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tables {
    InMemory,
    TheHosts,
    /// The host, for a program without a vmalloc.
    NoVmalloc,
}

impl Tables {
    const fn words(self) -> &'static str {
        match self {
            Self::InMemory => "page tables in memory",
            Self::TheHosts => "mapped by the host",
            Self::NoVmalloc => "mmap, mprotect, munmap",
        }
    }
}

type Measure<'a> = Box<dyn Fn(u32, [usize; 2]) -> Vec<Pair> + 'a>;

/// What is measured.
struct Case<'a> {
    /// The last part of its finding's name.
    name: &'static str,
    tables: Tables,
    sizes: Sizes,
    measure: Measure<'a>,
    /// One of each run: nanoseconds of one thread, and how many times that it is for each of two.
    alone: Vec<f64>,
    ratios: Vec<f64>,
}

impl Case<'_> {
    /// One run. Of too few rounds in which both threads ran at once nothing can be said.
    fn run(&mut self, rounds: u32, places: [usize; 2]) {
        let mut pairs = Vec::new();
        for _ in 0..ATTEMPTS {
            pairs.extend((self.measure)(rounds, places));
            if self.ratios_of(&pairs).rounds() >= FEWEST {
                break;
            }
        }
        let times = self.ratios_of(&pairs);
        if times.rounds() >= FEWEST {
            self.alone.push(Series::new(pairs.iter().map(|pair| pair.alone / f64::from(TOGETHER)).collect()).median());
            self.ratios.push(times.median());
        }
    }

    /// Threads that wait for each other in Linux do not end together.
    fn ratios_of(&self, pairs: &[Pair]) -> Series {
        let waits = self.tables != Tables::InMemory;
        ratios_where(pairs, if waits { scaling::TOGETHER / 2.0 } else { scaling::TOGETHER })
    }

    fn alone(&self) -> Series {
        Series::new(self.alone.clone())
    }

    fn ratio(&self) -> Series {
        Series::new(self.ratios.clone())
    }

    fn line(&self) -> String {
        let both = Series::new(self.alone.iter().zip(&self.ratios).map(|(alone, ratio)| alone * ratio).collect());
        format!(
            "  {:16} {:26} {:>22} ns {:>22} ns {:>20} times",
            self.sizes.words(),
            self.tables.words(),
            self.alone().to_string(),
            both.to_string(),
            self.ratio().to_string()
        )
    }

    /// Nanoseconds of one thread, judged by nobody.
    fn row(&self) -> Check {
        let name = format!("vmalloc.hosted.{}", self.name);
        if self.ratios.is_empty() {
            return Check::skip(&name, TOO_BUSY);
        }
        let detail = format!(
            "{} had and given back by one thread, {}: {} ns; {} times that for each of two",
            self.sizes.words(),
            self.tables.words(),
            self.alone(),
            self.ratio()
        );
        Check::new(&name, Verdict::Pass, detail).with_figure(number(self.alone().median()), "ns")
    }
}

/// Has, touches and gives back `count` areas.
fn use_areas<B: Backing>(areas: &Areas<B>, cpu: &AreaCpu<'_, B>, sizes: Sizes, count: u32) {
    for bytes in sizes.each(count) {
        if let Ok(area) = areas.vmalloc().vmalloc(bytes) {
            let first = area.start().as_mut_ptr::<u8>();
            // SAFETY: the area is ours, and mapped; or it is memory all the same, where tables lead nowhere.
            unsafe { first.write_volatile(1) };
            black_box(&area);
        }
    }
    // It waits for the other thread now, and the other for it no longer.
    cpu.idle();
}

fn measure<B: Backing + Send>(areas: &Areas<B>, sizes: Sizes, rounds: u32, places: [usize; 2]) -> Vec<Pair> {
    pairs(rounds, places, |_| {
        let cpu = areas.cpu();
        move |count| {
            debug_assert!(cpu.is_ok(), "there are as many CPUs as threads");
            if let Ok(cpu) = &cpu {
                use_areas(areas, cpu, sizes, count * TOGETHER);
            }
        }
    })
}

/// Runs it, and shows it.
pub(in super::super) fn run(setting: &NativeSetting<'_>, screen: &mut Screen) -> Result<Vec<Check>, Failure> {
    screen.heading("Areas of a vmalloc: had, touched, given back, by one thread and by each of two");
    let Some(places) = two_cpus() else {
        return Ok(vec![Check::skip(NAME, "this machine has one CPU for us")]);
    };
    let config = AreasConfig::new(RANGE).frames(FRAMES).cpus(2);
    let (tabled, mapped) = (made(Areas::tabled(&config))?, made(Areas::mapped(&config))?);
    let mut cases = cases(&tabled, &mapped);
    let rounds = setting.samples.unwrap_or(ROUNDS).max(2 * FEWEST as u32);
    for run in 0..RUNS {
        for turn in 0..cases.len() {
            setting.interrupts.check()?;
            let at = (run + turn) % cases.len();
            cases[at].run(rounds, places);
        }
    }
    let mut checks = tell(&cases, screen);
    checks.push(refused(&[tabled.vmalloc().usage(), mapped.vmalloc().usage()]));
    Ok(checks)
}

/// An area that could not be had took no time: there may be hardly any.
fn refused(usages: &[Usage]) -> Check {
    let sum = |of: fn(&Usage) -> u64| usages.iter().map(of).sum::<u64>();
    let (had, refused) = (sum(|usage| usage.allocated), sum(|usage| usage.refused));
    let few = refused <= had / 1000;
    let detail = format!("{refused} areas could not be had and {had} could; one of a thousand may");
    Check::new("vmalloc.hosted.refused", if few { Verdict::Pass } else { Verdict::Fail }, detail)
        .with_figure(refused, "areas")
}

fn made<B: Backing>(areas: Result<Areas<B>, MachineError>) -> Result<Areas<B>, Failure> {
    areas.map_err(no_machine)
}

fn cases<'a>(tabled: &'a Areas<Tabled>, mapped: &'a Areas<Mapped>) -> [Case<'a>; 5] {
    let case =
        |name, tables, sizes, measure| Case { name, tables, sizes, measure, alone: Vec::new(), ratios: Vec::new() };
    let ours = |sizes| -> Measure<'a> { Box::new(move |rounds, places| measure(tabled, sizes, rounds, places)) };
    let hosts = |sizes| -> Measure<'a> { Box::new(move |rounds, places| measure(mapped, sizes, rounds, places)) };
    let mmap: Measure<'a> = Box::new(|rounds, places| {
        pairs(rounds, places, |_| |count| (0..count * TOGETHER).for_each(|_| others::mmap()))
    });
    [
        case("page", Tables::InMemory, Sizes::Page, ours(Sizes::Page)),
        case("random", Tables::InMemory, Sizes::Random, ours(Sizes::Random)),
        case("page.mmap", Tables::TheHosts, Sizes::Page, hosts(Sizes::Page)),
        case("random.mmap", Tables::TheHosts, Sizes::Random, hosts(Sizes::Random)),
        case("mmap", Tables::NoVmalloc, Sizes::Stack, mmap),
    ]
}

fn tell(cases: &[Case<'_>], screen: &mut Screen) -> Vec<Check> {
    cases.iter().for_each(|case| screen.line(&case.line()));
    let those = |tables| cases.iter().filter(|case| case.tables == tables).collect::<Vec<_>>();
    let mut checks = vec![
        judge(NAME, &those(Tables::InMemory), Some(TARGET)),
        judge(&format!("{NAME}.mmap"), &those(Tables::TheHosts), None),
    ];
    for check in &checks {
        show_rows(screen, core::slice::from_ref(check));
        if check.outcome == Verdict::Pass {
            explain(screen, &check.detail);
        }
    }
    checks.extend(cases.iter().map(Case::row));
    checks
}

/// The worst of `cases`: how many times as long an operation takes when another thread does the same.
fn judge(name: &str, cases: &[&Case<'_>], target: Option<f64>) -> Check {
    if cases.iter().any(|case| case.ratios.len() < RUNS / 2 + 1) {
        return if target.is_some() { Check::fail(name, TOO_BUSY) } else { Check::skip(name, TOO_BUSY) };
    }
    let worst = cases.iter().map(|case| case.ratio().median()).fold(0.0, f64::max);
    let each: Vec<_> = cases.iter().map(|case| format!("{} times with {}", case.ratio(), case.sizes.words())).collect();
    let aimed = target.map_or("nothing was aimed at".to_owned(), |target| format!("at most {target} was aimed at"));
    let detail = format!("{}, in {RUNS} runs, {}; {aimed}", each.join(", "), cases[0].tables.words());
    let holds = target.is_none_or(|target| worst <= target);
    let check = Check::new(name, if holds { Verdict::Pass } else { Verdict::Fail }, detail);
    let check = check.with_figure(number(worst), "times");
    target.into_iter().fold(check, |check, target| check.aiming(Aim::AtMost(target)))
}

#[cfg(test)]
mod tests {
    use super::{Case, Sizes, judge};
    use crate::checks::Verdict;

    fn case(sizes: Sizes, ratios: &[f64]) -> Case<'static> {
        let measure: super::Measure<'static> = Box::new(|_, _| Vec::new());
        let (tables, alone) = (super::Tables::InMemory, vec![100.0; ratios.len()]);
        Case { name: "", tables, sizes, measure, alone, ratios: ratios.to_vec() }
    }

    #[test]
    fn the_worse_of_two_is_judged_by_its_median_run() {
        let (page, random) = (case(Sizes::Page, &[1.1; 7]), case(Sizes::Random, &[1.2, 1.2, 1.2, 1.2, 1.2, 9.0, 9.0]));
        let check = judge("name", &[&page, &random], Some(1.3));
        assert_eq!((check.outcome, check.figure), (Verdict::Pass, serde_json::Number::from_f64(1.2)));
        assert_eq!(judge("name", &[&page, &random], Some(1.15)).outcome, Verdict::Fail);
        assert_eq!(judge("name", &[&page, &random], None).outcome, Verdict::Pass);
    }

    #[test]
    fn too_few_runs_say_nothing() {
        let few = case(Sizes::Page, &[1.0; 3]);
        assert_eq!(judge("name", &[&few], Some(1.3)).outcome, Verdict::Fail);
        assert_eq!(judge("name", &[&few], None).outcome, Verdict::Skip);
    }

    #[test]
    fn areas_that_could_not_be_had_count_for_nothing() {
        let mut usage = vmstack_vmalloc::Usage::default();
        (usage.allocated, usage.refused) = (5000, 5);
        assert_eq!(super::refused(&[usage]).outcome, Verdict::Pass);
        usage.refused = 6;
        assert_eq!(super::refused(&[usage]).outcome, Verdict::Fail);
    }

    #[test]
    fn every_sample_has_the_same_sizes() {
        let sizes: Vec<usize> = Sizes::Random.each(1000).collect();
        assert!(sizes.iter().all(|&bytes| (4096..=409_600).contains(&bytes) && bytes % 4096 == 0));
        assert_eq!(sizes, Sizes::Random.each(1000).collect::<Vec<_>>());
        let distinct: std::collections::BTreeSet<_> = sizes.iter().collect();
        assert!(distinct.len() > 90, "{}", distinct.len());
    }
}
