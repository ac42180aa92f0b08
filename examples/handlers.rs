//! Handlers: closures that the bus calls on its own threads, in order and one event at a time.
//!
//! ```sh
//! cargo run --release --example handlers
//! ```

use std::error::Error;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fanout::{Bus, Event, Overflow};

const TIME_LIMIT: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let bus = Bus::<String>::builder().blocking(true).build()?;

    // The closure owns its state: one thread at a time calls it.
    let (sender, longest) = mpsc::channel();
    let mut seen = 0;
    let lengths = bus.on("lines.*", move |event: &Event<String>| {
        if event.data().len() > seen {
            seen = event.data().len();
            let _ = sender.send(seen);
        }
    })?;

    // An error is counted and reported to the bus's observer (see the example `observer`). The next
    // event is handled as usual.
    let numbers = bus.on("lines.*", |event| event.data().parse::<f64>().map(drop))?;

    // A handler that blocks gets its own thread. For a handler that must not miss an event, the bus
    // waits.
    let writer = bus
        .subscription("lines.**")
        .capacity(8)
        .overflow(Overflow::Block)
        .dedicated()
        .handler(|_| thread::sleep(Duration::from_millis(1)))?;

    // A handler that publishes owns a weak handle. With a `Bus`, the bus would keep itself open.
    let weak = bus.downgrade();
    let _echo = bus.on("lines.in", move |event| match weak.upgrade() {
        Some(bus) => bus.publish("echo", event.data().clone()),
        None => Ok(()),
    })?;
    let mut echo = bus.subscribe("echo")?;

    for line in ["1", "2.5", "twenty", "4"] {
        bus.publish("lines.in", line.to_owned())?;
    }
    assert!(bus.flush_within(TIME_LIMIT), "handled, not just delivered");
    assert_eq!(longest.try_iter().collect::<Vec<_>>(), [1, 3, 6]);
    println!("numbers: {:?}", numbers.stats());
    assert_eq!((numbers.stats().received, numbers.stats().errors), (4, 1));
    assert_eq!(writer.stats().received, 4);
    for line in ["1", "2.5", "twenty", "4"] {
        assert_eq!(echo.recv()?.data(), line);
    }

    // After `cancel` has returned, no call begins. Dropping the guard does the same; detaching does
    // not.
    lengths.cancel();
    assert!(
        numbers.cancel_and_wait(TIME_LIMIT),
        "and no call is running"
    );
    let writer = writer.detach();
    bus.publish(
        "lines.out",
        "a line that is longer than the others".to_owned(),
    )?;
    assert!(bus.flush_within(TIME_LIMIT));
    assert!(longest.try_recv().is_err());
    assert_eq!((numbers.stats().received, writer.stats().received), (4, 5));

    // Accepted events are handled before `close_within` returns.
    let report = bus.close_within(TIME_LIMIT);
    println!("{report:?}");
    assert!(report.in_time);
    Ok(())
}
