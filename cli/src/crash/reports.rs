//! The text of reports: what belongs to one, and whether it is whole.
//!
//! ```text
//!   BUG: TASK stack guard page was hit at ...       a report: from here
//!   cpu 1, instruction ...
//!   Oops: ...   state: ...
//!   rip ...     Code: ...     Call trace ...        in a full one only
//!   done: ...
//!   ---[ end trace NUMBER ]---
//!   fact oops NUMBER ...                            to here; no other report, and no other fact, is in between
//!   fact lock ...                                   what is left are facts of their own
//! ```
//!
//! A report that says something else than its own fact is about something else: its numbers, addresses and tasks are compared.

use super::facts::{Evidence, Holds, Oops, REPORT, Shortfall, Verdict, hold, odd};

/// How its fact begins.
pub(super) const FACT: &str = "fact oops ";
/// How the text of the kernel's ends.
const END: &str = "---[ end";
/// What a full one has, and others have not.
const TRACE: &str = "Call trace";
/// What one that is not full says instead.
const SHORT: &str = "(many reports a second: ";

/// The lines of one report, and its fact.
#[derive(Clone, Debug)]
pub(super) struct Report<'a> {
    pub(super) oops: Oops,
    lines: Vec<&'a str>,
}

/// What is printed of a crash, in its order.
#[derive(Clone, Debug)]
pub(super) enum Item<'a> {
    Report(Report<'a>),
    /// A fact that no report has: its words.
    Fact(Vec<&'a str>),
}

/// How a report of an area of the vmalloc begins.
const AREA: &str = "BUG: AREA ";

/// Whether `line` begins the report of a stack or an area: an orderly stop may have another cause, and say so.
fn is_of_a_stack(line: &str) -> bool {
    let stack = line.contains(" stack guard page was hit at ") || line.contains(" stack was touched at ");
    line.starts_with(AREA) || (line.starts_with(REPORT) && stack)
}

/// The reports and the other facts of `crash`. Every `BUG: ` must be a stack's, unless the machine stopped for something else.
pub(super) fn items(crash: &Evidence) -> Result<Vec<Item<'_>>, Shortfall> {
    let mut items = Vec::new();
    let mut open: Option<Vec<&str>> = None;
    for line in crash.facts.lines() {
        let text = line.text.as_str();
        if let Some(values) = text.strip_prefix(FACT) {
            items.push(Item::Report(close(open.take(), values)?));
            continue;
        }
        if text.starts_with(REPORT) || text.starts_with("fact ") {
            hold(open.is_none(), || format!("in the middle of a report: {text}"))?;
        }
        match (&mut open, text.strip_prefix("fact ")) {
            (Some(lines), _) => lines.push(text),
            (None, Some(fact)) => items.push(Item::Fact(fact.split_whitespace().collect())),
            (None, None) if is_of_a_stack(text) => open = Some(vec![text]),
            (None, None) => {}
        }
    }
    let left = open.and_then(|lines| lines.first().copied());
    hold(left.is_none(), || format!("a report without its fact: {}", left.unwrap_or_default()))?;
    Ok(items)
}

fn close<'a>(open: Option<Vec<&'a str>>, values: &str) -> Result<Report<'a>, Shortfall> {
    let words: Vec<String> = values.split_whitespace().map(str::to_owned).collect();
    let oops = Oops::read(&words).ok_or_else(|| odd("oops", &words))?;
    let headline = oops.headline();
    match open {
        Some(lines) if lines.first().is_some_and(|first| **first == headline) => Ok(Report { oops, lines }),
        _ => Err(Shortfall(format!("no report before its fact begins `{headline}`"))),
    }
}

/// The reports of `crash`.
pub(super) fn reports(crash: &Evidence) -> Result<Vec<Report<'_>>, Shortfall> {
    let report = |item| match item {
        Item::Report(report) => Some(report),
        Item::Fact(_) => None,
    };
    Ok(items(crash)?.into_iter().filter_map(report).collect())
}

/// Each report was printed in words before it was a fact, once, whole, and says the same.
pub(super) fn each_is_whole(crash: &Evidence) -> Holds {
    reports(crash)?.iter().try_for_each(|report| report.is_whole(crash.is_hosted()))
}

