//! Measuring in this process, in nanoseconds: many short samples, taken by turns.
//!
//! A machine that is shared, changes its clock and is interrupted says little in one long run. So everything that is compared is
//! measured in *rounds*: each round takes one short sample of every contender, each round begins with another one. What disturbs the
//! machine for a while disturbs all of them, and a sample that was interrupted is one of many: the figure is the median. Two are
//! compared by the median of their ratios within a round.
//!
//! ```text
//!   round 0:  A B C     a sample: as many operations as take `SAMPLE`, found out beforehand,
//!   round 1:  B C A               which also warms everything up
//!   round 2:  C A B ...
//! ```

use core::fmt;
use core::time::Duration;
use std::time::Instant;

use serde_json::Number;

use crate::failure::Failure;
use crate::interrupt::Interrupts;

/// How long a sample takes, about: long for a clock that is read in 50 ns, short for a scheduler that interrupts every few ms.
pub(super) const SAMPLE: Duration = Duration::from_micros(100);

/// How often each size of a sample is tried before it is settled.
const TRIES: u32 = 5;

/// What is measured against others.
pub(super) struct Contender<'a> {
    /// The last part of its finding's name.
    pub(super) name: &'static str,
    /// What it is, for people.
    pub(super) label: &'static str,
    /// Does the operation so many times.
    pub(super) run: Box<dyn FnMut(u32) + 'a>,
}

/// The time that an operation takes in each round, in nanoseconds; or ratios of such times.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series(Vec<f64>);

impl Series {
    /// These figures, one a round.
    pub(super) const fn new(figures: Vec<f64>) -> Self {
        Self(figures)
    }

    /// How often this is contained in `other`, round by round.
    pub(super) fn times_in(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(mine, others)| others / mine).collect())
    }

    /// What is left when `other` is taken away, round by round.
    pub(super) fn less(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(mine, others)| mine - others).collect())
    }

    /// The same of a part of the operation: there are so many in one.
    pub(super) fn divided_by(&self, parts: f64) -> Self {
        Self(self.0.iter().map(|figure| figure / parts).collect())
    }

    /// How many rounds there were.
    pub(super) const fn rounds(&self) -> usize {
        self.0.len()
    }

    /// The figure that a part of all, between 0 and 1, is not above; none if there are no figures.
    fn quantile(&self, part: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        sorted.get((part * last as f64).round() as usize).copied()
    }

    /// The figure in the middle; not a number if there are none.
    pub(super) fn median(&self) -> f64 {
        self.quantile(0.5).unwrap_or(f64::NAN)
    }
}

/// The median, and between which figures half of all are.
impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quarter = |part| self.quantile(part).unwrap_or(f64::NAN);
        if self.0.is_empty() {
            return f.write_str("no figure");
        }
        let [low, median, high] = [0.25, 0.5, 0.75].map(|part| short(quarter(part)));
        write!(f, "{median} ({low} to {high})")
    }
}

/// A figure with three digits that mean something, or all of those before the point.
fn short(figure: f64) -> String {
    let places = match figure.abs() {
        small if small < 9.995 => 2,
        middle if middle < 99.95 => 1,
        _ => 0,
    };
    format!("{figure:.places$}")
}

/// A figure for a finding, of as many digits as [`short`] gives; zero if it is none.
pub(super) fn number(figure: f64) -> Number {
    let digits = short(figure);
    let whole = digits.parse().ok().map(|whole: i64| whole.into());
    // There is no negative zero in a finding: adding zero makes it one that is not.
    whole.or_else(|| Number::from_f64(digits.parse::<f64>().ok()? + 0.0)).unwrap_or_else(|| 0.into())
}

/// The time that an operation takes, in nanoseconds, in one sample.
fn sample(run: &mut dyn FnMut(u32), operations: u32) -> f64 {
    let start = Instant::now();
    run(operations);
    start.elapsed().as_nanos() as f64 / f64::from(operations)
}

