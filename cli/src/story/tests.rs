//! Judgements of sample transcripts: what must pass, and each way to fall short.

use super::{SCENES, Scene, control, cost, overflow, stale, storage};
use crate::checks::{Check, Verdict, all_hold};
use crate::console::Transcript;
use crate::outcome::Outcome;
use crate::screen::tests::Written;

// What each boot prints when all is well. `tests/fake-emulator.sh` prints the same.
const CONTROL: &str = include_str!("../../tests/boots/control-direct.txt");
const CONTROL_MAPPED: &str = include_str!("../../tests/boots/control-mapped.txt");
const STORY: &str = include_str!("../../tests/boots/story.txt");
const COUNT: &str = include_str!("../../tests/boots/count.txt");
const STALE: &str = include_str!("../../tests/boots/stale.txt");
const STORAGE: &str = include_str!("../../tests/boots/storage.txt");

/// The same with what the host adds: what it had put on the disk, and that nothing of it has changed.
fn storage_log() -> String {
    let put = STORAGE.lines().filter_map(|line| line.strip_prefix("fact storage.read plain "));
    let mut put: Vec<String> = put.map(|file| format!("fact storage.host.file {file}\n")).collect();
    put.dedup();
    // The large one is read twice.
    put.pop();
    let host = format!("{}fact storage.host.disk aa aa\n", put.concat());
    STORAGE.replace("@DISK@", "aa") + &host
}

fn judge(scene: &Scene, log: &str) -> Vec<Check> {
    scene.judge(Outcome::Orderly, &Transcript::of(log))
}

/// The outcome of the check `name` when `from` is `to` in the log.
fn changed(scene: &Scene, log: &str, from: &str, to: &str, name: &str) -> Check {
    assert!(log.contains(from), "{from}");
    let checks = judge(scene, &log.replace(from, to));
    checks.into_iter().find(|check| check.name == name).expect("a check of that name")
}

fn assert_falls(scene: &Scene, log: &str, from: &str, to: &str, name: &str) {
    let check = changed(scene, log, from, to, name);
    assert_eq!(check.outcome, Verdict::Fail, "{check:?}");
}

#[test]
fn the_checks_are_those_that_scripts_know() {
    let names: Vec<&str> = SCENES.iter().flat_map(|scene| scene.claims).map(|claim| claim.name).collect();
    assert_eq!(
        names.join(" "),
        "control.neighbour_corrupted control.thread_info_corrupted \
        control.mapped_thread_info_corrupted overflow.reported_once overflow.task_killed overflow.survivors \
        fragmentation.direct_fails fragmentation.virtual_succeeds zero.words guard.frames protection.writable_text \
        balance.frames balance.slots vmalloc.listing vmalloc.guards vmalloc.addresses balance.area_frames \
        cost.page_table_bytes_per_stack cost.alloc_free_virtual cost.alloc_free_direct \
        cost.current_percpu cost.current_struct cost.current_slot \
        flush.zero_words flush.frame_words control.unflushed_zero_words control.unflushed_frame_words \
        storage.checksums storage.overflow_depth storage.one_process storage.disk_unchanged storage.ring \
        storage.depth_8k storage.depth_16k storage.depth_32k storage.depth_64k storage.balance"
    );
}

#[test]
fn each_scene_boots_as_the_contract_says() {
    let lines = SCENES.map(|scene| scene.words().line().map(str::to_owned).expect("short"));
    assert_eq!(lines[0], "mode=control stacks=direct thread_info=bottom");
    assert_eq!(lines[1], "mode=control stacks=virtual thread_info=bottom");
    assert_eq!(lines[2], "mode=story stacks=virtual thread_info=off");
    assert_eq!((lines[3].as_str(), SCENES[3].counting), ("mode=count stacks=virtual thread_info=off", true));
    assert_eq!(lines[4], "mode=stale stacks=virtual thread_info=off");
    assert_eq!((lines[5].as_str(), SCENES[5].disk), ("mode=storage stacks=virtual thread_info=off", true));
    assert_eq!(SCENES.iter().filter(|scene| scene.disk).count(), 1);
}

