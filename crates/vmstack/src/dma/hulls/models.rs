//! Two CPUs look, one of which knows more, and a third asks about a stack that the first has seen.

use super::{Hull, Hulls, NO_FIRST, NO_LAST};
use crate::addr::VirtAddr;
use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::thread;

const AREA: (usize, usize) = (100, 199);

fn new() -> Hulls {
    let [second, high_first] = [(); 2].map(|()| AtomicUsize::new(NO_FIRST));
    let [low_last, last] = [(); 2].map(|()| AtomicUsize::new(NO_LAST));
    Hulls { second, low_last, high_first, last }
}

fn note(hulls: &Hulls, registered: &[(usize, usize)]) {
    hulls.note(Hull::around([AREA].into_iter()), Hull::around(registered.iter().copied()));
}

/// Whether `addr` is suspect.
fn is_suspect(hulls: &Hulls, addr: usize) -> bool {
    hulls.meet(VirtAddr::new(addr), 1)
}

/// Somebody knows of `registered` before the first look, and another CPU does not.
fn all_are_suspect(registered: (usize, usize)) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let hulls = Arc::new(new());
        let other = Arc::clone(&hulls);
        let knows_less = thread::spawn(move || note(&other, &[]));
        let other = Arc::clone(&hulls);
        let asks = thread::spawn(move || assert!(is_suspect(&other, AREA.0), "the area is known to both"));
        note(&hulls, &[registered]);
        assert!(is_suspect(&hulls, registered.0) && is_suspect(&hulls, AREA.1), "both are known here");
        knows_less.join().expect("nobody panics");
        asks.join().expect("nobody panics");
        assert!(is_suspect(&hulls, registered.0) && is_suspect(&hulls, AREA.1), "nothing was taken back");
    });
}

#[test]
fn no_look_opens_what_another_has_seen_above() {
    all_are_suspect((400, 499));
}

#[test]
fn no_look_opens_what_another_has_seen_below() {
    all_are_suspect((10, 19));
}
