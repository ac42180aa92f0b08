//! The limits of topics and patterns.

/// The longest topic, in bytes of UTF-8.
///
/// ```
/// use fanout::{Topic, pattern::TOPIC_BYTES_MAX};
///
/// assert!(Topic::new("x".repeat(TOPIC_BYTES_MAX)).is_ok());
/// assert!(Topic::new("x".repeat(TOPIC_BYTES_MAX + 1)).is_err());
/// ```
pub const TOPIC_BYTES_MAX: usize = 1024;

/// The longest pattern, in bytes of UTF-8.
///
/// ```
/// use fanout::{Pattern, pattern::PATTERN_BYTES_MAX};
///
/// assert!(Pattern::parse(&"x".repeat(PATTERN_BYTES_MAX)).is_ok());
/// assert!(Pattern::parse(&"x".repeat(PATTERN_BYTES_MAX + 1)).is_err());
/// ```
pub const PATTERN_BYTES_MAX: usize = 1024;

/// The most expansions that the braces of a pattern may multiply to.
///
/// ```
/// use fanout::{Pattern, pattern::BRACE_EXPANSIONS_MAX};
///
/// assert_eq!(BRACE_EXPANSIONS_MAX, 4 * 4 * 4);
/// assert!(Pattern::parse("{a,b,c,d}.{a,b,c,d}.{a,b,c,d}").is_ok());
/// assert!(Pattern::parse("{a,b,c,d}.{a,b,c,d}.{a,b,c,d,e}").is_err());
/// ```
pub const BRACE_EXPANSIONS_MAX: usize = 64;

/// The most levels of a filter in [`Syntax::Mqtt`](crate::Syntax::Mqtt): mosquitto refuses filters
/// with more than 200 `/`.
///
/// ```
/// use fanout::{Pattern, PatternRule, Syntax, pattern::MQTT_LEVELS_MAX};
///
/// let filter = |levels| Pattern::parse_as(&vec!["+"; levels].join("/"), Syntax::Mqtt);
/// assert!(filter(MQTT_LEVELS_MAX).is_ok());
/// let error = filter(MQTT_LEVELS_MAX + 1).unwrap_err();
/// assert_eq!(error.rule(), PatternRule::TooManyLevels);
/// ```
pub const MQTT_LEVELS_MAX: usize = 201;

/// The most steps that [`Pattern::covers`](crate::Pattern::covers) and
/// [`Pattern::intersects`](crate::Pattern::intersects) take before they give up.
///
/// One step tries one character in one state of `other` together with a set of states of `self`,
/// or keeps one such set, or compares eight of them.
///
/// ```
/// use fanout::Pattern;
/// use fanout::pattern::{SET_STEPS_MAX, TooComplex};
///
/// // Does every text of 40 letters a and b have two equal letters at a distance of 20? A search
/// // that reads the text from left to right has to remember 20 letters: that is a million sets.
/// let gap = "?".repeat(19);
/// let same = Pattern::parse(&format!("{{*a{gap}a*,*b{gap}b*}}"))?;
/// let text = Pattern::parse(&"[ab]".repeat(40))?;
/// assert!(matches!(same.covers(&text), Err(TooComplex::Steps { .. })));
/// assert_eq!(same.intersects(&text), Ok(true));
/// assert_eq!(SET_STEPS_MAX, 131_072);
/// # Ok::<(), fanout::PatternError>(())
/// ```
pub const SET_STEPS_MAX: usize = 1 << 17;
