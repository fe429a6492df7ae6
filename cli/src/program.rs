//! `vmstack run --program FILE ARG...`: one program in the guest instead of the story.
//!
//! The guest's first serial port is the command's standard input and output, byte for byte. How the program ended is
//! the last word of the second port, `exit STATUS` or `signal NUMBER`, and becomes the command's exit status as a shell
//! would say it. The emulator's own status never does: a machine that died on the way is exit status 1, and said so.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::args::Stacks;
use crate::calls;
use crate::checks::{Check, Verdict};
use crate::elf;
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::story;
use crate::words::Words;

/// A program that is fit to run in the guest.
#[derive(Clone, Debug)]
pub struct Program {
    /// Where the guest finds it, and its `argv[0]`.
    pub path: PathBuf,
    /// Its further arguments.
    pub arguments: Vec<OsString>,
    /// The file.
    pub bytes: Vec<u8>,
    /// What else is in the guest: absolute paths, and the files.
    pub beside: Vec<(PathBuf, Vec<u8>)>,
}

/// How a program ended, as the guest reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Status(u8),
    /// A signal killed it.
    Signal(u8),
}

impl Exit {
    /// The exit status that a shell gives it.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Status(status) => status,
            Self::Signal(signal) => signal.saturating_add(128),
        }
    }

    /// The last report of an end in the side channel.
    #[must_use]
    pub fn reported(side_channel: &str) -> Option<Self> {
        side_channel.lines().rev().find_map(|line| match line.trim_end().split_once(' ') {
            Some(("exit", status)) => status.parse().ok().map(Self::Status),
            Some(("signal", signal)) => signal.parse().ok().map(Self::Signal),
            _ => None,
        })
    }
}

/// What was not given back after the program, if anything: the kernel counts everything before it starts and after its end.
#[must_use]
pub fn missing(side_channel: &str) -> Option<String> {
    let facts = side_channel.lines().filter_map(|line| line.trim_end().strip_prefix("fact balance."));
    let mut facts = facts.filter_map(|fact| {
        let (name, words) = fact.split_once(' ')?;
        let numbers: Option<Vec<i64>> = words.split(' ').map(|word| word.parse().ok()).collect();
        Some((name, words, numbers.unwrap_or_default()))
    });
    facts.find_map(|(name, words, numbers)| {
        let good = match (name, numbers.as_slice()) {
            ("frames" | "owners" | "tasks", [before, after]) => before == after,
            // What frames of killed tasks owned is counted as lost, and may be more than was.
            ("heap", [before, after, lost]) => (0..=*lost).contains(&(after - before)),
            ("slots", [stacks]) => *stacks == 0,
            ("processes", [threads, processes]) => (*threads, *processes) == (0, 0),
            ("frames" | "owners" | "tasks" | "heap" | "slots" | "processes", _) => false,
            _ => true,
        };
        (!good).then(|| format!("not everything was given back after the program: {name} {words}"))
    })
}

/// Why the kernel could not start the program, if so.
#[must_use]
pub fn refusal(side_channel: &str) -> Option<&str> {
    side_channel.lines().find_map(|line| line.strip_prefix("the program cannot be started: "))
}

/// What the kernel said to people while the program ran, without how the program ended and what every boot says.
pub fn kernel_words(side_channel: &str) -> impl Iterator<Item = &str> {
    const NOT_SHOWN: [&str; 6] = ["vmstack:", "fact ", "marker ", "exit ", "signal ", "system call "];
    side_channel.lines().filter(|line| !NOT_SHOWN.iter().any(|start| line.starts_with(start)))
}

/// The system calls that the kernel does not have, by number, and how often each was made.
pub fn missing_calls(side_channel: &str) -> impl Iterator<Item = (u32, u32)> {
    side_channel.lines().filter_map(|line| {
        let (number, rest) = line.strip_prefix("system call ")?.split_once(" is not there: asked for ")?;
        let times = rest.split_once(" times")?.0;
        Some((number.parse().ok()?, times.parse().ok()?))
    })
}

