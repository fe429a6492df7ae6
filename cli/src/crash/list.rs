//! `vmstack crash --list`: what there is, what each does, and what must come of it.

use super::catalogue::Crash;
use crate::screen::{Screen, Tone};

/// Columns of a name, and of an outcome.
const NAME: usize = 31;
const OUTCOME: usize = 18;

/// Shows `crashes`, two lines each.
pub(super) fn show(crashes: &[&Crash], screen: &mut Screen) {
    let head = format!("{:NAME$} {:OUTCOME$} {}", "name", "must come of it", "where");
    let head = screen.paint(Tone::Heading, &head);
    screen.line(&head);
    for crash in crashes {
        let place = if crash.hosted.is_ok() { "kernel, hosted" } else { "kernel" };
        screen.line(&format!("{:NAME$} {:OUTCOME$} {place}", crash.name, crash.outcomes()));
        let does = screen.paint(Tone::Faint, crash.does);
        screen.line(&format!("    {does}"));
    }
}
