//! What must hold of a record, in every order of what CPUs do.

use core::sync::atomic::AtomicUsize as Plain;
use loom::sync::Arc;
use loom::thread;
use vmstack::Hint;

use super::{Phase, Record};
use crate::class::Class;
use crate::request::Kind;
use crate::tag::Tag;

fn live(bytes: usize) -> Arc<Record> {
    let record = Record::new();
    record.lay_out(7, Hint::default());
    let _ = record.set_live(record.build(bytes, Kind::Memory, Class::new(3), Tag::caller()));
    Arc::new(record)
}

#[test]
fn of_two_that_free_an_area_one_does() {
    loom::model(|| {
        let (record, freed) = (live(1), Arc::new(Plain::new(0)));
        let free = |record: &Record, freed: &Plain| {
            let life = record.life();
            if life.phase() == Phase::Live && record.claim(life) {
                freed.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
            }
        };
        let other = {
            let (record, freed) = (Arc::clone(&record), Arc::clone(&freed));
            thread::spawn(move || free(&record, &freed))
        };
        free(&record, &freed);
        other.join().expect("it ends");
        assert_eq!(freed.load(core::sync::atomic::Ordering::Relaxed), 1);
    });
}

#[test]
fn who_frees_late_does_not_end_the_next_life() {
    loom::model(|| {
        let record = live(1);
        let first = record.life();
        let other = {
            let record = Arc::clone(&record);
            // The right one frees it, and it is somebody else's at once.
            thread::spawn(move || {
                let life = record.life();
                let won = life.phase() == Phase::Live && record.claim(life);
                if won {
                    record.set_free();
                    let _ = record.set_live(record.build(2, Kind::Memory, Class::new(3), Tag::caller()));
                }
                won
            })
        };
        let mine = record.claim(first);
        let theirs = other.join().expect("it ends");
        assert!(mine != theirs, "one of the two frees the first life");
    });
}

#[test]
fn what_is_read_belongs_to_one_life() {
    loom::model(|| {
        let record = live(1);
        let other = {
            let record = Arc::clone(&record);
            thread::spawn(move || {
                assert!(record.claim(record.life()));
                record.set_free();
                let _ = record.set_live(record.build(2, Kind::Lent, Class::new(3), Tag::caller()));
            })
        };
        if let Some(said) = record.said() {
            assert_eq!(said.bytes == 1, said.kind == Kind::Memory, "{said:?}");
        }
        other.join().expect("it ends");
    });
}
