//! Models of the writers of a shared index.

use super::shared::SharedIndex;
use crate::pattern::{Pattern, Topic};
use crate::sync::explore::explore_bounded;
use crate::sync::{Arc, thread};

/// A bulk change against the changes of another writer and a reader. No change is lost on any side,
/// and the reader sees the pairs of the bulk change together.
#[test]
fn loom_bulk_change_against_a_writer_and_a_reader() {
    explore_bounded(
        "index: a bulk change against a writer and a reader",
        2,
        || {
            let [one, two, other] = ["one", "two", "other"].map(|t| Pattern::parse(t).unwrap());
            let found = |index: &SharedIndex<u32>, topic: &str| {
                let mut values = Vec::new();
                index
                    .load()
                    .matches(&Topic::new(topic).unwrap(), &mut values);
                values
            };
            let index = Arc::new(SharedIndex::new());
            index.insert(&other, 1);
            let writing = {
                let (index, other) = (index.clone(), other.clone());
                thread::spawn(move || {
                    assert!(index.insert(&other, 2));
                    assert!(index.remove(&other, &1));
                })
            };
            let reading = {
                let index = index.clone();
                thread::spawn(move || {
                    let snapshot = index.load();
                    let count = |topic: &str| {
                        let mut values = Vec::new();
                        snapshot.matches(&Topic::new(topic).unwrap(), &mut values);
                        values.len()
                    };
                    assert_eq!(count("one"), count("two"));
                    assert!(count("other") > 0);
                })
            };
            index.bulk(|changes| {
                assert!(changes.insert(&one, 7) && changes.insert(&two, 7));
                changes.catch_up();
                changes.publish(|_| ());
            });
            writing.join().unwrap();
            reading.join().unwrap();
            // On both sides.
            for last in 3..5 {
                assert_eq!(found(&index, "one"), [7]);
                assert_eq!(found(&index, "two"), [7]);
                assert_eq!(found(&index, "other"), (2..last).collect::<Vec<_>>());
                assert!(index.insert(&other, last));
            }
        },
    );
}
