//! The command as scripts see it: exit statuses, one line for each refusal, JSON, and no trace after it.
//!
//! The emulator is a shell script that ends as the test asks; the guest's kernel is this command's own binary, which has
//! symbols. Nothing is built, downloaded or installed.

use core::time::Duration;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

const BINARY: &str = env!("CARGO_BIN_EXE_vmstack");

/// A guest that is ready, and a folder for temporary files that must be empty in the end.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("tmp")).expect("made");
        std::os::unix::fs::symlink(BINARY, folder.path().join("kernel")).expect("linked");
        Self { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program that the command takes: its own binary, with the entry that asks for a dynamic linker taken out.
    fn program(&self) -> String {
        let mut bytes = std::fs::read(BINARY).expect("readable");
        let entries = usize::from(bytes[56]);
        for entry in (0..entries).map(|index| 64 + 56 * index) {
            if bytes[entry..entry + 4] == [3, 0, 0, 0] {
                bytes[entry] = 0;
            }
        }
        let path = self.file("static");
        std::fs::write(&path, bytes).expect("written");
        path.to_str().expect("text").to_owned()
    }

    fn vmstack(&self, boot: &str, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(words).stdin(Stdio::null());
        command.env("VMSTACK_QEMU", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake-emulator.sh"));
        command.env("VMSTACK_GUEST", self.folder.path()).env("VMSTACK_NO_INSTALL", "1");
        command.env("FAKE_BOOT", boot).env("FAKE_NOTE", self.file("note")).env("TMPDIR", self.file("tmp"));
        command.env_remove("VMSTACK_TIME_LIMIT");
        command
    }

    fn run(&self, boot: &str, words: &[&str]) -> Output {
        self.vmstack(boot, words).output().expect("it runs")
    }

    /// The console of the boot that died is there, and it is said where; nothing else is.
    fn assert_one_console_is_kept(&self, output: &Output) {
        let left: Vec<_> = std::fs::read_dir(self.file("tmp")).expect("a folder").flatten().collect();
        let [kept] = left.as_slice() else { panic!("{left:?}") };
        let (said, told) = (format!("is in {}", kept.path().display()), [&output.stdout, &output.stderr]);
        assert!(told.iter().any(|stream| String::from_utf8_lossy(stream).contains(&said)), "{said}");
    }

    fn assert_no_trace(&self) {
        let left = std::fs::read_dir(self.file("tmp")).expect("a folder").flatten().count();
        assert_eq!(left, 0, "temporary files are left");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asserts exit status 2, nothing on standard output, and one line on standard error that holds `named`.
fn assert_refused(output: &Output, named: &str) {
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert_eq!((line.lines().count(), output.stdout.len()), (1, 0), "{line}");
    assert!(line.contains(named), "{line}");
}

fn checks(json: &[u8]) -> Vec<(String, String)> {
    let value: serde_json::Value = serde_json::from_slice(json).expect("JSON");
    let field = |check: &serde_json::Value, name: &str| check[name].as_str().expect("text").to_owned();
    value.as_array().expect("an array").iter().map(|check| (field(check, "name"), field(check, "outcome"))).collect()
}

#[test]
fn bad_usage_is_one_line_and_status_2() {
    let place = Place::new();
    let program = place.program();
    for (words, named) in [
        (&["fly"][..], "fly"),
        (&["run", "--on", "mips"], "mips"),
        (&["run", "--on", "riscv64"], "not there yet"),
        (&["run", "--cpus", "9"], "9"),
        (&["run", "--cpus", "8", "--memory", "127"], "--memory 128"),
        (&["run", "--program"], "--program"),
        (&["run", "--program", ""], "no absolute path"),
        (&["run", "--on", "hosted", "--program", "/bin/sh"], "--on hosted"),
        (&["run", "--json", "-", "--program", &program], "--json -"),
        (&["crash"], "usage"),
        (&["crash", "--all", "UNDERFLOW"], "--all"),
        (&["crash", "--list", "--json", "-"], "--json"),
        (&["crash", "EXHAUST_STAK"], "did you mean EXHAUST_STACK?"),
        (&["crash", "UNDERFLOW", "--on", "riscv64"], "not there yet"),
        (&["crash", "UNDERFLOW", "--on", "hosted", "--cpus", "2"], "--cpus"),
        (&["crash", "UNDERFLOW", "--cpus", "9"], "9"),
        (&["hosted-boot", "DOUBLE_FAULT"], "DOUBLE_FAULT"),
        (&["bench", "storms"], "there is no suite `storms`"),
        (&["bench", "stack", "--on", "hosted"], "the suite `stack` boots the kernel"),
        (&["bench", "life", "--on", "aarch64"], "not there yet"),
        (&["bench", "life", "--on", "hosted"], "--on hosted"),
        (&["bench", "hosted", "storm", "--on", "hosted"], "the suite `storm` boots the kernel"),
        (&["bench", "--list", "--json", "-"], "--json"),
        (&["bench", "--list", "--against", "linux"], "--against"),
        (&["bench", "storm", "--against", "linux"], "--against"),
        (&["bench", "--list", "--plots", "/tmp"], "--plots"),
        (&["bench", "life", "--plots", "/dev/null/x"], "--plots"),
        (&["bench", "life", "--samples", "0"], "0"),
        (&["bench", "life", "--against", "plan9"], "plan9"),
        (&["decode", "log"], "not there yet"),
    ] {
        assert_refused(&place.run("orderly", words), named);
    }
}

#[test]
fn help_and_version_are_status_0() {
    let place = Place::new();
    for words in ["--help", "--version"] {
        let output = place.run("orderly", &[words]);
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
        assert!(text(&output.stdout).contains("vmstack"));
    }
}

#[test]
fn json_that_cannot_be_written_is_found_out_before_anything_is_booted() {
    let place = Place::new();
    let path = place.file("no/such/folder.json");
    assert_refused(&place.run("hang", &["run", "--json", path.to_str().expect("text")]), "cannot be written");
    assert!(!place.file("note").exists() && !place.file("no").exists());
}

#[test]
fn a_story_whose_boots_are_all_in_order_passes() {
    let place = Place::new();
    let path = place.file("out.json");
    let output = place.run("orderly", &["run", "--json", path.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.contains("BUG: TASK stack guard") && shown.contains("pass  overflow.reported_once"), "{shown}");
    assert!(!shown.contains('\u{1b}') && output.stderr.is_empty(), "a pipe gets neither colour nor progress");
    let checks = checks(&std::fs::read(path).expect("written"));
    let passed =
        |part: &str| checks.iter().filter(|(name, outcome)| name.starts_with(part) && outcome == "pass").count();
    // Without a tool that makes file systems the part about storage is skipped, and says so.
    let storage = if vmstack_cli::image::tool().is_some() { 10 } else { 0 };
    assert_eq!((passed("") - passed("hosted."), passed("storage.")), (27 + storage, storage));
    assert!(checks.iter().all(|(_, outcome)| outcome != "fail"), "{checks:?}");
    place.assert_no_trace();
}

#[test]
fn without_a_tool_that_makes_file_systems_storage_is_skipped_and_never_passed() {
    let place = Place::new();
    let mut command = place.vmstack("orderly", &["run", "--json", "-"]);
    let output = command.env("VMSTACK_MKE2FS", "none").output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let checks = checks(&output.stdout);
    let storage: Vec<_> = checks.iter().filter(|(name, _)| name.starts_with("storage.")).collect();
    assert!(storage.len() == 10 && storage.iter().all(|(_, outcome)| outcome == "skip"), "{storage:?}");
    assert!(text(&output.stdout).contains("install Debian's e2fsprogs"));
}

#[test]
fn json_on_standard_output_is_alone_there() {
    let place = Place::new();
    let output = place.run("orderly", &["run", "--json", "-"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(checks(&output.stdout).iter().any(|(name, _)| name == "guard.frames"));
}

#[test]
fn a_machine_that_resets_itself_fails_every_check() {
    let place = Place::new();
    let output = place.run("reset", &["run", "--json", "-"]);
    assert_eq!(output.status.code(), Some(1));
    let checks = checks(&output.stdout);
    assert!(checks.iter().all(|(name, outcome)| name.starts_with("hosted.") || outcome == "fail"), "{checks:?}");
    place.assert_no_trace();
}

#[test]
fn the_time_limit_ends_a_boot_that_hangs() {
    let place = Place::new();
    let mut command = place.vmstack("hang", &["run", "--stacks", "direct"]);
    let output = command.env("VMSTACK_TIME_LIMIT", "0.2").output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("had not ended after 0.2 s"));
    assert_refused(&place.vmstack("hang", &["run"]).env("VMSTACK_TIME_LIMIT", "soon").output().expect("ran"), "soon");
    place.assert_no_trace();
}

#[test]
fn an_emulator_that_refuses_the_machine_is_quoted_with_status_2() {
    let place = Place::new();
    let output = place.run("refuses", &["run", "--json", "-", "--memory", "4000000"]);
    assert_refused(&output, "cannot set up guest memory");
}

#[test]
fn without_an_emulator_the_notice_is_the_first_line_and_the_last() {
    let place = Place::new();
    let mut command = place.vmstack("orderly", &["run"]);
    let output = command.env_remove("VMSTACK_QEMU").env("PATH", "/nowhere").output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    let (first, last) = (shown.lines().next().expect("a line"), shown.lines().last().expect("a line"));
    assert!(first.contains("apt-get install -y --no-install-recommends qemu-system-x86") && first == last, "{shown}");

    let mut command = place.vmstack("orderly", &["run", "--on", "x86_64"]);
    let output = command.env_remove("VMSTACK_QEMU").env("PATH", "/nowhere").output().expect("it runs");
    assert_refused(&output, "qemu-system-x86");
}

#[test]
fn a_programs_end_is_the_commands() {
    let place = Place::new();
    let output = place.run("exits", &["run", "--program", &place.program(), "-x", ""]);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(7), 0), "{}", text(&output.stderr));
    let words = text(&output.stdout);
    assert!(words.starts_with("words: mode=program stacks=virtual argv=2f") && words.contains(" argv=2d78 argv= env="));
    assert_eq!(place.run("signalled", &["run", "--program", &place.program()]).status.code(), Some(139));
    place.assert_no_trace();
}

#[test]
fn an_emulator_that_dies_under_a_program_is_status_1_and_a_line_after_the_kernels_words() {
    let place = Place::new();
    for (boot, kernel_words) in [("dies", "booting\n"), ("killed", "")] {
        let output = place.run(boot, &["run", "--program", &place.program()]);
        let said = text(&output.stderr);
        let line = said.strip_prefix(kernel_words).expect(&said);
        assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{said}");
        assert!(line.contains("never reported"), "{said}");
    }
    assert_eq!(text(&place.run("dies", &["run", "--program", &place.program()]).stdout), "half a li");
}

#[test]
fn standard_input_is_the_guests() {
    let place = Place::new();
    let mut child = place
        .vmstack("echoes", &["run", "--program", &place.program()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    child.stdin.take().expect("a pipe").write_all(b"a\xff\0b\n").expect("taken");
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.stdout, b"a\xff\0b\n\x04", "five bytes, and one for the end of input");
}

#[test]
fn a_program_that_cannot_run_has_a_line_of_its_own() {
    let place = Place::new();
    let elf = std::fs::read(BINARY).expect("readable");
    let patched = |offset: usize, byte: u8| {
        let mut bytes = elf.clone();
        bytes[offset] = byte;
        bytes
    };
    for (name, bytes, named) in [
        ("empty", Vec::new(), "not an ELF file"),
        ("script", b"#!/bin/sh\n".to_vec(), "not an ELF file"),
        ("short", elf[..10].to_vec(), "truncated"),
        ("cut", elf[..elf.len() / 2].to_vec(), "truncated"),
        ("narrow", patched(4, 1), "32-bit"),
        ("big", patched(5, 2), "big-endian"),
        ("arm", patched(18, 183), "AArch64"),
        ("object", patched(16, 1), "not an executable"),
        ("dynamic", elf.clone(), "dynamically linked"),
    ] {
        let path = place.file(name);
        std::fs::write(&path, bytes).expect("written");
        let output = place.run("exits", &["run", "--program", path.to_str().expect("text")]);
        assert_refused(&output, named);
        assert!(text(&output.stderr).contains(name));
    }
    assert_refused(&place.run("exits", &["run", "--program", "/no/such/file"]), "/no/such/file");
    assert_refused(&place.run("exits", &["run", "--program", "/tmp"]), "regular file");
    assert_refused(&place.run("exits", &["run", "--program", "/dev/zero"]), "regular file");
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let place = Place::new();
    assert_refused(&place.run("exits", &["run", "--program", &place.program(), &"x".repeat(2050)]), "command line");
}

#[test]
fn a_signal_leaves_neither_emulator_nor_files() {
    for signal in ["INT", "TERM", "KILL"] {
        let place = Place::new();
        let mut child = place.vmstack("hang", &["run"]).stdout(Stdio::null()).spawn().expect("it runs");
        let note = wait_for(|| std::fs::read_to_string(place.file("note")).ok().filter(|note| note.ends_with('\n')));
        let (emulator, _) = note.trim().split_once(' ').expect("two words");
        let sent = Command::new("/bin/sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status();
        assert!(sent.expect("a shell").success());
        assert!(child.wait().expect("ended").code().is_none(), "it ends by the same signal");
        let proc = Path::new("/proc").join(emulator);
        wait_for(|| (!proc.join("exe").exists()).then_some(()));
        if signal != "KILL" {
            place.assert_no_trace();
        }
    }
}

/// The one check called `name`.
fn check(json: &[u8], name: &str) -> serde_json::Value {
    let value: serde_json::Value = serde_json::from_slice(json).expect("JSON");
    let mut named = value.as_array().expect("an array").iter().filter(|check| check["name"] == name);
    let one = named.next().expect(name).clone();
    assert!(named.next().is_none(), "{name} is there twice");
    one
}

#[test]
fn crashes_that_are_as_they_should_be_pass() {
    let place = Place::new();
    let path = place.file("out.json");
    let words = ["crash", "EXHAUST_STACK", "OVERFLOW_IN_INIT", "EXHAUST_STACK", "--json", path.to_str().expect("text")];
    let output = place.run("orderly", &words);
    let shown = text(&output.stdout);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{shown}{}", text(&output.stderr));
    assert!(shown.contains("pass  EXHAUST_STACK                   task killed        4 overflows\n"), "{shown}");
    assert!(shown.ends_with("2 as it should be, 0 fell short, 0 not looked at\n"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80) && !shown.contains('\u{1b}'), "{shown}");
    let json = std::fs::read(path).expect("written");
    assert_eq!(checks(&json).len(), 2, "a name that is given twice is one finding");
    assert_eq!(check(&json, "EXHAUST_STACK")["figure"], 4);
    place.assert_no_trace();
}

#[test]
fn the_runs_of_the_sweep_lie_beside_the_findings() {
    let place = Place::new();
    let path = place.file("out.json");
    let output = place.run("orderly", &["crash", "OVERFLOW_AT_EVERY_OFFSET", "--json", path.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let found = check(&std::fs::read(path).expect("written"), "OVERFLOW_AT_EVERY_OFFSET");
    assert_eq!((&found["figure"], &found["unit"]), (&2560.into(), &"runs".into()));
    let runs: serde_json::Value =
        serde_json::from_slice(&std::fs::read(place.file("out.sweep.json")).expect("beside")).expect("JSON");
    assert_eq!(runs.as_array().expect("an array").len(), 2560);
    assert_eq!(
        (&runs[0]["kind"], &runs[0]["bytes"], &runs[0]["instruction"]),
        (&"syscall".into(), &0.into(), &"0xffffffff80200100".into())
    );
    // Nothing lies beside standard output, and what does not sweep leaves no such file.
    let output = place.run("orderly", &["crash", "OVERFLOW_AT_EVERY_OFFSET", "--json", "-"]);
    assert_eq!(check(&output.stdout, "OVERFLOW_AT_EVERY_OFFSET")["outcome"], "pass");
    let other = place.file("other.json");
    place.run("orderly", &["crash", "WILD_POINTER", "--json", other.to_str().expect("text")]);
    assert!(other.exists() && !place.file("other.sweep.json").exists() && !place.file("-.sweep.json").exists());
}

#[test]
fn a_crash_under_which_the_machine_dies_fails_and_the_others_are_tried_again() {
    let place = Place::new();
    let mut command = place.vmstack("orderly", &["crash", "EXHAUST_STACK", "WILD_POINTER", "--json", "-"]);
    let output = command.env("FAKE_DIES", "EXHAUST_STACK").output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(check(&output.stdout, "WILD_POINTER")["outcome"], "pass");
    let died = check(&output.stdout, "EXHAUST_STACK");
    assert!(died["outcome"] == "fail" && died["detail"].as_str().is_some_and(|detail| detail.contains("reset itself")));
    place.assert_one_console_is_kept(&output);
}

#[test]
fn a_machine_that_dies_under_every_crash_fails_them_all() {
    for (boot, said) in [("reset", "reset itself"), ("killed", "signal 9"), ("hang", "had not ended")] {
        let place = Place::new();
        let mut command = place.vmstack(boot, &["crash", "EXHAUST_STACK", "OVERFLOW_IN_INIT", "--json", "-"]);
        let output = command.env("VMSTACK_TIME_LIMIT", "0.3").output().expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{boot}");
        for name in ["EXHAUST_STACK", "OVERFLOW_IN_INIT"] {
            let found = check(&output.stdout, name);
            let detail = found["detail"].as_str().expect("text");
            assert!(found["outcome"] == "fail" && detail.contains(said), "{boot}: {detail}");
        }
        // Nothing is left but the consoles, and it is said where they are.
        let said = String::from_utf8_lossy(&output.stderr);
        let left: Vec<_> = std::fs::read_dir(place.file("tmp")).expect("a folder").flatten().collect();
        let told = left.iter().filter(|kept| said.contains(&format!("is in {}", kept.path().display()))).count();
        assert_eq!((left.len(), told), (2, 2), "{boot}: {left:?}, {said}");
    }
}

#[test]
fn what_the_kernel_cannot_be_made_for_is_skipped_with_the_reason() {
    let place = Place::new();
    let output = place.run("orderly", &["crash", "CORRUPT_STACK", "--json", "-"]);
    let found = check(&output.stdout, "CORRUPT_STACK");
    assert_eq!((output.status.code(), &found["outcome"]), (Some(0), &"skip".into()));
    assert!(found["detail"].as_str().is_some_and(|detail| detail.contains("stack protector")), "{found}");
}

#[test]
fn hosted_crashes_need_no_emulator_and_are_real() {
    let place = Place::new();
    let words = ["crash", "--on", "hosted", "EXHAUST_STACK", "BIG_FRAME", "DOUBLE_FAULT", "--json", "-"];
    let output =
        place.vmstack("hang", &words).env_remove("VMSTACK_QEMU").env("PATH", "/nowhere").output().expect("ran");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert_eq!(check(&output.stdout, "EXHAUST_STACK")["figure"], 4, "each variant is one");
    assert_eq!(check(&output.stdout, "BIG_FRAME")["outcome"], "pass");
    assert_eq!(check(&output.stdout, "DOUBLE_FAULT")["outcome"], "skip");
    place.assert_no_trace();
}

#[test]
fn without_an_emulator_hosted_crashes_are_provoked_between_two_notices() {
    let place = Place::new();
    let without = |words: &[&str]| {
        let mut command = place.vmstack("orderly", words);
        command.env_remove("VMSTACK_QEMU").env("PATH", "/nowhere").output().expect("it runs")
    };
    let path = place.file("out.json");
    let output = without(&["crash", "UNDERFLOW", "--json", path.to_str().expect("text")]);
    let shown = text(&output.stdout);
    let (first, last) = (shown.lines().next().expect("a line"), shown.lines().last().expect("a line"));
    assert_eq!((output.status.code(), first), (Some(0), last), "{shown}");
    assert!(first.contains("apt-get install -y --no-install-recommends qemu-system-x86"), "{first}");
    let json = std::fs::read(path).expect("written");
    assert_eq!(check(&json, "hosted.UNDERFLOW")["outcome"], "pass");
    assert_eq!(check(&json, "UNDERFLOW")["outcome"], "skip");
    assert_refused(&without(&["crash", "UNDERFLOW", "--on", "x86_64"]), "qemu-system-x86");
}

#[test]
fn the_list_says_what_must_come_of_each_crash() {
    let place = Place::new();
    let output = place.run("hang", &["crash", "--list"]);
    let shown = text(&output.stdout);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
    for row in [
        "EXHAUST_STACK                   task killed        kernel, hosted\n",
        "OVERFLOW_ON_IRQ_STACK           handler abandoned  kernel\n",
        "OVERFLOW_IN_INIT                orderly stop       kernel\n",
    ] {
        assert!(shown.contains(row), "{shown}");
    }
    let one = text(&place.run("hang", &["crash", "--list", "UNDERFLOW"]).stdout);
    assert_eq!(one.lines().count(), 3, "{one}");
}

/// Waits until `look` sees something.
fn wait_for<T>(look: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "nothing was seen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A guest with the programs that are measured; their bytes do not matter to the fake emulator.
fn place_with_programs() -> Place {
    let place = Place::new();
    std::fs::create_dir(place.file("bin")).expect("made");
    for program in ["life", "nothing", "linux_init"] {
        std::fs::write(place.file("bin").join(program), "program").expect("written");
    }
    place
}

#[test]
fn suites_are_listed_without_a_boot() {
    let place = Place::new();
    let output = place.run("hang", &["bench", "--list"]);
    let shown = text(&output.stdout);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{shown}");
    assert!(shown.contains("life\n") && shown.contains("vmalloc\n"), "{shown}");
    let output = place.run("hang", &["bench", "--list", "--on", "hosted"]);
    let shown = text(&output.stdout);
    assert!(shown.contains("hosted\n") && shown.contains("switch\n") && !shown.contains("life"), "{shown}");
}

#[test]
fn the_figures_of_a_life_are_judged_here_and_shown_beside_linuxs() {
    let place = place_with_programs();
    let path = place.file("out.json");
    let mut command = place.vmstack("orderly", &["bench", "life", "--against", "linux", "--json"]);
    let output = command.arg(&path).env("VMSTACK_LINUX", place.file("kernel")).output().expect("it runs");
    let shown = text(&output.stdout);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{shown}{}", text(&output.stderr));
    assert!(shown.contains("mapped / Linux 6.1                 0.23        0.17        0.05  at most 1/4"), "{shown}");
    assert!(shown.contains("Linux, here, is 6.1\n"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80) && !shown.contains('\u{1b}'), "{shown}");
    let json = std::fs::read(path).expect("written");
    assert_eq!(checks(&json).len(), 6 * 8 * 3 + 24);
    assert_eq!(check(&json, "life.clone.p50")["figure"], 1900);
    assert_eq!(check(&json, "life.linux.fork_exec.p99")["figure"], 99000);
    place.assert_no_trace();
}

#[test]
fn the_kernels_own_counts_are_judged_and_drawn() {
    let place = Place::new();
    let (path, plots) = (place.file("out.json"), place.file("plots"));
    let mut command = place.vmstack("orderly", &["bench", "stack", "fault", "memory"]);
    let output = command.arg("--json").arg(&path).arg("--plots").arg(&plots).output().expect("it runs");
    let shown = text(&output.stdout);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{shown}{}", text(&output.stderr));
    let json = std::fs::read(path).expect("written");
    assert!(checks(&json).iter().all(|(_, outcome)| outcome == "pass"), "{shown}");
    assert_eq!(check(&json, "stack.hot")["figure"], 57);
    assert_eq!(check(&json, "fault.kill")["figure"], 4999);
    assert_eq!(check(&json, "memory.record")["figure"], 64);
    let page = std::fs::read_to_string(plots.join("index.html")).expect("drawn");
    // What was aimed at; five of stacks, one of deaths, two of memory.
    assert!(page.matches("<svg").count() == 9 && plots.join("fault.svg").exists(), "{shown}");
    std::fs::remove_dir_all(plots).expect("removed");
    place.assert_no_trace();
}

#[test]
fn what_is_measured_in_this_process_needs_neither_guest_nor_emulator() {
    let place = Place::new();
    let words = ["bench", "--on", "hosted", "hosted", "vmalloc", "dma", "--samples", "3", "--json", "-"];
    let mut command = place.vmstack("hang", &words);
    let output = command.env_remove("VMSTACK_QEMU").env("PATH", "/nowhere").output().expect("it runs");
    let findings = checks(&output.stdout);
    let figures = ["hosted.hot", "hosted.hot_zero", "hosted.scaling", "hosted.pool", "hosted.malloc"];
    for name in figures.into_iter().chain(["vmalloc.hosted.threads", "dma.hosted.check"]) {
        assert!(findings.iter().any(|(found, _)| found == name), "{name}: {findings:?}{}", text(&output.stderr));
    }
    assert_eq!(check(&output.stdout, "hosted.hot")["unit"], "times");
    let random = ["requests", "wrong", "refusals_wrong", "kept"].map(|part| format!("dma.random.{part}"));
    for name in random {
        assert_eq!(check(&output.stdout, &name)["outcome"], "pass", "{findings:?}");
    }
    place.assert_no_trace();
}

#[test]
fn a_benchmark_on_a_machine_that_resets_itself_falls_short_in_every_figure() {
    let place = place_with_programs();
    let output = place.run("reset", &["bench", "life", "--json", "-"]);
    assert_eq!(output.status.code(), Some(1));
    let checks = checks(&output.stdout);
    assert!(checks.len() == 5 * 8 * 3 + 24 && checks.iter().all(|(_, outcome)| outcome == "fail"), "{checks:?}");
    place.assert_no_trace();
}

#[test]
fn a_benchmark_that_hangs_is_stopped_and_one_that_lacks_something_says_what() {
    let place = place_with_programs();
    let mut command = place.vmstack("hang", &["bench", "life"]);
    let output = command.env("VMSTACK_TIME_LIMIT", "0.2").output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("had not ended after 0.2 s"), "{}", text(&output.stdout));
    let mut command = place.vmstack("orderly", &["bench", "life", "--against", "linux"]);
    assert_refused(&command.env("VMSTACK_LINUX", "/no/kernel").output().expect("it runs"), "/no/kernel");
    let mut command = place.vmstack("orderly", &["bench", "life"]);
    let output = command.env_remove("VMSTACK_QEMU").env("PATH", "/nowhere").output().expect("it runs");
    assert_refused(&output, "qemu-system-x86");
    std::fs::remove_file(place.file("bin").join("linux_init")).expect("removed");
    let mut command = place.vmstack("orderly", &["bench", "life", "--against", "linux"]);
    assert_refused(&command.env("VMSTACK_LINUX", place.file("kernel")).output().expect("it runs"), "linux_init");
    place.assert_no_trace();
}
