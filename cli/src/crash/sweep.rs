//! The sweep: an event at every number of bytes that are left on the stack.
//!
//! Facts: `sweep KIND N OUTCOME IP`. Each kind of event happens with N = 0, 8, ... 4,088 bytes left. At each N it either completes
//! or is reported once; more room never makes it worse; an NMI has a stack of its own, and so always completes.
//!
//! ```text
//!   N     0   8  16  ...  b-8 │ b  b+8  ...  4088
//!         reported   reported │ completed    completed       b is the boundary of the kind
//! ```

use serde::Serialize;

use super::facts::{Evidence, Holds, Shortfall, hold, odd};
use super::special::Seen;
use crate::console::number;
use crate::symbols::{self, Symbol};

/// The events.
const KINDS: [&str; 5] = ["syscall", "exception", "interrupt", "nmi", "call"];
/// What is never reported: it has a stack of its own.
const NMI: &str = "nmi";
/// Bytes between two runs, and how many there are of a kind.
const STEP: u64 = 8;
const STEPS: u64 = 512;

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Run {
    /// What happened.
    pub(super) kind: String,
    /// Bytes that were left on the stack.
    pub(super) bytes: u64,
    /// `completed` or `reported`.
    pub(super) outcome: String,
    /// The instruction at the fault, in hexadecimal; none if it completed.
    pub(super) instruction: Option<String>,
    /// The function that it is in, and how far into it.
    pub(super) symbol: Option<String>,
    #[serde(skip)]
    address: u64,
}

impl Run {
    fn read(words: &[String]) -> Result<Self, Shortfall> {
        let [kind, bytes, outcome, instruction] = words else { return Err(odd("sweep", words)) };
        let (bytes, address) = number(bytes).zip(number(instruction)).ok_or_else(|| odd("sweep", words))?;
        let completed = match outcome.as_str() {
            "completed" => true,
            "reported" => false,
            other => return Err(Shortfall(format!("{kind} with {bytes} bytes left: {other}"))),
        };
        let agrees = KINDS.contains(&kind.as_str()) && completed == (address == 0);
        let instruction = (!completed).then(|| format!("{address:#x}"));
        let run = Self { kind: kind.clone(), bytes, outcome: outcome.clone(), instruction, symbol: None, address };
        if agrees { Ok(run) } else { Err(odd("sweep", words)) }
    }

    fn completed(&self) -> bool {
        self.address == 0
    }
}

/// Judges the sweep; the figure is the number of runs.
pub(super) fn judge(crash: &Evidence) -> Result<Seen, Shortfall> {
    let runs: Vec<Run> = crash.facts.all("sweep").iter().map(|words| Run::read(words)).collect::<Result<_, _>>()?;
    let mut boundaries = Vec::new();
    for kind in KINDS {
        let mut of_kind: Vec<&Run> = runs.iter().filter(|run| run.kind == kind).collect();
        of_kind.sort_by_key(|run| run.bytes);
        complete(kind, &of_kind)?;
        monotone(kind, &of_kind)?;
        let boundary = of_kind.iter().filter(|run| !run.completed()).count() as u64 * STEP;
        hold(kind != NMI || boundary == 0, || format!("an NMI was reported below {boundary} bytes"))?;
        boundaries.push(format!("{kind} {boundary}"));
    }
    let said = format!("completes from so many bytes on: {}", boundaries.join(", "));
    Ok(Seen { runs, ..Seen::new(usize::try_from(STEPS).unwrap_or(0) * KINDS.len(), said) })
}

/// Each N once.
fn complete(kind: &str, runs: &[&Run]) -> Holds {
    let bytes = runs.iter().map(|run| run.bytes);
    let whole = bytes.eq((0..STEPS).map(|step| step * STEP));
    hold(whole, || {
        format!("the {} runs of {kind} are not one for each of 0, {STEP}, ... {}", runs.len(), (STEPS - 1) * STEP)
    })
}

/// Once it completes, it completes with more room too.
fn monotone(kind: &str, runs: &[&Run]) -> Holds {
    let first = runs.iter().position(|run| run.completed()).unwrap_or(runs.len());
    let worse = runs[first..].iter().find(|run| !run.completed());
    hold(worse.is_none(), || {
        let (from, worse) = (runs[first].bytes, worse.map_or(0, |run| run.bytes));
        format!("{kind} completes with {from} bytes left, and is reported with {worse}")
    })
}

/// Names the instructions of `runs`.
pub(super) fn name(runs: &mut [Run], symbols: &[Symbol]) {
    for run in runs.iter_mut().filter(|run| !run.completed()) {
        run.symbol = symbols::place(symbols, run.address);
    }
}

/// The runs that were reported, neighbours at the same instruction folded into one range, in words.
pub(super) fn fold(runs: &[Run]) -> String {
    let mut ranges: Vec<(&Run, u64)> = Vec::new();
    for run in runs.iter().filter(|run| !run.completed()) {
        match ranges.last_mut() {
            Some((first, last)) if (&first.kind, first.address) == (&run.kind, run.address) => *last = run.bytes,
            _ => ranges.push((run, run.bytes)),
        }
    }
    let words = ranges.iter().map(|(first, last)| {
        let at = first.symbol.as_deref().or(first.instruction.as_deref()).unwrap_or("?");
        let bytes = if first.bytes == *last { last.to_string() } else { format!("{}..{last}", first.bytes) };
        format!("{} {bytes} at {at}", first.kind)
    });
    words.collect::<Vec<_>>().join(", ")
}
