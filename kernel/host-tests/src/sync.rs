//! The kernel's sections, as the files that are tested here know them: nobody is killed on the host.

#[derive(Debug)]
pub(crate) struct Section;

impl Section {
    pub(crate) fn enter() -> Self {
        Self
    }
}

impl Drop for Section {
    /// As the kernel's, a section ends where it is dropped.
    fn drop(&mut self) {}
}
