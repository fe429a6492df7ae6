//! Who is woken by time: a wheel of wheels.
//!
//! Each wheel has 64 places. In the first a place is a tick; in the next it is a turn of the first; and so on (Varghese and Lauck,
//! SOSP 1987). When a place's time comes, those in it go to a finer wheel, or are due. So putting somebody in and taking somebody out
//! takes constant time, and a tick costs those whom it moves.
//!
//! ```text
//!   wheel 0   | 1 tick each   |  up to     64 ticks ahead
//!   wheel 1   | 64 ticks      |  up to  4,096
//!   wheel 2   | 4,096         |  up to  262,144
//!   wheel 3   | 262,144       |  and who is later than that goes round again
//! ```
//!
//! How many are moved or due at once has a bound, which the caller sets: the clock of the wheels then stays behind until the rest is
//! done.

use super::list::{InTimer, List};
use super::scheduling::{NEVER, Node};

const WHEELS: usize = 4;
const BITS: u32 = 6;
const PLACES: usize = 1 << BITS;

/// Everybody whom the timer wakes.
#[derive(Debug)]
pub(crate) struct Timers {
    wheels: [[List<InTimer>; PLACES]; WHEELS],
    /// The last tick that everybody was taken out for.
    now: u64,
}

/// The wheel and the place, by number, for who is due at `at`, seen from `now`.
fn place(now: u64, at: u64) -> u16 {
    let ahead = at.saturating_sub(now).min((1 << (BITS * WHEELS as u32)) - 1);
    let wheel = ahead.max(1).ilog2() / BITS;
    let place = ((now + ahead) >> (BITS * wheel)) as usize % PLACES;
    (wheel as usize * PLACES + place) as u16
}

impl Timers {
    pub(crate) const fn new() -> Self {
        Self { wheels: [const { [const { List::new() }; PLACES] }; WHEELS], now: 0 }
    }

    /// Whether ticks up to `until` have come for which somebody may be left.
    pub(crate) const fn is_behind(&self, until: u64) -> bool {
        self.now < until
    }

    fn list(&self, place: u16) -> &List<InTimer> {
        &self.wheels[usize::from(place) / PLACES][usize::from(place) % PLACES]
    }

    fn put(&self, node: Node, now: u64, at: u64) {
        let place = place(now, at);
        node.timer_place.set(place);
        self.list(place).push(node);
    }

    /// Puts `node`, which is not here, where its tick is; into the next one if that is over. Nobody who is woken [`NEVER`] is here.
    pub(crate) fn insert(&mut self, node: Node) {
        let at = node.wake_at.get();
        if at != NEVER {
            self.put(node, self.now, at.max(self.now + 1));
        }
    }

    /// Takes `node` out, if it is here.
    pub(crate) fn remove(&mut self, node: Node) {
        if node.wake_at.replace(NEVER) != NEVER {
            self.list(node.timer_place.get()).remove(node);
        }
    }

    /// Lets the time go on to `until`, and hands those who are due to `due`. No more than `most` are moved or due: then the time stays
    /// behind.
    pub(crate) fn advance(&mut self, until: u64, most: usize, mut due: impl FnMut(Node)) {
        let mut left = most;
        while self.now < until {
            let tick = self.now + 1;
            if !self.bring_down(tick, &mut left) || !self.take_due(tick, &mut left, &mut due) {
                return;
            }
            self.now = tick;
        }
    }

    /// Moves those who are due in the turns that begin with `tick` from coarse wheels to finer ones. False if there are too many.
    fn bring_down(&self, tick: u64, left: &mut usize) -> bool {
        for wheel in (1..WHEELS).rev() {
            let shift = BITS * wheel as u32;
            if tick.trailing_zeros() < shift {
                continue;
            }
            let list = &self.wheels[wheel][(tick >> shift) as usize % PLACES];
            while let Some(node) = next_of(list, left) {
                self.put(node, tick, node.wake_at.get());
            }
            if !list.is_empty() {
                return false;
            }
        }
        true
    }

    /// Hands those who are due in `tick` to `due`. False if there are too many.
    fn take_due(&self, tick: u64, left: &mut usize, mut due: impl FnMut(Node)) -> bool {
        let list = &self.wheels[0][tick as usize % PLACES];
        while let Some(node) = next_of(list, left) {
            node.wake_at.set(NEVER);
            due(node);
        }
        list.is_empty()
    }
}

/// Takes the first off `list`, unless none is `left` to be touched.
fn next_of(list: &List<InTimer>, left: &mut usize) -> Option<Node> {
    if *left == 0 {
        return None;
    }
    let node = list.pop()?;
    *left -= 1;
    Some(node)
}
