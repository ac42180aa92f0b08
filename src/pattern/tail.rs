//! A glob over the rest of a topic, dots and all: what the whole-topic dialects compile to.

/// What the text behind the leading literal segments of a route must match.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tail {
    /// What every rest that matches begins with; may be empty, and may end within a character.
    head: Box<[u8]>,
}

impl Tail {
    /// Whether the whole of `rest` matches. Not empty, and a topic of its own.
    pub(crate) fn matches(&self, rest: &str) -> bool {
        rest.as_bytes().starts_with(&self.head)
    }

    /// What every rest that matches begins with.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }
}
