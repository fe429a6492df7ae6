//! One boot: QEMU's command line, its console as it comes, and how it ended.
//!
//! The guest's first serial port is QEMU's standard output (and input, for a program); the second is a file in a
//! temporary folder that lives as long as the boot. Nothing of QEMU's own configuration or default devices is used, so that
//! a boot is the same on every machine. The emulator is on a `Leash`: it ends with this process, whatever ends that.

use core::time::Duration;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};

use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::leash::{End, Leash, Stream};
use crate::outcome::{STATUS_ORDERLY, STATUS_PANICKED};

/// The byte that stands for the end of standard input on the guest's serial port: EOT, as a terminal's Ctrl-D.
const END_OF_INPUT: u8 = 4;

/// Who hears the guest's console: the time since the emulator's start, and the bytes. An error stops the emulator.
pub type Console<'a> = dyn FnMut(Duration, &[u8]) -> Result<(), Failure> + 'a;

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// Hardware virtualisation.
    Kvm,
    /// Software emulation, a thread for each CPU.
    Tcg,
    /// Software emulation of one CPU whose clock is the number of instructions: for counting.
    Counting,
    /// The same for several CPUs, which take turns: the clock counts what all of them do together.
    InTurns,
}

/// One machine to boot.
#[derive(Clone, Debug)]
pub struct Boot<'a> {
    /// The emulator's program.
    pub emulator: &'a Path,
    /// The kernel's ELF file.
    pub kernel: &'a Path,
    /// The initial file system, a file; none for a boot that needs none.
    pub archive: Option<&'a Path>,
    /// The kernel's command line.
    pub words: &'a str,
    /// What executes the guest.
    pub accelerator: Accelerator,
    /// Number of CPUs; counting uses one, whatever is asked.
    pub cpus: u32,
    /// Memory, in MiB.
    pub memory: u32,
    /// How long it may take, when there is a limit.
    pub limit: Option<Duration>,
    /// Devices beside those of every boot, as the emulator's `-device` takes them.
    pub devices: &'a [&'a str],
    /// The machine's disk.
    pub disk: Option<Disk<'a>>,
    /// Whether this process's standard input becomes the guest's.
    pub interactive: bool,
}

/// A disk: a file that the guest may write to.
#[derive(Clone, Copy, Debug)]
pub struct Disk<'a> {
    /// The file.
    pub file: &'a Path,
    /// What is wrong with it.
    pub fault: Fault,
}

impl<'a> Disk<'a> {
    /// One that works.
    #[must_use]
    pub const fn good(file: &'a Path) -> Self {
        Self { file, fault: Fault::None }
    }
}

/// What may be wrong with a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing.
    None,
    /// Reads of sector 8 and writes of sector 16 fail.
    BadSectors,
    /// It answers twice in a second.
    Slow,
}

/// How a boot ended, and what is left of it.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How the emulator ended.
    pub end: End,
    /// What the guest wrote to its second serial port.
    pub side_channel: String,
    /// What the emulator itself complained about.
    pub complaint: String,
}

impl Ended {
    /// The emulator's own words when it refused to start: it exited with a status that is no boot's end, and complained.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        match self.end {
            End::Exited(status) if !matches!(status.code(), Some(0 | STATUS_ORDERLY | STATUS_PANICKED)) => {
                self.complaint.lines().find(|line| !line.is_empty())
            }
            _ => None,
        }
    }
}

impl Boot<'_> {
    /// Boots, hands the console's bytes to `console` as they come with the time since the start, and waits for the end.
    ///
    /// # Errors
    ///
    /// When the emulator cannot be started, on a signal, and whatever `console` returns. The emulator is gone then.
    pub fn run(&self, interrupts: &Interrupts, console: &mut Console<'_>) -> Result<Ended, Failure> {
        let scratch = scratch()?;
        let side_channel = scratch.path().join("com2");
        let mut command = Command::new(self.emulator);
        command.args(self.arguments(&side_channel));
        command.stdin(if self.interactive { Stdio::piped() } else { Stdio::null() });
        let mut leash = Leash::spawn(&mut command).map_err(|error| {
            let emulator = self.emulator.display();
            Failure::cannot(format!("the emulator {emulator} cannot be started: {error}; `vmstack doctor` says more"))
        })?;
        if let Some(input) = leash.input() {
            pass_input(input);
        }
        let mut complaint = Vec::new();
        let end = leash.attend(self.limit, interrupts, &mut |at, stream, bytes| match stream {
            Stream::Output => console(at, bytes),
            Stream::Complaint => {
                complaint.extend_from_slice(bytes);
                Ok(())
            }
        })?;
        let side_channel = std::fs::read(&side_channel).unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ended { end, side_channel: text(&side_channel), complaint: text(&complaint) })
    }

    /// The emulator's arguments.
    fn arguments(&self, side_channel: &Path) -> Vec<OsString> {
        let mut all: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| all.extend(words.iter().map(OsString::from));
        match self.accelerator {
            Accelerator::Kvm => add(&["-accel", "kvm", "-cpu", "max"]),
            Accelerator::Tcg => add(&["-accel", "tcg,thread=multi", "-cpu", "max"]),
            Accelerator::Counting | Accelerator::InTurns => {
                // Without `erms` nobody clears memory byte by byte, which would count eight times as much.
                add(&["-accel", "tcg", "-icount", "shift=0,sleep=off", "-cpu", "max,-erms"]);
            }
        }
        let cpus = if self.accelerator == Accelerator::Counting { 1 } else { self.cpus };
        add(&["-smp", &cpus.to_string(), "-m", &format!("{}M", self.memory)]);
        add(&["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"]);
        add(&["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-serial", "stdio", "-serial"]);
        all.push(prefixed("file:", side_channel));
        all.extend(self.devices.iter().flat_map(|device| ["-device".into(), OsString::from(device)]));
        all.extend(self.disk.into_iter().flat_map(disk));
        all.extend(["-kernel".into(), self.kernel.into()]);
        if let Some(archive) = self.archive {
            all.extend(["-initrd".into(), archive.into()]);
        }
        all.extend(["-append".into(), self.words.into()]);
        all
    }
}