/// Lists the system calls that the kernel does not have, for `--missing-calls`.
#[must_use]
pub fn missing_calls_listed(side_channel: &str) -> Vec<String> {
    let lines: Vec<_> = missing_calls(side_channel)
        .map(|(number, times)| format!("vmstack: no system call {}: {times} times ENOSYS", calls::described(number)))
        .collect();
    if lines.is_empty() { vec!["vmstack: no system call was missing".to_owned()] } else { lines }
}

impl Program {
    /// Takes `words`, a file and its arguments; `file` is where the file's bytes are, if not there.
    ///
    /// # Errors
    ///
    /// When the file is not fit to run in the guest.
    pub fn of(words: &[OsString], file: Option<&Path>) -> Result<Self, Failure> {
        let (name, arguments) = words.split_first().unwrap_or((const { &OsString::new() }, &[]));
        let path = absolute(Path::new(name))?;
        let bytes = elf::read(file.unwrap_or(&path))?;
        Ok(Self { path, arguments: arguments.to_vec(), bytes, beside: Vec::new() })
    }

    /// Adds `files`, and the files of those that are folders.
    ///
    /// # Errors
    ///
    /// When one cannot be read.
    pub fn add_files(&mut self, files: &[PathBuf]) -> Result<(), Failure> {
        let unread =
            |path: &Path, error| Failure::cannot(format!("{} cannot be read: {error}; name a file", path.display()));
        for path in files {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            let inside: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
            for file in if path.is_dir() { &inside } else { core::slice::from_ref(path) } {
                let bytes = std::fs::read(file).map_err(|error| unread(file, error))?;
                self.beside.push((absolute(file)?, bytes));
            }
        }
        Ok(())
    }

    /// The kernel's command line for it.
    #[must_use]
    pub fn words(&self, stacks: Stacks) -> Words {
        let arguments = core::iter::once(self.path.as_os_str()).chain(self.arguments.iter().map(OsString::as_os_str));
        let words = Words::mode("program").with("stacks", story::word(stacks));
        let words = arguments.fold(words, |words, argument| words.with_hex("argv", argument));
        environment().iter().fold(words, |words, variable| words.with_hex("env", variable))
    }

    /// Where the archive holds it.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.path.as_os_str().as_bytes()
    }
}

/// The guest's environment: what a program needs to find others and to draw on the terminal it is shown on.
fn environment() -> Vec<OsString> {
    let mut variables: Vec<OsString> = vec!["PATH=/bin:/usr/bin".into(), "HOME=/".into()];
    if let Some(terminal) = std::env::var_os("TERM") {
        let mut variable = OsString::from("TERM=");
        variable.push(terminal);
        variables.push(variable);
    }
    variables
}

/// The absolute path of `path`, without `.` and `..`; links stay as they are named, for busybox goes by its name.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let whole = std::path::absolute(path).map_err(|error| {
        Failure::cannot(format!("the program `{}` has no absolute path: {error}; name a file", path.display()))
    })?;
    let mut plain = PathBuf::new();
    for component in whole.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    Ok(plain)
}

/// Passes the guest's output on at once.
///
/// # Errors
///
/// When nobody reads it any more, so that the guest can be stopped.
pub fn pass_output(bytes: &[u8]) -> Result<(), Failure> {
    // A lock's own buffer would hold back a prompt without a line end, so it is flushed each time.
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| {
        Failure::cannot(format!("standard output cannot be written: {error}; the program was stopped"))
    })
}

/// What the end of the boot means: the command's exit status, and the finding that `--json` gets.
///
/// # Errors
///
/// What the emulator died of, when the program's end was not reported or the machine did not end in order after it; and what is
/// `missing` then.
pub fn judge(outcome: Outcome, exit: Option<Exit>, missing: Option<String>) -> Result<Exit, String> {
    match (outcome, exit) {
        (Outcome::Orderly, Some(exit)) => missing.map_or(Ok(exit), Err),
        (outcome, Some(_)) => Err(format!("the program had ended, but then {outcome}")),
        (outcome, None) => Err(format!("{outcome}, and the program's end was never reported")),
    }
}

