//! Why a device does not get what was asked for it.

use core::fmt;
use core::panic::Location;

use crate::addr::{PhysAddr, VirtAddr};
use crate::fault::StackView;
use crate::locate::StackSpan;
use crate::slots::Phase;

/// Why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// There are no bytes.
    Empty,
    /// The range leaves the address space.
    Wraps,
    /// It is in a stack, and the kernel's policy is that devices get none.
    Stack,
    /// It begins below a stack and ends in it, or beyond it.
    AcrossBottom {
        /// How many bytes lie below the stack.
        below: usize,
    },
    /// It begins in a stack and ends above it.
    AcrossTop {
        /// How many bytes lie above the stack.
        above: usize,
    },
    /// It is in the guard of a stack.
    Guard,
    /// It is in what an area keeps about its stacks.
    Records,
    /// It is in a stack that is nobody's: given back, or never handed out.
    Idle,
    /// The stack was given back meanwhile. At the end of a transfer: what the device wrote is dropped.
    Gone,
    /// The stack has as many pins as can be counted.
    TooManyPins,
    /// No memory is mapped at an address of the range.
    NotMapped {
        /// The first such page.
        page: VirtAddr,
    },
    /// The memory lies where the device does not reach, and the policy is to refuse.
    OutOfReach {
        /// The last byte of the segment.
        last: PhysAddr,
        /// What the device reaches.
        reach: u64,
    },
    /// A segment does not begin where the device can begin, and the policy is to refuse.
    Misaligned {
        /// Where it begins.
        start: PhysAddr,
        /// What it should be a multiple of, in bytes.
        align: usize,
    },
    /// The memory is in more pieces than the device takes, and the policy is to refuse.
    TooManySegments {
        /// How many the device takes.
        most: usize,
    },
    /// It would have to be bounced, and there is no pool.
    NoPool,
    /// It would have to be bounced, and is larger than any buffer of the pool, or is to be aligned more.
    TooLarge {
        /// The largest buffer, in bytes.
        most: usize,
    },
    /// It would have to be bounced, and the device does not reach the pool.
    PoolOutOfReach {
        /// The last byte of the pool.
        last: PhysAddr,
        /// What the device reaches.
        reach: u64,
    },
    /// It would have to be bounced, and all buffers that are large enough are in use.
    PoolExhausted {
        /// How many they are.
        buffers: usize,
    },
    /// The list has more entries than it has room for.
    ListFull {
        /// How many it has room for.
        most: usize,
    },
    /// Nothing was let through with this bus address.
    NotShared {
        /// The bus address.
        bus: PhysAddr,
    },
}

/// A refusal: who asked for what, and whose stack it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DmaError {
    /// Why.
    pub refusal: Refusal,
    /// Where the bytes begin.
    pub addr: VirtAddr,
    /// How many they are.
    pub bytes: usize,
    /// Which entry of a list it was; 0 if it was no list.
    pub entry: usize,
    /// Who asked.
    pub caller: &'static Location<'static>,
    /// The stack that it is about, as it was when the refusal was made; none if it is about no stack.
    pub stack: StackView,
    /// Where in that stack the bytes begin, as far as they are in it: bytes above the bottom.
    pub offset: usize,
}

impl DmaError {
    pub(super) fn new(refusal: Refusal, addr: VirtAddr, bytes: usize, caller: &'static Location<'static>) -> Self {
        Self { refusal, addr, bytes, entry: 0, caller, stack: StackView::default(), offset: 0 }
    }

    pub(super) const fn of(self, stack: StackView) -> Self {
        Self { stack, ..self }
    }

    pub(super) const fn at(self, span: &StackSpan) -> Self {
        Self { stack: span.stack, offset: span.offset, ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "there are no bytes"),
            Self::Wraps => write!(f, "the range leaves the address space"),
            Self::Stack => write!(f, "devices get no stack memory"),
            Self::AcrossBottom { below } => write!(f, "it begins {below} bytes below a stack that it meets"),
            Self::AcrossTop { above } => write!(f, "it ends {above} bytes above the stack that it begins in"),
            Self::Guard => write!(f, "it is in the guard of a stack"),
            Self::Records => write!(f, "it is in the records of a stack area"),
            Self::Idle => write!(f, "the stack is nobody's"),
            Self::Gone => write!(f, "the stack was given back"),
            Self::TooManyPins => write!(f, "the stack has as many pins as can be counted"),
            Self::NotMapped { page } => write!(f, "nothing is mapped at {page}"),
            Self::OutOfReach { last, reach } => write!(f, "it ends at {last:?}, and the device reaches {reach:#x}"),
            Self::Misaligned { start, align } => write!(f, "it begins at {start:?}, which is no multiple of {align}"),
            Self::TooManySegments { most } => write!(f, "it is in more pieces than the {most} that the device takes"),
            Self::NoPool => write!(f, "it would have to be bounced, and there is no pool"),
            Self::TooLarge { most } => {
                write!(f, "it would have to be bounced, and the largest buffer has {most} bytes")
            }
            Self::PoolOutOfReach { last, reach } => {
                write!(f, "it would have to be bounced, and the pool ends at {last:?}: the device reaches {reach:#x}")
            }
            Self::PoolExhausted { buffers } => {
                write!(f, "it would have to be bounced, and all {buffers} buffers of that size are in use")
            }
            Self::ListFull { most } => write!(f, "the list has room for {most}"),
            Self::NotShared { bus } => write!(f, "nothing was let through with the bus address {bus:?}"),
        }
    }
}

impl fmt::Display for DmaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { refusal, addr, bytes, caller, stack, offset, .. } = self;
        write!(f, "no DMA to {bytes} bytes at {addr} for {caller}: {refusal}")?;
        if !stack.exists() {
            return Ok(());
        }
        let kind = stack.stack_kind().name();
        write!(f, "; {kind} stack {}..{}, {offset} bytes above its bottom", stack.bottom, stack.top)?;
        // The owner of a stack that is nobody's is its last one.
        if stack.phase == Phase::Live as u8 { write!(f, ", owner {:#x}", stack.owner) } else { Ok(()) }
    }
}

impl core::error::Error for DmaError {}
