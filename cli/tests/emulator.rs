//! The whole command on a real emulator: each name of the story is a test, and so is each way in which a run can go wrong.
//!
//! The story runs once for one, two and eight CPUs, and nearly all crashes once for two; their findings are the tests. Where there is no emulator and none can be
//! installed, the tests are listed as ignored, with the reason, and `VMSTACK_REQUIRE_EMULATOR=1` makes that a failure.

use core::time::Duration;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use vmstack_cli::borrowed;
use vmstack_cli::checkout::Checkout;
use vmstack_cli::checks::Verdict;
use vmstack_cli::crash;
use vmstack_cli::frames::Image;
use vmstack_cli::guest::Guest;

#[path = "emulator/alike.rs"]
mod alike;
#[path = "emulator/dying.rs"]
mod dying;
#[path = "emulator/hostile.rs"]
mod hostile;
#[path = "emulator/storage.rs"]
mod storage;

const BINARY: &str = env!("CARGO_BIN_EXE_vmstack");

/// The names that scripts read.
const NAMES: [&str; 37] = [
    "control.neighbour_corrupted",
    "control.thread_info_corrupted",
    "control.mapped_thread_info_corrupted",
    "overflow.reported_once",
    "overflow.task_killed",
    "overflow.survivors",
    "fragmentation.direct_fails",
    "fragmentation.virtual_succeeds",
    "zero.words",
    "guard.frames",
    "protection.writable_text",
    "balance.frames",
    "balance.slots",
    "vmalloc.listing",
    "vmalloc.guards",
    "vmalloc.addresses",
    "balance.area_frames",
    "cost.page_table_bytes_per_stack",
    "cost.alloc_free_virtual",
    "cost.alloc_free_direct",
    "cost.current_percpu",
    "cost.current_struct",
    "cost.current_slot",
    "flush.zero_words",
    "flush.frame_words",
    "control.unflushed_zero_words",
    "control.unflushed_frame_words",
    "storage.checksums",
    "storage.overflow_depth",
    "storage.one_process",
    "storage.disk_unchanged",
    "storage.ring",
    "storage.depth_8k",
    "storage.depth_16k",
    "storage.depth_32k",
    "storage.depth_64k",
    "storage.balance",
];

/// Machines on which the story is told: CPUs.
const MACHINES: [u32; 3] = [1, 2, 8];

fn vmstack(words: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(words).stdin(Stdio::null());
    command
}

fn run(words: &[&str]) -> Result<Output, Failed> {
    vmstack(words).output().map_err(Failed::from)
}

/// What a run said on its way to failing.
fn words_of(output: &Output) -> String {
    format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())
}

/// The story's findings on one machine, or why there are none.
type Told = Arc<Result<Vec<Value>, String>>;

fn tell(cpus: u32) -> Told {
    let told = run(&["run", "--on", "x86_64", "--cpus", &cpus.to_string(), "--json", "-"]);
    let findings = told.map_err(|failed| format!("{failed:?}")).and_then(|output| {
        serde_json::from_slice(&output.stdout).map_err(|error| format!("{}, no JSON: {error}", words_of(&output)))
    });
    Arc::new(findings)
}

fn expect_pass(told: &Told, name: &str) -> Result<(), Failed> {
    let findings = told.as_ref().as_ref().map_err(Failed::from)?;
    let named: Vec<&Value> = findings.iter().filter(|finding| finding["name"] == name).collect();
    match named.as_slice() {
        [finding] if finding["outcome"] == "pass" => Ok(()),
        [finding] => Err(format!("{finding}").into()),
        found => Err(format!("{} findings have this name", found.len()).into()),
    }
}

fn story_trials() -> Vec<Trial> {
    let trials = MACHINES.into_iter().flat_map(|cpus| {
        let told = tell(cpus);
        NAMES.into_iter().map(move |name| {
            let told = Arc::clone(&told);
            Trial::test(format!("on_{cpus}_cpus::{name}"), move || expect_pass(&told, name))
        })
    });
    trials.collect()
}

fn expect(condition: bool, output: &Output) -> Result<(), Failed> {
    let standard = String::from_utf8_lossy(&output.stdout);
    if condition { Ok(()) } else { Err(format!("{}\n{standard}", words_of(output)).into()) }
}

/// A program of `programs/`, which the story's run has built.
fn program(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = root.with_file_name("target/guest/programs/release").join(name);
    path.to_string_lossy().into_owned()
}

