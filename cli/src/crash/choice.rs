//! Which crashes were asked for. Everything that can be refused from the command line alone is refused here.

use super::catalogue::{self, Crash};
use crate::args::{self, Target};
use crate::failure::Failure;

/// How many names an unknown one may have been meant for, at most.
const NEAR: usize = 3;

/// The crashes that were asked for, each once.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) crashes: Vec<&'static Crash>,
    /// Whether all were asked for.
    pub(super) all: bool,
    /// Why some of those that were named are not listed, in lines for people.
    pub(super) absent: Vec<String>,
}

impl Choice {
    /// Reads the command line.
    pub(super) fn of(asked: &args::Crash) -> Result<Self, Failure> {
        check_flags(asked)?;
        let all = asked.all || (asked.list && asked.names.is_empty());
        let mut crashes: Vec<&'static Crash> = Vec::new();
        for name in &asked.names {
            let crash = find(name)?;
            if !crashes.iter().any(|chosen| chosen.name == crash.name) {
                crashes.push(crash);
            }
        }
        if all {
            crashes = catalogue::all().collect();
        }
        let mut absent = Vec::new();
        if asked.list && asked.on == Some(Target::Hosted) {
            absent.extend(crashes.iter().filter(|_| !all).filter_map(|crash| does_not_apply(crash)));
            crashes.retain(|crash| crash.hosted.is_ok());
        }
        Ok(Self { crashes, all, absent })
    }

    /// Whether the sweep is among them.
    pub(super) fn has_sweep(&self) -> bool {
        self.crashes.iter().any(|crash| crash.unit == "runs")
    }
}

/// What is said of a crash that is not provoked hosted.
fn does_not_apply(crash: &Crash) -> Option<String> {
    crash.hosted.err().map(|why| format!("{} does not apply to the hosted port: {why}", crash.name))
}

fn check_flags(asked: &args::Crash) -> Result<(), Failure> {
    let args::Crash { names, all, list, on, cpus, json } = asked;
    let refuse = |line: &str| Err(Failure::cannot(line));
    match () {
        () if *list && json.is_some() => refuse("--list is for people and gives no findings; leave --json away"),
        () if *list && cpus.is_some() => refuse("--list boots nothing; leave --cpus away"),
        () if *all && !names.is_empty() => refuse("--all and names together say two things; give one of them"),
        () if !all && !list && names.is_empty() => {
            refuse("no crash given; usage: vmstack crash NAME... | --all | --list")
        }
        () if *on == Some(Target::Hosted) && cpus.is_some() => {
            refuse("--cpus is for the kernel's machine; leave it away with --on hosted")
        }
        () => Ok(()),
    }
}

fn find(name: &str) -> Result<&'static Crash, Failure> {
    catalogue::all().find(|crash| crash.name == name).ok_or_else(|| {
        let near = near(name);
        let meant = if near.is_empty() { String::new() } else { format!(" (did you mean {}?)", near.join(" or ")) };
        Failure::cannot(format!("there is no crash `{name}`{meant}; `vmstack crash --list` shows all"))
    })
}

/// The names that look like `name`: those that hold it, whatever its case, or differ in a third of its letters at most.
fn near(name: &str) -> Vec<&'static str> {
    let name = name.trim().to_uppercase().replace('-', "_");
    let mut scored: Vec<(usize, &'static str)> = catalogue::all()
        .map(|crash| {
            (if name.len() > 3 && crash.name.contains(&name) { 0 } else { distance(&name, crash.name) }, crash)
        })
        .filter(|(distance, crash)| *distance <= crash.name.len() / 3)
        .map(|(distance, crash)| (distance, crash.name))
        .collect();
    scored.sort_unstable();
    scored.into_iter().take(NEAR).map(|(_, name)| name).collect()
}

/// How many letters must be added, left out or changed to make one word of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &beside) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != beside);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
