//! Transcripts that a judge could be fooled by: each is a good one in which one thing is changed, and falls short.

use super::{alone, assert_falls, assert_falls_in, shortfalls};
use super::{boot, crash};

#[test]
fn the_sweep_is_whole_monotone_and_never_reports_an_nmi() {
    for (from, to, said) in [
        ("sweep call 4088 completed 0x0\n", "", "the 511 runs of call"),
        ("sweep call 4088 completed 0x0", "sweep call 4080 completed 0x0", "the 512 runs of call"),
        ("sweep syscall 400 completed 0x0", "sweep syscall 400 reported 0x10", "completes with 160 bytes left"),
        ("sweep nmi 0 completed 0x0", "sweep nmi 0 reported 0x10", "an nmi was reported"),
        ("sweep call 800 completed 0x0", "sweep call 800 neither 0x0", "call with 800 bytes left: neither"),
        ("sweep call 0 reported 0x", "sweep call 0 reported 0x0 ", "not of the agreed form"),
        ("sweep call 800 completed 0x0", "sweep call 800 completed 0x1", "not of the agreed form"),
    ] {
        assert_falls_in("OVERFLOW_AT_EVERY_OFFSET", 0, from, to, said);
    }
}

/// Asserts that each mutation of the good transcript of this crash's first part falls short, and that what is said holds the words.
#[track_caller]
fn assert_each_falls(name: &str, mutations: &[(&str, &str, &str)]) {
    for (from, to, said) in mutations {
        assert_falls_in(name, 0, from, to, said);
    }
}

/// As [`assert_each_falls`], of every place where the words are.
#[track_caller]
fn assert_all_fall(name: &str, from: &str, to: &str, said: &str) {
    let plan = alone(name, 0);
    let log = boot(&plan);
    assert!(log.contains(from), "`{from}` is not in\n{log}");
    let short = shortfalls(&plan, &log.replace(from, to));
    assert!(short.iter().any(|what| what.contains(said)), "{name}: {from} -> {to}: {short:?}");
}

#[test]
fn the_sweep_has_a_boundary_in_each_kind_but_nmis_and_its_own_instructions() {
    let name = "OVERFLOW_AT_EVERY_OFFSET";
    assert_all_fall(name, "reported 0xffffffff80200100", "completed 0x0", "syscall completes from 0 bytes on");
    assert_all_fall(name, "completed 0x0", "reported 0xffffffff80200100", "syscall completes from 4096 bytes on");
    assert_all_fall(name, "reported 0xffffffff80200100", "reported 0x1", "0x1, where the reports say");
    assert_falls_in(name, 0, "reported 0xffffffff80200100", "reported 0x1", "0x1, where the reports say");
    assert_falls_in(
        name,
        0,
        "sweep call 160 completed 0x0",
        "sweep call 160 reported 0xffffffff80200100",
        "81 runs were",
    );
}

