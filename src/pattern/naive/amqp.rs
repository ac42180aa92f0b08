//! RabbitMQ's topic exchange: finds the positions in the topic that the words of the key reach.

pub(super) fn matches(key: &str, topic: &str) -> bool {
    // `rabbit_exchange_type_topic` cuts the empty key to no words.
    let words = |text: &str| -> Vec<String> {
        match text {
            "" => Vec::new(),
            text => text.split('.').map(str::to_owned).collect(),
        }
    };
    let topic = words(topic);
    let mut positions = vec![0];
    for word in words(key) {
        let mut next = Vec::new();
        for at in positions {
            match &*word {
                "#" => next.extend(at..=topic.len()),
                "*" if at < topic.len() => next.push(at + 1),
                word if topic.get(at).is_some_and(|other| other == word) => next.push(at + 1),
                _ => {}
            }
        }
        next.sort_unstable();
        next.dedup();
        positions = next;
    }
    positions.contains(&topic.len())
}
