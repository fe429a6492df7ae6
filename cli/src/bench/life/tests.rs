//! Figures from consoles, without a guest.

use super::anchors::OPERATIONS;
use super::column::Column;
use super::{LINUX, WAYS, table};
use crate::checks::{Check, Verdict};
use crate::console::Transcript;
use crate::outcome::Outcome;
use crate::screen::tests::Written;

/// What `life` prints when every operation takes these figures.
fn console(figures: &str) -> String {
    let rows = OPERATIONS.iter().map(|operation| format!("fact life.{} 100 {figures}\n", operation.name));
    format!("fact life.calibration 200000 200001\n{}", rows.collect::<String>())
}

fn column(console: &str) -> Column {
    Column::of(&WAYS[0], Outcome::Orderly, &Transcript::of(console))
}

fn check(column: &Column, name: &str) -> Check {
    column.checks().find(|check| check.name == name).expect(name)
}

#[test]
fn a_figure_passes_up_to_the_part_that_is_allowed_and_no_further() {
    let column = column(&console("2068 2958 12491"));
    for (name, verdict) in [
        ("life.clone.p50", Verdict::Pass),
        ("life.clone.mean", Verdict::Pass),
        ("life.clone.p99", Verdict::Fail),
        ("life.clone_join.p50", Verdict::Pass),
        ("life.storm4096.p99", Verdict::Pass),
    ] {
        assert_eq!(check(&column, name).outcome, verdict, "{name}");
    }
    assert_eq!(check(&column, "life.clone.p50").figure, Some(2068.into()));
    assert_eq!(column.checks().count(), 3 * OPERATIONS.len());
}

#[test]
fn only_what_the_kernel_does_by_itself_is_judged() {
    let facts = Transcript::of(&console("99999999 99999999 99999999"));
    for way in WAYS.iter().skip(1).chain([&LINUX]) {
        let column = Column::of(way, Outcome::Orderly, &facts);
        assert!(column.checks().all(|check| check.outcome == Verdict::Pass && check.name.contains(way.name)));
    }
}

#[test]
fn a_row_that_is_missing_falls_short_with_what_the_program_said() {
    let console = console("1 1 1").replace("fact life.vfork 100 1 1 1", "life: vfork: Function not implemented");
    let column = column(&console);
    let missing = check(&column, "life.vfork.mean");
    assert_eq!(check(&column, "life.fork.mean").outcome, Verdict::Pass);
    assert_eq!((missing.outcome, missing.figure.clone()), (Verdict::Fail, None));
    let written = Written::default();
    table::show(&[column], &mut written.screen());
    assert!(
        written
            .text()
            .ends_with("not measured, mapped: vfork\n      it could not be measured: Function not implemented\n")
    );
    assert!(missing.detail.contains("Function not implemented"), "{missing:?}");
}

#[test]
fn no_figure_of_a_wrong_clock_or_a_dead_machine_is_believed() {
    let wrong = column(&console("1 1 1").replace("200001", "150000"));
    assert!(wrong.checks().all(|check| check.outcome == Verdict::Fail && check.detail.contains("calibration")));
    let dead = Column::of(&WAYS[0], Outcome::Reset, &Transcript::of(&console("1 1 1")));
    assert!(dead.checks().all(|check| check.outcome == Verdict::Fail && check.detail.contains("reset")));
}

#[test]
fn the_table_compares_and_fits_80_columns() {
    let facts = Transcript::of(&console("2000 3000 4000"));
    let columns: Vec<Column> =
        WAYS.iter().chain([&LINUX]).map(|way| Column::of(way, Outcome::Orderly, &facts)).collect();
    let written = Written::default();
    table::show(&columns, &mut written.screen());
    let text = written.text();
    assert!(text.contains("mapped / direct") && text.contains("at most 1/4") && text.contains("581,238"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}
