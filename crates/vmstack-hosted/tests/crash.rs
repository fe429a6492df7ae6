//! Each crash of the catalogue: its facts, as a judge on another machine would read them.

#![expect(clippy::unwrap_used, reason = "a test says what it does by failing")]

use vmstack_hosted::crash::{CrashError, catalogue, provoke};

const STACK: usize = 32 << 10;

/// What a crash wrote, taken apart.
struct Facts {
    text: String,
    facts: Vec<Vec<String>>,
}

impl Facts {
    fn of(name: &str) -> Self {
        let mut out = Vec::new();
        provoke(name, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let facts = text.lines().filter_map(|line| line.strip_prefix("fact "));
        let facts = facts.map(|line| line.split(' ').map(str::to_owned).collect()).collect();
        Self { text, facts }
    }

    fn all(&self, name: &str) -> Vec<&[String]> {
        self.facts.iter().filter(|fact| fact[0] == name).map(|fact| &fact[1..]).collect()
    }

    fn numbers(&self, name: &str) -> Vec<Vec<usize>> {
        self.all(name).iter().map(|fact| fact.iter().map(|word| number(word)).collect()).collect()
    }

    /// The findings of the reports, in order.
    fn findings(&self) -> Vec<&str> {
        self.all("oops").iter().map(|oops| oops[1].as_str()).collect()
    }
}

fn number(word: &str) -> usize {
    match word.strip_prefix("0x") {
        Some(digits) => usize::from_str_radix(digits, 16).unwrap(),
        None => word.parse().unwrap(),
    }
}

/// What must hold of every crash: each report once, each victim dead, everybody else alive, nothing lost.
fn check(name: &str, dead: usize, well: usize) -> Facts {
    let facts = Facts::of(name);
    let text = &facts.text;
    assert!(text.starts_with(&format!("fact crash.begin {name}\n")), "{text}");
    assert!(text.ends_with(&format!("fact crash.end {name}\n")), "{text}");
    let victims = facts.numbers("victim");
    let killed = victims.iter().filter(|victim| victim[1] == 11).count();
    let ended_well = victims.iter().filter(|victim| victim[1] == 0).count();
    assert_eq!((killed, ended_well, victims.len()), (dead, well, dead + well), "{text}");
    check_reports(&facts, dead);
    let survivors = facts.numbers("survivor");
    assert!(!survivors.is_empty());
    for survivor in survivors {
        assert!(survivor[1] < survivor[2] && survivor[3] == 0, "{survivor:?}");
    }
    for balance in ["balance.frames", "balance.tasks"] {
        let balance = &facts.numbers(balance)[0];
        assert_eq!(balance[0], balance[1], "{text}");
    }
    assert_eq!((facts.numbers("balance.slots"), facts.numbers("balance.open_guards")), (vec![vec![0]], vec![vec![0]]));
    facts
}

fn check_reports(facts: &Facts, dead: usize) {
    let bugs: Vec<&str> = facts.text.lines().filter(|line| line.starts_with("BUG: ")).collect();
    let oopses = facts.all("oops");
    let reports = &facts.numbers("balance.reports")[0];
    assert_eq!((bugs.len(), oopses.len(), reports[1] - reports[0]), (dead, dead, dead), "each once");
    for (i, (bug, oops)) in bugs.iter().zip(&oopses).enumerate() {
        let [order, address, low, high] = [0, 4, 5, 6].map(|field| number(&oops[field]));
        assert_eq!((order, high - low), (reports[0] + i + 1, STACK));
        assert_eq!((oops[2].as_str(), oops[3].as_str()), ("TASK", "killed"));
        let rest = format!(" at {address:016x} (stack is {low:016x}..{high:016x})");
        assert!(bug.starts_with("BUG: TASK stack ") && bug.ends_with(&rest), "{bug}");
        let beyond = number(&oops[11]);
        assert!(oops[1] == "inside-stack" || address == low - beyond || address + 1 == high + beyond, "{oops:?}");
    }
}

/// Whether the report shows a trace with a line that has all of `words`.
#[track_caller]
fn assert_line(facts: &Facts, words: &[&str]) {
    let found = facts.text.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(found || !facts.text.contains("Call trace"), "no line with {words:?} in {}", facts.text);
}

#[test]
fn every_name_of_the_catalogue_leaves_one_dead_task_for_each_victim_and_nothing_else() {
    for name in catalogue() {
        match *name {
            "OVERFLOW_AT_EVERY_OFFSET" | "OVERFLOW_STORM" | "OVERFLOW_ON_ALL_CPUS" => {}
            "FIRST_SLOT_BELOW" | "LAST_SLOT_ABOVE" => drop(check(name, 2, 0)),
            name => drop(check(name, 1, 0)),
        }
    }
}

#[test]
fn each_crash_is_found_to_be_what_it_is() {
    for (name, findings) in [
        ("EXHAUST_STACK", vec!["overflow-walked"]),
        ("STACK_GUARD_PAGE_LEADING", vec!["wild-pointer"]),
        ("STACK_GUARD_PAGE_TRAILING", vec!["underflow"]),
        ("FIRST_SLOT_BELOW", vec!["overflow-walked", "wild-pointer"]),
        ("LAST_SLOT_ABOVE", vec!["underflow", "wild-pointer"]),
        ("BIG_FRAME:page", vec!["overflow-walked"]),
        ("BIG_FRAME:stack", vec!["overflow-walked"]),
        ("BIG_FRAME:guard", vec!["overflow-walked"]),
        ("OVERFLOW_IN_MEMCPY", vec!["overflow-walked"]),
        ("JUMP_TO_OTHER_GUARD", vec!["other-guard"]),
        ("WILD_POINTER", vec!["wild-pointer"]),
        ("UNDERFLOW", vec!["underflow"]),
        ("EXEC_STACK", vec!["inside-stack"]),
    ] {
        assert_eq!(Facts::of(name).findings(), findings, "{name}");
    }
}

#[test]
fn the_report_of_a_recursion_names_its_cycle() {
    assert_line(&check("EXHAUST_STACK", 1, 0), &["recurse", " turns of 1 frame, "]);
    let mutual = check("EXHAUST_STACK:mutual", 1, 0);
    assert_line(&mutual, &["even", "\\ ", " turns of 2 frames, "]);
    assert_line(&mutual, &["odd", "  /"]);
    assert_line(&check("EXHAUST_STACK:trait-objects", 1, 0), &["visit", " turns of 2 frames, "]);
    assert_line(&check("EXHAUST_STACK:closures", 1, 0), &["closure", " turns of "]);
    assert_line(&check("BIG_FRAME:page", 1, 0), &["biggest frames: 6", "bytes in", "frames_of"]);
}

#[test]
fn an_overflow_moves_the_stack_pointer_to_the_end_and_a_wild_pointer_does_not() {
    for (name, moved) in [
        ("EXHAUST_STACK", true),
        ("BIG_FRAME:guard", true),
        ("OVERFLOW_IN_MEMCPY", true),
        ("STACK_GUARD_PAGE_LEADING", false),
        ("WILD_POINTER", false),
    ] {
        let facts = check(name, 1, 0);
        let oops = &facts.all("oops")[0];
        let (low, sp) = (number(&oops[5]), number(&oops[7]));
        assert_eq!(sp.abs_diff(low) <= 4096, moved, "{name}: {oops:?}");
    }
    let leaf = check("OVERFLOW_IN_MEMCPY", 1, 0);
    let oops = &leaf.all("oops")[0];
    assert_eq!((number(&oops[7]) - number(&oops[5]), number(&oops[11])), (64, 1), "the leaf moves no pointer");
}

#[test]
fn who_touches_the_guard_of_another_is_named_and_so_is_the_other() {
    let facts = check("JUMP_TO_OTHER_GUARD", 1, 0);
    let (oops, text) = (&facts.all("oops")[0], &facts.text);
    let (low, sp) = (number(&oops[5]), number(&oops[7]));
    assert!(sp.abs_diff(low) > STACK, "the stack of the report is not the one that the task stood on: {text}");
    assert!(text.contains("another stack's guard: 8 bytes below the bottom of the stack of task "), "{text}");
    let toucher = text.lines().find(|line| line.starts_with("touched by code on ")).unwrap();
    assert!(toucher.ends_with("(victim 0)") && !text.contains("overflow,"), "{text}");
}

#[test]
fn the_first_and_the_last_slot_have_no_neighbour_on_their_outer_side() {
    let first = check("FIRST_SLOT_BELOW", 2, 0);
    let last = check("LAST_SLOT_ABOVE", 2, 0);
    for facts in [&first, &last] {
        assert!(!facts.text.contains("on the other side of the guard"), "{}", facts.text);
    }
    assert_eq!(first.text.matches(", slot 0 life 1, ").count(), 2);
    assert_eq!(last.text.matches(", slot 3 life 1, ").count(), 2);
}

#[test]
fn at_every_offset_a_call_completes_or_is_reported_and_an_interrupt_always_completes() {
    let facts = check("OVERFLOW_AT_EVERY_OFFSET", 127, 1024 - 127);
    let sweep = facts.all("sweep");
    let outcomes = |kind: &str| -> Vec<(usize, bool, usize)> {
        let of_kind = sweep.iter().filter(|step| step[0] == kind);
        of_kind.map(|step| (number(&step[1]), step[2] == "completed", number(&step[3]))).collect()
    };
    let (calls, interrupts) = (outcomes("call"), outcomes("interrupt"));
    for steps in [&calls, &interrupts] {
        assert!(steps.iter().map(|step| step.0).eq((0..4096).step_by(8)));
        assert!(steps.iter().all(|&(_, completed, ip)| completed == (ip == 0)));
        assert!(steps.is_sorted_by_key(|step| step.1), "once there is room, there is room");
    }
    // A return address, a frame pointer, and 1,000 bytes of locals.
    assert_eq!(calls.iter().position(|step| step.1), Some(1016 / 8));
    assert!(interrupts.iter().all(|step| step.1));
}

#[test]
fn four_cpus_overflow_at_the_same_moment_and_each_report_is_whole() {
    let facts = check("OVERFLOW_ON_ALL_CPUS", 4, 0);
    let mut cpus: Vec<&str> = facts.all("oops").iter().map(|oops| oops[9].as_str()).collect();
    cpus.sort_unstable();
    assert_eq!(cpus, ["0", "1", "2", "3"]);
    assert_eq!(facts.numbers("survivor").len(), 12);
}

#[test]
fn ten_thousand_overflows_cost_ten_thousand_tasks_and_nothing_else() {
    let facts = check("OVERFLOW_STORM", 10_000, 0);
    assert!(facts.findings().iter().all(|&finding| finding == "overflow-walked"));
    assert_eq!(facts.numbers("survivor").len(), 12);
}

#[test]
fn a_name_that_is_not_there_is_an_error_and_prints_nothing() {
    let mut out = Vec::new();
    let error = provoke("NO_SUCH_CRASH", &mut out).unwrap_err();
    assert!(matches!(&error, CrashError::Unknown { name, .. } if name == "NO_SUCH_CRASH") && out.is_empty());
    assert!(error.to_string().contains("NO_SUCH_CRASH"));
}
