//! Calls about paths: what lies where, and what it is like.

use alloc::vec::Vec;

use super::{Errno, file, user};
use crate::arch::layout::PAGE_SIZE;
use crate::boot;
use crate::fs::disk::{self, DiskFile};
use crate::fs::node::{Node, Status};
use crate::fs::open::{Object, flags};
use crate::fs::path::{self, MAX_PATH};
use crate::fs::{self, OpenFile, mode};
use crate::process;
use crate::sync::Section;
use crate::text::Text;

/// Instead of a descriptor: from the working folder.
const FROM_HERE: i32 = -100;
/// Flags of the calls that end in `at`.
const NO_FOLLOW: usize = 0x100;
const EMPTY_PATH: usize = 0x1000;

/// The path at `addr`.
fn path_at(addr: usize) -> Result<Vec<u8>, Errno> {
    user::string(addr, MAX_PATH - 1).map_err(|error| if error == Errno::TOOBIG { Errno::NAMETOOLONG } else { error })
}

/// The folder that relative paths begin at, by the descriptor that a call gives.
fn base(descriptor: usize, path: &[u8]) -> Result<Node, Errno> {
    if path.first() == Some(&b'/') {
        return Ok(fs::node::ROOT);
    }
    if descriptor as i32 == FROM_HERE {
        return Ok(process::current().ok_or(Errno::NOENT)?.place().folder());
    }
    file::file(descriptor)?.folder()
}

/// What `path` leads to from `descriptor`.
fn resolve(descriptor: usize, path: Vec<u8>, follow: bool) -> Result<Node, Errno> {
    path::resolve(base(descriptor, &path)?, path, follow)
}

/// What lies at the path at `addr`.
fn find(descriptor: usize, addr: usize, follow: bool) -> Result<Option<Node>, Errno> {
    let path = path_at(addr)?;
    path::find(base(descriptor, &path)?, path, follow)
}

pub(super) fn open(descriptor: usize, path: usize, wanted: usize) -> Result<usize, Errno> {
    let path = path_at(path)?;
    if let Some(on_disk) = disk::split(&path) {
        return open_on_disk(on_disk, wanted);
    }
    let follow = wanted & flags::NO_FOLLOW == 0
        && wanted & (flags::CREATE | flags::EXCLUSIVE) != flags::CREATE | flags::EXCLUSIVE;
    let node = match path::find(base(descriptor, &path)?, path, follow)? {
        Some(_) if wanted & flags::CREATE != 0 && wanted & flags::EXCLUSIVE != 0 => return Err(Errno::EXIST),
        Some(node) => node,
        None if wanted & flags::CREATE != 0 => return Err(Errno::ROFS),
        None => return Err(Errno::NOENT),
    };
    may_open(node, wanted)?;
    // A pipe's end is counted from its opening on: until it is in the table nobody is killed.
    let _section = Section::enter();
    let file = OpenFile::of_node(node, wanted)?;
    file::with_files(|files| files.install(file, 0, wanted & flags::CLOSE_ON_EXEC != 0))
}

/// Opens what lies on a disk. It is the table's before anything is read, so that nothing of it is lost if the task is killed meanwhile.
fn open_on_disk((description, path): (&[u8], &[u8]), wanted: usize) -> Result<usize, Errno> {
    if wanted & (flags::ACCESS | flags::TRUNCATE) != 0 {
        return Err(Errno::ROFS);
    }
    if wanted & (flags::CREATE | flags::EXCLUSIVE | flags::PATH) != 0 {
        return Err(Errno::INVAL);
    }
    if wanted & flags::FOLDER != 0 {
        return Err(Errno::NOTDIR);
    }
    let disk = DiskFile::new(description, path)?;
    let section = Section::enter();
    let file = OpenFile::new(Object::Disk(disk), wanted)?;
    let descriptor = file::with_files(|files| files.install(file, 0, wanted & flags::CLOSE_ON_EXEC != 0))?;
    drop(section);
    let found = file::file(descriptor).and_then(|file| file.status());
    if let Err(error) = found {
        file::with_files(|files| files.close(descriptor))?;
        return Err(error);
    }
    Ok(descriptor)
}

/// Whether `node` can be opened so.
fn may_open(node: Node, wanted: usize) -> Result<(), Errno> {
    if wanted & flags::PATH != 0 {
        return Ok(());
    }
    let writes = wanted & flags::ACCESS != 0 || wanted & flags::TRUNCATE != 0;
    if node.is_link() {
        return Err(Errno::LOOP);
    }
    if node.is_folder() {
        return if writes || wanted & flags::CREATE != 0 { Err(Errno::ISDIR) } else { Ok(()) };
    }
    if wanted & flags::FOLDER != 0 {
        return Err(Errno::NOTDIR);
    }
    match node {
        Node::Archive(_) if writes => Err(Errno::ROFS),
        Node::Made(entry, _) if writes && entry.permissions & 0o222 == 0 => Err(Errno::ACCES),
        _ => Ok(()),
    }
}

pub(super) fn fstat(descriptor: usize, buffer: usize) -> Result<usize, Errno> {
    write_stat(buffer, &file::file(descriptor)?.status()?)
}

