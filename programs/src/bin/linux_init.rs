//! The first and only process of a Linux that a measurement is compared with: `linux_init PROGRAM [ARGUMENT...]`.
//!
//! Linux passes what follows `--` on its command line. The program is run once the kernel has come to rest, and what it prints goes to
//! the console. Then `fact linux.release RELEASE`, `fact linux.status STATUS` as `wait4` gives it, `marker end-of-linux`, and a byte to
//! the emulator's exit device: the host believes a boot that has both the marker and that status.

use std::ffi::CStr;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// The emulator's exit device, and what is written for an orderly end.
const EXIT_PORT: u16 = 0xf4;
const ORDERLY: u8 = 16;
/// What a kernel puts off at its start is done after this long.
const REST: Duration = Duration::from_secs(3);

fn main() {
    // Half a program's output would be worse than none: whatever fails is said, and the machine ends without its marker.
    if let Err(error) = run() {
        println!("linux_init: {error}");
    }
    // SAFETY: flushes what Linux has not written yet; it takes nothing.
    unsafe { libc::sync() };
    if let Err(error) = end() {
        println!("linux_init: the machine cannot be ended: {error}");
    }
    // As process 1 it must not return: Linux would panic, which ends the machine too, after what it has to say of it.
}

fn run() -> io::Result<()> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().ok_or_else(|| io::Error::other("which program? linux_init PROGRAM [ARGUMENT...]"))?;
    thread::sleep(REST);
    let status = Command::new(program).args(words).env_clear().status()?;
    println!("fact linux.release {}", release()?);
    println!("fact linux.status {}", status.into_raw());
    println!("marker end-of-linux");
    // The console's queue is the serial port's, and ends with the machine.
    thread::sleep(REST);
    Ok(())
}

/// Linux's release, as it says it itself.
fn release() -> io::Result<String> {
    // SAFETY: a structure of bytes, for which zero is a value.
    let mut names: libc::utsname = unsafe { core::mem::zeroed() };
    // SAFETY: the structure is this function's own.
    if unsafe { libc::uname(&raw mut names) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: Linux ends each of its names with a zero.
    let release = unsafe { CStr::from_ptr(names.release.as_ptr()) };
    Ok(release.to_string_lossy().into_owned())
}

fn end() -> io::Result<()> {
    // SAFETY: asks for the right to use one port, which is the emulator's.
    if unsafe { libc::ioperm(EXIT_PORT.into(), 4, 1) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the port was granted; writing to it ends the emulator.
    unsafe { core::arch::asm!("out dx, al", in("dx") EXIT_PORT, in("al") ORDERLY, options(nomem, nostack)) };
    Err(io::Error::other("the emulator has no exit device"))
}
