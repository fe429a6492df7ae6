//! Judgements of transcripts: a good one of every crash of the catalogue, and for each rule one that breaks it.

mod dma;
mod mutations;
mod samples;

use core::fmt::Write;

use super::catalogue::{self, Boot, Crash, Expect};
use super::choice::Choice;
use super::facts::{Evidence, Machine};
use super::findings::{self, Findings};
use super::judge::Judged;
use super::plan::{Act, Plan, plan, settle};
use super::{hosted, list, sweep};
use crate::args;
use crate::checks::{Check, Verdict};
use crate::console::Transcript;
use crate::outcome::Outcome;
use crate::screen::tests::Written;
use samples::{boot, section};

fn catalogue() -> Vec<&'static Crash> {
    catalogue::all().collect()
}

fn crash(name: &str) -> &'static Crash {
    catalogue::all().find(|crash| crash.name == name).expect(name)
}

/// The plan of one part of a crash, alone in its boot.
fn alone(name: &str, part: usize) -> Plan {
    let crash = crash(name);
    let part = &crash.parts[part];
    Plan { boot: part.boot, cpus: 2, acts: vec![Act { crash, part }] }
}

/// How the boot of `plan` should end.
fn end(plan: &Plan) -> Outcome {
    let stops = matches!(plan.acts[0].part.expect, Expect::Stopped(_));
    if stops { Outcome::Panicked } else { Outcome::Orderly }
}

/// What falls short in the boot of one part that printed `log` and ended as it should.
fn shortfalls(plan: &Plan, log: &str) -> Vec<String> {
    let settled = settle(plan, end(plan), &Transcript::of(log));
    assert!(settled.again.is_none());
    settled.judged.into_iter().flat_map(|(_, judged)| judged.shortfalls).collect()
}

/// Asserts that the good transcript of a part falls short when `from` is `to` in it, and that what is said holds `said`.
#[track_caller]
fn assert_falls_in(name: &str, part: usize, from: &str, to: &str, said: &str) {
    let plan = alone(name, part);
    let log = boot(&plan);
    assert!(log.contains(from), "`{from}` is not in\n{log}");
    let short = shortfalls(&plan, &log.replacen(from, to, 1));
    assert!(short.iter().any(|what| what.contains(said)), "{name}: {from} -> {to}: {short:?}");
}

#[track_caller]
fn assert_falls(from: &str, to: &str, said: &str) {
    assert_falls_in("EXHAUST_STACK", 0, from, to, said);
}

#[test]
fn a_good_transcript_of_every_crash_passes() {
    for crash in catalogue() {
        let mut parts = Vec::new();
        for part in 0..crash.parts.len() {
            let plan = alone(crash.name, part);
            let settled = settle(&plan, end(&plan), &Transcript::of(&boot(&plan)));
            assert!(!settled.surprise);
            parts.extend(settled.judged);
        }
        let check = findings::check(crash, &parts.iter().collect::<Vec<_>>());
        assert_eq!(check.outcome, Verdict::Pass, "{check:?}");
        assert_eq!((check.figure.is_some(), check.unit.as_str()), (!crash.unit.is_empty(), crash.unit), "{check:?}");
    }
}

#[test]
fn figures_count_what_was_seen() {
    let figure = |name: &str| {
        let parts = crash(name).parts.len();
        let judged: Vec<(Act, Judged)> = (0..parts)
            .flat_map(|part| {
                let plan = alone(name, part);
                settle(&plan, end(&plan), &Transcript::of(&boot(&plan))).judged
            })
            .collect();
        let check = findings::check(crash(name), &judged.iter().collect::<Vec<_>>());
        check.figure.and_then(|figure| figure.as_u64())
    };
    assert_eq!(figure("OVERFLOW_AT_EVERY_OFFSET"), Some(2560));
    assert_eq!(figure("OVERFLOW_STORM"), Some(10_000));
    assert_eq!(figure("OVERFLOW_HOLDING_LOCK"), Some(16), "eight in one boot, and eight that stop the machine");
    assert_eq!(figure("EXHAUST_STACK"), Some(4));
    assert_eq!(figure("OVERFLOW_IN_INTERRUPT_DELIVERY"), Some(16));
}

