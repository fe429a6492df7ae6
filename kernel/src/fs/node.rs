//! What a path leads to: a node of the archive, or a file that the kernel makes.
//!
//! A node is two or three words, holds no count and can be copied and forgotten: folders of the archive and tables of the kernel do not
//! go away, and a process is meant by its number, which is looked up each time.

use core::fmt::Write;

use super::device::Device;
use super::entry::{Entry, Subject, What};
use super::{mode, root, tree};
use crate::syscall::Errno;
use crate::text::Text;

/// What a path leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Node {
    /// A node of the archive's tree.
    Archive(u32),
    /// A file that the kernel makes.
    Made(&'static Entry, Subject),
    /// What is open at a descriptor and has no path: a pipe. The subject's number is the descriptor.
    Open(Subject),
}

/// The root of all paths.
pub(crate) const ROOT: Node = Node::Archive(tree::ROOT);

/// What `stat` says of a file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Status {
    /// The file system.
    pub(crate) device: u64,
    pub(crate) number: u64,
    pub(crate) mode: u32,
    pub(crate) links: u32,
    /// For devices: major and minor number.
    pub(crate) made_of: (u32, u32),
    pub(crate) size: u64,
    pub(crate) modified: u64,
}

/// The numbers of file systems.
const ARCHIVE_DEVICE: u64 = 1;
const MADE_DEVICE: u64 = 2;
pub(crate) const PIPE_DEVICE: u64 = 3;

impl Node {
    pub(crate) fn is_folder(self) -> bool {
        match self {
            Self::Archive(number) => tree::node(number).is_some_and(|node| mode::is_folder(node.mode)),
            Self::Made(entry, _) => entry.is_folder(),
            Self::Open(_) => false,
        }
    }

    pub(crate) fn is_link(self) -> bool {
        match self {
            Self::Archive(number) => tree::node(number).is_some_and(|node| mode::is_link(node.mode)),
            Self::Made(entry, _) => entry.is_link(),
            Self::Open(_) => false,
        }
    }

    /// Whether two are the same.
    pub(crate) fn is(self, other: Self) -> bool {
        match (self, other) {
            (Self::Archive(one), Self::Archive(two)) => one == two,
            (Self::Made(one, subject), Self::Made(two, other)) => core::ptr::eq(one, two) && subject == other,
            _ => false,
        }
    }

    /// What is called `name` in this folder.
    ///
    /// # Errors
    ///
    /// It is no folder, or there is no such thing in it.
    pub(crate) fn child(self, name: &[u8]) -> Result<Self, Errno> {
        if !self.is_folder() {
            return Err(Errno::NOTDIR);
        }
        match (self, name) {
            (_, b"." | b"") => return Ok(self),
            (_, b"..") => return Ok(self.parent()),
            _ => {}
        }
        let found = match self {
            Self::Archive(number) => {
                let made = (number == tree::ROOT).then(|| root::ROOT.member(Subject::default(), name)).flatten();
                made.map(|(entry, subject)| Self::Made(entry, subject))
                    .or_else(|| tree::child(number, name).map(Self::Archive))
            }
            Self::Made(entry, subject) => {
                entry.member(subject, name).map(|(entry, subject)| Self::Made(entry, subject))
            }
            Self::Open(_) => None,
        };
        found.ok_or(Errno::NOENT)
    }

    /// The folder that it is in; the root's is itself.
    pub(crate) fn parent(self) -> Self {
        match self {
            Self::Archive(number) => tree::node(number).map_or(ROOT, |node| Self::Archive(node.parent)),
            Self::Made(entry, subject) => match entry.parent_in(&root::ROOT, subject) {
                Some((parent, subject)) if !core::ptr::eq(parent, &raw const root::ROOT) => Self::Made(parent, subject),
                _ => ROOT,
            },
            Self::Open(_) => ROOT,
        }
    }

