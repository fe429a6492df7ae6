//! A refusal, as a fact and in words: who asked, for what, in whose stack.

use super::{SCRIPTS, WORDS};
use crate::console::number;
use crate::crash::facts::{Evidence, Holds, Shortfall, hold, odd};

/// A `fact dma.refused`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused<'a> {
    pub(super) what: &'a str,
    pub(super) why: &'a str,
    pub(super) caller: &'a str,
    pub(super) addr: u64,
    pub(super) bytes: u64,
    pub(super) entry: u64,
    pub(super) low: u64,
    pub(super) high: u64,
    pub(super) offset: u64,
    pub(super) owner: u64,
    /// The line before it.
    told: &'a str,
}

impl<'a> Refused<'a> {
    fn read(words: &'a [String], told: &'a str) -> Option<Self> {
        let [what, why, caller, numbers @ ..] = words else { return None };
        let numbers: Option<Vec<u64>> = numbers.iter().map(|word| number(word)).collect();
        let [addr, bytes, entry, low, high, offset, owner] = numbers?.try_into().ok()?;
        Some(Self { what, why, caller, addr, bytes, entry, low, high, offset, owner, told })
    }

    /// All of them, in order, each with what is said of it in words.
    pub(super) fn all(crash: &'a Evidence) -> Result<Vec<Self>, Shortfall> {
        let facts = crash.facts.all("dma.refused");
        let lines = crash.facts.lines().iter().map(|line| line.text.as_str());
        let told: Vec<&str> = lines.filter(|line| line.starts_with(WORDS)).collect();
        hold(told.len() == facts.len(), || format!("{} refusals, and {} in words", facts.len(), told.len()))?;
        let read =
            |(words, told): (&'a Vec<String>, _)| Self::read(words, told).ok_or_else(|| odd("dma.refused", words));
        facts.iter().zip(told).map(read).collect()
    }

    /// It was for this reason, and says who asked for what.
    pub(super) fn is_for(&self, why: &str) -> Holds {
        let Self { what, addr, bytes, caller, told, .. } = self;
        hold(self.why == why, || format!("`{what}` was refused by {}, not {why}", self.why))?;
        hold(caller.starts_with(SCRIPTS), || format!("`{what}` was asked for by {caller}, it says"))?;
        let said = format!("{WORDS}{bytes} bytes at {addr:016x} for {caller}:");
        hold(told.starts_with(&said), || format!("`{what}` is told of by `{told}`, which does not begin `{said}`"))
    }

    /// It names this stack, where in it the bytes begin, and its owner, also in words.
    pub(super) fn names(&self, stack: &Asked) -> Holds {
        let Self { what, low, high, offset, owner, told, .. } = *self;
        let place = self.addr.saturating_sub(stack.low);
        hold((low, high) == (stack.low, stack.high), || format!("`{what}` names the stack {low:#x}..{high:#x}"))?;
        hold(offset == place, || format!("`{what}` is {offset} bytes above the bottom, it says, and not {place}"))?;
        hold(owner == stack.owner, || format!("`{what}` names task {owner}, and the stack is {}'s", stack.owner))?;
        let named = format!("owner {owner:#x} (pid {owner} (victim))");
        hold(told.ends_with(&named), || format!("`{what}` is told of by `{told}`, which does not end with `{named}`"))
    }
}

/// What is asked for, as the task knows it whose stack it is: `fact dma.stack`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) low: u64,
    pub(super) high: u64,
    pub(super) owner: u64,
    pub(super) at: u64,
    pub(super) bytes: u64,
}

impl Asked {
    pub(super) fn read(crash: &Evidence) -> Result<Self, Shortfall> {
        let [low, high, owner, at, bytes] = crash.facts.numbers("dma.stack")?;
        hold(low < high && owner != 0, || format!("{low:#x}..{high:#x} of task {owner} is no stack"))?;
        Ok(Self { low, high, owner, at, bytes })
    }
}
