//! The suite `switch`: what a context switch takes with so many stacks in rotation, and which part of it is the TLB's.
//!
//! The article that proposed mapped stacks left one price unmeasured: a stack in the direct map is covered by a large page, a mapped one
//! takes TLB entries of its own. So contexts switch to each other in a ring, with the switch that the kernel has (`vmstack_arch::switch`),
//! on stacks in three kinds of memory (`memory`): single pages scattered over the machine, as a mapped stack has them; the same pages in a row; and
//! pages of 2 MiB, as a direct map has.
//!
//! Each kind is *one* mapping without guards, so that the number of mappings, which a kernel does not have, does not matter. What a switch
//! touches all lies at the top of each stack (`ring`). Order and colour are the same in every kind, so what differs is the way to the memory,
//! and, for scattered pages, which parts of the caches it falls into. So two differences are given: *the TLB*, between small and large pages
//! of the same memory; and *in all*, between scattered and large ones.
//!
//! This machine's page tables may themselves be walked through another machine's: in a virtual machine a miss costs more.

use super::NativeSetting;
use super::native::{self, Contender, Series, number};
use crate::checks::{Check, Verdict};
use crate::failure::Failure;
use crate::report::show_rows;
use crate::screen::{Screen, Tone};

mod memory;
mod ring;

use memory::{Kind, Memory};
use ring::Ring;

/// How many stacks are in rotation.
const STACKS: [usize; 7] = [16, 64, 256, 1024, 4096, 16_384, 65_536];
/// Rounds, when the user does not say; of a ring that takes longer than a sample to go round once, fewer.
const ROUNDS: u32 = 200;
const ROUNDS_OF_LARGE: u32 = 50;
const LARGE: usize = 4096;

/// Runs the suite.
pub(super) fn run(setting: &NativeSetting<'_>, screen: &mut Screen) -> Result<Vec<Check>, Failure> {
    screen.heading("A context switch, in nanoseconds: so many stacks in rotation");
    let head = ["stacks", "scattered", "in a row", "2 MiB", "the TLB", "in all"];
    let head = line(head.map(str::to_owned).into_iter());
    screen.line(&screen.paint(Tone::Faint, &head));
    let mut checks = Vec::new();
    for stacks in STACKS {
        let row = Row::measure(setting, stacks)?;
        screen.line(&row.line());
        checks.extend(row.checks());
    }
    let amiss: Vec<Check> = checks.iter().filter(|check| check.outcome != Verdict::Pass).cloned().collect();
    show_rows(screen, &amiss);
    Ok(checks)
}

/// One number of stacks: each kind of memory, or why it could not be had.
struct Row {
    stacks: usize,
    kinds: [Result<Measured, String>; 3],
}

/// What one kind took, and what is known of it.
struct Measured {
    series: Series,
    note: String,
}

impl Row {
    fn measure(setting: &NativeSetting<'_>, stacks: usize) -> Result<Self, Failure> {
        let memories = Kind::ALL.map(|kind| Memory::new(kind, stacks));
        let contenders = memories.iter().flatten().map(|memory| {
            let mut ring = Ring::new(memory, stacks);
            let rounds = move |times| ring.go_round(times);
            Contender { name: memory.kind().name(), label: memory.kind().label(), run: Box::new(rounds) }
        });
        let rounds = setting.samples.unwrap_or(if stacks < LARGE { ROUNDS } else { ROUNDS_OF_LARGE });
        let series = native::by_turns(&mut contenders.collect::<Vec<_>>(), rounds, setting.interrupts)?;
        let mut series = series.into_iter();
        let kinds = memories.map(|memory| {
            let memory = memory.map_err(|why| why.to_string())?;
            let each = series.next().ok_or("it was not measured")?.divided_by((stacks + 1) as f64);
            Ok(Measured { series: each, note: memory.note() })
        });
        Ok(Self { stacks, kinds })
    }

    fn line(&self) -> String {
        let median = |series: &Series| number(series.median()).to_string();
        let kinds = self.kinds.iter().map(|kind| kind.as_ref().ok().map(|it| median(&it.series)));
        let prices = Price::ALL.iter().map(|price| price.of(self).as_ref().map(median));
        let figures = kinds.chain(prices).map(|figure| figure.unwrap_or_else(|| "-".to_owned()));
        line([self.stacks.to_string()].into_iter().chain(figures))
    }

