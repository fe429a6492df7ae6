//! Two threads at once, each a CPU of one machine with stacks of its own: what one costs the other.
//!
//! ```text
//!   round:   thread 0  |== alone ==| . |== both ==|
//!            thread 1  . . . . . . . . |== both ==|        .: waits, spinning
//! ```
//!
//! Each thread keeps to a CPU of its own. On a machine that others use too, the two samples of *both* may not be at the same time at all: then they show nothing, and the
//! round is not counted. The same is done with a shared list under a lock and with a loop that shares nothing, for comparison.

use core::hint::{black_box, spin_loop};
use core::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::super::NativeSetting;
use super::super::native::{Series, calibrate, number};
use super::{Scrub, machine, use_ours};
use crate::checks::{Aim, Check, Verdict};
use crate::failure::Failure;

/// How much longer an operation may take when another thread does the same.
const TARGET: f64 = 1.15;
/// Rounds that are tried, when the user does not say.
const ROUNDS: u32 = 1000;
/// Which part of a sample the other thread's must be at the same time.
pub(super) const TOGETHER: f64 = 0.8;
/// Rounds that must count.
pub(super) const FEWEST: usize = 20;

const NAME: &str = "hosted.scaling";

/// Measures, and judges.
pub(super) fn check(setting: &NativeSetting<'_>) -> Result<Check, Failure> {
    let Some(places) = two_cpus() else {
        return Ok(Check::skip(NAME, "this machine has one CPU for us"));
    };
    let rounds = setting.samples.map_or(ROUNDS, |samples| samples.max(FEWEST as u32));
    let machine = machine(2)?;
    machine.area().set_scrub(Scrub::None);
    let ours = pairs(rounds, places, |_| {
        let cpu = machine.cpu();
        let machine = &machine;
        move |count| {
            debug_assert!(cpu.is_ok(), "there are as many CPUs as threads");
            use_ours(machine, count);
        }
    });
    setting.interrupts.check()?;
    let shared = Mutex::new((0..8).collect::<Vec<u32>>());
    // For comparison: fewer will do.
    let rounds = (rounds / 4).max(FEWEST as u32);
    let list = pairs(rounds, places, |_| |count| (0..count).for_each(|_| use_shared(&shared)));
    let nothing = pairs(rounds, places, |_| |count| (0..4 * count).for_each(|i| _ = black_box(i)));
    Ok(judge(&ours, &list, &nothing))
}

fn use_shared(list: &Mutex<Vec<u32>>) {
    let take = || list.lock().unwrap_or_else(PoisonError::into_inner).pop();
    if let Some(item) = black_box(take()) {
        list.lock().unwrap_or_else(PoisonError::into_inner).push(item);
    }
}

fn judge(ours: &[Pair], list: &[Pair], nothing: &[Pair]) -> Check {
    let [ratios, list, nothing] = [ours, list, nothing].map(ratios);
    if ratios.rounds() < FEWEST {
        let seen = format!("in {} of {} rounds only did two threads run at once", ratios.rounds(), ours.len());
        return Check::fail(NAME, format!("{seen}: this machine has too much else to do"));
    }
    let alone = Series::new(ours.iter().map(|pair| pair.alone).collect());
    let detail = format!(
        "{ratios} times {} ns, in {} of {} rounds in which both ran at once, at most {TARGET} was aimed at; a list \
         under a lock: {list}, a loop that shares nothing: {nothing}",
        number(alone.median()),
        ratios.rounds(),
        ours.len(),
    );
    let verdict = if ratios.median() <= TARGET { Verdict::Pass } else { Verdict::Fail };
    Check::new(NAME, verdict, detail).with_figure(number(ratios.median()), "times").aiming(Aim::AtMost(TARGET))
}

/// What an operation took alone and beside another thread, in nanoseconds, and which part of that the other was there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub(super) alone: f64,
    both: f64,
    together: f64,
}

fn ratios(pairs: &[Pair]) -> Series {
    ratios_where(pairs, TOGETHER)
}

/// How many times as long it took beside another thread, in the rounds in which that was there for such a part of it.
pub(super) fn ratios_where(pairs: &[Pair], together: f64) -> Series {
    let counted = pairs.iter().filter(|pair| pair.together >= together);
    Series::new(counted.map(|pair| pair.both / pair.alone).collect())
}

/// Two CPUs that this process may run on, as far apart as their numbers say: neighbours may be one core.
pub(super) fn two_cpus() -> Option<[usize; 2]> {
    let allowed = sched_getaffinity(None).ok()?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    Some([cpus.next()?, cpus.next_back()?])
}

/// Keeps this thread on `cpu`, if the system lets us.
fn stay_on(cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu);
    // Where it does not, fewer rounds count.
    let _ = sched_setaffinity(None, &only);
}

/// Where two threads meet, and how many operations a sample has.
#[derive(Default)]
struct Meeting {
    came: AtomicU32,
    operations: AtomicU32,
}

