//! How large the kernel's frames are, and whether each page of them is probed: read from the linked image.
//!
//! A frame that is larger than the guard could jump over it. Two things keep that from happening, and both are looked at in
//! the machine code that is booted, not in the source it came from:
//!
//! * no frame is larger than [`LIMIT`], half of the guard, but for those that are there to try it, by their paths;
//! * the stack pointer never moves by more than a page past what was touched: the compiler's probes are there.
//!
//! Both are a gate of the build ([`gate`]): a kernel that breaks one of them is not booted. `walk` reads one function.

use std::path::Path;

use object::{Object, ObjectSection, ObjectSymbol, SectionKind};

use crate::checks::{Check, Verdict};
use crate::failure::Failure;
use crate::symbols::{self, NoSymbols, Symbol};

mod walk;

use walk::{Reader, Walked};

/// The largest frame that a function may have, in bytes below its return address: half of the guard of 16 KiB.
pub const LIMIT: u64 = 8192;
/// A page, in bytes.
const PAGE: u64 = 4096;
/// Functions whose path begins so have large frames on purpose: crashes that try to jump over the guard.
const ALLOWED: [&str; 1] = ["vmstack_kernel::crash::frames::"];
/// What a compiler's stack protector calls when a canary was overwritten.
const CANARY: &str = "__stack_chk_fail";
/// What the image's checks are called.
pub const NAMES: [&str; 2] = ["frames.largest", "frames.probes"];

/// One function's frame.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    name: String,
    walked: Walked,
}

impl Frame {
    fn is_allowed(&self) -> bool {
        ALLOWED.iter().any(|prefix| self.name.starts_with(prefix))
    }
}

/// The kernel as it was linked.
#[derive(Debug)]
pub struct Image {
    bytes: Vec<u8>,
    symbols: Vec<Symbol>,
    canaries: bool,
}

impl Image {
    /// Reads the kernel at `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or names no function.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let bytes = std::fs::read(path)
            .map_err(|error| Failure::cannot(format!("{shown} cannot be read: {error}; build the guest again")))?;
        Self::of(bytes).map_err(|error| {
            Failure::cannot(format!("the kernel {shown} shows no functions: {error}; build it again, unstripped"))
        })
    }

    /// The image whose bytes these are.
    fn of(bytes: Vec<u8>) -> Result<Self, NoSymbols> {
        let file = object::File::parse(bytes.as_slice())?;
        let symbols = symbols::functions(&file)?;
        let canaries = file.symbols().any(|symbol| symbol.name() == Ok(CANARY) && symbol.is_definition());
        Ok(Self { symbols, canaries, bytes })
    }

    /// The kernel's functions.
    #[must_use]
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }

    /// Whether the compiler put canaries into its frames.
    #[must_use]
    pub fn has_canaries(&self) -> bool {
        self.canaries
    }

    /// The findings that `vmstack crash --all` adds to its own.
    #[must_use]
    pub fn checks(&self) -> [Check; 2] {
        let frames = self.frames();
        [frames.largest(), frames.probes()]
    }

    /// Reads every function.
    fn frames(&self) -> Frames {
        // It was parsed before.
        let Ok(file) = object::File::parse(self.bytes.as_slice()) else { return Frames(Vec::new()) };
        let sections: Vec<_> = file.sections().filter(|section| section.kind() == SectionKind::Text).collect();
        let mut reader = Reader::default();
        let frame = |symbol: &Symbol| {
            let mut all = sections.iter();
            let code = all.find_map(|section| section.data_range(symbol.address, symbol.size.into()).ok().flatten())?;
            Some(Frame { name: symbol.name.clone(), walked: reader.walk(code, symbol.address) })
        };
        Frames(self.symbols.iter().filter_map(frame).collect())
    }
}

/// The frames of all functions.
#[derive(Debug)]
struct Frames(Vec<Frame>);

impl Frames {
    fn largest(&self) -> Check {
        let held = self.0.iter().filter(|frame| !frame.is_allowed());
        let left_out = self.0.iter().filter(|frame| frame.is_allowed()).count();
        let Some(largest) = held.max_by_key(|frame| frame.walked.size) else {
            return Check::fail(NAMES[0], "the image has no function");
        };
        let verdict = if self.too_large().is_empty() { Verdict::Pass } else { Verdict::Fail };
        let (name, size) = (&largest.name, largest.walked.size);
        let count = self.0.len();
        let detail = format!(
            "{name} has {size} bytes, of {LIMIT} allowed; {count} functions were read, {left_out} of them are large on purpose"
        );
        Check::new(NAMES[0], verdict, detail).with_figure(size, "bytes")
    }

    fn probes(&self) -> Check {
        let large: Vec<&str> =
            self.0.iter().filter(|frame| frame.walked.size >= PAGE).map(|frame| frame.name.as_str()).collect();
        let unprobed = self.unprobed();
        let (verdict, detail) = match (large.is_empty(), unprobed.is_empty()) {
            (_, false) => (Verdict::Fail, unprobed.join("; ")),
            (true, true) => {
                (Verdict::Skip, "no function has a frame of a page, so there is no probe to be seen".into())
            }
            (false, true) => (Verdict::Pass, format!("a probe in each page of {}", large.join(", "))),
        };
        Check::new(NAMES[1], verdict, detail).with_figure(large.len(), "functions")
    }

    /// A line for each function whose frame is too large.
    fn too_large(&self) -> Vec<String> {
        let mut held: Vec<&Frame> = self.0.iter().filter(|frame| !frame.is_allowed()).collect();
        held.sort_by_key(|frame| core::cmp::Reverse(frame.walked.size));
        held.into_iter()
            .filter_map(|Frame { name, walked }| match walked {
                Walked { unsized_at: Some(at), .. } => {
                    Some(format!("{name} has a frame without a fixed size, at {at:#x}"))
                }
                Walked { size, .. } if *size > LIMIT => {
                    Some(format!("{name} has a frame of {size} bytes, and {LIMIT} are allowed"))
                }
                _ => None,
            })
            .collect()
    }

    /// A line for each function that moves the stack pointer by more than a page without a touch.
    fn unprobed(&self) -> Vec<String> {
        let lines = self.0.iter().filter_map(|Frame { name, walked }| {
            let at = walked.unprobed_at?;
            Some(format!("{name} has a frame of {} bytes and no probe in a page of it, at {at:#x}", walked.size))
        });
        lines.collect()
    }
}

/// Refuses the kernel at `path` if a frame of it is too large or not probed, and names each such function on a line.
///
/// # Errors
///
/// When there is one, or the kernel cannot be read.
pub fn gate(path: &Path) -> Result<(), Failure> {
    let frames = Image::read(path)?.frames();
    let lines = [frames.too_large(), frames.unprobed()].concat();
    if lines.is_empty() {
        return Ok(());
    }
    lines.iter().for_each(|line| eprintln!("vmstack: {line}"));
    Err(Failure::cannot(format!(
        "kernel/ does not build: {} frame(s), named above, could jump over a guard; box what is in them",
        lines.len()
    )))
}

#[cfg(test)]
mod tests;
