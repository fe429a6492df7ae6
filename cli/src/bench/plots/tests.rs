//! Pictures and pages of findings, without a guest.

use super::draw::{Bar, Plot, Row, WIDTH, svg, width};
use super::{Plots, charts, page};
use crate::checks::{Aim, Check, Verdict};

fn finding(name: &str, figure: f64, unit: &str) -> Check {
    Check::new(name, Verdict::Pass, "seen & <noted>").with_measured(figure, unit)
}

/// Some findings of every suite.
fn findings() -> Vec<Check> {
    let mut checks = vec![
        finding("life.clone.p50", 2000.0, "instructions"),
        finding("life.direct.clone.p50", 3200.0, "instructions"),
        finding("life.linux.clone.p50", 0.0, "instructions"),
        finding("stack.hot", 57.0, "instructions").judged(57.0, Aim::AtMost(60.0)),
        finding("stack.cold", 6000.0, "instructions").judged(6000.0, Aim::AtMost(600.0)),
        finding("stack.flush.message.busy", 12_000.0, "instructions"),
        finding("stack.flush.at_switch.busy", 6_000_000.0, "instructions"),
        finding("stack.numbered.found.unlimited.cyclic", 0.9, "of all tasks"),
        finding("stack.scrub_shallow", 0.28, "of all pages").judged(0.28, Aim::AtMost(0.3)),
        finding("fault.kill", 4000.0, "instructions"),
        finding("fault.kill.trace", 3000.0, "instructions"),
        finding("storm.threads.alive", 100_000.0, "threads"),
        finding("hosted.hot", 240.0, "times").judged(240.0, Aim::AtLeast(100.0)),
        Check::fail("storm.threads.balance", "no figure"),
    ];
    for (policy, _) in crate::bench::stack::POLICIES {
        checks.push(finding(&format!("stack.scrub.{policy}.paid"), 0.5, "of all pages"));
        checks.push(finding(&format!("stack.scrub.{policy}.deep"), 900.0, "instructions"));
    }
    for part in ["stack", "tables", "record"] {
        checks.push(finding(&format!("memory.16k.{part}"), 64.0, "bytes"));
    }
    checks
}

#[test]
fn every_suite_is_drawn_and_what_has_no_figure_is_left_out() {
    let plots = charts::of(&findings());
    let names: Vec<_> = plots.iter().map(|plot| plot.name.as_str()).collect();
    let expected = [
        "aims",
        "life-direct",
        "stack",
        "flush",
        "numbers",
        "scrub",
        "scrub-paid",
        "fault",
        "memory",
        "memory-beside",
        "storm-threads",
        "hosted-times",
    ];
    assert_eq!(names, expected);
    assert!(charts::of(&[]).is_empty());
}

#[test]
fn what_a_batch_waits_is_not_among_what_stacks_cost() {
    let plots = charts::of(&findings());
    let longest = |name: &str| {
        let plot = plots.iter().find(|plot| plot.name == name).expect(name);
        let bars = plot.rows.iter().filter_map(|row| match row {
            Row::Bar(bar) => Some(bar.parts.iter().map(|(length, _)| length).sum::<f64>()),
            Row::Heading(_) => None,
        });
        bars.fold(0.0, f64::max)
    };
    assert!(longest("stack") < 10_000.0);
    assert!((longest("flush") - 500.0).abs() < 1e-9);
}

#[test]
fn a_picture_has_its_text_inside_and_in_the_colour_of_the_page() {
    for plot in charts::of(&findings()) {
        let picture = svg(&plot).expect("drawn");
        assert!(picture.contains("currentColor") && !picture.contains("#010203"), "{}", plot.name);
        for row in &plot.rows {
            let text = match row {
                Row::Heading(text) => width(text),
                Row::Bar(bar) => width(&bar.label) + width(&bar.note) + 120,
            };
            assert!(text <= WIDTH, "{}: {row:?}", plot.name);
        }
        let keys: i32 = plot.keys.iter().map(|(_, words)| width(words) + 35).sum();
        assert!(keys <= WIDTH, "{}", plot.name);
    }
}

#[test]
fn what_is_far_off_is_cut_and_nothing_at_all_is_drawn_too() {
    let far = Plot { cap: Some(2.0), rows: vec![Row::Bar(Bar::of("far", 1e9, 0))], ..Plot::default() };
    let cut = svg(&far).expect("drawn");
    assert!(cut.contains("1,000,000,000") && cut.contains("polyline"), "{cut}");
    let nothing = Plot { rows: vec![Row::Bar(Bar::of("nothing", 0.0, 0))], ..Plot::default() };
    assert!(svg(&nothing).is_ok() && svg(&Plot::default()).is_ok());
}

#[test]
fn the_page_holds_everything_and_asks_for_nothing() {
    let checks = findings();
    let pictures: Vec<_> = charts::of(&checks).into_iter().map(|plot| svg(&plot).map(|svg| (plot, svg))).collect();
    let pictures = pictures.into_iter().collect::<Result<Vec<_>, _>>().expect("drawn");
    let page = page::of(&pictures, &checks);
    assert_eq!(page.matches("<svg").count(), pictures.len());
    let outside: Vec<_> =
        ["src=", "href=", "url(", "@import", "<script"].into_iter().filter(|word| page.contains(word)).collect();
    assert!(outside.is_empty() && page.contains("seen &amp; &lt;noted&gt;"), "{outside:?}");
    assert!(page.contains("FAIL") && page.contains("prefers-color-scheme"));
    let alone = page::alone(&pictures[0].1);
    assert!(alone.find("<style>").expect("there") > alone.find("<svg").expect("there"));
}

#[test]
fn a_folder_is_made_and_one_that_cannot_be_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let plots = Plots::open(&folder.path().join("new/plots")).expect("made");
    let page = plots.write(&findings()).expect("written");
    assert!(page.ends_with("index.html") && page.with_file_name("stack.svg").exists());
    let refused = Plots::open(std::path::Path::new("/dev/null/plots")).expect_err("no folder").to_string();
    assert!(refused.starts_with("--plots: /dev/null/plots cannot be written"), "{refused}");
}