/// The finding of a program's run.
#[must_use]
pub fn check(judged: &Result<Exit, String>, path: &OsStr) -> Check {
    const NAME: &str = "program.ended";
    let path = path.display();
    match judged {
        Ok(Exit::Status(status)) => {
            Check::new(NAME, Verdict::Pass, format!("{path} ended by itself")).with_figure(*status, "exit status")
        }
        Ok(Exit::Signal(signal)) => {
            Check::new(NAME, Verdict::Pass, format!("a signal killed {path}")).with_figure(*signal, "signal")
        }
        Err(why) => Check::fail(NAME, why.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Exit, Program, absolute, judge, kernel_words, missing, missing_calls, missing_calls_listed};
    use crate::args::Stacks;
    use crate::outcome::Outcome;
    use std::path::{Path, PathBuf};

    #[test]
    fn the_last_report_of_an_end_counts() {
        assert_eq!(Exit::reported("boot\nexit 3\n"), Some(Exit::Status(3)));
        assert_eq!(Exit::reported("exit 1\nsignal 11\r\n").map(Exit::code), Some(139));
        assert_eq!(Exit::reported("exit 300\nexit\nexited 0\n"), None);
    }

    #[test]
    fn the_kernels_words_are_its_reports() {
        let channel = "vmstack: 1 CPUs\nBUG: TASK stack\nOops\nsignal 11\nmarker end-of-program\n";
        assert_eq!(kernel_words(channel).collect::<Vec<_>>(), ["BUG: TASK stack", "Oops"]);
    }

    #[test]
    fn calls_that_are_not_there_are_listed_by_name_and_number() {
        let channel = "system call 115 is not there: asked for 2 times\nexit 0\nsystem call 511 is not there: asked for 1 times\n";
        assert_eq!(missing_calls(channel).collect::<Vec<_>>(), [(115, 2), (511, 1)]);
        let lines = missing_calls_listed(channel);
        assert_eq!(
            lines,
            ["vmstack: no system call getgroups (115): 2 times ENOSYS", "vmstack: no system call 511: 1 times ENOSYS"]
        );
        assert_eq!(missing_calls_listed("exit 0\n"), ["vmstack: no system call was missing"]);
    }

    #[test]
    fn only_a_reported_end_on_a_machine_that_ended_in_order_is_one() {
        assert_eq!(judge(Outcome::Orderly, Some(Exit::Status(0)), None), Ok(Exit::Status(0)));
        assert!(judge(Outcome::Reset, Some(Exit::Status(0)), None).is_err_and(|why| why.contains("reset")));
        assert!(judge(Outcome::Killed { signal: 9 }, None, None).is_err_and(|why| why.contains("never reported")));
    }

    #[test]
    fn what_is_not_given_back_after_a_program_fails_its_run() {
        let good = "fact balance.frames 9 9\nfact balance.owners 7 7\nfact balance.heap 5 9 4\n\
                    fact balance.tasks 3 3\nfact balance.slots 0\n\
                    fact balance.reports 0 1\nfact balance.processes 0 0\nexit 0\n";
        assert_eq!(missing(good), None);
        for (from, to) in
            [("9 9", "9 8"), ("7 7", "7 6"), ("5 9 4", "5 9 3"), ("3 3", "3 4"), ("slots 0", "slots 1"), ("0 0", "0 1")]
        {
            let bad = good.replace(from, to);
            let why = missing(&bad).expect(&bad);
            assert!(
                judge(Outcome::Orderly, Some(Exit::Status(0)), Some(why)).is_err_and(|why| why.contains(to)),
                "{bad}"
            );
        }
    }

    #[test]
    fn arguments_travel_as_hexadecimal_after_the_absolute_path() {
        let program =
            Program { path: "/a".into(), arguments: vec!["b c".into()], bytes: Vec::new(), beside: Vec::new() };
        let words = program.words(Stacks::Direct);
        let line = words.line().expect("short");
        assert!(line.starts_with("mode=program stacks=direct argv=2f61 argv=622063 env="), "{line}");
    }

    #[test]
    fn paths_are_made_absolute_and_plain() {
        assert_eq!(absolute(Path::new("/a/./b/../c")), Ok(PathBuf::from("/a/c")));
        assert!(absolute(Path::new("x")).is_ok_and(|path| path.is_absolute() && path.ends_with("x")));
        assert!(absolute(Path::new("")).is_err());
    }
}
