//! The command line: names, flags and their bounds.
//!
//! These names are an interface that scripts call. Bad usage is one line on standard error and exit status 2, so
//! clap's several-line messages are folded into one here.

use core::num::NonZeroU32;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const ENVIRONMENT: &str = "\
Environment:
  VMSTACK_NO_INSTALL=1     never install or download anything
  VMSTACK_QEMU=FILE        the emulator to start instead of qemu-system-x86_64
  VMSTACK_MKE2FS=FILE      what makes the story's file system instead of mke2fs; nothing there: that part is skipped
  VMSTACK_GUEST=DIR        a guest that is already built: DIR/kernel and DIR/bin/*; nothing is compiled
  VMSTACK_LINUX=FILE       the kernel image that `bench --against linux` boots instead of Debian's
  VMSTACK_TIME_LIMIT=SECS  how long one boot may take (120; a program under --program: no limit;
                           crashes, figures: as long as those of the boot need on a slow machine)
  NO_COLOR=1               no colour

Exit status: 0 all as it should be, 1 something fell short, 2 the command could not be carried out.
With --program it is the program's own (128 + n when signal n killed it).";

/// Virtually mapped kernel stacks, shown at work.
#[derive(Debug, Parser)]
#[command(name = "vmstack", version, after_help = ENVIRONMENT)]
struct Line {
    #[command(subcommand)]
    command: Option<Command>,
}

/// What the user asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boots the kernel and runs the story, or one static Linux ELF program (the default)
    Run(Run),
    /// Provokes crashes and judges what came of them
    Crash(Crash),
    /// Measures what stacks cost
    Bench(Bench),
    /// Decodes an oops from a log, with functions, files and lines
    Decode(Decode),
    /// Says what is installed, what is missing, and what a run would do about it
    Doctor,
    /// One boot of the hosted port: what `crash --on hosted` starts in a process of its own
    #[command(hide = true, name = "hosted-boot")]
    HostedBoot(HostedBoot),
}

/// What to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// the reference kernel under QEMU
    #[value(name = "x86_64")]
    X86_64,
    /// not there yet
    #[value(name = "aarch64")]
    Aarch64,
    /// not there yet
    #[value(name = "riscv64")]
    Riscv64,
    /// a Linux process, no emulator
    Hosted,
}

/// How task stacks are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Stacks {
    /// mapped page by page, between guards
    #[default]
    Virtual,
    /// contiguous in the direct map, unguarded: the control
    Direct,
}

/// What to compare a benchmark with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rival {
    /// Debian's Linux in the same emulator, with the same counting
    Linux,
}

/// `vmstack run`.
#[derive(Clone, Debug, Args)]
#[command(after_help = ENVIRONMENT)]
pub struct Run {
    /// Where to run [default: x86_64]
    #[arg(long, value_name = "T")]
    pub on: Option<Target>,
    /// CPUs of the machine, 1 to 8
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=8))]
    pub cpus: u32,
    /// Memory of the machine, in MiB: at least 64, and 8 for each CPU
    #[arg(long, value_name = "MIB", default_value = "256")]
    pub memory: NonZeroMib,
    /// How task stacks are made
    #[arg(long, value_name = "KIND", default_value = "virtual")]
    pub stacks: Stacks,
    /// Writes the findings there as one JSON array; `-` is standard output, where then nothing else is printed
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Lists at the end, on standard error, the system calls that the program made and the kernel does not have
    #[arg(long, requires = "program")]
    pub missing_calls: bool,
    /// Puts this file, or each file of this folder, into the guest too, under the same path; can be given again
    #[arg(long, value_name = "PATH", requires = "program")]
    pub with: Vec<PathBuf>,
    /// Runs this static Linux program instead of the story; all words after FILE are its arguments
    #[arg(long, value_names = ["FILE", "ARG"], num_args = 1.., allow_hyphen_values = true)]
    pub program: Vec<OsString>,
}

/// `vmstack crash`.
#[derive(Clone, Debug, Args)]
#[command(after_help = ENVIRONMENT)]
pub struct Crash {
    /// Crashes to provoke, by the names that --list shows
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Provokes all of them
    #[arg(long)]
    pub all: bool,
    /// Lists them, with what each does and what must come of it
    #[arg(long)]
    pub list: bool,
    /// Where to run [default: x86_64]
    #[arg(long, value_name = "T")]
    pub on: Option<Target>,
    /// CPUs of the machine, 1 to 8 [default: 2; OVERFLOW_STORM: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    pub cpus: Option<u32>,
    /// Writes the findings there as one JSON array; `-` is standard output, where then nothing else is printed
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `vmstack hosted-boot`.
#[derive(Clone, Debug, Args)]
pub struct HostedBoot {
    /// The crashes to provoke
    #[arg(required = true)]
    pub names: Vec<String>,
}

/// `vmstack bench`.
#[derive(Clone, Debug, Args)]
#[command(after_help = ENVIRONMENT)]
pub struct Bench {
    /// Suites to run, by the names that --list shows [default: all]
    #[arg(value_name = "SUITE")]
    pub suites: Vec<String>,
    /// Lists them
    #[arg(long)]
    pub list: bool,
    /// Where to run [default: x86_64]
    #[arg(long, value_name = "T")]
    pub on: Option<Target>,
    /// Compares with another kernel
    #[arg(long)]
    pub against: Option<Rival>,
    /// Writes the findings there as one JSON array; `-` is standard output, where then nothing else is printed
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Samples of each figure [default: as many as give a steady 99th percentile]
    #[arg(long, value_name = "N")]
    pub samples: Option<NonZeroU32>,
    /// Writes plots into this folder, and a page of all of them, index.html, that opens without a network
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
}

/// `vmstack decode`.
#[derive(Clone, Debug, Args)]
pub struct Decode {
    /// The log [default: standard input]
    pub log: Option<PathBuf>,
    /// The kernel that printed it
    #[arg(long, value_name = "ELF")]
    pub kernel: Option<PathBuf>,
}

/// Mebibytes, not zero.
pub type NonZeroMib = NonZeroU32;

/// Why there is no command to carry out.
#[derive(Debug)]
pub enum Usage {
    /// Help or the version was asked for: the text to print.
    Shown(String),
    /// It was used wrongly: one line.
    Wrong(String),
}

/// Reads the words of a command line, the program's own name first.
///
/// # Errors
///
/// [`Usage::Shown`] for `--help` and `--version`, [`Usage::Wrong`] for bad usage.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, Usage> {
    let words: Vec<OsString> = words.into_iter().collect();
    // `vmstack` alone is `vmstack run`, with the defaults of `run`.
    let words = if words.len() <= 1 { vec!["vmstack".into(), "run".into()] } else { words };
    match Line::try_parse_from(words) {
        Ok(Line { command: Some(command) }) => Ok(command),
        Ok(Line { command: None }) => Err(Usage::Wrong("no command given; see `vmstack --help`".into())),
        Err(error) if !error.use_stderr() => Err(Usage::Shown(error.render().to_string())),
        Err(error) => Err(Usage::Wrong(fold(&error.render().to_string()))),
    }
}

/// Folds clap's message into one line: what is wrong, and where the right usage is shown.
fn fold(message: &str) -> String {
    let said: Vec<&str> = message
        .lines()
        .take_while(|line| !line.starts_with("Usage:"))
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let what = said.join(" ");
    let what = what.trim_start_matches("error: ").trim_end_matches("For more information, try '--help'.").trim_end();
    format!("{what}; `vmstack --help` shows the usage")
}

#[cfg(test)]
mod tests {
    use super::{Command, Run, Stacks, Target, Usage, parse};
    use std::ffi::OsString;
    use std::path::PathBuf;

    fn line(words: &str) -> Result<Command, Usage> {
        parse(core::iter::once("vmstack").chain(words.split_whitespace()).map(OsString::from))
    }

    fn run(words: &str) -> Run {
        match line(words) {
            Ok(Command::Run(run)) => run,
            other => panic!("{words}: {other:?}"),
        }
    }

    fn wrong(words: &str) -> String {
        match line(words) {
            Err(Usage::Wrong(line)) => line,
            other => panic!("{words}: {other:?}"),
        }
    }

    #[test]
    fn no_words_mean_run_with_its_defaults() {
        let run = run("");
        assert_eq!((run.cpus, run.memory.get(), run.stacks, run.on), (2, 256, Stacks::Virtual, None));
        assert!(run.program.is_empty() && run.json.is_none());
    }

    #[test]
    fn every_flag_of_run_is_read() {
        let run = run("run --on hosted --cpus 8 --memory 512 --stacks direct --json -");
        assert_eq!((run.cpus, run.memory.get(), run.stacks), (8, 512, Stacks::Direct));
        assert_eq!((run.on, run.json), (Some(Target::Hosted), Some("-".into())));
    }

    #[test]
    fn words_after_the_program_are_its_own_hyphens_included() {
        let run = run("run --cpus 1 --program /bin/ls -l --cpus 9 -- --json x");
        let expected: Vec<OsString> = ["/bin/ls", "-l", "--cpus", "9", "--", "--json", "x"].map(OsString::from).into();
        assert_eq!(run.program, expected);
        assert_eq!((run.cpus, run.json), (1, None));
    }

    #[test]
    fn missing_calls_and_files_are_of_a_program_only() {
        assert!(run("run --missing-calls --program /bin/ls").missing_calls);
        assert!(!run("run --program /bin/ls --missing-calls").missing_calls);
        assert!(wrong("run --missing-calls").contains("--program"));
        assert_eq!(run("run --with a --with b --program /bin/ls").with, [PathBuf::from("a"), PathBuf::from("b")]);
        assert!(wrong("run --with a").contains("--program"));
    }

    #[test]
    fn bad_usage_is_one_line_that_names_the_word() {
        for (words, named) in [
            ("run --on mips", "mips"),
            ("run --cpus 9", "9"),
            ("run --cpus 0", "0"),
            ("run --memory 0", "0"),
            ("run --memory lots", "lots"),
            ("run --stacks odd", "odd"),
            ("run --program", "--program"),
            ("fly", "fly"),
            ("run --fast", "--fast"),
            ("bench --against windows", "windows"),
        ] {
            let line = wrong(words);
            assert!(line.contains(named) && !line.contains('\n') && line.contains("--help"), "{words}: {line}");
        }
    }

    #[test]
    fn help_is_no_error() {
        assert!(matches!(line("--help"), Err(Usage::Shown(_))));
        assert!(matches!(line("run --help"), Err(Usage::Shown(text)) if text.contains("VMSTACK_QEMU")));
    }

    #[test]
    fn commands_of_the_contract_are_all_read() {
        for words in
            ["crash a b --cpus 2", "crash --all", "crash --list", "bench s --against linux", "decode", "doctor"]
        {
            assert!(line(words).is_ok(), "{words}");
        }
        assert!(line("decode log --kernel k").is_ok());
    }
}
