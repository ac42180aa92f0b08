//! One pattern and one topic: `Pattern::matches` for the common shapes of patterns, compared with
//! globset and regex.
//!
//! Each shape is a group: a topic that matches and one that does not, with `fanout`, with a
//! compiled `globset` matcher whose wildcards do not cross separators (dots are replaced by slashes
//! beforehand, in globs and topics), and with a compiled and anchored `regex` of the same meaning.
//! `nothing` is the loop with an empty body. A bus matches topics with an index and a cache
//! instead: see `index`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanout::{Pattern, Topic};
use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;

struct Shape {
    name: &'static str,
    pattern: &'static str,
    glob: &'static str,
    regex: &'static str,
    matching: &'static str,
    other: &'static str,
}

const SHAPES: [Shape; 11] = [
    Shape {
        name: "literal",
        pattern: "orders.eu.created",
        glob: "orders/eu/created",
        regex: r"^orders\.eu\.created$",
        matching: "orders.eu.created",
        other: "orders.eu.deleted",
    },
    Shape {
        name: "one_segment",
        pattern: "orders.*.created",
        glob: "orders/*/created",
        regex: r"^orders\.[^.]+\.created$",
        matching: "orders.eu.created",
        other: "orders.eu.deleted",
    },
    Shape {
        name: "rest",
        pattern: "orders.**",
        glob: "{orders,orders/**}",
        regex: r"^orders(?:\..*)?$",
        matching: "orders.eu.created",
        other: "invoices.eu.created",
    },
    Shape {
        name: "last_segment",
        pattern: "*.created",
        glob: "*/created",
        regex: r"^[^.]+\.created$",
        matching: "orders.created",
        other: "orders.deleted",
    },
    Shape {
        name: "prefix_glob",
        pattern: "flights.SF*.JFK",
        glob: "flights/SF*/JFK",
        regex: r"^flights\.SF[^.]*\.JFK$",
        matching: "flights.SFO.JFK",
        other: "flights.LAX.JFK",
    },
    Shape {
        name: "suffix_glob",
        pattern: "orders.eu.*ated",
        glob: "orders/eu/*ated",
        regex: r"^orders\.eu\.[^.]*ated$",
        matching: "orders.eu.created",
        other: "orders.eu.deleted2",
    },
    Shape {
        name: "between",
        pattern: "orders.**.created",
        glob: "orders/**/created",
        regex: r"^orders\.(?:.*\.)?created$",
        matching: "orders.eu.west.created",
        other: "orders.eu.west.deleted",
    },
    Shape {
        name: "two_segments",
        pattern: "orders.*.*.created",
        glob: "orders/*/*/created",
        regex: r"^orders\.[^.]+\.[^.]+\.created$",
        matching: "orders.eu.west.created",
        other: "orders.eu.west.deleted",
    },
    Shape {
        name: "anywhere",
        pattern: "**.eu.**",
        glob: "{eu,eu/**,**/eu,**/eu/**}",
        regex: r"^(?:.*\.)?eu(?:\..*)?$",
        matching: "orders.eu.created",
        other: "orders.us.created",
    },
    Shape {
        name: "class",
        pattern: "flights.[A-D]*.**",
        glob: "{flights/[A-D]*,flights/[A-D]*/**}",
        regex: r"^flights\.[A-D][^.]*(?:\..*)?$",
        matching: "flights.ATL.JFK",
        other: "flights.SFO.JFK",
    },
    Shape {
        name: "braces",
        pattern: "flights.{ORD,ATL}.?*",
        glob: "flights/{ORD,ATL}/?*",
        regex: r"^flights\.(?:ORD|ATL)\.[^.]+$",
        matching: "flights.ATL.JFK",
        other: "flights.SFO.JFK",
    },
];

fn shapes(c: &mut Criterion) {
    for shape in &SHAPES {
        let mut group = c.benchmark_group(format!("matching/{}", shape.name));
        group.throughput(Throughput::Elements(2));

        let pattern = Pattern::parse(shape.pattern).expect("a pattern");
        let topics = [shape.matching, shape.other].map(|text| Topic::new(text).expect("a topic"));
        assert_eq!(topics.each_ref().map(|t| pattern.matches(t)), [true, false]);
        group.bench_function("fanout", |b| {
            b.iter(|| {
                black_box(black_box(&pattern).matches(black_box(&topics[0])));
                black_box(black_box(&pattern).matches(black_box(&topics[1])));
            });
        });

        let glob = globset(shape.glob);
        let paths = [shape.matching, shape.other].map(|text| text.replace('.', "/"));
        assert_eq!(paths.each_ref().map(|p| glob.is_match(p)), [true, false]);
        group.bench_function("globset", |b| {
            b.iter(|| {
                black_box(black_box(&glob).is_match(black_box(&paths[0])));
                black_box(black_box(&glob).is_match(black_box(&paths[1])));
            });
        });

        let regex = Regex::new(shape.regex).expect("a regex");
        let texts = [shape.matching, shape.other];
        assert_eq!(texts.map(|text| regex.is_match(text)), [true, false]);
        group.bench_function("regex", |b| {
            b.iter(|| {
                black_box(black_box(&regex).is_match(black_box(texts[0])));
                black_box(black_box(&regex).is_match(black_box(texts[1])));
            });
        });
        group.finish();
    }
}

fn globset(glob: &str) -> GlobMatcher {
    let mut builder = GlobBuilder::new(glob);
    builder.literal_separator(true);
    builder.build().expect("a glob").compile_matcher()
}

fn nothing(c: &mut Criterion) {
    c.bench_function("matching/nothing", |b| {
        let topic = Topic::new("orders.eu.created").expect("a topic");
        b.iter(|| {
            black_box(black_box(&topic).as_str().is_empty());
            black_box(black_box(&topic).as_str().is_empty());
        });
    });
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group!(name = matching; config = config(); targets = shapes, nothing);
criterion_main!(matching);
