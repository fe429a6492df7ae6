//! NUMA nodes: whoever asks for a node gets that node, and stacks go home.

mod fake;

use fake::{Area, Fake, FakeError, Flush, SIZE, Stack, area_of, assert_held_is_right};
use vmstack::{AllocError, Node};

const MIB: usize = 1 << 20;
/// How many stacks of other nodes are sent home together.
const TOGETHER: u64 = 16;

/// CPU and frame number *n* are on node *n* modulo `nodes`.
fn fake_of(nodes: usize, cpus: usize, frames: usize) -> Fake {
    Fake::new(cpus, frames, 16 * MIB, Flush::Now).on_nodes(nodes)
}

fn nodes_of(fake: &Fake, stack: &Stack<'_>) -> Vec<usize> {
    (0..SIZE / 4096).map(|page| fake.node_of(stack.bottom().wrapping_add(page * 4096)).index()).collect()
}

fn take_on<'f>(area: &'f Area<'f>, node: u8, count: usize) -> Vec<Stack<'f>> {
    (0..count).map(|i| area.alloc_on(Node::new(node), i).expect("there are enough")).collect()
}

#[test]
fn a_stack_is_on_the_node_of_its_cpu_or_on_the_one_that_was_asked_for() {
    let fake = fake_of(3, 3, 900);
    let area = area_of(&fake, 200);
    for round in 0..4 {
        let mut all = Vec::new();
        for cpu in 0..3 {
            fake.run_on(cpu);
            for node in 0..3 {
                let asked = take_on(&area, node, 12);
                assert!(asked.iter().all(|stack| nodes_of(&fake, stack) == [usize::from(node); 4]), "round {round}");
                all.extend(asked);
            }
            let here: Vec<_> = (0..12).map(|i| area.alloc(i).expect("there are enough")).collect();
            assert!(here.iter().all(|stack| nodes_of(&fake, stack) == [cpu; 4]), "round {round}");
            all.extend(here);
        }
        // Somewhere else than where it came from, in an order of its own.
        for (i, stack) in all.into_iter().enumerate() {
            fake.run_on((i * 7 + round) % 3);
            drop(stack);
        }
    }
    let counters = area.counters();
    assert!(counters.populated < counters.allocated / 2, "they come back: {counters:?}");
    assert_held_is_right(&area);
}

#[test]
fn a_node_that_the_area_does_not_have_is_refused() {
    let fake = fake_of(2, 2, 100);
    let area = area_of(&fake, 16);
    drop(area.alloc(1));
    area.leave_cpu();
    for node in [2, 255] {
        let node = Node::new(node);
        assert_eq!(area.alloc_on(node, 1).map(|_| ()), Err(AllocError::UnknownNode { node, nodes: 2 }));
    }
}

#[test]
fn stacks_of_other_nodes_go_home_in_batches_and_are_never_refused() {
    let fake = fake_of(4, 4, 1600);
    let area = area_of(&fake, 300);
    let far: Vec<_> = (1..4).map(|node| take_on(&area, node, 64)).collect();
    let before = area.counters().returned;
    // In turns, so that no two that follow each other have the same home.
    let mut far: Vec<_> = far.into_iter().map(Vec::into_iter).collect();
    while let Some(stack) = far[0].next() {
        drop((stack, far[1].next(), far[2].next()));
    }
    let counters = area.counters();
    assert_eq!(counters.released, 192, "none is refused");
    let batches = counters.returned - before;
    assert!(batches <= 3 * 192 / TOGETHER, "{batches} magazines for 192 stacks");
    // All but those that still wait for company are there for their own CPUs.
    for cpu in 1..4 {
        fake.run_on(cpu);
        drop((0..64 - TOGETHER as usize).map(|i| area.alloc(i).expect("there are enough")).collect::<Vec<_>>());
    }
    assert_eq!(area.counters().populated, 192);
    assert_held_is_right(&area);
}

#[test]
fn a_stack_of_another_node_is_taken_only_when_there_is_no_memory() {
    // Two nodes with frames for ten stacks each, beside the metadata.
    let fake = fake_of(2, 2, 2 * 40 + 4);
    let area = area_of(&fake, 64);
    fake.run_on(1);
    let theirs = take_on(&area, 1, 10);
    drop(theirs);
    area.leave_cpu();
    fake.run_on(0);
    let mut live = Vec::new();
    loop {
        match area.alloc(live.len()) {
            Ok(stack) => live.push(stack),
            Err(error) => break assert_eq!(error, AllocError::NoFrames(FakeError::NoFrames)),
        }
    }
    let nodes: Vec<usize> = live.iter().map(|stack| nodes_of(&fake, stack)[0]).collect();
    let own = nodes.iter().filter(|&&node| node == 0).count();
    assert!(own >= 10 && nodes[..own].iter().all(|&node| node == 0), "first all of its own: {nodes:?}");
    assert_eq!(nodes.len() - own, 10, "then all of the other's: {nodes:?}");
    assert_eq!(area.alloc_on(Node::new(0), 1).map(|_| ()), Err(AllocError::NoFrames(FakeError::NoFrames)));
}

#[test]
fn stacks_on_their_way_home_are_found_when_memory_is_short() {
    let fake = fake_of(2, 2, 2 * 40 + 4);
    let area = area_of(&fake, 64);
    // Everything of node 1, so that what is freed here waits on this CPU to be sent there.
    let mut far = Vec::new();
    while let Ok(stack) = area.alloc_on(Node::new(1), 1) {
        far.push(stack);
    }
    drop(far.split_off(far.len() - 3));
    let again = take_on(&area, 1, 2);
    assert!(again.iter().all(|stack| nodes_of(&fake, stack) == [1; 4]));
    drop(again);
    let mut own = Vec::new();
    while let Ok(stack) = area.alloc(1) {
        own.push(nodes_of(&fake, &stack)[0]);
        core::mem::forget(stack);
    }
    assert_eq!(own.iter().filter(|&&node| node == 1).count(), 3, "{own:?}");
}

#[test]
fn ones_own_node_can_be_asked_for_as_long_as_this_cpu_has_any() {
    let fake = fake_of(1, 1, 200);
    let area = area_of(&fake, 16);
    // Both magazines have some, and there is no slot left.
    drop((0..16).map(|i| area.alloc(i).expect("there are enough")).collect::<Vec<_>>());
    assert_eq!(take_on(&area, 0, 16).len(), 16);
    assert_eq!(area.counters().populated, 16);
}

#[test]
fn the_budget_holds_for_a_node_that_has_no_cpu() {
    let fake = fake_of(2, 1, 1700);
    let area = area_of(&fake, 256);
    area.set_budget(40);
    drop(take_on(&area, 1, 200));
    let ready = area.recount().ready;
    assert!(ready <= 20 + TOGETHER as usize, "{ready} are ready");
}

#[test]
fn there_may_be_256_nodes() {
    let fake = fake_of(256, 1, 256 * 24);
    let area = area_of(&fake, 64);
    drop(take_on(&area, 255, 5));
    drop(take_on(&area, 0, 5));
    area.leave_cpu();
    assert_eq!(area.recount().ready, 10);
    area.trim();
    area.trim();
    assert_eq!(area.recount().ready, 0, "trimmed on every node");
    let last = take_on(&area, 255, 5);
    drop(last);
    area.drain();
    assert_eq!(area.recount().ready, 0, "drained on every node");
}
