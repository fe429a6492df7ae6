//! Scatter lists by chance: all of their entries pass, or none.

use std::sync::{MutexGuard, PoisonError};

use vmstack::{DmaError, DmaPolicy, DmaRequest, Passage, Refusal, TransferList};

use super::ask::Asked;
use super::driver::Driver;
use super::oracle::Lies;
use super::world::{Bytes, Slot, differing};
use crate::platform::Hosted;

/// How many entries a list has room for, and how many there may be.
const ROOM: usize = 6;
const MOST: usize = 8;

type List<'m> = TransferList<'m, Hosted, ROOM>;
/// The slots of a list, locked: the lowest first.
type Slots<'w, 'm> = Vec<(usize, MutexGuard<'w, Slot<'m>>)>;

impl<'w, 'm> Driver<'w, 'm> {
    /// A list, and all that comes of it.
    pub(super) fn ask_for_list(&mut self) {
        let world = self.world;
        let asked = self.entries();
        let order = world.order.read().unwrap_or_else(PoisonError::into_inner);
        let mut slots = self.lock(&asked);
        if slots.iter().any(|(_, slot)| matches!(**slot, Slot::Drivers)) && world.door.policy() != DmaPolicy::Refuse {
            return;
        }
        self.tally.requests += asked.len() as u64;
        let expected = self.expected(&asked, &slots);
        let requests: Vec<DmaRequest> = asked.iter().map(Asked::request).collect();
        // SAFETY: as for single requests: all that may pass is held.
        let passed: Result<List<'m>, DmaError> = unsafe { world.door.pass_list(&requests) };
        drop(order);
        let got = passed.as_ref().err().map(|error| (error.entry, error.refusal));
        self.judge_list(&asked, got, expected);
        if let Ok(list) = passed {
            self.tally.lists += 1;
            self.fly_list(list, &asked, &mut slots);
        }
    }

    /// Requests that have no byte in common.
    fn entries(&mut self) -> Vec<Asked> {
        let mut entries: Vec<Asked> = Vec::new();
        for _ in 0..=self.random.below(MOST) {
            let asked = self.asked();
            // Most lists are good.
            let likely = asked.nonsense().is_none() && self.verdict(&asked, self.lies(&asked), true).is_ok();
            let apart = |other: &Asked| other.nonsense().is_some() || !other.meets(asked.span());
            if asked.nonsense().is_some() || entries.iter().all(apart) && (likely || self.random.once_in(16)) {
                entries.push(asked);
            }
        }
        entries.retain(|asked| asked.nonsense().is_none() || self.random.once_in(16));
        entries
    }

    fn lock(&self, asked: &[Asked]) -> Slots<'w, 'm> {
        let sound = asked.iter().filter(|asked| asked.nonsense().is_none());
        let mut slots: Vec<usize> = sound.filter_map(|asked| self.slot_of(asked)).collect();
        slots.sort_unstable();
        slots.dedup();
        let world = self.world;
        slots.into_iter().map(|index| (index, world.slot(index))).collect()
    }

    fn slot_of(&self, asked: &Asked) -> Option<usize> {
        match self.lies(asked) {
            Lies::In(slot) => Some(slot),
            _ => None,
        }
    }

    /// The first entry that should be refused, and why.
    fn expected(&self, asked: &[Asked], slots: &Slots<'w, 'm>) -> Option<(usize, Refusal)> {
        if asked.len() > ROOM {
            return Some((ROOM, Refusal::ListFull { most: ROOM }));
        }
        let verdict = |asked: &Asked| -> Result<Passage, Refusal> {
            if let Some(refusal) = asked.nonsense() {
                return Err(refusal);
            }
            let nobodys = |index| slots.iter().any(|(at, slot)| *at == index && matches!(**slot, Slot::Nobodys));
            let lies = self.lies(asked);
            self.verdict(asked, lies, !matches!(lies, Lies::In(index) if nobodys(index)))
        };
        asked.iter().enumerate().find_map(|(entry, asked)| Some((entry, verdict(asked).err()?)))
    }

    fn judge_list(&mut self, asked: &[Asked], got: Option<(usize, Refusal)>, expected: Option<(usize, Refusal)>) {
        let Some(first) = asked.first() else { return };
        if got.is_some() {
            self.tally.refused += asked.len() as u64;
        }
        if got != expected {
            self.tally.misjudge(first, || format!("a list of {}: {got:?}, and not {expected:?}", asked.len()));
        }
    }

    /// The device reads all of it in one go, and writes each entry that it may.
    fn fly_list(&mut self, list: List<'m>, asked: &[Asked], slots: &mut Slots<'w, 'm>) {
        let segments: Vec<_> = list.segments().collect();
        let seen = self.world.device.read(&segments);
        let should: Vec<u8> = asked.iter().flat_map(|asked| self.held(asked, slots).of(asked).to_vec()).collect();
        if let Some(first) = asked.first() {
            self.tally.compare(first, differing(&seen, &should), seen.len());
        }
        for (transfer, asked) in list.transfers().zip(asked) {
            self.tally.judge(asked, Ok(transfer.passage()), Ok(transfer.passage()));
            if asked.direction.writes() {
                let written = self.random.bytes(asked.bytes);
                self.world.device.write(&transfer.segments().collect::<Vec<_>>(), &written);
                self.held(asked, slots).of_mut(asked).copy_from_slice(&written);
            }
        }
        // SAFETY: the device does nothing when it is not told to; and all bytes are held.
        let finished = unsafe { list.finish() }.map_err(|error| error.refusal);
        for asked in asked {
            self.tally.judge_end(asked, finished, Ok(()));
            let wrong = self.held(asked, slots).wrong_around(asked);
            self.tally.compare(asked, wrong, asked.bytes);
        }
    }

    /// The bytes that an entry is about, which are this driver's or in a slot that it holds.
    ///
    /// # Panics
    ///
    /// If they are neither: the list should not have passed.
    fn held<'a>(&'a mut self, asked: &Asked, slots: &'a mut Slots<'w, 'm>) -> &'a mut Bytes {
        let stacks = slots.iter_mut().filter_map(|(_, slot)| match &mut **slot {
            Slot::Somebodys(_, bytes) => Some(bytes),
            _ => None,
        });
        let mut all = stacks.chain(&mut self.own);
        all.find(|bytes| bytes.has(asked.span())).expect("what passes is held")
    }
}
