//! What a boot does: one task runs it, prints the end marker, and ends the emulator.

use crate::arch::cpu;
use crate::balance::Balance;
use crate::console;
use crate::mm::heap;
use crate::options::{Mode, Options};
use crate::process::{self, End, start, tree};
use crate::stacks::shootdown::{self, How};
use crate::sync::{AnyLock, SpinLock};
use crate::syscall::Errno;
use crate::task::flags::Flag;
use crate::task::{self, sched};
use crate::{control, count, crash, disk, dma, fact, oops, println, requests, stacks, stale, story, syscall};

static OPTIONS: SpinLock<Option<Options>> = SpinLock::new("run-options", None);

/// The lock of the options.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &OPTIONS
}

/// Queues the task that does what `options` ask.
pub(crate) fn spawn(options: Options) {
    *OPTIONS.lock_or_reset(|_| None) = Some(options);
    if let Err(error) = task::spawn_kernel("main", main, 0) {
        println!("Kernel panic: no first task: {error}");
        cpu::exit(17);
    }
}

extern "C" fn main(_: usize) -> ! {
    sched::begin();
    sched::become_init();
    let Some(options) = OPTIONS.lock_or_reset(|_| None).take() else { sched::exit() };
    dma::init(options.dma);
    disk::init();
    if options.equal {
        control::equal::keep();
    }
    if options.direct {
        task::use_direct_stacks();
    }
    if options.late {
        task::free_stacks_late();
    }
    if options.scrub_whole {
        stacks::scrub_whole();
    }
    if options.flush_at_switch {
        shootdown::flush_by(How::AtSwitch);
    }
    if options.thread_info_at_bottom {
        control::put_thread_info_at_bottom();
    }
    match options.mode {
        Mode::Probe => {}
        Mode::Story => story::tell(),
        Mode::Control if options.direct => control::direct(),
        Mode::Control => control::mapped(),
        Mode::Count => count::count(),
        Mode::Stack => count::stack::count(),
        Mode::Vmalloc => count::vmalloc::count(),
        Mode::Dma => count::dma::count(),
        Mode::Requests => requests::make(&options),
        Mode::Fault => count::fault::count(),
        Mode::Memory => count::memory::count(),
        Mode::Pending => count::pending::measure(),
        Mode::Stale => stale::show(),
        Mode::Crash => crash::run(&options),
        Mode::Program => run_program(&options),
        Mode::Storage => story::storage::tell(),
    }
    oops::print_left();
    println!("vmstack: {} bytes of the heap in use", heap::used());
    println!("marker end-of-{}", options.mode.name());
    cpu::exit(16)
}

/// Runs the program that the command line names, with everything that it starts, and says on the side channel how it ended. When all
/// of it is gone everything is counted again.
fn run_program(options: &Options) {
    let before = Balance::take();
    if options.traced {
        // What is started from here inherits it.
        sched::current().raise(Flag::Trace);
    }
    let started = options.strings().map_err(Errno::from).and_then(|strings| {
        let path = strings.arguments.iter().next().unwrap_or(&[]);
        start::start_reaper(path, &strings)
    });
    match started {
        Ok(process) => {
            let end = process.wait_for_end();
            drop(process);
            process::end_all();
            sched::settle();
            Balance::take().print_since(&before);
            let (threads, processes) = tree::counts();
            fact!("balance.processes", "{threads} {processes}");
            for (number, count) in syscall::unknown_calls() {
                println!("system call {number} is not there: asked for {count} times");
            }
            match end {
                End::Exited(status) => console::side_channel(format_args!("exit {status}")),
                End::Killed(signal) => console::side_channel(format_args!("signal {signal}")),
            }
        }
        Err(error) => {
            println!("the program cannot be started: {error:?}");
            console::side_channel(format_args!("exit 126"));
        }
    }
}
