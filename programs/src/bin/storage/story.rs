//! The story's part about storage: processes that read the same disk, one of which goes through ever more layers until its kernel
//! stack overflows.
//!
//! The disk holds the same file system twice: plain in its first half, encrypted in its second. Facts, for the host to judge:
//!
//! ```text
//! fact storage.read WAY PATH BYTES SHA256       each file, by several ways; the large one again in the end
//! fact storage.disk SECTORS SHA256              all of the disk, before and after
//! fact storage.grown LAYERS                     as many went well, in a process
//! fact storage.overflow LAYERS STATUS           with so many it ended so, as its parent's wait saw it
//! fact storage.reading PID READS WRONG          of who read meanwhile: how often, and how often the checksum was another one
//! fact storage.reader PID STATUS                and how that one ended
//! ```

use std::fs;
use std::io;

use vmstack_programs::pipe::{close, has_ended, pipe};
use vmstack_programs::{Pid, spawn, wait};

use super::digest;

/// The key that the host encrypts with: it protects nothing.
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\
                   202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";
/// The whole disk.
const DISK: &str = "/disk/disk";
const SECTOR: u64 = 512;
/// What the host has put there.
const FILES: [&str; 5] = ["/empty", "/small", "/large", "/holes", "/one/two/three/deep"];
/// What is read to see how deep a stack goes, and what others read meanwhile.
const SMALL: &str = "/small";
const LARGE: &str = "/large";
/// How many read while the stack overflows.
const READERS: usize = 3;
/// More layers than a kernel has.
const MOST: usize = 2000;

/// The ways to the file system, by name.
struct Ways {
    plain: String,
    encrypted: String,
}

/// A way's name, and its description.
type Way = (&'static str, String);

impl Ways {
    fn new() -> io::Result<Self> {
        let half = fs::File::open(DISK)?.metadata()?.len() / SECTOR / 2;
        Ok(Self { plain: format!("linear@0+{half}"), encrypted: format!("crypt={KEY}.linear@{half}") })
    }

    fn all(&self) -> [Way; 5] {
        let Self { plain, encrypted } = self;
        [
            ("plain", plain.clone()),
            ("crypt", encrypted.clone()),
            ("mirror", format!("mirror({plain},{encrypted})")),
            ("fallback", format!("mirror(fail,{encrypted})")),
            ("compare", format!("linear*12.compare({plain},{encrypted})")),
        ]
    }

    /// `SMALL` through `layers` more than the plain way.
    fn deep(&self, layers: usize) -> String {
        format!("/disk/linear*{layers}.{}{SMALL}", self.plain)
    }
}

/// Says what `file` is by each of `ways`.
fn say_file(ways: &Ways, file: &str) -> io::Result<()> {
    for (name, way) in ways.all() {
        let (bytes, sum) = digest(&format!("/disk/{way}{file}"))
            .map_err(|error| io::Error::other(format!("{name} {file}: {error}")))?;
        println!("fact storage.read {name} {file} {bytes} {sum}");
    }
    Ok(())
}

/// Says what all of the disk is.
fn say_disk() -> io::Result<()> {
    let (bytes, sum) = digest(DISK)?;
    println!("fact storage.disk {} {sum}", bytes / SECTOR);
    Ok(())
}

/// Someone who reads the large file by `way` again and again until nobody writes to `stop` any more, and says how that went.
fn reader(way: &str, stop: i32) -> i32 {
    let path = format!("/disk/{way}{LARGE}");
    let (mut reads, mut wrong) = (0, 0);
    let Ok(first) = digest(&path) else { return 1 };
    while !has_ended(stop) {
        reads += 1;
        wrong += usize::from(digest(&path).ok().as_ref() != Some(&first));
    }
    println!("fact storage.reading {} {reads} {wrong}", std::process::id());
    0
}

/// Reads through ever more layers, each time in a process of its own, until one does not end well.
fn grow(ways: &Ways) -> io::Result<()> {
    for layers in 1..MOST {
        let path = ways.deep(layers);
        let child = spawn(|| i32::from(digest(&path).is_err()))?;
        let status = wait(child)?.status;
        if status != 0 {
            println!("fact storage.grown {}", layers - 1);
            println!("fact storage.overflow {layers} {status:#x}");
            return Ok(());
        }
    }
    println!("fact storage.grown {MOST}");
    Ok(())
}

/// Tells it.
pub(crate) fn tell() -> io::Result<()> {
    let ways = Ways::new()?;
    say_disk()?;
    FILES.iter().try_for_each(|file| say_file(&ways, file))?;
    let [stop, go_on] = pipe()?;
    let start = |(_, way): &Way| {
        spawn(|| {
            let _closed = close(go_on);
            reader(way, stop)
        })
    };
    let readers: Vec<Pid> = ways.all().iter().take(READERS).map(start).collect::<io::Result<_>>()?;
    let grown = grow(&ways);
    close(go_on)?;
    for reader in readers {
        println!("fact storage.reader {reader} {:#x}", wait(reader)?.status);
    }
    grown?;
    say_file(&ways, LARGE)?;
    say_disk()
}
