//! Broadcasting: named events on channels, and handlers for them.
//!
//! ```sh
//! cargo run --release --example broadcaster
//! ```

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use fanout::broadcast::{
    BroadcastEvent, BroadcastPublishError, Broadcaster, BroadcasterExt, CancelToken, Memory,
};

fn main() -> Result<(), Box<dyn Error>> {
    let (sender, log) = mpsc::channel();
    let memory = Memory::builder()
        .buffer(256)
        .logger(move |incident| drop(sender.send(incident.to_string())))
        .build()?;
    // The rest of the program uses the trait only, so a driver for a broker can replace `Memory`.
    let broadcaster: Arc<dyn Broadcaster> = Arc::new(memory);

    // A handler returns nothing, or a `Result`. Its error goes to the logger, not to the publisher.
    let parsed = Arc::new(AtomicU64::new(0));
    let sum = parsed.clone();
    let _totals = broadcaster.on("private-orders.1", move |event| {
        let cents: u64 = std::str::from_utf8(event.payload())?.parse()?;
        sum.fetch_add(cents, Ordering::Relaxed);
        Ok::<(), Box<dyn Error + Send + Sync>>(())
    })?;

    // A session: its token cancels all handlers of one user. A handler that publishes owns a weak
    // broadcaster.
    let session = CancelToken::new();
    let weak = Arc::downgrade(&broadcaster);
    let _greeter = broadcaster.on_until(&session, "chat:room 7", move |event| {
        if let Some(broadcaster) = weak.upgrade()
            && event.name() == "UserJoined"
        {
            broadcaster.publish(BroadcastEvent::new(
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

    broadcaster.publish(BroadcastEvent::new("private-orders.1", "OrderPaid", "1250"))?;
    broadcaster.publish(BroadcastEvent::new(
        "private-orders.1",
        "OrderPaid",
        "a lot",
    ))?; // the handler fails
    // No handler subscribes to this channel.
    broadcaster.publish(BroadcastEvent::new("private-orders.2", "OrderPaid", "99"))?;
    broadcaster.publish(BroadcastEvent::new("chat:room 7", "UserJoined", "Ada"))?;
    for expected in ["UserJoined b\"Ada\"", "Greeting b\"Ada\""] {
        let received = room.recv()?;
        println!("room 7: {received}");
        assert_eq!(received, expected);
    }

    session.cancel(); // no handler of the session is called any more
    broadcaster.publish(BroadcastEvent::new("chat:room 7", "UserJoined", "Bob"))?;

    let report = broadcaster.close()?; // waits for the handlers
    println!("{report:?}, {} dropped", broadcaster.dropped());
    assert!(report.in_time);
    let late = broadcaster.publish(BroadcastEvent::new("chat:room 7", "UserJoined", "Eve"));
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
