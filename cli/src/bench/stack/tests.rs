//! Figures from consoles, without a guest.

use super::{flush, judge};
use crate::bench::counted::Facts;
use crate::checks::{Check, Verdict};
use crate::console::Transcript;
use crate::outcome::Outcome;
use crate::report::show_figures;
use crate::screen::tests::Written;

/// What the kernel prints.
const LOG: &str = include_str!("../../../tests/boots/stack.txt");

fn findings(log: &str) -> Vec<Check> {
    judge(&Facts::of(Outcome::Orderly, &Transcript::of(log), true))
}

fn finding(log: &str, name: &str) -> Check {
    findings(log).into_iter().find(|check| check.name == name).expect(name)
}

fn figure(log: &str, name: &str) -> f64 {
    finding(log, name).figure.and_then(|figure| figure.as_f64()).expect(name)
}

#[test]
fn figures_pass_up_to_their_aims_and_no_further() {
    for (from, to, name) in [
        ("hot 57", "hot 60", "stack.hot"),
        ("hot_used1 647", "hot_used1 650", "stack.hot_used1"),
        ("depot 69", "depot 90", "stack.depot"),
        ("cold 580", "cold 600", "stack.cold"),
        ("scrub.dirty 113282 399872", "scrub.dirty 30 100", "stack.scrub_shallow"),
    ] {
        let good = LOG.replace(from, to);
        assert_eq!(finding(&good, name).outcome, Verdict::Pass, "{name}");
        let bad = good.replace(to, &more(to));
        assert_eq!(finding(&bad, name).outcome, Verdict::Fail, "{name}");
    }
}

/// The same fact with its first number larger by one.
fn more(fact: &str) -> String {
    let words = fact.split(' ').enumerate().map(|(index, word)| match word.parse::<u64>() {
        Ok(number) if index == 1 => (number + 1).to_string(),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_shootdown_is_the_senders_part_and_each_receivers_by_the_stacks_of_a_batch() {
    let log = LOG.replace("shootdown 4 334 115 32 524288", "shootdown 4 340 100 32 524288");
    assert!((figure(&log, "stack.cold.shootdown") - 20.0).abs() < 1e-9);
    let detail = finding(&log, "stack.cold.shootdown").detail;
    assert!(detail.contains("3 x 100") && detail.contains("32 stacks") && detail.contains("512 KiB"), "{detail}");
    let none = finding(&LOG.replace("115 32 524288", "115 0 0"), "stack.cold.shootdown");
    assert_eq!((none.outcome, none.figure), (Verdict::Fail, None));
}

#[test]
fn a_flush_at_a_switch_is_charged_for_the_looks_that_find_nothing() {
    let log = LOG.replace("at_switch 4 310 20 9 24", "at_switch 4 260 20 9 24");
    // 260 + 3 x 20 for 32 stacks, and two looks each.
    assert!((figure(&log, "stack.cold.flush_at_switch") - 28.0).abs() < 1e-9);
    // A message costs 334 + 3 x 115: 359 more than this, which is 39 looks.
    let detail = finding(&log, "stack.cold.flush_at_switch").detail;
    assert!(detail.contains("each 39 switches") && detail.contains("24 each time"), "{detail}");
}

/// What the kernel prints on four CPUs.
const PENDING: &str = include_str!("../../../tests/boots/pending.txt");

#[test]
fn what_waits_for_a_flush_has_its_rows_and_each_can_be_missing() {
    let rows = |log: &str| flush::judge("message", &Facts::of(Outcome::Orderly, &Transcript::of(log), true));
    let checks = rows(PENDING);
    let figures: Vec<f64> = checks.iter().filter_map(|check| check.figure.as_ref()?.as_f64()).collect();
    assert_eq!(figures, [1185.0, 12748.0, 12616.0, 1318.0, 0.0]);
    let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
    let all = ["idle", "switching", "busy", "pending", "missed"].map(|row| format!("stack.flush.message.{row}"));
    assert_eq!(names, all);
    for (from, row) in
        [("flush busy", 2), ("drain busy", 2), ("pending.bytes", 3), ("pending.batches", 3), ("pending.storm", 4)]
    {
        let short: Vec<usize> = rows(&PENDING.replace(from, "other"))
            .iter()
            .enumerate()
            .filter_map(|(index, check)| (check.outcome == Verdict::Fail).then_some(index))
            .collect();
        assert_eq!(short, [row], "{from}");
    }
}

#[test]
fn every_policy_and_depth_has_a_row() {
    for policy in ["dirty", "whole", "exit", "none"] {
        for row in ["paid", "shallow", "middling", "deep"] {
            let _there = figure(LOG, &format!("stack.scrub.{policy}.{row}"));
        }
    }
    assert!((figure(LOG, "stack.scrub.whole.paid") - 1.0).abs() < 1e-9);
}

#[test]
fn numbers_have_their_rows_and_say_what_is_held() {
    for row in ["hot", "hot_used1", "cold", "number.next", "number.lowest"] {
        let _there = figure(LOG, &format!("stack.numbered.{row}"));
    }
    let log = LOG.replace("pattern.budget.cyclic 100030 99454", "pattern.budget.cyclic 200000 150000");
    assert!((figure(&log, "stack.numbered.found.budget.cyclic") - 0.25).abs() < 1e-9);
    let detail = finding(&log, "stack.numbered.found.budget.cyclic").detail;
    assert!(detail.contains("200000 tasks") && detail.contains("768 KiB held"), "{detail}");
    let none = finding(
        &LOG.replace("pattern.budget.cyclic 100030", "pattern.budget.cyclic 0"),
        "stack.numbered.found.budget.cyclic",
    );
    assert_eq!((none.outcome, none.figure), (Verdict::Fail, None));
}

#[test]
fn a_fact_that_is_missing_falls_short_alone_and_a_wrong_clock_or_a_dead_machine_in_all() {
    let without = LOG.replace("fact stack.depot", "fact other");
    let short: Vec<_> = findings(&without).into_iter().filter(|check| check.outcome == Verdict::Fail).collect();
    assert!(short.len() == 1 && short[0].name == "stack.depot", "{short:?}");
    let wrong = findings(&LOG.replace("20003", "15000"));
    assert!(wrong.iter().all(|check| check.outcome == Verdict::Fail && check.detail.contains("calibration")));
    let dead = judge(&Facts::of(Outcome::Reset, &Transcript::of(LOG), true));
    assert!(dead.iter().all(|check| check.outcome == Verdict::Fail && check.detail.contains("reset")));
}

#[test]
fn the_table_fits_80_columns_and_says_what_was_aimed_at() {
    let written = Written::default();
    show_figures(&mut written.screen(), &findings(LOG));
    let text = written.text();
    assert!(text.contains("stack.hot  ") && text.contains("at most 60") && text.contains("512 KiB"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}
