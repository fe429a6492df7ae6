//! Which pictures there are, and what is in each: from the names of the findings alone.
//!
//! A suite that has pictures of its own is drawn as what it compares; of any other each unit gets a picture. What was aimed at comes
//! first, over all suites.

use super::draw::{Bar, Plot, Row, SHORT};
use crate::bench::life::{OPERATIONS, STATISTICS};
use crate::bench::{fault, memory, stack};
use crate::checks::{Aim, Check, Verdict};
use crate::report::decimal;

/// Suites with pictures of their own.
const OWN: [&str; 4] = ["life", "stack", "fault", "memory"];
/// What is longer is cut: a figure that is far off would press all others flat.
const CAP: f64 = 3.0;

/// What findings say by name.
struct Findings<'a>(&'a [Check]);

impl<'a> Findings<'a> {
    fn figure(&self, name: &str) -> Option<f64> {
        figure(self.0.iter().find(|check| check.name == name)?)
    }

    /// Those that begin with `start` and have a figure.
    fn beginning(&self, start: &str) -> impl Iterator<Item = (&'a Check, f64)> {
        self.0
            .iter()
            .filter(move |check| check.name.starts_with(start))
            .filter_map(|check| Some((check, figure(check)?)))
    }
}

fn figure(check: &Check) -> Option<f64> {
    check.figure.as_ref()?.as_f64()
}

/// All pictures that can be made of `checks`.
pub(super) fn of(checks: &[Check]) -> Vec<Plot> {
    let found = Findings(checks);
    let mut plots = vec![aims(&found)];
    plots.extend([ratios(&found, "direct", "direct stacks"), ratios(&found, "linux", "Linux")]);
    plots.extend([stacks(&found), waits(&found), numbers(&found), depths(&found), paid(&found)]);
    plots.push(death(&found));
    plots.extend([bytes(&found), beside(&found)]);
    plots.extend(others(checks));
    plots.retain(|plot| plot.rows.iter().any(|row| matches!(row, Row::Bar(_))));
    plots
}

/// Every figure against what was aimed at.
fn aims(found: &Findings<'_>) -> Plot {
    let rows = found.beginning("").filter_map(|(check, figure)| {
        let aim = check.aim?;
        let share = match aim {
            Aim::AtMost(most) => figure / most,
            Aim::AtLeast(least) => least / figure,
        };
        let colour = if check.outcome == Verdict::Fail { SHORT } else { 0 };
        let note = format!("{} ({aim})", decimal(figure));
        Some(Row::Bar(Bar { note, ..Bar::of(&check.name, if share.is_finite() { share } else { 0.0 }, colour) }))
    });
    Plot {
        name: "aims".into(),
        title: "Figures against what was aimed at".into(),
        about: "Parts of what is allowed: up to the line at 1 a figure is as it should be.".into(),
        keys: vec![(0, "as it should be".into()), (SHORT, "fell short".into())],
        rows: rows.collect(),
        line: Some(1.0),
        cap: Some(CAP),
    }
}

/// The life of a task with mapped stacks, in parts of what it costs `other`s.
fn ratios(found: &Findings<'_>, other: &str, words: &str) -> Plot {
    let mut rows = Vec::new();
    for operation in OPERATIONS {
        let bars = STATISTICS.iter().enumerate().filter_map(|(index, statistic)| {
            let mapped = found.figure(&format!("life.{}.{statistic}", operation.name))?;
            let theirs = found.figure(&format!("life.{other}.{}.{statistic}", operation.name))?;
            Some(Row::Bar(Bar::of(*statistic, mapped / theirs, index)))
        });
        let bars: Vec<Row> = bars.filter(|row| matches!(row, Row::Bar(bar) if bar.parts[0].0.is_finite())).collect();
        if !bars.is_empty() {
            rows.push(Row::Heading(operation.title.into()));
            rows.extend(bars);
        }
    }
    Plot {
        name: format!("life-{other}"),
        title: format!("The life of a task: mapped stacks against {words}"),
        about: format!(
            "Instructions with mapped stacks, in parts of those with {words}: left of the line at 1 mapped ones are cheaper."
        ),
        keys: STATISTICS
            .iter()
            .enumerate()
            .map(|(index, statistic)| (index, statistic_words(statistic).into()))
            .collect(),
        rows,
        line: Some(1.0),
        cap: Some(CAP),
    }
}

fn statistic_words(statistic: &str) -> &str {
    match statistic {
        "p50" => "median (p50)",
        "p99" => "99th percentile (p99)",
        other => other,
    }
}

