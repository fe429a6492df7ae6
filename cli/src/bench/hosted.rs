//! The suite `hosted`: a guarded stack of 16 KiB in a Linux process, had, touched and given back, in our area and as others do it.
//!
//! | name | what |
//! | --- | --- |
//! | `area` | our area, the stack as its last owner left it |
//! | `area_zero` | our area, the stack reads as zero: cleared from end to end, since Linux shows no dirty bits |
//! | `corosensei` | `corosensei::DefaultStack::new` |
//! | `pool` | a `Vec` of such stacks, as they were left: unbounded, of one thread, known to nobody |
//! | `pool_zero` | the same, cleared from end to end |
//! | `wasmtime` | wasmtime's fiber stacks, on demand |
//! | `mmap` | `mmap`, `mprotect` of the rest, `munmap` |
//! | `malloc` | libc's `malloc` and `free`: no guard |
//!
//! Everybody touches the top page, one operation is one stack, and all are measured by turns in one run (`native`). Then the same by two
//! threads at once (`scaling`). Areas of a vmalloc by one thread and by two are of another suite (`areas`).

use core::{ptr, slice};

use vmstack::{Scrub, VirtAddr};
use vmstack_hosted::{Config, Machine, MachineError};

use super::NativeSetting;
use super::native::{self, Contender, Series, number};
use crate::checks::{Aim, Check, Verdict};
use crate::failure::Failure;
use crate::report::{explain, show_rows};
use crate::screen::Screen;

pub(super) mod areas;
pub(super) mod dma;
mod others;
mod scaling;

/// The size of every stack, in bytes.
const SIZE: usize = 16 << 10;
/// Rounds, when the user does not say.
const ROUNDS: u32 = 400;
/// How many times faster than `corosensei` we mean to be, and while the stack reads as zero.
const HOT: f64 = 100.0;
const HOT_ZERO: f64 = 25.0;

/// Writes a word at the top of a stack, so that its page is there.
///
/// # Safety
///
/// The word below `top`, an address that is a multiple of a word, may be written, and nobody else uses it.
#[inline]
unsafe fn touch(top: VirtAddr) {
    // SAFETY: the caller's promise.
    unsafe { ptr::write_volatile(top.as_mut_ptr::<usize>().wrapping_sub(1), 1) };
}

/// A machine for `cpus` threads.
fn machine(cpus: usize) -> Result<Machine, Failure> {
    Machine::new(&Config::new(64, SIZE).cpus(cpus)).map_err(no_machine)
}

fn no_machine(error: MachineError) -> Failure {
    Failure::cannot(format!("there is no stack area in this process: {error}"))
}

/// Has, touches and gives back `count` of our stacks.
fn use_ours(machine: &Machine, count: u32) {
    for _ in 0..count {
        if let Ok(stack) = machine.area().alloc(0) {
            // SAFETY: it is mapped up to its top, and ours.
            unsafe { touch(stack.top()) };
        }
    }
}

fn ours<'m>(machine: &'m Machine, name: &'static str, label: &'static str, scrub: Scrub) -> Contender<'m> {
    let run = Box::new(move |count| {
        machine.area().set_scrub(scrub);
        use_ours(machine, count);
    });
    Contender { name, label, run }
}

/// Runs the suite.
pub(super) fn run(setting: &NativeSetting<'_>, screen: &mut Screen) -> Result<Vec<Check>, Failure> {
    screen.heading("Stacks of 16 KiB in a Linux process: had, touched at the top, given back");
    let machine = machine(1)?;
    let _cpu = machine.cpu().map_err(|error| Failure::cannot(error.to_string()))?;
    let mut contenders = vec![
        ours(&machine, "area", "our area, as it was left", Scrub::None),
        ours(&machine, "area_zero", "our area, reading as zero", Scrub::Dirty),
    ];
    contenders.extend(others::all());
    let rounds = setting.samples.unwrap_or(ROUNDS);
    let series = native::by_turns(&mut contenders, rounds, setting.interrupts)?;
    let names: Vec<_> = contenders.iter().map(|contender| (contender.name, contender.label)).collect();
    let rows = Rows { names, series };
    rows.show(screen);
    let mut checks = vec![
        rows.faster("hosted.hot", "area", "pool", HOT),
        rows.faster("hosted.hot_zero", "area_zero", "pool_zero", HOT_ZERO),
        scaling::check(setting)?,
    ];
    for check in &checks {
        show_rows(screen, slice::from_ref(check));
        if check.outcome == Verdict::Pass {
            explain(screen, &check.detail);
        }
    }
    checks.extend(rows.checks());
    Ok(checks)
}

