//! Devices and stacks: what a good boot prints, and transcripts that a judge could be fooled by.

use super::assert_falls_in;
use crate::crash::dma::BAD;

/// A task's stack, and where in it the bytes are that are asked for.
const LOW: u64 = 0xffff_c900_1004_4000;
const HIGH: u64 = 0xffff_c900_1004_8000;
const BYTES: u64 = 517;

/// The facts of a crash, as it is named with its policy, beside those that all have.
pub(super) fn facts(word: &str, cpus: u32) -> String {
    let Some((name, policy)) = word.split_once(':') else {
        return if word == "DMA_BY_ARITHMETIC" { control() } else { String::new() };
    };
    match name {
        "DMA_FROM_STACK" => exchanged(policy, 50) + "fact victim 50 0\n",
        "DMA_FROM_OTHER_STACK" => exchanged(policy, 51) + "fact victim 50 0\nfact victim 51 0\n",
        "DMA_ACROSS_STACK_TOP" => across(policy),
        "DMA_STACK_TASK_DIES" => dies(policy),
        "DMA_THEN_REUSE" => {
            "fact dma.untouched 0\nfact dma.passed write mapped 1\nfact dma.end write finished\n".to_owned()
                + "fact dma.bytes write 1536 1536\nfact dma.dead exit given-back 1536 1536\n"
                + "fact dma.next write 1 4 0\nfact victim 50 0\n"
                + &end([0, 0, 1, 0, 0])
        }
        "DMA_BOUNCE_EXHAUSTED" => {
            let refused = refused("exhausted", "pool-exhausted:23", 0, [LOW, 5000, 50]);
            format!(
                "fact dma.exhausted 23 23\n{refused}fact dma.small 1\nfact dma.end first finished\nfact dma.again 1\n\
                 fact victim 50 0\n{}",
                end([1, 25, 0, 0, 0])
            )
        }
        "DMA_BAD_INPUT" => bad(),
        "OVERFLOW_WITH_DMA_IN_FLIGHT" => in_flight(policy, cpus.into()),
        _ => String::new(),
    }
}

/// What the door says at the end.
fn end([refused, bounced, mapped, gone, lost]: [u64; 5]) -> String {
    format!(
        "fact dma.device 1\nfact dma.counters {refused} {bounced} {mapped} {gone} {lost}\nfact dma.pool 0 0\n\
         fact dma.left 0 0 0\n"
    )
}

/// A refusal, in words and as a fact.
fn refused(what: &str, why: &str, entry: u64, [addr, bytes, owner]: [u64; 3]) -> String {
    let offset = addr.saturating_sub(LOW);
    format!(
        "vmstack: no DMA to {bytes} bytes at {addr:016x} for src/crash/dma/asking.rs:93: why; TASK stack, owner \
         {owner:#x} (pid {owner} (victim))\n\
         fact dma.refused {what} {why} src/crash/dma/asking.rs:93 {addr:#x} {bytes} {entry} {LOW:#x} {HIGH:#x} \
         {offset} {owner}\n"
    )
}

fn stack(owner: u64, at: u64) -> String {
    format!("fact dma.stack {LOW:#x} {HIGH:#x} {owner} {at:#x} {BYTES}\n")
}

fn exchanged(policy: &str, owner: u64) -> String {
    let at = HIGH - 1000;
    let log = stack(owner, at) + &format!("fact dma.bytes write {BYTES} {BYTES}\n");
    if policy == "refuse" {
        let refused = ["read", "write"].map(|what| refused(what, "stack", 0, [at, BYTES, owner])).concat();
        return log + &refused + &end([2, 0, 0, 0, 0]);
    }
    let (passage, counters) = if policy == "map" { ("mapped", [0, 0, 2, 0, 0]) } else { ("bounced", [0, 2, 0, 0, 0]) };
    let passed = |what| format!("fact dma.passed {what} {passage} 1\nfact dma.end {what} finished\n");
    log + &format!("fact dma.bytes read {BYTES} {BYTES}\n") + &["read", "write"].map(passed).concat() + &end(counters)
}

