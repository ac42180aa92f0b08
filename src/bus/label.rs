//! What a program writes on its subscriptions, to know them again in numbers and reports.

use std::fmt;

use crate::limits::{LABEL_KEY_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_MAX};

/// The keys that metrics have of their own.
const RESERVED: [&str; 4] = ["bus", "quantile", "reason", "subscription"];

/// Characters of a refused key that an error shows.
const SHOWN_CHARS: usize = LABEL_KEY_BYTES_MAX;

/// A key and a value, given with [`SubscriptionBuilder::label`](crate::SubscriptionBuilder::label).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = fanout::Bus::<u32>::new();
/// let sub = bus.subscription("orders.**").label("team", "billing").open()?;
/// let handle = sub.handle();
/// let label = &handle.labels()[0];
/// assert_eq!((label.key(), label.value()), ("team", "billing"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    key: Box<str>,
    value: Box<str>,
}

impl Label {
    /// 1 to [`LABEL_KEY_BYTES_MAX`] ASCII letters, digits and underscores; the first is no digit.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Any text of up to [`LABEL_VALUE_BYTES_MAX`] bytes.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}", self.key, self.value)
    }
}

/// Why a label was refused.
///
/// ```
/// use fanout::{Bus, SubscribeError};
///
/// let bus = Bus::<u32>::new();
/// let refused = bus.subscription("a").label("team", "x").label("cost-center", "7").open().unwrap_err();
/// assert!(matches!(refused, SubscribeError::Label(_)));
/// assert_eq!(
///     refused.to_string(),
///     "label 2, `cost-center`: byte 4 of its key is none of A-Z a-z 0-9 _, or a digit at its start",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelError {
    number: usize,
    key: Box<str>,
    rule: LabelRule,
}

impl LabelError {
    /// Which of the subscription's labels, from 1, in the order in which they were given.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Its key, with what cannot be shown escaped; of one that is too long, the beginning.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The rule that it breaks.
    #[must_use]
    pub fn rule(&self) -> LabelRule {
        self.rule
    }
}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "label {}, `{}`: {}", self.number, self.key, self.rule)
    }
}

impl std::error::Error for LabelError {}

/// The rules for labels. Keys are such that every system for metrics takes them as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LabelRule {
    /// There are more than [`LABELS_MAX`].
    TooMany,
    /// The key has none, or more than [`LABEL_KEY_BYTES_MAX`] bytes; here is how many.
    KeyLength(usize),
    /// The byte at this place of the key, from 0, is none that a key may have there.
    KeyByte(usize),
    /// The key is `bus`, `quantile`, `reason` or `subscription`, which metrics use themselves.
    Reserved,
    /// An earlier label has the same key.
    Twice,
    /// The value has more than [`LABEL_VALUE_BYTES_MAX`] bytes; here is how many.
    ValueLength(usize),
}

impl fmt::Display for LabelRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(f, "a subscription has at most {LABELS_MAX} labels"),
            Self::KeyLength(bytes) => {
                write!(
                    f,
                    "a key of {bytes} bytes is not in 1..={LABEL_KEY_BYTES_MAX}"
                )
            }
            Self::KeyByte(at) => write!(
                f,
                "byte {at} of its key is none of A-Z a-z 0-9 _, or a digit at its start"
            ),
            Self::Reserved => f.write_str("metrics use this key themselves"),
            Self::Twice => f.write_str("an earlier label has the same key"),
            Self::ValueLength(bytes) => {
                write!(
                    f,
                    "a value of {bytes} bytes is not in 0..={LABEL_VALUE_BYTES_MAX}"
                )
            }
        }
    }
}

impl std::error::Error for LabelRule {}

/// The labels of a subscription that has some. One pointer wide: most have none.
pub(super) type Labels = Option<Box<Box<[Label]>>>;

/// Labels as they were given, and the first refusal, which ends the gathering: it is told when the
/// subscription opens.
#[derive(Debug, Default)]
pub(super) struct LabelsBuilder {
    labels: Vec<Label>,
    refused: Option<LabelError>,
}

impl LabelsBuilder {
    pub(super) fn add(&mut self, key: &str, value: &str) {
        if self.refused.is_some() {
            return;
        }
        match self.check(key, value) {
            Ok(()) => self.labels.push(Label {
                key: key.into(),
                value: value.into(),
            }),
            Err(rule) => {
                self.refused = Some(LabelError {
                    number: self.labels.len() + 1,
                    key: key.escape_debug().take(SHOWN_CHARS).collect(),
                    rule,
                });
            }
        }
    }

    pub(super) fn finish(self) -> Result<Labels, LabelError> {
        match self.refused {
            Some(error) => Err(error),
            None if self.labels.is_empty() => Ok(None),
            None => Ok(Some(Box::new(self.labels.into()))),
        }
    }

    fn check(&self, key: &str, value: &str) -> Result<(), LabelRule> {
        if self.labels.len() == LABELS_MAX {
            return Err(LabelRule::TooMany);
        }
        if !(1..=LABEL_KEY_BYTES_MAX).contains(&key.len()) {
            return Err(LabelRule::KeyLength(key.len()));
        }
        let is_fine = |(at, byte): (usize, u8)| {
            byte == b'_' || byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit()
        };
        if let Some(at) = key.bytes().enumerate().position(|byte| !is_fine(byte)) {
            return Err(LabelRule::KeyByte(at));
        }
        if RESERVED.contains(&key) {
            return Err(LabelRule::Reserved);
        }
        if self.labels.iter().any(|label| &*label.key == key) {
            return Err(LabelRule::Twice);
        }
        if value.len() > LABEL_VALUE_BYTES_MAX {
            return Err(LabelRule::ValueLength(value.len()));
        }
        Ok(())
    }
}