#[test]
fn each_report_is_counted_once() {
    let plan = alone("EXHAUST_STACK", 0);
    let log = boot(&plan);
    let report =
        log.lines().skip_while(|line| !line.starts_with("BUG: ")).take(12).fold(String::new(), |mut text, line| {
            writeln!(text, "{line}").expect("text");
            text
        });
    for (from, to, said) in [
        (report.clone(), report.repeat(2), "5 reports, not 4"),
        (report.clone(), String::new(), "3 reports, not 4"),
        // The fact without the text, and the text without the fact.
        (report.lines().next().expect("a line").to_owned(), "odd".into(), "no report before its fact begins `BUG: "),
        (
            format!("{}\n", report.lines().last().expect("a line")),
            String::new(),
            "in the middle of a report: fact victim",
        ),
    ] {
        let short = shortfalls(&plan, &log.replacen(&from, &to, 1));
        assert!(short.iter().any(|what| what.contains(said)), "{said}: {short:?}");
    }
}

#[test]
fn each_field_of_a_report_is_judged() {
    assert_falls("oops 1 overflow-walked", "oops 1 overflow-jumped", "says overflow-jumped");
    assert_falls("oops 1 overflow-walked", "oops 1 overflow-flown", "not of the agreed form");
    assert_falls("walked TASK killed", "walked IDLE killed", "stack kind IDLE");
    assert_falls("walked TASK killed", "walked TASK stopped", "verdict stopped, not killed");
    assert_falls("TASK killed 0xffff", "TASK killed 0xfff1", "is no overflow-walked");
    assert_falls(" 24\n", " 25\n", "is no overflow-walked");
    // A stack pointer that is far from the address, and an instruction that is nowhere.
    assert_falls("0xffffc90000103ff0 0xffffffff", "0xffffc90000107ff0 0xffffffff", "is no overflow-walked");
    assert_falls(" 0xffffffff80200100 ", " 0x0 ", "is no overflow-walked");
}

#[test]
fn each_finding_has_its_place() {
    for (name, from, to) in [
        ("UNDERFLOW", "0xffffc90000108000 0xffffc90000104000", "0xffffc90000107ff8 0xffffc90000104000"),
        ("EXEC_STACK", "0xffffc90000107000 0xffffc90000104000", "0xffffc90000109000 0xffffc90000104000"),
        ("WILD_POINTER", "0xffffc90000102000 0xffffc90000104000", "0xffffc90000002000 0xffffc90000104000"),
        ("JUMP_TO_OTHER_GUARD", "0xffffc9000010bff0 0xffffc90000104000", "0xffffc90000105ff0 0xffffc90000104000"),
    ] {
        assert_falls_in(name, 0, from, to, "is no ");
    }
}

#[test]
fn areas_are_named_and_measured() {
    for (name, part, from, to, said) in [
        ("VMALLOC_GUARD_ABOVE", 0, "src/crash/areas.rs", "src/elsewhere.rs", "names no area"),
        ("VMALLOC_GUARD_ABOVE", 0, "oops 1 area-above", "oops 1 area-below", "says area-below"),
        ("VMALLOC_GUARD_ABOVE", 0, "100 1\n", "100 2\n", "is no area-above"),
        ("VMALLOC_GUARD_BELOW", 0, "area-below AREA", "area-below TASK", "no report before its fact"),
        ("VMALLOC_FREED", 0, "memory was touched that is free", "memory was touched", "no report before its fact"),
        ("VMALLOC_FREED", 0, "vmalloc.waiting 0", "vmalloc.waiting 1", "1 pieces of the vmalloc wait"),
        ("VFREE_TWICE", 0, "src/crash/areas.rs", "src/elsewhere.rs", "which does not name"),
        ("VFREE_INSIDE", 0, "it lies in", "it lies beside", "not because"),
    ] {
        assert_falls_in(name, part, from, to, said);
    }
}

