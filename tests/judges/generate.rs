//! Random patterns and topics with many of the special cases of each language.
//!
//! Words are few and short, so that many patterns match; half of the topics are made from a
//! pattern.

use std::time::{SystemTime, UNIX_EPOCH};

use fanout::Topic;
use fanout::pattern::Syntax;

use super::suite::{self, Case};

/// The largest pattern and the largest topic, in bytes: all programs accept these (AMQP has a limit
/// of 255).
const BYTES_MAX: usize = 120;

/// The words of topics in the languages on segments.
const TOPIC_WORDS: &[&str] = &[
    "a", "b", "ab", "a", "b", "*", ">", "#", "+", "**", "a*", "é", "🦀", "$", "$x", "/", "a/b", "-",
];

/// The pieces of topics in the languages on whole topics, which patterns are made of, too.
const TOPIC_PIECES: &[&str] = &[
    "a", "b", "c", "d", ".", ".", "/", "é", "ü", "🦀", "]", "[", "-", "^", "!", "*", "?", "\\",
    "$", "{", "日",
];

const PATH_PIECES: &[&str] = &[
    "a",
    "b",
    "c",
    ".",
    "/",
    "*",
    "*",
    "**",
    "?",
    "?",
    "[ab]",
    "[^a]",
    "[a-c]",
    "[c-a]",
    "[",
    "]",
    "-",
    "^",
    "\\",
    "\\*",
    "\\[",
    "\\]",
    "\\a",
    "é",
    "🦀",
    "[é-ü]",
    "[^é]",
    "[]a]",
    "[]",
    "[^]",
    "[^]a]",
    "[a-]",
    "[-a]",
    "[a",
    "[a-",
    "[\\]]",
    "[\\-x]",
    "[a\\-c]",
    "[a\\]",
    "[!a]",
    "{a,b}",
    "[.-/]",
    "[a.]",
    "[^/]",
    "[a-b-c]",
    "[^^]",
    "[日-本]",
    "[🦀]",
];

const REDIS_PIECES: &[&str] = &[
    "a", "b", "c", ".", "/", "*", "*", "**", "?", "?", "??", "[ab]", "[^a]", "[a-c]", "[c-a]", "[",
    "]", "-", "^", "\\", "\\*", "\\[", "\\]", "\\?", "\\a", "\\\\", "é", "🦀", "[é]", "[^é]",
    "[]a]", "[]", "[^]", "[^]a]", "[a-]", "[-a]", "[a", "[a-", "[^a", "[^", "[\\]]", "[\\-x]",
    "[a\\-c]", "[a\\]", "[a\\", "[!a]", "{a,b}", "[.]", "[^.]", "[a-b-c]", "[^^]", "[--a]", "[z-]",
    "[🦀]", "[a-\\]]",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Nats,
    Amqp,
    Mqtt,
    Path,
    Redis,
}

impl Dialect {
    pub(crate) fn syntax(self) -> Syntax {
        match self {
            Dialect::Nats => Syntax::Nats,
            Dialect::Amqp => Syntax::Amqp,
            Dialect::Mqtt => Syntax::Mqtt,
            Dialect::Path => Syntax::Path,
            Dialect::Redis => Syntax::Redis,
        }
    }

