//! [`Config`]: what is asked of a machine, and how much memory that takes.
//!
//! The library checks the shape of the area, and says how much address space that takes. Context: arithmetic, any.

use vmstack::{AreaConfig, Scrub, StackKind, VirtRange};

use crate::arch::PAGE_SIZE;

/// What is asked of a machine. Sizes in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    pub(crate) slots: usize,
    pub(crate) stack_size: usize,
    pub(crate) cpus: usize,
    pub(crate) nodes: usize,
    frames: Option<usize>,
    pub(crate) plain: u32,
    leading: usize,
    trailing: usize,
    stride: Option<usize>,
    kind: StackKind,
    pub(crate) measure: bool,
    pub(crate) scrub: Scrub,
    pub(crate) budget: usize,
}

impl Config {
    /// A machine of one CPU with `slots` stacks of `stack_size` bytes, and frames for all of them.
    #[must_use]
    pub const fn new(slots: usize, stack_size: usize) -> Self {
        Self {
            slots,
            stack_size,
            cpus: 1,
            nodes: 1,
            frames: None,
            plain: 0,
            leading: PAGE_SIZE,
            trailing: PAGE_SIZE,
            stride: None,
            kind: StackKind::Task,
            measure: false,
            scrub: Scrub::Dirty,
            budget: usize::MAX,
        }
    }

    /// How many threads can be CPUs at a time.
    #[must_use]
    pub const fn cpus(self, cpus: usize) -> Self {
        Self { cpus, ..self }
    }

    /// How many NUMA nodes are simulated: CPUs and frames are divided among them, in runs as equal as can be.
    #[must_use]
    pub const fn nodes(self, nodes: usize) -> Self {
        Self { nodes, ..self }
    }

    /// How many frames its memory has, all nodes together. The area's own records take a few.
    #[must_use]
    pub const fn frames(self, frames: usize) -> Self {
        Self { frames: Some(frames), ..self }
    }

    /// How many frames its memory has beside those, for drivers: half of them in one piece, half of them scattered.
    #[must_use]
    pub(crate) const fn plain(self, frames: u32) -> Self {
        Self { plain: frames, ..self }
    }

    /// How many bytes below each stack must stay unmapped: whole pages, at least one.
    #[must_use]
    pub const fn leading_guard(self, bytes: usize) -> Self {
        Self { leading: bytes, ..self }
    }

    /// How many bytes above each stack must stay unmapped: whole pages, at least one.
    #[must_use]
    pub const fn trailing_guard(self, bytes: usize) -> Self {
        Self { trailing: bytes, ..self }
    }

    /// The distance in bytes from one stack to the next: a power of two. Twice the stack size unless guards need more.
    #[must_use]
    pub const fn stride(self, bytes: usize) -> Self {
        Self { stride: Some(bytes), ..self }
    }

    /// What the stacks are for. [`StackKind::Task`] unless said otherwise.
    #[must_use]
    pub const fn kind(self, kind: StackKind) -> Self {
        Self { kind, ..self }
    }

    /// Measures how deep each task used its stack when it ends. It reads the unused part of the stack.
    #[must_use]
    pub const fn measure(self) -> Self {
        Self { measure: true, ..self }
    }

    /// When and how much of a stack is cleared between two owners: all of it when it is handed out, unless said otherwise.
    #[must_use]
    pub const fn scrub(self, scrub: Scrub) -> Self {
        Self { scrub, ..self }
    }

    /// How many ready stacks may be kept in the depots, all nodes together. No limit unless said otherwise.
    #[must_use]
    pub const fn budget(self, stacks: usize) -> Self {
        Self { budget: stacks, ..self }
    }

    /// Enough pages for the area's records: up to 64 bytes a slot, a page a CPU and a node, and the directory.
    const fn record_pages(&self) -> usize {
        let pages = self.slots / (PAGE_SIZE / 64) + self.cpus + self.nodes;
        pages + pages / PAGE_SIZE + 4
    }

    /// How many frames the memory has, if a frame number can count them.
    pub(crate) fn frame_count(&self) -> Option<u32> {
        let for_stacks = self.slots.checked_mul(self.stack_size / PAGE_SIZE)?;
        let frames = self.frames.map_or_else(|| for_stacks.checked_add(self.record_pages()), Some)?;
        u32::try_from(frames).ok().filter(|&frames| frames != 0 && frames < u32::MAX - self.plain)
    }

    /// The same as the library wants it, in `range`.
    pub(crate) fn area(&self, range: VirtRange) -> AreaConfig {
        let area = AreaConfig::new(range, self.slots, self.stack_size, self.cpus)
            .nodes(self.nodes)
            .leading_guard(self.leading)
            .trailing_guard(self.trailing)
            .kind(self.kind);
        self.stride.map_or(area, |stride| area.stride(stride))
    }
}
