//! The suite `dma`, as far as it runs in this process: requests by chance at the door to devices, and what the door costs in nanoseconds.
//!
//! The requests are `vmstack_hosted::dma`'s: four threads, each policy, a device that reaches memory by physical address alone. Every byte is compared,
//! and every refusal judged by an oracle. What is wrong is told in words.
//!
//! The costs are nobody's aim here: a clock sees a machine that does other things, and the aims are in instructions, of a kernel.

use core::slice;

use vmstack::DmaPolicy;
use vmstack_hosted::dma::{Costs, REQUEST, Tally, at_random, with_costs};

use super::super::NativeSetting;
use super::super::native::{self, Contender, Series, number};
use super::no_machine;
use crate::checks::{Aim, Check, Verdict};
use crate::failure::Failure;
use crate::report::{explain, grouped, show_rows};
use crate::screen::Screen;

/// The requests, all policies together.
const REQUESTS: u64 = 100_000;
/// Where chance begins: the same each time, so that what went wrong once goes wrong again, nearly.
const SEED: u64 = 7;
/// Rounds of the clock, when the user does not say.
const ROUNDS: u32 = 200;

/// Runs it, and shows it.
pub(in super::super) fn run(setting: &NativeSetting<'_>, screen: &mut Screen) -> Result<Vec<Check>, Failure> {
    screen.heading("DMA in a Linux process: requests by chance, on four CPUs, with each policy");
    let tallies = at_random(REQUESTS.div_ceil(3), SEED).map_err(no_machine)?;
    let mut checks = judge(&tallies);
    for check in &checks {
        show_rows(screen, slice::from_ref(check));
        explain(screen, &check.detail);
    }
    setting.interrupts.check()?;
    screen.heading("What the door costs, by the clock");
    let costs = with_costs(|costs| measure(costs, setting)).map_err(no_machine)??;
    for (label, series) in LABELS.iter().zip(&costs) {
        screen.line(&format!("  {label:52}{:>23} ns", series.to_string()));
    }
    checks.extend(rows(&costs));
    Ok(checks)
}

/// The findings of requests by chance.
fn judge(tallies: &[(DmaPolicy, Tally)]) -> Vec<Check> {
    let all = tallies.iter().cloned().fold(Tally::default(), |sum, (_, tally)| sum.with(tally));
    let none = |name: &str, figure: u64, unit: &str, detail: String| {
        let verdict = if figure == 0 { Verdict::Pass } else { Verdict::Fail };
        let told = if figure == 0 { detail } else { format!("{detail}; {}", all.examples.join("; ")) };
        Check::new(name, verdict, told).with_figure(figure, unit).aiming(Aim::AtMost(0.0))
    };
    let wrong = format!(
        "of {} bytes that were compared: what devices read, what they wrote, what is around it, what a new owner finds",
        grouped(all.compared)
    );
    let refusals = format!("of {} refusals and all other answers, by an oracle's", grouped(all.refused));
    let kept = format!("stacks, buffers and transfers, when all is over; {} owners died meanwhile", grouped(all.died));
    vec![
        requests(&all),
        none("dma.random.wrong", all.wrong + all.not_zero, "bytes", wrong),
        none("dma.random.refusals_wrong", all.misjudged, "answers", refusals),
        none("dma.random.kept", all.kept, "things", kept),
    ]
}

/// How many requests there were, which have to be of every kind.
fn requests(all: &Tally) -> Check {
    let kinds = [all.plain, all.mapped, all.bounced, all.refused, all.lists, all.races];
    let enough = all.requests >= REQUESTS && kinds.iter().all(|&kind| kind >= REQUESTS / 1000);
    let [plain, mapped, bounced, refused, lists, races] = kinds.map(grouped);
    let detail = format!(
        "{plain} passed as no stack's, {mapped} mapped, {bounced} bounced, {refused} refused; {lists} lists passed, {races} raced with \
         their stack's owner"
    );
    let verdict = if enough { Verdict::Pass } else { Verdict::Fail };
    let aim = Aim::AtLeast(REQUESTS as f64);
    Check::new("dma.random.requests", verdict, detail).with_figure(all.requests, "requests").aiming(aim)
}

/// What is measured, in the order of its series.
const LABELS: [&str; 4] = [
    "the check of an address that is no stack's",
    "512 bytes of a buffer that owns its frames",
    "512 bytes of the own stack, bounced",
    "512 bytes of the own stack, mapped",
];
const NAMES: [&str; 4] = ["check", "owned", "bounced", "mapped"];