#[test]
fn reports_do_not_mix_and_are_all_recorded() {
    assert_falls("overflow, walked down", "BUG: TASK stack", "in the middle of a report");
    assert_falls("overflow, walked down", "fact lock one spin free", "in the middle of a report");
    assert_falls("---[ end trace 0000000000000004 ]---\n", "", "no line that begins `---[ end`");
    assert_falls("balance.reports 0 4", "balance.reports 0 5", "recorded");
    assert_falls("balance.reports 0 4", "balance.reports 1 5", "recorded");
    assert_falls("fact oops 2 ", "fact oops 3 ", "recorded");
}

#[test]
fn whoever_is_reported_is_dead_and_nobody_else() {
    assert_falls("fact victim 100 11\n", "", "3 victims");
    assert_falls("fact victim 100 11", "fact victim 100 0", "of 4 victims");
    assert_falls("fact victim 100 11", "fact victim 100 9", "task 100 ended with 0x9");
    assert_falls("fact victim 100 11", "fact victim 70 11", "of 4 victims");
    assert_falls_in("OVERFLOW_IN_IDLE", 0, "fact survivor", "fact victim 3 11\nfact survivor", "of 1 victims");
}

#[test]
fn survivors_go_on() {
    assert_falls("fact survivor 90 5 9 0", "fact survivor 90 5 5 0", "did not go on");
    assert_falls("fact survivor 90 5 9 0", "fact survivor 90 5 9 11", "which did nothing wrong");
    assert_falls("fact survivor 90 5 9 0\n", "", "3 survivors, not 4 at least");
}

#[test]
fn everything_is_back() {
    assert_falls("balance.frames 500 500", "balance.frames 500 499", "500 frames before");
    assert_falls("balance.areas 1 1", "balance.areas 1 2", "1 areas of the vmalloc before");
    assert_falls("balance.area_pages 9 9", "balance.area_pages 9 8", "9 pages mapped, and records of 8");
    assert_falls("balance.lent 0 0", "balance.lent 0 1", "0 frames were lent before");
    assert_falls("balance.owners 2 2", "balance.owners 2 3", "2 frames were shared by memories before");
    assert_falls("balance.heap 64 64 0", "balance.heap 64 96 0", "bytes of heap");
    assert_falls("balance.heap 64 64 0", "balance.heap 64 96 32", "of 0 at most");
    assert_falls("balance.tasks 2 2", "balance.tasks 2 3", "tasks before");
    assert_falls("balance.slots 0", "balance.slots 1", "no task has");
    assert_falls("fact balance.slots 0\n", "", "no fact `balance.slots`");
}

#[test]
fn no_lock_is_held_and_no_interrupt_is_lost() {
    let balance = "fact balance.frames";
    assert_falls(balance, "fact lock files mutex held\nfact balance.frames", "`files` is left held");
    assert_falls(balance, "fact lock files\nfact balance.frames", "not of the agreed form");
    assert_falls(balance, "fact interrupts timer 3 2\nfact balance.frames", "and 2 served");
}

#[test]
fn a_crash_begins_once_and_ends() {
    assert_falls("fact crash.end EXHAUST_STACK\n", "", "its end was never printed");
    assert_falls("fact crash.begin EXHAUST_STACK\n", "", "it never began");
    let end = "fact crash.end EXHAUST_STACK\n";
    assert_falls(end, &format!("{end}BUG: TASK stack guard page\n"), "after its end: BUG: TASK");
    let plan = alone("EXHAUST_STACK", 0);
    let short = shortfalls(&plan, &boot(&plan).repeat(2));
    assert_eq!(short, ["it began more than once"]);
    let unknown =
        "fact crash.begin EXHAUST_STACK\nthere is no crash called EXHAUST_STACK\nfact crash.end EXHAUST_STACK\n";
    assert_eq!(shortfalls(&plan, unknown), ["this kernel has no such crash"]);
}

