//! The archive as a tree: folders, files and symbolic links by number, the root's being 0.
//!
//! Built once at boot, when the heap is there; never changed, so reading it takes no lock. A folder that only the paths of other
//! entries speak of is made. An entry whose path leads through something that is not a folder is left out, and so is one whose name is
//! there already, but for a folder, whose permissions count then.
//!
//! ```text
//!   node: name, parent, first child ──> child ──> child       each knows its next sibling, in the archive's order
//! ```

use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::archive::{Archive, Entry};
use super::mode;
use crate::mm::heap::{self, OutOfHeap};

/// The root's number.
pub(crate) const ROOT: u32 = 0;
/// No node: the end of a list of children.
const NONE: u32 = u32::MAX;

/// A node of the tree.
#[derive(Debug)]
pub(crate) struct TreeNode {
    pub(crate) name: &'static [u8],
    pub(crate) data: &'static [u8],
    /// Kind and permissions, as in `stat`.
    pub(crate) mode: u32,
    /// Seconds since 1970.
    pub(crate) modified: u32,
    pub(crate) parent: u32,
    first_child: u32,
    last_child: u32,
    next_sibling: u32,
    /// Folders in a folder.
    pub(crate) folders: u32,
}

/// The tree.
#[derive(Debug, Default)]
struct Tree(Vec<TreeNode>);

/// The tree of this boot; null until it is built.
static TREE: AtomicPtr<Vec<TreeNode>> = AtomicPtr::new(ptr::null_mut());

/// Builds the tree of `archive`.
///
/// # Errors
///
/// There is no memory for it: there are only the files that are no part of the archive then.
pub(crate) fn init(archive: Archive) -> Result<(), OutOfHeap> {
    let mut tree = Tree::default();
    tree.add(ROOT, Entry { name: b"", data: &[], mode: mode::FOLDER | 0o755, modified: 0 })?;
    archive.entries().try_for_each(|entry| tree.insert(&entry))?;
    let tree = heap::try_box(tree.0)?;
    TREE.store(alloc::boxed::Box::into_raw(tree), Ordering::Release);
    Ok(())
}

fn nodes() -> &'static [TreeNode] {
    let tree = TREE.load(Ordering::Acquire);
    // SAFETY: null, or what `init` made and nobody changes or frees.
    unsafe { tree.as_ref() }.map_or(&[], |nodes| nodes)
}

/// Node `number`.
pub(crate) fn node(number: u32) -> Option<&'static TreeNode> {
    nodes().get(number as usize)
}

/// The numbers of the children of folder `number`.
pub(crate) fn children(number: u32) -> impl Iterator<Item = u32> {
    children_in(nodes(), number)
}

/// The child of folder `number` that is called `name`.
pub(crate) fn child(number: u32, name: &[u8]) -> Option<u32> {
    child_in(nodes(), number, name)
}

fn children_in(nodes: &[TreeNode], number: u32) -> impl Iterator<Item = u32> {
    let mut next = nodes.get(number as usize).map_or(NONE, |node| node.first_child);
    core::iter::from_fn(move || {
        let node = nodes.get(next as usize)?;
        Some(core::mem::replace(&mut next, node.next_sibling))
    })
}

fn child_in(nodes: &[TreeNode], number: u32, name: &[u8]) -> Option<u32> {
    children_in(nodes, number).find(|&child| nodes.get(child as usize).is_some_and(|node| node.name == name))
}

impl Tree {
    /// Puts `entry` where its path says.
    fn insert(&mut self, entry: &Entry) -> Result<(), OutOfHeap> {
        let mut parts =
            entry.name.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".").peekable();
        let mut at = ROOT;
        while let Some(part) = parts.next() {
            if part == b".." || !self.is_folder(at) {
                return Ok(());
            }
            at = match (child_in(&self.0, at, part), parts.peek()) {
                (Some(child), Some(_)) => child,
                (Some(child), None) => return self.describe(child, entry),
                (None, Some(_)) => {
                    self.add(at, Entry { name: part, data: &[], mode: mode::FOLDER | 0o755, modified: 0 })?
                }
                (None, None) => return self.add(at, Entry { name: part, ..*entry }).map(drop),
            };
        }
        Ok(())
    }

    fn is_folder(&self, number: u32) -> bool {
        self.0.get(number as usize).is_some_and(|node| mode::is_folder(node.mode))
    }

    /// What is known of folder `number` after all.
    fn describe(&mut self, number: u32, entry: &Entry) -> Result<(), OutOfHeap> {
        if let Some(node) =
            self.0.get_mut(number as usize).filter(|node| mode::is_folder(node.mode) && mode::is_folder(entry.mode))
        {
            (node.mode, node.modified) = (entry.mode, entry.modified);
        }
        Ok(())
    }

    /// A new last child of `parent`, and its number.
    fn add(&mut self, parent: u32, entry: Entry) -> Result<u32, OutOfHeap> {
        let number = u32::try_from(self.0.len()).map_err(|_| OutOfHeap)?;
        let Entry { name, data, mode, modified } = entry;
        heap::reserve(&mut self.0, 1)?;
        let (first_child, last_child, next_sibling) = (NONE, NONE, NONE);
        self.0.push(TreeNode { name, data, mode, modified, parent, first_child, last_child, next_sibling, folders: 0 });
        if number != ROOT {
            self.link(parent, number, mode::is_folder(mode));
        }
        Ok(number)
    }

    fn link(&mut self, parent: u32, child: u32, is_folder: bool) {
        let Some(folder) = self.0.get_mut(parent as usize) else { return };
        folder.folders += u32::from(is_folder);
        let last = core::mem::replace(&mut folder.last_child, child);
        match self.0.get_mut(last as usize) {
            Some(last) => last.next_sibling = child,
            None => self.0[parent as usize].first_child = child,
        }
    }
}
