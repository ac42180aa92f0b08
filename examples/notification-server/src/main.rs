//! Notifications over WebSocket: each client subscribes to a pattern, and a client that is too slow
//! is disconnected within a second.
//!
//! `GET /notifications?pattern=users.7.**` upgrades to a WebSocket. Every client has a subscription
//! with `Overflow::Disconnect`: when its ring is full, its subscription ends. The task that serves
//! the client is then usually in the middle of a slow write to the socket, and not receiving. So it
//! waits for `handle.ended()` at the same time, and closes the connection at once.
//!
//! The program starts the server on a free port of the loopback interface, connects one client that
//! reads and one that does not, publishes, checks what both of them see, and ends.
//!
//! ```sh
//! cargo run --release -p notification-server
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fanout::{Bus, Ending, Overflow, SubscribeError, Subscriber};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message as ClientMessage;

/// Notifications that may wait for one client.
const CAPACITY: usize = 256;
/// Close code "try again later", as registered for WebSocket.
const TOO_SLOW: u16 = 1013;
/// How long the last words to a client may take.
const GOODBYE: Duration = Duration::from_millis(200);
/// How soon the connection of a client that is too slow is closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);

type Notification = Arc<str>;

#[derive(Clone)]
struct AppState {
    bus: Bus<Notification>,
    /// Tells the demonstration below how a client's connection ended.
    ended: mpsc::UnboundedSender<(String, Ended)>,
}

/// How a connection ended.
#[derive(Debug, PartialEq)]
enum Ended {
    /// The client went away.
    ByClient,
    /// The subscription ended, for this reason.
    BySubscription(Ending),
}

#[derive(serde::Deserialize)]
struct Request {
    pattern: String,
}

fn router(state: AppState) -> Router {
    Router::new()
        .route("/notifications", get(notifications))
        .with_state(state)
}

async fn notifications(
    upgrade: WebSocketUpgrade,
    Query(request): Query<Request>,
    State(state): State<AppState>,
) -> Response {
    let subscription = state
        .bus
        .subscription(request.pattern.as_str())
        .capacity(CAPACITY)
        .overflow(Overflow::Disconnect);
    match subscription.open() {
        Ok(sub) => upgrade.on_upgrade(|socket| async move {
            let ended = serve(socket, sub).await;
            // The demonstration may have ended already.
            let _ = state.ended.send((request.pattern, ended));
        }),
        Err(SubscribeError::Closed) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Err(refused) => (StatusCode::BAD_REQUEST, refused.to_string()).into_response(),
    }
}

/// Serves one client until it goes away or its subscription ends.
async fn serve(socket: WebSocket, mut sub: Subscriber<Notification>) -> Ended {
    let handle = sub.handle();
    let (mut to_client, mut from_client) = socket.split();
    let forward = async {
        while let Some(item) = sub.next_async().await {
            let text = match item {
                Ok(event) => event.data().as_ref().into(),
                // The last item of a subscription that was disconnected.
                Err(gap) => format!("missed {} notifications", gap.count()).into(),
            };
            if to_client.send(Message::Text(text)).await.is_err() {
                return Ended::ByClient;
            }
        }
        Ended::BySubscription(handle.ended().await)
    };
    let client_leaves = async {
        // Whatever the client sends is ignored; reading notices that it goes away.
        while let Some(Ok(_)) = from_client.next().await {}
    };
    let disconnected = async {
        loop {
            // A closed bus is no reason to hurry: what is left is still forwarded.
            if let ending @ Ending::Disconnected(_) = handle.ended().await {
                return ending;
            }
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = forward => ended,
        () = client_leaves => Ended::ByClient,
        ending = disconnected => Ended::BySubscription(ending),
    };
    let (code, reason) = match &ended {
        Ended::ByClient => return ended,
        Ended::BySubscription(Ending::Disconnected(_)) => (TOO_SLOW, "too slow"),
        Ended::BySubscription(_) => (1001, "the server is going away"),
    };
    let goodbye = Message::Close(Some(CloseFrame {
        code,
        reason: reason.into(),
    }));
    // A client that does not read will not get it: dropping the socket closes the connection.
    let _ = timeout(GOODBYE, to_client.send(goodbye)).await;
    ended
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(demonstrate())
}

const NOTIFICATIONS: usize = 4_000;
/// Large, so that the buffers of the operating system fill up soon.
const NOTIFICATION_BYTES: usize = 16 * 1024;

async fn demonstrate() -> Result<(), Box<dyn Error>> {
    let bus = Bus::<Notification>::new();
    let (ended, mut endings) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let app = router(AppState {
        bus: bus.clone(),
        ended,
    });
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    let url = |pattern| format!("ws://{address}/notifications?pattern={pattern}");
    let (mut quick, _) = connect_async(url("users.1.**")).await?;
    let (slow, _) = connect_async(url("users.2.**")).await?; // never read
    let refused = connect_async(url("users..**")).await;
    assert!(refused.is_err(), "a text that is no pattern is refused");

    let reader = tokio::spawn(async move {
        let mut received = 0;
        while let Some(Ok(message)) = quick.next().await {
            match message {
                ClientMessage::Text(text) if text.len() == NOTIFICATION_BYTES => received += 1,
                ClientMessage::Close(_) => break,
                other => panic!("not a notification: {other:?}"),
            }
        }
        received
    });

    // The quick client is given time to read; the slow one's ring overflows on the way.
    let payload: Notification = "x".repeat(NOTIFICATION_BYTES).into();
    let slow_subscription = bus
        .subscriptions()
        .into_iter()
        .find(|handle| handle.patterns()[0].as_str() == "users.2.**")
        .expect("the slow client is subscribed");
    let watch = tokio::spawn(async move {
        let ending = slow_subscription.ended().await;
        (ending, Instant::now())
    });
    for n in 0..NOTIFICATIONS {
        bus.publish_async("users.1.mail", payload.clone()).await?;
        bus.publish_async("users.2.mail", payload.clone()).await?;
        if n % 64 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    let (ending, ended_at) = timeout(Duration::from_secs(30), watch).await??;
    assert!(matches!(ending, Ending::Disconnected(_)), "{ending}");
    let (pattern, how) = timeout(Duration::from_secs(30), endings.recv())
        .await?
        .ok_or("the server reports every ending")?;
    let took = ended_at.elapsed();
    assert_eq!(pattern, "users.2.**");
    assert_eq!(how, Ended::BySubscription(ending));
    println!("the slow client was disconnected: {ending}; its connection was closed in {took:?}");
    assert!(took < CLOSED_WITHIN, "closing the connection took {took:?}");

    // Graceful shutdown: the quick client gets what is left, and then a close frame.
    bus.close();
    let received = timeout(Duration::from_secs(30), reader).await??;
    println!("the quick client received {received} notifications");
    assert_eq!(received, NOTIFICATIONS);
    drop(slow);
    server.abort();
    Ok(())
}
