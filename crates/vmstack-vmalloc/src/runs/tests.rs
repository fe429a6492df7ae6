use core::cell::RefCell;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{Fit, Run, Runs, list_from, list_of};
use crate::chunk::{Chunk, State};
use crate::layout::ChunkIndex;
use crate::meta::Chunks;

const COUNT: u32 = 300;

struct Fake(Vec<Chunk>);

impl Fake {
    fn new() -> Self {
        // SAFETY: a chunk's record is atomics, and room for frames: valid as zero.
        Self((0..COUNT).map(|_| unsafe { core::mem::zeroed() }).collect())
    }
}

impl Chunks for Fake {
    fn chunk(&self, chunk: ChunkIndex) -> &Chunk {
        &self.0[chunk.get() as usize]
    }
}

/// Runs over the fake's chunks, all of which are free.
fn all_free(fake: &Fake) -> Runs {
    let mut runs = Runs::new();
    give(&mut runs, fake, Run { start: ChunkIndex::new(0), len: COUNT });
    runs
}

fn give(runs: &mut Runs, fake: &Fake, run: Run) {
    (0..run.len).for_each(|i| fake.chunk(run.start.up(i)).set_state(State::Free));
    runs.give(run, (0, COUNT), fake);
}

fn take(runs: &mut Runs, fake: &Fake, fit: Fit) -> Option<Run> {
    let run = runs.take(fit, fake)?;
    (0..run.len).for_each(|i| fake.chunk(run.start.up(i)).set_state(State::Taken));
    Some(run)
}

#[test]
fn every_run_of_the_list_that_is_searched_is_long_enough() {
    for len in 1..5000 {
        let list = list_from(len);
        let shortest = (1..10_000).find(|&other| list_of(other) == list).expect("every list has a length");
        assert!(shortest >= len, "a run of {shortest} is found for {len}");
    }
}

#[test]
fn what_is_given_back_in_any_order_is_one_run_again() {
    let fake = Fake::new();
    let mut runs = all_free(&fake);
    let fit = |len| Fit { len, align: 1, base: 0 };
    let taken: Vec<Run> = (1..20).map(|len| take(&mut runs, &fake, fit(len)).expect("there is room")).collect();
    for run in taken.iter().skip(1).step_by(2).chain(taken.iter().step_by(2)) {
        give(&mut runs, &fake, *run);
    }
    assert_eq!(runs.measure(&fake), (COUNT, 1));
    assert_eq!(take(&mut runs, &fake, fit(COUNT)), Some(Run { start: ChunkIndex::new(0), len: COUNT }));
}

proptest! {
    /// Runs never overlap, lie as asked, and one is refused only if none is long enough by an eighth and its alignment.
    #[test]
    fn runs_are_as_a_set_of_chunks(ops in proptest::collection::vec((any::<bool>(), 1_u32..40, 0_u32..5, 0_u32..7), 1..200)) {
        let fake = Fake::new();
        let (runs, mut free): (_, BTreeSet<u32>) = (RefCell::new(all_free(&fake)), (0..COUNT).collect());
        let mut taken: Vec<Run> = Vec::new();
        for (gives, len, align, base) in ops {
            let mut runs = runs.borrow_mut();
            if gives && !taken.is_empty() {
                let run = taken.swap_remove(len as usize % taken.len());
                free.extend(run.start.get()..run.start.get() + run.len);
                give(&mut runs, &fake, run);
            } else {
                let fit = Fit { len, align: 1 << align, base };
                match take(&mut runs, &fake, fit) {
                    Some(run) => {
                        prop_assert_eq!((run.start.get() + base) % (1 << align), 0);
                        prop_assert_eq!(run.len, len);
                        (run.start.get()..run.start.get() + len).for_each(|i| assert!(free.remove(&i), "chunk {i} is taken twice"));
                        taken.push(run);
                    }
                    None => prop_assert!(longest(&free) < len + len / 8 + 1 + (1 << align), "refused {fit:?}"),
                }
            }
            prop_assert_eq!(runs.chunks as usize, free.len());
            prop_assert_eq!(runs.measure(&fake).0, longest(&free));
        }
    }
}

fn longest(free: &BTreeSet<u32>) -> u32 {
    let (mut longest, mut len, mut last) = (0, 0, u32::MAX);
    for &chunk in free {
        len = if last.wrapping_add(1) == chunk { len + 1 } else { 1 };
        (last, longest) = (chunk, longest.max(len));
    }
    longest
}
