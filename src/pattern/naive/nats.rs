//! nats-server: `IsValidSubject`, then the subject is compared with the topic token by token.

pub(super) fn matches(subject: &str, topic: &str) -> Option<bool> {
    let tokens: Vec<&str> = subject.split('.').collect();
    let last = tokens.len() - 1;
    for (at, token) in tokens.iter().enumerate() {
        let is_bad = token.is_empty()
            || token.contains(|c| " \t\n\r\x0c".contains(c))
            || (*token == ">" && at != last);
        if is_bad {
            return None;
        }
    }
    let topic: Vec<&str> = topic.split('.').collect();
    for (at, token) in tokens.iter().enumerate() {
        match (*token, topic.get(at)) {
            (_, None) => return Some(false),
            (">", Some(_)) => return Some(true),
            ("*", Some(_)) => {}
            (text, Some(other)) if text == *other => {}
            _ => return Some(false),
        }
    }
    Some(tokens.len() == topic.len())
}
