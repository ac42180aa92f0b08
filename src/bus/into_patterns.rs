//! The argument types for patterns.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::pattern::{Pattern, PatternError, Topic};

/// One or several patterns: the argument of [`Bus::subscribe`](super::Bus::subscribe),
/// [`Bus::on`](super::Bus::on), [`SubscriptionHandle::add`](super::SubscriptionHandle::add) and
/// others.
///
/// | type | patterns |
/// | --- | --- |
/// | `&str`, `String`, `&String`, `Box<str>`, `Arc<str>`, `Cow<str>` | the pattern that [`Pattern::parse`] returns for the text |
/// | [`Pattern`], `&Pattern` | this pattern |
/// | [`Topic`], `&Topic` | the pattern that matches this topic alone: [`Pattern::exact`] |
/// | arrays, slices, `Vec`, `HashSet` and `BTreeSet` of these types, and references to them | the patterns of all elements |
///
/// The trait is sealed: other crates use it and do not implement it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use fanout::{Bus, Pattern, Topic};
/// use std::collections::BTreeSet;
///
/// let bus = Bus::<u32>::new();
/// bus.subscribe("a.*")?;
/// bus.subscribe(Pattern::parse("a.*")?)?;
/// bus.subscribe(&Topic::new("a.*")?)?; // the topic of this name, and no other
/// bus.subscribe(["a.*", "b.**"])?;
/// bus.subscribe(vec![String::from("c")])?;
/// bus.subscribe(&BTreeSet::from(["c", "d"]))?;
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a pattern nor a collection of patterns",
    label = "not a pattern",
    note = "a pattern is a `&str`, a `String`, a `Pattern` or a `Topic`, or a reference to one"
)]
pub trait IntoPatterns: sealed::Source {}

impl<S: sealed::Source> IntoPatterns for S {}

mod sealed {
    use super::{Pattern, PatternError};

    #[diagnostic::on_unimplemented(
        message = "`{Self}` is neither a pattern nor a collection of patterns",
        label = "not a pattern",
        note = "a pattern is a `&str`, a `String`, a `Pattern` or a `Topic`, or a reference to one"
    )]
    pub trait Source {
        /// Parses the patterns and appends them, up to the first that is not valid.
        fn append_to(self, patterns: &mut Vec<Pattern>) -> Result<(), PatternError>;
    }
}

/// Parses all patterns of the argument, in their order.
pub(super) fn parse_patterns(source: impl IntoPatterns) -> Result<Vec<Pattern>, PatternError> {
    let mut patterns = Vec::new();
    source.append_to(&mut patterns)?;
    Ok(patterns)
}

impl sealed::Source for &str {
    fn append_to(self, patterns: &mut Vec<Pattern>) -> Result<(), PatternError> {
        patterns.push(Pattern::parse(self)?);
        Ok(())
    }
}

impl sealed::Source for Pattern {
    fn append_to(self, patterns: &mut Vec<Pattern>) -> Result<(), PatternError> {
        patterns.push(self);
        Ok(())
    }
}

impl sealed::Source for &Topic {
    fn append_to(self, patterns: &mut Vec<Pattern>) -> Result<(), PatternError> {
        patterns.push(Pattern::exact(self));
        Ok(())
    }
}

/// Implements the trait for a type that is used as another one.
macro_rules! source_as {
    ($($(<$generic:tt>)? $source:ty => |$this:ident| $as:expr,)*) => {
        $(impl $(<$generic>)? sealed::Source for $source {
            fn append_to(self, patterns: &mut Vec<Pattern>) -> Result<(), PatternError> {
                let $this = self;
                $as.append_to(patterns)
            }
        })*
    };
}

source_as! {
    &&str => |text| *text,
    String => |text| text.as_str(),
    &String => |text| text.as_str(),
    &&String => |text| text.as_str(),
    Box<str> => |text| &*text,
    &Box<str> => |text| &**text,
    Arc<str> => |text| &*text,
    &Arc<str> => |text| &**text,
    Cow<'_, str> => |text| text.as_ref(),
    &Cow<'_, str> => |text| text.as_ref(),
    &Pattern => |pattern| pattern.clone(),
    &&Pattern => |pattern| (*pattern).clone(),
    Topic => |topic| &topic,
    &&Topic => |topic| *topic,
}