fn measure(costs: &Costs<'_>, setting: &NativeSetting<'_>) -> Result<Vec<Series>, Failure> {
    let runs: [Box<dyn FnMut(u32) + '_>; 4] = [
        Box::new(|count| costs.check(count)),
        Box::new(|count| costs.owned(count)),
        Box::new(|count| costs.bounced(count)),
        Box::new(|count| costs.mapped(count)),
    ];
    let named = NAMES.into_iter().zip(LABELS).zip(runs);
    let mut contenders: Vec<_> = named.map(|((name, label), run)| Contender { name, label, run }).collect();
    native::by_turns(&mut contenders, setting.samples.unwrap_or(ROUNDS), setting.interrupts)
}

/// A row for each, in nanoseconds; and how many times a buffer's request one that bounces is.
fn rows(costs: &[Series]) -> Vec<Check> {
    let named = NAMES.iter().zip(LABELS).zip(costs);
    let mut checks: Vec<_> = named
        .map(|((name, label), series)| {
            let detail = format!("{label}: {series} ns, {} rounds", series.rounds());
            row(&format!("dma.hosted.{name}"), series, "ns", detail)
        })
        .collect();
    if let [_, owned, bounced, mapped] = costs {
        let (times, mapped) = (owned.times_in(bounced), owned.times_in(mapped));
        let detail = format!(
            "{times} times the time of a buffer's request of {REQUEST} bytes, and {mapped} times where it is mapped; nothing else is \
             in a request here but the device's copy"
        );
        checks.push(row("dma.hosted.bounced.times", &times, "times", detail));
    }
    checks
}

fn row(name: &str, series: &Series, unit: &str, detail: String) -> Check {
    Check::new(name, Verdict::Pass, detail).with_figure(number(series.median()), unit)
}

#[cfg(test)]
mod tests {
    use super::{REQUESTS, Series, Tally, judge, rows};
    use crate::checks::Verdict;
    use vmstack::DmaPolicy;

    fn good() -> Tally {
        let mut tally = Tally::default();
        (tally.requests, tally.compared) = (REQUESTS, 1 << 30);
        [tally.plain, tally.mapped, tally.bounced, tally.refused, tally.lists, tally.races] = [REQUESTS / 10; 6];
        tally
    }

    fn outcomes(tally: Tally) -> Vec<Verdict> {
        judge(&[(DmaPolicy::Map, tally)]).iter().map(|check| check.outcome).collect()
    }

    #[test]
    fn one_wrong_byte_one_wrong_answer_or_one_thing_kept_is_too_much() {
        assert_eq!(outcomes(good()), [Verdict::Pass; 4]);
        for (place, spoil) in [(1, (|tally| tally.wrong = 1) as fn(&mut Tally)), (1, |tally| tally.not_zero = 1)]
            .into_iter()
            .chain([(2, (|tally| tally.misjudged = 1) as fn(&mut Tally)), (3, |tally| tally.kept = 1)])
        {
            let mut tally = good();
            tally.examples.push("this one".to_owned());
            spoil(&mut tally);
            let checks = judge(&[(DmaPolicy::Map, tally)]);
            let failed: Vec<_> = checks.iter().filter(|check| check.outcome == Verdict::Fail).collect();
            assert_eq!((failed.len(), &failed[0].name), (1, &checks[place].name));
            assert!(failed[0].detail.contains("this one"), "{}", failed[0].detail);
        }
    }

    #[test]
    fn requests_have_to_be_enough_and_of_every_kind() {
        for spoil in [|tally: &mut Tally| tally.requests -= 1, |tally: &mut Tally| tally.mapped = 0] {
            let mut tally = good();
            spoil(&mut tally);
            assert_eq!(outcomes(tally)[0], Verdict::Fail);
        }
    }

    #[test]
    fn costs_are_rows_that_nobody_judges() {
        let costs = [1.0, 10.0, 25.0, 20.0].map(|figure| Series::new(vec![figure; 3]));
        let checks = rows(&costs);
        let told: Vec<_> = checks.iter().map(|check| (check.name.as_str(), check.unit.as_str())).collect();
        assert_eq!(told[0], ("dma.hosted.check", "ns"));
        assert_eq!(told[4], ("dma.hosted.bounced.times", "times"));
        assert_eq!(checks[4].figure, serde_json::Number::from_f64(2.5));
        assert!(checks.iter().all(|check| check.outcome == Verdict::Pass && check.aim.is_none()));
    }
}
