//! What can go wrong with a request.

use core::fmt;

use vmstack::DmaError;

/// Why a request failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DiskError {
    /// There is no disk, or it did not come up again.
    Absent,
    /// The data is no whole number of sectors, or none at all.
    NotSectors { bytes: usize },
    /// The disk has no such sectors.
    OutOfRange { sector: u64, sectors: u64, capacity: u64 },
    /// The data is longer than there are addresses, or than its buffer.
    TooLong,
    /// The data is in more pieces than a request can have.
    TooManyPieces { most: usize },
    /// As many requests are in flight as can be.
    Busy,
    /// The door did not let it through.
    Refused(DmaError),
    /// The device says that it could not.
    Failed,
    /// The device says that it does not know such requests.
    Unsupported,
    /// The device says it is done, and has not said how it went.
    NoStatus { status: u8 },
    /// The device wrote fewer bytes than it was asked for.
    Short { wrote: usize, wanted: usize },
    /// The device did not answer in time.
    TimedOut,
    /// The device was reset because of another request.
    Reset,
}

impl DiskError {
    /// One word for facts.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::NotSectors { .. } => "not-sectors",
            Self::OutOfRange { .. } => "out-of-range",
            Self::TooLong => "too-long",
            Self::TooManyPieces { .. } => "too-many-pieces",
            Self::Busy => "busy",
            Self::Refused(_) => "refused",
            Self::Failed => "failed",
            Self::Unsupported => "unsupported",
            Self::NoStatus { .. } => "no-status",
            Self::Short { .. } => "short",
            Self::TimedOut => "timed-out",
            Self::Reset => "reset",
        }
    }

    /// What the device's status byte says (virtio 1.2, 5.2.6).
    pub(super) const fn of_status(status: u8) -> Result<(), Self> {
        match status {
            0 => Ok(()),
            1 => Err(Self::Failed),
            2 => Err(Self::Unsupported),
            status => Err(Self::NoStatus { status }),
        }
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(f, "there is no disk"),
            Self::NotSectors { bytes } => write!(f, "{bytes} bytes are no sectors"),
            Self::OutOfRange { sector, sectors, capacity } => {
                write!(f, "sectors {sector} and {sectors} on are not on a disk of {capacity}")
            }
            Self::TooLong => write!(f, "the data is longer than its buffer"),
            Self::TooManyPieces { most } => write!(f, "the data is in more than {most} pieces"),
            Self::Busy => write!(f, "as many requests are in flight as can be"),
            Self::Refused(error) => error.fmt(f),
            Self::Failed => write!(f, "the device could not"),
            Self::Unsupported => write!(f, "the device does not know such requests"),
            Self::NoStatus { status } => write!(f, "the device gave the status {status:#x}"),
            Self::Short { wrote, wanted } => write!(f, "the device wrote {wrote} of {wanted} bytes"),
            Self::TimedOut => write!(f, "the device did not answer in time"),
            Self::Reset => write!(f, "the device was reset"),
        }
    }
}
