//! Market data: a fast feed of prices, and a slow consumer that wants each symbol's latest price.
//!
//! The feed publishes ticks on `prices.<exchange>.<symbol>`. The recorder must see every tick, so
//! it blocks. The display repaints a few times per second: under `Overflow::Conflate` it gets the
//! newest tick of each symbol, and learns how many ticks that one replaced.
//!
//! ```sh
//! cargo run --release --example market_data
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::thread;
use std::time::Duration;

use fanout::{Bus, Ending, Overflow, Subscriber, Topic};

const SYMBOLS: [&str; 4] = ["AAPL", "MSFT", "NVDA", "TSLA"];
const TICKS_PER_SYMBOL: u64 = 20_000;
const REPAINT_EVERY: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Tick {
    /// From 1, per symbol.
    sequence: u64,
    price_cents: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let bus = Bus::<Tick>::builder().blocking(true).build()?;
    let recorder = bus
        .subscription("prices.**")
        .overflow(Overflow::Block)
        .open()?;
    let display = bus
        .subscription("prices.nasdaq.*")
        .overflow(Overflow::Conflate)
        .capacity(SYMBOLS.len()) // counts topics: each keeps its newest tick
        .open()?;

    let recorder = thread::spawn(move || record(recorder));
    let display = thread::spawn(move || repaint(display));
    publish(&bus)?;
    drop(bus); // no more ticks: both consumers read what is left, and end

    let recorded = recorder.join().expect("the recorder does not panic");
    let screen = display.join().expect("the display does not panic");

    assert_eq!(recorded, SYMBOLS.len() as u64 * TICKS_PER_SYMBOL);
    for symbol in SYMBOLS {
        let row = &screen[symbol];
        assert_eq!(
            row.last.sequence, TICKS_PER_SYMBOL,
            "the newest tick of {symbol}"
        );
        assert_eq!(
            row.shown + row.replaced,
            TICKS_PER_SYMBOL,
            "every tick of {symbol}"
        );
        println!(
            "{symbol}: {:.2}, {} ticks shown, {} replaced by newer ones",
            row.last.price_cents as f64 / 100.0,
            row.shown,
            row.replaced
        );
    }
    Ok(())
}

fn publish(bus: &Bus<Tick>) -> Result<(), Box<dyn Error>> {
    let topics: Vec<Topic> = SYMBOLS
        .iter()
        .map(|symbol| bus.topic(format!("prices.nasdaq.{symbol}")))
        .collect::<Result<_, _>>()?;
    let mut publisher = bus.publisher();
    for sequence in 1..=TICKS_PER_SYMBOL {
        for (n, topic) in topics.iter().enumerate() {
            let price_cents = 10_000 * (n as u64 + 1) + sequence % 97;
            publisher.publish(
                topic,
                Tick {
                    sequence,
                    price_cents,
                },
            )?;
        }
    }
    Ok(())
}

/// Sees every tick: the publisher waits for it.
fn record(mut sub: Subscriber<Tick>) -> u64 {
    let mut recorded = 0;
    let ending = sub.for_each(
        |_tick| recorded += 1,
        |gap| unreachable!("a blocking subscriber loses nothing: {gap}"),
    );
    assert_eq!(ending, Ending::Closed);
    recorded
}

struct Row {
    last: Tick,
    shown: u64,
    replaced: u64,
}

/// Reads at its own pace. Within a symbol ticks arrive in order; between two of them some were
/// replaced.
fn repaint(mut sub: Subscriber<Tick>) -> BTreeMap<String, Row> {
    let mut screen: BTreeMap<String, Row> = BTreeMap::new();
    let ending = sub.for_each(
        |event| {
            let symbol = event
                .topic()
                .as_str()
                .rsplit('.')
                .next()
                .expect("a last segment");
            let row = screen.entry(symbol.to_owned()).or_insert(Row {
                last: *event.data(),
                shown: 0,
                replaced: 0,
            });
            row.last = *event.data();
            row.shown += 1;
            row.replaced += event.superseded();
            if symbol == SYMBOLS[0] {
                thread::sleep(REPAINT_EVERY); // painting takes time
            }
        },
        |gap| unreachable!("there is room for every symbol: {gap}"),
    );
    assert_eq!(ending, Ending::Closed);
    screen
}
