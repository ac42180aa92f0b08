//! A reader that is too slow: no publisher waits for it, and it learns exactly what it missed.
//!
//! ```sh
//! cargo run --release --example slow_reader
//! ```

use std::error::Error;
use std::thread;
use std::time::Duration;

use fanout::{Bus, Overflow, RecvError, Subscriber};

/// Readings come in bursts, each of them more than the ring holds.
const BURSTS: u64 = 5;
const READINGS_PER_BURST: u64 = 500;
const READINGS: u64 = BURSTS * READINGS_PER_BURST;

fn main() -> Result<(), Box<dyn Error>> {
    let bus = Bus::<u64>::new();
    // 64 readings may wait. Further readings are lost to this subscriber only.
    let slow = bus
        .subscription("sensors.*")
        .capacity(64)
        .overflow(Overflow::DropNewest)
        .open()?;
    let numbers = slow.handle();
    let reader = thread::spawn(move || read_slowly(slow));

    let mut publisher = bus.publisher();
    for burst in 0..BURSTS {
        for reading in 1..=READINGS_PER_BURST {
            publisher.publish("sensors.boiler", burst * READINGS_PER_BURST + reading)?;
        }
        thread::sleep(Duration::from_millis(20));
    }
    drop((publisher, bus));

    let seen = reader.join().expect("the reader does not panic");
    let stats = numbers.stats();
    println!("{stats:?}");
    assert_eq!(stats.matched, READINGS);
    assert_eq!(
        stats.received + stats.lost,
        stats.matched,
        "every event is accounted for"
    );
    assert_eq!(
        (seen.received, seen.lost),
        (stats.received, stats.lost),
        "the gaps reported every loss"
    );
    Ok(())
}

/// What the reader counted itself.
#[derive(Default)]
struct Seen {
    received: u64,
    lost: u64,
}

fn read_slowly(mut sub: Subscriber<u64>) -> Seen {
    let mut seen = Seen::default();
    let mut expected = 1;
    loop {
        match sub.recv() {
            Ok(event) => {
                // With every gap accounted for, the next reading is always the one we expect.
                assert_eq!(*event.data(), expected);
                expected += 1;
                seen.received += 1;
                if seen.received.is_multiple_of(16) {
                    thread::sleep(Duration::from_micros(200)); // slow
                }
            }
            // Here a program would reload the data, or mark its result as incomplete.
            Err(RecvError::Lost(gap)) => {
                println!("{gap}");
                expected += gap.count();
                seen.lost += gap.count();
            }
            Err(ending) => {
                println!("end: {ending}");
                return seen;
            }
        }
    }
}