#[test]
fn single_crashes_are_judged_by_facts_of_their_own() {
    for (name, part, from, to, said) in [
        ("OVERFLOW_WAITING_FOR_LOCK", 0, "waiting read ", "waiting mutex ", "`mutex` is told of 2 times"),
        ("OVERFLOW_WAITING_FOR_LOCK", 0, "waiting read 9 2 1", "waiting read 9 2 0", "nobody gets the lock by `read`"),
        ("OVERFLOW_WAITING_FOR_LOCK", 0, "waiting read 9 2 1", "waiting read 9 3 1", "8 reports, not 9"),
        ("OVERFLOW_TAKING_VITAL_LOCK", 0, "taking run-queue 9 1", "taking run-queue 9 0", "of 9 that asked"),
        ("OVERFLOW_TAKING_VITAL_LOCK", 0, "taking run-queue 9 1", "taking run-queue 9 x", "odd fact `taking`"),
        ("OVERFLOW_ON_ALL_CPUS", 0, "80200100 1 ", "80200100 0 ", "CPU 0 had 2 of the 2"),
        ("OVERFLOW_STORM", 0, "storm.tasks 8000 8000", "storm.tasks 8000 7999", "7999 killed"),
        ("OVERFLOW_ON_IRQ_STACK", 0, "handler 1 1 1 1", "handler 1 1 1 0", "on CPU 1"),
        ("OVERFLOW_ON_IRQ_STACK", 0, "fact handler 1 1 1 1\n", "", "not one for each of 2 CPUs"),
        ("OVERFLOW_ON_IRQ_STACK", 1, "handler.storm 110 110", "handler.storm 110 109", "109 were reported"),
        ("OVERFLOW_AFTER_OVERFLOW", 0, "fact after 1 2\n", "fact after 1 3\n", "two reports each"),
        ("OVERFLOW_AFTER_OVERFLOW", 0, "fact after 1 2\n", "", "two reports each"),
        ("OVERFLOW_ON_IRQ_STACK", 2, "handler.line 1 0 1", "handler.line 1 1 1", "served 1 while it was masked"),
        ("OVERFLOW_WITH_CONSOLE_BUSY", 0, "console.busy 1 1", "console.busy 1 0", "waited for the console"),
        ("OVERFLOW_IN_IDLE", 0, "idle 0 1", "idle 0 2", "on CPU 0"),
        (
            "ATTACK_THREAD_INFO",
            0,
            "fact attack.end 3 11",
            "fact attack.read 0badcafe\nfact attack.end 3 11",
            "read the",
        ),
        ("ATTACK_THREAD_INFO", 0, "attack.end 3 11", "attack.end 3 0", "was not killed"),
        ("ATTACK_THREAD_INFO", 1, "attack.read 0badcafe", "attack.read 00000000", "did not read"),
        ("ATTACK_THREAD_INFO", 1, "fact attack.read", "BUG: TASK stack\nfact attack.read", "was noticed"),
    ] {
        assert_falls_in(name, part, from, to, said);
    }
}

#[test]
fn runs_of_the_sweep_are_named_and_folded_into_ranges() {
    let plan = alone("OVERFLOW_AT_EVERY_OFFSET", 0);
    let symbols = [crate::symbols::Symbol { address: 0xffff_ffff_8020_0000, size: 0x1000, name: "entry".into() }];
    let mut found = Findings::default();
    let settled = settle(&plan, Outcome::Orderly, &Transcript::of(&boot(&plan)));
    found.take(settled.judged, &symbols, &mut Written::default().screen());
    assert_eq!((found.runs.len(), found.runs[1].symbol.as_deref()), (2560, Some("entry+0x100")));
    assert!(sweep::fold(&found.runs).starts_with("syscall 0..152 in entry; exception 0..152 in entry; "));
    let json = serde_json::to_string(&found.runs[1]).expect("plain data");
    assert_eq!(
        json,
        r#"{"kind":"syscall","bytes":8,"outcome":"reported","instruction":"0xffffffff80200100","symbol":"entry+0x100"}"#
    );
}