#[test]
fn good_transcripts_pass() {
    for (scene, log) in [
        (control::DIRECT, CONTROL),
        (control::MAPPED, CONTROL_MAPPED),
        (overflow::SCENE, STORY),
        (cost::SCENE, COUNT),
        (stale::SCENE, STALE),
        (storage::SCENE, &storage_log()),
    ] {
        let checks = judge(&scene, log);
        assert!(all_hold(&checks) && checks.len() == scene.claims.len(), "{checks:#?}");
    }
}

#[test]
fn a_control_without_damage_or_with_a_fault_falls_short() {
    let scene = &control::DIRECT;
    assert_falls(scene, CONTROL, "0x1111", "0x4141414141414141", "control.neighbour_corrupted");
    assert_falls(scene, CONTROL, "faults 0", "faults 1", "control.thread_info_corrupted");
    assert_falls(scene, CONTROL, "word 0xffff8880000ffff8", "word 0xffff888000100008", "control.neighbour_corrupted");
}

#[test]
fn one_overflow_means_one_report() {
    let name = "overflow.reported_once";
    assert_falls(&overflow::SCENE, STORY, "BUG: TASK", "BUG: task", name);
    let line = "BUG: TASK stack guard page was hit at 1\n";
    let twice = changed(&overflow::SCENE, STORY, "booting\n", line, name);
    assert_eq!((twice.outcome, twice.figure), (Verdict::Fail, Some(2.into())));
}

#[test]
fn each_other_claim_of_the_story_can_fall_short() {
    for (from, to, name) in [
        ("wait 4 139", "wait 4 0", "overflow.task_killed"),
        ("wait 4 139", "wait 4 9", "overflow.task_killed"),
        ("alive 6", "alive 5", "overflow.survivors"),
        ("alive 6\nfact overflow.expected 6", "alive 0\nfact overflow.expected 0", "overflow.survivors"),
        ("direct.got 0", "direct.got 1", "fragmentation.direct_fails"),
        ("virtual.got 60", "virtual.got 0", "fragmentation.virtual_succeeds"),
        ("zero.words 0", "zero.words 1", "zero.words"),
        ("guard.frames 0", "guard.frames 1", "guard.frames"),
        ("writable_text 0", "writable_text 1", "protection.writable_text"),
        ("50000 50000", "50000 49999", "balance.frames"),
        ("balance.slots 0", "balance.slots 1", "balance.slots"),
        ("vmap 0 src", "vmap src", "vmalloc.listing"),
        ("recount 9", "recount 8", "vmalloc.listing"),
        ("usage 15 6 1413", "usage 15 5 1413", "vmalloc.listing"),
        ("usage 15 6 1413", "usage 15 6 1412", "vmalloc.listing"),
        ("vmalloc.tables 1426", "vmalloc.tables 1427", "vmalloc.listing"),
        (" 5000 2 vmalloc", " 9000 2 vmalloc", "vmalloc.listing"),
        // An area that begins where the one before it ends, or in it.
        ("0xffffc980815f8000 0xffffc980815fb000", "0xffffc980815f7000 0xffffc980815fa000", "vmalloc.guards"),
        ("0xffffc980815f8000 0xffffc980815fb000", "0xffffc980815f5000 0xffffc980815f8000", "vmalloc.listing"),
        ("open_guards 0", "open_guards 1", "vmalloc.guards"),
        ("addresses 1669 9 565", "addresses 1669 8 566", "vmalloc.addresses"),
        ("addresses 1669 9 565", "addresses 1670 9 564", "vmalloc.addresses"),
        ("addresses 1669 9 565", "addresses 1669 9 564", "vmalloc.addresses"),
        ("left 0 0 0", "left 1 0 0", "balance.area_frames"),
        ("left 0 0 0", "left 0 1 0", "balance.area_frames"),
        ("left 0 0 0", "left 0 0 1", "balance.area_frames"),
        ("frames 64692 64692", "frames 64692 64691", "balance.area_frames"),
        ("bytes 100 4096", "bytes 0 0", "cost.page_table_bytes_per_stack"),
    ] {
        assert_falls(&overflow::SCENE, STORY, from, to, name);
    }
}

