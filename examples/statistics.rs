//! Statistics: counters per subscription, labels to tell subscriptions apart, and a callback when a
//! subscriber falls behind.
//!
//! ```sh
//! cargo run --release --example statistics
//! ```

use std::error::Error;
use std::sync::mpsc;
use std::time::Duration;

use fanout::{Bus, SlowLimit, SlowStatus, Subscriber};

/// Much longer than any step of this program takes.
const TIME_LIMIT: Duration = Duration::from_secs(60);

const READINGS: u64 = 800;

fn main() -> Result<(), Box<dyn Error>> {
    let (sender, crossings) = mpsc::channel();
    let bus = Bus::<u64>::builder()
        .capacity(1000)
        // The bus calls it on a separate thread. It must not own a `Bus`; it may send on a channel.
        .on_slow(
            SlowLimit::percent(75).or_time(Duration::from_secs(5)),
            move |notice| {
                let who: Vec<_> = notice
                    .subscription()
                    .labels()
                    .iter()
                    .map(|l| l.to_string())
                    .collect();
                println!(
                    "{:?}: {} is {} events behind",
                    notice.status(),
                    who.join(" "),
                    notice.stats().lag
                );
                let _ = sender.send(notice.status()); // the receiver may be gone
            },
        )
        .build()?;
    let mut quick = bus
        .subscription("sensors.*")
        .label("task", "alarms")
        .open()?;
    let mut slow = bus
        .subscription("sensors.*")
        .label("task", "archive")
        .open()?;

    let mut publisher = bus.publisher();
    for reading in 0..READINGS {
        publisher.publish("sensors.boiler", reading)?;
    }
    assert!(bus.flush_within(TIME_LIMIT));
    // Both subscribers have 800 unread events: 80 % of their capacity.
    assert_eq!(crossings.recv_timeout(TIME_LIMIT)?, SlowStatus::Slow);
    assert_eq!(crossings.recv_timeout(TIME_LIMIT)?, SlowStatus::Slow);
    read(&mut quick, READINGS)?;
    assert_eq!(crossings.recv_timeout(TIME_LIMIT)?, SlowStatus::Recovered);
    read(&mut slow, 100)?;

    println!(
        "\n{:<10} {:>8} {:>9} {:>6} {:>5} {:>10}",
        "task", "matched", "received", "unread", "lag", "high water"
    );
    for subscription in bus.subscriptions() {
        let stats = subscription.stats();
        println!(
            "{:<10} {:>8} {:>9} {:>6} {:>5} {:>10}",
            subscription.labels()[0].value(),
            stats.matched,
            stats.received,
            stats.unread,
            stats.lag,
            stats.high_water,
        );
        assert_eq!(stats.high_water, READINGS);
    }

    // The sums include the subscriptions that have ended.
    drop((quick, slow));
    let stats = bus.stats();
    println!("\n{stats:#?}");
    assert_eq!(stats.published, READINGS);
    assert_eq!(stats.matched, 2 * READINGS);
    assert_eq!(
        stats.received + stats.lost + stats.superseded + stats.unread,
        stats.matched
    );
    Ok(())
}

fn read(sub: &mut Subscriber<u64>, readings: u64) -> Result<(), Box<dyn Error>> {
    for expected in 0..readings {
        assert_eq!(*sub.recv()?.data(), expected);
    }
    Ok(())
}