/// What a stack costs, tier by tier.
fn stacks(found: &Findings<'_>) -> Plot {
    let elsewhere = |name: &str| ["scrub", "flush"].iter().any(|part| name.starts_with(&format!("stack.{part}")));
    let rows = found.beginning("stack.").filter(|(check, _)| check.unit == "instructions" && !elsewhere(&check.name));
    let bar = |(check, figure): (&Check, f64)| {
        let aim = check.aim.map(Aim::figure);
        let colour = if check.aim.is_some_and(|aim| !aim.holds(figure)) { SHORT } else { 0 };
        Row::Bar(Bar { aim, ..Bar::of(&check.name, figure, colour) })
    };
    Plot {
        name: "stack".into(),
        title: "What a stack costs".into(),
        about: "Instructions for each stack; the tick on a bar is what was aimed at.".into(),
        keys: vec![(0, "as it should be, or nothing aimed at".into()), (SHORT, "fell short".into())],
        rows: rows.map(bar).collect(),
        ..Plot::default()
    }
}

/// How long a batch waits where CPUs flush when they switch tasks, in parts of how long it waits where they are sent a message.
fn waits(found: &Findings<'_>) -> Plot {
    let situations =
        [("idle", "the others idle"), ("switching", "the others switch"), ("busy", "each is busy with one task")];
    let bar = |(part, words): (&str, &str)| {
        let [message, switch] = ["message", "at_switch"].map(|way| found.figure(&format!("stack.flush.{way}.{part}")));
        let (message, switch) = (message.filter(|&message| message > 0.0)?, switch?);
        let note = format!("{} / {}", decimal(switch), decimal(message));
        Some(Row::Bar(Bar { note, ..Bar::of(words, switch / message, 0) }))
    };
    Plot {
        name: "flush".into(),
        title: "Flushing where CPUs switch tasks, against messages".into(),
        about: "Instructions of the machine until every CPU has flushed, in parts of those with messages: right of the line at 1 a batch waits longer."
            .into(),
        rows: situations.into_iter().filter_map(bar).collect(),
        line: Some(1.0),
        cap: Some(4.0 * CAP),
        ..Plot::default()
    }
}

/// The share of tasks that find a stack built, by who hands the numbers out.
fn numbers(found: &Findings<'_>) -> Plot {
    let mut rows = Vec::new();
    for (budget, words) in [("unlimited", "no budget"), ("budget", "a budget of 48 stacks")] {
        let bars = ["magazines", "lowest", "cyclic"].into_iter().filter_map(|numbers| {
            let figure = found.figure(&format!("stack.numbered.found.{budget}.{numbers}"))?;
            Some(Row::Bar(Bar::of(numbers, figure, 0)))
        });
        let bars: Vec<Row> = bars.collect();
        if !bars.is_empty() {
            rows.push(Row::Heading(words.into()));
            rows.extend(bars);
        }
    }
    Plot {
        name: "numbers".into(),
        title: "Stacks by the task's number, by who hands numbers out".into(),
        about: "The share of tasks that find a stack built: from magazines, by the lowest number that is free, by one number after the other."
            .into(),
        rows,
        ..Plot::default()
    }
}

/// What a stack costs by policy of clearing and depth of the task, in the steady state.
fn depths(found: &Findings<'_>) -> Plot {
    let mut rows = Vec::new();
    for (depth, pages) in stack::DEPTHS {
        let bars = stack::POLICIES.iter().enumerate().filter_map(|(index, (policy, _))| {
            let figure = found.figure(&format!("stack.scrub.{policy}.{depth}"))?;
            Some(Row::Bar(Bar::of(*policy, figure, COLOURS[index])))
        });
        let bars: Vec<Row> = bars.collect();
        if !bars.is_empty() {
            rows.push(Row::Heading(format!("{depth}: tasks that write {pages}")));
            rows.extend(bars);
        }
    }
    Plot {
        name: "scrub".into(),
        title: "Clearing, by policy and depth".into(),
        about: "Instructions to allocate and free a stack in the steady state, with what the policy clears of it."
            .into(),
        keys: policies(),
        rows,
        ..Plot::default()
    }
}

/// The colours of the policies: that of what falls short is none of them.
const COLOURS: [usize; 4] = [0, 1, 2, 4];

fn policies() -> Vec<(usize, String)> {
    let words = |(index, (policy, what)): (usize, &(&str, &str))| (COLOURS[index], format!("{policy}: {what}"));
    stack::POLICIES.iter().enumerate().map(words).collect()
}

