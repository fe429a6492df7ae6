//! What a device says: the truth, a failure, too little, too much, something about what it never had, nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use super::device::Running;
use super::{DESCRIPTORS, DEVICES, DiskError, Kind, OURS, SECTOR, each_way, list_of, of_device, seen, untouched};
use crate::disk::flight::Data;
use crate::disk::world::{Task, device_writes};
use crate::dma::DmaBuffer;

#[test]
fn what_is_read_and_what_is_written_arrives_whatever_memory_it_is_in() {
    each_way(|disk| {
        let (task, mut buffer) = (Task::new(1), DmaBuffer::new(3 * SECTOR).expect("memory"));
        buffer.fill(OURS);
        let notified = disk.running.notified;
        let ticket = disk.send(&task, Kind::Write, &Data::Raw(&list_of(&task))).expect("a place");
        assert_eq!(disk.running.notified, notified + 1);
        let chain = disk.take();
        let mut told = vec![1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        told.extend_from_slice(&[OURS; SECTOR]);
        assert_eq!((chain.told(), chain.wanted()), (told, 1));
        assert_eq!(disk.collect(ticket), None, "it is not done");
        disk.running.device.end(&chain, DEVICES);
        assert_eq!(disk.collect(ticket), Some(Ok(())));
        assert_eq!(seen(&task), (0, vec![OURS; SECTOR]));

        let data = Data::owned(&buffer, SECTOR..2 * SECTOR).expect("it is in the buffer");
        let ticket = disk.send(&task, Kind::Read, &data).expect("a place");
        assert_eq!(buffer.shares(), 1);
        disk.end_next(DEVICES);
        assert_eq!((disk.collect(ticket), buffer.shares()), (Some(Ok(())), 0));
        assert_eq!(buffer[..], [[OURS; SECTOR], [DEVICES; SECTOR], [OURS; SECTOR]].concat());
        assert!(Data::owned(&buffer, SECTOR..3 * SECTOR + 1).is_err());
    });
}

#[test]
fn a_failure_is_what_the_device_says_and_nothing_of_earlier_transfers_is_copied() {
    // The status that the device writes, if it does, how many bytes it says that it wrote of 513, and what comes of it.
    let cases = [
        (Some(1), 513, DiskError::Failed),
        (Some(2), 513, DiskError::Unsupported),
        (Some(1), 1, DiskError::Failed),
        (Some(2), 0, DiskError::Unsupported),
        (Some(7), 513, DiskError::NoStatus { status: 7 }),
        (None, 513, DiskError::NoStatus { status: 0xff }),
        (None, u32::MAX, DiskError::NoStatus { status: 0xff }),
        (None, 0, DiskError::Short { wrote: 0, wanted: 513 }),
        (Some(0), 512, DiskError::Short { wrote: 512, wanted: 513 }),
        (Some(0), 1, DiskError::Short { wrote: 1, wanted: 513 }),
    ];
    for (status, wrote, error) in cases {
        each_way(|disk| {
            let task = Task::new(1);
            let ticket = disk.read(&task).expect("a place");
            let chain = disk.take();
            status.into_iter().for_each(|status| chain.set_status(status));
            disk.running.device.say(chain.token, wrote);
            assert_eq!(disk.collect(ticket), Some(Err(error)));
            let written = if disk.is_mapped() { status.unwrap_or(0xff) } else { OURS };
            assert_eq!(seen(&task), (written, vec![OURS; SECTOR]), "{error}");
        });
    }
}

#[test]
fn whoever_is_named_without_having_asked_ends_nobodys_request() {
    each_way(|disk| {
        let task = Task::new(1);
        let ticket = disk.read(&task).expect("a place");
        let chain = disk.take();
        // In the middle of the chain, behind it, and nowhere.
        for token in [chain.token + 1, 63, 64, u16::MAX] {
            disk.running.device.say(token, chain.wanted());
            assert_eq!(disk.collect(ticket), None, "{token}");
        }
        // It is not listened to any more, also if it comes to its senses.
        disk.running.device.end(&chain, DEVICES);
        assert_eq!(disk.collect(ticket), None);
        disk.flights.give_up(ticket);
        disk.reset();
        assert_eq!(disk.collect(ticket), Some(Err(DiskError::TimedOut)));
        let ticket = disk.read(&task).expect("a place");
        disk.end_next(DEVICES);
        assert_eq!((disk.collect(ticket), seen(&task)), (Some(Ok(())), of_device(0)));
    });
}

#[test]
fn what_is_ended_twice_is_ended_once() {
    each_way(|disk| {
        let (task, other) = (Task::new(1), Task::new(2));
        let tickets = [disk.read(&task).expect("a place"), disk.read(&other).expect("a place")];
        let (first, second) = (disk.take(), disk.take());
        disk.running.device.end(&first, DEVICES);
        disk.running.device.say(first.token, first.wanted());
        disk.running.device.end(&second, DEVICES);
        assert_eq!((disk.collect(tickets[0]), seen(&task)), (Some(Ok(())), of_device(0)));
        assert_eq!(disk.collect(tickets[0]), None, "it was collected");
        assert_eq!(disk.collect(tickets[1]), None, "nobody listens any more");
        disk.flights.give_up(tickets[1]);
        disk.reset();
        assert_eq!(disk.collect(tickets[1]), Some(Err(DiskError::TimedOut)));
    });
}

#[test]
fn a_device_that_says_it_did_more_than_there_is_to_do_is_not_listened_to_for_ever() {
    each_way(|disk| {
        let task = Task::new(1);
        for more in [1, 64, 65, 30_000, u16::MAX] {
            let tickets = [(); 3].map(|()| disk.read(&task).expect("a place"));
            disk.running.device.say_so_many(more);
            // The ring says zero everywhere: that is the first one's token, once.
            let ended = tickets.map(|ticket| disk.collect(ticket));
            assert_eq!(ended, [Some(Err(DiskError::Short { wrote: 0, wanted: 513 })), None, None]);
            disk.reset();
            let ended = tickets.map(|ticket| disk.collect(ticket));
            assert_eq!(ended, [None, Some(Err(DiskError::Reset)), Some(Err(DiskError::Reset))]);
        }
    });
}

/// Names one, then the other, until it is told to stop. The place in the ring is there until this is over.
fn flip(place: u64, tokens: [u16; 2], stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        tokens.iter().for_each(|&token| device_writes(place, &u32::from(token).to_le_bytes()));
    }
}