#[test]
fn a_stale_translation_must_do_no_harm_with_every_flush_and_some_without() {
    for (from, to, name) in [
        ("zero message here 16 16 0", "zero message here 16 16 1", "flush.zero_words"),
        ("zero at-switch deaf 16 0 0", "zero at-switch deaf 16 0 1", "flush.zero_words"),
        ("zero message deaf 16 0 0", "zero message deaf 16 1 0", "flush.zero_words"),
        ("frame message hearing 16 16 0", "frame message hearing 16 15 0", "flush.frame_words"),
        ("frame at-switch hearing 16 16 0", "frame at-switch hearing 16 16 1", "flush.frame_words"),
        ("frame at-switch here 16 16 0", "frame at-switch here 0 0 0", "flush.frame_words"),
        ("zero never here 16 16 59", "zero never here 16 16 0", "control.unflushed_zero_words"),
        ("zero too-early deaf 16 16 64", "zero too-early deaf 16 16 0", "control.unflushed_zero_words"),
        ("frame never deaf 16 16 56", "frame never deaf 16 16 0", "control.unflushed_frame_words"),
        ("frame never deaf 16 16 56", "frame never other 16 16 56", "control.unflushed_frame_words"),
        ("frame never here 16 16 56", "frame never here 16 16 x", "control.unflushed_frame_words"),
    ] {
        assert_falls(&stale::SCENE, STALE, from, to, name);
    }
    let twice = format!("{STALE}fact stale.zero message here 16 16 0\n");
    assert_eq!(judge(&stale::SCENE, &twice)[0].outcome, Verdict::Fail);
}

#[test]
fn one_cpu_has_nobody_else_who_writes() {
    let alone: Vec<&str> = STALE.lines().filter(|line| !line.contains("hearing") && !line.contains("deaf")).collect();
    let alone = alone.join("\n").replace("cpus 2", "cpus 1");
    assert!(all_hold(&judge(&stale::SCENE, &alone)));
    // On two there is.
    assert!(!all_hold(&judge(&stale::SCENE, &alone.replace("cpus 1", "cpus 2"))));
}

#[test]
fn each_claim_about_storage_can_fall_short() {
    let log = storage_log();
    for (from, to, name) in [
        ("read crypt /small 700 ", "read crypt /small 700 0", "storage.checksums"),
        ("read mirror /large 300000 ", "read mirror /large 299999 ", "storage.checksums"),
        ("fact storage.read compare /holes", "fact storage.unread compare /holes", "storage.checksums"),
        ("fact storage.read fallback /large", "fact storage.unread fallback /large", "storage.checksums"),
        ("fact storage.read plain /small 700", "fact storage.read plane /small 700", "storage.checksums"),
        ("fact storage.host.file", "fact storage.host.files", "storage.checksums"),
        ("overflow 39 0xb", "overflow 39 0x9", "storage.overflow_depth"),
        ("overflow 39 0xb", "overflow 40 0xb", "storage.overflow_depth"),
        ("grown 38", "grown 0", "storage.overflow_depth"),
        ("fact storage.overflow 39 0xb\n", "", "storage.overflow_depth"),
        ("reading 6 10 0", "reading 6 10 1", "storage.one_process"),
        ("reading 6 10 0", "reading 6 0 0", "storage.one_process"),
        ("fact storage.reading 6 10 0\n", "", "storage.one_process"),
        ("reader 7 0x0", "reader 7 0xb", "storage.one_process"),
        ("fact storage.reader 7 0x0\n", "", "storage.one_process"),
        ("booting\n", "BUG: TASK stack guard page was hit at 1\n", "storage.one_process"),
        (
            "BUG: TASK stack guard page was hit at ffffc90010033fa8",
            "BUG: IRQ stack guard page was hit at 1",
            "storage.one_process",
        ),
        ("host.disk aa aa", "host.disk aa ab", "storage.disk_unchanged"),
        ("host.disk aa aa", "host.disk ab ab", "storage.disk_unchanged"),
        (
            "fact storage.disk 8192 aa\nfact storage.read",
            "fact storage.disk 8192 ab\nfact storage.read",
            "storage.disk_unchanged",
        ),
        ("fact storage.disk 8192 aa\nBUG", "BUG", "storage.disk_unchanged"),
        ("ring after 64 64 0 0", "ring after 63 64 0 0", "storage.ring"),
        ("ring after 64 64 0 0", "ring after 64 64 1 0", "storage.ring"),
        ("ring after 64 64 0 0", "ring after 64 64 0 1", "storage.ring"),
        ("ring after 64 64 0 0", "ring after 0 0 0 0", "storage.ring"),
        ("ring before 64 64 0 0", "ring before 32 32 0 0", "storage.ring"),
        ("door after 0 0 0", "door after 1 0 0", "storage.ring"),
        ("door after 0 0 0", "door after 0 1 0", "storage.ring"),
        ("door after 0 0 0", "door after 0 0 1", "storage.ring"),
        ("depth 8192 48 31 0", "depth 8192 48 0 0", "storage.depth_8k"),
        ("depth 8192 48 31 0", "depth 8192 48 31 1", "storage.depth_8k"),
        ("depth 8192 48 31 0", "depth 8192 49 31 0", "storage.depth_8k"),
        ("depth 16384 51 95 0", "depth 16384 51 31 0", "storage.depth_16k"),
        ("depth 32768 49 223 0", "depth 32768 49 95 0", "storage.depth_32k"),
        ("depth 65536 50 479 0", "depth 65536 47 479 0", "storage.depth_64k"),
        ("oops 4 overflow-walked TASK killed", "oops 4 overflow-walked TASK stopped", "storage.depth_64k"),
        ("oops 4 overflow-walked", "oops 4 underflow", "storage.depth_64k"),
        ("frames 64069 64069", "frames 64069 64061", "storage.balance"),
        ("balance.slots 0", "balance.slots 1", "storage.balance"),
        ("balance.tasks 4 4", "balance.tasks 4 5", "storage.balance"),
        ("heap 1736 308357 315981", "heap 1736 317718 315981", "storage.balance"),
        ("retired 0 0 0", "retired 1 0 0", "storage.balance"),
        ("owners 0 0", "owners 0 1", "storage.balance"),
    ] {
        assert_falls(&storage::SCENE, &log, from, to, name);
    }
}

