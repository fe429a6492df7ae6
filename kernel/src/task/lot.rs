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
        Self { buckets: [const { List::new() }; BUCKETS], parked: 0, numbers: 0 }
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

    /// The number that the next one gets: the end of a wake that begins now.
    pub(crate) const fn end(&self) -> u64 {
        self.numbers
    }

    /// Asks `choose` about those who parked on `key` before `end`, in their order, and hands who wakes to `woken`. Whether that was all:
    /// after `most` who were woken or moved there is a pause, in which the caller should let go of the lock.
    ///
    /// Who is left where it is does not count towards a pause: the next piece finds it again.
    pub(crate) fn choose(
        &mut self,
        key: Key,
        end: u64,
        most: usize,
        mut choose: impl FnMut(&Node) -> Choice,
        mut woken: impl FnMut(Node),
    ) -> bool {
        let (mut next, mut left) = (self.first_on(key), most);
        while let Some(node) = next
            && node.since.get() < end
        {
            if left == 0 {
                return false;
            }
            next = Self::after(node);
            match choose(&node) {
                Choice::Stop => return true,
                Choice::Leave => continue,
                Choice::Wake => {
                    self.remove(node);
                    woken(node);
                }
                Choice::Move(to) => {
                    self.remove(node);
                    self.park(node, to);
                }
            }
            left -= 1;
        }
        true
    }
}
