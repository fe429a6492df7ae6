//! Consoles of boots that fell short: kept whole, so that a failure can be studied.
//!
//! They lie beside the findings if those go to a file, and else in the system's folder for temporary files.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::facts::REPORT;
use super::is_stream;
use crate::console::Transcript;

/// What the name of a kept console ends with.
const EXTENSION: &str = "console.txt";

/// Keeps the console of the boot in which `word` fell short, and says where it is, and how its last report began.
pub(super) fn keep(json: Option<&Path>, word: &str, console: &Transcript) -> Vec<String> {
    let path = path(json, word);
    let said = match write(&path, console) {
        Ok(()) => format!("the console of the boot of {word} is in {}", path.display()),
        Err(error) => format!("the console of the boot of {word} cannot be kept in {}: {error}", path.display()),
    };
    let last = console.lines().iter().rev().find(|line| line.text.starts_with(REPORT));
    let last = last.map(|line| format!("      its last report: {}", line.text));
    core::iter::once(said).chain(last).collect()
}

fn path(json: Option<&Path>, word: &str) -> PathBuf {
    let word = word.replace(':', "-");
    match json.filter(|path| !is_stream(path)) {
        Some(path) => path.with_extension(format!("{word}.{EXTENSION}")),
        None => std::env::temp_dir().join(format!("vmstack-{}-{word}.{EXTENSION}", std::process::id())),
    }
}

fn write(path: &Path, console: &Transcript) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    console.lines().iter().try_for_each(|line| writeln!(file, "{}", line.text))?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::keep;
    use crate::console::Transcript;

    #[test]
    fn a_console_is_kept_whole_beside_the_findings_and_its_last_report_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = "one\nBUG: first\nBUG: last\nend\n";
        let said = keep(Some(&folder.path().join("all.json")), "A:word", &Transcript::of(log));
        let path = folder.path().join("all.A-word.console.txt");
        assert_eq!(std::fs::read_to_string(&path).expect("it is there"), log);
        assert_eq!(said[0], format!("the console of the boot of A:word is in {}", path.display()));
        assert_eq!(said[1], "      its last report: BUG: last");
        let nowhere = folder.path().join("none/all.json");
        assert!(keep(Some(&nowhere), "A", &Transcript::of("x\n"))[0].contains("cannot be kept"));
    }
}
