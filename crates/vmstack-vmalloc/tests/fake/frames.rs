//! Physical memory: frames, each with one owner at any moment, and one word of contents.
//!
//! ```text
//!   number   0 ............ | (gap to a multiple of 512) | blocks of 512 ... | lent ...
//!   kind     Own                                           Large               Lent
//! ```

use super::FakeError;
use vmstack::PhysAddr;

/// What a frame holds that was given back.
pub(crate) const FREED: u64 = 0xa5a5_a5a5_a5a5_a5a5;
/// What a frame holds that nobody cleared.
pub(crate) const STALE: u64 = 0x5757_5757_5757_5757;

/// The frames of a large page.
pub(crate) const LARGE: usize = 512;
/// The physical address of frame 0.
const FIRST: u64 = 1 << 32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The allocator's, one by one.
    Own,
    /// The allocator's, in blocks.
    Large,
    /// Somebody's who lends it.
    Lent,
}

/// Where a frame is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Free,
    /// The library has it, and it is mapped nowhere.
    Taken,
    Mapped,
    /// It lost its mapping, and waits for the flush.
    Unmapped,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: Kind,
    state: State,
    word: u64,
    /// Of a frame that is somebody's: how often it is lent, is mapped, and was and may still be known to a TLB.
    lent: u32,
    mapped: u32,
    unmapped: u32,
}

#[derive(Debug)]
pub(super) struct Frames {
    all: Vec<Frame>,
    own: Vec<u32>,
    /// First frames of free blocks.
    large: Vec<u32>,
    first_lent: u32,
    /// Mapped frames, but for lent ones.
    pub(super) mapped: usize,
    pub(super) taken: usize,
}

pub(super) fn phys(frame: u32) -> PhysAddr {
    PhysAddr::new(FIRST + 4096 * u64::from(frame))
}

pub(super) fn number(at: PhysAddr) -> u32 {
    u32::try_from((at.get() - FIRST) / 4096).expect("the address of a frame")
}

impl Frames {
    pub(super) fn new(own: usize, large: usize, lent: usize) -> Self {
        let first_large = own.next_multiple_of(LARGE);
        let frame = |kind, word| Frame { kind, state: State::Free, word, lent: 0, mapped: 0, unmapped: 0 };
        let mut all = vec![frame(Kind::Own, FREED); first_large];
        all.resize(first_large + large * LARGE, frame(Kind::Large, FREED));
        let first_lent = all.len();
        all.resize(first_lent + lent, frame(Kind::Lent, STALE));
        Self {
            all,
            own: (0..own as u32).rev().collect(),
            large: (0..large).rev().map(|block| (first_large + block * LARGE) as u32).collect(),
            first_lent: first_lent as u32,
            mapped: 0,
            taken: 0,
        }
    }

    fn at(&mut self, frame: u32) -> &mut Frame {
        &mut self.all[frame as usize]
    }

    pub(super) fn kind(&self, frame: u32) -> Kind {
        self.all[frame as usize].kind
    }

    pub(super) fn word(&self, frame: u32) -> u64 {
        self.all[frame as usize].word
    }

    /// How often a lent frame is mapped or held back.
    pub(super) fn mappings(&self, frame: u32) -> u32 {
        let frame = &self.all[frame as usize];
        frame.mapped + frame.unmapped
    }

    pub(super) fn set_word(&mut self, frame: u32, word: u64) {
        self.at(frame).word = word;
    }

    pub(super) fn lent_frame(&self, index: usize) -> u32 {
        self.first_lent + index as u32
    }

    /// Single frames that are free.
    pub(super) fn free(&self) -> usize {
        self.own.len()
    }

    /// Blocks that are free.
    pub(super) fn free_large(&self) -> usize {
        self.large.len()
    }

    /// Frames in `state`, whatever their kind, but for lent ones.
    pub(super) fn count(&self, state: State) -> usize {
        self.all[..self.first_lent as usize].iter().filter(|frame| frame.state == state).count()
    }

