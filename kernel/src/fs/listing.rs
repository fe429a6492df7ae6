//! What is in a folder, member by member: for `getdents64`.
//!
//! A place in a listing is a number that stays good while members come and go: the first two are the folder itself and the one that it is
//! in, then come the members of its table, then numbered ones by their numbers.
//!
//! ```text
//!   0 .   1 ..   2.. table, or children in the archive   FIRST_NUMBERED + n: member n
//! ```

use super::node::{Node, ROOT};
use super::{root, tree};

/// Where numbered members begin: after every table and every folder of an archive that fits into memory.
const FIRST_NUMBERED: usize = 1 << 32;

/// A member of a folder.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Member {
    /// The folder itself.
    Itself,
    /// The folder that it is in.
    Parent,
    /// Something in it.
    Child(Node),
}

/// The member of `folder` at place `at` or after it, and the place of the next one.
pub(crate) fn member(folder: Node, at: usize) -> Option<(Member, usize)> {
    match at {
        0 => Some((Member::Itself, 1)),
        1 => Some((Member::Parent, 2)),
        _ => child(folder, at).map(|(node, next)| (Member::Child(node), next)),
    }
}

fn child(folder: Node, at: usize) -> Option<(Node, usize)> {
    match folder {
        Node::Archive(number) => of_archive(number, at - 2).map(|node| (node, at + 1)),
        Node::Made(entry, subject) => {
            let (entries, numbered) = entry.members();
            if let Some(entry) = entries.get(at - 2) {
                return Some((Node::Made(entry, subject), at + 1));
            }
            let numbered = numbered?;
            let number = (numbered.next)(subject, at.saturating_sub(FIRST_NUMBERED))?;
            let node = Node::Made(&numbered.each, (numbered.inner)(subject, number));
            Some((node, FIRST_NUMBERED + number + 1))
        }
        Node::Open(_) => None,
    }
}

/// Child number `index` of a folder of the archive. The root's made folders come first, and hide those of the archive.
fn of_archive(number: u32, index: usize) -> Option<Node> {
    let made = if number == tree::ROOT { root::ROOT.members().0 } else { &[] };
    if let Some(entry) = made.get(index) {
        return Some(Node::Made(entry, super::entry::Subject::default()));
    }
    let is_hidden =
        |child: u32| tree::node(child).is_some_and(|node| made.iter().any(|entry| entry.name.as_bytes() == node.name));
    tree::children(number).filter(|&child| !is_hidden(child)).nth(index - made.len()).map(Node::Archive)
}

/// The node that a member of `folder` is.
pub(crate) fn node(folder: Node, member: Member) -> Node {
    match member {
        Member::Itself => folder,
        Member::Parent if folder.is(ROOT) => ROOT,
        Member::Parent => folder.parent(),
        Member::Child(node) => node,
    }
}
