//! A task per request: each asks on a common topic, and waits for its answer on a topic of its own, for so long.
//!
//! The bus knows nothing of requests. A request carries the topic for its answer; who asks subscribes to that before it
//! asks, so the answer cannot come too early; and dropping the subscriber ends it, whatever comes later.
//!
//! ```sh
//! cargo run --release --example request_per_task
//! ```

use std::error::Error;
use std::time::Duration;

use fanout::{Bus, RecvError, Subscriber, Topic, WeakBus};
use tokio::time::timeout;

const REQUESTS: u64 = 200;
/// Every so manieth request is one that the service cannot answer.
const UNANSWERABLE: u64 = 50;
/// How long a task waits for its answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// What travels on the bus.
enum Message {
    /// Square this, and publish the answer there.
    Square { n: u64, answer_to: Topic },
    /// The square.
    Squared(u64),
}

#[derive(Debug)]
enum Failed {
    TimedOut,
    Closed,
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    runtime.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let bus = Bus::<Message>::new();
    let requests = bus.subscribe("requests.square")?;
    let service = tokio::spawn(serve(requests, bus.downgrade()));

    let asking: Vec<_> = (1..=REQUESTS)
        .map(|n| tokio::spawn(ask(bus.clone(), n)))
        .collect();
    let (mut answered, mut timed_out) = (0, 0);
    for (n, task) in (1..).zip(asking) {
        match task.await? {
            Ok(square) => {
                assert_eq!(square, n * n, "each gets its own answer");
                answered += 1;
            }
            Err(Failed::TimedOut) => timed_out += 1,
            Err(failed) => return Err(format!("request {n}: {failed:?}").into()),
        }
    }
    println!("{answered} answered, {timed_out} timed out");
    assert!(timed_out >= REQUESTS / UNANSWERABLE);
    assert_eq!(bus.stats().subscriptions, 1, "only the service is left");

    drop(bus); // the service has a weak handle, so this was the last: its loop ends
    let served = service.await?;
    println!("{served} served");
    assert!(served >= answered);
    Ok(())
}

/// One request, from the question to the answer.
async fn ask(bus: Bus<Message>, n: u64) -> Result<u64, Failed> {
    let answer_to = Topic::new(format!("answers.{n}")).expect("a topic");
    let mut answers = bus
        .subscription(answer_to.as_str())
        .capacity(1)
        .open()
        .map_err(|_| Failed::Closed)?;
    let question = Message::Square { n, answer_to };
    bus.publish_async("requests.square", question)
        .await
        .map_err(|_| Failed::Closed)?;
    // Out of time, the future is dropped, and with it, at the end of this function, the subscription.
    match timeout(PATIENCE, answers.recv_async()).await {
        Ok(Ok(event)) => match event.data() {
            Message::Squared(square) => Ok(*square),
            Message::Square { .. } => unreachable!("nobody asks on a topic for answers"),
        },
        Ok(Err(_)) => Err(Failed::Closed),
        Err(_) => Err(Failed::TimedOut),
    }
}

/// Answers until the bus is closed.
async fn serve(mut requests: Subscriber<Message>, bus: WeakBus<Message>) -> u64 {
    let mut served = 0;
    loop {
        match requests.recv_async().await {
            Ok(event) => {
                let Message::Square { n, answer_to } = event.data() else {
                    continue;
                };
                if n % UNANSWERABLE == 0 {
                    continue; // the one who asks will find out
                }
                // Who publishes in answer must not keep the bus open by itself.
                if let Some(bus) = bus.upgrade() {
                    let answer = Message::Squared(n * n);
                    if bus.publish_async(answer_to, answer).await.is_ok() {
                        served += 1;
                    }
                }
            }
            // Requests were lost: those who asked will time out.
            Err(RecvError::Lost(gap)) => eprintln!("{gap}"),
            Err(_) => return served,
        }
    }
}