#[test]
fn an_orderly_stop_is_announced_and_ends_the_machine() {
    let fall = |from, to, said| assert_falls_in("OVERFLOW_IN_INIT", 0, from, to, said);
    fall("Kernel panic: ", "Kernel: ", "0 lines begin `Kernel panic: `");
    fall("TASK stopped", "TASK killed", "verdict killed");
    fall("overflow-walked", "wild-pointer", "says wild-pointer");
    fall("; the end\n", "; the end\nfact crash.end OVERFLOW_IN_INIT\n", "it ended, where");
    let plan = alone("OVERFLOW_IN_INIT", 0);
    let log = boot(&plan);
    for outcome in [Outcome::Orderly, Outcome::Reset, Outcome::NoMarker { status: 33 }] {
        let settled = settle(&plan, outcome, &Transcript::of(&log));
        assert!(!settled.judged[0].1.holds(), "{outcome:?}");
    }
    let late = format!("{log}BUG: TASK stack\n---[ end\n");
    assert!(shortfalls(&plan, &late).iter().any(|what| what.contains("after the announcement")));
}

#[test]
fn a_boot_that_dies_takes_one_crash_with_it_and_the_others_are_tried_again() {
    let plan = plan(&[crash("WILD_POINTER"), crash("UNDERFLOW"), crash("BIG_FRAME")], None).pop_front().expect("one");
    let first = section(&plan.acts[0], 2, 0);
    let log = format!("{first}fact crash.begin UNDERFLOW\nlast line\n");
    let settled = settle(&plan, Outcome::Reset, &Transcript::of(&log));
    let [(act, judged)] = settled.judged.as_slice() else { panic!("{settled:?}") };
    assert_eq!((act.crash.name, settled.surprise), ("UNDERFLOW", true));
    let said = &judged.shortfalls[0];
    assert!(said.contains("reset itself") && said.contains("under UNDERFLOW") && said.ends_with("last line"), "{said}");
    let again: Vec<String> = settled.again.expect("the others").acts.iter().map(Act::word).collect();
    assert_eq!(again, ["WILD_POINTER", "BIG_FRAME"]);
}

#[test]
fn a_boot_that_dies_after_a_crash_is_held_against_that_crash() {
    let plan = plan(&[crash("WILD_POINTER"), crash("UNDERFLOW")], None).pop_front().expect("one");
    let log = section(&plan.acts[0], 2, 0);
    let settled = settle(&plan, Outcome::NoMarker { status: 33 }, &Transcript::of(&log));
    assert_eq!(settled.judged[0].0.crash.name, "WILD_POINTER");
    assert!(settled.judged[0].1.shortfalls[0].contains("after WILD_POINTER") && settled.again.is_some());
}

#[test]
fn a_boot_that_dies_before_its_first_crash_fails_them_all_at_once() {
    let plan = plan(&[crash("WILD_POINTER"), crash("UNDERFLOW")], None).pop_front().expect("one");
    let log = Transcript::of("Kernel panic: the kernel cannot start: mode=crash\nmore\n");
    let settled = settle(&plan, Outcome::Panicked, &log);
    assert_eq!((settled.judged.len(), settled.again.is_none()), (2, true));
    for (_, judged) in settled.judged {
        assert!(judged.shortfalls[0].ends_with("the kernel cannot start: mode=crash"), "{:?}", judged.shortfalls);
    }
}

