//! Programs that say of themselves whether all is as on Linux, where they were tried first: signals, futexes, descriptors, memory that threads
//! change.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use libtest_mimic::Failed;

use super::{expect, program, vmstack};

/// How many signals are exchanged: `VMSTACK_TEST_SIGNALS=1000000` is the long form.
const SIGNALS: &str = "20000";

/// Runs `name` on few CPUs and on many, and has `judge` look at each of its facts. What it leaves behind is in the command's status.
fn on_few_and_many(name: &str, judge: fn(&str) -> bool) -> Result<(), Failed> {
    for cpus in ["1", "2", "8"] {
        let program = program(name);
        let mut command = vmstack(&["run", "--cpus", cpus, "--program", &program]);
        let output = command.env("VMSTACK_TIME_LIMIT", "600").output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let start = format!("fact {name}.");
        let mut checks = text.lines().filter(|line| line.starts_with(&start)).peekable();
        let well = checks.peek().is_some() && checks.all(judge);
        expect(output.status.code() == Some(0) && well, &output)?;
    }
    Ok(())
}

pub(super) fn signals_are_as_on_linux() -> Result<(), Failed> {
    on_few_and_many("signals", |_| true)
}

pub(super) fn futexes_are_as_on_linux() -> Result<(), Failed> {
    on_few_and_many("futexes", |_| true)
}

pub(super) fn descriptors_are_as_on_linux() -> Result<(), Failed> {
    on_few_and_many("files", |_| true)
}

/// Each line is sent when the program waits for one: it is told of each, though it was told of those before.
pub(super) fn the_console_has_news_more_than_once() -> Result<(), Failed> {
    let mut command = vmstack(&["run", "--program", &program("files"), "console"]);
    command.env("VMSTACK_TIME_LIMIT", "60").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let (mut input, output) = input.zip(output).ok_or("no pipes")?;
    let mut read = Vec::new();
    for line in BufReader::new(output).lines() {
        match line?.strip_prefix("read ") {
            Some(text) => read.push(text.to_owned()),
            None if read.len() < 3 => writeln!(input, "line {}", read.len())?,
            // The end of the input is news, too.
            None => break,
        }
    }
    drop(input);
    let output = child.wait_with_output()?;
    expect(output.status.code() == Some(0) && read == ["line 0", "line 1", "line 2"], &output)
}

pub(super) fn threads_see_their_memory_change() -> Result<(), Failed> {
    // How often something was found that must not be.
    on_few_and_many("memory", |fact| fact.ends_with(" 0"))
}

pub(super) fn no_signal_of_many_is_lost() -> Result<(), Failed> {
    let count = std::env::var("VMSTACK_TEST_SIGNALS").unwrap_or_else(|_| SIGNALS.to_owned());
    let program = program("signals");
    for who in ["threads", "processes"] {
        let mut command = vmstack(&["run", "--cpus", "2", "--program", &program, "exchange", &count, who]);
        let output = command.env("VMSTACK_TIME_LIMIT", "1200").output()?;
        let all = String::from_utf8_lossy(&output.stdout).contains("fact signals.exchanged ");
        expect(output.status.code() == Some(0) && all, &output)?;
    }
    Ok(())
}
