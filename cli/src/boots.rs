//! The boots of one run: the guest that is booted, on what, and what came of each boot.

use core::time::Duration;
use std::path::{Path, PathBuf};

use crate::args::Stacks;
use crate::checkout::Checkout;
use crate::checks::Check;
use crate::console::Transcript;
use crate::emulator::{Accelerator, Boot, Disk, Ended, scratch};
use crate::failure::Failure;
use crate::guest::Guest;
use crate::image::Image;
use crate::interrupt::Interrupts;
use crate::kvm::{Kvm, Question};
use crate::outcome::Outcome;
use crate::program::{self, Exit, Program};
use crate::progress::Progress;
use crate::provision::Ready;
use crate::screen::{Screen, Tone};
use crate::story::{SCENES, Scene};

/// How long a boot of the story may take when the user does not say.
const LIMIT: Duration = Duration::from_secs(120);

/// The machine that the user asked for, and how its boots are ended.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its CPUs, where a boot does not say otherwise.
    pub cpus: u32,
    /// Its memory, in MiB.
    pub memory: u32,
    /// How long one boot may take, when the user says.
    pub limit: Option<Duration>,
    /// The signals that end it.
    pub interrupts: &'a Interrupts,
}

/// One boot of which only the console is read.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// The kernel's command line.
    pub words: &'a str,
    /// The marker that ends it.
    pub marker: &'a str,
    /// Its CPUs.
    pub cpus: u32,
    /// Its further devices.
    pub devices: &'a [&'a str],
    /// How long it may take when the user does not say.
    pub limit: Duration,
}

/// What shows that a boot came to its end.
#[derive(Clone, Copy, Debug)]
pub enum Proof<'a> {
    /// A marker on the console.
    Marker(&'a str),
    /// The report of the program's end on the second port: `mode=program`.
    ProgramEnded,
}

/// One boot of a suite: a program that measures, or is measured.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    /// The kernel, if it is not the guest's own.
    pub kernel: Option<&'a Path>,
    /// Its initial file system.
    pub archive: &'a Path,
    /// Its command line.
    pub words: &'a str,
    /// What shows that it came to its end.
    pub proof: Proof<'a>,
    /// Whether instructions are counted: on one CPU, or of several that take turns.
    pub counting: bool,
    /// Its CPUs.
    pub cpus: u32,
    /// Its memory, in MiB.
    pub memory: u32,
    /// Its disk.
    pub disk: Option<Disk<'a>>,
    /// How long it may take when the user does not say.
    pub limit: Duration,
}

/// A guest that is built, and what executes it.
#[derive(Debug)]
pub struct Boots<'a> {
    emulator: PathBuf,
    guest: Guest,
    kvm: Kvm,
    request: Request<'a>,
}

impl<'a> Boots<'a> {
    /// Builds the guest, and finds out what can execute it.
    ///
    /// # Errors
    ///
    /// When it cannot be built, or on a signal.
    pub fn set_up(ready: Ready, request: Request<'a>) -> Result<Self, Failure> {
        let checkout = Checkout::find()?;
        let guest = match (Guest::folder_given(), ready.toolchain) {
            (Some(folder), _) => Guest::ready_in(&folder)?,
            (None, Some(toolchain)) => Guest::build(&checkout, toolchain, request.interrupts)?,
            (None, None) => return Err(Failure::cannot("no toolchain for the kernel; see `vmstack doctor`")),
        };
        let emulator = ready.emulator;
        let kvm = Question::about(&emulator, &checkout)?.settle(&emulator, &guest.kernel, request.interrupts)?;
        Ok(Self { emulator, guest, kvm, request })
    }

    /// Boots scene by scene, shows each and returns their findings.
    ///
    /// # Errors
    ///
    /// When a boot could not be started, or on a signal.
    pub fn tell(&self, stacks: Stacks, screen: &mut Screen) -> Result<Vec<Check>, Failure> {
        let folder = scratch()?;
        let archive = self.write_archive(folder.path())?;
        let mut checks = Vec::new();
        for scene in SCENES {
            if stacks == Stacks::Direct && scene.stacks == Stacks::Virtual && !scene.counting {
                checks.extend(scene.skip("needs stacks that are mapped page by page, and --stacks direct was given"));
                continue;
            }
            screen.heading(scene.title);
            checks.extend(self.act(&scene, &archive, screen)?);
        }
        Ok(checks)
    }