#[test]
fn locks_are_left_as_a_dead_holder_leaves_them_and_were_held() {
    assert_each_falls(
        "OVERFLOW_HOLDING_LOCK",
        &[
            ("fact lock frame-allocator vital", "fact lock ring vital", "`ring` may stop the machine"),
            ("lock files mutex poisoned", "lock files mutex free", "is left free, not poisoned"),
            ("lock files mutex poisoned", "lock files mutex gone", "is left gone, not poisoned"),
            ("lock heap spin free", "lock heap spin poisoned", "is left poisoned, not free"),
            ("lock process-files rwlock gone", "lock process-files rwlock free", "is left free, not gone"),
            ("specimen-rwlock shared free", "specimen-rwlock shared poisoned", "is left poisoned, not free"),
            ("fact lock specimen-rwlock shared free\n", "", "1 reports are of no lock"),
            ("fact lock files mutex poisoned\n", "", "does not say that `process-memory (poisoned)`"),
            ("fact lock files mutex", "fact lock files mutex poisoned\nfact lock more mutex", "while the lock `more`"),
            ("was held: files (poisoned)", "was held: files", "does not say that `files (poisoned)`"),
            ("1 lock was held: files (poisoned)", "nobody knows", "does not say that `files (poisoned)`"),
            ("holding files", "holding file", "does not say that `files (poisoned)`"),
            ("lock.waiters specimen-mutex 2 0 2", "lock.waiters specimen-mutex 2 1 1", "1 of 2 waiters"),
            ("lock.waiters specimen-mutex 2 0 2", "lock.waiters specimen-mutex 2 2 2", "2 got it whole"),
            ("lock.waiters specimen-mutex 2 0 2", "lock.waiters specimen-mutex 0 0 0", "nobody waited"),
            ("lock.waiters specimen-spin 2 0 2", "lock.waiters specimen-spin 0 0 0", "nobody waited"),
            ("fact lock.waiters specimen-spin 2 0 2\n", "", "nothing is said of `specimen-spin`"),
            ("locks.values_left 3", "locks.values_left 5", "5 values are left behind by 4"),
            ("fact locks.values_left 3\n", "", "no fact `locks.values_left`"),
            ("balance.retired 1 ", "balance.retired 0 ", "arenas of the heap"),
            ("balance.retired 1 ", "balance.retired 2 ", "arenas of the heap"),
            ("balance.heap 64 64 0", "balance.heap 64 64 5000", "of 4096 at most"),
        ],
    );
    assert_all_fall("OVERFLOW_HOLDING_LOCK", "specimen-spin", "specimen-spun", "nothing is said of `specimen-spin`");
    assert_falls("balance.retired 0 0 0", "balance.retired 1 0 0", "arenas of the heap");
    assert_falls("fact balance.retired 0 0 0\n", "", "no fact `balance.retired`");
}

#[test]
fn nobody_who_died_is_waited_with() {
    assert_each_falls(
        "OVERFLOW_WAITING_FOR_LOCK",
        &[
            ("fact waiting.parked read 0\n", "", "nothing is said of `read`"),
            ("waiting.parked read 0", "waiting.parked read 1", "1 tasks are still parked"),
            ("waiting read 9 2 1", "waiting read 9 1 1\nfact waiting read 9 1 1", "told of 2 times"),
        ],
    );
}

#[test]
fn every_interrupt_is_served_once_and_kills_once() {
    assert_each_falls(
        "OVERFLOW_IN_INTERRUPT_DELIVERY",
        &[
            ("interrupts line 3 3", "interrupts line 3 2", "and 2 served"),
            ("interrupts.run line 0 1\nBUG", "interrupts.run line 0 2\nBUG", "not served once"),
            ("interrupts.run line 0 1\n", "interrupts.run line 0 0\n", "not served once"),
            ("interrupts.run line 8 1\n", "interrupts.run line 0 1\n", "each elsewhere"),
            ("fact interrupts.run line 8 1\n", "", "3 times at least"),
            (
                "fact interrupts.run line 8 1\n",
                "fact interrupts.run line 8 1\nfact interrupts.run line 24 1\n",
                "3 died of it",
            ),
            ("interrupts line 3 3", "interrupts line 4 4", "the sums are"),
            ("fact interrupts line 3 3\n", "", "nothing is said of `line`"),
            ("fact interrupts line-after 1 1\n", "", "nothing is said of `line-after`"),
            ("interrupts line-after 1 1", "interrupts line-after 0 0", "not 1, 1 and 0"),
            ("fact interrupts ipi-from-another 3 3\n", "", "nothing is said of `ipi-from-another`"),
        ],
    );
}

