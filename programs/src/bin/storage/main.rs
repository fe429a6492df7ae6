//! Files of a disk, through layers of block devices: `storage PATH...` reads each, and says how long it is and what its SHA-256 is.
//!
//! ```text
//! fact storage.file PATH BYTES SHA256
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

fn say(path: &str) -> io::Result<()> {
    let (bytes, sum) = digest(path).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    println!("fact storage.file {path} {bytes} {sum}");
    Ok(())
}

fn main() -> ExitCode {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let said = if paths.is_empty() { story::tell() } else { paths.iter().try_for_each(|path| say(path)) };
    match said {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("storage: {error}");
            ExitCode::FAILURE
        }
    }
}