/// How many operations a sample has: what takes [`SAMPLE`] when everything is warm and nobody interrupts.
pub(super) fn calibrate(run: &mut dyn FnMut(u32)) -> u32 {
    let mut operations = 1;
    loop {
        // The best of a few: one that was interrupted would make samples too short to mean anything.
        let each = (0..TRIES).map(|_| sample(run, operations)).fold(f64::INFINITY, f64::min);
        if each * f64::from(operations) >= SAMPLE.as_nanos() as f64 / 2.0 || operations > 1 << 24 {
            return ((SAMPLE.as_nanos() as f64 / each) as u32).max(1);
        }
        operations *= 2;
    }
}

/// Measures `contenders` by turns: a series each, in their order.
pub(super) fn by_turns(
    contenders: &mut [Contender<'_>],
    rounds: u32,
    interrupts: &Interrupts,
) -> Result<Vec<Series>, Failure> {
    let operations: Vec<u32> = contenders.iter_mut().map(|contender| calibrate(&mut contender.run)).collect();
    let mut series = vec![Vec::with_capacity(rounds as usize); contenders.len()];
    for round in 0..rounds as usize {
        interrupts.check()?;
        for turn in turns(contenders.len(), round) {
            series[turn].push(sample(&mut contenders[turn].run, operations[turn]));
        }
    }
    Ok(series.into_iter().map(Series).collect())
}

/// The order of a round: it begins with another contender each time.
fn turns(contenders: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..contenders).map(move |turn| (turn + round) % contenders)
}

#[cfg(test)]
mod tests {
    use super::{Contender, Series, by_turns, number, short, turns};
    use crate::interrupt::Interrupts;

    #[test]
    fn a_median_does_not_mind_what_was_interrupted() {
        let series = Series::new(vec![4.0, 5.0, 4.5, 9000.0, 4.2]);
        assert_eq!((series.median(), series.to_string().as_str()), (4.5, "4.50 (4.20 to 5.00)"));
        let none = Series::new(Vec::new());
        assert!(none.median().is_nan() && none.to_string() == "no figure");
    }

    #[test]
    fn two_are_compared_within_each_round() {
        let (ours, theirs) = (Series::new(vec![1.0, 10.0, 2.0]), Series::new(vec![100.0, 1000.0, 250.0]));
        assert_eq!(ours.times_in(&theirs), Series::new(vec![100.0, 100.0, 125.0]));
    }

    #[test]
    fn figures_have_the_digits_that_mean_something() {
        assert_eq!([1.2345, 12.345, 123.45, 99.97, 9.996].map(short), ["1.23", "12.3", "123", "100", "10.0"]);
        let numbers = [12.345, 0.5, 493.7, -0.001, f64::NAN].map(|it| number(it).to_string());
        assert_eq!(numbers, ["12.3", "0.5", "494", "0.0", "0"]);
    }

    #[test]
    fn each_round_has_every_contender_once_and_begins_with_another() {
        let orders: Vec<Vec<usize>> = (0..4).map(|round| turns(3, round).collect()).collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
    }

    #[test]
    fn a_sample_is_not_made_short_by_an_interruption_while_its_size_is_found() {
        let mut calls = 0;
        let operations = super::calibrate(&mut |count: u32| {
            calls += 1;
            let nap = if calls == 1 { 5000 } else { 0 };
            std::thread::sleep(core::time::Duration::from_micros(nap));
            (0..count).for_each(|i| _ = core::hint::black_box(i));
        });
        assert!(operations > 100, "{operations} operations, found in {calls} samples");
    }

    #[test]
    fn what_takes_longer_has_the_larger_figure_and_a_signal_ends_it() {
        let spin = |times: u32| Box::new(move |n: u32| (0..n * times).for_each(|i| _ = core::hint::black_box(i)));
        let of = |name, times| Contender { name, label: name, run: spin(times) };
        let mut two = [of("short", 1), of("long", 50)];
        let series = by_turns(&mut two, 25, &Interrupts::none()).expect("nobody interrupts");
        assert!(series[0].times_in(&series[1]).median() > 5.0 && series[1].rounds() == 25, "{series:?}");
        let interrupts = Interrupts::none();
        interrupts.raise(2);
        assert!(by_turns(&mut two, 25, &interrupts).is_err());
    }
}
