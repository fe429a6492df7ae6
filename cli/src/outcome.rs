//! How a boot ended.
//!
//! A machine that resets itself makes the emulator exit with status 0, so status alone proves nothing: a boot ended in
//! order only when its end marker was printed *and* the emulator's status is the chosen one (`docs/console.md`, "Ports").

use core::fmt;
use core::time::Duration;
use std::os::unix::process::ExitStatusExt;

use crate::leash::End;

/// The emulator's status when the guest wrote 16 to the exit device: `16 << 1 | 1`.
pub const STATUS_ORDERLY: i32 = 33;
/// The emulator's status when the guest wrote 17: a panic that the kernel announced.
pub const STATUS_PANICKED: i32 = 35;

/// How a boot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With its marker and the orderly status.
    Orderly,
    /// The kernel stopped the machine and said so.
    Panicked,
    /// Status 0, which no guest chooses: the machine reset itself, as after a triple fault.
    Reset,
    /// A signal killed the emulator.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// The emulator was stopped because its time was up.
    TimedOut {
        /// The limit.
        after: Duration,
    },
    /// The emulator ended by itself before the guest printed its marker.
    NoMarker {
        /// The emulator's status.
        status: i32,
    },
    /// The marker was printed, but what came after ended the emulator with a status that nobody chose.
    AfterMarker {
        /// The emulator's status.
        status: i32,
    },
}

impl Outcome {
    /// Judges an end of the emulator, given whether the boot's marker had been printed.
    #[must_use]
    pub fn of(end: End, marker: bool) -> Self {
        let status = match end {
            End::TimedOut { after } => return Self::TimedOut { after },
            End::Exited(status) => status,
        };
        match (status.code(), marker) {
            (None, _) => Self::Killed { signal: status.signal().unwrap_or_default() },
            (Some(STATUS_ORDERLY), true) => Self::Orderly,
            (Some(STATUS_PANICKED), _) => Self::Panicked,
            (Some(0), _) => Self::Reset,
            (Some(status), true) => Self::AfterMarker { status },
            (Some(status), false) => Self::NoMarker { status },
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Orderly => f.write_str("the boot ended in order"),
            Self::Panicked => f.write_str("the kernel panicked and stopped the machine"),
            Self::Reset => f.write_str("the machine reset itself (the emulator ended with status 0)"),
            Self::Killed { signal } => write!(f, "signal {signal} killed the emulator"),
            Self::TimedOut { after } => {
                write!(f, "the boot had not ended after {} s and was stopped", after.as_secs_f32())
            }
            Self::NoMarker { status } => {
                write!(f, "the emulator ended with status {status} before the guest printed its end marker")
            }
            Self::AfterMarker { status } => {
                write!(f, "the emulator ended with status {status} after the guest's end marker, not {STATUS_ORDERLY}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;
    use crate::leash::End;
    use core::time::Duration;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn status(code: i32, marker: bool) -> Outcome {
        Outcome::of(End::Exited(ExitStatus::from_raw(code << 8)), marker)
    }

    #[test]
    fn only_marker_and_chosen_status_together_are_an_orderly_end() {
        assert_eq!(status(33, true), Outcome::Orderly);
        assert_eq!(status(33, false), Outcome::NoMarker { status: 33 });
        assert_eq!(status(0, true), Outcome::Reset);
        assert_eq!(status(0, false), Outcome::Reset);
        assert_eq!(status(1, true), Outcome::AfterMarker { status: 1 });
    }

    #[test]
    fn a_panic_a_kill_and_a_time_limit_are_told_apart() {
        assert_eq!(status(35, false), Outcome::Panicked);
        assert_eq!(Outcome::of(End::Exited(ExitStatus::from_raw(9)), true), Outcome::Killed { signal: 9 });
        let after = Duration::from_secs(1);
        assert_eq!(Outcome::of(End::TimedOut { after }, true), Outcome::TimedOut { after });
    }
}
