//! RabbitMQ's topic exchange: which words of the key lead to which words of the topic.

pub(super) fn matches(key: &str, topic: &str) -> bool {
    // `rabbit_exchange_type_topic` cuts the empty key to no words.
    let words = |text: &str| -> Vec<String> {
        match text {
            "" => Vec::new(),
            text => text.split('.').map(str::to_owned).collect(),
        }
    };
    let topic = words(topic);
    // The places in the topic that the words read so far lead to.
    let mut places = vec![0];
    for word in words(key) {
        let mut next = Vec::new();
        for place in places {
            match &*word {
                "#" => next.extend(place..=topic.len()),
                "*" if place < topic.len() => next.push(place + 1),
                word if topic.get(place).is_some_and(|other| other == word) => next.push(place + 1),
                _ => {}
            }
        }
        next.sort_unstable();
        next.dedup();
        places = next;
    }
    places.contains(&topic.len())
}
