//! Why an area could not be made, and why a stack could not be had.

use core::fmt;

use crate::addr::Cpu;
use crate::config::GeometryError;
use crate::metadata::MetadataError;
use crate::platform::Node;
use crate::slots::Phase;

/// Why an area could not be initialised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum InitError<E> {
    /// It was initialised before, or is being initialised now.
    AlreadyInitialised,
    /// The configuration is wrong.
    Geometry(GeometryError),
    /// The platform could not make the top-level page-table entries of the range.
    NotPrepared(E),
    /// There are no frames for the directory of slot records.
    NoFrames(E),
    /// The directory of slot records could not be mapped.
    NotMapped(E),
}

/// Why a stack could not be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AllocError<E> {
    /// The area was not initialised yet.
    NotInitialised,
    /// All slots are in use.
    OutOfSlots {
        /// How many the area has.
        slots: usize,
    },
    /// The platform has no frames.
    NoFrames(E),
    /// The platform could not map the frames.
    NotMapped(E),
    /// The platform says that it runs on a CPU which the area was not initialised for.
    UnknownCpu {
        /// The CPU.
        cpu: Cpu,
        /// How many CPUs the area was initialised for.
        cpus: usize,
    },
    /// The area was not initialised for the node that was asked for.
    UnknownNode {
        /// The node.
        node: Node,
        /// How many nodes the area was initialised for.
        nodes: usize,
    },
    /// The area has a slot for each number, and a stack was asked for without one.
    WantsNumber,
    /// A stack was asked for by number, and the area's slots do not go by numbers.
    NotNumbered,
    /// There is no slot of this number.
    NumberOutOfRange {
        /// The number.
        number: u32,
        /// How many slots the area has: numbers are below that.
        slots: usize,
    },
    /// The slot of this number cannot be had now.
    NumberTaken {
        /// The number.
        number: u32,
        /// Why: it is somebody's (live, dead, pinned), it is lost (leaked), or it is on its way and will be had soon (retiring, recovering,
        /// building).
        phase: Phase,
    },
}

impl<E: fmt::Debug> fmt::Display for InitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyInitialised => write!(f, "the stack area is already initialised"),
            Self::Geometry(error) => write!(f, "the stack area cannot have this shape: {error}"),
            Self::NotPrepared(reason) => write!(f, "no top-level page tables for the stack area: {reason:?}"),
            Self::NoFrames(reason) => write!(f, "no frames for the stack area's records: {reason:?}"),
            Self::NotMapped(reason) => write!(f, "the stack area's records cannot be mapped: {reason:?}"),
        }
    }
}

impl<E: fmt::Debug> fmt::Display for AllocError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInitialised => write!(f, "the stack area is not initialised"),
            Self::OutOfSlots { slots } => write!(f, "all {slots} slots of the stack area are in use"),
            Self::NoFrames(reason) => write!(f, "no frames for a stack: {reason:?}"),
            Self::NotMapped(reason) => write!(f, "a stack cannot be mapped: {reason:?}"),
            Self::UnknownCpu { cpu, cpus } => write!(f, "CPU {cpu} is not one of the stack area's {cpus}"),
            Self::UnknownNode { node, nodes } => write!(f, "node {node} is not one of the stack area's {nodes}"),
            Self::WantsNumber => write!(f, "the stack area gives stacks by number: ask for one"),
            Self::NotNumbered => write!(f, "the stack area does not give stacks by number"),
            Self::NumberOutOfRange { number, slots } => {
                write!(f, "number {number} is not one of the stack area's {slots} slots")
            }
            Self::NumberTaken { number, phase } => write!(f, "the slot of number {number} cannot be had: {phase:?}"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for InitError<E> {}
impl<E: fmt::Debug> core::error::Error for AllocError<E> {}

impl<E> From<MetadataError<E>> for AllocError<E> {
    fn from(error: MetadataError<E>) -> Self {
        match error {
            MetadataError::NoFrames(reason) => Self::NoFrames(reason),
            MetadataError::NotMapped(reason) => Self::NotMapped(reason),
        }
    }
}
