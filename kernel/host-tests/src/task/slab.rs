//! The store of task structs: each object is somebody's or free, frames go back when nothing in them is used, and a recount agrees.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeSet;
use std::ptr::NonNull;

use super::store::{ALIGN, Census, FRAME, Store};
use crate::memory::Random;

fn layout() -> Layout {
    Layout::from_size_align(FRAME, FRAME).expect("a frame has a layout")
}

/// A frame of the host, filled with rubbish.
fn new_frame() -> NonNull<u8> {
    // SAFETY: the layout has a size.
    let frame = NonNull::new(unsafe { alloc(layout()) }).expect("the host has memory");
    // SAFETY: the frame was allocated a moment ago.
    unsafe { frame.write_bytes(0xa5, FRAME) };
    frame
}

/// A store, the objects that are used, and how many frames it has.
struct Model {
    store: Store,
    bytes: usize,
    used: Vec<NonNull<u8>>,
    frames: BTreeSet<usize>,
}

impl Model {
    fn new(bytes: usize) -> Self {
        let mut store = Store::new();
        assert!(store.set_size(bytes));
        Self { store, bytes, used: Vec::new(), frames: BTreeSet::new() }
    }

    fn take(&mut self) {
        let object = self.store.take().unwrap_or_else(|| {
            let frame = new_frame();
            self.frames.insert(frame.addr().get());
            // SAFETY: the frame is new, and goes back only when the store returns it.
            unsafe { self.store.add(frame) };
            self.store.take().expect("a new frame has an object")
        });
        // SAFETY: the object is this one's, whole.
        unsafe { object.write_bytes(self.used.len() as u8, self.bytes) };
        self.used.push(object);
    }

    fn give(&mut self, place: usize) {
        let object = self.used.swap_remove(place);
        // SAFETY: it was taken, and is forgotten.
        if let Some(frame) = unsafe { self.store.give(object) } {
            assert!(self.frames.remove(&frame.addr().get()), "a frame that the store had");
            // SAFETY: it was allocated by `new_frame`, and the store has let go of it.
            unsafe { dealloc(frame.as_ptr(), layout()) };
        }
    }

    fn check(&self) {
        assert_eq!(self.store.recount(), Census { frames: self.frames.len(), used: self.used.len() });
        let mut ranges: Vec<_> = self.used.iter().map(|object| object.addr().get()).collect();
        ranges.sort_unstable();
        assert!(ranges.iter().all(|start| start.is_multiple_of(ALIGN)));
        assert!(ranges.windows(2).all(|pair| pair[0] + self.bytes <= pair[1]), "two objects overlap");
        let inside =
            |start: &usize| self.frames.contains(&(start & !(FRAME - 1))) && start % FRAME + self.bytes <= FRAME;
        assert!(ranges.iter().all(inside), "an object is not in a frame");
        let needed = self.frames.iter().all(|frame| ranges.iter().any(|start| start & !(FRAME - 1) == *frame));
        assert!(needed, "a frame is kept of which nothing is used");
    }
}

#[test]
fn any_sequence_keeps_objects_apart_and_every_frame_counted() {
    for (seed, bytes) in (1..60).flat_map(|seed| [64, 100, 1344, 1537, 2000, 4032].map(|bytes| (seed, bytes))) {
        let mut random = Random(seed * 0x2545_f491);
        let mut model = Model::new(bytes);
        for _ in 0..120 {
            if random.next() % 5 < 3 {
                model.take();
            } else if !model.used.is_empty() {
                model.give((random.next() % model.used.len() as u64) as usize);
            }
            model.check();
        }
        while !model.used.is_empty() {
            model.give(0);
        }
        assert_eq!(model.store.recount(), Census::default());
    }
}

#[test]
fn what_does_not_fit_into_a_frame_is_refused() {
    assert!(Store::new().set_size(FRAME - ALIGN));
    assert!(!Store::new().set_size(FRAME - ALIGN + 1));
    assert!(!Store::new().set_size(0));
}
