//! Simulated NUMA nodes: who asks for a node gets that node, and what is given back elsewhere goes home.

use std::sync::Barrier;
use std::sync::mpsc::channel;

use vmstack::{KernelStack, Node};
use vmstack_hosted::{Config, Hosted, Machine};

const SIZE: usize = 16 << 10;
const PAGE: usize = 4 << 10;

type Stack<'m> = KernelStack<'m, Hosted>;

fn two_nodes(slots: usize) -> Config {
    Config::new(slots, SIZE).cpus(2).nodes(2)
}

/// The node that all pages of `stack` are on.
fn node(machine: &Machine, stack: &Stack<'_>) -> Node {
    let pages = (0..SIZE).step_by(PAGE).map(|offset| machine.node_of(stack.bottom().wrapping_add(offset)));
    let nodes: Vec<_> = pages.map(|node| node.expect("every page is mapped")).collect();
    assert!(nodes.iter().all(|&node| node == nodes[0]), "a stack lies on several nodes: {nodes:?}");
    nodes[0]
}

fn assert_on(machine: &Machine, stacks: &[Stack<'_>], wanted: u8) {
    assert!(stacks.iter().all(|stack| node(machine, stack) == Node::new(wanted)), "not all are on node {wanted}");
}

fn take(machine: &Machine, count: usize) -> Vec<Stack<'_>> {
    (0..count).map(|_| machine.area().alloc(0).expect("there is memory")).collect()
}

fn take_on(machine: &Machine, node: u8, count: usize) -> Vec<Stack<'_>> {
    (0..count).map(|_| machine.area().alloc_on(Node::new(node), 0).expect("there is memory")).collect()
}

/// Runs `first` on a CPU of node 0 and `second` on one of node 1, at the same time.
fn on_both<'m>(machine: &'m Machine, first: impl FnOnce() + Send + 'm, second: impl FnOnce() + Send + 'm) {
    let ready = Barrier::new(2);
    std::thread::scope(|scope| {
        let here = machine.cpu().expect("nobody is CPU 0");
        scope.spawn(|| {
            let _cpu = machine.cpu().expect("nobody is CPU 1");
            ready.wait();
            second();
            ready.wait();
        });
        ready.wait();
        first();
        ready.wait();
        drop(here);
    });
}

#[test]
fn a_stack_is_on_the_node_of_its_cpu_cold_and_warm() {
    let machine = Machine::new(&two_nodes(64)).expect("a machine");
    let pass = |wanted| {
        for _ in 0..3 {
            assert_on(&machine, &take(&machine, 20), wanted);
        }
    };
    on_both(&machine, || pass(0), || pass(1));
}

#[test]
fn who_asks_for_a_node_gets_that_node_or_an_error() {
    let machine = Machine::new(&two_nodes(400).frames(800)).expect("a machine");
    let _cpu = machine.cpu().expect("a CPU");
    for wanted in [1, 0, 1] {
        let stacks = take_on(&machine, wanted, 40);
        assert_on(&machine, &stacks, wanted);
    }
    // Stacks of node 0 are ready, and frames are free there.
    let mut held = Vec::new();
    while let Ok(stack) = machine.area().alloc_on(Node::new(1), 0) {
        held.push(stack);
    }
    assert_on(&machine, &held, 1);
    assert!(machine.area().alloc_on(Node::new(1), 0).is_err(), "node 1 is full");
    assert!(machine.area().alloc_on(Node::new(2), 0).is_err(), "there is no node 2");
    assert!(machine.area().alloc_on(Node::new(0), 0).is_ok());
}

#[test]
fn who_asks_for_no_node_gets_whatever_there_is() {
    let machine = Machine::new(&two_nodes(400).frames(800)).expect("a machine");
    let _cpu = machine.cpu().expect("a CPU");
    let mut held = Vec::new();
    while let Ok(stack) = machine.area().alloc(0) {
        held.push(node(&machine, &stack).index());
        // Kept until the machine goes.
        let _ = stack.into_raw();
    }
    let first_elsewhere = held.iter().position(|&node| node == 1).expect("node 1 has memory too");
    assert!(held[first_elsewhere..].iter().all(|&node| node == 1), "its own node comes first: {held:?}");
    assert!(first_elsewhere > 80 && held.len() - first_elsewhere > 80, "{held:?}");
}

#[test]
fn a_stack_that_is_given_back_on_another_node_goes_home() {
    let machine = Machine::new(&two_nodes(256)).expect("a machine");
    let shared = &machine;
    let (send, receive) = channel();
    let (done, wait) = channel();
    on_both(
        shared,
        move || {
            send.send(take(shared, 100)).expect("the other CPU waits for them");
            wait.recv().expect("the other CPU gives them back");
            let populated = shared.area().counters().populated;
            assert_on(shared, &take(shared, 90), 0);
            // All but those that the other CPU still has on their way came back ready.
            assert!(shared.area().counters().populated <= populated + 6, "{:?}", shared.area().counters());
        },
        move || {
            drop(receive.recv().expect("the other CPU sends them"));
            assert_on(shared, &take(shared, 30), 1);
            done.send(()).expect("the other CPU waits");
        },
    );
    let counters = machine.area().counters();
    assert_eq!((counters.refused, counters.leaked, counters.held), (0, 0, 0), "{counters:?}");
    let recount = machine.area().recount();
    assert_eq!((recount.live, recount.ready, recount.miscounted), (0, 0, 0), "{recount:?}");
}

#[test]
fn a_cpu_that_goes_leaves_its_stacks_to_the_others_and_the_last_gives_the_frames_back() {
    let machine = Machine::new(&Config::new(64, SIZE).cpus(2)).expect("a machine");
    on_both(&machine, || (), || drop(take(&machine, 10)));
    assert_eq!(machine.area().counters().held, 0, "the last CPU has gone");
    let stays = machine.cpu().expect("a CPU");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _goes = machine.cpu().expect("another");
            drop(take(&machine, 10));
        });
    });
    let populated = machine.area().counters().populated;
    assert_eq!(machine.area().counters().held, 10 * SIZE as u64);
    drop(take(&machine, 10));
    assert_eq!(machine.area().counters().populated, populated, "they were ready");
    drop(stays);
    assert_eq!(machine.area().counters().held, 0);
    assert_eq!(machine.frames().taken, machine.area().recount().metadata_pages);
}

#[test]
fn there_are_no_nodes_without_an_area_that_can_have_them() {
    assert!(Machine::new(&Config::new(8, SIZE).nodes(0)).is_err());
    assert!(Machine::new(&Config::new(8, SIZE).nodes(257)).is_err());
    let sparse = Machine::new(&Config::new(8, SIZE).cpus(1).nodes(5)).expect("nodes without CPUs are nodes");
    let _cpu = sparse.cpu().expect("a CPU");
    assert_on(&sparse, &take_on(&sparse, 4, 1), 4);
}