fn a_programs_output_and_status_are_the_commands() -> Result<(), Failed> {
    let output = run(&["run", "--program", "/bin/busybox", "echo", "hello"])?;
    expect(output.status.code() == Some(0) && output.stdout == b"hello\n", &output)?;
    let output = run(&["run", "--program", "/bin/busybox", "false"])?;
    expect(output.status.code() == Some(1) && output.stdout.is_empty(), &output)
}

/// Every byte, however the input ends: the guest's console has bytes with a meaning, and a queue that can be emptied.
fn a_program_reads_what_the_command_is_given() -> Result<(), Failed> {
    use std::io::Write;
    let all: Vec<u8> = (0..=255).cycle().take(5000).collect();
    for input in [b"".as_slice(), b"x", b"one\ntwo\nthree", b"\x04\x10\n\x04", &all] {
        let mut command = vmstack(&["run", "--program", "/bin/busybox", "cat"]);
        command.env("VMSTACK_TIME_LIMIT", "60");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(input)?;
        }
        let output = child.wait_with_output()?;
        expect(output.status.code() == Some(0) && output.stdout == input, &output)?;
    }
    Ok(())
}

fn a_shell_forks_executes_and_waits() -> Result<(), Failed> {
    let script = "for i in 1 2 3; do busybox echo $i; done; busybox false; exit $((4 + $?))";
    let output = run(&["run", "--program", "/bin/busybox", "sh", "-c", script])?;
    expect(output.status.code() == Some(5) && output.stdout == b"1\n2\n3\n", &output)
}

/// What `script` prints and how it ends, in the guest's shell.
fn expect_of_shell(script: &str, printed: &str, status: i32) -> Result<(), Failed> {
    let mut command = vmstack(&["run", "--program", "/bin/busybox", "sh", "-c", script]);
    let output = command.env("VMSTACK_TIME_LIMIT", "60").output()?;
    expect(output.status.code() == Some(status) && output.stdout == printed.as_bytes(), &output)
}

fn a_shell_has_pipes_substitutions_and_jobs() -> Result<(), Failed> {
    expect_of_shell("seq 100 | grep 7 | wc -l", "19\n", 0)?;
    expect_of_shell("x=$(echo one; echo two); echo \"$x\" | tail -n 1", "two\n", 0)?;
    expect_of_shell("(sleep 0.1; exit 3) & wait $!; echo $?", "3\n", 0)?;
    expect_of_shell("for i in 3 1 2; do echo $i & done | sort; exit 4", "1\n2\n3\n", 4)?;
    expect_of_shell("kill -TERM $$", "", 128 + 15)
}

/// A Go program: its runtime starts threads, collects garbage in several at once, and preempts them by signals.
fn a_threaded_program_that_nobody_here_wrote_runs() -> Result<(), Failed> {
    for cpus in ["1", "4"] {
        let sum = "[range(100000)|.*2|tostring]|map(length)|add";
        let mut command = vmstack(&["run", "--cpus", cpus, "--program", "/usr/bin/gojq", "-n", sum]);
        let output = command.env("VMSTACK_TIME_LIMIT", "120").output()?;
        expect(output.status.code() == Some(0) && output.stdout == b"544445\n", &output)?;
    }
    Ok(())
}

/// Few samples: what is tested is that each row is there, not how steady it is.
fn the_life_of_a_task_is_measured_with_every_kind_of_stack() -> Result<(), Failed> {
    let output = run(&["bench", "life", "--samples", "64", "--json", "-"])?;
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).map_err(|_| words_of(&output))?;
    let missing: Vec<_> = findings.iter().filter(|finding| finding["figure"].is_null()).collect();
    if findings.is_empty() || !missing.is_empty() { Err(format!("{missing:?}").into()) } else { Ok(()) }
}

/// What is tested is that each figure is there; whether it is small enough is the suites' to say.
fn what_a_stack_and_a_killed_task_cost_is_counted() -> Result<(), Failed> {
    let output = run(&["bench", "stack", "fault", "--json", "-"])?;
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).map_err(|_| words_of(&output))?;
    let missing: Vec<_> = findings.iter().filter(|finding| finding["figure"].is_null()).collect();
    if findings.is_empty() || !missing.is_empty() { Err(format!("{missing:?}").into()) } else { Ok(()) }
}