#[test]
fn crashes_share_a_boot_unless_they_cannot() {
    let all: Vec<&Crash> = catalogue();
    let plans = plan(&all, None);
    let words: Vec<String> = plans.iter().map(|plan| plan.words().line().expect("short").to_owned()).collect();
    assert!(words[0].starts_with("mode=crash crash=EXHAUST_STACK crash=STACK_GUARD_PAGE_LEADING "), "{}", words[0]);
    for own in [
        "mode=crash crash=OVERFLOW_HOLDING_LOCK:run-queue",
        "mode=crash crash=OVERFLOW_ON_EMERGENCY_STACK:twice",
        "mode=crash stacks=direct thread_info=bottom crash=ATTACK_THREAD_INFO",
        "mode=crash crash=OVERFLOW_STORM",
    ] {
        assert!(words.iter().any(|words| words == own), "{own}: {words:?}");
    }
    let cpus = |plans: &std::collections::VecDeque<Plan>, boot: Boot| {
        plans.iter().find(|plan| plan.boot == boot).map(|plan| plan.cpus)
    };
    assert_eq!((cpus(&plans, Boot::Shared), cpus(&plans, Boot::OwnOfFourCpus)), (Some(2), Some(4)));
    assert_eq!(cpus(&plan(&all, Some(1)), Boot::OwnOfFourCpus), Some(1));
    let device = plans.iter().find(|plan| plan.boot == Boot::OwnWithDevice).expect("one");
    assert_eq!(device.reading("").devices, ["edu"]);
    let shared: Vec<_> = plans.iter().filter(|plan| plan.boot == Boot::SharedWithDevice).collect();
    assert_eq!((shared.len(), shared[0].reading("").devices), (1, ["edu"].as_slice()));
    assert!(shared[0].acts.len() > 10 && shared[0].title().contains("with a device"), "{}", shared[0].title());
}

#[test]
fn the_catalogue_has_no_name_twice_and_fits_the_screen() {
    let mut names: Vec<&str> = catalogue::all().map(|crash| crash.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), catalogue().len());
    let written = Written::default();
    list::show(&catalogue(), &mut written.screen());
    let text = written.text();
    assert_eq!(text.lines().count(), 1 + 2 * catalogue().len());
    assert!(text.lines().all(|line| line.chars().count() <= 80 && line.trim_end() == line), "{text}");
}

#[test]
fn findings_are_shown_within_the_screen() {
    let written = Written::default();
    let check = Check::fail("OVERFLOW_IN_INTERRUPT_DELIVERY", "word ".repeat(60)).with_figure(2560_u64, "interrupts");
    findings::show(&check, crash("OVERFLOW_ON_NMI_STACK"), &mut written.screen());
    assert!(written.text().lines().all(|line| line.chars().count() <= 80), "{}", written.text());
}

fn chosen(words: &[&str], change: impl FnOnce(&mut args::Crash)) -> Result<Vec<&'static str>, String> {
    let names = words.iter().map(|word| (*word).to_owned()).collect();
    let mut asked = args::Crash { names, all: false, list: false, on: None, cpus: None, json: None };
    change(&mut asked);
    let choice = Choice::of(&asked).map_err(|refused| refused.to_string())?;
    Ok(choice.crashes.iter().map(|crash| crash.name).collect())
}

#[test]
fn names_are_chosen_once_in_the_order_given() {
    assert_eq!(chosen(&["UNDERFLOW", "BIG_FRAME", "UNDERFLOW"], |_| ()), Ok(vec!["UNDERFLOW", "BIG_FRAME"]));
    assert_eq!(chosen(&[], |asked| asked.all = true).map(|names| names.len()), Ok(catalogue().len()));
    let hosted = chosen(&[], |asked| (asked.list, asked.on) = (true, Some(args::Target::Hosted))).expect("some");
    assert!(hosted.contains(&"EXHAUST_STACK") && !hosted.contains(&"DOUBLE_FAULT"));
    let asked = args::Crash {
        names: vec!["DOUBLE_FAULT".into(), "UNDERFLOW".into()],
        all: false,
        list: true,
        on: Some(args::Target::Hosted),
        cpus: None,
        json: None,
    };
    let choice = Choice::of(&asked).expect("known names");
    let [absent] = choice.absent.as_slice() else { panic!("{:?}", choice.absent) };
    assert!(absent.starts_with("DOUBLE_FAULT does not apply to the hosted port: ") && choice.crashes.len() == 1);
}

