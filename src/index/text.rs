//! Texts that an index keeps: most are short, take no memory elsewhere, and are compared without
//! going there.

use std::sync::Arc;

/// The longest text that is kept in place, in bytes: as many as fit into three words, with the
/// length and the kind.
const SHORT_MAX: usize = 22;

/// A run of bytes, of a segment or of a glob.
#[derive(Clone, Debug)]
pub(super) enum Text {
    Short {
        /// Bytes of the text, 0 to [`SHORT_MAX`].
        len: u8,
        bytes: [u8; SHORT_MAX],
    },
    /// Counted, since the two sides of an index hold the same texts.
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
