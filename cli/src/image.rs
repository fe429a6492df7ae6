//! A disk's image for the guest: a file system that the host's own tools make, once as it is and once encrypted.
//!
//! ```text
//!   sectors   0 .......... n-1 │ n ............. 2n-1
//!             ext4, plain      │ the same, encrypted      as dm-crypt's aes-xts-plain64, 512 bytes a sector, numbered from 0
//! ```
//!
//! What the guest reads is compared with what was put there, and the image afterwards with what it was: [`Image::facts`] says so in the
//! words of the guest's own facts.

use core::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aes::Aes256;
use aes::cipher::KeyInit;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use thiserror::Error;
use xts_mode::{Xts128, get_tweak_default};

use crate::emulator::scratch;
use crate::failure::Failure;
use crate::toolchain::{find, is_program};

/// What makes the file system.
pub const TOOL: &str = "mke2fs";
/// The Debian package that has it.
pub const TOOL_PACKAGE: &str = "e2fsprogs";
/// Where it lies on machines whose users have no such folders on their path.
const TOOL_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Bytes of the file system.
const BYTES: usize = 2 << 20;
const SECTOR: usize = 512;
/// The key, of two halves, as the guest's program has it: it protects nothing.
const KEY: [u8; 64] = {
    let mut key = [0; 64];
    let mut at = 0;
    while at < key.len() {
        key[at] = at as u8;
        at += 1;
    }
    key
};
/// What is in the files: their names, and their stretches of bytes with holes between them. The last hole ends at a stretch.
const FILES: [(&str, &[(usize, usize)]); 5] = [
    ("empty", &[]),
    ("small", &[(0, 700)]),
    ("large", &[(0, 300_000)]),
    ("holes", &[(0, 3000), (100_000, 5000)]),
    ("one/two/three/deep", &[(0, 5000)]),
];

/// The host has nothing that makes file systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no {TOOL} to make a file system with; install Debian's {TOOL_PACKAGE}")]
pub struct NoTool;

/// An image, and what is on it.
#[derive(Debug)]
pub struct Image {
    disk: PathBuf,
    /// Goes with the value.
    _folder: TempDir,
    /// Its checksum when it was made.
    sum: String,
    /// Names, sizes in bytes and checksums.
    files: Vec<(&'static str, usize, String)>,
}

/// The program that makes file systems: what `VMSTACK_MKE2FS` names, when it is set; none when there is none.
#[must_use]
pub fn tool() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("VMSTACK_MKE2FS").filter(|name| !name.is_empty()) {
        return Some(PathBuf::from(given)).filter(|path| is_program(path));
    }
    let elsewhere = || TOOL_FOLDERS.iter().map(|folder| Path::new(folder).join(TOOL)).find(|path| is_program(path));
    find(TOOL).or_else(elsewhere)
}

impl Image {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// Outer: when the tool fails, or a file cannot be written. Inner: when there is no tool.
    pub fn make() -> Result<Result<Self, NoTool>, Failure> {
        match tool() {
            Some(tool) => Self::make_with(&tool).map(Ok),
            None => Ok(Err(NoTool)),
        }
    }

    fn make_with(tool: &Path) -> Result<Self, Failure> {
        let folder = scratch()?;
        let root = folder.path().join("root");
        let mut files = Vec::new();
        for (name, stretches) in FILES {
            let bytes = contents(name, stretches);
            write(&root.join(name), &bytes)?;
            files.push((name, bytes.len(), checksum(&bytes)));
        }
        let plain = folder.path().join("plain");
        make_file_system(tool, &root, &plain)?;
        let mut all = read(&plain)?;
        let encrypted = encrypt(&all);
        all.extend(encrypted);
        let disk = folder.path().join("disk");
        write(&disk, &all)?;
        Ok(Self { disk, _folder: folder, sum: checksum(&all), files })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.disk
    }

    /// What is on it, and what it is like now, as the guest says its facts:
    ///
    /// ```text
    /// fact storage.host.file PATH BYTES SHA256      each file that was put there
    /// fact storage.host.disk BEFORE AFTER           the image's SHA-256 when it was made, and now
    /// ```
    ///
    /// # Errors
    ///
    /// When the image cannot be read any more.
    pub fn facts(&self) -> Result<String, Failure> {
        let mut facts = String::new();
        for (name, bytes, sum) in &self.files {
            let _infallible = writeln!(facts, "fact storage.host.file /{name} {bytes} {sum}");
        }
        let _infallible = writeln!(facts, "fact storage.host.disk {} {}", self.sum, checksum(&read(&self.disk)?));
        Ok(facts)
    }
}

