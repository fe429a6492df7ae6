//! A program that means ill: every system call with every bad pointer, calls at random, and files that are no programs.
//!
//! ```text
//! hostile numbers          each number, with each bad word in each place
//! hostile pointers         calls that would succeed, with each bad pointer where a pointer goes: the answer must be EFAULT
//! hostile random SEED N    N calls at random
//! hostile threads SEED N   the same, while other threads map, unmap and protect the memory that the calls are about
//! hostile execute FOLDER   executes each file of a folder that is called damaged-, and what else is no program
//! ```
//!
//! The calls are made by children, for many a child does not survive them; who makes no progress is killed. What is printed:
//!
//! ```text
//! fact hostile.calls N               that were made
//! fact hostile.answers ERRNO N       how often each error was the answer; 0: success
//! fact hostile.children HOW N        how children ended: `done`, `gone` (by a call that ends its caller), `stuck`, or `signal-NUMBER`
//! fact hostile.odd CALL PLACE WORD ANSWER    an answer that is not EFAULT
//! fact hostile.executed NAME ERRNO   what execve said; or `ran`, or `killed`
//! ```
//!
//! On a Linux that is somebody's these calls do harm, so the program refuses to make them there; `--anyway` as the first word says that it is
//! nobody's. `pointers` and `execute` harm nobody.

mod call;
mod children;
mod execute;
mod pointers;
mod random;
mod words;

use std::io;
use std::process::ExitCode;

use children::Tally;

const USAGE: &str = "hostile [--anyway] numbers | pointers | random SEED N | threads SEED N | execute FOLDER";

/// Whether this machine is the reference kernel's.
fn is_at_home() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|release| release.trim().ends_with("-vmstack"))
}

/// Runs what the words name. `None`: they name nothing.
fn carry_out(words: &[&str], allowed: bool) -> Option<io::Result<bool>> {
    let number = |word: &str| word.parse().ok();
    let refused = || Some(Err(io::Error::other("this is somebody's Linux; --anyway says that it is not")));
    Some(match words {
        ["pointers"] => pointers::try_all(),
        ["execute", folder] => execute::try_all(folder.as_ref()),
        ["numbers" | "random" | "threads", ..] if !allowed => return refused(),
        ["numbers"] => children::run(words::COMBINATIONS, words::combination, None).map(Tally::print),
        ["random", seed, count] => {
            let seed = seed.parse().ok()?;
            children::run(number(count)?, |index| random::call(seed, index), None).map(Tally::print)
        }
        ["threads", seed, count] => {
            let seed = seed.parse().ok()?;
            children::run(number(count)?, |index| random::call(seed, index), Some(random::disturb)).map(Tally::print)
        }
        _ => return None,
    })
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (anyway, words) = match words.as_slice() {
        ["--anyway", rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    match carry_out(words, anyway || is_at_home()) {
        Some(Ok(true)) => ExitCode::SUCCESS,
        Some(Ok(false)) => ExitCode::FAILURE,
        Some(Err(error)) => {
            eprintln!("hostile: {error}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
