//! Redis' `stringmatchlen`, case-sensitive. A pattern ends with a NUL, as the strings of Redis do:
//! the function reads the NUL where it does not check the length.

pub(super) fn matches(pattern: &[u8], string: &[u8]) -> bool {
    let mut terminated = pattern.to_vec();
    terminated.push(0);
    impl_match(&terminated, pattern.len(), string, &mut false)
}

/// `p` is the rest of the pattern, which has `len` bytes before the NUL.
fn impl_match(mut p: &[u8], mut len: usize, mut s: &[u8], skip_longer_matches: &mut bool) -> bool {
    while len > 0 && !s.is_empty() {
        match p[0] {
            b'*' => {
                while p[1] == b'*' {
                    (p, len) = (&p[1..], len - 1);
                }
                if len == 1 {
                    return true;
                }
                while !s.is_empty() {
                    if impl_match(&p[1..], len - 1, s, skip_longer_matches) {
                        return true;
                    }
                    if *skip_longer_matches {
                        return false;
                    }
                    s = &s[1..];
                }
                *skip_longer_matches = true;
                return false;
            }
            b'?' => s = &s[1..],
            b'[' => {
                (p, len) = (&p[1..], len - 1);
                let not = p[0] == b'^';
                if not {
                    (p, len) = (&p[1..], len - 1);
                }
                let mut matched = false;
                // Here the C code steps back from the end of the pattern, and forward again later.
                let mut steps_back = false;
                loop {
                    if p[0] == b'\\' && len >= 2 {
                        (p, len) = (&p[1..], len - 1);
                        matched |= p[0] == s[0];
                    } else if p[0] == b']' {
                        break;
                    } else if len == 0 {
                        steps_back = true;
                        break;
                    } else if len >= 3 && p[1] == b'-' {
                        let (mut start, mut end) = (p[0] as i8, p[2] as i8);
                        if start > end {
                            (start, end) = (end, start);
                        }
                        (p, len) = (&p[2..], len - 2);
                        matched |= s[0] as i8 >= start && s[0] as i8 <= end;
                    } else {
                        matched |= p[0] == s[0];
                    }
                    (p, len) = (&p[1..], len - 1);
                }
                if matched == not {
                    return false;
                }
                s = &s[1..];
                if steps_back {
                    // The end of the pattern: the loop ends, and the text matches if it is empty.
                    return s.is_empty();
                }
            }
            _ => {
                if p[0] == b'\\' && len >= 2 {
                    (p, len) = (&p[1..], len - 1);
                }
                if p[0] != s[0] {
                    return false;
                }
                s = &s[1..];
            }
        }
        (p, len) = (&p[1..], len - 1);
        if s.is_empty() {
            while p[0] == b'*' {
                (p, len) = (&p[1..], len - 1);
            }
            break;
        }
    }
    len == 0 && s.is_empty()
}
