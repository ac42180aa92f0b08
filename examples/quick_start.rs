//! Publish on topics, subscribe with patterns, read until the bus is closed.
//!
//! ```sh
//! cargo run --release --example quick_start
//! ```

use std::error::Error;
use std::thread;

use fanout::{Bus, Message};

fn main() -> Result<(), Box<dyn Error>> {
    let bus: Bus = Bus::new(); // the default payload is `bytes::Bytes`

    // Subscribe first: events that are published afterwards are delivered.
    let mut created = bus.subscribe("orders.*.created")?;
    let mut europe = bus.subscribe(["orders.eu.**", "invoices.eu.**"])?;

    let readers = [
        thread::spawn(move || {
            created.for_each(
                |event| {
                    println!(
                        "created:  {} {} {:?}",
                        event.id(),
                        event.topic(),
                        event.data()
                    )
                },
                |gap| eprintln!("created:  {gap}"),
            )
        }),
        thread::spawn(move || {
            europe.for_each(
                |event| {
                    println!(
                        "europe:   {} {} {:?}",
                        event.id(),
                        event.topic(),
                        event.name()
                    )
                },
                |gap| eprintln!("europe:   {gap}"),
            )
        }),
    ];

    bus.publish("orders.eu.created", "7 apples".into())?;
    bus.publish("orders.us.created", "2 pears".into())?;
    bus.send(
        Message::new("orders.eu.paid", "7 apples".into())
            .name("OrderPaid")
            .source("till"),
    )?;
    bus.publish("invoices.eu.sent", "no. 1".into())?;

    // After the last handle is dropped, the readers receive the events that are left, and then
    // their loops end.
    println!(
        "sequenced: {}",
        bus.publish_sequenced("orders.us.paid", "2 pears".into())?
            .id()
    );
    drop(bus);
    for reader in readers {
        let ending = reader.join().expect("a reader does not panic");
        println!("a reader ended: {ending:?}");
    }
    Ok(())
}