/// A small build: what is tested is that each figure is there, and that half of the processes ended on another CPU than they were forked on.
fn a_builds_processes_end_elsewhere_and_their_stacks_are_counted() -> Result<(), Failed> {
    let output = run(&["bench", "hit", "--samples", "5", "--json", "-"])?;
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).map_err(|_| words_of(&output))?;
    let rates: Vec<_> = findings.iter().filter(|finding| finding["unit"] == "% of stacks").collect();
    let balanced = |finding: &&Value| finding["name"].as_str().is_some_and(|name| name.starts_with("cache.balance"));
    let balances: Vec<_> = findings.iter().filter(balanced).collect();
    let as_it_should =
        rates.len() == 8 && balances.len() == 2 && balances.iter().all(|found| found["outcome"] == "pass");
    let half = rates.iter().all(|found| {
        let detail = found["detail"].as_str().unwrap_or_default();
        let words: Vec<_> = detail.split(' ').collect();
        let counts = words.windows(5).find(|words| words[3] == "processes" && words[4] == "ended");
        let number = |word: &str| word.replace(',', "").parse::<u32>().unwrap_or_default();
        counts.is_some_and(|words| number(words[2]) > 900 && number(words[0]).abs_diff(number(words[2]) / 2) < 80)
    });
    if as_it_should && half { Ok(()) } else { Err(format!("{findings:?}").into()) }
}

/// A script that prints the same on Linux, where the same busybox runs it.
const EVERYDAY: &str = r#"
echo hello | cat; echo a b c | wc -w; for i in 1 2 3; do echo n$i; done | tail -n 1
X=$(echo sub | tr a-z A-Z); echo "$X"; echo gone > /dev/null; cat <<END
here $X, and $(seq 3 | sort -rn | head -n 1)
END
seq 1 1000 | awk '{s += $1} END {print s}'; yes 2> /dev/null | head -n 20000 | wc -c
i=0; while [ $i -lt 300 ]; do i=$((i + 1)); echo line $((i % 7)); done | sort | uniq -c | sed 's/ *//'
echo $(seq 1 30000 | wc -c); dd if=/dev/zero bs=1k count=100 2> /dev/null | wc -c; dd if=/dev/urandom bs=4096 count=3 2> /dev/null | wc -c
(echo one; echo two >&2) 2>&1 | cat -n; seq 3 | while read x; do echo got $x; done; seq 5 | tee /dev/null | xargs echo
exec 3< /proc/self/exe; head -c 4 <&3 | od -c | head -n 1; exec 3<&-; head -c 5 /dev/zero | od -x; echo via | cat /dev/stdin
cd /proc/self; cd ..; pwd; cd /; pwd; test -d /bin && echo folder; test -e /nowhere || echo nowhere; cat /nowhere/x 2> /dev/null; echo $?
(cat < /dev/null; exit 7); echo $?; echo full > /dev/full 2> /dev/null || echo no room; echo $$ > /dev/null
find /proc/sys/kernel -name pid_max; grep -c ^MemTotal: /proc/meminfo; ulimit -n 64; ulimit -n; expr 6 \* 7; seq 100 | grep -c 7
"#;

fn the_busybox_of_this_machine() -> Result<PathBuf, Failed> {
    let [busybox, ..] = &borrowed::ALL;
    let own = PathBuf::from(busybox.path);
    let checkout = Checkout::find().map_err(|failure| failure.to_string())?;
    Ok(if own.exists() { own } else { busybox.cached(&checkout) })
}

fn a_shell_prints_what_it_prints_on_linux() -> Result<(), Failed> {
    let there = Command::new(the_busybox_of_this_machine()?).args(["sh", "-c", EVERYDAY]).output()?;
    let here = run(&["run", "--cpus", "2", "--program", "/bin/busybox", "sh", "-c", EVERYDAY])?;
    let first =
        |output: &Output| String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>();
    let differs = first(&here).into_iter().zip(first(&there)).find(|(here, there)| here != there);
    if let Some((here, there)) = differs {
        return Err(format!("{here:?} here, {there:?} on Linux").into());
    }
    expect(here.stdout == there.stdout && here.status.code() == there.status.code(), &here)
}