#[test]
fn a_stop_is_for_its_own_cause() {
    for (name, part) in [
        ("OVERFLOW_HOLDING_LOCK", 1),
        ("OVERFLOW_ON_EMERGENCY_STACK", 0),
        ("OVERFLOW_ON_EMERGENCY_STACK", 1),
        ("OVERFLOW_ON_EMERGENCY_STACK", 2),
        ("OVERFLOW_ON_EMERGENCY_STACK", 3),
        ("OVERFLOW_IN_INIT", 0),
        ("DOUBLE_FAULT", 0),
    ] {
        let panic = boot(&alone(name, part)).lines().find(|line| line.starts_with("Kernel panic: ")).map(str::to_owned);
        let panic = panic.expect(name);
        assert_falls_in(name, part, &panic, "Kernel panic: out of memory", "it stopped with");
        assert_falls_in(name, part, &panic, &format!("{panic}\n{panic}"), "2 lines begin");
    }
    assert_eq!(crash("OVERFLOW_ON_EMERGENCY_STACK").parts.len(), 4);
    assert_falls_in("OVERFLOW_HOLDING_LOCK", 1, "sections deep", "sections", "does not say");
    assert_falls_in("OVERFLOW_IN_INIT", 0, "done: nothing;", "done: pid 1 is killed;", "ended with stopped");
    assert_falls_in(
        "DOUBLE_FAULT",
        0,
        "Kernel panic: ",
        "BUG: TASK stack guard page was hit at 0\nKernel panic: ",
        "without",
    );
}

#[test]
fn nothing_goes_on_after_an_announced_stop() {
    let plan = alone("EXHAUST_STACK", 0);
    let log = boot(&plan);
    for at in ["fact crash.begin", "fact survivor", "fact crash.end"] {
        let said = log.replacen(at, &format!("said in between: Kernel panic: no\n{at}"), 1);
        assert!(!shortfalls(&plan, &said).is_empty(), "before {at}");
    }
    assert!(!shortfalls(&plan, &(log + "Kernel panic: late\n")).is_empty());
}

#[test]
fn a_report_is_whole_and_of_what_its_fact_is() {
    let trace = "---[ end trace 0000000000000001 ]---\n";
    for (from, to, said) in [
        ("Oops: stack", "oops: stack", "no line that begins `Oops: `"),
        ("Oops: stack", "Oops: first\nOops: stack", "more than one line that begins `Oops: `"),
        ("guard page [#1]", "guard page [#2]", "says `Oops: "),
        ("state: ", "State: ", "no line that begins `state: `"),
        ("done: ", "done: x\ndone: ", "more than one line that begins `done: `"),
        ("done: pid 100 is killed;", "done: pid 101 is killed;", "ended with killed"),
        ("current task pid 100 ", "current task pid 10 ", "is of task 100"),
        ("cpu 0, instruction ffffffff80200100,", "cpu 1, instruction ffffffff80200100,", "begins `cpu 0, instruction"),
        (trace, "---[ end trace 0000000000000002 ]---\n", "does not end with"),
        (trace, "---[ end trace 0000000000000001 ]---\nmore\n", "does not end with"),
        ("Code: ", "code: ", "no line that begins `Code:`"),
        ("rax ", "eax ", "no line that begins `rax `"),
        ("rip 0008:ffffffff80200100", "rip 0008:ffffffff80200108", "registers of something else"),
        ("Call trace", "No trace", "no line that begins `(many reports"),
        ("fact oops 1 ", "fact oops 01 ", ""),
    ] {
        if !said.is_empty() {
            assert_falls(from, to, said);
        }
    }
    assert_all_fall("OVERFLOW_ON_ALL_CPUS", "Call trace", "(many reports a second: ", "no report of CPU 0 is in full");
    let none = "BUG: nothing of a stack\nfact victim 100 11";
    assert_falls("fact victim 100 11", none, "5 reports were printed, and 4 are of a stack");
}

#[test]
fn whoever_is_reported_is_somebody_and_nobody_who_lives() {
    assert_falls("80200100 1 101 ", "80200100 7 101 ", "is of CPU 7, of 2");
    assert_all_fall("OVERFLOW_STORM", " 100 24\n", " 101 24\n", "10000 reports killed 9999 tasks");
    assert_all_fall("OVERFLOW_STORM", " 100 24\n", " 90 24\n", "killed task 90, which is not dead");
    assert_all_fall("OVERFLOW_STORM", " 100 24\n", " 3 24\n", "killed task 3, which is not dead");
    assert_each_falls(
        "OVERFLOW_STORM",
        &[
            ("storm.tasks 8000 8000", "storm.tasks 80 80", "not 8000"),
            ("fact victim 4 0\n", "", "1 programs overflowed"),
        ],
    );
    assert_falls("survivor 91 5 9 0", "survivor 90 5 9 0", "3 survivors, not 4 at least");
    assert_falls("balance.reports_lost 0", "balance.reports_lost 1", "1 reports were lost");
    assert_falls("fact balance.reports_lost 0\n", "", "no fact `balance.reports_lost`");
}