/// What is in the file `name`: bytes that look random, the same each time, with zeros between `stretches`.
fn contents(name: &str, stretches: &[(usize, usize)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &(start, count) in stretches {
        bytes.resize(start, 0);
        let blocks = (0_u64..).flat_map(|number| Sha256::digest(format!("{name} {start} {number}")));
        bytes.extend(blocks.take(count));
    }
    bytes
}

/// Has `tool` make a file system in the file `image` of what lies in the folder `root`.
fn make_file_system(tool: &Path, root: &Path, image: &Path) -> Result<(), Failure> {
    let mut command = Command::new(tool);
    command.args(["-q", "-F", "-t", "ext4", "-b", "1024", "-E", "root_owner=0:0", "-d"]);
    command.args([root, image]).arg((BYTES / 1024).to_string()).stdin(Stdio::null());
    // Its configuration is the machine's.
    command.env("MKE2FS_CONFIG", "/dev/null");
    let fails = |why: String| Failure::cannot(format!("{} makes no file system: {why}", tool.display()));
    let output = command.output().map_err(|error| fails(error.to_string()))?;
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(fails(complaint)) }
}

/// `plain`, encrypted sector by sector.
fn encrypt(plain: &[u8]) -> Vec<u8> {
    let (data, tweak) = KEY.split_at(KEY.len() / 2);
    let [data, tweak] = [data, tweak].map(|half| Aes256::new_from_slice(half).expect("half of the key is a key"));
    let mut bytes = plain.to_vec();
    Xts128::new(data, tweak).encrypt_area(&mut bytes, SECTOR, 0, get_tweak_default);
    bytes
}

fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    folder.and_then(|()| std::fs::write(path, bytes)).map_err(|error| {
        Failure::cannot(format!("{} cannot be written: {error}; make room there or set TMPDIR", path.display()))
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::cannot(format!("{} cannot be read: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::{BYTES, Image, SECTOR, contents, encrypt};

    #[test]
    fn what_is_in_a_file_is_the_same_each_time_and_not_that_of_others() {
        let one = contents("a", &[(0, 100)]);
        assert_eq!(one, contents("a", &[(0, 100)]));
        assert_ne!(one, contents("b", &[(0, 100)]));
        let holes = contents("a", &[(0, 100), (1000, 5)]);
        assert!(holes.len() == 1005 && holes[..100] == one && holes[100..1000].iter().all(|&byte| byte == 0));
    }

    /// As OpenSSL does with the same key: `Cipher(AES(key), XTS(sector))` of Python's `cryptography`.
    #[test]
    fn sectors_are_encrypted_as_others_encrypt_them() {
        let encrypted = encrypt(&[0; 2 * SECTOR]);
        assert_eq!(encrypted[..8], FIRST);
        assert_eq!(encrypted[SECTOR..SECTOR + 8], SECOND);
    }

    const FIRST: [u8; 8] = [0xcd, 0x6b, 0x10, 0x32, 0x36, 0xfb, 0xd8, 0x7d];
    const SECOND: [u8; 8] = [0x0c, 0x22, 0xed, 0x7e, 0x21, 0x68, 0xa8, 0x50];

    #[test]
    fn an_image_is_a_file_system_twice() {
        let Ok(image) = Image::make().expect("the tool works") else { return };
        let bytes = std::fs::read(image.path()).expect("it is there");
        assert_eq!(bytes.len(), 2 * BYTES);
        let (plain, encrypted) = bytes.split_at(BYTES);
        // The magic number of ext4's superblock.
        assert_eq!((&plain[1024 + 56..][..2], encrypt(plain)), (&[0x53, 0xef][..], encrypted.to_vec()));
        let facts = image.facts().expect("it can be read");
        assert!(facts.lines().count() == 6 && facts.contains("fact storage.host.file /small 700 "), "{facts}");
        let before = facts.lines().last().expect("a line").to_owned();
        std::fs::write(image.path(), b"changed").expect("written");
        assert_ne!(image.facts().expect("it can be read").lines().last(), Some(before.as_str()));
    }
}
