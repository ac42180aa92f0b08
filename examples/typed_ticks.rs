//! A typed bus: a payload type of the program, a publisher for each venue, and candles that are
//! built from whole batches.
//!
//! ```sh
//! cargo run --release --example typed_ticks
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::thread;

use fanout::{Bus, Overflow, RecvError, Subscriber};

const TICKS_PER_VENUE: u32 = 250_000;
const VENUES: [&str; 2] = ["lse", "xetra"];
const PAIRS: [&str; 4] = ["eurusd", "gbpusd", "usdjpy", "audusd"];

/// A price. It is never encoded and never copied: subscribers read the value in place.
struct Tick {
    /// In hundred-thousandths.
    price: u32,
    volume: u32,
}

/// The prices of a currency pair over the time of the run.
struct Candle {
    open: u32,
    high: u32,
    low: u32,
    close: u32,
    volume: u64,
}

impl Candle {
    fn new(first: &Tick) -> Self {
        let Tick { price, .. } = *first;
        Self {
            open: price,
            high: price,
            low: price,
            close: price,
            volume: 0,
        }
    }

    fn add(&mut self, tick: &Tick) {
        self.high = self.high.max(tick.price);
        self.low = self.low.min(tick.price);
        self.close = tick.price;
        self.volume += u64::from(tick.volume);
    }
}

impl fmt::Display for Candle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            open,
            high,
            low,
            close,
            volume,
        } = self;
        write!(
            f,
            "open {open}  high {high}  low {low}  close {close}  volume {volume}"
        )
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // A candle with a missing tick would be wrong, so the publishers wait for these subscribers.
    let bus = Bus::<Tick>::builder()
        .blocking(true)
        .overflow(Overflow::Block)
        .build()?;

    let dollars = bus.subscribe("ticks.*.{eurusd,gbpusd,audusd}")?;
    let candles = thread::spawn(move || build_candles(dollars));
    let mut xetra = bus.subscribe("ticks.xetra.**")?;
    let volume = thread::spawn(move || {
        let mut volume = 0;
        xetra.for_each(
            |event| volume += u64::from(event.data().volume),
            |gap| eprintln!("{gap}"),
        );
        volume
    });

    let publishers = VENUES.map(|venue| {
        let bus = bus.clone();
        thread::spawn(move || publish_ticks(&bus, venue))
    });
    drop(bus); // the publishers keep it open until they are done
    for publisher in publishers {
        publisher.join().expect("a publisher does not panic")?;
    }

    for (pair, candle) in candles.join().expect("a reader does not panic") {
        println!("{pair}: {candle}");
    }
    println!(
        "volume on xetra: {}",
        volume.join().expect("a reader does not panic")
    );
    Ok(())
}

/// A publisher with its own lane, and with topics that are parsed once.
fn publish_ticks(bus: &Bus<Tick>, venue: &str) -> Result<(), fanout::TopicError> {
    let mut publisher = bus.publisher();
    let topics = PAIRS.map(|pair| bus.topic(format!("ticks.{venue}.{pair}")));
    let topics = topics.into_iter().collect::<Result<Vec<_>, _>>()?;
    for n in 0..TICKS_PER_VENUE {
        let topic = &topics[n as usize % PAIRS.len()];
        let tick = Tick {
            price: 108_000 + n * 7_919 % 1_000,
            volume: 1 + n % 5,
        };
        publisher
            .publish(topic, tick)
            .expect("the bus is open while its publishers live");
    }
    Ok(())
}

/// Takes up to 64 events from the ring at once.
fn build_candles(mut sub: Subscriber<Tick>) -> BTreeMap<String, Candle> {
    let mut candles = BTreeMap::<String, Candle>::new();
    loop {
        match sub.next_batch() {
            Ok(batch) => {
                for event in &batch {
                    let pair = event.topic().segments().last().expect("three segments");
                    if !candles.contains_key(pair) {
                        candles.insert(pair.to_owned(), Candle::new(event.data()));
                    }
                    candles.get_mut(pair).expect("just made").add(event.data());
                }
            }
            Err(RecvError::Lost(gap)) => eprintln!("{gap}: the candles are wrong"),
            Err(_) => return candles,
        }
    }
}