    /// Writes where the link leads, or says that it leads somewhere at once.
    pub(crate) fn follow(self, text: &mut Text) -> Result<Option<Self>, Errno> {
        match self {
            Self::Archive(number) => {
                let target = tree::node(number).map_or(&[][..], |node| node.data);
                text.push(target).map(|()| None).map_err(Errno::from)
            }
            Self::Made(Entry { what: What::Link(write), .. }, subject) => write(subject, text).map(|()| None),
            Self::Made(Entry { what: What::Jump(target), .. }, subject) => target(subject).map(Some),
            Self::Made(Entry { what: What::Open, .. }, subject) => super::process::opened(subject).map(Some),
            Self::Made(..) | Self::Open(_) => Err(Errno::INVAL),
        }
    }

    /// Writes the text of the link, which for one that jumps is the path of what it leads to.
    pub(crate) fn read_link(self, text: &mut Text) -> Result<(), Errno> {
        if !self.is_link() {
            return Err(Errno::INVAL);
        }
        match self.follow(text)? {
            Some(Self::Open(subject)) => super::process::describe_open(subject, text),
            Some(target) => target.write_path(text),
            None => Ok(()),
        }
    }

    /// Writes the path of this, from the root.
    pub(crate) fn write_path(self, text: &mut Text) -> Result<(), Errno> {
        /// The deepest path that is written.
        const DEEPEST: usize = 64;
        let depth = core::iter::successors(Some(self), |node| Some(node.parent()))
            .take(DEEPEST)
            .take_while(|node| !node.is(ROOT))
            .count();
        if depth == 0 {
            return text.push(b"/").map_err(Errno::from);
        }
        (0..depth).rev().try_for_each(|up| {
            let node = (0..up).fold(self, |node, _| node.parent());
            text.push(b"/")?;
            node.write_name(text)
        })
    }

    /// Writes the last part of its path.
    pub(crate) fn write_name(self, text: &mut Text) -> Result<(), Errno> {
        let written = match self {
            Self::Archive(number) => return Ok(text.push(tree::node(number).map_or(&[][..], |node| node.name))?),
            Self::Made(entry, subject) if entry.is_numbered() => write!(text, "{}{}", entry.name, subject.number),
            Self::Made(entry, _) => text.write_str(entry.name),
            Self::Open(_) => Ok(()),
        };
        written.map_err(|_| Errno::NOMEM)
    }

    /// What `stat` says of it.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub(crate) fn status(self) -> Result<Status, Errno> {
        match self {
            Self::Archive(number) => archive_status(number),
            Self::Made(entry, subject) => Ok(made_status(entry, subject)),
            Self::Open(subject) => super::process::open_file(subject)?.status(),
        }
    }
}

fn archive_status(number: u32) -> Result<Status, Errno> {
    let node = tree::node(number).ok_or(Errno::NOENT)?;
    let made = if number == tree::ROOT { root::ROOT.folders() } else { 0 };
    let links = if mode::is_folder(node.mode) { 2 + node.folders + made } else { 1 };
    Ok(Status {
        device: ARCHIVE_DEVICE,
        number: u64::from(number) + 1,
        mode: node.mode,
        links,
        size: node.data.len() as u64,
        modified: u64::from(node.modified),
        ..Status::default()
    })
}

fn made_status(entry: &'static Entry, subject: Subject) -> Status {
    let device = match entry.what {
        What::Device(device) => Some(device),
        _ => None,
    };
    let kind = match entry.what {
        What::Folder(..) => mode::FOLDER,
        What::Link(_) | What::Jump(_) | What::Open => mode::LINK,
        What::Device(device) if device.number().is_some() => mode::CHARACTERS,
        What::Device(_) | What::Text(_) | What::Control(..) => mode::REGULAR,
    };
    Status {
        device: MADE_DEVICE,
        number: made_number(entry, subject),
        mode: kind | entry.permissions,
        links: if entry.is_folder() { 2 + entry.folders() } else { 1 },
        made_of: device.and_then(Device::number).unwrap_or_default(),
        ..Status::default()
    }
}

/// A number for a file that the kernel makes: its entry's place in the image, and whose it is.
fn made_number(entry: &'static Entry, subject: Subject) -> u64 {
    let place = core::ptr::from_ref(entry).addr() as u64 & 0xffff_ffff;
    place ^ (subject.process as u64) << 32 ^ (subject.number as u64) << 40
}