fn across(policy: &str) -> String {
    let (list, counters) = match policy {
        "refuse" => (("stack", 0), [5, 0, 0, 0, 0]),
        "bounce" => (("across-top:317", 1), [5, 1, 0, 0, 0]),
        _ => (("across-top:317", 1), [5, 0, 1, 0, 0]),
    };
    let rows = [
        ("top", "across-top:317", 0, HIGH - 200, BYTES),
        ("last", "across-top:1", 0, HIGH - 1, 2),
        ("bottom", "across-bottom:200", 0, LOW - 200, BYTES),
        ("all", "across-bottom:1", 0, LOW - 1, HIGH - LOW + 2),
        ("list", list.0, list.1, HIGH - 200, BYTES),
    ];
    let rows = rows.map(|(what, why, entry, at, bytes)| refused(what, why, entry, [at, bytes, 50])).concat();
    stack(50, HIGH - 200) + &rows + "fact victim 50 0\n" + &end(counters)
}

fn dies(policy: &str) -> String {
    let (fate, arrived, shared, how, counters) = match policy {
        "map" => ("pinned", 512, 0, "finished", [0, 0, 2, 0, 0]),
        _ => ("given-back", 0, 4, "gone", [0, 2, 0, 2, 0]),
    };
    let death = |death| {
        format!(
            "fact dma.dead {death} {fate} 1536 1024\nfact dma.arrived {death} 512 {arrived}\nfact dma.end {death} {how}\n\
             fact dma.strangers {death} 48 2048 {shared} 0\nfact dma.next {death} 1 4 0\n"
        )
    };
    ["overflow", "exit"].map(death).concat() + "fact victim 51 0\n" + &end(counters)
}

fn bad() -> String {
    let mut log = String::new();
    for (column, policy) in ["refuse", "bounce", "map"].into_iter().enumerate() {
        for (row, expected, entry) in BAD {
            log += &format!("fact dma.bad {policy} {row} {} {entry}\n", expected[column]);
        }
    }
    log + "fact victim 50 0\n" + &end([48, 0, 0, 0, 0])
}

fn in_flight(policy: &str, cpus: u64) -> String {
    let all = 3 * cpus;
    let (pinned, ended, counters) = match policy {
        "map" => (cpus, [all, 0], [0, 0, all, 0, 0]),
        _ => (0, [cpus, 2 * cpus], [0, all, 0, 2 * cpus, 0]),
    };
    format!(
        "fact dma.flights {cpus} {all} {pinned}\nfact dma.ended {} {}\nfact victim 51 0\n{}",
        ended[0],
        ended[1],
        end(counters)
    )
}

fn control() -> String {
    let mut log = String::from("fact dma.victims 2\n");
    for (way, bytes, right) in [("direct-map", 512, 0), ("first-frame", 1024, 512)] {
        for direction in ["read", "write"] {
            log += &format!("fact dma.arithmetic {way} {direction} {bytes} {right} {}\n", bytes - right);
            for (policy, passage) in [("refuse", "refused"), ("bounce", "bounced"), ("map", "mapped")] {
                log += &format!("fact dma.library {way} {policy} {direction} {passage} {bytes} {bytes} 0\n");
            }
        }
    }
    log + &refused("direct-map", "stack", 0, [LOW, 512, 0]) + &end([4, 4, 4, 0, 0])
}

/// Asserts that each of these changes of the good transcript of a part falls short, and what is said of it.
#[track_caller]
fn assert_each_falls(name: &str, part: usize, mutations: &[(&str, &str, &str)]) {
    for (from, to, said) in mutations {
        assert_falls_in(name, part, from, to, said);
    }
}

