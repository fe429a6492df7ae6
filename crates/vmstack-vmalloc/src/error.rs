//! Why there is no vmalloc, why an area could not be had, and why one could not be freed.

use core::fmt;

use vmstack::{Cpu, PhysAddr, VirtAddr};

use crate::info::AreaInfo;

/// Why a vmalloc could not be initialised. Sizes in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum InitError<E> {
    /// It was initialised before, or is being initialised now.
    AlreadyInitialised,
    /// There are no CPUs, or more than it can serve.
    BadCpus {
        /// How many were said.
        cpus: usize,
        /// How many there can be.
        most: usize,
    },
    /// The range does not begin and end where a chunk does.
    Misaligned {
        /// What one chunk has.
        chunk: usize,
    },
    /// The range has no room for records and one chunk, or is longer than records can count.
    BadRange {
        /// What the range has.
        bytes: usize,
        /// The least that it must have.
        least: usize,
        /// The most that it can have.
        most: usize,
    },
    /// The platform could not make the top-level page-table entries of the range.
    NotPrepared(E),
    /// There are no frames for what each CPU keeps.
    NoFrames(E),
    /// What each CPU keeps could not be mapped.
    NotMapped(E),
}

/// Why an area could not be had. Sizes in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AreaError<E> {
    /// The vmalloc was not initialised yet.
    NotInitialised,
    /// The platform says that it runs on a CPU which the vmalloc was not initialised for.
    UnknownCpu {
        /// The CPU.
        cpu: Cpu,
        /// How many CPUs it was initialised for.
        cpus: usize,
    },
    /// Nothing was asked for.
    ZeroSize,
    /// More than the range has.
    TooLarge {
        /// What was asked for.
        bytes: usize,
        /// The most that an area can have, without any other.
        most: usize,
    },
    /// The alignment is not a power of two.
    BadAlignment {
        /// What was asked for.
        align: usize,
    },
    /// No address in the range may be so aligned.
    AlignmentTooLarge {
        /// What was asked for.
        align: usize,
        /// The most that can be asked for.
        most: usize,
    },
    /// There is no room among the addresses.
    NoSpace {
        /// What was asked for.
        bytes: usize,
    },
    /// The platform has no frames for the area.
    NoFrames(E),
    /// The platform has no frames for records, or could not map them.
    NoRecords(E),
    /// The platform could not map the frames.
    NotMapped(E),
    /// The platform forbids to map a frame that was lent.
    Refused {
        /// The frame.
        frame: PhysAddr,
        /// The platform's reason.
        reason: E,
    },
}

/// Why an area could not be freed. Then nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FreeError {
    /// The address is outside the range, or where records are.
    NotOurs {
        /// The address.
        addr: VirtAddr,
    },
    /// No area begins there: it lies in this one.
    Inside {
        /// The address.
        addr: VirtAddr,
        /// The area.
        area: AreaInfo,
    },
    /// No area begins there: it is a guard, of this area.
    Guard {
        /// The address.
        addr: VirtAddr,
        /// The area.
        area: AreaInfo,
    },
    /// The area that began there is free already.
    Twice {
        /// The address.
        addr: VirtAddr,
        /// The area that it was, while its addresses are nobody else's.
        area: AreaInfo,
    },
    /// No area begins there, and none did that is remembered.
    NoArea {
        /// The address.
        addr: VirtAddr,
    },
    /// It is freed on a CPU that the vmalloc was not initialised for.
    UnknownCpu {
        /// The CPU.
        cpu: Cpu,
        /// How many CPUs it was initialised for.
        cpus: usize,
    },
}

impl<E: fmt::Debug> fmt::Display for InitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyInitialised => write!(f, "the vmalloc is already initialised"),
            Self::BadCpus { cpus, most } => write!(f, "a vmalloc cannot serve {cpus} CPUs: 1 to {most}"),
            Self::Misaligned { chunk } => write!(f, "the range must begin and end at a multiple of {chunk} bytes"),
            Self::BadRange { bytes, least, most } => {
                write!(f, "a range of {bytes} bytes will not do: it must have {least} to {most}")
            }
            Self::NotPrepared(error) => write!(f, "no top-level page tables for the range: {error:?}"),
            Self::NoFrames(error) => write!(f, "no frames for what each CPU keeps: {error:?}"),
            Self::NotMapped(error) => write!(f, "what each CPU keeps could not be mapped: {error:?}"),
        }
    }
}

impl<E: fmt::Debug> fmt::Display for AreaError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInitialised => write!(f, "the vmalloc is not initialised"),
            Self::UnknownCpu { cpu, cpus } => unknown_cpu(f, *cpu, *cpus),
            Self::ZeroSize => write!(f, "an area of no bytes was asked for"),
            Self::TooLarge { bytes, most } => write!(f, "{bytes} bytes are more than an area can have: {most}"),
            Self::BadAlignment { align } => write!(f, "an alignment of {align} bytes is not a power of two"),
            Self::AlignmentTooLarge { align, most } => {
                write!(f, "nothing can be aligned to {align} bytes here: {most} is the most")
            }
            Self::NoSpace { bytes } => write!(f, "no room for {bytes} bytes among the addresses"),
            Self::NoFrames(error) => write!(f, "no frames for an area: {error:?}"),
            Self::NoRecords(error) => write!(f, "no memory for records: {error:?}"),
            Self::NotMapped(error) => write!(f, "the frames of an area could not be mapped: {error:?}"),
            Self::Refused { frame, reason } => write!(f, "the frame {frame:?} must not be mapped: {reason:?}"),
        }
    }
}

impl fmt::Display for FreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurs { addr } => write!(f, "{addr} is not in the range of the vmalloc"),
            Self::Inside { addr, area } => write!(f, "{addr} is not where an area begins: it lies in {area}"),
            Self::Guard { addr, area } => write!(f, "{addr} is not where an area begins: it is a guard of {area}"),
            Self::Twice { addr, area } => write!(f, "{addr} is free already: it was {area}"),
            Self::NoArea { addr } => write!(f, "no area begins at {addr}"),
            Self::UnknownCpu { cpu, cpus } => unknown_cpu(f, *cpu, *cpus),
        }
    }
}

fn unknown_cpu(f: &mut fmt::Formatter<'_>, cpu: Cpu, cpus: usize) -> fmt::Result {
    write!(f, "CPU {} is none of the {cpus} that the vmalloc was initialised for", cpu.index())
}

impl<E: fmt::Debug> core::error::Error for InitError<E> {}
impl<E: fmt::Debug> core::error::Error for AreaError<E> {}
impl core::error::Error for FreeError {}
