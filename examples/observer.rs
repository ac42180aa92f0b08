//! An observer: counts and logs the errors, panics, losses and stalls of handlers, which no
//! publisher learns of.
//!
//! ```sh
//! cargo run --release --example observer
//! ```

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use fanout::{Bus, Notice};

const TIME_LIMIT: Duration = Duration::from_secs(60);

/// A program would export these as metrics.
#[derive(Default)]
struct Counters {
    failed: AtomicU64,
    panicked: AtomicU64,
    lost: AtomicU64,
    stalled: AtomicU64,
}

impl Counters {
    /// Runs on the thread of a handler, or on the thread that detects stalls, so it should be
    /// short.
    fn observe(&self, notice: &Notice<'_>) {
        eprintln!("{notice}");
        match notice {
            Notice::Failed { .. } => self.failed.fetch_add(1, Ordering::Relaxed),
            Notice::Panicked { .. } => self.panicked.fetch_add(1, Ordering::Relaxed),
            // Reported once for a run of lost events, when the handler reaches that place in its
            // ring.
            Notice::Lost { gap, .. } => self.lost.fetch_add(gap.count(), Ordering::Relaxed),
            Notice::Stalled { .. } => self.stalled.fetch_add(1, Ordering::Relaxed),
            _ => 0, // more kinds may come
        };
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let counters = Arc::new(Counters::default());
    let observing = counters.clone();
    let bus = Bus::<i64>::builder()
        .observer(move |notice| observing.observe(notice))
        .build()?;

    let failing = bus.on("n", |event| match event.data() {
        -1 => Err("a negative number"),
        0 => panic!("zero"),
        _ => Ok(()),
    })?;
    let (release, gate) = mpsc::channel::<()>();
    let slow = bus.subscription("n").capacity(4).handler(move |_| {
        let _ = gate.recv(); // blocks in its first call, until the sender is dropped
    })?;

    for n in [3, 0, -1, -1, 7] {
        bus.publish("n", n)?;
    }
    for n in 0..100 {
        bus.publish("n", 1 + n)?;
    }
    while counters.stalled.load(Ordering::Relaxed) == 0 || slow.stats().lost == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(release);
    assert!(bus.close_within(TIME_LIMIT).in_time);

    // The same numbers, per subscription, are in the statistics.
    println!("failing: {:?}\nslow: {:?}", failing.stats(), slow.stats());
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!((count(&counters.failed), count(&counters.panicked)), (2, 1));
    assert_eq!((failing.stats().errors, failing.stats().panics), (2, 1));
    assert_eq!(count(&counters.lost), slow.stats().lost);
    assert_eq!(slow.stats().received + slow.stats().lost, 105);
    Ok(())
}
