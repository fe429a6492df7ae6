//! Files of a disk, through layers of block devices: `storage PATH...` reads each, and says how long it is and what its SHA-256 is.
//!
//! ```text
//! fact storage.file PATH BYTES SHA256
//! fact storage.refused PATH ERRNO          where it cannot be read
//! ```
//!
//! Without a path it tells its part of the story: see `story`. On the reference kernel a path is `/disk/DESCRIPTION/path/of/the/file`.

mod story;

use std::fs::File;
use std::io::{self, Read};
use std::process::ExitCode;

use sha2::{Digest, Sha256};

/// What is read at once, in bytes: not a divisor of anything.
const PIECE: usize = 10_007;

/// The length of the file at `path`, and its checksum in hexadecimal digits.
fn digest(path: &str) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let (mut sum, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; PIECE]);
    loop {
        match file.read(&mut piece)? {
            0 => break,
            count => {
                sum.update(&piece[..count]);
                bytes += count as u64;
            }
        }
    }
    let sum = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((bytes, sum))
}

/// Whether what is said is what the file has.
fn say(path: &str) -> bool {
    let read = digest(path);
    match &read {
        Ok((bytes, sum)) => println!("fact storage.file {path} {bytes} {sum}"),
        Err(error) => println!("fact storage.refused {path} {}", error.raw_os_error().unwrap_or(0)),
    }
    read.is_ok()
}

fn main() -> ExitCode {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    if !paths.is_empty() {
        let refused = paths.iter().filter(|path| !say(path)).count();
        return if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    match story::tell() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("storage: {error}");
            ExitCode::FAILURE
        }
    }
}