impl Report<'_> {
    /// The one line that begins with `start`.
    fn only(&self, start: &str) -> Result<&str, Shortfall> {
        let mut lines = self.lines.iter().filter(|line| line.starts_with(start));
        match (lines.next(), lines.next()) {
            (Some(line), None) => Ok(line),
            (first, _) => {
                let many = if first.is_some() { "more than one line" } else { "no line" };
                Err(Shortfall(format!("report {} has {many} that begins `{start}`", self.oops.number)))
            }
        }
    }

    fn is_whole(&self, hosted: bool) -> Holds {
        let Oops { number, instruction, cpu, .. } = self.oops;
        self.only(&format!("cpu {cpu}, instruction {instruction:016x},"))?;
        if hosted {
            // The port's has neither a state nor an aftermath.
            return Ok(());
        }
        let oops = self.only("Oops: ")?;
        hold(oops.contains(&format!(" [#{number}] ")), || format!("report {number} says `{oops}`"))?;
        self.says_who()?;
        let (end, last) = (format!("{END} trace {number:016x} ]---"), self.lines.last().copied().unwrap_or_default());
        let ends = self.only(END)? == end && last == end;
        hold(ends, || format!("report {number} does not end with `{end}` but `{last}`"))?;
        self.is_full_or_short()
    }

    /// The task that ran, and what was done, are the fact's.
    fn says_who(&self) -> Holds {
        let Oops { number, verdict, cpu, task, .. } = self.oops;
        let (state, done) = (self.only("state: ")?, self.only("done: ")?);
        let mut words = state.split([' ', ',']).skip_while(|word| *word != "pid").skip(1);
        let pid: u64 = words.next().map_or(Some(0), |word| word.parse().ok()).unwrap_or(u64::MAX);
        hold(pid == task, || format!("report {number} is of task {task}, and says `{state}`"))?;
        let begins = match verdict {
            Verdict::Killed => format!("done: pid {task} is killed;"),
            Verdict::Abandoned => "done: the handler is abandoned;".to_owned(),
            Verdict::Replaced => format!("done: CPU {cpu} idles anew,"),
            Verdict::Stopped => "done: nothing;".to_owned(),
        };
        hold(done.starts_with(&begins), || format!("report {number} ended with {verdict}, and says `{done}`"))
    }

    /// A full one has its own registers, the code and the trace; another one says that it has not.
    fn is_full_or_short(&self) -> Holds {
        let Oops { number, instruction, stack_pointer, .. } = self.oops;
        if !self.is_full() {
            return self.only(SHORT).map(|_| ());
        }
        self.only(TRACE)?;
        self.only("Code:")?;
        self.only("rax ")?;
        let registers = self.only("rip ")?;
        let own = [instruction, stack_pointer].iter().all(|word| registers.contains(&format!(":{word:016x}")));
        hold(own, || format!("report {number} has registers of something else: {registers}"))
    }

    /// Whether it has a trace.
    pub(super) fn is_full(&self) -> bool {
        self.lines.iter().any(|line| line.starts_with(TRACE))
    }

    /// What was done, clause by clause.
    pub(super) fn done(&self) -> impl Iterator<Item = &str> {
        let line = self.lines.iter().find_map(|line| line.strip_prefix("done: ")).unwrap_or_default();
        line.split("; ")
    }

    /// The locks that were given back, each as it is listed: `NAME`, or `NAME (poisoned)`.
    pub(super) fn locks(&self) -> Vec<&str> {
        let list = self.done().find_map(|clause| {
            let (count, list) = clause.split_once(" held: ")?;
            (count.ends_with(" lock was") || count.ends_with(" locks were")).then_some(list)
        });
        list.map_or_else(Vec::new, |list| list.split(", ").collect())
    }

    /// Whether a line of it has these words.
    pub(super) fn says(&self, words: &str) -> bool {
        self.lines.iter().any(|line| line.contains(words))
    }

    /// What the CPU was in the middle of.
    pub(super) fn state(&self) -> &str {
        self.lines.iter().find(|line| line.starts_with("state: ")).copied().unwrap_or_default()
    }
}
