//! Reading an item in its slot, before it is popped.
//!
//! An item that `pop` returns is copied out of its slot, and copied again to where the caller puts
//! it. With a [`Front`] the caller says first what is to happen to the item, so that the compiler
//! can move it straight to its place.

/// The consumer of a ring whose items can be read in their slots.
pub(crate) trait Consume<T> {
    type Front<'a>: Front<T>
    where
        Self: 'a;

    /// The next item, which stays in the ring until it is popped.
    fn front(&mut self) -> Option<Self::Front<'_>>;
}

/// The next item of a ring, in its slot.
pub(crate) trait Front<T> {
    fn item(&self) -> &T;

    /// Pops the item, and moves it into `f`. The item counts as popped when `f` has returned or
    /// panicked.
    ///
    /// If `f` moves the item to its place before it writes to other memory, the item is copied
    /// once.
    fn pop_into<R>(self, f: impl FnOnce(T) -> R) -> R;
}