#[test]
fn a_device_that_takes_back_what_it_said_has_the_request_still() {
    each_way(|disk| {
        let task = Task::new(1);
        for _ in 0..20 {
            let ticket = disk.read(&task).expect("a place");
            let chain = disk.take();
            chain.fill(DEVICES);
            chain.set_status(0);
            let (place, stop) = (disk.running.device.place(), AtomicBool::new(false));
            disk.running.device.say(63, chain.wanted());
            let result = std::thread::scope(|scope| {
                scope.spawn(|| flip(place, [chain.token, 63], &stop));
                let result = (0..20_000).find_map(|_| disk.collect(ticket));
                stop.store(true, Ordering::Relaxed);
                result
            });
            if result.is_none() {
                disk.flights.give_up(ticket);
                disk.reset();
                assert_eq!(disk.collect(ticket), Some(Err(DiskError::TimedOut)));
            } else {
                assert_eq!((result, seen(&task)), (Some(Ok(())), of_device(0)));
                assert_eq!(disk.running.queue.available_desc(), DESCRIPTORS, "what is ended is out of the queue");
            }
        }
    });
}

#[test]
fn a_device_that_never_answers_is_reset_and_only_who_gave_up_was_too_late() {
    each_way(|disk| {
        let (task, other) = (Task::new(1), Task::new(2));
        let (first, second) = (disk.read(&task).expect("a place"), disk.read(&other).expect("a place"));
        let late = disk.take();
        assert_eq!((disk.collect(first), disk.collect(second)), (None, None));
        disk.flights.give_up(first);
        disk.flights.cancel_all();
        assert_eq!(disk.held(), (0, 0, 0));
        assert_eq!(disk.flights.collect(first), Some(Err(DiskError::TimedOut)));
        assert_eq!(disk.flights.collect(second), Some(Err(DiskError::Reset)));
        assert_eq!(
            (seen(&task), seen(&other)),
            if disk.is_mapped() { both_unset() } else { (untouched(), untouched()) }
        );
        // What it says after that is about an earlier life of the queue.
        disk.running = Running::new();
        let again = disk.read(&other).expect("a place");
        assert_eq!(late.token, disk.take().token, "the same token as then");
        assert_eq!(disk.collect(again), None);
        disk.flights.give_up(again);
        disk.reset();
        assert_eq!(disk.collect(again), Some(Err(DiskError::TimedOut)));
    });
}

/// The status is set where the device is to write it.
fn both_unset() -> ((u8, Vec<u8>), (u8, Vec<u8>)) {
    let unset = (0xff, vec![OURS; SECTOR]);
    (unset.clone(), unset)
}