/// The pages that each policy clears, of all pages that it hands out.
fn paid(found: &Findings<'_>) -> Plot {
    let rows = stack::POLICIES.iter().enumerate().filter_map(|(index, (policy, _))| {
        let figure = found.figure(&format!("stack.scrub.{policy}.paid"))?;
        Some(Row::Bar(Bar::of(*policy, figure, COLOURS[index])))
    });
    let line = found.0.iter().find(|check| check.name == "stack.scrub_shallow").and_then(|check| check.aim);
    Plot {
        name: "scrub-paid".into(),
        title: "Clearing paid against clearing all".into(),
        about: "Pages cleared of all pages handed out, where 1 task in 100 goes deep; the line is what was aimed at."
            .into(),
        keys: policies(),
        rows: rows.collect(),
        line: line.map(Aim::figure),
        cap: None,
    }
}

/// The parts of a task's end.
fn death(found: &Findings<'_>) -> Plot {
    let mut rows = Vec::new();
    for (name, words) in [("fault.kill", "a process, in a system call"), ("fault.kill_task", "a task of the kernel")] {
        let Some(all) = found.figure(name) else { continue };
        rows.push(Row::Heading(format!("{words}: {}", decimal(all))));
        let judged = fault::PARTS.iter().take(fault::PARTS.len() - fault::APART);
        let bars = judged.filter_map(|(part, what)| {
            let figure = found.figure(&format!("{name}.{part}"))?;
            Some(Row::Bar(Bar::of(*what, figure, 0)))
        });
        rows.extend(bars);
    }
    Plot {
        name: "fault".into(),
        title: "The end of a task that overflows its stack".into(),
        about: "Instructions from the overflow to the next task, part by part; console output and address space apart."
            .into(),
        rows,
        ..Plot::default()
    }
}

/// What a stack takes of memory.
fn bytes(found: &Findings<'_>) -> Plot {
    let parts = ["stack", "tables", "record"];
    Plot {
        name: "memory".into(),
        title: "What a stack takes of memory".into(),
        about: "KiB for each stack, by its size.".into(),
        keys: vec![(0, "its pages".into()), (1, "page tables".into()), (2, "its record".into())],
        rows: sizes(found, &parts, 0, 1024.0),
        ..Plot::default()
    }
}

/// What it takes beside its own pages: too little to be seen beside these.
fn beside(found: &Findings<'_>) -> Plot {
    Plot {
        name: "memory-beside".into(),
        title: "What a stack takes beside its own pages".into(),
        about: "Bytes for each stack, by its size.".into(),
        keys: vec![(1, "page tables".into()), (2, "its record".into())],
        rows: sizes(found, &["tables", "record"], 1, 1.0),
        ..Plot::default()
    }
}

/// A bar for each size, of `parts`, the first of which has colour `first`, in units of `unit` bytes.
fn sizes(found: &Findings<'_>, parts: &[&str], first: usize, unit: f64) -> Vec<Row> {
    let row = |kib: &u64| {
        let part = |(index, part): (usize, &&str)| {
            found.figure(&format!("memory.{kib}k.{part}")).map(|bytes| (bytes / unit, first + index))
        };
        let parts: Vec<(f64, usize)> = parts.iter().enumerate().map(part).collect::<Option<_>>()?;
        let all: f64 = parts.iter().map(|(length, _)| length).sum();
        Some(Row::Bar(Bar { parts, ..Bar::of(format!("{kib} KiB"), all, 0) }))
    };
    memory::SIZES.iter().filter_map(row).collect()
}

/// A picture for each unit of each suite that has none of its own.
fn others(checks: &[Check]) -> Vec<Plot> {
    let mut plots: Vec<Plot> = Vec::new();
    for (check, figure) in Findings(checks).beginning("") {
        let suite = check.name.split('.').next().unwrap_or_default();
        if OWN.contains(&suite) {
            continue;
        }
        let title = format!("{suite}: {}", check.unit);
        let colour = if check.outcome == Verdict::Fail { SHORT } else { 0 };
        let row = Row::Bar(Bar::of(&check.name, figure, colour));
        match plots.iter_mut().find(|plot| plot.title == title) {
            Some(plot) => plot.rows.push(row),
            None => plots.push(Plot { name: file_name(&title), rows: vec![row], ..other(&title, &check.unit) }),
        }
    }
    plots
}

fn other(title: &str, unit: &str) -> Plot {
    Plot { title: title.into(), about: format!("In {unit}."), ..Plot::default() }
}

/// `title` as the name of a file.
fn file_name(title: &str) -> String {
    let words = title.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}
