//! A victim is cut after every access that it makes, alone and with somebody else acting after every access. Then its locks are
//! given back, and: none stays held, none is taken from who is alive, nobody stays parked, and poison is where a section had
//! begun, and nowhere else.

use std::panic::{self, AssertUnwindSafe};

use super::held::{HeldLocks, HeldNames, Holder};
use super::lot;
use super::raw::{Kind, RawLock, State};
use super::word::{Ran, Word, act_when_parked, run, steps, uncounted};

const VICTIM: u64 = 7;
const OTHER: u64 = 8;

/// A lock and two who want it, for as long as the tests run: what is parked on is an address.
struct Scene {
    lock: RawLock,
    victims: HeldLocks,
    others: HeldLocks,
    /// What the lock protects.
    value: Word,
}

impl Scene {
    fn new(kind: Kind) -> &'static Self {
        lot::clear();
        let (victims, others) = (HeldLocks::new(), HeldLocks::new());
        Box::leak(Box::new(Self { lock: RawLock::new("subject", kind), victims, others, value: Word::new(0) }))
    }

    fn victim(&'static self) -> Holder<'static> {
        Holder::new(&self.victims, VICTIM)
    }

    fn other(&'static self) -> Holder<'static> {
        Holder::new(&self.others, OTHER)
    }

    fn key(&self) -> usize {
        std::ptr::from_ref(&self.lock).addr()
    }

    /// Buries the victim; the names of what it had, and whether they are poisoned.
    fn give_back(&self) -> Vec<(&'static str, bool)> {
        // SAFETY: the victim was cut, and its frames are gone.
        let given = unsafe { self.victims.give_back(VICTIM) };
        given.iter().map(|given| (given.name, given.poisoned)).collect()
    }
}

/// A way to take a lock, and the way to release it.
#[derive(Clone, Copy)]
struct Way {
    kind: Kind,
    take: fn(&RawLock, &Holder<'_>),
    release: fn(&RawLock, &Holder<'_>),
    poisons: bool,
}

const WAYS: [Way; 4] = [
    Way { kind: Kind::Spin, take: RawLock::lock_spinning, release: RawLock::unlock, poisons: true },
    Way { kind: Kind::Mutex, take: RawLock::lock_sleeping, release: RawLock::unlock, poisons: true },
    Way { kind: Kind::ReadWrite, take: RawLock::lock_sleeping, release: RawLock::unlock, poisons: true },
    Way { kind: Kind::ReadWrite, take: RawLock::share, release: RawLock::unshare, poisons: false },
];

fn section(scene: &'static Scene, way: Way) {
    (way.take)(&scene.lock, &scene.victim());
    scene.value.store(1);
    scene.value.store(2);
    (way.release)(&scene.lock, &scene.victim());
}

#[test]
fn whoever_is_cut_anywhere_leaves_the_lock_free_and_poisoned_if_the_section_had_begun() {
    for way in WAYS {
        let measured = Scene::new(way.kind);
        let taking = steps(|| (way.take)(&measured.lock, &measured.victim()));
        let all = taking + 2 + steps(|| (way.release)(&measured.lock, &measured.victim()));
        for cut in 0..=all {
            let scene = Scene::new(way.kind);
            run(cut, None, || section(scene, way));
            // A report names the lock from the moment on which the word is the victim's.
            let mut names = HeldNames::NONE;
            // SAFETY: the victim was cut, and does not go on.
            unsafe { scene.victims.names(VICTIM, &mut names) };
            let named: Vec<_> = names.iter().collect();
            assert_eq!(!named.is_empty(), scene.lock.is_of(VICTIM), "{:?}, cut after {cut} of {all}", way.kind);
            let given = scene.give_back();
            let begun = way.poisons && (taking..=taking + 2).contains(&cut);
            let expected = if begun { State::Poisoned } else { State::Free };
            assert_eq!(scene.lock.state(), expected, "{:?}, cut after {cut} of {all}", way.kind);
            assert!(!begun || given == [("subject", true)], "{given:?}");
            (way.take)(&scene.lock, &scene.other());
            assert_eq!(scene.lock.state(), State::Held);
            assert!(scene.give_back().is_empty(), "the dead is buried once");
        }
    }
}

#[test]
fn a_lock_that_the_dead_gave_up_is_not_taken_from_who_has_it_now() {
    for way in WAYS.iter().filter(|way| way.poisons) {
        let measured = Scene::new(way.kind);
        let all = steps(|| section(measured, *way));
        for (cut, act) in (0..=all).flat_map(|cut| (1..=cut.max(1)).map(move |act| (cut, act))) {
            let scene = Scene::new(way.kind);
            // Tries once, without waiting, and keeps it.
            let grab = move || {
                let _got = scene.lock.lock_within(&scene.other(), 1);
            };
            run(cut, Some((act, Box::new(grab))), || {
                // The victim cannot wait for who never lets go.
                if scene.lock.lock_within(&scene.victim(), 2) {
                    scene.value.store(1);
                    scene.value.store(2);
                    (way.release)(&scene.lock, &scene.victim());
                }
            });
            let got = scene.lock.is_of(OTHER);
            scene.give_back();
            assert_eq!(scene.lock.state() == State::Held, got, "cut {cut}, act {act}");
            assert!(!got || !scene.lock.is_poisoned(), "cut {cut}, act {act}");
        }
    }
}

#[test]
fn who_takes_the_lock_while_it_is_given_back_keeps_it() {
    for way in WAYS.iter().filter(|way| way.poisons) {
        let measured = Scene::new(way.kind);
        let all = steps(|| section(measured, *way));
        for (cut, act) in (0..=all).flat_map(|cut| (1..40).map(move |act| (cut, act))) {
            let scene = Scene::new(way.kind);
            run(cut, None, || section(scene, *way));
            let grab = move || {
                let _got = scene.lock.lock_within(&scene.other(), 1);
            };
            assert_ne!(run(usize::MAX, Some((act, Box::new(grab))), || drop(scene.give_back())), Ran::Cut);
            assert_eq!(scene.lock.state() == State::Held, scene.lock.is_of(OTHER), "cut {cut}, act {act}");
        }
    }
}

#[test]
fn a_waiter_is_woken_whenever_the_holder_releases() {
    for (way, holder) in [(WAYS[1], WAYS[1]), (WAYS[2], WAYS[2]), (WAYS[2], WAYS[3]), (WAYS[3], WAYS[2])] {
        for act in 1..60 {
            let scene = Scene::new(way.kind);
            (holder.take)(&scene.lock, &scene.other());
            let release = move || (holder.release)(&scene.lock, &scene.other());
            let ran = run(usize::MAX, Some((act, Box::new(release))), || (way.take)(&scene.lock, &scene.victim()));
            assert_ne!(ran, Ran::Cut);
            assert_eq!(scene.lock.state(), State::Held);
        }
    }
}

#[test]
fn a_writer_who_saw_a_reader_come_is_woken_when_the_reader_steps_back() {
    // After one access that matters the reader stands in its slot, and has not seen the writer yet.
    for act in 1..30 {
        let scene = Scene::new(Kind::ReadWrite);
        let write = move || {
            let alone = scene.lock.state() == State::Free;
            if scene.lock.lock_within(&scene.other(), 1) {
                if !alone {
                    scene.lock.say_contended();
                    lot::somebody_parks(scene.key());
                }
                act_when_parked(Box::new(move || scene.lock.unlock(&scene.other())));
            }
        };
        assert_ne!(run(usize::MAX, Some((act, Box::new(write))), || scene.lock.share(&scene.victim())), Ran::Cut);
    }
}

#[test]
fn who_waits_for_the_dead_is_woken() {
    for way in WAYS.iter().filter(|way| way.kind != Kind::Spin) {
        let measured = Scene::new(way.kind);
        (way.take)(&measured.lock, &measured.victim());
        let all = steps(|| (way.release)(&measured.lock, &measured.victim()));
        for cut in 0..=all {
            let scene = Scene::new(way.kind);
            (way.take)(&scene.lock, &scene.victim());
            // As a waiter does: it says so, and parks.
            scene.lock.say_contended();
            lot::somebody_parks(scene.key());
            run(cut, None, || (way.release)(&scene.lock, &scene.victim()));
            scene.give_back();
            assert!(lot::is_empty(), "cut after {cut} of {all}");
        }
    }
}

#[test]
fn who_is_cut_while_it_waits_takes_nothing_and_spoils_nothing() {
    for (way, holder) in [(WAYS[1], WAYS[1]), (WAYS[2], WAYS[2]), (WAYS[2], WAYS[3]), (WAYS[3], WAYS[2])] {
        for cut in 0..30 {
            let scene = Scene::new(way.kind);
            (holder.take)(&scene.lock, &scene.other());
            let release = move || (holder.release)(&scene.lock, &scene.other());
            // Released only if the victim comes so far as to park.
            run(cut, Some((1000, Box::new(release))), || (way.take)(&scene.lock, &scene.victim()));
            scene.give_back();
            if scene.lock.is_of(OTHER) {
                assert!(!scene.lock.is_poisoned(), "cut after {cut}");
                release();
            }
            assert_ne!(scene.lock.state(), State::Held, "cut after {cut}");
            (way.take)(&scene.lock, &scene.other());
        }
    }
}

#[test]
fn a_lock_inside_another_is_given_back_first() {
    let inner: &'static RawLock = Box::leak(Box::new(RawLock::new("inner", Kind::Mutex)));
    let scene = Scene::new(Kind::Spin);
    scene.lock.lock_spinning(&scene.victim());
    inner.lock_sleeping(&scene.victim());
    assert_eq!(scene.give_back(), [("inner", true), ("subject", true)]);
}

#[test]
fn a_section_is_whole_while_a_lock_inside_it_is_only_taken() {
    let scene = Scene::new(Kind::Spin);
    let inner: &'static RawLock = Box::leak(Box::new(RawLock::new("inner", Kind::Mutex)));
    scene.lock.lock_spinning(&scene.victim());
    let all = steps(|| inner.lock_sleeping(&scene.victim()));
    for cut in 0..all {
        let scene = Scene::new(Kind::Spin);
        let inner: &'static RawLock = Box::leak(Box::new(RawLock::new("inner", Kind::Mutex)));
        scene.lock.lock_spinning(&scene.victim());
        run(cut, None, || inner.lock_sleeping(&scene.victim()));
        scene.give_back();
        assert_eq!((inner.state(), scene.lock.state()), (State::Free, State::Poisoned), "cut after {cut} of {all}");
    }
}

#[test]
fn locks_may_be_released_in_any_order() {
    let scene = Scene::new(Kind::Spin);
    let locks: Vec<&'static RawLock> = (0..3).map(|_| &*Box::leak(Box::new(RawLock::new("one", Kind::Spin)))).collect();
    for _ in 0..20 {
        locks.iter().for_each(|lock| lock.lock_spinning(&scene.victim()));
        locks.iter().for_each(|lock| lock.unlock(&scene.victim()));
    }
    locks.iter().rev().for_each(|lock| lock.lock_spinning(&scene.victim()));
    locks[1].unlock(&scene.victim());
    locks[1].lock_spinning(&scene.victim());
    assert_eq!(scene.give_back().len(), 3);
}

#[test]
fn a_ninth_lock_is_refused() {
    let scene = Scene::new(Kind::Spin);
    let take = || uncounted(|| Box::leak(Box::new(RawLock::new("one", Kind::Spin))).lock_spinning(&scene.victim()));
    (0..8).for_each(|_| take());
    assert!(panic::catch_unwind(AssertUnwindSafe(take)).is_err());
}

#[test]
fn a_ninth_reader_waits_for_one_of_eight() {
    let scene = Scene::new(Kind::ReadWrite);
    let lists: Vec<&'static HeldLocks> = (0..8).map(|_| &*Box::leak(Box::new(HeldLocks::new()))).collect();
    let readers: Vec<_> = lists.iter().zip(20..).map(|(list, number)| Holder::new(list, number)).collect();
    readers.iter().for_each(|reader| scene.lock.share(reader));
    let first = readers[0];
    let leave = Box::new(move || scene.lock.unshare(&first));
    assert_ne!(run(usize::MAX, Some((1000, leave)), || scene.lock.share(&scene.victim())), Ran::Cut);
    assert_eq!(scene.give_back(), [("subject", false)]);
}

#[test]
fn what_was_given_back_is_said() {
    let scene = Scene::new(Kind::Spin);
    let inner: &'static RawLock = Box::leak(Box::new(RawLock::new("inner", Kind::ReadWrite)));
    scene.lock.lock_spinning(&scene.victim());
    inner.share(&scene.victim());
    // SAFETY: the victim does nothing any more.
    let given = unsafe { scene.victims.give_back(VICTIM) };
    assert_eq!(given.to_string(), "2 locks were held: inner, subject (poisoned)");
    assert!(!given.is_empty());
}

#[test]
fn a_vital_lock_has_a_word_too() {
    assert_eq!(Kind::Vital.name(), "vital");
}

#[test]
fn poison_stays_until_it_is_cleared_and_facts_have_words_for_it() {
    for (way, kind) in WAYS.iter().zip(["spin", "mutex", "rwlock"]) {
        let scene = Scene::new(way.kind);
        let said = || (scene.lock.name(), way.kind.name(), scene.lock.state().name());
        assert_eq!(said(), ("subject", kind, "free"));
        (way.take)(&scene.lock, &scene.victim());
        assert_eq!(said(), ("subject", kind, "held"));
        scene.give_back();
        assert_eq!(said(), ("subject", kind, "poisoned"));
        (way.take)(&scene.lock, &scene.other());
        (way.release)(&scene.lock, &scene.other());
        assert_eq!(said(), ("subject", kind, "poisoned"));
        scene.lock.clear_poison();
        assert_eq!(said(), ("subject", kind, "free"));
    }
}
