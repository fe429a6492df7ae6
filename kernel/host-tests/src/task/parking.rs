//! The parking lot: first come, first served, whatever else happens; compared with a list that is searched from end to end.

use std::cell::RefCell;

use super::Tasks;
use super::lot::{Choice, Lot, Walk};
use super::scheduling::Key;
use crate::memory::Random;

/// Everybody who is parked, in the order in which they parked, each with its key.
type Model = Vec<(usize, Key)>;

/// Wakes or moves as `choose` says, in pieces of `most`, and says who was woken.
fn wake(lot: &mut Lot, tasks: &Tasks, key: Key, most: usize, mut choose: impl FnMut(usize) -> Choice) -> Vec<usize> {
    let woken = RefCell::new(Vec::new());
    let mut walk = lot.walk(key);
    while !lot.choose(
        &mut walk,
        most,
        |&node| choose(tasks.number(node)),
        |node| {
            woken.borrow_mut().push(tasks.number(node));
        },
    ) {}
    woken.into_inner()
}

fn parked_on(model: &Model, key: Key) -> Vec<usize> {
    model.iter().filter(|(_, at)| *at == key).map(|(task, _)| *task).collect()
}

#[test]
fn who_parked_first_is_woken_first_and_others_stay() {
    let tasks = Tasks::new(6);
    let mut lot = Lot::new();
    for task in 0..6 {
        lot.park(tasks.node(task), Key(task % 2, 0));
    }
    assert_eq!(wake(&mut lot, &tasks, Key(0, 0), 1, |_| Choice::Wake), [0, 2, 4]);
    assert_eq!(lot.parked(), 3);
    assert_eq!(wake(&mut lot, &tasks, Key(0, 0), 1, |_| Choice::Wake), []);
    assert_eq!(
        wake(&mut lot, &tasks, Key(1, 0), 9, |task| if task == 5 { Choice::Leave } else { Choice::Wake }),
        [1, 3]
    );
    assert_eq!(lot.parked(), 1);
}

#[test]
fn who_parks_again_while_a_wake_goes_on_is_not_woken_by_it() {
    let tasks = Tasks::new(3);
    let mut lot = Lot::new();
    let key = Key(7, 1);
    (0..3).for_each(|task| lot.park(tasks.node(task), key));
    let mut walk = lot.walk(key);
    let mut woken = Vec::new();
    for _ in 0..10 {
        let mut now = None;
        let done = lot.choose(&mut walk, 1, |_| Choice::Wake, |node| now = Some(node));
        if let Some(node) = now {
            woken.push(tasks.number(node));
            lot.park(node, key);
        }
        if done {
            break;
        }
    }
    assert_eq!(woken, [0, 1, 2]);
    assert_eq!(lot.parked(), 3);
}

#[test]
fn whoever_is_moved_keeps_its_place_behind_those_who_are_there() {
    let tasks = Tasks::new(5);
    let mut lot = Lot::new();
    let (from, to) = (Key(1, 0), Key(2, 0));
    lot.park(tasks.node(4), to);
    (0..4).for_each(|task| lot.park(tasks.node(task), from));
    let mut asked = 0;
    let woken = wake(&mut lot, &tasks, from, 2, |_| {
        asked += 1;
        if asked == 1 { Choice::Wake } else { Choice::Move(to) }
    });
    assert_eq!(woken, [0]);
    assert_eq!(wake(&mut lot, &tasks, to, 2, |_| Choice::Wake), [4, 1, 2, 3]);
    assert_eq!(lot.parked(), 0);
}

#[test]
fn no_word_of_a_program_is_what_the_kernel_waits_for() {
    let memory = 0xffff_c940_0000_1000;
    // Fields of the memory itself, of which one has its address; and the words that a program can choose.
    for field in (0..256).step_by(8) {
        for word in [0, 4, memory + field] {
            assert_ne!(Key::of_word(memory, word), Key::from(memory + field));
            assert_ne!(Key::of_common_word(word), Key::from(memory + field));
            assert_ne!(Key::of_common_word(word), Key::of_word(memory, word));
        }
    }
}

/// A piece of `walk`, in which nobody is woken: who was asked, and whether that was all.
fn look(lot: &mut Lot, tasks: &Tasks, walk: &mut Walk, most: usize) -> (Vec<usize>, bool) {
    let mut asked = Vec::new();
    let done = lot.choose(
        walk,
        most,
        |&node| {
            asked.push(tasks.number(node));
            Choice::Leave
        },
        |_| unreachable!("nobody is woken"),
    );
    (asked, done)
}

#[test]
fn a_wake_that_wakes_nobody_asks_each_once_and_few_at_a_time() {
    let tasks = Tasks::new(30);
    let mut lot = Lot::new();
    let key = Key(7, 1);
    (0..30).for_each(|task| lot.park(tasks.node(task), key));
    let mut walk = lot.walk(key);
    for piece in 0..10 {
        let (asked, done) = look(&mut lot, &tasks, &mut walk, 3);
        assert_eq!((asked, done), ((3 * piece..3 * piece + 3).collect(), piece == 9));
    }
}