/// Implements the trait for a collection, owned or borrowed.
macro_rules! collections {
    ($([$($generics:tt)*] $collection:ty,)*) => {
        $(
            impl<P: sealed::Source, $($generics)*> sealed::Source for $collection {
                fn append_to(self, patterns: &mut Vec<Pattern>) -> Result<(), PatternError> {
                    append_each(self, patterns)
                }
            }

            impl<'a, P, $($generics)*> sealed::Source for &'a $collection
            where
                &'a P: sealed::Source,
            {
                fn append_to(self, patterns: &mut Vec<Pattern>) -> Result<(), PatternError> {
                    append_each(self, patterns)
                }
            }
        )*
    };
}

collections! {
    [const N: usize] [P; N],
    [] Vec<P>,
    [S] HashSet<P, S>,
    [] BTreeSet<P>,
}

impl<'a, P> sealed::Source for &'a [P]
where
    &'a P: sealed::Source,
{
    fn append_to(self, patterns: &mut Vec<Pattern>) -> Result<(), PatternError> {
        append_each(self, patterns)
    }
}

fn append_each<P: sealed::Source>(
    sources: impl IntoIterator<Item = P>,
    patterns: &mut Vec<Pattern>,
) -> Result<(), PatternError> {
    for source in sources {
        source.append_to(patterns)?;
    }
    Ok(())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn texts(source: impl IntoPatterns) -> Vec<String> {
        let patterns = parse_patterns(source).expect("valid");
        patterns.iter().map(|p| p.as_str().to_owned()).collect()
    }

    #[test]
    fn one_pattern_in_every_form() {
        let text = String::from("a.*");
        let pattern = Pattern::parse("a.*").expect("valid");
        let exact = texts(Pattern::exact(&Topic::new("a.*").expect("valid")));
        for one in [
            texts("a.*"),
            texts(&text),
            texts(text.clone()),
            texts(Cow::Borrowed("a.*")),
            texts(Box::<str>::from("a.*")),
            texts(Arc::<str>::from("a.*")),
            texts([&text].as_slice()),
            texts(&pattern),
            texts(pattern),
        ] {
            assert_eq!(one, ["a.*"]);
        }
        let topic = Topic::new("a.*").expect("valid");
        assert_eq!(texts(&topic), exact);
        assert_eq!(texts(topic), exact);
        assert_ne!(exact, ["a.*"]);
    }

    #[test]
    #[expect(
        clippy::needless_borrows_for_generic_args,
        reason = "collections are taken owned and lent"
    )]
    fn several_patterns_in_every_form() {
        let strs = ["a", "b.*"];
        let strings = strs.map(String::from);
        let patterns = strs.map(|text| Pattern::parse(text).expect("valid"));
        for several in [
            texts(strs),
            texts(&strs),
            texts(&strs[..]),
            texts(strs.to_vec()),
            texts(&strs.to_vec()),
            texts(&strings),
            texts(&strings[..]),
            texts(strings.to_vec()),
            texts(strings.each_ref()),
            texts(&patterns[..]),
            texts(patterns.each_ref()),
            texts(&patterns.each_ref()),
            texts(BTreeSet::from(strs)),
            texts(&BTreeSet::from(strings.clone())),
            texts([["a"], ["b.*"]]),
        ] {
            assert_eq!(several, ["a", "b.*"]);
        }
        for mut several in [
            texts(HashSet::from(strs)),
            texts(&HashSet::from(strings.clone())),
            texts(HashSet::from(patterns.clone())),
        ] {
            several.sort();
            assert_eq!(several, ["a", "b.*"]);
        }
        let none: [&str; 0] = [];
        assert!(texts(none).is_empty());
        let topics = strs.map(|text| Topic::new(text).expect("valid"));
        assert_eq!(texts(&topics), texts(topics));
    }

    #[test]
    fn the_first_refusal_is_reported() {
        let error = parse_patterns(["a", "b..c", "["]).unwrap_err();
        assert_eq!(error, Pattern::parse("b..c").unwrap_err());
    }
}
