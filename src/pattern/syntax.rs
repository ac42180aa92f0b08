//! The names of the pattern languages.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use super::excerpt::excerpt;

/// The language that a pattern is written in; the [module](crate::pattern) compares them.
///
/// `Display` prints the name in lower case, and `FromStr` reads it.
///
/// ```
/// use fanout::Syntax;
///
/// assert_eq!(Syntax::default(), Syntax::Segments);
/// assert_eq!("mqtt".parse(), Ok(Syntax::Mqtt));
/// assert_eq!(Syntax::Mqtt.to_string(), "mqtt");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Syntax {
    /// The native language.
    #[default]
    Segments,
    /// Subjects of NATS: `*` is one token, `>` at the end is one token or more.
    Nats,
    /// Binding keys of AMQP 0-9-1 topic exchanges: `*` is one word, `#` is any number of words.
    Amqp,
    /// Topic filters of MQTT: `+` is one level, `#` at the end is any number of levels; `/`
    /// separates levels.
    Mqtt,
    /// Go's `path.Match`, on the whole topic.
    Path,
    /// The globs of `PSUBSCRIBE` of Redis, on the whole topic.
    Redis,
}

impl Syntax {
    /// All languages, the native one first.
    ///
    /// ```
    /// use fanout::{Pattern, Syntax};
    ///
    /// assert!(Syntax::ALL.iter().all(|&syntax| Pattern::parse_as("a", syntax).is_ok()));
    /// ```
    pub const ALL: [Syntax; 6] = [
        Syntax::Segments,
        Syntax::Nats,
        Syntax::Amqp,
        Syntax::Mqtt,
        Syntax::Path,
        Syntax::Redis,
    ];

    /// The name in lower case, as `Display` prints it.
    ///
    /// ```
    /// assert_eq!(fanout::Syntax::Nats.name(), "nats");
    /// ```
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Syntax::Segments => "segments",
            Syntax::Nats => "nats",
            Syntax::Amqp => "amqp",
            Syntax::Mqtt => "mqtt",
            Syntax::Path => "path",
            Syntax::Redis => "redis",
        }
    }
}

impl fmt::Display for Syntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Syntax {
    type Err = UnknownSyntax;

    fn from_str(name: &str) -> Result<Self, UnknownSyntax> {
        let found = Syntax::ALL.into_iter().find(|syntax| syntax.name() == name);
        found.ok_or_else(|| UnknownSyntax {
            input: excerpt(name, 0),
        })
    }
}

/// A text is not the name of a [`Syntax`].
///
/// ```
/// use fanout::{Syntax, pattern::UnknownSyntax};
///
/// let error: UnknownSyntax = "nuts".parse::<Syntax>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "unknown syntax `nuts`: it must be segments, nats, amqp, mqtt, path or redis",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSyntax {
    /// The text, shortened where it is long, control characters escaped.
    input: Box<str>,
}

impl fmt::Display for UnknownSyntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [names @ .., last] = Syntax::ALL.map(Syntax::name);
        let input = &self.input;
        let names = names.join(", ");
        write!(f, "unknown syntax `{input}`: it must be {names} or {last}")
    }
}

impl Error for UnknownSyntax {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_printed() {
        for syntax in Syntax::ALL {
            assert_eq!(syntax.to_string().parse(), Ok(syntax));
            assert_eq!(
                format!("{syntax:?}").to_lowercase(),
                syntax.name(),
                "the name of the variant is used"
            );
        }
        for name in ["", "NATS", " nats", "nats "] {
            let error = name.parse::<Syntax>().expect_err(name);
            assert!(
                Syntax::ALL
                    .iter()
                    .all(|syntax| error.to_string().contains(syntax.name())),
                "{error}"
            );
        }
    }
}