#[test]
fn whoever_goes_while_a_wake_looks_on_does_not_take_its_place_along() {
    let tasks = Tasks::new(8);
    let mut lot = Lot::new();
    let key = Key(7, 1);
    (0..6).for_each(|task| lot.park(tasks.node(task), key));
    let mut walk = lot.walk(key);
    assert_eq!(look(&mut lot, &tasks, &mut walk, 2), (vec![0, 1], false));
    // The finger is on the third: it goes, the next goes, the first goes, and others come.
    [2, 3, 0].into_iter().for_each(|task| lot.remove(tasks.node(task)));
    lot.park(tasks.node(2), Key(9, 1));
    lot.park(tasks.node(3), key);
    assert_eq!(look(&mut lot, &tasks, &mut walk, 2), (vec![4, 5], true), "who came later is not asked");
    assert_eq!(wake(&mut lot, &tasks, key, 2, |_| Choice::Wake), [1, 4, 5, 3]);
    lot.park(tasks.node(6), Key(9, 1));
    let mut walk = lot.walk(Key(9, 1));
    assert_eq!(look(&mut lot, &tasks, &mut walk, 1), (vec![2], false));
    lot.remove(tasks.node(6));
    assert_eq!(look(&mut lot, &tasks, &mut walk, 1), (vec![], true), "nobody is left behind");
}

#[test]
fn more_wakes_than_fingers_ask_nobody_twice() {
    let tasks = Tasks::new(12);
    let mut lot = Lot::new();
    let key = Key(7, 1);
    (0..12).for_each(|task| lot.park(tasks.node(task), key));
    // Two more than fingers: those lose their places again and again, and take longer.
    let mut walks: Vec<_> = (0..10).map(|_| (lot.walk(key), Vec::new(), false)).collect();
    for _ in 0..40 {
        for (walk, all, done) in walks.iter_mut().filter(|(.., done)| !done) {
            let (asked, now) = look(&mut lot, &tasks, walk, 5);
            all.extend(asked);
            *done = now;
        }
    }
    assert!(walks[2..8].iter().all(|(_, all, done)| *done && *all == (0..12).collect::<Vec<_>>()));
    assert!(walks.iter().all(|(_, all, _)| all.is_sorted_by(|one, other| one < other)), "somebody was asked twice");
}

#[test]
fn any_sequence_is_as_in_a_list_that_is_searched() {
    const TASKS: usize = 40;
    let tasks = Tasks::new(TASKS);
    for seed in 1..400 {
        let mut random = Random(seed * 0x9e37_79b9);
        let mut lot = Lot::new();
        let mut model: Model = Vec::new();
        for _ in 0..300 {
            one_step(&mut lot, &mut model, &tasks, &mut random);
            assert_eq!(lot.parked(), model.len());
        }
        for key in (0..KEYS).map(key_of) {
            assert_eq!(wake(&mut lot, &tasks, key, 3, |_| Choice::Wake), parked_on(&model, key));
        }
        assert_eq!(lot.parked(), 0);
    }
}

const KEYS: u64 = 5;

/// Keys some of which are in one bucket: a bucket is found by a hash of both words.
fn key_of(number: u64) -> Key {
    Key(number as usize * 8, usize::from(number == 3))
}

fn one_step(lot: &mut Lot, model: &mut Model, tasks: &Tasks, random: &mut Random) {
    let task = (random.next() % tasks.0.len() as u64) as usize;
    let key = key_of(random.next() % KEYS);
    match (random.next() % 8, model.iter().position(|(parked, _)| *parked == task)) {
        (0..5, None) => {
            lot.park(tasks.node(task), key);
            model.push((task, key));
        }
        (0..3, Some(place)) => {
            lot.remove(tasks.node(task));
            model.remove(place);
        }
        (5, _) => check_wake(lot, model, tasks, key, (random.next() % 4) as usize),
        (6, _) => check_move(lot, model, tasks, (key, key_of(random.next() % KEYS)), (random.next() % 6) as usize),
        _ => {}
    }
}

fn check_wake(lot: &mut Lot, model: &mut Model, tasks: &Tasks, key: Key, count: usize) {
    let mut left = count;
    let woken = wake(lot, tasks, key, 2, |_| match left {
        0 => Choice::Stop,
        _ => {
            left -= 1;
            Choice::Wake
        }
    });
    let expected: Vec<_> = parked_on(model, key).into_iter().take(count).collect();
    assert_eq!(woken, expected);
    model.retain(|(task, _)| !woken.contains(task));
}

fn check_move(lot: &mut Lot, model: &mut Model, tasks: &Tasks, (from, to): (Key, Key), count: usize) {
    let mut left = count;
    let woken = wake(lot, tasks, from, 2, |_| match left {
        0 => Choice::Stop,
        _ => {
            left -= 1;
            Choice::Move(to)
        }
    });
    assert_eq!(woken, []);
    let moved: Vec<_> = parked_on(model, from).into_iter().take(count).collect();
    model.retain(|(task, _)| !moved.contains(task));
    model.extend(moved.into_iter().map(|task| (task, to)));
}
