//! Faults that are not ours go where they went before, and those of nobody still kill the process.
//!
//! Each case runs in a process of its own: this program, started again with the name of the case.

#![expect(clippy::unwrap_used, clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "the cases are C in the shape of Rust")]

use core::hint::black_box;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use vmstack::Platform;
use vmstack_hosted::story::recurse;
use vmstack_hosted::{Areas, AreasConfig, Config, Ended, Machine, Outcome, yield_now};

const PAGE: usize = 4096;

/// Runs `case` in a process of its own and returns what became of it.
fn run(name: &str, case: fn()) -> Output {
    if std::env::var("VMSTACK_CASE").is_ok_and(|wanted| wanted == name) {
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core) };
        case();
        std::process::exit(0);
    }
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", name, "--nocapture", "--test-threads=1"]).env("VMSTACK_CASE", name).output().unwrap()
}

fn assert_lives(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

fn assert_dies_of_it(output: &Output) {
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("so far"), "{output:?}");
}

fn overflow_in_a_task() {
    let machine = Machine::new(&Config::new(4, 16 << 10)).unwrap();
    let cpu = machine.cpu().unwrap();
    unsafe { cpu.spawn("guilty", || assert_ne!(recurse(1), 1)) }.unwrap();
    unsafe { cpu.spawn("other", yield_now) }.unwrap();
    let ended: Vec<Ended> = cpu.run();
    assert!(matches!(ended[0].outcome, Outcome::Killed(_)) && ended[1].outcome == Outcome::Finished);
    println!("so far");
}

fn touch(address: usize) {
    black_box(unsafe { ptr::with_exposed_provenance::<u8>(address).read_volatile() });
}

fn set_handler(signal: i32, handler: usize, flags: i32) -> libc::sigaction {
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        let mut before: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        libc::sigaddset(&raw mut action.sa_mask, libc::SIGUSR1);
        assert_eq!(libc::sigaction(signal, &raw const action, &raw mut before), 0);
        before
    }
}

/// A page that cannot be accessed until a handler opens it.
fn closed_page() -> usize {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    unsafe { libc::mmap(ptr::null_mut(), PAGE, libc::PROT_NONE, flags, -1, 0) }.expose_provenance()
}

static CALLS: AtomicUsize = AtomicUsize::new(0);
static PLACE: AtomicUsize = AtomicUsize::new(0);

fn open_place() {
    let page = ptr::with_exposed_provenance_mut(PLACE.load(Ordering::SeqCst));
    unsafe { libc::mprotect(page, PAGE, libc::PROT_READ) };
    CALLS.fetch_add(1, Ordering::SeqCst);
}

fn usr1_is_blocked() -> bool {
    unsafe {
        let mut mask: libc::sigset_t = core::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &raw mut mask);
        libc::sigismember(&raw const mask, libc::SIGUSR1) == 1
    }
}

/// Opens the page that faulted, so that the instruction succeeds when it repeats.
extern "C" fn opens(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let address = unsafe { (*info).si_addr() }.addr();
    if signal != libc::SIGSEGV || address != PLACE.load(Ordering::SeqCst) + 5 || !usr1_is_blocked() {
        std::process::abort();
    }
    open_place();
}

extern "C" fn opens_plain(signal: i32) {
    if signal != libc::SIGSEGV {
        std::process::abort();
    }
    open_place();
}

fn fault_at_a_closed_page() {
    let page = closed_page();
    PLACE.store(page, Ordering::SeqCst);
    touch(page + 5);
}

#[test]
fn a_stray_fault_that_nobody_handles_kills_the_process() {
    assert_dies_of_it(&run("a_stray_fault_that_nobody_handles_kills_the_process", || {
        overflow_in_a_task();
        touch(8);
    }));
}

#[test]
fn a_stray_fault_in_a_task_kills_the_process_too() {
    assert_dies_of_it(&run("a_stray_fault_in_a_task_kills_the_process_too", || {
        overflow_in_a_task();
        let machine = Machine::new(&Config::new(4, 64 << 10)).unwrap();
        let cpu = machine.cpu().unwrap();
        unsafe { cpu.spawn("stray", || touch(8)) }.unwrap();
        cpu.run();
    }));
}

#[test]
fn a_handler_from_before_us_gets_the_faults_that_are_not_ours() {
    assert_lives(&run("a_handler_from_before_us_gets_the_faults_that_are_not_ours", || {
        set_handler(libc::SIGSEGV, opens as *const () as usize, libc::SA_SIGINFO);
        overflow_in_a_task();
        fault_at_a_closed_page();
        fault_at_a_closed_page();
        overflow_in_a_task();
        assert_eq!(CALLS.load(Ordering::SeqCst), 2);
        assert!(!usr1_is_blocked(), "the mask is put back");
    }));
}

#[test]
fn a_handler_without_siginfo_gets_its_one_argument() {
    assert_lives(&run("a_handler_without_siginfo_gets_its_one_argument", || {
        set_handler(libc::SIGSEGV, opens_plain as *const () as usize, 0);
        overflow_in_a_task();
        fault_at_a_closed_page();
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
    }));
}