/// What is known of what a call names: by a path, or by a descriptor alone.
fn status_at(descriptor: usize, path: usize, how: usize) -> Result<Status, Errno> {
    let path = if path == 0 && how & EMPTY_PATH != 0 { Vec::new() } else { path_at(path)? };
    if path.is_empty() && how & EMPTY_PATH != 0 {
        return if descriptor as i32 == FROM_HERE {
            base(descriptor, &[])?.status()
        } else {
            file::file(descriptor)?.status()
        };
    }
    resolve(descriptor, path, how & NO_FOLLOW == 0)?.status()
}

pub(super) fn fstatat(descriptor: usize, path: usize, buffer: usize, how: usize) -> Result<usize, Errno> {
    write_stat(buffer, &status_at(descriptor, path, how)?)
}

pub(super) fn stat(path: usize, buffer: usize, follow: bool) -> Result<usize, Errno> {
    fstatat(FROM_HERE as usize, path, buffer, if follow { 0 } else { NO_FOLLOW })
}

/// Blocks of 512 bytes.
const fn blocks(status: &Status) -> u64 {
    status.size.div_ceil(512)
}

/// Linux's word for a device's numbers.
const fn device_word((major, minor): (u32, u32)) -> u64 {
    ((major as u64) << 8) | (minor as u64 & 0xff) | ((minor as u64 & !0xff) << 12)
}

/// Writes a `struct stat`.
fn write_stat(buffer: usize, status: &Status) -> Result<usize, Errno> {
    let mut stat = [0_u8; 144];
    let mut put = |at: usize, bytes: &[u8]| stat[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &status.device.to_le_bytes());
    put(8, &status.number.to_le_bytes());
    put(16, &u64::from(status.links).to_le_bytes());
    put(24, &status.mode.to_le_bytes());
    put(40, &device_word(status.made_of).to_le_bytes());
    put(48, &status.size.to_le_bytes());
    put(56, &(PAGE_SIZE as u64).to_le_bytes());
    put(64, &blocks(status).to_le_bytes());
    [72, 88, 104].into_iter().for_each(|at| put(at, &status.modified.to_le_bytes()));
    user::write(buffer, &stat)?;
    Ok(0)
}

pub(super) fn statx(descriptor: usize, path: usize, how: usize, buffer: usize) -> Result<usize, Errno> {
    /// What is always filled in: everything that `stat` says.
    const BASIC: u32 = 0x7ff;
    let status = status_at(descriptor, path, how)?;
    let mut all = [0_u8; 256];
    let mut put = |at: usize, bytes: &[u8]| all[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &BASIC.to_le_bytes());
    put(4, &(PAGE_SIZE as u32).to_le_bytes());
    put(16, &status.links.to_le_bytes());
    put(28, &(status.mode as u16).to_le_bytes());
    put(32, &status.number.to_le_bytes());
    put(40, &status.size.to_le_bytes());
    put(48, &blocks(&status).to_le_bytes());
    [64, 96, 112].into_iter().for_each(|at| put(at, &status.modified.to_le_bytes()));
    put(128, &status.made_of.0.to_le_bytes());
    put(132, &status.made_of.1.to_le_bytes());
    put(140, &(status.device as u32).to_le_bytes());
    user::write(buffer, &all)?;
    Ok(0)
}

/// `statfs` of what lies at `path`.
pub(super) fn statfs(path: usize, buffer: usize) -> Result<usize, Errno> {
    let node = resolve(FROM_HERE as usize, path_at(path)?, true)?;
    write_statfs(buffer, Some(node))
}

pub(super) fn fstatfs(descriptor: usize, buffer: usize) -> Result<usize, Errno> {
    write_statfs(buffer, file::file(descriptor)?.node())
}

/// Writes a `struct statfs`: of the archive, of what the kernel makes, or of pipes.
fn write_statfs(buffer: usize, node: Option<Node>) -> Result<usize, Errno> {
    const RAM: u64 = 0x8584_58f6;
    const PROC: u64 = 0x9fa0;
    const PIPES: u64 = 0x5049_5045;
    const READ_ONLY: u64 = 1;
    const LONGEST_NAME: u64 = 255;
    let (kind, flags, blocks) = match node {
        Some(Node::Archive(_)) => (RAM, READ_ONLY, boot::archive().bytes().div_ceil(PAGE_SIZE) as u64),
        Some(_) => (PROC, 0, 0),
        None => (PIPES, 0, 0),
    };
    let words = [kind, PAGE_SIZE as u64, blocks, 0, 0, 0, 0, 0, LONGEST_NAME, PAGE_SIZE as u64, flags, 0, 0, 0, 0];
    let mut statfs = [0_u8; 120];
    statfs.chunks_exact_mut(8).zip(words).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_le_bytes()));
    user::write(buffer, &statfs)?;
    Ok(0)
}

