//! What a process wants done about each signal: Linux's `struct sigaction`, for those about which it has said anything.

use alloc::vec::Vec;

use super::number::{Effect, Set, Signal};
use crate::mm::heap::{self, OutOfHeap};

/// In [`Action::flags`], as Linux has them.
pub(crate) mod flags {
    /// Children that stop are not told of.
    pub(crate) const NO_CHILD_STOP: u64 = 1;
    /// Children that end are not kept for `wait4`.
    pub(crate) const NO_CHILD_WAIT: u64 = 2;
    /// There is a restorer: there has to be.
    pub(crate) const RESTORER: u64 = 0x0400_0000;
    /// On the alternate stack.
    pub(crate) const ON_STACK: u64 = 0x0800_0000;
    /// Calls that were interrupted are made again.
    pub(crate) const RESTART: u64 = 0x1000_0000;
    /// The signal is not blocked while its handler runs.
    pub(crate) const NO_DEFER: u64 = 0x4000_0000;
    /// Handled once.
    pub(crate) const RESET_HAND: u64 = 0x8000_0000;
}

/// Handlers that are none.
const DEFAULT: usize = 0;
const IGNORE: usize = 1;

/// What is to be done about a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Action {
    pub(crate) handler: usize,
    pub(crate) flags: u64,
    pub(crate) restorer: usize,
    pub(crate) mask: Set,
}

impl Action {
    const DEFAULT: Self = Self { handler: DEFAULT, flags: 0, restorer: 0, mask: Set::EMPTY };

    pub(crate) const fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }
}

/// What is to be done about each signal.
#[derive(Debug)]
pub(super) struct Actions {
    /// What is not the default.
    chosen: Vec<(Signal, Action)>,
    ignored: Set,
    handled: Set,
}

impl Actions {
    /// Nothing special.
    pub(super) const fn new() -> Self {
        Self { chosen: Vec::new(), ignored: Set::EMPTY, handled: Set::EMPTY }
    }

    /// A copy, for a forked child.
    pub(super) fn copy(&self) -> Result<Self, OutOfHeap> {
        let mut chosen = Vec::new();
        heap::reserve(&mut chosen, self.chosen.len())?;
        chosen.extend_from_slice(&self.chosen);
        Ok(Self { chosen, ..*self })
    }

    /// For a new program: what was handled is not.
    pub(super) fn forget_handlers(&mut self) {
        self.chosen.retain(|(_, action)| action.handler == IGNORE);
        for (_, action) in &mut self.chosen {
            *action = Action { handler: IGNORE, ..Action::DEFAULT };
        }
        self.handled = Set::EMPTY;
    }

    /// Whether the process ignores the signal on purpose.
    pub(super) const fn ignores(&self, signal: Signal) -> bool {
        self.ignored.has(signal)
    }

    /// What the signal does, if nobody handles it.
    pub(super) const fn effect(&self, signal: Signal) -> Option<Effect> {
        match () {
            () if self.ignored.has(signal) => Some(Effect::Nothing),
            () if self.handled.has(signal) => None,
            () => Some(signal.default_effect()),
        }
    }

    /// Whether the signal does nothing to the process.
    pub(super) fn does_nothing(&self, signal: Signal) -> bool {
        self.effect(signal) == Some(Effect::Nothing)
    }

    pub(super) fn get(&self, signal: Signal) -> Action {
        let found = self.chosen.iter().find(|(known, _)| *known == signal);
        found.map_or(Action::DEFAULT, |(_, action)| *action)
    }

    /// Changes what is to be done about `signal`, and returns what was.
    pub(super) fn set(&mut self, signal: Signal, action: Action) -> Result<Action, OutOfHeap> {
        let before = self.get(signal);
        if let Some((_, known)) = self.chosen.iter_mut().find(|(known, _)| *known == signal) {
            *known = action;
        } else if action != Action::DEFAULT {
            heap::reserve(&mut self.chosen, 1)?;
            self.chosen.push((signal, action));
        }
        let put = |set: Set, chosen: bool| if chosen { set.with(signal) } else { set & !Set::of(signal) };
        self.ignored = put(self.ignored, action.handler == IGNORE);
        self.handled = put(self.handled, action.handler > IGNORE);
        Ok(before)
    }

    /// What is to be done about `signal` now that it is delivered: one that is handled once is reset.
    pub(super) fn take(&mut self, signal: Signal) -> Action {
        let action = self.get(signal);
        if action.has(flags::RESET_HAND) && action.handler > IGNORE {
            let known = self.set(signal, Action { handler: DEFAULT, ..action });
            debug_assert!(known.is_ok(), "it has its place");
        }
        action
    }

    /// Back to what happens by default.
    pub(super) fn reset(&mut self, signal: Signal) {
        self.chosen.retain(|(known, _)| *known != signal);
        self.ignored = self.ignored & !Set::of(signal);
        self.handled = self.handled & !Set::of(signal);
    }
}
