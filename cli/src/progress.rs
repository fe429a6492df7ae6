//! Progress of long work: a spinner on a terminal, nothing in a pipe.
//!
//! It is drawn on standard error, and gone when it is dropped.

use core::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Work that is under way. Dropping it takes its line off the terminal.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// Shows that `what` is under way.
    #[must_use]
    pub fn start(what: &str) -> Self {
        let bar = ProgressBar::new_spinner().with_prefix(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// Shows the last line of `bytes` beside it.
    pub fn note(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if let Some(line) = text.lines().rev().find(|line| !line.trim().is_empty()) {
            self.0.set_message(line.trim().to_owned());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