#[test]
fn grace_periods_go_on_and_cpus_come_back() {
    for name in ["OVERFLOW_IN_RCU_READER", "OVERFLOW_DURING_HOTPLUG"] {
        assert_each_falls(
            name,
            &[
                ("rcu.periods 5 9", "rcu.periods 5 7", "2 grace periods were over after it"),
                ("rcu.periods 5 9", "rcu.periods 9 5", "0 grace periods were over after it"),
                ("rcu.pending 0", "rcu.pending 1", "1 callbacks still wait"),
                ("rcu.readers 900 0 7", "rcu.readers 900 1 7", "1 of 900 readers lost"),
                ("rcu.readers 900 0 7", "rcu.readers 900 0 0", "nothing is shown"),
                ("fact rcu.pending 0\n", "", "no fact `rcu.pending`"),
                ("stack.looks 20 99", "stack.looks 0 0", "0 looks"),
            ],
        );
    }
    assert_each_falls("OVERFLOW_IN_RCU_READER", &[("stack.leaked 0 1", "stack.leaked 0 0", "0 after")]);
    assert_each_falls(
        "OVERFLOW_DURING_HOTPLUG",
        &[
            (" 1\nfact hotplug.tasks", " 0\nfact hotplug.tasks", "CPU 0 went offline"),
            ("hotplug 100 100 100", "hotplug 100 99 100", "CPUs went offline 99 times"),
            ("hotplug 100 100 100", "hotplug 100 100 99", "came back 99 times"),
            ("hotplug.tasks ended 40 40", "hotplug.tasks ended 40 39", "and 39 ended"),
            ("hotplug.overflows overflowed 8 8", "hotplug.overflows overflowed 9 8", "9 tasks were started"),
        ],
    );
}

#[test]
fn the_process_of_a_thread_that_overflows_is_gone() {
    let thread = "fact thread 11 0xc0000000 0 0\nfact victim";
    assert_each_falls(
        "OVERFLOW_IN_THREAD",
        &[
            (thread, "fact victim", "3 threads overflowed, not 4"),
            (thread, "fact thread 0 0xc0000000 0 0\nfact victim", "0 0xc0000000 0 0"),
            (thread, "fact thread 11 0x8000004c 0 0\nfact victim", "11 0x8000004c 0 0"),
            (thread, "fact thread 11 0xc0000000 1 0\nfact victim", "11 0xc0000000 1 0"),
            (thread, "fact thread 11 0xc0000000 0 1\nfact victim", "11 0xc0000000 0 1"),
        ],
    );
}

#[test]
fn what_frames_owned_is_given_back_by_name() {
    assert_each_falls(
        "OVERFLOW_OWNING",
        &[
            ("owning.heap 512 560", "owning.heap 512 500", "512 bytes were owned"),
            ("owning.heap 512 560", "owning.heap 512 4000", "512 bytes were owned"),
            ("balance.heap 64 624 560", "balance.heap 64 624 900", "and 900 in all"),
            ("owning.pointers 1", "owning.pointers 2", "2 owners"),
            ("owning.interrupts 1", "owning.interrupts 0", "with interrupts off"),
            ("file, counted pointer, file, pin", "file, counted pointer, file", "the pin was not given back"),
            ("file, counted pointer, file, pin", "file, pin", "the counted pointer was not given back"),
            ("file, counted pointer, file, pin", "counted pointer, pin", "the file was not given back"),
            ("given back: ", "given up: ", "the file was not given back"),
            ("was held: specimen-mutex (poisoned)", "was held: specimen-mutex", "the locks that were held"),
            ("mutex mutex poisoned", "mutex mutex free", "is left as `specimen-mutex mutex free`"),
            ("fact lock specimen-mutex mutex poisoned\n", "", "is left as ``"),
        ],
    );
}
