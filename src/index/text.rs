//! The texts that an index keeps. Most are short: these need no other memory, and are compared
//! without reading any.

use std::sync::Arc;

/// The longest text that is kept in place, in bytes: so that it fits into three words, with its
/// length and a tag.
const SHORT_MAX: usize = 22;

/// The bytes of a segment or of a part of a glob.
#[derive(Clone, Debug)]
pub(super) enum Text {
    Short {
        /// The length of the text in bytes: 0 to [`SHORT_MAX`].
        len: u8,
        bytes: [u8; SHORT_MAX],
    },
    /// Reference-counted, because both sides of a shared index have the same texts.
    Long(Arc<[u8]>),
}

impl Text {
    pub(super) fn new(text: &[u8]) -> Self {
        let mut bytes = [0; SHORT_MAX];
        match bytes.get_mut(..text.len()) {
            Some(short) => {
                short.copy_from_slice(text);
                let len = text.len() as u8;
                Self::Short { len, bytes }
            }
            None => Self::Long(text.into()),
        }
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_whether_short_or_long() {
        assert_eq!(size_of::<Text>(), 24);
        for len in [0, 1, SHORT_MAX, SHORT_MAX + 1, 1024] {
            let text = vec![b'x'; len];
            assert_eq!(Text::new(&text).as_bytes(), text);
            let is_short = matches!(Text::new(&text), Text::Short { .. });
            assert_eq!(is_short, len <= SHORT_MAX);
        }
    }
}
