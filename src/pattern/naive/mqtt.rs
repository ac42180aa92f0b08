//! mosquitto: `mosquitto_sub_topic_check`, then the filter is compared with the topic by levels.

pub(super) fn matches(filter: &str, topic: &str) -> Option<bool> {
    if filter.is_empty() || filter.split('/').next() == Some("$share") {
        return None;
    }
    let refused = |c: char| {
        let code = u32::from(c);
        code <= 0x1f
            || (0x7f..=0x9f).contains(&code)
            || (0xfdd0..=0xfdef).contains(&code)
            || code % 0x1_0000 >= 0xfffe
    };
    if filter.contains(refused) {
        return None;
    }
    let bytes = filter.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let before = at.checked_sub(1).map_or(b'/', |before| bytes[before]);
        let behind = bytes.get(at + 1);
        let is_bad = match byte {
            b'+' => before != b'/' || behind.is_some_and(|&behind| behind != b'/'),
            b'#' => before != b'/' || behind.is_some(),
            _ => false,
        };
        if is_bad {
            return None;
        }
    }
    if bytes.iter().filter(|&&byte| byte == b'/').count() > 200 {
        return None;
    }
    let mut levels = topic.split('.');
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return Some(false);
    }
    for level in filter.split('/') {
        if level == "#" {
            return Some(true);
        }
        match levels.next() {
            Some(other) if level == "+" || level == other => {}
            _ => return Some(false),
        }
    }
    Some(levels.next().is_none())
}
