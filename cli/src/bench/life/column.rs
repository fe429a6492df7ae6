//! What one boot measured: a row an operation, or why there is none.

use super::Way;
use super::anchors::{OPERATIONS, Operation, STATISTICS};
use crate::bench::counted::calibrated;
use crate::checks::{Aim, Check, Verdict};
use crate::console::Transcript;
use crate::outcome::Outcome;
use crate::report::grouped;

const UNIT: &str = "instructions";

/// Median, mean and 99th percentile of so many samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) samples: u64,
    pub(super) figures: [u64; 3],
}

/// All rows of one boot.
pub(super) struct Column {
    /// Between `life.` and the operation in a finding's name.
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    /// One an operation, in their order.
    pub(super) rows: [Result<Row, String>; OPERATIONS.len()],
}

impl Column {
    /// What a boot that ended so printed.
    pub(super) fn of(way: &Way, outcome: Outcome, facts: &Transcript) -> Self {
        let row = |operation: Operation| match ended_well(outcome).and_then(|()| calibrated(facts, "life.calibration"))
        {
            Ok(()) => row(&operation, facts),
            Err(why) => Err(why),
        };
        Self { name: way.name, label: way.label, rows: OPERATIONS.map(row) }
    }

    /// Whether it is what is judged.
    pub(super) fn is_judged(&self) -> bool {
        self.name.is_empty()
    }

    /// Its findings, one a figure.
    pub(super) fn checks(&self) -> impl Iterator<Item = Check> {
        let rows = OPERATIONS.iter().zip(&self.rows);
        rows.flat_map(move |(operation, row)| (0..STATISTICS.len()).map(move |index| self.check(operation, row, index)))
    }

    fn check(&self, operation: &Operation, row: &Result<Row, String>, index: usize) -> Check {
        let dot = if self.is_judged() { "" } else { "." };
        let name = format!("life{dot}{}.{}.{}", self.name, operation.name, STATISTICS[index]);
        let Row { samples, figures } = match row {
            Ok(row) => row,
            Err(why) => return Check::fail(&name, why.clone()),
        };
        let figure = figures[index];
        let allowed = operation.allowed(index).filter(|_| self.is_judged());
        let (verdict, aim) = match allowed {
            None => (Verdict::Pass, String::new()),
            Some(allowed) => {
                let verdict = if figure <= allowed { Verdict::Pass } else { Verdict::Fail };
                (verdict, format!("; at most {} were aimed at", grouped(allowed)))
            }
        };
        let detail = format!("{}, {}, {samples} samples{aim}", operation.title, self.label);
        Check::new(&name, verdict, detail)
            .with_figure(figure, UNIT)
            .aiming(allowed.map(|allowed| Aim::AtMost(allowed as f64)))
    }
}

fn ended_well(outcome: Outcome) -> Result<(), String> {
    if outcome == Outcome::Orderly { Ok(()) } else { Err(outcome.to_string()) }
}

/// The row of an operation; what the program said of it when it has none.
fn row(operation: &Operation, facts: &Transcript) -> Result<Row, String> {
    let numbers = facts.numbers(&format!("life.{}", operation.name));
    let [samples, p50, mean, p99] = numbers.map_err(|bad| {
        let start = format!("life: {}: ", operation.name);
        let said = facts.lines().iter().find_map(|line| line.text.strip_prefix(&start));
        said.map_or_else(|| bad.to_string(), |why| format!("it could not be measured: {why}"))
    })?;
    Ok(Row { samples, figures: [p50, mean, p99] })
}
