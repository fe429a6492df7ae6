//! Who is ready runs where it may and nowhere else, whatever changes meanwhile, and nobody is left behind.

use super::Tasks;
use super::ready::{Ready, suits};
use super::scheduling::ANYWHERE;
use crate::memory::Random;

const CPUS: usize = 4;

/// Whom each of `cpus` takes, in turn, until none of them finds anybody.
fn take_all(ready: &mut Ready, tasks: &Tasks, cpus: &[usize], away: u64) -> Vec<(usize, usize)> {
    let mut taken = Vec::new();
    loop {
        let before = taken.len();
        for &cpu in cpus {
            taken.extend(ready.pop(cpu, away).map(|node| (cpu, tasks.number(node))));
        }
        if taken.len() == before {
            return taken;
        }
    }
}

#[test]
fn who_is_bound_to_an_idle_cpu_has_that_one_called_and_no_other() {
    let (tasks, mut ready) = (Tasks::new(3), Ready::new());
    (0..CPUS).for_each(|cpu| ready.note_idle(cpu));
    tasks.node(0).cpus.set(1 << 2);
    ready.push(tasks.node(0), 0);
    assert!(ready.calls());
    assert_eq!(ready.take_idle(0, 0), 1 << 2);
    assert!(!ready.calls() && ready.take_idle(0, 0) == 0, "it is called once");
    // Who may run anywhere calls whoever is asked for, and the one that asks looks by itself.
    ready.push(tasks.node(1), 0);
    assert_eq!(ready.take_idle(0, 1), 0);
    ready.push(tasks.node(2), 0);
    assert_eq!(ready.take_idle(0, 1), 1 << 1);
    assert_eq!(take_all(&mut ready, &tasks, &[2], 0), [(2, 0), (2, 1), (2, 2)]);
}

#[test]
fn who_is_found_where_it_may_not_run_any_more_has_its_idle_cpu_called() {
    let (tasks, mut ready) = (Tasks::new(1), Ready::new());
    ready.push(tasks.node(0), 0);
    tasks.node(0).cpus.set(1 << 1);
    ready.note_idle(1);
    assert!(ready.pop(0, 0).is_none(), "it may not run there");
    assert_eq!(ready.take_idle(0, 0), 1 << 1);
}

#[test]
fn neither_queue_starves() {
    let (tasks, mut ready) = (Tasks::new(20), Ready::new());
    for number in 0..20 {
        tasks.node(number).cpus.set(if number < 10 { 1 } else { ANYWHERE });
        ready.push(tasks.node(number), 0);
    }
    let first: Vec<_> = (0..10).filter_map(|_| ready.pop(0, 0)).map(|node| tasks.number(node)).collect();
    assert_eq!(first.iter().filter(|&&number| number < 10).count(), 5, "{first:?}");
    assert_eq!(first.iter().filter(|&&number| number < 10).copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn who_waits_for_a_cpu_that_leaves_goes_elsewhere_and_back_when_it_has_come() {
    let (tasks, mut ready) = (Tasks::new(2), Ready::new());
    tasks.node(0).cpus.set(1 << 1);
    tasks.node(1).cpus.set(1 << 1 | 1 << 3);
    (0..2).for_each(|number| ready.push(tasks.node(number), 0));
    ready.leave(1, 1 << 1);
    assert!(ready.is_empty(1) || !ready.is_empty(0), "nobody waits there alone");
    assert_eq!(take_all(&mut ready, &tasks, &[3], 1 << 1), [(3, 1), (3, 0)], "one may run there, one has no choice");
    ready.push(tasks.node(0), 0);
    assert_eq!(take_all(&mut ready, &tasks, &[0, 2, 3, 1], 0), [(1, 0)]);
}

#[test]
fn any_sequence_runs_everybody_where_it_may() {
    for seed in 1..300 {
        let mut random = Random(seed * 0x1234_5679);
        let (tasks, mut ready) = (Tasks::new(30), Ready::new());
        let (mut waits, mut away) = ([false; 30], 0_u64);
        for _ in 0..400 {
            let (number, cpu) = ((random.next() % 30) as usize, (random.next() % CPUS as u64) as usize);
            match random.next() % 8 {
                0..3 if !waits[number] => {
                    ready.push(tasks.node(number), away);
                    waits[number] = true;
                }
                3 => tasks.node(number).cpus.set(random.next() % 15 + 1),
                4 => tasks.node(number).cpus.set(ANYWHERE),
                5 if cpu != 0 => {
                    away ^= 1 << cpu;
                    if away & 1 << cpu != 0 {
                        ready.leave(cpu, away);
                    }
                }
                _ if away & 1 << cpu == 0 => {
                    if let Some(node) = ready.pop(cpu, away) {
                        assert!(suits(node.cpus.get(), 1 << cpu, away));
                        waits[tasks.number(node)] = false;
                    }
                }
                _ => {}
            }
        }
        let left = take_all(&mut ready, &tasks, &[0, 1, 2, 3], 0);
        assert_eq!(left.len(), waits.iter().filter(|&&waits| waits).count(), "nobody is lost, and nobody twice");
        assert!(left.iter().all(|&(cpu, number)| suits(tasks.node(number).cpus.get(), 1 << cpu, 0)));
    }
}
