//! Where `--json` goes.
//!
//! Whether it can be written is found out before the long work, and without leaving anything behind: a file that is
//! there is opened and not changed, one that is not there is made and removed again. What is not a regular file (a pipe, a
//! device) is opened once and kept.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::failure::Failure;

/// A place that was found to be writable.
#[derive(Debug)]
pub enum Sink {
    /// Nobody asked.
    Nowhere,
    /// Standard output, where then nothing else is printed.
    StandardOutput,
    /// A regular file, there already or not yet.
    File(PathBuf),
    /// Something else that was opened for writing.
    Stream(PathBuf, File),
}

impl Sink {
    /// Finds out whether `path` can be written; `-` is standard output.
    ///
    /// # Errors
    ///
    /// When it cannot.
    pub fn open(path: Option<&Path>) -> Result<Self, Failure> {
        match path {
            None => Ok(Self::Nowhere),
            Some(path) if path == Path::new("-") => Ok(Self::StandardOutput),
            Some(path) => Self::probe(path).map_err(|error| unwritable(path, &error)),
        }
    }

    fn probe(path: &Path) -> io::Result<Self> {
        match std::fs::metadata(path) {
            Ok(there) if there.is_file() => OpenOptions::new().append(true).open(path).map(|_| Self::File(path.into())),
            Ok(_) => OpenOptions::new().write(true).open(path).map(|stream| Self::Stream(path.into(), stream)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                File::create_new(path)?;
                std::fs::remove_file(path).map(|()| Self::File(path.into()))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether standard output belongs to the JSON.
    #[must_use]
    pub fn takes_standard_output(&self) -> bool {
        matches!(self, Self::StandardOutput)
    }

    /// Writes the findings, or what else was found, as one array.
    ///
    /// # Errors
    ///
    /// When the place cannot be written any more.
    pub fn write<T: Serialize>(self, findings: &[T]) -> Result<(), Failure> {
        let array = || serde_json::to_string_pretty(findings).map(|text| text + "\n").map_err(io::Error::from);
        let (path, result) = match self {
            Self::Nowhere => return Ok(()),
            Self::StandardOutput => {
                ("-".into(), array().and_then(|text| io::stdout().lock().write_all(text.as_bytes())))
            }
            Self::File(path) => {
                let result = array().and_then(|text| std::fs::write(&path, text));
                (path, result)
            }
            Self::Stream(path, mut stream) => (path, array().and_then(|text| stream.write_all(text.as_bytes()))),
        };
        result.map_err(|error| unwritable(&path, &error))
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::cannot(format!("--json {} cannot be written: {error}; name a file in a writable folder", path.display()))
}

#[cfg(test)]
mod tests {
    use super::Sink;
    use crate::checks::Check;
    use std::path::Path;

    #[test]
    fn probing_leaves_nothing_behind_and_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let (new, old) = (folder.path().join("new"), folder.path().join("old"));
        std::fs::write(&old, "before").expect("written");
        assert!(matches!(Sink::open(Some(&new)), Ok(Sink::File(_))) && !new.exists());
        assert!(matches!(Sink::open(Some(&old)), Ok(Sink::File(_))));
        assert_eq!(std::fs::read(&old).expect("readable"), b"before");
    }

    #[test]
    fn places_that_cannot_be_written_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        for path in [folder.path(), &folder.path().join("no/such"), Path::new("")] {
            let error = Sink::open(Some(path)).expect_err("unwritable").to_string();
            assert!(error.starts_with(&format!("--json {} cannot be written", path.display())), "{error}");
        }
    }

    #[test]
    fn a_longer_old_file_is_replaced_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out");
        std::fs::write(&path, "x".repeat(10_000)).expect("written");
        Sink::open(Some(&path)).expect("writable").write(&[Check::skip("a", "b")]).expect("written");
        let read: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).expect("there")).expect("JSON");
        assert_eq!(read[0]["name"], "a");
    }

    #[test]
    fn a_device_is_written_and_stays_a_device() {
        let sink = Sink::open(Some(Path::new("/dev/null"))).expect("writable");
        assert!(matches!(sink, Sink::Stream(..)) && sink.write::<Check>(&[]).is_ok());
    }
}