/// Runs what `work` makes, on the thread that it will run on, alone and beside itself on another thread; each on one of `places`.
pub(super) fn pairs<W: FnMut(u32)>(rounds: u32, places: [usize; 2], work: impl Fn(usize) -> W + Sync) -> Vec<Pair> {
    let meeting = Meeting::default();
    thread::scope(|scope| {
        let first = scope.spawn(|| first(&meeting, rounds, places[0], work(0)));
        let second = scope.spawn(|| second(&meeting, rounds, places[1], work(1)));
        let (first, second) = (first.join().unwrap_or_default(), second.join().unwrap_or_default());
        let count = meeting.operations.load(Ordering::Relaxed);
        first.iter().zip(&second).map(|((alone, mine), theirs)| Pair::of(*alone, mine, theirs, count)).collect()
    })
}

/// What the first thread does: it finds out how long a sample is, and works alone before each that both do.
fn first(meeting: &Meeting, rounds: u32, place: usize, mut work: impl FnMut(u32)) -> Vec<(f64, Span)> {
    stay_on(place);
    let count = calibrate(&mut work);
    meeting.operations.store(count, Ordering::Relaxed);
    meeting.meet(1);
    let round = |round| {
        let alone = Span::of(&mut work, count).each(count);
        meeting.meet(round + 2);
        (alone, Span::of(&mut work, count))
    };
    (0..rounds).map(round).collect()
}

fn second(meeting: &Meeting, rounds: u32, place: usize, mut work: impl FnMut(u32)) -> Vec<Span> {
    stay_on(place);
    meeting.meet(1);
    let count = meeting.operations.load(Ordering::Relaxed);
    let round = |round| {
        meeting.meet(round + 2);
        Span::of(&mut work, count)
    };
    (0..rounds).map(round).collect()
}

impl Meeting {
    /// Waits until both threads have come here `times` times.
    fn meet(&self, times: u32) {
        self.came.fetch_add(1, Ordering::AcqRel);
        while self.came.load(Ordering::Acquire) < 2 * times {
            spin_loop();
        }
    }
}

/// From when to when a sample was.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: Instant,
    end: Instant,
}

impl Span {
    fn of(work: &mut impl FnMut(u32), count: u32) -> Self {
        let start = Instant::now();
        work(count);
        Self { start, end: Instant::now() }
    }

    fn nanoseconds(&self) -> f64 {
        self.end.duration_since(self.start).as_nanos() as f64
    }

    fn each(&self, count: u32) -> f64 {
        self.nanoseconds() / f64::from(count)
    }

    /// Which part of the longer of two the other was there.
    fn together(&self, other: &Self) -> f64 {
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        end.saturating_duration_since(start).as_nanos() as f64 / self.nanoseconds().max(other.nanoseconds())
    }
}

impl Pair {
    fn of(alone: f64, mine: &Span, theirs: &Span, count: u32) -> Self {
        let both = (mine.each(count) + theirs.each(count)) / 2.0;
        Self { alone, both, together: mine.together(theirs) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Pair, Span, judge, pairs, two_cpus};
    use crate::checks::Verdict;
    use core::time::Duration;
    use std::time::Instant;

    fn pair(both: f64, together: f64) -> Pair {
        Pair { alone: 10.0, both, together }
    }

    #[test]
    fn rounds_in_which_the_other_did_not_run_do_not_count() {
        let mut rounds = vec![pair(10.0, 0.1); 100];
        assert_eq!(judge(&rounds, &[], &[]).outcome, Verdict::Fail);
        rounds.extend([pair(11.0, 0.9); 20]);
        let check = judge(&rounds, &[], &[]);
        assert_eq!((check.outcome, check.figure), (Verdict::Pass, serde_json::Number::from_f64(1.1)));
        assert_eq!(judge(&[pair(12.0, 1.0); 30], &[], &[]).outcome, Verdict::Fail);
    }

    #[test]
    fn two_samples_are_together_as_far_as_they_overlap() {
        let now = Instant::now();
        let span = |from, to| Span { start: now + Duration::from_micros(from), end: now + Duration::from_micros(to) };
        assert_eq!(span(0, 100).together(&span(50, 150)), 0.5);
        assert_eq!(span(0, 100).together(&span(0, 1000)), 0.1);
        assert_eq!(span(0, 100).together(&span(100, 200)), 0.0);
    }

    #[test]
    fn both_threads_do_every_round() {
        let counts = [const { core::sync::atomic::AtomicU32::new(0) }; 2];
        let Some(places) = two_cpus() else { return };
        let seen = pairs(5, places, |thread| {
            let counts = &counts;
            move |count| _ = counts[thread].fetch_add(count, core::sync::atomic::Ordering::Relaxed)
        });
        assert_eq!(seen.len(), 5);
        assert!(counts.iter().all(|count| count.load(core::sync::atomic::Ordering::Relaxed) > 0));
    }
}