#[test]
fn an_unknown_name_is_named_with_those_that_are_near() {
    for (name, near) in [
        ("EXHAUST_STAK", "did you mean EXHAUST_STACK?"),
        ("underflow", "UNDERFLOW"),
        ("wild", "WILD_POINTER"),
        ("holding-lock", "OVERFLOW_HOLDING_LOCK"),
        ("STACK_GUARD_PAGE", "STACK_GUARD_PAGE_LEADING or STACK_GUARD_PAGE_TRAILING"),
        ("x", "`x`; `vmstack crash --list`"),
        ("", "``; `vmstack crash --list`"),
    ] {
        let line = chosen(&[name], |_| ()).expect_err(name);
        assert!(line.contains(near) && line.contains("--list"), "{line}");
    }
}

#[test]
fn what_the_flags_contradict_is_refused() {
    let on_hosted = |asked: &mut args::Crash| (asked.on, asked.cpus) = (Some(args::Target::Hosted), Some(2));
    assert!(chosen(&[], |_| ()).expect_err("nothing").contains("usage"));
    assert!(chosen(&["UNDERFLOW"], |asked| asked.all = true).expect_err("both").contains("--all"));
    assert!(chosen(&["UNDERFLOW"], on_hosted).expect_err("both").contains("--cpus"));
    assert!(
        chosen(&[], |asked| (asked.list, asked.json) = (true, Some("x".into())))
            .is_err_and(|line| line.contains("--json"))
    );
    assert!(chosen(&[], |asked| (asked.list, asked.cpus) = (true, Some(1))).is_err_and(|line| line.contains("--cpus")));
}

#[test]
fn the_hosted_port_provokes_what_the_catalogue_says_it_does() {
    for crash in catalogue() {
        assert_eq!(hosted::variants(crash.name).is_empty(), crash.hosted.is_err(), "{}", crash.name);
    }
    let known: usize = catalogue::all().map(|crash| hosted::variants(crash.name).len()).sum();
    assert_eq!(known, vmstack_hosted::crash::catalogue().len(), "a crash of the port is not in the catalogue");
}

#[test]
fn a_hosted_crash_is_judged_by_the_same_rules() {
    let crash = crash("UNDERFLOW");
    let mut log = Vec::new();
    vmstack_hosted::crash::provoke("UNDERFLOW", &mut log).expect("it can be provoked");
    let log = String::from_utf8(log).expect("text");
    let judge = |log: &str| hosted::judge(crash, &["UNDERFLOW"], Outcome::Orderly, &Transcript::of(log), "").shortfalls;
    assert_eq!(judge(&log), Vec::<String>::new(), "{log}");
    for (from, to) in [
        (" underflow ", " wild-pointer "),
        ("fact victim", "fact other"),
        ("fact survivor", "fact other"),
        ("open_guards 0", "open_guards 1"),
        ("balance.slots 0", "balance.slots 1"),
        ("BUG: ", "bug: "),
    ] {
        assert!(log.contains(from), "{log}");
        assert!(!judge(&log.replace(from, to)).is_empty(), "{from} -> {to}");
    }
    let died = hosted::judge(crash, &["UNDERFLOW"], Outcome::Killed { signal: 11 }, &Transcript::of(&log), "why\n");
    assert_eq!(died.shortfalls, ["signal 11 killed the emulator: why"]);
}

#[test]
fn lines_outside_of_a_crash_belong_to_none() {
    let log = Transcript::of("fact oops x\nfact crash.begin A\nfact n 1\nfact crash.end A\nfact n 2\n");
    let crashes = Evidence::of_boot(&log, Machine::Kernel { cpus: 1 });
    assert_eq!((crashes.len(), crashes[0].ended, crashes[0].facts.number("n")), (1, true, Ok(1)));
    assert_eq!(crashes[0].oopses(), Ok(Vec::new()));
}
