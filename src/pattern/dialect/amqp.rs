//! Binding keys of AMQP 0-9-1 topic exchanges.
//!
//! A key is cut at its dots into words. A word `*` is any one word. A word `#` is any number of
//! words, also none; it may be anywhere, and there may be several. Within a longer word, both are
//! plain text.
//!
//! This follows RabbitMQ 3.10 to 4, `rabbit_exchange_type_topic`, which refuses nothing. An empty
//! key, and a key with an empty word, is plain text that no topic of ours equals.

use super::compiled::Compiled;
use crate::pattern::route::{Route, Segment};

pub(super) fn compile(text: &str) -> Compiled {
    let segments = text.split('.').map(|word| match word {
        "*" => Segment::Any,
        "#" => Segment::Many,
        _ => Segment::Literal(word.into()),
    });
    let route = Route::new(segments.collect());
    let words = route.segments().iter().map(|segment| match segment {
        Segment::Any => "*",
        Segment::Many => "#",
        Segment::Literal(word) => word,
        Segment::Glob(_) => unreachable!("wildcards are whole words"),
    });
    Compiled {
        canonical: words.collect::<Vec<_>>().join("."),
        routes: vec![route],
    }
}
