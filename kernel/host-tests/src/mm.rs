//! The kernel's heap, as the files that are tested here know it: it has as much as they want.

pub(crate) mod heap {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct OutOfHeap;

    pub(crate) fn reserve<T>(vec: &mut Vec<T>, more: usize) -> Result<(), OutOfHeap> {
        vec.try_reserve(more).map_err(|_| OutOfHeap)
    }

    #[expect(clippy::unnecessary_wraps, reason = "the kernel's may fail")]
    pub(crate) fn try_arc<T>(value: T) -> Result<std::sync::Arc<T>, OutOfHeap> {
        Ok(std::sync::Arc::new(value))
    }

    #[expect(clippy::unnecessary_wraps, reason = "the kernel's may fail")]
    pub(crate) fn try_box<T>(value: T) -> Result<Box<T>, OutOfHeap> {
        Ok(Box::new(value))
    }
}
