//! The index: it finds the values whose patterns match a topic.
//!
//! A [`PatternIndex`] is a set of (pattern, value) pairs. For a topic it returns the values that
//! have a matching pattern, each value once. It is a trie over segments, with a child for each
//! plain text and children for the wildcards. A pattern with braces has an entry for each different
//! expansion. One index can have patterns of all languages.
//!
//! | for | use |
//! | --- | --- |
//! | one thread, or an index that does not change | [`PatternIndex`] |
//! | threads that look up while others change the index | [`SharedIndex`] |
//! | topics that occur again and again | a [`MatchCache`] for each reader, in front of either |
//!
//! # Cost
//!
//! | operation | steps |
//! | --- | --- |
//! | [`matches`](PatternIndex::matches) | for each segment of the topic: one look-up of its text; then, for each node that the segments before lead to, one look-up of a child and those described below for globs; then a sort of the values, if they come from several nodes. There is no recursion, and no node occurs twice in a step, so `**.a.**.a.**.a` is cheap |
//! | [`insert`](PatternIndex::insert), [`remove`](PatternIndex::remove) | for each expansion of the pattern, one look-up for each segment; at most a few hundred entries of a table are moved, or of a node with very many values |
//! | [`clone`](PatternIndex::clone) | one; the first change afterwards copies a list of one word for each 256 nodes or so, and each change copies what it changes, in chunks of about 10 KiB (more where many nodes have a hundred values each), until nothing is shared |
//! | [`SharedIndex::load`] | one, without waiting |
//! | a change of a [`SharedIndex`] | twice those of the [`PatternIndex`], and one for each thread that ever loaded it |
//! | [`MatchCache::lookup`] | one, and one for each change since the topic was last looked up, up to [`CHANGES_KEPT`] |
//!
//! A node takes 24 bytes (with values of four bytes, not counting the free slots of its table).
//! Each different text takes up to 40 bytes, and its length if it has more than 22 bytes. A
//! [`SharedIndex`] takes twice as much, and three times as much while a reader delays the reuse of
//! an old state. Of a removed pair, nothing remains but the numbers that it used, four bytes each,
//! until all pairs are removed, and its pattern, which is among the last [`CHANGES_KEPT`] changes
//! and may be needed by the sides of a [`SharedIndex`].
//!
//! # Which patterns a look-up tries
//!
//! The time of a look-up depends on the patterns whose *beginning* matches the topic, segment by
//! segment, and not on the number of patterns. Below a node of the trie, a look-up finds the next
//! segment as follows:
//!
//! - **Indexed**, without being compared one by one: plain text, wildcards for whole segments (`*`
//!   and `**`, and those of NATS, AMQP and MQTT), and globs with a plain beginning or end that few
//!   other globs of the node share (`orders.A7*`, `orders.*-7`). This takes one look-up for the
//!   text of the segment, and one for each different length of such a beginning or end.
//! - **Filtered** by a text that they require: globs whose beginnings and ends are shared by many,
//!   or that have none (`user.*-7-*.login`). This takes up to four look-ups for each byte of the
//!   segment, and then only globs are tried whose text of up to 8 bytes the segment contains: among
//!   100,000 such patterns about 2 microseconds. Where the texts are short, more globs share a text
//!   and are tried: a text of one character excludes few. Among 100,000 such
//!   patterns a look-up took 0.17 milliseconds, and 1.2 at most (2026-11-27).
//! - **Scanned**, about 50 nanoseconds each: globs without any plain text (`[ab]?*`), and globs
//!   that differ only in their wildcards and classes, on segments that contain their text.
//!
//! Patterns of [`Syntax::Path`] and [`Syntax::Redis`] have their plain beginning up to its last dot
//! in the trie. The glob behind it is compared with the whole rest of the topic, and is indexed,
//! filtered or scanned in the same way.
//!
//! [`Syntax::Path`]: crate::Syntax::Path
//! [`Syntax::Redis`]: crate::Syntax::Redis
//!
//! # Failure modes
//!
//! * **A reader keeps a snapshot for ever.** No writer waits for it. A [`SharedIndex`] has two
//!   copies of the index, its sides: readers load one, and the writer changes the other. The second
//!   change after the snapshot was taken needs a third side, which costs as much as the first
//!   change of a clone. The snapshot keeps the memory of its state alive.
//! * **A change of tens of thousands of pairs**: a batch of a [`SharedIndex`] keeps other writers
//!   waiting. The bus prepares such a change in a clone, so that others wait for some microseconds.
//!   Afterwards, changes copy what they change until the sides share nothing.
//! * **A writer panics** in a batch, or in the comparison of values: readers see nothing of the
//!   batch, and the next change makes a new standby. A [`PatternIndex`] that was being changed
//!   itself may have some expansions of a pattern and lack others afterwards.
//! * **Out of memory**: the process ends, as it does with Rust's collections.
//! * **A flood of different topics**: a look-up leaves nothing behind. A cache is bounded, and
//!   keeps the topics that occur repeatedly.
//! * **Texts that were chosen to collide**: all hashes are keyed, so the texts cannot be chosen
//!   without the key. If texts collided nevertheless, a look-up would compare them one by one, and
//!   its result would be right.
//! * **More than 536,870,911 nodes** or different texts: the change that needs one more panics.
//!
//! # Sources of the ideas
//!
//! Brokers with AMQP topic exchanges match bindings with tries over the words of a topic. The
//! subscription list of NATS adds a cache in front, which a wildcard subscription empties; ours
//! compares the changes with the topic instead. Two copies that are exchanged are from Ramalhete
//! and Correia, "Left-Right: A Concurrency Control Technique with Wait-Free Population Oblivious
//! Reads" (2015); there the writer waits for readers, here it leaves them the side that they hold.
//! Dividing one part of a table at a time is from Litwin, "Linear Hashing: A New Tool for File and
//! Table Addressing" (1980). Entries in the order of their hash are from Amble and Knuth, "Ordered
//! Hash Tables" (1974). Candidates that share a short text are from trigram indexes: Russ Cox,
//! "Regular Expression Matching with a Trigram Index" (2012).

// Each file imports from those that it needs, never from here: so the imports have no cycles.
mod cache;
mod change_log;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod interner;
mod matchers;
#[cfg(all(test, loom))]
mod models;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod naive;
mod pattern_index;
mod shared;
mod sorted;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod trie;
mod walk;

pub use self::cache::{
    CACHE_TOPICS, CACHE_VALUES_MAX, MatchCache, TOPIC_VALUES_MAX, UNMATCHED_TOPICS_MAX,
};
pub use self::change_log::CHANGES_KEPT;
pub use self::pattern_index::PatternIndex;
pub(crate) use self::shared::Bulk;
pub use self::shared::{IndexBatch, SharedIndex, Snapshot};
pub(crate) use self::table::keyed_hash;
pub use self::walk::Scratch;
