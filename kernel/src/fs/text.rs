//! Open texts: what the kernel says of itself, made when it is read from its beginning, so that what one reader gets is of one moment.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::entry::{Subject, WriteText};
use super::node::Node;
use crate::mm::heap;
use crate::sync::{AnyLock, Section, SpinLock};
use crate::syscall::Errno;
use crate::task::kept::{self, Keep, Kept};
use crate::text::Text;

impl Keep for Arc<Vec<u8>> {}

/// An open text.
#[derive(Debug)]
pub(crate) struct TextFile {
    node: Node,
    write: WriteText,
    subject: Subject,
    /// What was made last, if anything was.
    made: SpinLock<Option<Arc<Vec<u8>>>>,
}

/// One that nobody opens, for crashes that want its lock.
static SPECIMEN: SpinLock<Option<Arc<Vec<u8>>>> = new_lock();

/// A text's lock.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &SPECIMEN
}

const fn new_lock() -> SpinLock<Option<Arc<Vec<u8>>>> {
    SpinLock::new("file-text", None)
}

impl TextFile {
    pub(crate) const fn new(node: Node, write: WriteText, subject: Subject) -> Self {
        Self { node, write, subject, made: new_lock() }
    }

    pub(crate) const fn node(&self) -> Node {
        self.node
    }

    /// The text: made now if that is wanted or nothing was made yet.
    pub(crate) fn bytes(&self, fresh: bool) -> Result<Kept<Arc<Vec<u8>>>, Errno> {
        if !fresh && let Some(made) = self.made() {
            return Ok(made);
        }
        let mut text = Text::default();
        (self.write)(self.subject, &mut text)?;
        let text = heap::try_arc(text.into_bytes())?;
        let section = Section::enter();
        let before = self.made.lock_anyway().replace(Arc::clone(&text));
        let made = kept::keep(&"text", text, &section);
        drop(before);
        drop(section);
        Ok(made)
    }

    fn made(&self) -> Option<Kept<Arc<Vec<u8>>>> {
        // Between the count and the list that has it nobody is killed.
        let section = Section::enter();
        let made = self.made.lock_anyway().clone();
        made.map(|made| kept::keep(&"text", made, &section))
    }
}