    /// Boots one scene.
    fn act(&self, scene: &Scene, archive: &Path, screen: &mut Screen) -> Result<Vec<Check>, Failure> {
        let accelerator = if scene.counting { Accelerator::Counting } else { self.kvm.accelerator() };
        let words = scene.words();
        let image = if scene.disk { Some(Image::make()?) } else { None };
        let image = match image.transpose() {
            Ok(image) => image,
            Err(missing) => return Ok(scene.skip(&missing.to_string())),
        };
        let boot = Boot {
            archive: Some(archive),
            disk: image.as_ref().map(Image::path).map(Disk::good),
            limit: self.request.limit.or(Some(LIMIT)),
            ..self.boot(words.line()?, accelerator)
        };
        let (outcome, mut transcript) = self.hear(&boot, Proof::Marker(&scene.marker()))?;
        if let Some(image) = image {
            transcript.hear(Duration::ZERO, image.facts()?.as_bytes());
        }
        show(scene, outcome, &transcript, screen);
        Ok(scene.judge(outcome, &transcript))
    }

    /// Writes the archive of the kernel's symbols and all programs into `folder`.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written.
    pub fn write_archive(&self, folder: &Path) -> Result<PathBuf, Failure> {
        let archive = folder.join("initrd");
        write(&archive, &self.guest.archive_with_programs()?.finish())?;
        Ok(archive)
    }

    /// The guest that is booted.
    #[must_use]
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// The kernel that is booted.
    #[must_use]
    pub fn kernel(&self) -> &Path {
        &self.guest.kernel
    }

    /// Boots as `reading` says: how it ended, and what it printed.
    ///
    /// # Errors
    ///
    /// When the boot could not be started, or on a signal.
    pub fn read(&self, archive: &Path, reading: Reading<'_>) -> Result<(Outcome, Transcript), Failure> {
        let boot = Boot {
            archive: Some(archive),
            cpus: reading.cpus,
            devices: reading.devices,
            limit: self.request.limit.or(Some(reading.limit)),
            ..self.boot(reading.words, self.kvm.accelerator())
        };
        self.hear(&boot, Proof::Marker(reading.marker))
    }

    /// Boots as `measured` says: how it ended, and what it printed.
    ///
    /// # Errors
    ///
    /// When the boot could not be started, or on a signal.
    pub fn measure(&self, measured: Measured<'_>) -> Result<(Outcome, Transcript), Failure> {
        let accelerator = match (measured.counting, measured.cpus) {
            (false, _) => self.kvm.accelerator(),
            (true, 1) => Accelerator::Counting,
            (true, _) => Accelerator::InTurns,
        };
        let boot = self.boot(measured.words, accelerator);
        let boot = Boot {
            kernel: measured.kernel.unwrap_or(boot.kernel),
            archive: Some(measured.archive),
            cpus: measured.cpus,
            memory: measured.memory,
            disk: measured.disk,
            limit: self.request.limit.or(Some(measured.limit)),
            ..boot
        };
        self.hear(&boot, measured.proof)
    }

    /// Boots, and keeps what is printed: the console, and after it the kernel's own words about a program.
    fn hear(&self, boot: &Boot<'_>, proof: Proof<'_>) -> Result<(Outcome, Transcript), Failure> {
        let progress = Progress::start("booting");
        let mut transcript = Transcript::default();
        let ended = boot.run(self.request.interrupts, &mut |at, bytes| {
            transcript.hear(at, bytes);
            progress.note(bytes);
            Ok(())
        })?;
        drop(progress);
        transcript.finish(Duration::ZERO);
        refused(&ended, transcript.is_empty() && ended.side_channel.is_empty())?;
        let proven = match proof {
            Proof::Marker(marker) => transcript.has_marker(marker),
            Proof::ProgramEnded => Exit::reported(&ended.side_channel).is_some(),
        };
        transcript.hear(Duration::ZERO, ended.side_channel.as_bytes());
        transcript.finish(Duration::ZERO);
        Ok((Outcome::of(ended.end, proven), transcript))
    }

