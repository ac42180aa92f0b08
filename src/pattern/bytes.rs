//! Comparison of short texts without a call.

/// Whether two texts of the same length are equal.
#[inline]
pub(super) fn equal(a: &[u8], b: &[u8]) -> bool {
    debug_assert_eq!(a.len(), b.len());
    match a.len() {
        0 => true,
        1..=3 => a.iter().zip(b).all(|(a, b)| a == b),
        // Two words, which may overlap, cover the text.
        4..=7 => a.first_chunk::<4>() == b.first_chunk() && a.last_chunk::<4>() == b.last_chunk(),
        8..=16 => a.first_chunk::<8>() == b.first_chunk() && a.last_chunk::<8>() == b.last_chunk(),
        17..=32 => {
            a.first_chunk::<16>() == b.first_chunk() && a.last_chunk::<16>() == b.last_chunk()
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_in_any_byte_is_found_at_any_length() {
        let text: Vec<u8> = (0..50).collect();
        for length in 0..=text.len() {
            let text = &text[..length];
            assert!(equal(text, text));
            for at in 0..length {
                let mut other = text.to_vec();
                other[at] ^= 1;
                assert!(!equal(text, &other), "{length} bytes, byte {at}");
            }
        }
    }
}
