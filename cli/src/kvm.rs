//! Whether hardware virtualisation runs this guest.
//!
//! `/dev/kvm` may be there, be openable, and still not run a guest (nested virtualisation that is half there). So the
//! kernel is booted under it once, with `mode=probe` and a short limit. The answer is kept under `target/` with what it
//! depends on: the emulator's version, the device's inode and the host's kernel.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::time::Duration;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::checkout::Checkout;
use crate::console::Transcript;
use crate::emulator::{Accelerator, Boot};
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::outcome::Outcome;
use crate::toolchain::first_line;

const DEVICE: &str = "/dev/kvm";
/// How long the probe may take: a hundred times what it takes where it works.
const LIMIT: Duration = Duration::from_secs(5);
const WORKS: &str = "works";

/// What is known of hardware virtualisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kvm {
    /// There is no `/dev/kvm`.
    Absent,
    /// It is there, but this user may not open it.
    Denied,
    /// It is there, and nothing has been booted under it yet.
    Untried,
    /// It is there, but the probe did not end in order; how it ended.
    Broken(String),
    /// The probe ended in order.
    Works,
}

impl Kvm {
    /// What executes a guest, given this.
    #[must_use]
    pub fn accelerator(&self) -> Accelerator {
        if *self == Self::Works { Accelerator::Kvm } else { Accelerator::Tcg }
    }
}

impl fmt::Display for Kvm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent: guests run in software emulation"),
            Self::Denied => f.write_str("present, but this user may not open it: guests run in software emulation"),
            Self::Untried => f.write_str("present, not tried yet: a run boots the kernel under it once to find out"),
            Self::Broken(why) => write!(f, "present, but not working ({why}): guests run in software emulation"),
            Self::Works => f.write_str("working"),
        }
    }
}

/// What an answer depends on, and where it is kept.
#[derive(Clone, Debug)]
pub struct Question {
    key: String,
    kept: PathBuf,
}

impl Question {
    /// The question for `emulator` on this host.
    ///
    /// # Errors
    ///
    /// When the folder for remembered results cannot be made.
    pub fn about(emulator: &Path, checkout: &Checkout) -> Result<Self, Failure> {
        let version = first_line(Command::new(emulator).arg("--version")).unwrap_or_default();
        let inode = std::fs::metadata(DEVICE).map(|device| device.ino()).unwrap_or_default();
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let key = format!("{} | {version} | {inode} | {}", emulator.display(), release.trim());
        // A file for each emulator, so that trying another one does not forget the answer for the first.
        let mut hasher = std::hash::DefaultHasher::new();
        emulator.hash(&mut hasher);
        let kept = checkout.cache()?.join(format!("kvm-{:016x}", hasher.finish()));
        Ok(Self { key, kept })
    }

    /// The file that keeps the answer; without it the question is asked again.
    #[must_use]
    pub fn kept(&self) -> &Path {
        &self.kept
    }

    /// What is known without booting anything.
    #[must_use]
    pub fn known(&self) -> Kvm {
        match std::fs::OpenOptions::new().read(true).write(true).open(DEVICE) {
            Ok(_) => self.remembered().unwrap_or(Kvm::Untried),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Kvm::Absent,
            Err(_) => Kvm::Denied,
        }
    }

    /// What is known, after a boot of `kernel` if that is what it takes.
    ///
    /// # Errors
    ///
    /// On a signal, or when the emulator cannot be started at all.
    pub fn settle(&self, emulator: &Path, kernel: &Path, interrupts: &Interrupts) -> Result<Kvm, Failure> {
        let known = self.known();
        if known != Kvm::Untried {
            return Ok(known);
        }
        let found = probe(emulator, kernel, interrupts)?;
        self.remember(&found);
        Ok(found)
    }

    fn remembered(&self) -> Option<Kvm> {
        let text = std::fs::read_to_string(&self.kept).ok()?;
        let (key, answer) = text.split_once('\n')?;
        let answer = answer.trim_end();
        (key == self.key).then(|| if answer == WORKS { Kvm::Works } else { Kvm::Broken(answer.to_owned()) })
    }

    fn remember(&self, found: &Kvm) {
        let answer = match found {
            Kvm::Works => WORKS,
            Kvm::Broken(why) => why,
            _ => return,
        };
        // An answer that cannot be kept is asked for again next time.
        let _ = std::fs::write(&self.kept, format!("{}\n{answer}\n", self.key));
    }
}

fn probe(emulator: &Path, kernel: &Path, interrupts: &Interrupts) -> Result<Kvm, Failure> {
    let mut transcript = Transcript::default();
    let boot = Boot {
        emulator,
        kernel,
        archive: None,
        words: "mode=probe",
        accelerator: Accelerator::Kvm,
        cpus: 1,
        memory: 128,
        limit: Some(LIMIT),
        devices: &[],
        disk: None,
        interactive: false,
    };
    let ended = boot.run(interrupts, &mut |at, bytes| {
        transcript.hear(at, bytes);
        Ok(())
    })?;
    transcript.finish(LIMIT);
    Ok(match Outcome::of(ended.end, transcript.has_marker("end-of-probe")) {
        Outcome::Orderly => Kvm::Works,
        outcome => Kvm::Broken(ended.refusal().map_or_else(|| outcome.to_string(), str::to_owned)),
    })
}

#[cfg(test)]
mod tests {
    use super::{Kvm, Question};
    use crate::emulator::Accelerator;

    #[test]
    fn an_answer_is_kept_for_its_question_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let question = |key: &str| Question { key: key.into(), kept: folder.path().join("kvm") };
        assert_eq!(question("a").remembered(), None);
        for answer in [Kvm::Works, Kvm::Broken("the boot had not ended".into())] {
            question("a").remember(&answer);
            assert_eq!((question("a").remembered(), question("b").remembered()), (Some(answer), None));
        }
    }

    #[test]
    fn only_what_works_is_used() {
        assert_eq!(Kvm::Works.accelerator(), Accelerator::Kvm);
        for kvm in [Kvm::Absent, Kvm::Denied, Kvm::Untried, Kvm::Broken("x".into())] {
            assert_eq!(kvm.accelerator(), Accelerator::Tcg);
            assert!(kvm.to_string().contains("absent") || kvm.to_string().contains("present"));
        }
    }
}
