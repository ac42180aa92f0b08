//! One pattern, one topic: `Pattern::matches` on the shapes that patterns have.
//!
//! Each shape is asked about a topic that matches and one that does not; the loop around two nothings
//! is there to compare with. Inside a bus a topic is matched through an index and a cache: see `index`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanout::{Pattern, Topic};

/// Name, pattern, a topic that it matches, one that it does not.
const SHAPES: [(&str, &str, &str, &str); 9] = [
    (
        "literal",
        "orders.eu.created",
        "orders.eu.created",
        "orders.eu.deleted",
    ),
    (
        "one_segment",
        "orders.*.created",
        "orders.eu.created",
        "orders.eu.deleted",
    ),
    (
        "rest",
        "orders.**",
        "orders.eu.created",
        "invoices.eu.created",
    ),
    (
        "last_segment",
        "*.created",
        "orders.created",
        "orders.deleted",
    ),
    (
        "anywhere",
        "**.eu.**",
        "orders.eu.created",
        "orders.us.created",
    ),
    (
        "prefix_glob",
        "flights.SF*.JFK",
        "flights.SFO.JFK",
        "flights.LAX.JFK",
    ),
    (
        "suffix_glob",
        "orders.eu.*ated",
        "orders.eu.created",
        "orders.eu.deleted2",
    ),
    (
        "class",
        "flights.[A-D]*.**",
        "flights.ATL.JFK",
        "flights.SFO.JFK",
    ),
    (
        "braces",
        "flights.{ORD,ATL}.?*",
        "flights.ATL.JFK",
        "flights.SFO.JFK",
    ),
];

fn shapes(c: &mut Criterion) {
    let mut group = c.benchmark_group("matching");
    group.throughput(Throughput::Elements(2));
    group.bench_function("nothing", |b| {
        let topic = Topic::new("orders.eu.created").expect("a topic");
        b.iter(|| {
            black_box(black_box(&topic).as_str().is_empty());
            black_box(black_box(&topic).as_str().is_empty());
        });
    });
    for (name, pattern, matching, other) in SHAPES {
        let pattern = Pattern::parse(pattern).expect("a pattern");
        let (matching, other) = (Topic::new(matching).unwrap(), Topic::new(other).unwrap());
        assert!(pattern.matches(&matching), "{pattern} matches {matching}");
        assert!(!pattern.matches(&other), "{pattern} does not match {other}");
        group.bench_function(name, |b| {
            b.iter(|| {
                black_box(black_box(&pattern).matches(black_box(&matching)));
                black_box(black_box(&pattern).matches(black_box(&other)));
            });
        });
    }
    group.finish();
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group!(name = matching; config = config(); targets = shapes);
criterion_main!(matching);