/// What was measured, by name.
struct Rows {
    names: Vec<(&'static str, &'static str)>,
    series: Vec<Series>,
}

impl Rows {
    fn named(&self, name: &str) -> Option<&Series> {
        let place = self.names.iter().position(|&(known, _)| known == name)?;
        self.series.get(place)
    }

    /// A line for each: the median in nanoseconds, and between which figures half of all are.
    fn show(&self, screen: &mut Screen) {
        for ((_, label), series) in self.names.iter().zip(&self.series) {
            screen.line(&format!("  {label:52}{:>23} ns", series.to_string()));
        }
    }

    /// How many times faster `ours` is than corosensei's stack: `target` at least. The `pool` is shown beside.
    fn faster(&self, name: &str, ours: &str, pool: &str, target: f64) -> Check {
        let (Some(mine), Some(theirs), Some(pool)) = (self.named(ours), self.named("corosensei"), self.named(pool))
        else {
            return Check::fail(name, "it was not measured");
        };
        let times = mine.times_in(theirs);
        let detail = format!(
            "{times} times in {} rounds, at least {target:.0} were aimed at: {mine} ns against {theirs} ns for \
             corosensei's new, touch and drop; a Vec pool of those takes {pool} ns, {} times ours",
            times.rounds(),
            mine.times_in(pool),
        );
        let verdict = if times.median() >= target { Verdict::Pass } else { Verdict::Fail };
        Check::new(name, verdict, detail).with_figure(number(times.median()), "times").aiming(Aim::AtLeast(target))
    }

    /// A row for each: nanoseconds, judged by nobody.
    fn checks(&self) -> impl Iterator<Item = Check> {
        self.names.iter().zip(&self.series).map(|((name, label), series)| {
            let detail = format!("{label}: {series} ns, {} rounds", series.rounds());
            Check::new(&format!("hosted.{name}"), Verdict::Pass, detail).with_figure(number(series.median()), "ns")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Rows, Series};
    use crate::checks::Verdict;

    fn rows() -> Rows {
        let names = ["area", "pool", "corosensei"].map(|name| (name, name)).to_vec();
        let series = [[10.0, 20.0, 10.0], [5.0, 10.0, 5.0], [1200.0, 2400.0, 900.0]];
        Rows { names, series: series.map(|figures| Series::new(figures.to_vec())).to_vec() }
    }

    #[test]
    fn what_is_fast_enough_passes_and_what_is_not_falls_short() {
        let pass = rows().faster("hosted.hot", "area", "pool", 100.0);
        assert_eq!((pass.outcome, pass.figure, pass.unit.as_str()), (Verdict::Pass, Some(120.into()), "times"));
        assert!(pass.detail.contains("0.50 (0.50 to 0.50) times ours"), "{}", pass.detail);
        assert_eq!(rows().faster("hosted.hot", "area", "pool", 121.0).outcome, Verdict::Fail);
        assert_eq!(rows().faster("hosted.hot", "area", "nobody", 1.0).outcome, Verdict::Fail);
    }

    #[test]
    fn each_contender_has_a_row_in_nanoseconds() {
        let checks: Vec<_> = rows().checks().collect();
        let names: Vec<_> = checks.iter().map(|check| check.name.as_str()).collect();
        assert_eq!(names, ["hosted.area", "hosted.pool", "hosted.corosensei"]);
        assert!(checks.iter().all(|check| check.unit == "ns" && check.figure.is_some()));
    }
}
