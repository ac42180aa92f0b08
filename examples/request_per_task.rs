//! A task for each request: it sends its request on a common topic, and waits with a timeout for
//! the answer on its own topic.
//!
//! The bus has no notion of requests. A request contains the topic for its answer. The client
//! subscribes to that topic before it sends the request, so the answer cannot come too early.
//! Dropping the subscriber ends the subscription, even if the answer comes later.
//!
//! ```sh
//! cargo run --release --example request_per_task
//! ```

use std::error::Error;
use std::fmt;
use std::time::Duration;

use fanout::{Bus, Gap, PublishError, RecvError, SubscribeError, Subscriber, Topic, WeakBus};
use tokio::time::timeout;

const REQUESTS: u64 = 200;
/// The service cannot answer one in this many requests.
const UNANSWERABLE: u64 = 50;
/// How long a client waits for its answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// The payload of the bus.
#[derive(Debug)]
enum Message {
    /// A request: square `n`, and publish the answer on `answer_to`.
    Square { n: u64, answer_to: Topic },
    /// An answer.
    Squared(u64),
}

/// Why a request has no answer. The caller must react differently to each case: try again, correct
/// the program, or stop.
#[derive(Debug)]
enum RequestError {
    /// No answer arrived before the timeout. The request may have been handled nevertheless.
    TimedOut,
    /// The subscription to the answer was refused; the request was not sent.
    NotSubscribed(SubscribeError),
    /// The request was not accepted; the error has it.
    NotSent(PublishError<Message>),
    /// The answer was lost, because the ring of this client was full.
    AnswerLost(Gap),
    /// The subscription ended before the answer came: the bus was closed or broke.
    Ended(RecvError),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no answer came in time"),
            Self::NotSubscribed(error) => write!(f, "the subscription was refused: {error}"),
            Self::NotSent(error) => write!(f, "the request was not sent: {error}"),
            Self::AnswerLost(gap) => write!(f, "the answer was lost: {gap}"),
            Self::Ended(end) => write!(f, "no answer can come any more: {end}"),
        }
    }
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
                assert_eq!(square, n * n, "every client gets its own answer");
                answered += 1;
            }
            Err(RequestError::TimedOut) => timed_out += 1,
            Err(error) => return Err(format!("request {n}: {error}").into()),
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

/// One request, and its answer.
async fn ask(bus: Bus<Message>, n: u64) -> Result<u64, RequestError> {
    let answer_to = Topic::new(format!("answers.{n}")).expect("the text is a topic");
    let mut answers = bus
        .subscription(answer_to.as_str())
        .capacity(1)
        .open()
        .map_err(RequestError::NotSubscribed)?;
    let request = Message::Square { n, answer_to };
    bus.publish_async("requests.square", request)
        .await
        .map_err(RequestError::NotSent)?;
    // At the timeout the future is dropped, and at the end of this function the subscription.
    match timeout(ANSWER_WITHIN, answers.recv_async()).await {
        Ok(Ok(event)) => match event.data() {
            Message::Squared(square) => Ok(*square),
            Message::Square { .. } => unreachable!("no request is sent on a topic for answers"),
        },
        Ok(Err(RecvError::Lost(gap))) => Err(RequestError::AnswerLost(gap)),
        Ok(Err(end)) => Err(RequestError::Ended(end)),
        Err(_) => Err(RequestError::TimedOut),
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
                    continue; // the client will time out
                }
                // A task that publishes answers must not keep the bus open by itself.
                if let Some(bus) = bus.upgrade() {
                    let answer = Message::Squared(n * n);
                    if bus.publish_async(answer_to, answer).await.is_ok() {
                        served += 1;
                    }
                }
            }
            // Requests were lost: their clients will time out.
            Err(RecvError::Lost(gap)) => eprintln!("{gap}"),
            Err(_) => return served,
        }
    }
}
