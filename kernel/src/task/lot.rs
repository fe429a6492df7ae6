//! The parking lot: everybody who waits for something other than time.
//!
//! Keys are hashed into buckets. In a bucket stands the *first* who parked on each key that there is, and those who came after it are
//! its followers, in their order. So a wake finds its queue in a step or two however many tasks wait for other things, and costs what
//! it wakes. When the first one goes, the next takes its place.
//!
//! ```text
//!   bucket ──> first on key A ──> first on key B
//!                  │ followers        │ followers
//!                  v                  v
//!                second             second ──> third
//! ```
//!
//! Everybody gets a number when it parks. A wake that is done in pieces, so that nobody waits long for the lock, stops before those
//! who parked after it began: who is woken and parks again is not woken twice.
//!
//! Who is asked and left is in the way of the next piece, and a program chooses how many they are. So between two pieces a *finger* stays
//! on whoever is to be asked next, and moves on when that one goes. There are a few: a wake whose finger another took begins at the
//! front again, and by the numbers asks nobody twice. It is the lot's, not the waker's, who may be killed meanwhile (INV-PRIVATE).

use super::list::{InBucket, InQueue, List};
use super::scheduling::{Key, Node};

/// How many buckets there are.
const BUCKETS: usize = 4096;
/// 2^64 divided by the golden ratio: Knuth, The Art of Computer Programming, 6.4.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Everybody who is parked.
#[derive(Debug)]
pub(crate) struct Lot {
    buckets: [List<InBucket>; BUCKETS],
    /// How many there are.
    parked: usize,
    /// How many there ever were.
    numbers: u64,
    fingers: [Finger; FINGERS],
    /// How many of the fingers are on somebody.
    pointing: usize,
    /// How many wakes ever needed one.
    walks: u64,
}

/// How many wakes can keep their places at once.
const FINGERS: usize = 8;

/// Who is to be asked next by a wake, which is known by its number. Zero: by none.
#[derive(Clone, Copy, Debug)]
struct Finger {
    walk: u64,
    at: Option<Node>,
}

impl Finger {
    const NONE: Self = Self { walk: 0, at: None };
}

/// A wake that is under way.
#[derive(Debug)]
pub(crate) struct Walk {
    key: Key,
    /// Who parked before the first number was asked; who parked from the second on is not.
    from: u64,
    end: u64,
    /// Its number; zero while it needs no finger.
    number: u64,
}

/// What is to be done with somebody who is parked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Choice {
    /// It is woken.
    Wake,
    /// It parks on another key, as the last there.
    Move(Key),
    /// It stays.
    Leave,
    /// It stays, and so does everybody after it.
    Stop,
}

fn bucket_of(key: Key) -> usize {
    let mixed = (key.0 as u64).rotate_left(17) ^ key.1 as u64;
    (mixed.wrapping_mul(GOLDEN) >> (u64::BITS - BUCKETS.trailing_zeros())) as usize
}

impl Lot {
    pub(crate) const fn new() -> Self {
        Self {
            buckets: [const { List::new() }; BUCKETS],
            parked: 0,
            numbers: 0,
            fingers: [Finger::NONE; FINGERS],
            pointing: 0,
            walks: 0,
        }
    }

    /// How many are parked.
    pub(crate) const fn parked(&self) -> usize {
        self.parked
    }

    /// The first who is parked on `key`.
    fn first_on(&self, key: Key) -> Option<Node> {
        let mut next = self.buckets[bucket_of(key)].first();
        while let Some(node) = next
            && node.parked_on.get() != key
        {
            next = List::<InBucket>::after(node);
        }
        next
    }

    /// Who parked next on the same key as `node`.
    fn after(node: Node) -> Option<Node> {
        if node.is_first.get() { node.followers.first() } else { List::<InQueue>::after(node) }
    }

    /// Parks `node`, which is not parked, on `key`: the last to be woken.
    pub(crate) fn park(&mut self, node: Node, key: Key) {
        node.parked_on.set(key);
        node.since.set(self.numbers);
        self.numbers += 1;
        self.parked += 1;
        match self.first_on(key) {
            Some(first) => first.followers.push(node),
            None => {
                node.is_first.set(true);
                self.buckets[bucket_of(key)].push(node);
            }
        }
    }

    /// Takes `node`, which is parked, out.
    pub(crate) fn remove(&mut self, node: Node) {
        self.parked -= 1;
        if self.pointing != 0 {
            self.move_fingers(node);
        }
        let key = node.parked_on.get();
        if !node.is_first.take() {
            if let Some(first) = self.first_on(key) {
                first.followers.remove(node);
            }
            return;
        }
        let bucket = &self.buckets[bucket_of(key)];
        bucket.remove(node);
        if let Some(heir) = node.followers.pop() {
            node.followers.move_to(&heir.followers);
            heir.is_first.set(true);
            bucket.push(heir);
        }
    }

    /// Moves those fingers on that are on `node`, which goes.
    fn move_fingers(&mut self, node: Node) {
        for finger in self.fingers.iter_mut().filter(|finger| finger.at == Some(node)) {
            finger.at = Self::after(node);
            self.pointing -= usize::from(finger.at.is_none());
        }
    }

    /// Keeps the place of `walk`, which goes on with `node`.
    fn point(&mut self, walk: &mut Walk, node: Node) {
        if walk.number == 0 {
            self.walks += 1;
            walk.number = self.walks;
        }
        let finger = &mut self.fingers[walk.number as usize % FINGERS];
        self.pointing += usize::from(finger.at.is_none());
        *finger = Finger { walk: walk.number, at: Some(node) };
    }

    /// With whom `walk` goes on.
    fn resume(&mut self, walk: &Walk) -> Option<Node> {
        let finger = &mut self.fingers[walk.number as usize % FINGERS];
        if walk.number == 0 || finger.walk != walk.number {
            return self.first_on(walk.key);
        }
        self.pointing -= usize::from(finger.at.is_some());
        core::mem::replace(finger, Finger::NONE).at
    }

    /// A wake of those who are parked on `key` now.
    pub(crate) const fn walk(&self, key: Key) -> Walk {
        Walk { key, from: 0, end: self.numbers, number: 0 }
    }

    /// Asks `choose` about those whom `walk` is to ask, in their order, and hands who wakes to `woken`. Whether that was all: after `most` of
    /// them there is a pause, in which the caller should let go of the lock.
    pub(crate) fn choose(
        &mut self,
        walk: &mut Walk,
        most: usize,
        mut choose: impl FnMut(&Node) -> Choice,
        mut woken: impl FnMut(Node),
    ) -> bool {
        let (mut next, mut left) = (self.resume(walk), most);
        while let Some(node) = next
            && node.since.get() < walk.end
        {
            if left == 0 {
                self.point(walk, node);
                return false;
            }
            left -= 1;
            next = Self::after(node);
            if node.since.get() < walk.from {
                continue;
            }
            walk.from = node.since.get() + 1;
            match choose(&node) {
                Choice::Stop => return true,
                Choice::Leave => {}
                Choice::Wake => {
                    self.remove(node);
                    woken(node);
                }
                Choice::Move(to) => {
                    self.remove(node);
                    self.park(node, to);
                }
            }
        }
        true
    }
}
