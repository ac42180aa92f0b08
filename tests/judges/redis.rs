//! redis-server, with RESP: `PSUBSCRIBE` on one connection, `PUBLISH` on another.
//!
//! The server answers a `PUBLISH` when all messages are in the buffers of the subscribers. So the
//! answer to a `PING` that a subscriber sends afterwards comes behind them. The server refuses no
//! pattern.

use std::collections::HashMap;

use super::wire::Wire;
use super::{Answer, Judge};

pub(crate) struct Redis {
    subscriber: Wire,
    publisher: Wire,
    version: String,
}

impl Redis {
    pub(crate) fn connect(address: &str) -> Self {
        let mut publisher = Wire::connect(address);
        command(&mut publisher.out, &["INFO", "server"]);
        publisher.send();
        let Reply::Text(info) = reply(&mut publisher) else {
            panic!("no information")
        };
        let version = info
            .lines()
            .find_map(|line| line.strip_prefix("redis_version:"));
        Redis {
            subscriber: Wire::connect(address),
            publisher,
            version: version.expect("it says its version").to_owned(),
        }
    }
}

impl Judge for Redis {
    fn name(&self) -> String {
        format!("redis-server {}", self.version)
    }

    fn ask(&mut self, patterns: &[String], topics: &[String]) -> Vec<Answer> {
        let numbers: HashMap<&str, usize> = patterns
            .iter()
            .enumerate()
            .map(|(number, pattern)| (&**pattern, number))
            .collect();
        assert_eq!(
            numbers.len(),
            patterns.len(),
            "messages name the pattern, so each is asked once"
        );
        let words: Vec<&str> = std::iter::once("PSUBSCRIBE")
            .chain(patterns.iter().map(|pattern| &**pattern))
            .collect();
        command(&mut self.subscriber.out, &words);
        self.subscriber.send();
        for _ in patterns {
            assert!(matches!(reply(&mut self.subscriber), Reply::Array(_)));
        }

        for (number, topic) in topics.iter().enumerate() {
            command(
                &mut self.publisher.out,
                &["PUBLISH", topic, &number.to_string()],
            );
        }
        self.publisher.send();
        for _ in topics {
            assert!(matches!(reply(&mut self.publisher), Reply::Number));
        }

        let mut verdicts = vec![vec![false; topics.len()]; patterns.len()];
        command(&mut self.subscriber.out, &["PING"]);
        self.subscriber.send();
        loop {
            let Reply::Array(words) = reply(&mut self.subscriber) else {
                panic!("no message")
            };
            match &*words {
                [kind, _] if kind == "pong" => break,
                [kind, pattern, _, topic] if kind == "pmessage" => {
                    let topic: usize = topic.parse().expect("our payload");
                    verdicts[numbers[&**pattern]][topic] = true;
                }
                other => panic!("unexpected: {other:?}"),
            }
        }

        command(&mut self.subscriber.out, &["PUNSUBSCRIBE"]);
        self.subscriber.send();
        for _ in patterns {
            assert!(matches!(reply(&mut self.subscriber), Reply::Array(_)));
        }
        verdicts.into_iter().map(Answer::Verdicts).collect()
    }
}

enum Reply {
    /// A number, which is not needed.
    Number,
    Text(String),
    /// Texts. A number, or a missing text, is an empty text.
    Array(Vec<String>),
}

fn command(out: &mut Vec<u8>, words: &[&str]) {
    out.extend(format!("*{}\r\n", words.len()).bytes());
    for word in words {
        out.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
}

fn reply(wire: &mut Wire) -> Reply {
    let line = wire.line();
    let (kind, rest) = line.split_at(1);
    match kind {
        ":" => Reply::Number,
        "+" => Reply::Text(rest.to_owned()),
        "$" => {
            let Ok(length) = rest.parse::<usize>() else {
                return Reply::Text(String::new()); // `$-1` is a missing text
            };
            let mut bytes = wire.bytes(length + 2).expect("the judge hung up");
            bytes.truncate(length);
            Reply::Text(String::from_utf8(bytes).expect("our own texts"))
        }
        "*" => {
            let count: usize = rest.parse().expect("a count");
            let texts = (0..count).map(|_| match reply(wire) {
                Reply::Text(text) => text,
                Reply::Number => String::new(),
                Reply::Array(_) => panic!("an array in an array"),
            });
            Reply::Array(texts.collect())
        }
        _ => panic!("unexpected: {line}"),
    }
}
