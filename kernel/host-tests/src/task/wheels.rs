//! The wheels of time: everybody wakes in the tick that was asked for, whatever the distance, and nobody who was taken out.

use super::Tasks;
use super::scheduling::NEVER;
use super::timers::Timers;
use crate::memory::Random;

/// Lets the time go on to `until`, in pieces of `most`, and says who woke.
fn advance(timers: &mut Timers, tasks: &Tasks, until: u64, most: usize) -> Vec<usize> {
    let mut due = Vec::new();
    while timers.is_behind(until) {
        timers.advance(until, most, |node| due.push(tasks.number(node)));
    }
    due
}

#[test]
fn everybody_wakes_in_its_tick_however_far_away_it_is() {
    const DISTANCES: [u64; 14] = [1, 2, 63, 64, 65, 127, 128, 4095, 4096, 4097, 8191, 262_143, 262_144, 262_145];
    // Further than the wheels reach, once.
    let far = [(1 << 24) - 1, 1 << 24, (1 << 24) + 777];
    for (start, far) in [(0, &far[..]), (1, &[]), (63, &[]), (64, &[]), (4095, &[]), (4100, &[])] {
        let distances = [&DISTANCES, far].concat();
        let tasks = Tasks::new(distances.len());
        let mut timers = Timers::new();
        advance(&mut timers, &tasks, start, 1);
        for (number, distance) in distances.iter().enumerate() {
            tasks.node(number).wake_at.set(start + distance);
            timers.insert(tasks.node(number));
        }
        for (number, distance) in distances.iter().enumerate() {
            assert_eq!(advance(&mut timers, &tasks, start + distance - 1, 3), [], "{start} + {distance}");
            assert_eq!(advance(&mut timers, &tasks, start + distance, 3), [number], "{start} + {distance}");
        }
    }
}

#[test]
fn a_time_that_is_over_is_the_next_tick_and_never_is_never() {
    let tasks = Tasks::new(2);
    let mut timers = Timers::new();
    advance(&mut timers, &tasks, 100, 1);
    tasks.node(0).wake_at.set(7);
    timers.insert(tasks.node(0));
    tasks.node(1).wake_at.set(NEVER);
    timers.insert(tasks.node(1));
    assert_eq!(advance(&mut timers, &tasks, 101, 1), [0]);
    assert_eq!(advance(&mut timers, &tasks, 10_000, 1), []);
}

#[test]
fn many_in_one_tick_wake_in_pieces_in_the_order_in_which_they_came() {
    let tasks = Tasks::new(100);
    let mut timers = Timers::new();
    for number in 0..100 {
        tasks.node(number).wake_at.set(5000);
        timers.insert(tasks.node(number));
    }
    let mut due = Vec::new();
    timers.advance(4999, usize::MAX, |node| due.push(tasks.number(node)));
    assert_eq!(due, []);
    let mut pieces = 0;
    while timers.is_behind(5000) {
        let before = due.len();
        timers.advance(5000, 10, |node| due.push(tasks.number(node)));
        assert!(due.len() - before <= 10);
        pieces += 1;
    }
    assert!(pieces >= 10);
    assert_eq!(due, (0..100).collect::<Vec<_>>());
}

#[test]
fn any_sequence_wakes_those_who_are_due_and_no_others() {
    const TASKS: usize = 50;
    for seed in 1..200 {
        let mut random = Random(seed * 0x1234_5679);
        let tasks = Tasks::new(TASKS);
        let mut timers = Timers::new();
        let mut model: [Option<u64>; TASKS] = [None; TASKS];
        let mut now = 0;
        for _ in 0..200 {
            let number = (random.next() % TASKS as u64) as usize;
            match (random.next() % 4, model[number]) {
                (0, Some(_)) => {
                    timers.remove(tasks.node(number));
                    model[number] = None;
                }
                (0..3, None) => {
                    let at = now + random.next() % (1 << (random.next() % 20));
                    tasks.node(number).wake_at.set(at);
                    timers.insert(tasks.node(number));
                    model[number] = Some(at.max(now + 1));
                }
                (3, _) => {
                    now += random.next() % 1000;
                    let mut due = advance(&mut timers, &tasks, now, 1 + (random.next() % 5) as usize);
                    due.sort_unstable();
                    let is_due = |number: &usize| model[*number].is_some_and(|at| at <= now);
                    assert_eq!(due, (0..TASKS).filter(is_due).collect::<Vec<_>>());
                    due.iter().for_each(|&number| model[number] = None);
                }
                _ => {}
            }
        }
    }
}
