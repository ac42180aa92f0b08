//! How errors show the text that they refuse.

/// How many characters are shown on either side of the byte.
const CHARS_AROUND: usize = 30;

/// The part of `text` around the byte `offset`. Control characters are escaped, and `…` stands for
/// each part that is cut off.
pub(super) fn excerpt(text: &str, offset: usize) -> Box<str> {
    let middle = char_boundary_at_most(text, offset);
    let before = text[..middle]
        .char_indices()
        .rev()
        .take(CHARS_AROUND)
        .last();
    let start = before.map_or(middle, |(at, _)| at);
    let after = text[middle..].char_indices().nth(CHARS_AROUND);
    let end = after.map_or(text.len(), |(at, _)| middle + at);

    let mut shown = String::with_capacity(end - start);
    if start > 0 {
        shown.push('…');
    }
    for c in text[start..end].chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    if end < text.len() {
        shown.push('…');
    }
    shown.into()
}

/// The last boundary between two characters at or before the byte `index`: what
/// `str::floor_char_boundary` returns in newer versions of Rust.
pub(super) fn char_boundary_at_most(text: &str, index: usize) -> usize {
    let index = index.min(text.len());
    (0..=index)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_are_whole_and_long_ones_cut() {
        assert_eq!(&*excerpt("a\nb", 1), "a\\nb");
        assert_eq!(&*excerpt("", 0), "");
        let long = "é".repeat(500);
        assert_eq!(&*excerpt(&long, 0), format!("{}…", "é".repeat(30)));
        assert_eq!(&*excerpt(&long, 1000), format!("…{}", "é".repeat(30)));
        assert_eq!(&*excerpt(&long, 501), format!("…{}…", "é".repeat(60)));
    }
}