/// The arguments for a disk.
fn disk(disk: Disk<'_>) -> Vec<OsString> {
    // The emulator takes two commas for one in a name.
    let name =
        disk.file.as_os_str().as_encoded_bytes().split(|&byte| byte == b',').collect::<Vec<_>>().join(&b",,"[..]);
    let name = OsString::from_vec(name);
    let with_name = |options: &str| prefixed(options, Path::new(&name));
    let backend = match disk.fault {
        Fault::None => vec!["-drive".into(), with_name("if=none,id=disk,format=raw,file=")],
        Fault::Slow => vec!["-drive".into(), with_name("if=none,id=disk,format=raw,throttling.iops-total=2,file=")],
        Fault::BadSectors => {
            let errors = [("read", 8), ("write", 16)].into_iter().enumerate().map(|(i, (kind, sector))| {
                format!(",inject-error.{i}.event=none,inject-error.{i}.iotype={kind},inject-error.{i}.errno=5,inject-error.{i}.sector={sector}")
            });
            let errors: String = errors.collect();
            let debug = format!("driver=blkdebug,node-name=disk,image=image{errors}");
            let file = with_name("driver=file,node-name=image,filename=");
            vec!["-blockdev".into(), file, "-blockdev".into(), debug.into()]
        }
    };
    let device = ["-device".into(), "virtio-blk-pci,drive=disk,disable-legacy=on".into()];
    backend.into_iter().chain(device).collect()
}

fn prefixed(prefix: &str, path: &Path) -> OsString {
    let mut word = OsString::from(prefix);
    word.push(path);
    word
}

/// A temporary folder that is removed when it is dropped.
///
/// # Errors
///
/// When the system's folder for temporary files cannot be written.
pub fn scratch() -> Result<tempfile::TempDir, Failure> {
    tempfile::Builder::new().prefix("vmstack-").tempdir().map_err(|error| {
        Failure::cannot(format!("no temporary folder can be made: {error}; set TMPDIR to a folder that is writable"))
    })
}

/// Copies this process's standard input to the guest until either ends.
///
/// The thread may stay in its read for ever; it ends with the process.
fn pass_input(mut guest: ChildStdin) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let count = std::io::stdin().lock().read(&mut buffer).unwrap_or(0);
            let bytes = if count == 0 { vec![END_OF_INPUT] } else { escaped(&buffer[..count]) };
            if guest.write_all(&bytes).and_then(|()| guest.flush()).is_err() || count == 0 {
                break;
            }
        }
    });
}

/// `bytes` as they travel: those that mean something to the guest's console come after an escape, with bit 6 changed.
fn escaped(bytes: &[u8]) -> Vec<u8> {
    const ESCAPE: u8 = 0x10;
    const ESCAPED: u8 = 0x40;
    let special = |byte: u8| byte == END_OF_INPUT || byte == ESCAPE;
    bytes
        .iter()
        .flat_map(|&byte| {
            special(byte).then_some(ESCAPE).into_iter().chain([byte ^ if special(byte) { ESCAPED } else { 0 }])
        })
        .collect()
}

/// The emulator that `VMSTACK_QEMU` names, when it is set.
#[must_use]
pub fn named_by_environment() -> Option<PathBuf> {
    std::env::var_os("VMSTACK_QEMU").filter(|name| !name.is_empty()).map(PathBuf::from)
}

/// How long one boot may take: `VMSTACK_TIME_LIMIT` in seconds, when it is set.
///
/// # Errors
///
/// When the variable is not a positive number of seconds.
pub fn time_limit() -> Result<Option<Duration>, Failure> {
    let Some(word) = std::env::var_os("VMSTACK_TIME_LIMIT").filter(|word| !word.is_empty()) else {
        return Ok(None);
    };
    let seconds = word.to_str().and_then(|word| word.parse::<f64>().ok()).filter(|&seconds| seconds > 0.0);
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).map(Some).ok_or_else(|| {
        Failure::cannot(format!(
            "VMSTACK_TIME_LIMIT is `{}`; set it to a number of seconds above 0, or unset it",
            word.display()
        ))
    })
}

#[cfg(test)]
mod tests;