pub(super) fn access(descriptor: usize, path: usize, wanted: usize, how: usize) -> Result<usize, Errno> {
    const EXECUTE: usize = 1;
    const WRITE: usize = 2;
    if wanted & !7 != 0 {
        return Err(Errno::INVAL);
    }
    let node = resolve(descriptor, path_at(path)?, how & NO_FOLLOW == 0)?;
    let mode = node.status()?.mode;
    if wanted & WRITE != 0 && matches!(node, Node::Archive(_)) {
        return Err(Errno::ROFS);
    }
    if wanted & EXECUTE != 0 && mode & 0o111 == 0 {
        return Err(Errno::ACCES);
    }
    Ok(0)
}

pub(super) fn readlink(descriptor: usize, path: usize, buffer: usize, count: usize) -> Result<usize, Errno> {
    if count.cast_signed() <= 0 {
        return Err(Errno::INVAL);
    }
    let node = resolve(descriptor, path_at(path)?, false)?;
    let mut target = Text::default();
    node.read_link(&mut target)?;
    let target = target.into_bytes();
    let shown = target.get(..count).unwrap_or(&target);
    user::write(buffer, shown)?;
    Ok(shown.len())
}

pub(super) fn chdir(path: usize) -> Result<usize, Errno> {
    go_to(resolve(FROM_HERE as usize, path_at(path)?, true)?)
}

pub(super) fn fchdir(descriptor: usize) -> Result<usize, Errno> {
    go_to(file::file(descriptor)?.folder()?)
}

fn go_to(folder: Node) -> Result<usize, Errno> {
    if !folder.is_folder() {
        return Err(Errno::NOTDIR);
    }
    process::current().ok_or(Errno::NOENT)?.place().set_folder(folder);
    Ok(0)
}

pub(super) fn getcwd(buffer: usize, size: usize) -> Result<usize, Errno> {
    let mut path = Text::default();
    process::current().ok_or(Errno::NOENT)?.place().folder().write_path(&mut path)?;
    path.push(&[0])?;
    let path = path.into_bytes();
    if path.len() > size {
        return Err(Errno::RANGE);
    }
    user::write(buffer, &path)?;
    Ok(path.len())
}

pub(super) fn umask(mask: usize) -> Result<usize, Errno> {
    Ok(process::current().ok_or(Errno::NOENT)?.place().set_mask(mask as u32) as usize)
}

/// Lists a folder, from its position on: as many members as fit whole.
pub(super) fn getdents(descriptor: usize, buffer: usize, count: usize) -> Result<usize, Errno> {
    let open = file::file(descriptor)?;
    let folder = open.folder()?;
    let mut written = 0;
    while let Some((member, next)) = fs::member(folder, open.position()) {
        let put = |at| put_member(folder, member, next, at, count - written);
        match buffer.checked_add(written).ok_or(Errno::FAULT).and_then(put) {
            Ok(length) => written += length,
            // Those before are told, and not told again: an error is for the next call.
            Err(_) if written != 0 => break,
            Err(error) => return Err(error),
        }
        open.set_position(next);
    }
    Ok(written)
}

/// Writes what `getdents` says of `member`, which `next` follows, to `at`, where there is `room`, and says how much that is.
fn put_member(folder: Node, member: fs::Member, next: usize, at: usize, room: usize) -> Result<usize, Errno> {
    /// Before the name: number, place of the next one, length, kind.
    const HEADER: usize = 19;
    let node = fs::member_node(folder, member);
    let mut record = Text::default();
    record.push(&[0; HEADER])?;
    match member {
        fs::Member::Itself => record.push(b".")?,
        fs::Member::Parent => record.push(b"..")?,
        fs::Member::Child(node) => node.write_name(&mut record)?,
    }
    record.push(&[0])?;
    let mut record = record.into_bytes();
    let length = record.len().next_multiple_of(8);
    if length > room {
        return Err(Errno::INVAL);
    }
    crate::mm::heap::reserve(&mut record, length)?;
    record.resize(length, 0);
    let status = node.status().unwrap_or_default();
    record[..8].copy_from_slice(&status.number.to_le_bytes());
    record[8..16].copy_from_slice(&(next as u64).to_le_bytes());
    record[16..18].copy_from_slice(&(length as u16).to_le_bytes());
    record[18] = mode::entry_kind(status.mode);
    user::write(at, &record)?;
    Ok(length)
}

/// Makes, removes, renames or changes what lies at a path: nothing can be, but what is wrong with the path comes first.
pub(super) fn make(descriptor: usize, path: usize) -> Result<usize, Errno> {
    match find(descriptor, path, false)? {
        Some(_) => Err(Errno::EXIST),
        None => Err(Errno::ROFS),
    }
}

/// As [`make`], for what has to be there.
pub(super) fn change(descriptor: usize, path: usize) -> Result<usize, Errno> {
    resolve(descriptor, path_at(path)?, false)?;
    Err(Errno::ROFS)
}

/// As [`change`], for an open file.
pub(super) fn change_open(descriptor: usize) -> Result<usize, Errno> {
    file::file(descriptor)?;
    Err(Errno::ROFS)
}

/// The folder that paths of the calls without `at` begin at.
pub(super) const HERE: usize = FROM_HERE as usize;