#[test]
fn the_door_counts_and_keeps_nothing() {
    for (name, part) in [("DMA_FROM_STACK", 0), ("DMA_ACROSS_STACK_TOP", 2), ("DMA_BY_ARITHMETIC", 0)] {
        assert_each_falls(
            name,
            part,
            &[
                ("dma.device 1", "dma.device 0", "not plugged in"),
                ("fact dma.counters ", "fact dma.counters 1", "refused, bounced, mapped, gone, lost"),
                ("dma.pool 0 0", "dma.pool 0 1", "0 bounce buffers were in use before, 1 are after"),
                ("dma.left 0 0 0", "dma.left 1 0 0", "1 stacks are left to pins"),
                ("dma.left 0 0 0", "dma.left 0 1 0", "are miscounted"),
                ("dma.left 0 0 0", "dma.left 0 0 1", "have not ended"),
                ("fact dma.left 0 0 0\n", "", "no fact `dma.left`"),
            ],
        );
    }
}

#[test]
fn a_refusal_names_who_asked_and_whose_stack_it_is() {
    for name in ["DMA_FROM_STACK", "DMA_FROM_OTHER_STACK"] {
        assert_each_falls(
            name,
            0,
            &[
                ("refused read stack src", "refused read idle src", "was refused by idle, not stack"),
                ("read stack src/crash/dma/", "read stack src/dma/", "was asked for by src/dma/"),
                (
                    "vmstack: no DMA to 517 bytes",
                    "vmstack: no DMA to 5 bytes",
                    "which does not begin `vmstack: no DMA to 517",
                ),
                ("vmstack: no DMA to 517 bytes", "vmstack: no", "2 refusals, and 1 in words"),
                ("(victim))", "(other))", "which does not end with `owner"),
                ("fact dma.stack 0xffffc90010044000", "fact dma.stack 0xffffc90010040000", "names the stack"),
                ("517 0 0xffffc90010044000", "517 1 0xffffc90010044000", "is 517 bytes at"),
                (" 15384 5", " 15383 5", "bytes above the bottom, it says"),
                ("fact dma.bytes write 517 517", "fact dma.bytes write 517 0", "of the 517 bytes of `write` 0 are"),
                ("fact dma.bytes", "fact dma.passed read mapped 1\nfact dma.bytes", "that was let through"),
                ("fact dma.refused write", "fact dma.refuse write", "1 refusals, and 2 in words"),
                ("fact dma.refused write", "fact dma.refused read", "what was refused is"),
                ("fact dma.refused write stack", "fact dma.refused write", "not of the agreed form"),
            ],
        );
    }
    assert_falls_in("DMA_FROM_STACK", 0, "15384 50\n", "15384 51\n", "names task 51, and the stack is 50's");
}

#[test]
fn another_tasks_stack_is_another_tasks() {
    for part in 0..3 {
        assert_falls_in("DMA_FROM_OTHER_STACK", part, "fact victim 51 0\n", "", "1 tasks took part, not 2");
        assert_falls_in(
            "DMA_FROM_OTHER_STACK",
            part,
            "victim 51 0",
            "victim 50 0",
            "task 51 asked for its own stack, it seems",
        );
    }
    assert_falls_in("DMA_FROM_STACK", 1, "fact victim 50 0\n", "", "0 tasks took part");
}

#[test]
fn what_is_let_through_is_let_through_as_the_policy_says_and_right() {
    for (part, passage, other) in [(1, "bounced", "mapped"), (2, "mapped", "bounced")] {
        let (is, other) = (format!("passed read {passage} 1"), format!("passed read {other} 1"));
        let none = format!("passed read {passage} 0");
        assert_each_falls(
            "DMA_FROM_STACK",
            part,
            &[
                (&is, &other, "`read` was "),
                (&is, &none, "in no segment"),
                (&is, "passed reed mapped 1", "nothing is said of `dma.passed read`"),
                ("end write finished", "end write gone", "`write` ended as gone, not finished"),
                ("bytes read 517 517", "bytes read 517 516", "of the 517 bytes of `read` 516"),
                ("bytes read 517 517", "bytes read 0 0", "of the 0 bytes of `read`"),
            ],
        );
    }
    let more = refused("read", "stack", 0, [LOW, BYTES, 50]) + "fact dma.bytes";
    assert_falls_in("DMA_FROM_STACK", 1, "fact dma.bytes", &more, "1 requests were refused");
}