fn the_root_is_read_only_and_proc_says_what_there_is() -> Result<(), Failed> {
    let script = "exec 2> /dev/null; ls /; cat /proc/meminfo; ls -l /proc/self/exe /dev/null; ps; ls /proc/self/task | wc -l; df; free; uptime; \
                  touch /x; echo $?; echo x > /bin/busybox; echo $?; mkdir /bin/y; echo $?; cat /sys/devices/system/cpu/online";
    let output = run(&["run", "--cpus", "2", "--program", "/bin/busybox", "sh", "-c", script])?;
    let text = String::from_utf8_lossy(&output.stdout);
    let stacks = text.lines().find_map(|line| line.strip_prefix("KernelStack:")?.trim().strip_suffix(" kB"));
    let stacks: u64 = stacks.and_then(|stacks| stacks.trim().parse().ok()).ok_or("no KernelStack")?;
    // The shell, its child and a few tasks of the kernel, 16 KiB each.
    expect((32..1024).contains(&stacks) && stacks.is_multiple_of(16), &output)?;
    let wanted = [
        "bin\nboot\ndev\ndisk\nproc\nsys\n",
        "/proc/self/exe -> /bin/busybox",
        "/dev/null",
        "{ps}",
        "\n1\n1\n1\n0-1\n",
    ];
    let missing: Vec<_> = wanted.into_iter().filter(|wanted| !text.contains(wanted)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} not in\n{text}").into()) }
}

fn memory_above_4_gib_is_used() -> Result<(), Failed> {
    let output = run(&["run", "--memory", "4608", "--program", "/bin/busybox", "true"])?;
    expect(output.status.code() == Some(0), &output)
}

fn an_overflow_kills_the_program_and_the_report_is_shown() -> Result<(), Failed> {
    let output = run(&["run", "--program", &program("crash"), "EXHAUST_STACK"])?;
    let report = String::from_utf8_lossy(&output.stderr);
    let reports = report.lines().filter(|line| line.starts_with("BUG: TASK stack guard page was hit at")).count();
    let resolved = report.contains("recursive_loop+0x") && report.contains("frames, ");
    expect(output.status.code() == Some(128 + 11) && reports == 1 && resolved, &output)
}

fn a_program_reads_the_last_reports() -> Result<(), Failed> {
    let output = run(&["run", "--program", &program("crash"), "--report", "EXHAUST_STACK"])?;
    let reports = String::from_utf8_lossy(&output.stdout);
    let parts =
        ["BUG: TASK stack guard page was hit at ", "state: in a task, ", "Code: ", "Call trace, ", "fate: killed"];
    let all = parts.iter().all(|part| reports.lines().filter(|line| line.starts_with(part)).count() == 1);
    expect(output.status.code() == Some(0) && all, &output)
}

fn the_control_does_not_survive_an_overflow() -> Result<(), Failed> {
    // What an unguarded overflow does is anybody's guess: the machine may panic, reset or hang. It does not go on.
    let mut command = vmstack(&["run", "--stacks", "direct", "--program", &program("crash"), "EXHAUST_STACK"]);
    let output = command.env("VMSTACK_TIME_LIMIT", "10").output()?;
    expect(output.status.code() == Some(1), &output)
}

/// The emulator that runs a guest for process `parent`: not one that is only asked for its version.
fn emulator_of(parent: u32) -> Option<i32> {
    let list = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.windows(8).any(|part| part == b"\0-kernel"))
    })
}

