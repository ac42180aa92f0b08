//! Labels, which identify subscriptions in statistics and reports.

use std::fmt;

use crate::limits::{LABEL_KEY_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_MAX};

/// The keys that the metrics use themselves.
const RESERVED: [&str; 4] = ["bus", "quantile", "reason", "subscription"];

/// The largest number of characters of an invalid key that an error shows.
const SHOWN_CHARS: usize = LABEL_KEY_BYTES_MAX;

/// A key and a value, set with [`SubscriptionBuilder::label`](crate::SubscriptionBuilder::label).
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
    /// Returns the key: 1 to [`LABEL_KEY_BYTES_MAX`] ASCII letters, digits and underscores, of
    /// which the first is not a digit. See [`Label`] for an example.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the value: any text of up to [`LABEL_VALUE_BYTES_MAX`] bytes. See [`Label`] for an
    /// example.
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
/// use fanout::{Bus, LabelRule, SubscribeError};
///
/// let bus = Bus::<u32>::new();
/// let labelled = bus.subscription("a").label("team", "x").label("cost-center", "7");
/// let Err(SubscribeError::Label(error)) = labelled.open() else { panic!("refused") };
/// assert_eq!((error.number(), error.key()), (2, "cost-center"));
/// assert_eq!(error.rule(), LabelRule::KeyByte(4));
/// assert_eq!(
///     error.to_string(),
///     "label 2, `cost-center`: byte 4 of the key is not in A-Z a-z 0-9 _, or is a leading digit",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelError {
    number: usize,
    key: Box<str>,
    rule: LabelRule,
}

impl LabelError {
    /// Returns the number of the label, from 1, in the order in which the labels were set. See
    /// [`LabelError`] for an example.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Returns the key of the label, with unprintable characters escaped. If the key is too long,
    /// returns its beginning. See [`LabelError`] for an example.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the rule that the label breaks. See [`LabelError`] for an example.
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

/// The rules for labels. The keys are valid label names in Prometheus and OpenTelemetry.
///
/// ```
/// use fanout::LabelRule;
///
/// assert_eq!(LabelRule::KeyLength(65).to_string(), "a key of 65 bytes is not in 1..=64");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LabelRule {
    /// There are more than [`LABELS_MAX`] labels.
    TooMany,
    /// The key is empty, or longer than [`LABEL_KEY_BYTES_MAX`] bytes. The number is its length in
    /// bytes.
    KeyLength(usize),
    /// A key may not have this byte at this position. The number is the position, from 0.
    KeyByte(usize),
    /// The key is `bus`, `quantile`, `reason` or `subscription`, which metrics use themselves.
    Reserved,
    /// An earlier label has the same key.
    Twice,
    /// The value is longer than [`LABEL_VALUE_BYTES_MAX`] bytes. The number is its length in bytes.
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
                "byte {at} of the key is not in A-Z a-z 0-9 _, or is a leading digit"
            ),
            Self::Reserved => f.write_str("this key is reserved for metrics"),
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

/// The labels of a subscription. One pointer wide, since most subscriptions have none.
pub(super) type Labels = Option<Box<Box<[Label]>>>;

/// Collects the labels of a builder, up to the first that is not valid. Opening the subscription
/// reports that one.
#[derive(Clone, Debug, Default)]
pub(super) struct LabelsBuilder {
    /// At most [`LABELS_MAX`].
    labels: Vec<Label>,
    refused: Option<LabelError>,
}

impl LabelsBuilder {
    /// Begins with labels that are known to be valid.
    pub(super) fn of(labels: &[Label]) -> Self {
        Self {
            labels: labels.to_vec(),
            refused: None,
        }
    }

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
        let is_allowed = |(at, byte): (usize, u8)| {
            byte == b'_' || byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit()
        };
        if let Some(at) = key.bytes().enumerate().position(|byte| !is_allowed(byte)) {
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
