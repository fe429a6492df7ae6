//! Why a command ended without a result: exit status 2, or a signal.
//!
//! A command that ran and found something short is no failure: it has a report, and exit status 1. A `Failure` is one
//! line that says what happened, to what, and what to do about it.

use core::fmt;
use std::process::ExitCode;

/// A command that could not be carried out.
///
/// Having a `Failure` means:
/// * nothing that the command started is still running;
/// * no file that it made for itself is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It could not be done; the line says what happened and what to do. Exit status 2.
    Cannot(String),
    /// The user or the system asked this process to end, by this signal.
    Interrupted(i32),
}

impl Failure {
    /// The failure that `line` describes.
    #[must_use]
    pub fn cannot(line: impl Into<String>) -> Self {
        Self::Cannot(line.into())
    }

    /// Says so on standard error and returns the exit status; ends by the same signal when there was one.
    #[must_use]
    pub fn announce(self) -> ExitCode {
        match self {
            Self::Cannot(line) => {
                eprintln!("vmstack: {line}");
                ExitCode::from(2)
            }
            Self::Interrupted(signal) => {
                // The parent shell should see a death by signal, so that a script stops too. Where that fails, 128 + n.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
                ExitCode::from(u8::try_from(128 + signal).unwrap_or(2))
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cannot(line) => f.write_str(line),
            Self::Interrupted(signal) => write!(f, "ended by signal {signal}"),
        }
    }
}

impl core::error::Error for Failure {}
