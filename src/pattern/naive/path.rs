//! Go's `path.Match`: each chunk of the pattern is parsed at every position where it is tried.

/// A pattern that Go calls bad.
struct Bad;

/// Whether the pattern matches; `None` for a bad pattern.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> Option<bool> {
    go_match(pattern, name).ok()
}

fn go_match(mut pattern: &[u8], mut name: &[u8]) -> Result<bool, Bad> {
    'pattern: while !pattern.is_empty() {
        let (star, chunk, rest) = scan_chunk(pattern);
        pattern = rest;
        if star && chunk.is_empty() {
            return Ok(!name.contains(&b'/'));
        }
        let is_end = |t: &[u8]| t.is_empty() || !rest.is_empty();
        if let Some(t) = match_chunk(chunk, name)?.filter(|t| is_end(t)) {
            name = t;
            continue;
        }
        if star {
            let mut i = 0;
            while i < name.len() && name[i] != b'/' {
                if let Some(t) = match_chunk(chunk, &name[i + 1..])?.filter(|t| is_end(t)) {
                    name = t;
                    continue 'pattern;
                }
                i += 1;
            }
        }
        while !pattern.is_empty() {
            let (_, chunk, rest) = scan_chunk(pattern);
            pattern = rest;
            match_chunk(chunk, b"")?;
        }
        return Ok(false);
    }
    Ok(name.is_empty())
}

/// Whether there is a star in front, the chunk up to the next star, and the rest of the pattern.
fn scan_chunk(mut pattern: &[u8]) -> (bool, &[u8], &[u8]) {
    let mut star = false;
    while let [b'*', behind @ ..] = pattern {
        pattern = behind;
        star = true;
    }
    let mut in_range = false;
    let mut i = 0;
    while i < pattern.len() {
        match pattern[i] {
            b'\\' if i + 1 < pattern.len() => i += 1,
            b'[' => in_range = true,
            b']' => in_range = false,
            b'*' if !in_range => return (star, &pattern[..i], &pattern[i..]),
            _ => {}
        }
        i += 1;
    }
    (star, pattern, b"")
}

/// The part of `s` behind the chunk; `None` if `s` does not begin with the chunk.
fn match_chunk<'a>(mut chunk: &[u8], mut s: &'a [u8]) -> Result<Option<&'a [u8]>, Bad> {
    let mut failed = false;
    while !chunk.is_empty() {
        failed |= s.is_empty();
        match chunk[0] {
            b'[' => {
                let mut r = 0;
                if !failed {
                    let (rune, n) = decode_rune(s);
                    r = rune;
                    s = &s[n..];
                }
                chunk = &chunk[1..];
                let negated = chunk.first() == Some(&b'^');
                if negated {
                    chunk = &chunk[1..];
                }
                let mut matched = false;
                let mut ranges = 0;
                loop {
                    if chunk.first() == Some(&b']') && ranges > 0 {
                        chunk = &chunk[1..];
                        break;
                    }
                    let (low, rest) = get_esc(chunk)?;
                    chunk = rest;
                    let mut high = low;
                    if chunk[0] == b'-' {
                        (high, chunk) = get_esc(&chunk[1..])?;
                    }
                    matched |= low <= r && r <= high;
                    ranges += 1;
                }
                failed |= matched == negated;
            }
            b'?' => {
                if !failed {
                    failed = s[0] == b'/';
                    s = &s[decode_rune(s).1..];
                }
                chunk = &chunk[1..];
            }
            first => {
                if first == b'\\' {
                    chunk = &chunk[1..];
                    if chunk.is_empty() {
                        return Err(Bad);
                    }
                }
                if !failed {
                    failed = chunk[0] != s[0];
                    s = &s[1..];
                }
                chunk = &chunk[1..];
            }
        }
    }
    Ok((!failed).then_some(s))
}

/// A character of a class, and the rest of the pattern behind it, which is not empty.
fn get_esc(mut chunk: &[u8]) -> Result<(u32, &[u8]), Bad> {
    if let [] | [b'-' | b']', ..] = chunk {
        return Err(Bad);
    }
    if chunk[0] == b'\\' {
        chunk = &chunk[1..];
        if chunk.is_empty() {
            return Err(Bad);
        }
    }
    let (rune, n) = decode_rune(chunk);
    let rest = &chunk[n..];
    let is_bad = (rune == 0xfffd && n == 1) || rest.is_empty();
    if is_bad { Err(Bad) } else { Ok((rune, rest)) }
}

/// Go's `utf8.DecodeRune`: the first character and its length, or U+FFFD and 1.
fn decode_rune(s: &[u8]) -> (u32, usize) {
    let decoded = (1..=s.len().min(4)).find_map(|n| Some((std::str::from_utf8(&s[..n]).ok()?, n)));
    match decoded {
        Some((text, n)) => (text.chars().next().map_or(0xfffd, u32::from), n),
        None => (0xfffd, 1),
    }
}