    /// The name of the language's file in the suite, without its extension.
    pub(crate) fn language(self) -> &'static str {
        match self {
            Dialect::Nats => "nats",
            Dialect::Amqp => "amqp",
            Dialect::Mqtt => "mqtt",
            Dialect::Path => "path",
            Dialect::Redis => "redis",
        }
    }

    pub(crate) fn cases(self) -> Vec<Case> {
        suite::cases(self.language())
    }

    /// Whether the program's protocol can carry the pattern, and the program's answer is its own.
    pub(crate) fn can_be_asked(self, pattern: &str) -> bool {
        match self {
            Dialect::Nats => !pattern.is_empty() && !pattern.contains([' ', '\t', '\r', '\n']),
            Dialect::Amqp => pattern.len() <= 255,
            Dialect::Mqtt | Dialect::Path | Dialect::Redis => true,
        }
    }

    /// Those topics that the program's protocol can carry.
    pub(crate) fn askable(self, topics: &[String]) -> Vec<String> {
        let can_be_asked = |topic: &&String| match self {
            Dialect::Nats => !topic.contains(' '),
            Dialect::Amqp => topic.len() <= 255,
            // Clients may not publish on topics of the server itself, nor on those of shared
            // subscriptions, nor on topics with Unicode noncharacters.
            Dialect::Mqtt => {
                let is_noncharacter =
                    |c| matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe;
                let is_own = ["$SYS", "$share"].iter().any(|own| topic.starts_with(own));
                !is_own && !topic.contains(is_noncharacter)
            }
            Dialect::Path | Dialect::Redis => true,
        };
        topics.iter().filter(can_be_asked).cloned().collect()
    }

    pub(crate) fn pattern(self, random: &mut Random) -> String {
        loop {
            let text = match self {
                Dialect::Nats => {
                    let words = ["*", "*", ">", "", "a>", ">a", "*a", ">>", "\u{1}"];
                    joined(&words, 4, '.', random)
                }
                Dialect::Amqp => {
                    let words = [
                        "*", "*", "#", "#", "#", "", "a#", "#a", "*a", "##", "\u{1}", " ",
                    ];
                    joined(&words, 4, '.', random)
                }
                Dialect::Mqtt => {
                    let words = [
                        "+", "+", "#", "", "a#", "#a", "+a", "++", "a.b", ".", " ", "$share",
                        "\u{1}", "\u{fffe}", "\u{fdd0}",
                    ];
                    joined(&words, 4, '/', random)
                }
                Dialect::Path => random.text(PATH_PIECES, 0, 7),
                Dialect::Redis => random.text(REDIS_PIECES, 0, 7),
            };
            if text.len() <= BYTES_MAX && self.can_be_asked(&text) {
                return text;
            }
        }
    }

    /// A valid topic that may match one of the patterns.
    pub(crate) fn topic(self, patterns: &[String], random: &mut Random) -> String {
        loop {
            let text = if random.below(2) == 0 {
                match self {
                    Dialect::Nats | Dialect::Amqp | Dialect::Mqtt => {
                        let count = 1 + random.below(5);
                        let words: Vec<_> = (0..count).map(|_| *random.of(TOPIC_WORDS)).collect();
                        words.join(".")
                    }
                    Dialect::Path | Dialect::Redis => random.text(TOPIC_PIECES, 1, 7),
                }
            } else {
                {
                    let pattern: &String = random.of(patterns);
                    self.instance(pattern, random)
                }
            };
            let is_topic = text.len() <= BYTES_MAX && Topic::new(&text).is_ok();
            if is_topic && self.askable(std::slice::from_ref(&text)).len() == 1 {
                return text;
            }
        }
    }

    /// Roughly the pattern, with texts instead of its wildcards.
    fn instance(self, pattern: &str, random: &mut Random) -> String {
        let separator = if self == Dialect::Mqtt { '/' } else { '.' };
        match self {
            Dialect::Nats | Dialect::Amqp | Dialect::Mqtt => {
                let mut words: Vec<&str> = Vec::new();
                for word in pattern.split(separator) {
                    let count = match word {
                        "*" | "+" => 1,
                        "#" | ">" => random.below(4),
                        _ => {
                            words.push(word);
                            continue;
                        }
                    };
                    words.extend((0..count).map(|_| *random.of(TOPIC_WORDS)));
                }
                words.join(".")
            }
            Dialect::Path | Dialect::Redis => {
                let mut text = String::new();
                let mut chars = pattern.chars().peekable();
                while let Some(c) = chars.next() {
                    match c {
                        '*' => text += &random.text(TOPIC_PIECES, 0, 3),
                        '?' => text += *random.of(TOPIC_PIECES),
                        '\\' => text.extend(chars.next()),
                        '[' => {
                            let class: Vec<char> =
                                chars.by_ref().take_while(|&c| c != ']').collect();
                            if class.first() == Some(&'^') || class.is_empty() {
                                text += *random.of(TOPIC_PIECES);
                            } else {
                                text.push(*random.of(&class));
                            }
                        }
                        _ => text.push(c),
                    }
                }
                text
            }
        }
    }
}

/// 1 to 6 words: plain ones, or one of these.
fn joined(special: &[&str], plain: usize, separator: char, random: &mut Random) -> String {
    let mut text = String::new();
    for number in 0..=random.below(6) {
        if number > 0 {
            text.push(separator);
        }
        let words = if random.below(special.len() + plain) < special.len() {
            special
        } else {
            TOPIC_WORDS
        };
        text += *random.of(words);
    }
    text
}

/// Random numbers from a seed (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// A number from 0 to `bound - 1`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((bits ^ (bits >> 31)) >> 32) as usize * bound) >> 32
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A text of up to `most` pieces.
    fn text(&mut self, pieces: &[&str], least: usize, most: usize) -> String {
        let count = least + self.below(most - least + 1);
        (0..count).map(|_| *self.of(pieces)).collect()
    }
}

pub(crate) fn seed_of_now() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    now.as_nanos() as u64
}
