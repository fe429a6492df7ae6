//! Boots of a fake emulator: shell scripts that end in each of the ways an emulator ends.

use super::{Accelerator, Boot, Ended};
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::outcome::Outcome;
use core::time::Duration;
use std::path::Path;

fn boot(emulator: &Path) -> Boot<'_> {
    Boot {
        emulator,
        kernel: Path::new("/kernel"),
        archive: None,
        words: "mode=probe",
        accelerator: Accelerator::Tcg,
        cpus: 2,
        memory: 256,
        limit: Some(Duration::from_secs(20)),
        devices: &[],
        disk: None,
        interactive: false,
    }
}

/// Writes `script` as an executable file of its own folder. The folder goes when the value does.
///
/// A shell writes it: a descriptor open for writing in this process could be inherited by another test's child, and
/// executing the file would then fail as busy.
fn fake(script: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("emulator");
    let wrote = std::process::Command::new("/bin/sh")
        .args(["-c", r#"printf '#!/bin/sh\n%s\n' "$1" > "$2" && chmod +x "$2""#, "sh", script])
        .arg(&path)
        .status();
    assert!(wrote.expect("a shell").success());
    (folder, path)
}

fn outcome_of(script: &str, limit: Duration) -> (Ended, Outcome) {
    let (_folder, path) = fake(script);
    let mut heard = Vec::new();
    let ended = Boot { limit: Some(limit), ..boot(&path) }
        .run(&Interrupts::none(), &mut |_, bytes| {
            heard.extend_from_slice(bytes);
            Ok(())
        })
        .expect("it started");
    let marker = heard.windows(6).any(|window| window == b"marker");
    let outcome = Outcome::of(ended.end, marker);
    (ended, outcome)
}

#[test]
fn each_way_to_end_is_its_own_outcome() {
    let long = Duration::from_secs(20);
    assert_eq!(outcome_of("echo marker end-of-probe; exit 33", long).1, Outcome::Orderly);
    assert_eq!(outcome_of("exit 0", long).1, Outcome::Reset);
    assert_eq!(outcome_of("exit 33", long).1, Outcome::NoMarker { status: 33 });
    assert_eq!(outcome_of("exit 35", long).1, Outcome::Panicked);
    assert_eq!(outcome_of("kill -11 $$", long).1, Outcome::Killed { signal: 11 });
    let short = Duration::from_millis(100);
    assert_eq!(outcome_of("echo marker; sleep 60", short).1, Outcome::TimedOut { after: short });
}

#[test]
fn an_emulator_that_refuses_to_start_is_quoted() {
    let (ended, _) = outcome_of("echo 'qemu: no such machine' >&2; exit 1", Duration::from_secs(20));
    assert_eq!(ended.refusal(), Some("qemu: no such machine"));
}

#[test]
fn the_side_channel_is_read_and_its_folder_goes_with_the_boot() {
    let script = r#"for word; do case "$word" in file:*) file="${word#file:}"; echo "exit 7" > "$file"; echo "$file";; esac; done
        exit 33"#;
    let (_folder, path) = fake(script);
    let mut named = String::new();
    let ended = boot(&path).run(&Interrupts::none(), &mut |_, bytes| {
        named.push_str(&String::from_utf8_lossy(bytes));
        Ok(())
    });
    assert_eq!(ended.expect("it started").side_channel, "exit 7\n");
    assert!(named.contains("com2") && !Path::new(named.trim()).exists(), "{named}");
}

#[test]
fn a_signal_during_a_boot_ends_the_emulator_and_leaves_no_file() {
    let script = r#"for word; do case "$word" in file:*) echo "${word#file:}";; esac; done; echo $$; exec sleep 60"#;
    let (_folder, path) = fake(script);
    let interrupts = Interrupts::none();
    let mut heard = String::new();
    let ended = boot(&path).run(&interrupts, &mut |_, bytes| {
        heard.push_str(&String::from_utf8_lossy(bytes));
        if heard.lines().count() == 2 {
            interrupts.raise(2);
        }
        Ok(())
    });
    assert_eq!(ended.err(), Some(Failure::Interrupted(2)));
    let (file, pid) = heard.trim().split_once('\n').expect("two lines");
    assert!(!Path::new(file).exists() && !Path::new(file).parent().is_none_or(Path::exists));
    assert!(!Path::new("/proc").join(pid).exists());
}

#[test]
fn counting_is_one_cpu_in_software() {
    let devices = &["edu"];
    let counting = Boot { accelerator: Accelerator::Counting, cpus: 4, devices, ..boot(Path::new("/q")) };
    let words = counting.arguments(Path::new("/t/com2")).join(std::ffi::OsStr::new(" "));
    let line = words.to_string_lossy();
    assert!(line.contains("-icount shift=0,sleep=off -cpu max,-erms -smp 1 "), "{line}");
    let turns = Boot { accelerator: Accelerator::InTurns, cpus: 4, devices, ..boot(Path::new("/q")) };
    let several = turns.arguments(Path::new("/t/com2")).join(std::ffi::OsStr::new(" "));
    assert_eq!(several.to_string_lossy(), line.replace("-smp 1 ", "-smp 4 "));
    assert!(line.ends_with("com2 -device edu -kernel /kernel -append mode=probe"), "{line}");
}
