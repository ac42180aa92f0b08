//! Sets of characters and of bytes, for the classes of the languages on whole topics.

/// A set of characters, as a class of Go's `path.Match` describes it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct CharSet {
    /// Whether the set consists of the characters outside of the ranges.
    negated: bool,
    /// In ascending order. None is empty, and there is a gap between two.
    ranges: Box<[(char, char)]>,
    /// A bit for each ASCII character, which is 1 if the character is in the set.
    ascii: u128,
}

impl CharSet {
    /// The set of the characters in these ranges, or outside of them. A range that runs backwards
    /// is empty.
    pub(super) fn new(negated: bool, mut ranges: Vec<(char, char)>) -> Self {
        ranges.retain(|(low, high)| low <= high);
        ranges.sort_unstable();
        ranges.dedup_by(|next, last| {
            let joins = u32::from(next.0) <= u32::from(last.1) + 1;
            if joins {
                last.1 = last.1.max(next.1);
            }
            joins
        });
        let holds = |c: char| ranges.iter().any(|&(low, high)| low <= c && c <= high);
        let ascii = (0..128u8)
            .filter(|&byte| holds(char::from(byte)) != negated)
            .fold(0, |ascii, byte| ascii | 1 << byte);
        CharSet {
            negated,
            ascii,
            ranges: ranges.into(),
        }
    }

    #[inline]
    pub(super) fn contains(&self, c: char) -> bool {
        if c.is_ascii() {
            return self.ascii >> u32::from(c) & 1 == 1;
        }
        let at = self.ranges.partition_point(|&(_, high)| high < c);
        self.ranges.get(at).is_some_and(|&(low, _)| low <= c) != self.negated
    }

    pub(super) fn is_negated(&self) -> bool {
        self.negated
    }

    pub(super) fn ranges(&self) -> &[(char, char)] {
        &self.ranges
    }
}

/// A set of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ByteSet([u64; 4]);

impl ByteSet {
    pub(super) fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte / 64)] |= 1 << (byte % 64);
    }

    #[inline]
    pub(super) fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte / 64)] >> (byte % 64) & 1 == 1
    }

    /// The set of all other bytes.
    pub(super) fn complement(&self) -> Self {
        ByteSet(self.0.map(|word| !word))
    }

    /// The runs of bytes in the set, in ascending order, with a gap between two.
    pub(super) fn runs(&self) -> Vec<(u8, u8)> {
        let mut runs: Vec<(u8, u8)> = Vec::new();
        for byte in (0..=u8::MAX).filter(|&byte| self.contains(byte)) {
            match runs.last_mut() {
                Some(last) if last.1 + 1 == byte => last.1 = byte,
                _ => runs.push((byte, byte)),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_sorted_and_joined_and_empty_ones_are_left_out() {
        let set = |ranges: &[(char, char)]| CharSet::new(false, ranges.to_vec());
        let joined = set(&[('x', 'z'), ('d', 'e'), ('a', 'c'), ('z', 'é'), ('9', '0')]);
        assert_eq!(joined.ranges(), [('a', 'e'), ('x', 'é')]);
        assert_eq!(
            set(&[('\u{d000}', '\u{d7ff}'), ('\u{e000}', '\u{e001}')])
                .ranges()
                .len(),
            2
        );
        for c in ['`', 'a', 'e', 'f', 'w', 'x', '\u{80}', 'é', 'ê'] {
            let inside = matches!(c, 'a'..='e' | 'x'..='é');
            assert_eq!(joined.contains(c), inside, "{c:?}");
            let others = CharSet::new(true, joined.ranges().to_vec());
            assert_eq!(others.contains(c), !inside, "{c:?}");
        }
    }

    #[test]
    fn a_set_of_bytes_consists_of_runs() {
        let mut set = ByteSet::default();
        assert_eq!(set.runs(), []);
        for byte in [0, 63, 64, 65, 255, 254] {
            set.insert(byte);
        }
        assert_eq!(set.runs(), [(0, 0), (63, 65), (254, 255)]);
        assert_eq!(set.complement().runs(), [(1, 62), (66, 253)]);
        assert_eq!(ByteSet::default().complement().runs(), [(0, 255)]);
    }
}