#[test]
fn figures_are_numbers_of_their_unit() {
    let checks = judge(&overflow::SCENE, STORY);
    let tables = checks.last().expect("a check");
    assert_eq!(
        (tables.figure.as_ref().and_then(serde_json::Number::as_f64), tables.unit.as_str()),
        (Some(41.0), "bytes")
    );
    assert_eq!(judge(&cost::SCENE, COUNT)[0].figure, Some(900.into()));
}

#[test]
fn figures_are_withheld_when_the_calibration_is_off() {
    let check = changed(&cost::SCENE, COUNT, "100003", "110000", "cost.alloc_free_virtual");
    assert_eq!((check.outcome, check.figure), (Verdict::Fail, None));
}

#[test]
fn a_missing_fact_fails_and_is_named() {
    let check = changed(&overflow::SCENE, STORY, "fact guard.frames 0\n", "", "guard.frames");
    assert_eq!((check.outcome, check.detail.as_str()), (Verdict::Fail, "the guest printed no fact `guard.frames`"));
}

#[test]
fn a_boot_that_did_not_end_in_order_fails_every_claim_with_how_it_ended() {
    let checks = overflow::SCENE.judge(Outcome::Reset, &Transcript::of(STORY));
    assert_eq!(checks.len(), overflow::SCENE.claims.len());
    assert!(checks.iter().all(|check| check.outcome == Verdict::Fail && check.detail.contains("reset itself")));
}

#[test]
fn what_is_shown_fits_the_screen_and_quotes_the_report() {
    let storage_log = storage_log();
    for (scene, log) in [
        (control::DIRECT, CONTROL),
        (overflow::SCENE, STORY),
        (cost::SCENE, COUNT),
        (stale::SCENE, STALE),
        (storage::SCENE, &storage_log),
    ] {
        let written = Written::default();
        (scene.show)(&Transcript::of(log), &mut written.screen());
        let text = written.text();
        let ours = text.lines().filter(|line| !line.starts_with("BUG:"));
        assert!(ours.clone().all(|line| line.chars().count() <= 80), "{text}");
    }
    let written = Written::default();
    (overflow::SCENE.show)(&Transcript::of(STORY), &mut written.screen());
    assert!(written.text().contains("..ffffc90000008000)\n recurse+0x18\n---[ end trace ]---\n"), "{}", written.text());
}
