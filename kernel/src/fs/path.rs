//! From a path to a node: part by part, through symbolic links.
//!
//! A link's target takes the place of what was walked so far, so what is left is always one path, on the heap; the walk does not
//! call itself, and a stack is no deeper for a path with many links.

use alloc::vec::Vec;

use super::node::{Node, ROOT};
use crate::mm::heap;
use crate::syscall::Errno;
use crate::text::Text;

/// The longest path, in bytes, its zero included.
pub(crate) const MAX_PATH: usize = 4096;
/// The longest part of one.
const MAX_NAME: usize = 255;
/// How many links one path may lead through.
const MAX_LINKS: usize = 40;

/// A path that is being walked.
#[derive(Debug)]
struct Walk {
    at: Node,
    path: Vec<u8>,
    /// How much of the path was walked.
    walked: usize,
    links: usize,
}

/// What `path` leads to from folder `base`; a link at its end is followed if `follow` is said, or if the path ends with a slash.
pub(crate) fn resolve(base: Node, path: Vec<u8>, follow: bool) -> Result<Node, Errno> {
    find(base, path, follow)?.ok_or(Errno::NOENT)
}

/// As [`resolve`]; if only the last part is missing, that is no error but nothing.
pub(crate) fn find(base: Node, path: Vec<u8>, follow: bool) -> Result<Option<Node>, Errno> {
    if path.is_empty() {
        return Err(Errno::NOENT);
    }
    let mut walk = Walk { at: base, path, walked: 0, links: 0 };
    walk.start_at_root_if_absolute();
    loop {
        let Some((start, end)) = walk.next_part() else {
            return Ok(Some(walk.at));
        };
        let (is_last, needs_folder) = walk.what_follows(end);
        let name = walk.path.get(start..end).unwrap_or(&[]);
        if name.len() > MAX_NAME {
            return Err(Errno::NAMETOOLONG);
        }
        let node = match walk.at.child(name) {
            Err(Errno::NOENT) if is_last => return Ok(None),
            node => node?,
        };
        walk.walked = end;
        if node.is_link() && (!is_last || follow || needs_folder) {
            walk.follow(node)?;
        } else if is_last && needs_folder && !node.is_folder() {
            return Err(Errno::NOTDIR);
        } else if is_last {
            return Ok(Some(node));
        } else {
            walk.at = node;
        }
    }
}

impl Walk {
    fn start_at_root_if_absolute(&mut self) {
        if self.path.first() == Some(&b'/') {
            self.at = ROOT;
        }
    }

    /// Where the next part is, slashes apart.
    fn next_part(&self) -> Option<(usize, usize)> {
        let rest = self.path.get(self.walked..)?;
        let start = self.walked + rest.iter().position(|&byte| byte != b'/')?;
        let rest = self.path.get(start..)?;
        Some((start, start + rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len())))
    }

    /// Whether only slashes follow the part that ends at `end`, and whether any does.
    fn what_follows(&self, end: usize) -> (bool, bool) {
        let rest = self.path.get(end..).unwrap_or(&[]);
        (rest.iter().all(|&byte| byte == b'/'), !rest.is_empty())
    }

    /// Goes where the link `node` leads, with what is left of the path.
    fn follow(&mut self, node: Node) -> Result<(), Errno> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let mut target = Text::default();
        if let Some(node) = node.follow(&mut target)? {
            self.at = node;
            return Ok(());
        }
        let mut path = target.into_bytes();
        let rest = self.path.get(self.walked..).unwrap_or(&[]);
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        if path.len() + rest.len() >= MAX_PATH {
            return Err(Errno::NAMETOOLONG);
        }
        heap::reserve(&mut path, rest.len())?;
        path.extend_from_slice(rest);
        (self.path, self.walked) = (path, 0);
        self.start_at_root_if_absolute();
        Ok(())
    }
}
