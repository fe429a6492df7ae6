//! The story on the hosted port: the same stacks in a Linux process, real faults, no emulator.
//!
//! The first thing of every run, and all of it where no emulator can be had. The port prints nothing itself: it returns
//! what it has to show and what it found.

use crate::checks::Check;

/// What the hosted story has to show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// Lines for people, 80 columns wide.
    pub text: Vec<String>,
    /// Its findings.
    pub checks: Vec<Check>,
}

/// Runs the hosted story in this process.
#[must_use]
pub fn story() -> Told {
    Told { text: Vec::new(), checks: vec![Check::skip("hosted.story", "this build does not carry the hosted port")] }
}