    /// Boots one program: how it ended, or what the machine died of. With `missing_calls` those are listed.
    ///
    /// # Errors
    ///
    /// When the boot could not be started, or on a signal.
    pub fn run_program(
        &self,
        program: &Program,
        words: &str,
        missing_calls: bool,
    ) -> Result<Result<Exit, String>, Failure> {
        let folder = scratch()?;
        let path = folder.path().join("initrd");
        let mut archive = self.guest.archive()?;
        archive.add(program.name(), &program.bytes);
        program.beside.iter().for_each(|(name, bytes)| archive.add(name.as_os_str().as_encoded_bytes(), bytes));
        write(&path, &archive.finish())?;
        let boot = Boot {
            archive: Some(&path),
            limit: self.request.limit,
            interactive: true,
            ..self.boot(words, self.kvm.accelerator())
        };
        let mut silent = true;
        let ended = boot.run(self.request.interrupts, &mut |_, bytes| {
            silent = false;
            program::pass_output(bytes)
        })?;
        refused(&ended, silent && ended.side_channel.is_empty())?;
        let exit = Exit::reported(&ended.side_channel);
        if let Some(why) = program::refusal(&ended.side_channel) {
            return Err(Failure::cannot(format!("the kernel refuses the program: {why}; give it another one")));
        }
        // A program that ended by itself has said what it had to say; of a death, its own or a child's, the kernel knows more.
        if !matches!(exit, Some(Exit::Status(_))) || ended.side_channel.contains("BUG: ") {
            program::kernel_words(&ended.side_channel).for_each(|line| eprintln!("{line}"));
        }
        if missing_calls && exit.is_some() {
            program::missing_calls_listed(&ended.side_channel).iter().for_each(|line| eprintln!("{line}"));
        }
        let missing = program::missing(&ended.side_channel);
        Ok(program::judge(Outcome::of(ended.end, exit.is_some()), exit, missing))
    }

    fn boot<'b>(&'b self, words: &'b str, accelerator: Accelerator) -> Boot<'b> {
        Boot {
            emulator: &self.emulator,
            kernel: &self.guest.kernel,
            archive: None,
            words,
            accelerator,
            cpus: self.request.cpus,
            memory: self.request.memory,
            limit: None,
            devices: &[],
            disk: None,
            interactive: false,
        }
    }
}

/// Fails when the emulator refused the machine, so that no guest ever ran.
fn refused(ended: &Ended, silent: bool) -> Result<(), Failure> {
    match ended.refusal() {
        Some(words) if silent => {
            Err(Failure::cannot(format!("the emulator refused to start: {words}; `vmstack doctor` says more")))
        }
        _ => Ok(()),
    }
}

/// Shows a boot that ended in order as its scene does; else its last lines.
fn show(scene: &Scene, outcome: Outcome, transcript: &Transcript, screen: &mut Screen) {
    if outcome == Outcome::Orderly {
        return (scene.show)(transcript, screen);
    }
    show_end(outcome, transcript, screen);
}

/// Shows how a boot ended that should have ended otherwise, and its last lines.
pub fn show_end(outcome: Outcome, transcript: &Transcript, screen: &mut Screen) {
    const LAST: usize = 12;
    let line = screen.paint(Tone::Bad, &format!("  {outcome}; its last lines:"));
    screen.line(&line);
    let lines = transcript.lines();
    for line in &lines[lines.len().saturating_sub(LAST)..] {
        screen.line(&format!("  {:8.3}  {}", line.at.as_secs_f32(), line.text));
    }
}

/// Writes a file of a boot.
///
/// # Errors
///
/// When it cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|error| {
        Failure::cannot(format!("{} cannot be written: {error}; make room there or set TMPDIR", path.display()))
    })
}
