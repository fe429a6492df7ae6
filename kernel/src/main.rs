//! A probe of the architecture layer: brings everything up, proves that it works, and ends the emulator.

#![no_std]
#![no_main]
#![expect(dead_code, reason = "the probe uses a part of the architecture layer")]

mod arch;
mod hooks;

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use vmstack::{Cpu, PhysAddr};

use arch::acpi::Madt;
use arch::gdt::CpuStacks;
use arch::start_info::StartInfo;
use arch::{apic, cpu, layout, pit, serial, smp, stacks};

/// The console, for `println`.
pub(crate) struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        serial::write_bytes(serial::Port::Com1, text.as_bytes());
        Ok(())
    }
}

/// Prints a line on the console.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {{
        use ::core::fmt::Write as _;
        writeln!($crate::Console, $($argument)*).ok();
    }};
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("{info}");
    cpu::exit(17)
}

static ONLINE: AtomicU32 = AtomicU32::new(1);
const HERTZ: u32 = 100;
const MAX: usize = 16;

/// Stacks for the APs, from the image: no allocator here.
static AP_STACKS: [[stacks::StaticStack; 6]; MAX] =
    [const { [const { stacks::StaticStack::new() }; 6] }; MAX];

fn read(addr: PhysAddr, bytes: usize) -> Option<&'static [u8]> {
    // SAFETY: the probe writes to no memory but its own image and the trampoline page.
    unsafe { layout::boot_bytes(addr, bytes) }
}

pub(crate) extern "C" fn kernel_main(start_info: u64) -> ! {
    // SAFETY: called once, here.
    match unsafe { arch::init_boot_cpu() } {
        Ok(features) => println!("fact features {features}"),
        Err(error) => panic!("{error}"),
    }
    println!("start info at {start_info:#x}, image {:x?}", layout::Image::linked());
    let info = match StartInfo::read(PhysAddr::new(start_info), read) {
        Ok(info) => info,
        Err(error) => panic!("{error}"),
    };
    for region in info.regions() {
        println!("memory {:#x}..{:#x} type {}", region.range.start.get(), region.range.end().get(), region.kind);
    }
    println!("command line: {:?}, modules {}, rsdp {:?}", info.command_line(), info.modules().count(), info.rsdp());
    cpu::breakpoint();
    println!("fact breakpoints {}", hooks::BREAKPOINTS.load(Relaxed));
    start_all(&info);
    println!("fact online {}", ONLINE.load(Relaxed));
    println!("marker end-of-probe");
    cpu::exit(16)
}

fn start_all(info: &StartInfo) {
    let madt = match Madt::find(info.rsdp(), read) {
        Ok(madt) => madt,
        Err(error) => panic!("{error}"),
    };
    println!("cpus {:?} ioapics {:x?} line 0 {:?}", madt.cpus(), madt.io_apics(), madt.legacy_line(0));
    if let Err(error) = apic::init() {
        panic!("{error}");
    }
    println!("timer {:?} Hz, tsc {:?} Hz", apic::calibrate_timer(), pit::calibrate(20_000, cpu::cycles));
    start_timer();
    let page = info.trampoline_page();
    println!("trampoline {page:?}");
    let Some(page) = page else { return };
    let others = madt.cpus().iter().filter(|id| **id != apic::id());
    for (number, id) in (1..MAX as u32).zip(others) {
        let own = &AP_STACKS[number as usize];
        let ends = CpuStacks {
            kernel: own[0].top(),
            interrupt: own[1].top(),
            ist: [own[2].top(), own[3].top(), own[4].top(), own[5].top()],
        };
        // SAFETY: the page is free, the stacks are this CPU's own, and the number is new.
        if let Err(error) = unsafe { smp::start_cpu(Cpu::new(number), *id, &ends, page) } {
            println!("{error}");
        }
    }
    wait_ticks(10);
}

fn start_timer() {
    if let Err(error) = apic::start_timer(HERTZ) {
        println!("{error}");
    }
}

/// Waits until every CPU that runs has counted so many ticks.
fn wait_ticks(ticks: u64) {
    let cpus = ONLINE.load(Relaxed) as usize;
    while hooks::TICKS[..cpus].iter().any(|count| count.load(Relaxed) < ticks) {
        // SAFETY: no lock is held.
        unsafe { cpu::wait_for_interrupt() };
    }
    for (cpu, count) in hooks::TICKS[..cpus].iter().enumerate() {
        println!("fact ticks {cpu} {}", count.load(Relaxed));
    }
}

pub(crate) extern "C" fn ap_main(_cpu: usize) -> ! {
    start_timer();
    ONLINE.fetch_add(1, Relaxed);
    loop {
        // SAFETY: no lock is held.
        unsafe { cpu::wait_for_interrupt() };
    }
}
