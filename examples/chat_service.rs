//! A small chat service, ported from `tokio::sync::broadcast`.
//!
//! The comments show what each place looked like with tokio's channel: `tokio:` marks the old line.
//! Three things became simpler: a client is not woken for the rooms that it is not in, a message is
//! not cloned for each client, and a client that fell behind gets the exact range of messages that
//! it missed.
//!
//! ```sh
//! cargo run --release --example chat_service
//! ```

use std::error::Error;
use std::sync::Arc;

use fanout::{Bus, Overflow, RecvError, Subscriber};

const ROOMS: [&str; 2] = ["lobby", "support"];
const CLIENTS_PER_ROOM: usize = 3;
const MESSAGES_PER_ROOM: usize = 500;

/// tokio: `#[derive(Clone)]`, because each receiver got a clone, and a field `room` to filter by.
struct ChatMessage {
    author: Arc<str>,
    text: String,
}

#[derive(Default, Debug)]
struct Transcript {
    messages: usize,
    missed: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    runtime.block_on(serve())
}

async fn serve() -> Result<(), Box<dyn Error>> {
    // tokio: `let (sender, _) = broadcast::channel(256);`
    // Tokio's channel overwrites the oldest messages of a full buffer; so does `DropOldest`.
    let bus = Bus::<ChatMessage>::builder()
        .capacity(256)
        .overflow(Overflow::DropOldest)
        .build()?;

    let mut clients = Vec::new();
    for room in ROOMS {
        for _ in 0..CLIENTS_PER_ROOM {
            // tokio: `let receiver = sender.subscribe();`
            let sub = bus.subscribe(format!("rooms.{room}"))?;
            clients.push(tokio::spawn(client(sub)));
        }
    }

    let authors = ROOMS.map(|room| tokio::spawn(author(bus.clone(), room)));
    for author in authors {
        author.await??;
    }
    // tokio: `drop(sender);`
    drop(bus);

    for client in clients {
        let transcript = client.await?;
        println!("{transcript:?}");
        let seen = transcript.messages as u64 + transcript.missed;
        assert_eq!(seen, MESSAGES_PER_ROOM as u64, "read or reported as missed");
    }
    Ok(())
}

async fn author(bus: Bus<ChatMessage>, room: &'static str) -> Result<(), String> {
    let author: Arc<str> = format!("author of {room}").into();
    for n in 0..MESSAGES_PER_ROOM {
        let message = ChatMessage {
            author: author.clone(),
            text: format!("message {n}"),
        };
        // tokio: `sender.send(message)`, an error when there is no receiver. Here that is not an
        // error, and the task waits without blocking its thread while the lane is full.
        bus.publish_async(format!("rooms.{room}"), message)
            .await
            .map_err(|refused| refused.to_string())?;
    }
    Ok(())
}

async fn client(mut sub: Subscriber<ChatMessage>) -> Transcript {
    let mut transcript = Transcript::default();
    loop {
        // tokio: `match receiver.recv().await {`
        match sub.recv_async().await {
            // tokio: `Ok(message) if message.room != room => continue,`
            Ok(event) => {
                let ChatMessage { author, text } = event.data();
                assert!(author.starts_with("author of") && text.starts_with("message"));
                transcript.messages += 1;
            }
            // tokio: `Err(RecvError::Lagged(n)) => transcript.missed += n,`
            Err(RecvError::Lost(gap)) => transcript.missed += gap.count(),
            // tokio: `Err(RecvError::Closed) => break,`
            Err(RecvError::Closed) => break,
            // No code cancels these subscriptions, and the bus does not break.
            Err(unexpected) => panic!("{unexpected}"),
        }
    }
    transcript
}
