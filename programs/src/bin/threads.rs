//! The lives of threads and processes, one case after the other: each prints its name, and what went wrong if anything did.
//!
//! `threads` runs all of them, `threads NAME...` those that are named, `threads --times N NAME...` each so often. Exit status 1: something
//! went wrong. Everything here holds on any Linux; the cases that need futexes or signals say so.

use std::process::ExitCode;

use vmstack_programs::cases::{CASES, Case};

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "--after-exec") {
        return vmstack_programs::cases::after_exec(&words);
    }
    let mut times = 1;
    if words.first().is_some_and(|word| word == "--times") && words.len() > 1 {
        times = words[1].parse().unwrap_or(1);
        words.drain(..2);
    }
    let named = |case: &&Case| words.is_empty() || words.iter().any(|word| word == case.name);
    let mut well = true;
    for case in CASES.iter().copied().flatten().filter(named) {
        let failed = (0..times).find_map(|_| (case.run)().err());
        match failed {
            None => println!("{} is as it should be", case.name),
            Some(why) => {
                well = false;
                println!("{}: {why}", case.name);
            }
        }
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
