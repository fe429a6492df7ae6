//! DMA from a stack does not compile: the kernel is checked with the lines that must not (`kernel/src/dma/from_stack.rs`), and those lines, and no others, are
//! errors.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const OFFENDING: &str = "src/dma/from_stack.rs";

/// A line, and the error that it is.
type Errors = BTreeSet<(usize, String)>;

fn kernel() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What the lines are marked with.
fn marked() -> Errors {
    let source = std::fs::read_to_string(kernel().join(OFFENDING)).expect("the source is there");
    let mark = |(number, line): (usize, &str)| Some((number + 1, line.split_once("//~ ")?.1.trim().to_owned()));
    source.lines().enumerate().filter_map(mark).collect()
}

/// What the compiler says of the kernel, with `flags`: errors of that file, and how many there are of others.
fn found(flags: &[&str]) -> (Errors, Vec<String>) {
    // For a target with an operating system, as its lints are checked: that needs no core for a bare machine.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernel");
    let mut check = Command::new(env!("CARGO"));
    check
        .current_dir(kernel())
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("CARGO_TARGET_DIR", target);
    check.args([
        "rustc",
        "--quiet",
        "--profile",
        "check",
        "--target",
        "x86_64-unknown-linux-gnu",
        "--message-format",
        "short",
    ]);
    let output = check.arg("--").args(flags).output().expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors = said.lines().filter(|line| line.contains(": error["));
    let (here, elsewhere): (Vec<_>, Vec<_>) = errors.partition(|line| line.starts_with(OFFENDING));
    let error = |line: &str| {
        let number = line.split(':').nth(1)?.parse().ok()?;
        let code = line.split_once("error[")?.1.split_once(']')?.0;
        Some((number, code.to_owned()))
    };
    assert!(flags.is_empty() == output.status.success(), "{said}");
    (here.into_iter().filter_map(error).collect(), elsewhere.into_iter().map(str::to_owned).collect())
}

#[test]
fn dma_from_a_stack_does_not_compile() {
    let nothing = (Errors::new(), Vec::new());
    assert_eq!(found(&[]), nothing, "the kernel itself compiles");
    let (errors, elsewhere) = found(&["--cfg", "dma_from_stack"]);
    assert_eq!((errors, elsewhere), (marked(), Vec::new()));
    assert!(marked().len() >= 5, "there are lines that are marked");
}