fn an_emulator_that_is_killed_is_a_failure_and_said() -> Result<(), Failed> {
    let mut command = vmstack(&["run", "--program", "/bin/busybox", "sleep", "60"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let start = Instant::now();
    let emulator = loop {
        match emulator_of(child.id()) {
            Some(pid) => break pid,
            None if start.elapsed() > Duration::from_secs(60) => return Err("the emulator did not start".into()),
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    thread::sleep(Duration::from_millis(300));
    Command::new("kill").args(["-9", &emulator.to_string()]).status()?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).contains("signal 9");
    expect(output.status.code() == Some(1) && said, &output)
}

fn a_program_that_spins_does_not_stop_others() -> Result<(), Failed> {
    let output = run(&["run", "--cpus", "1", "--program", &program("preempt")])?;
    let said = output.stdout == b"ran 5 times beside a child that never stops\n";
    expect(output.status.code() == Some(0) && said, &output)
}

fn no_wake_is_lost_between_many_children_and_their_parent() -> Result<(), Failed> {
    for cpus in ["1", "4"] {
        let mut command = vmstack(&["run", "--cpus", cpus, "--program", &program("storm"), "exit", "3000"]);
        let output = command.env("VMSTACK_TIME_LIMIT", "120").output()?;
        expect(output.stdout == b"3000 children, 0 killed\n", &output)?;
    }
    Ok(())
}

fn overflow_after_overflow_is_survived() -> Result<(), Failed> {
    let output = run(&["run", "--cpus", "4", "--program", &program("storm"), "EXHAUST_STACK", "300"])?;
    expect(output.stdout == b"300 children, 300 killed\n", &output)
}

fn a_program_starts_with_fresh_registers() -> Result<(), Failed> {
    let output = run(&["run", "--program", &program("fresh")])?;
    expect(output.status.code() == Some(0) && output.stdout == b"control word 0x1f80\n", &output)
}

/// Each case of `programs/threads`, on few CPUs and on many; natively it says the same (`cargo run --bin threads` there).
fn threads_and_processes_live_as_on_linux() -> Result<(), Failed> {
    for cpus in ["1", "2", "8"] {
        let mut command = vmstack(&["run", "--cpus", cpus, "--program", &program("threads")]);
        let output = command.env("VMSTACK_TIME_LIMIT", "120").output()?;
        expect(output.status.code() == Some(0), &output)?;
    }
    // One byte less than there is room for is kept of a name.
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("threads-by-a-long-name");
    std::fs::copy(program("threads"), &path)?;
    let output = run(&["run", "--program", &path.to_string_lossy(), "names", "exec-from-thread"])?;
    expect(output.status.code() == Some(0), &output)
}

/// Threads and processes that are made and end, again and again, on eight CPUs; and all is given back, says the command's status.
fn a_storm_of_threads_leaves_nothing_behind() -> Result<(), Failed> {
    let cases = ["raw-storm", "live-threads", "vfork-from-thread", "exit-group", "exec-from-thread", "exec-from-first"];
    let words = ["run", "--cpus", "8", "--program", &program("threads"), "--times", "20"];
    let mut command = vmstack(&words.into_iter().chain(cases).collect::<Vec<_>>());
    let output = command.env("VMSTACK_TIME_LIMIT", "300").output()?;
    expect(output.status.code() == Some(0), &output)
}

/// The crashes that are provoked here, on two CPUs: each but the storm, which takes minutes. That, and other numbers of CPUs, are for
/// `.ci/run`.
fn crash_names() -> impl Iterator<Item = &'static str> {
    crash::names().filter(|name| *name != "OVERFLOW_STORM")
}

/// Provokes them all, with one command.
fn provoke() -> Told {
    let words = ["crash", "--on", "x86_64", "--cpus", "2", "--json", "-"];
    let provoked = run(&words.into_iter().chain(crash_names()).collect::<Vec<_>>());
    let findings = provoked.map_err(|failed| format!("{failed:?}")).and_then(|output| {
        serde_json::from_slice(&output.stdout).map_err(|error| format!("{}, no JSON: {error}", words_of(&output)))
    });
    Arc::new(findings)
}

fn crash_trials() -> Vec<Trial> {
    let provoked = provoke();
    let trial = |name: &'static str| {
        let provoked = Arc::clone(&provoked);
        // No compiler that builds the kernel puts canaries into frames.
        let skipped = name.starts_with("CORRUPT_STACK");
        Trial::test(format!("crash::{name}"), move || expect_pass(&provoked, name)).with_ignored_flag(skipped)
    };
    crash_names().map(trial).collect()
}

/// Read from the image that the other tests boot.
fn no_frame_of_the_kernel_jumps_over_a_guard() -> Result<(), Failed> {
    let checkout = Checkout::find().map_err(|failure| failure.to_string())?;
    let kernel = Guest::built_kernel(&checkout).ok_or("no kernel was built")?;
    let image = Image::read(&kernel).map_err(|failure| failure.to_string())?;
    for check in image.checks() {
        if check.outcome != Verdict::Pass || check.figure.as_ref().is_none_or(|figure| figure.as_u64() == Some(0)) {
            return Err(format!("{check:?}").into());
        }
    }
    Ok(())
}

/// A few times in CI; `VMSTACK_TEST_STORIES=50 cargo test --test emulator` for a person.
fn the_story_holds_again_and_again() -> Result<(), Failed> {
    let times = std::env::var("VMSTACK_TEST_STORIES").ok().and_then(|times| times.parse().ok()).unwrap_or(3);
    for _ in 0..times {
        let output = run(&["run", "--on", "x86_64", "--json", "-"])?;
        expect(output.status.code() == Some(0), &output)?;
    }
    Ok(())
}

/// A trial of each function, by its name.
macro_rules! trials {
    ($($($test:ident)::+,)*) => { vec![$(Trial::test(stringify!($($test)::+).replace(" ", ""), $($test)::+)),*] };
}

fn program_trials() -> Vec<Trial> {
    trials![
        a_programs_output_and_status_are_the_commands,
        a_program_reads_what_the_command_is_given,
        a_shell_forks_executes_and_waits,
        a_shell_has_pipes_substitutions_and_jobs,
        a_threaded_program_that_nobody_here_wrote_runs,
        the_life_of_a_task_is_measured_with_every_kind_of_stack,
        what_a_stack_and_a_killed_task_cost_is_counted,
        a_builds_processes_end_elsewhere_and_their_stacks_are_counted,
        a_shell_prints_what_it_prints_on_linux,
        the_root_is_read_only_and_proc_says_what_there_is,
        an_overflow_kills_the_program_and_the_report_is_shown,
        a_program_reads_the_last_reports,
        the_control_does_not_survive_an_overflow,
        an_emulator_that_is_killed_is_a_failure_and_said,
        a_program_that_spins_does_not_stop_others,
        no_wake_is_lost_between_many_children_and_their_parent,
        overflow_after_overflow_is_survived,
        memory_above_4_gib_is_used,
        a_program_starts_with_fresh_registers,
        threads_and_processes_live_as_on_linux,
        a_storm_of_threads_leaves_nothing_behind,
        alike::signals_are_as_on_linux,
        alike::futexes_are_as_on_linux,
        alike::descriptors_are_as_on_linux,
        alike::the_console_has_news_more_than_once,
        alike::threads_see_their_memory_change,
        alike::no_signal_of_many_is_lost,
        storage::layers_are_read_and_what_makes_no_sense_is_refused,
        hostile::bad_pointers_are_bad_addresses,
        hostile::no_call_with_whatever_words_harms_the_kernel,
        hostile::every_allocation_fails_once_and_nothing_is_lost,
        hostile::what_is_kept_ready_is_given_back_before_anybody_is_refused,
        hostile::calls_are_killed_at_every_point_and_nothing_is_lost,
        dying::whoever_is_killed_anywhere_loses_nothing_and_wedges_nobody,
        hostile::no_number_in_use_is_handed_out_again,
        hostile::what_is_no_program_is_refused_as_on_linux,
        hostile::calls_that_are_not_there_are_listed,
        no_frame_of_the_kernel_jumps_over_a_guard,
        the_story_holds_again_and_again,
    ]
}

/// Why nothing can be booted here, if so. Installs what is missing, where that is allowed.
fn obstacle() -> Option<String> {
    let probe = run(&["run", "--program", "/bin/busybox", "true"]);
    match probe {
        Ok(output) if output.status.code() == Some(2) => Some(words_of(&output)),
        Ok(_) => None,
        Err(failed) => Some(format!("{failed:?}")),
    }
}

/// The same tests, listed as ignored; or failing, where an emulator is required.
fn without_emulator(trials: Vec<String>, why: &str) -> Vec<Trial> {
    let required = std::env::var_os("VMSTACK_REQUIRE_EMULATOR").is_some_and(|value| value == "1");
    println!("emulator tests need an emulator: {why}");
    let absent = |name: String| {
        let why = why.to_owned();
        Trial::test(name, move || Err(Failed::from(why))).with_ignored_flag(!required)
    };
    trials.into_iter().map(absent).collect()
}

fn names() -> Vec<String> {
    let story = MACHINES.into_iter().flat_map(|cpus| NAMES.map(|name| format!("on_{cpus}_cpus::{name}")));
    let crashes = crash_names().map(|name| format!("crash::{name}"));
    story.chain(program_trials().iter().map(|trial| trial.name().to_owned())).chain(crashes).collect()
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = match (arguments.list, obstacle()) {
        (_, Some(why)) => without_emulator(names(), &why),
        (true, None) => names().into_iter().map(|name| Trial::test(name, || Ok(()))).collect(),
        (false, None) => story_trials().into_iter().chain(program_trials()).chain(crash_trials()).collect(),
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}
