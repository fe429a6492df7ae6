//! The command line, parsed: `docs/console.md` says what the words mean.

use alloc::vec::Vec;

use vmstack::DmaPolicy;

use crate::mm::heap::OutOfHeap;
use crate::process::exec::{StringList, Strings};

/// What this boot is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Probe,
    Story,
    Control,
    Count,
    Stack,
    Vmalloc,
    Dma,
    Requests,
    Fault,
    Memory,
    Pending,
    Stale,
    Crash,
    Program,
    Storage,
}

impl Mode {
    /// Whether instructions are counted: then nothing runs beside what is counted, not even a timer.
    pub(crate) const fn counts(self) -> bool {
        matches!(self, Self::Count | Self::Stack | Self::Vmalloc | Self::Dma | Self::Fault)
    }

    /// The word on the command line and in the end marker.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Story => "story",
            Self::Control => "control",
            Self::Count => "count",
            Self::Stack => "stack",
            Self::Vmalloc => "vmalloc",
            Self::Dma => "dma",
            Self::Requests => "requests",
            Self::Fault => "fault",
            Self::Memory => "memory",
            Self::Pending => "pending",
            Self::Stale => "stale",
            Self::Crash => "crash",
            Self::Program => "program",
            Self::Storage => "storage",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        let modes = [
            Self::Probe,
            Self::Story,
            Self::Control,
            Self::Count,
            Self::Stack,
            Self::Vmalloc,
            Self::Dma,
            Self::Requests,
            Self::Fault,
            Self::Memory,
            Self::Pending,
            Self::Stale,
            Self::Crash,
            Self::Program,
            Self::Storage,
        ];
        modes.into_iter().find(|mode| mode.name() == word)
    }
}

/// What the emulator's disk is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DiskKind {
    Good,
    /// It fails for some sectors.
    Failing,
    /// It answers once in a while.
    Silent,
}

/// The command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    line: &'static str,
    pub(crate) mode: Mode,
    /// Task stacks are contiguous, in the direct map.
    pub(crate) direct: bool,
    /// Those are kept when they are freed, as mapped ones are.
    pub(crate) equal: bool,
    /// They have thread_info at their bottom.
    pub(crate) thread_info_at_bottom: bool,
    /// Stacks of dead tasks wait for a grace period.
    pub(crate) late: bool,
    /// A stack is cleared from end to end before it is handed out, whatever its dirty bits say.
    pub(crate) scrub_whole: bool,
    /// CPUs look for themselves whether they are to flush.
    pub(crate) flush_at_switch: bool,
    /// What devices get of stacks.
    pub(crate) dma: DmaPolicy,
    /// What the disk is like.
    pub(crate) disk: DiskKind,
    /// How many of whatever the mode makes.
    pub(crate) count: Option<usize>,
    /// The program's system calls are written to the log.
    pub(crate) traced: bool,
}

/// A word of the command line that the kernel does not understand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadWord(pub(crate) &'static str);

impl Options {
    /// The options in `line`. Without a mode it is a probe.
    pub(crate) fn parse(line: &'static str) -> Result<Self, BadWord> {
        let mut options = Self {
            line,
            mode: Mode::Probe,
            direct: false,
            equal: false,
            thread_info_at_bottom: false,
            late: false,
            scrub_whole: false,
            flush_at_switch: false,
            dma: DmaPolicy::Bounce,
            disk: DiskKind::Good,
            count: None,
            traced: false,
        };
        for word in line.split_ascii_whitespace() {
            match word.split_once('=') {
                Some(("mode", mode)) => options.mode = Mode::parse(mode).ok_or(BadWord(word))?,
                Some(("stacks", "virtual")) => (options.direct, options.late) = (false, false),
                Some(("stacks", "direct")) => (options.direct, options.late) = (true, false),
                Some(("stacks", "equal")) => (options.direct, options.equal, options.late) = (true, true, false),
                Some(("stacks", "rcu")) => (options.direct, options.late) = (false, true),
                Some(("scrub", "dirty")) => options.scrub_whole = false,
                Some(("trace", "syscalls")) => options.traced = true,
                Some(("scrub", "whole")) => options.scrub_whole = true,
                Some(("count", number)) => options.count = Some(number.parse().map_err(|_| BadWord(word))?),
                Some(("disk", "failing")) => options.disk = DiskKind::Failing,
                Some(("disk", "silent")) => options.disk = DiskKind::Silent,
                Some(("dma", "refuse")) => options.dma = DmaPolicy::Refuse,
                Some(("dma", "bounce")) => options.dma = DmaPolicy::Bounce,
                Some(("dma", "map")) => options.dma = DmaPolicy::Map,
                Some(("flush", "message")) => options.flush_at_switch = false,
                Some(("flush", "switch")) => options.flush_at_switch = true,
                Some(("thread_info", "off")) => options.thread_info_at_bottom = false,
                Some(("thread_info", "bottom")) => options.thread_info_at_bottom = true,
                Some(("argv" | "env" | "crash", _)) => {}
                _ => return Err(BadWord(word)),
            }
        }
        Ok(options)
    }

    /// The program's arguments and environment.
    pub(crate) fn strings(&self) -> Result<Strings, OutOfHeap> {
        Ok(Strings { arguments: self.decode("argv=")?, environment: self.decode("env=")? })
    }

    /// The crashes that `mode=crash` is to provoke, in order.
    pub(crate) fn crashes(&self) -> impl Iterator<Item = &'static str> {
        self.line.split_ascii_whitespace().filter_map(|word| word.strip_prefix("crash="))
    }

    fn decode(&self, prefix: &str) -> Result<StringList, OutOfHeap> {
        let mut list = StringList::default();
        for word in self.line.split_ascii_whitespace().filter_map(|word| word.strip_prefix(prefix)) {
            let bytes: Vec<u8> = word.as_bytes().chunks_exact(2).filter_map(byte).collect();
            list.push(&bytes)?;
        }
        Ok(list)
    }
}

fn byte(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
}