    /// How often frames are lent, and how often lent ones are mapped.
    pub(super) fn lent(&self) -> (u32, u32) {
        let lent = &self.all[self.first_lent as usize..];
        (lent.iter().map(|frame| frame.lent).sum(), lent.iter().map(|frame| frame.mapped + frame.unmapped).sum())
    }

    pub(super) fn take(&mut self, count: usize, word: u64) -> Result<Vec<u32>, FakeError> {
        let rest = self.own.len().checked_sub(count).ok_or(FakeError::NoFrames)?;
        let taken = self.own.split_off(rest);
        taken.iter().for_each(|&frame| self.hand_out(frame, word));
        Ok(taken)
    }

    pub(super) fn take_large(&mut self, word: u64) -> Option<Vec<u32>> {
        let first = self.large.pop()?;
        let taken: Vec<u32> = (first..first + LARGE as u32).collect();
        taken.iter().for_each(|&frame| self.hand_out(frame, word));
        Some(taken)
    }

    fn hand_out(&mut self, number: u32, word: u64) {
        let frame = self.at(number);
        assert_eq!((frame.state, frame.word), (State::Free, FREED), "frame {number} was written while it was free");
        (frame.state, frame.word) = (State::Taken, word);
        self.taken += 1;
    }

    pub(super) fn map(&mut self, number: u32) {
        let frame = self.at(number);
        if frame.kind == Kind::Lent {
            frame.mapped += 1;
            assert!(frame.mapped <= frame.lent, "lent frame {number} was mapped more often than it was lent");
        } else {
            assert_eq!(frame.state, State::Taken, "frame {number} was mapped");
            frame.state = State::Mapped;
            self.mapped += 1;
        }
    }

    pub(super) fn unmap(&mut self, number: u32) {
        let frame = self.at(number);
        if frame.kind == Kind::Lent {
            assert!(
                frame.mapped > frame.lent,
                "lent frame {number} was unmapped before it was noted that it is not lent"
            );
            frame.mapped -= 1;
            frame.unmapped += 1;
        } else {
            assert_eq!(frame.state, State::Mapped, "frame {number} was unmapped");
            frame.state = State::Unmapped;
            self.mapped -= 1;
        }
    }

    /// Takes a frame back that is no lent one.
    pub(super) fn give(&mut self, number: u32) {
        let frame = self.at(number);
        assert_ne!(frame.kind, Kind::Lent, "lent frame {number} was given to the allocator");
        assert!(
            matches!(frame.state, State::Taken | State::Unmapped),
            "frame {number} came back while it was {:?}",
            frame.state
        );
        (frame.state, frame.word) = (State::Free, FREED);
        if frame.kind == Kind::Own {
            self.own.push(number);
        } else {
            self.give_large(number);
        }
    }

    /// A block is free when all of it is.
    fn give_large(&mut self, number: u32) {
        let first = number - number % LARGE as u32;
        let block = &self.all[first as usize..first as usize + LARGE];
        if number as usize % LARGE == LARGE - 1 {
            assert!(block.iter().all(|frame| frame.state == State::Free), "a part of a block came back");
            self.large.push(first);
        }
    }

    pub(super) fn lend(&mut self, number: u32, twice: bool) -> Result<(), FakeError> {
        let frame = self.at(number);
        assert_eq!(frame.kind, Kind::Lent, "frame {number} was lent");
        if frame.lent > 0 && !twice {
            return Err(FakeError::LentTwice);
        }
        frame.lent += 1;
        Ok(())
    }

    pub(super) fn unlend(&mut self, number: u32) {
        let frame = self.at(number);
        assert!(frame.lent > 0, "frame {number} was taken back, and was not lent");
        frame.lent -= 1;
    }

    /// A lent frame that was mapped comes back.
    pub(super) fn give_lent(&mut self, number: u32) {
        let frame = self.at(number);
        assert_eq!(frame.kind, Kind::Lent, "frame {number} was given as a lent one");
        assert!(frame.unmapped > 0, "lent frame {number} came back once too often");
        frame.unmapped -= 1;
    }
}
