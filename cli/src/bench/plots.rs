//! `vmstack bench --plots DIR`: the findings as pictures.
//!
//! ```text
//!   findings ─► charts: what is drawn of which suite ─► draw: one SVG each ─┬─► DIR/NAME.svg
//!                                                                          └─► page: DIR/index.html, all of them in one file
//! ```
//!
//! Pictures are made of findings alone, so that they say what the JSON says. The page needs nothing beside it, no network either, and the
//! pictures take the colours of their text from it: dark on light, or light on dark.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::checks::Check;
use crate::failure::Failure;

mod charts;
mod draw;
mod page;

/// A folder that was found to be writable.
#[derive(Debug)]
pub(super) struct Plots(PathBuf);

impl Plots {
    /// Makes sure that there is a folder `path` that can be written to.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let probe = fs::create_dir_all(path).and_then(|()| tempfile::tempfile_in(path));
        probe.map_err(|error| unwritable(path, &error))?;
        Ok(Self(path.to_owned()))
    }

    /// Draws what there is to be drawn of `checks`. The page.
    pub(super) fn write(&self, checks: &[Check]) -> Result<PathBuf, Failure> {
        let mut pictures = Vec::new();
        for plot in charts::of(checks) {
            let picture =
                draw::svg(&plot).map_err(|why| Failure::cannot(format!("{} cannot be drawn: {why}", plot.name)))?;
            self.put(&format!("{}.svg", plot.name), &page::alone(&picture))?;
            pictures.push((plot, picture));
        }
        self.put("index.html", &page::of(&pictures, checks))
    }

    fn put(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.0.join(name);
        fs::write(&path, text).map_err(|error| unwritable(&path, &error))?;
        Ok(path)
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::cannot(format!("--plots: {} cannot be written: {error}; name a writable folder", path.display()))
}

#[cfg(test)]
mod tests;
