//! Broadcasting: named events on channels, and a handler for each part of the program that wants them.
//!
//! ```sh
//! cargo run --release --example broadcaster
//! ```

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use fanout::broadcast::{
    BroadcastPublishError, Broadcaster, BroadcasterExt, CancelToken, Event, Memory,
};

fn main() -> Result<(), Box<dyn Error>> {
    let (sender, log) = mpsc::channel();
    let memory = Memory::builder()
        .buffer(256)
        .logger(move |incident| drop(sender.send(incident.to_string())))
        .build()?;
    // What the rest of the program sees; a remote driver would do as well.
    let broadcaster: Arc<dyn Broadcaster> = Arc::new(memory);

    // A handler answers nothing, or a `Result`: its error goes to the logger, and the publisher does not notice.
    let parsed = Arc::new(AtomicU64::new(0));
    let sum = parsed.clone();
    let _totals = broadcaster.on("private-orders.1", move |event| {
        let cents: u64 = std::str::from_utf8(event.payload())?.parse()?;
        sum.fetch_add(cents, Ordering::Relaxed);
        Ok::<(), Box<dyn Error + Send + Sync>>(())
    })?;

    // A session: everything that goes when the user does. A handler that publishes holds a weak handle.
    let session = CancelToken::new();
    let weak = Arc::downgrade(&broadcaster);
    let _greeter = broadcaster.on_until(&session, "chat:room 7", move |event| {
        if let Some(broadcaster) = weak.upgrade()
            && event.name() == "UserJoined"
        {
            broadcaster.publish(Event::new(
                "chat:room 7",
                "Greeting",
                event.payload().clone(),
            ))?;
        }
        Ok::<(), BroadcastPublishError>(())
    })?;
    let (sender, room) = mpsc::channel();
    let _room = broadcaster.on_until(&session, "chat:room 7", move |event| {
        sender.send(format!("{} {:?}", event.name(), event.payload()))
    })?;

    broadcaster.publish(Event::new("private-orders.1", "OrderPaid", "1250"))?;
    broadcaster.publish(Event::new("private-orders.1", "OrderPaid", "a lot"))?; // the handler fails
    broadcaster.publish(Event::new("private-orders.2", "OrderPaid", "99"))?; // nobody subscribes
    broadcaster.publish(Event::new("chat:room 7", "UserJoined", "Ada"))?;
    for expected in ["UserJoined b\"Ada\"", "Greeting b\"Ada\""] {
        let heard = room.recv()?;
        println!("room 7: {heard}");
        assert_eq!(heard, expected);
    }

    session.cancel(); // from here on no handler of the session is called
    broadcaster.publish(Event::new("chat:room 7", "UserJoined", "Bob"))?;

    let report = broadcaster.close()?; // waits for the handlers
    println!("{report:?}, {} dropped", broadcaster.dropped());
    assert!(report.in_time);
    let late = broadcaster.publish(Event::new("chat:room 7", "UserJoined", "Eve"));
    assert!(matches!(late, Err(BroadcastPublishError::Closed)));
    assert_eq!(parsed.load(Ordering::Relaxed), 1250);
    assert!(
        room.try_iter().next().is_none(),
        "nothing after the session"
    );
    let log: Vec<_> = log.try_iter().collect();
    println!("the log: {log:?}");
    assert_eq!(
        log,
        ["channel private-orders.1: the handler failed: invalid digit found in string"]
    );
    Ok(())
}