#[test]
fn what_crosses_the_end_of_a_stack_is_refused_whatever_the_policy() {
    for part in 0..3 {
        assert_each_falls(
            "DMA_ACROSS_STACK_TOP",
            part,
            &[
                ("top across-top:317", "top across-top:316", "was refused by across-top:316, not across-top:317"),
                ("bottom across-bottom:200", "bottom across-top:200", "`bottom` was refused by"),
                ("refused last", "refused lost", "each in its turn"),
                ("fact dma.refused all", "fact dma.all", "4 refusals, and 5 in words"),
                ("fact dma.stack", "fact dma.end list passed\nfact dma.stack", "that was let through"),
            ],
        );
    }
    assert_falls_in("DMA_ACROSS_STACK_TOP", 0, "517 0 0xf", "517 1 0xf", "is about entry 1, not 0");
    assert_falls_in("DMA_ACROSS_STACK_TOP", 1, "517 1 0xf", "517 0 0xf", "is about entry 0, not 1");
    assert_falls_in("DMA_ACROSS_STACK_TOP", 0, "list stack src", "list across-top:317 src", "not stack");
}

#[test]
fn a_stack_stays_while_the_device_writes_and_is_zero_afterwards() {
    for death in ["overflow", "exit"] {
        let change = |from: &str| from.replace("DEATH", death);
        for (part, from, to, said) in [
            (1, "dead DEATH pinned", "dead DEATH given-back", "the stack was given-back, not pinned"),
            (0, "dead DEATH given-back", "dead DEATH kept", "the stack was kept, not given-back"),
            (1, "DEATH pinned 1536 1024", "DEATH pinned 1536 1536", "nothing is shown"),
            (1, "DEATH pinned 1536 1024", "DEATH pinned 1536 0", "nothing is shown"),
            (1, "arrived DEATH 512 512", "arrived DEATH 512 511", "511 are in the stack's frames"),
            (1, "arrived DEATH 512 512", "arrived DEATH 0 0", "of the 0 bytes"),
            (1, "end DEATH finished", "end DEATH gone", "ended as gone, not finished"),
            (0, "end DEATH gone", "end DEATH finished", "ended as finished, not gone"),
            (1, "strangers DEATH 48 2048 0 0", "strangers DEATH 48 2048 1 0", "1 frames were somebody's"),
            (1, "strangers DEATH 48 2048 0 0", "strangers DEATH 48 2048 0 9", "9 bytes of others were altered"),
            (0, "strangers DEATH 48 2048 4 0", "strangers DEATH 48 2048 4 9", "9 bytes of others were altered"),
            (1, "strangers DEATH 48 2048 0 0", "strangers DEATH 0 2048 0 0", "nothing is shown"),
            (1, "next DEATH 1 4 0", "next DEATH 0 4 0", "never handed out again"),
            (1, "next DEATH 1 4 0", "next DEATH 1 4 512", "512 bytes of the next owners'"),
            (1, "fact dma.next DEATH 1 4 0\n", "", "nothing is said of `dma.next"),
        ] {
            assert_falls_in("DMA_STACK_TASK_DIES", part, &change(from), &change(to), said);
        }
    }
    assert_falls_in("DMA_STACK_TASK_DIES", 1, "fact victim 51 0\n", "", "1 tasks took part, not 2");
}

#[test]
fn the_next_owner_of_a_page_that_only_a_device_wrote_reads_zero() {
    assert_each_falls(
        "DMA_THEN_REUSE",
        0,
        &[
            ("dma.untouched 0", "dma.untouched 8", "8 bytes of the page were touched"),
            ("bytes write 1536 1536", "bytes write 1536 0", "0 are right"),
            ("exit given-back", "exit pinned", "the stack was pinned"),
            ("next write 1 4 0", "next write 1 4 1536", "1536 bytes of the next owners'"),
            ("next write 1 4 0", "next write 1 3 0", "had 3 of the 4 frames"),
            ("next write 1 4 0", "next write 0 4 0", "never handed out again"),
        ],
    );
}

