//! What does not fit, and requests of tasks that are dead.

use super::{DESCRIPTORS, DEVICES, DiskError, END, Kind, OURS, SECTOR, data_of, each_way, list_of, seen, untouched};
use crate::disk::flight::Data;
use crate::disk::world::Task;
use crate::dma::DmaBuffer;
use vmstack::{Direction, DmaRequest, Refusal, VirtAddr};

/// As many requests as there can be.
const FLIGHTS: usize = 16;

fn piece(at: VirtAddr, bytes: usize) -> DmaRequest {
    DmaRequest::new(at, bytes, Direction::Both)
}

#[test]
fn one_more_than_there_can_be_is_told_so_and_keeps_nothing() {
    each_way(|disk| {
        let task = Task::new(1);
        let tickets: Vec<_> = (0..FLIGHTS).map(|_| disk.read(&task).expect("a place")).collect();
        let held = disk.held();
        assert_eq!(disk.read(&task), Err(DiskError::Busy));
        assert_eq!(disk.held(), held);
        // In any order, and each place can be had again.
        let chains: Vec<_> = (0..FLIGHTS).map(|_| disk.take()).collect();
        chains.iter().rev().for_each(|chain| disk.running.device.end(chain, DEVICES));
        assert!(tickets.iter().all(|&ticket| disk.collect(ticket) == Some(Ok(()))));
    });
}

#[test]
fn a_ring_that_is_full_is_told_and_keeps_nothing() {
    each_way(|disk| {
        let task = Task::new(1);
        let list = [(); 8].map(|()| piece(data_of(&task).wrapping_add(500), 64));
        let mut tickets = Vec::new();
        let error = loop {
            let held = disk.held();
            match disk.send(&task, Kind::Read, &Data::Raw(&list)) {
                Ok(ticket) => tickets.push(ticket),
                Err(error) => break (error, disk.held() == held),
            }
        };
        assert_eq!((error, tickets.len()), ((DiskError::Busy, true), DESCRIPTORS / 10));
        tickets.iter().for_each(|_| disk.end_next(DEVICES));
        assert!(tickets.iter().all(|&ticket| disk.collect(ticket) == Some(Ok(()))));
    });
}

#[test]
fn a_list_that_is_too_long_or_refused_anywhere_is_not_sent_and_keeps_nothing() {
    each_way(|disk| {
        let task = Task::new(1);
        let too_long = [piece(data_of(&task), 64); 9];
        assert_eq!(disk.send(&task, Kind::Read, &Data::Raw(&too_long)), Err(DiskError::TooManyPieces { most: 10 }));
        // Every other page of what is no stack's: each is a piece.
        let pages: Vec<_> = (0..30).map(|page| Some(2 * page)).collect();
        let scattered = disk.world.fake.pages_at(1 << 36, &pages);
        let list = [piece(data_of(&task), 64), piece(scattered, 30 << 12)];
        for kind in [Kind::Read, Kind::Write] {
            assert_eq!(disk.send(&task, kind, &Data::Raw(&list)), Err(DiskError::TooManyPieces { most: 24 }));
        }
        let guard = [piece(data_of(&task), 64), piece(task.stack.bottom().wrapping_sub(64), 64)];
        let refused = disk.send(&task, Kind::Read, &Data::Raw(&guard));
        assert!(matches!(refused, Err(DiskError::Refused(error)) if error.refusal == Refusal::Guard), "{refused:?}");
        assert_eq!(seen(&task), untouched());
    });
}

#[test]
fn requests_of_a_task_that_was_killed_are_ended_by_whoever_looks_and_write_nothing_to_its_stack() {
    each_way(|disk| {
        let (task, buffer) = (Task::new(1), DmaBuffer::new(SECTOR).expect("memory"));
        let ticket = disk.read(&task).expect("a place");
        let owned = Data::owned(&buffer, 0..SECTOR).expect("all of it");
        disk.send(&task, Kind::Read, &owned).expect("a place");
        assert!(!disk.flights.is_overdue(END), "somebody waits");
        task.kill();
        assert!(disk.flights.is_overdue(END) && !disk.flights.is_overdue(END - 1));
        assert_eq!(disk.flights.can_write_to_stack_of(1), disk.is_mapped());
        let (first, second) = (disk.take(), disk.take());
        first.set_status(0);
        disk.running.device.say(first.token, first.wanted());
        disk.running.device.end(&second, DEVICES);
        disk.flights.poll(&mut disk.running);
        assert_eq!((disk.flights.in_use(), disk.held(), buffer.shares()), (0, (0, 0, 0), 0));
        assert!(!disk.flights.can_write_to_stack_of(1) && !disk.flights.is_overdue(u64::MAX));
        // What is mapped the device itself has written.
        assert_eq!(seen(&task), (if disk.is_mapped() { 0 } else { OURS }, vec![OURS; SECTOR]));
        assert_eq!(disk.collect(ticket), None, "nobody asks");
    });
}

#[test]
fn what_was_ended_and_never_collected_is_free_when_its_task_is_dead() {
    each_way(|disk| {
        let task = Task::new(1);
        for _ in 0..FLIGHTS {
            disk.read(&task).expect("a place");
            disk.end_next(DEVICES);
        }
        disk.flights.poll(&mut disk.running);
        assert_eq!(disk.flights.in_use(), FLIGHTS);
        let other = Task::new(2);
        assert_eq!(disk.read(&other), Err(DiskError::Busy));
        task.kill();
        assert_eq!(disk.flights.in_use(), 0);
        let ticket = disk.read(&other).expect("a place of the dead one's");
        disk.end_next(DEVICES);
        assert_eq!(disk.collect(ticket), Some(Ok(())));
    });
}

#[test]
fn a_stack_that_was_given_back_is_not_written_to_by_a_request_that_it_was_for() {
    each_way(|disk| {
        let task = Task::new(1);
        let list = list_of(&task);
        disk.send(&task, Kind::Read, &Data::Raw(&list)).expect("a place");
        let (chain, bottom) = (disk.take(), task.stack.bottom());
        task.end();
        disk.world.fake.run_on(0);
        let others: Vec<_> = (2..10).map(Task::new).collect();
        let next = others.iter().find(|other| other.stack.bottom() == bottom);
        assert_eq!(next.is_none(), disk.is_mapped(), "a pinned stack is nobody's, another is somebody's");
        disk.running.device.end(&chain, DEVICES);
        disk.flights.poll(&mut disk.running);
        assert!(others.iter().all(|other| disk.world.fake.reads_zero(other.stack.bottom(), 16 << 10)));
        assert_eq!((disk.flights.in_use(), disk.held()), (0, (0, 0, 0)));
    });
}