#[test]
fn a_handler_that_wants_to_be_called_once_is_called_once() {
    assert_dies_of_it(&run("a_handler_that_wants_to_be_called_once_is_called_once", || {
        set_handler(libc::SIGSEGV, opens as *const () as usize, libc::SA_SIGINFO | libc::SA_RESETHAND);
        overflow_in_a_task();
        fault_at_a_closed_page();
        overflow_in_a_task();
        fault_at_a_closed_page();
        println!("not reached");
    }));
}

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Keeps its own page, and passes everything else on.
extern "C" fn passes_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let address = unsafe { (*info).si_addr() }.addr();
    let place = PLACE.load(Ordering::SeqCst);
    if place != 0 && (place..place + PAGE).contains(&address) {
        return open_place();
    }
    let next = NEXT.load(Ordering::SeqCst);
    let next: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = unsafe { core::mem::transmute(next) };
    next(signal, info, context);
}

#[test]
fn a_handler_that_is_installed_after_us_can_pass_on_to_us() {
    assert_lives(&run("a_handler_that_is_installed_after_us_can_pass_on_to_us", || {
        overflow_in_a_task();
        let ours = set_handler(libc::SIGSEGV, passes_on as *const () as usize, libc::SA_SIGINFO | libc::SA_ONSTACK);
        NEXT.store(ours.sa_sigaction, Ordering::SeqCst);
        overflow_in_a_task();
        fault_at_a_closed_page();
        overflow_in_a_task();
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
    }));
}

#[test]
fn a_signal_that_is_a_message_is_ignored_if_it_was() {
    assert_lives(&run("a_signal_that_is_a_message_is_ignored_if_it_was", || {
        set_handler(libc::SIGSEGV, libc::SIG_IGN, 0);
        overflow_in_a_task();
        unsafe { libc::raise(libc::SIGSEGV) };
    }));
}

#[test]
fn a_fault_cannot_be_ignored() {
    assert_dies_of_it(&run("a_fault_cannot_be_ignored", || {
        set_handler(libc::SIGSEGV, libc::SIG_IGN, 0);
        overflow_in_a_task();
        touch(8);
    }));
}

#[test]
fn a_message_kills_where_nobody_handles_it() {
    assert_dies_of_it(&run("a_message_kills_where_nobody_handles_it", || {
        set_handler(libc::SIGSEGV, libc::SIG_DFL, 0);
        overflow_in_a_task();
        unsafe { libc::raise(libc::SIGSEGV) };
        println!("not reached");
    }));
}

#[test]
fn an_overflow_inside_the_library_is_announced_and_stops_the_process() {
    let output = run("an_overflow_inside_the_library_is_announced_and_stops_the_process", || {
        overflow_in_a_task();
        let machine = Machine::new(&Config::new(4, 32 << 10)).unwrap();
        let cpu = machine.cpu().unwrap();
        let inside = || {
            let _guard = machine.area().platform().enter();
            assert_ne!(recurse(1), 1);
        };
        unsafe { cpu.spawn("inside", inside) }.unwrap();
        cpu.run();
    });
    assert_dies_of_it(&output);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("BUG: TASK stack guard page was hit") && said.contains("task 1 (inside)"), "{said}");
}

#[test]
fn a_guard_touched_by_who_is_no_task_is_announced_and_passed_on() {
    let output = run("a_guard_touched_by_who_is_no_task_is_announced_and_passed_on", || {
        overflow_in_a_task();
        let machine = Machine::new(&Config::new(4, 16 << 10)).unwrap();
        let _cpu = machine.cpu().unwrap();
        let stack = machine.area().alloc(0).unwrap();
        touch(stack.bottom().get() - 8);
    });
    assert_dies_of_it(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("wild pointer"), "{output:?}");
}

#[test]
fn many_machines_at_once_and_one_after_the_other() {
    assert_lives(&run("many_machines_at_once_and_one_after_the_other", || {
        for _ in 0..200 {
            overflow_in_a_task();
        }
        let machines: Vec<Machine> = (0..64).map(|_| Machine::new(&Config::new(1, 16 << 10)).unwrap()).collect();
        let error = Machine::new(&Config::new(1, 16 << 10)).map(drop).unwrap_err();
        assert!(error.to_string().contains("64 machines"), "{error}");
        drop(machines);
        overflow_in_a_task();
    }));
}

fn leave_an_area() {
    let areas = Areas::mapped(&AreasConfig::new(64 << 20)).unwrap();
    let _cpu = areas.cpu().unwrap();
    let area = areas.vmalloc().vmalloc(5000).unwrap();
    println!("so far");
    touch(area.range().end().get());
}

#[test]
fn who_leaves_an_area_outside_a_task_dies_of_it_and_the_area_is_named() {
    let output = run("who_leaves_an_area_outside_a_task_dies_of_it_and_the_area_is_named", leave_an_area);
    assert_dies_of_it(&output);
    let said = String::from_utf8_lossy(&output.stderr);
    let words = ["a guard, 3192 bytes above the end of", "vmalloc of 5000 bytes", "strangers.rs:", "no task has this"];
    assert!(words.iter().all(|words| said.contains(words)), "{said}");
}