    fn checks(&self) -> impl Iterator<Item = Check> {
        let kinds = Kind::ALL.iter().zip(&self.kinds).map(|(kind, measured)| {
            let name = format!("switch.{}.{}", kind.name(), self.stacks);
            match measured {
                Ok(Measured { series, note }) => {
                    let detail = format!("{}: {series} ns, {} rounds; {note}", kind.label(), series.rounds());
                    Check::new(&name, Verdict::Pass, detail).with_figure(number(series.median()), "ns")
                }
                Err(why) => Check::skip(&name, why.as_str()),
            }
        });
        kinds.chain(Price::ALL.iter().filter_map(|price| price.check(self)))
    }
}

/// A difference between two kinds of memory, the second of which is large pages.
struct Price {
    name: &'static str,
    dearer: Kind,
    says: &'static str,
}

impl Price {
    const ALL: [Self; 2] = [
        Self {
            name: "tlb",
            dearer: Kind::InARow,
            says: "longer on pages of 4 KiB in a row than on pages of 2 MiB: the memory is the same, and only the entries differ",
        },
        Self {
            name: "mapped",
            dearer: Kind::Scattered,
            says: "longer on scattered pages than on pages of 2 MiB: the TLB, and where in the caches the memory falls",
        },
    ];

    /// How much longer a switch takes, within a round.
    fn of(&self, row: &Row) -> Option<Series> {
        let series = |kind| row.kinds[Kind::ALL.iter().position(|&it| it == kind)?].as_ref().ok().map(|it| &it.series);
        Some(series(self.dearer)?.less(series(Kind::Large)?))
    }

    fn check(&self, row: &Row) -> Option<Check> {
        let price = self.of(row)?;
        let detail = format!("{price} ns {}, {} stacks", self.says, row.stacks);
        let name = format!("switch.{}.{}", self.name, row.stacks);
        Some(Check::new(&name, Verdict::Pass, detail).with_figure(number(price.median()), "ns"))
    }
}

fn line(columns: impl Iterator<Item = String>) -> String {
    columns.map(|column| format!("{column:>12}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{Measured, NativeSetting, Row, Series};
    use crate::checks::{Check, Verdict};
    use crate::interrupt::Interrupts;

    fn measured(figures: [f64; 3]) -> Result<Measured, String> {
        Ok(Measured { series: Series::new(figures.to_vec()), note: "as it is".into() })
    }

    #[test]
    fn the_price_of_the_tlb_is_the_difference_within_a_round() {
        let kinds = [measured([10.0, 20.0, 12.0]), measured([9.0; 3]), measured([4.0, 15.0, 6.0])];
        let row = Row { stacks: 256, kinds };
        let checks: Vec<Check> = row.checks().collect();
        let names: Vec<_> = checks.iter().map(|check| check.name.as_str()).collect();
        assert_eq!(names[..3], ["switch.scattered.256", "switch.in_a_row.256", "switch.large.256"]);
        assert_eq!(names[3..], ["switch.tlb.256", "switch.mapped.256"]);
        assert_eq!(checks[3].figure, Some(serde_json::Number::from_f64(3.0).expect("finite")));
        assert_eq!(checks[4].figure, Some(serde_json::Number::from_f64(6.0).expect("finite")));
        assert_eq!(row.line().split_whitespace().collect::<Vec<_>>(), ["256", "12.0", "9.0", "6.0", "3.0", "6.0"]);
    }

    #[test]
    fn a_row_has_a_figure_for_what_this_machine_has() {
        let interrupts = Interrupts::none();
        let setting = NativeSetting { samples: Some(3), interrupts: &interrupts };
        let row = Row::measure(&setting, 16).expect("nobody interrupts");
        let scattered = row.kinds[0].as_ref().expect("every machine has pages of 4 KiB");
        assert!(scattered.series.rounds() == 3 && scattered.series.median() > 0.1, "{:?}", scattered.series);
    }

    #[test]
    fn what_this_machine_does_not_give_is_skipped_with_the_reason() {
        let row = Row { stacks: 16, kinds: [measured([1.0; 3]), measured([1.0; 3]), Err("no large pages".into())] };
        let checks: Vec<Check> = row.checks().collect();
        assert_eq!((checks.len(), checks[2].outcome, checks[2].detail.as_str()), (3, Verdict::Skip, "no large pages"));
    }
}
