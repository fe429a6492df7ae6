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

use super::facts::{Evidence, Holds, Oops, Shortfall, hold, odd};
use super::special::Seen;
use crate::console::number;
use crate::symbols::{self, Symbol};

/// The events.
const KINDS: [&str; 5] = ["syscall", "exception", "interrupt", "nmi", "call"];
/// The events of the hosted port.
const HOSTED_KINDS: [&str; 2] = ["call", "interrupt"];
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

    /// The function at the fault, or the instruction where it has no name.
    fn function(&self) -> &str {
        let symbol = self.symbol.as_deref().map(|symbol| symbol.rsplit_once('+').map_or(symbol, |(name, _)| name));
        symbol.or(self.instruction.as_deref()).unwrap_or("none")
    }
}

/// Judges the sweep; the figure is the number of runs.
pub(super) fn judge(crash: &Evidence) -> Result<Seen, Shortfall> {
    let runs: Vec<Run> = crash.facts.all("sweep").iter().map(|words| Run::read(words)).collect::<Result<_, _>>()?;
    // Which has a stack of its own, and so is never reported.
    let (kinds, own): (&[&str], &str) = if crash.is_hosted() { (&HOSTED_KINDS, "interrupt") } else { (&KINDS, "nmi") };
    let mut boundaries = Vec::new();
    for kind in kinds {
        let mut of_kind: Vec<&Run> = runs.iter().filter(|run| run.kind == *kind).collect();
        of_kind.sort_by_key(|run| run.bytes);
        complete(kind, &of_kind)?;
        monotone(kind, &of_kind)?;
        let boundary = of_kind.iter().filter(|run| !run.completed()).count() as u64 * STEP;
        hold(*kind != own || boundary == 0, || format!("an {own} was reported below {boundary} bytes"))?;
        hold(*kind == own || (1..STEP * STEPS).contains(&boundary), || {
            format!(
                "{kind} completes from {boundary} bytes on: it must be reported with 0, and complete with {}",
                (STEPS - 1) * STEP
            )
        })?;
        boundaries.push(format!("{kind} {boundary}"));
    }
    at_their_instructions(&runs, &crash.oopses()?)?;
    let said = format!("completes from so many bytes on: {}", boundaries.join(", "));
    Ok(Seen { figure: Some(STEPS * kinds.len() as u64), said, runs })
}

/// The runs that were reported, and the reports, are of the same instructions, each as often.
fn at_their_instructions(runs: &[Run], oopses: &[Oops]) -> Holds {
    let mut swept: Vec<u64> = runs.iter().filter(|run| !run.completed()).map(|run| run.address).collect();
    let mut reported: Vec<u64> = oopses.iter().map(|oops| oops.instruction).collect();
    swept.sort_unstable();
    reported.sort_unstable();
    let odd = swept.iter().zip(&reported).find(|(swept, reported)| swept != reported);
    hold(swept.len() == reported.len() && odd.is_none(), || {
        let odd = odd
            .map_or_else(String::new, |(swept, reported)| format!(": {swept:#x}, where the reports say {reported:#x}"));
        format!("{} runs were reported, and there are {} reports{odd}", swept.len(), reported.len())
    })
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

/// The runs that were reported, in words: for each kind the ranges of bytes with which the fault was in the same function.
pub(super) fn fold(runs: &[Run]) -> String {
    let mut ranges: Vec<(&Run, u64)> = Vec::new();
    for run in sorted(runs).into_iter().filter(|run| !run.completed()) {
        match ranges.last_mut() {
            Some((first, last)) if first.kind == run.kind && first.function() == run.function() => *last = run.bytes,
            _ => ranges.push((run, run.bytes)),
        }
    }
    let mut words = String::new();
    let mut kind = "";
    for (first, last) in ranges {
        words.push_str(if kind == first.kind {
            ", "
        } else if kind.is_empty() {
            ""
        } else {
            "; "
        });
        if kind != first.kind {
            kind = &first.kind;
            words.push_str(&format!("{kind} "));
        }
        let range = if first.bytes == last { last.to_string() } else { format!("{}..{last}", first.bytes) };
        words.push_str(&format!("{range} in {}", first.function()));
    }
    words
}

/// By kind, and by the bytes that were left.
fn sorted(runs: &[Run]) -> Vec<&Run> {
    let mut sorted: Vec<&Run> = runs.iter().collect();
    sorted.sort_by_key(|run| (KINDS.iter().position(|kind| *kind == run.kind), run.bytes));
    sorted
}
