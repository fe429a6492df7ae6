//! The story's processes: some that work, and one whose kernel stack overflows while they do.
//!
//! Prints facts, for the host to judge:
//!
//! ```text
//! fact overflow.wait PID STATUS     how the victim ended, as its parent's wait saw it
//! fact overflow.alive N             workers that were alive after the victim's death, and ended their work well
//! fact overflow.expected N          workers that there were
//! ```

use std::fs;
use std::hint::black_box;
use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use vmstack_programs::{AREAS, Ended, Pid, is_alive, provoke, spawn, wait};

/// How many processes work while another one overflows.
const WORKERS: usize = 6;
/// How long they work, at least: they nap so often.
const NAPS: usize = 120;
const NAP: Duration = Duration::from_millis(10);

/// Computes, sleeps, and checks that what it computed is right: in integers, and in vector registers, which others use meanwhile.
fn work() -> i32 {
    let (mut sum, mut product) = (0_u64, 1.0_f64);
    for nap in 0..NAPS as u64 {
        sum += (0..1000).map(|n| black_box(n) * nap).sum::<u64>();
        product = step(product);
        thread::sleep(NAP);
    }
    let expected: u64 = (0..NAPS as u64).map(|nap| 499_500 * nap).sum();
    let expected_product = (0..NAPS).fold(1.0, |product, _| step(product));
    i32::from(sum != expected || product.to_bits() != expected_product.to_bits())
}

fn step(product: f64) -> f64 {
    black_box(product) * f64::from(std::process::id()).sqrt() + 0.1
}

/// Overflows its kernel stack. It exits only if that did not happen.
fn overflow() -> i32 {
    match provoke("EXHAUST_STACK") {
        Ok(()) => println!("the kernel stack was exhausted, and nothing happened"),
        Err(error) => println!("the kernel stack cannot be exhausted: {error}"),
    }
    1
}

fn tell() -> io::Result<()> {
    let workers: Vec<Pid> = (0..WORKERS).map(|_| spawn(work)).collect::<io::Result<_>>()?;
    let Ended { pid, status } = wait(spawn(overflow)?)?;
    println!("fact overflow.wait {pid} {status:#x}");
    let alive: Vec<Pid> = workers.iter().copied().filter(|&pid| is_alive(pid)).collect();
    // On a kernel that has no such file the area is not drawn, and that is all.
    if let Ok(slots) = fs::read_to_string(AREAS) {
        print!("{slots}");
    }
    let mut well = 0;
    for _ in &workers {
        let ended = wait(-1)?;
        well += usize::from(ended.well() && alive.contains(&ended.pid));
    }
    println!("fact overflow.alive {well}");
    println!("fact overflow.expected {WORKERS}");
    Ok(())
}

fn main() -> ExitCode {
    match tell() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("story: {error}");
            ExitCode::FAILURE
        }
    }
}
