//! What the hardware says about a page fault, in no architecture's words.
//!
//! Each format's module has a `decode_fault` for its own error word: x86-64's error code, AArch64's ESR, RISC-V's
//! `scause`. They are arithmetic on one word, so the fault path may call them (INV-FAULT). The faulting address is not
//! in that word: it comes from CR2, FAR or `stval`.

/// What was attempted when the fault was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FaultKind {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Fetch,
}

/// A page fault as the hardware reports it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Fault {
    /// What was attempted.
    pub kind: FaultKind,
    /// Whether there was a translation, which did not permit it. `None` where the hardware does not say.
    pub present: Option<bool>,
    /// Whether user code attempted it. `None` where another register says it (RISC-V: `sstatus.SPP`).
    pub user: Option<bool>,
    /// Whether a table was malformed: reserved bits set, or an address out of range.
    pub malformed: bool,
}

impl Fault {
    /// A fault of which nothing is known but what was attempted.
    pub(crate) const fn new(kind: FaultKind) -> Self {
        Self { kind, present: None, user: None, malformed: false }
    }
}
