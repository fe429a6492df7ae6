//! Whether a file can be a guest's program: a static Linux ELF executable for this machine.
//!
//! Looked at on the host, before anything is booted, so that each way to be wrong has a line of its own that says what to
//! do. The guest checks again, for itself: this is a service, not a defence.

use std::path::Path;

use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, Ident};
use object::read::elf::{FileHeader, ProgramHeader};
use thiserror::Error;

use crate::failure::Failure;

/// Why a file is no program for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    /// It does not begin as an ELF file does.
    #[error("is not an ELF file; give a static Linux program")]
    NotElf,
    /// Its end is missing.
    #[error("is truncated: its ELF headers point past its {size} bytes; build or copy it again")]
    Truncated {
        /// The file's size, in bytes.
        size: usize,
    },
    /// It is for 32-bit or big-endian machines, or for another architecture.
    #[error("is an ELF file for another machine ({machine}); build it for x86-64")]
    OtherMachine {
        /// What it is for.
        machine: Machine,
    },
    /// It is a relocatable object, a core dump or a shared library.
    #[error("is an ELF file but not an executable; link it first")]
    NotExecutable,
    /// It asks for a dynamic linker, which the guest does not have.
    #[error("is dynamically linked; link it statically (cc -static, or rustc -C target-feature=+crt-static)")]
    Dynamic,
}

/// What an ELF file is for, when it is not x86-64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// Any 32-bit machine.
    Bits32,
    /// Any big-endian machine.
    BigEndian,
    /// A 64-bit little-endian one, by its ELF number.
    Number(u16),
}

impl core::fmt::Display for Machine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::Bits32 => f.write_str("32-bit"),
            Self::BigEndian => f.write_str("big-endian"),
            Self::Number(number) if number == elf::EM_AARCH64.0 => f.write_str("AArch64"),
            Self::Number(number) if number == elf::EM_RISCV.0 => f.write_str("RISC-V"),
            Self::Number(number) => write!(f, "ELF machine {number}"),
        }
    }
}

/// Reads the program at `path`.
///
/// # Errors
///
/// When it is absent, unreadable or [`Unfit`].
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let shown = path.display();
    // Reading a device or a pipe might never end.
    if path.exists() && !path.is_file() {
        return Err(Failure::cannot(format!("the program {shown} is not a regular file; give a static Linux program")));
    }
    let bytes = std::fs::read(path).map_err(|error| {
        Failure::cannot(format!("the program {shown} cannot be read: {error}; check its path and permissions"))
    })?;
    check(&bytes).map_err(|unfit| Failure::cannot(format!("the program {shown} {unfit}")))?;
    Ok(bytes)
}

/// Checks the bytes of a program.
///
/// # Errors
///
/// The first way in which it is unfit.
pub fn check(bytes: &[u8]) -> Result<(), Unfit> {
    if !bytes.starts_with(&elf::ELFMAG) {
        return Err(Unfit::NotElf);
    }
    let truncated = Unfit::Truncated { size: bytes.len() };
    if bytes.len() < size_of::<Ident>() {
        return Err(truncated);
    }
    check_machine(bytes)?;
    let header = FileHeader64::<LE>::parse(bytes).map_err(|_| truncated)?;
    match header.e_machine(LE) {
        machine if machine == elf::EM_X86_64 => {}
        machine => return Err(Unfit::OtherMachine { machine: Machine::Number(machine.0) }),
    }
    check_segments(bytes, header, truncated)
}

/// The parts of the identification that say how the rest is read.
fn check_machine(bytes: &[u8]) -> Result<(), Unfit> {
    let (class, data) = (bytes[4], bytes[5]);
    let other = |machine| Err(Unfit::OtherMachine { machine });
    match (elf::FileClass(class), elf::DataEncoding(data)) {
        (elf::ELFCLASS64, elf::ELFDATA2LSB) => Ok(()),
        (elf::ELFCLASS32, _) => other(Machine::Bits32),
        (elf::ELFCLASS64, elf::ELFDATA2MSB) => other(Machine::BigEndian),
        _ => Err(Unfit::NotElf),
    }
}

fn check_segments(bytes: &[u8], header: &FileHeader64<LE>, truncated: Unfit) -> Result<(), Unfit> {
    let executable = [elf::ET_EXEC, elf::ET_DYN].contains(&header.e_type(LE)) && header.e_entry(LE) != 0;
    if !executable {
        return Err(Unfit::NotExecutable);
    }
    let segments = header.program_headers(LE, bytes).map_err(|_| truncated)?;
    // The section headers come last in a file: where they are cut off, so is what nothing here looks at.
    if segments.iter().any(|segment| segment.data(LE, bytes).is_err()) || header.section_headers(LE, bytes).is_err() {
        return Err(truncated);
    }
    if segments.iter().any(|segment| segment.p_type(LE) == elf::PT_INTERP) {
        return Err(Unfit::Dynamic);
    }
    let loads = segments.iter().any(|segment| segment.p_type(LE) == elf::PT_LOAD);
    if loads { Ok(()) } else { Err(Unfit::NotExecutable) }
}