#[test]
fn the_pool_has_an_end_and_is_whole_after_it() {
    let more = refused("exhausted", "pool-exhausted:23", 0, [LOW, 5000, 50]);
    assert_each_falls(
        "DMA_BOUNCE_EXHAUSTED",
        0,
        &[
            ("dma.exhausted 23 23", "dma.exhausted 23 22", "22 buffers were in use"),
            ("dma.exhausted 23 23", "dma.exhausted 0 0", "0 requests were let through"),
            ("pool-exhausted:23", "pool-exhausted:24", "not pool-exhausted:23"),
            ("fact dma.small", &(more + "fact dma.small"), "2 requests were refused, not the one"),
            ("dma.small 1", "dma.small 0", "small buffers"),
            ("first finished", "first gone", "`first` ended as gone"),
            ("dma.again 1", "dma.again 0", "was not found again"),
        ],
    );
}

#[test]
fn each_mistake_has_an_error_of_its_own() {
    for (row, expected, entry) in BAD {
        for (policy, expected) in ["refuse", "bounce", "map"].into_iter().zip(expected) {
            let fact = format!("fact dma.bad {policy} {row} {expected} {entry}\n");
            let other = format!("fact dma.bad {policy} {row} other {entry}\n");
            assert_falls_in("DMA_BAD_INPUT", 0, &fact, &other, "came to other, not");
            assert_falls_in("DMA_BAD_INPUT", 0, &fact, "", "nothing is said of");
        }
    }
    assert_falls_in("DMA_BAD_INPUT", 0, "across-bottom:16 2", "across-bottom:16 1", "is about entry 1, not 2");
    assert_falls_in("DMA_BAD_INPUT", 0, "fact victim", "fact dma.bad map more idle 0\nfact victim", "52 rows, not 51");
}

#[test]
fn what_the_dead_began_is_ended_by_others() {
    for (part, flights, ended) in [(0, "2 6 0", "2 4"), (1, "2 6 2", "6 0")] {
        let (flights, ended) = (format!("flights {flights}"), format!("ended {ended}"));
        assert_each_falls(
            "OVERFLOW_WITH_DMA_IN_FLIGHT",
            part,
            &[
                (&flights, "flights 1 3 0", "1 tasks died with 3 requests"),
                (&flights, "flights 2 5 2", "2 tasks died with 5 requests"),
                (&flights, "flights 2 6 1", "1 of the dead tasks' stacks were pinned"),
                (&ended, "ended 5 0", "5 requests finished"),
                ("fact victim 51 0\n", "", "2 tasks took part, not 3"),
            ],
        );
    }
}

#[test]
fn the_control_hits_another_frame_and_the_library_does_not() {
    assert_each_falls(
        "DMA_BY_ARITHMETIC",
        0,
        &[
            ("dma.victims 2", "dma.victims 1", "1 of the frames that are hit"),
            ("direct-map read 512 0 512", "direct-map read 512 512 0", "had 512 right, and 0 of another frame"),
            ("direct-map write 512 0 512", "direct-map write 512 0 0", "had 0 right, and 0 of another"),
            ("first-frame write 1024 512 512", "first-frame write 1024 1024 0", "had 1024 right"),
            ("map read mapped 512 512 0", "map read mapped 512", "not of the agreed form"),
            ("bounce read bounced 512 512 0", "bounce read bounced 512 511 0", "of 512 bytes 511 are right"),
            ("map write mapped 1024 1024 0", "map write mapped 1024 1024 8", "8 bytes of another frame"),
            ("refuse write refused 512", "refuse write mapped 512", "there is not one fact `dma.library"),
        ],
    );
}
