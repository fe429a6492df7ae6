//! Files that the kernel makes: each is a name and what is behind it, and folders are tables of them.
//!
//! The tables are static. Where there is one folder for each process, thread, open file or CPU, one entry stands for all of them, and
//! a [`Subject`] says whose it is. So a new file is one line in a table and one function that writes its text.

use core::fmt::{self, Write};

use super::device::Device;
use super::node::Node;
use crate::syscall::Errno;
use crate::text::Text;

/// Whose file it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Subject {
    /// A process; zero if the file is of none.
    pub(crate) process: usize,
    /// A thread, an open file's descriptor or a CPU, by its folder.
    pub(crate) number: usize,
}

/// Writes the text of a file, as it is now.
pub(crate) type WriteText = fn(Subject, &mut Text) -> Result<(), Errno>;

/// What is behind a name.
pub(crate) enum What {
    /// A folder with these in it, and perhaps with numbered ones.
    Folder(&'static [Entry], Option<&'static Numbered>),
    /// A text.
    Text(WriteText),
    /// A text that also takes what is written to it, in one piece.
    Control(WriteText, fn(Subject, &[u8]) -> Result<(), Errno>),
    /// A symbolic link with this target.
    Link(WriteText),
    /// A symbolic link that leads to where this says, whatever its text is.
    Jump(fn(Subject) -> Result<Node, Errno>),
    /// A symbolic link to the open file that the subject's number is the descriptor of.
    Open,
    /// A device.
    Device(&'static dyn Device),
}

/// A file, folder or link that the kernel makes.
pub(crate) struct Entry {
    /// Its name; of a numbered one, what comes before the number.
    pub(crate) name: &'static str,
    /// Its permissions.
    pub(crate) permissions: u32,
    pub(crate) what: What,
}

/// Members of a folder that have numbers in their names.
pub(crate) struct Numbered {
    /// What each of them is.
    pub(crate) each: Entry,
    /// The lowest number from this one on that there is.
    pub(crate) next: fn(Subject, usize) -> Option<usize>,
    /// The subject of member `number`, from the folder's.
    pub(crate) inner: fn(Subject, usize) -> Subject,
    /// The folder's subject, from a member's.
    pub(crate) outer: fn(Subject) -> Subject,
}

impl Entry {
    pub(crate) const fn folder(name: &'static str, entries: &'static [Self]) -> Self {
        Self { name, permissions: 0o555, what: What::Folder(entries, None) }
    }

    pub(crate) const fn numbered(name: &'static str, entries: &'static [Self], numbered: &'static Numbered) -> Self {
        Self { name, permissions: 0o555, what: What::Folder(entries, Some(numbered)) }
    }

    pub(crate) const fn text(name: &'static str, write: WriteText) -> Self {
        Self { name, permissions: 0o444, what: What::Text(write) }
    }

    pub(crate) const fn control(
        name: &'static str,
        text: WriteText,
        act: fn(Subject, &[u8]) -> Result<(), Errno>,
    ) -> Self {
        Self { name, permissions: 0o644, what: What::Control(text, act) }
    }

    pub(crate) const fn link(name: &'static str, target: WriteText) -> Self {
        Self { name, permissions: 0o777, what: What::Link(target) }
    }

    pub(crate) const fn jump(name: &'static str, target: fn(Subject) -> Result<Node, Errno>) -> Self {
        Self { name, permissions: 0o777, what: What::Jump(target) }
    }

    pub(crate) const fn device(name: &'static str, permissions: u32, device: &'static dyn Device) -> Self {
        Self { name, permissions, what: What::Device(device) }
    }

    /// What is in a folder; nothing in what is none.
    pub(crate) const fn members(&self) -> (&'static [Self], Option<&'static Numbered>) {
        match self.what {
            What::Folder(entries, numbered) => (entries, numbered),
            _ => (&[], None),
        }
    }

    pub(crate) const fn is_folder(&self) -> bool {
        matches!(self.what, What::Folder(..))
    }

    /// Folders in this folder, numbered ones apart.
    pub(crate) fn folders(&self) -> u32 {
        self.members().0.iter().filter(|entry| entry.is_folder()).count() as u32
    }

    /// Whether a number follows the name: it is in no table by itself.
    pub(crate) fn is_numbered(&'static self) -> bool {
        let (parent, _) = self.parent_in(&super::root::ROOT, Subject::default()).unwrap_or((self, Subject::default()));
        parent.members().1.is_some_and(|numbered| core::ptr::eq(&raw const numbered.each, self))
    }

    pub(crate) const fn is_link(&self) -> bool {
        matches!(self.what, What::Link(_) | What::Jump(_) | What::Open)
    }

    /// The member called `name` of this folder, of which `subject` is the subject.
    pub(crate) fn member(&self, subject: Subject, name: &[u8]) -> Option<(&'static Self, Subject)> {
        let (entries, numbered) = self.members();
        if let Some(entry) = entries.iter().find(|entry| entry.name.as_bytes() == name) {
            return Some((entry, subject));
        }
        let numbered = numbered?;
        let number = number(name.strip_prefix(numbered.each.name.as_bytes())?)?;
        ((numbered.next)(subject, number) == Some(number)).then(|| (&numbered.each, (numbered.inner)(subject, number)))
    }

    /// The folder that this is in, looked for from `folder` on, and that folder's subject if this one's is `subject`.
    pub(crate) fn parent_in(
        &'static self,
        folder: &'static Self,
        subject: Subject,
    ) -> Option<(&'static Self, Subject)> {
        let (entries, numbered) = folder.members();
        if entries.iter().any(|entry| core::ptr::eq(entry, self)) {
            return Some((folder, subject));
        }
        if let Some(found) = entries.iter().find_map(|entry| self.parent_in(entry, subject)) {
            return Some(found);
        }
        let numbered = numbered?;
        if core::ptr::eq(&raw const numbered.each, self) {
            return Some((folder, (numbered.outer)(subject)));
        }
        self.parent_in(&numbered.each, subject)
    }
}

/// A number as it is in names: digits, the first of which is no zero unless it is alone.
fn number(digits: &[u8]) -> Option<usize> {
    let canonical = digits == b"0" || digits.first().is_some_and(|&digit| digit != b'0');
    let all = canonical && digits.iter().all(u8::is_ascii_digit);
    all.then(|| core::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

/// Puts formatted text into `text`, or says that there is no memory for it.
pub(crate) fn put(text: &mut Text, arguments: fmt::Arguments<'_>) -> Result<(), Errno> {
    text.write_fmt(arguments).map_err(|_| Errno::NOMEM)
}

/// Writes a line of formatted text to a `Text`.
macro_rules! line {
    ($text:expr, $($argument:tt)*) => {
        $crate::fs::entry::put($text, format_args!("{}\n", format_args!($($argument)*)))
    };
}
pub(crate) use line;

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The number that a program wrote, perhaps with a line's end.
pub(crate) fn written_number(text: &[u8]) -> Result<usize, Errno> {
    number(text.trim_ascii()).ok_or(Errno::INVAL)
}
