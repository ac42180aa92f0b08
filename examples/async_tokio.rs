//! Subscribers as tokio tasks, and a graceful end: the bus is closed, and every task receives the
//! events that are left.
//!
//! ```sh
//! cargo run --release --example async_tokio
//! ```

use std::error::Error;
use std::time::Duration;

use fanout::{Bus, Ending, Overflow, RecvError, Subscriber};

const DEVICES: u32 = 4;
const READINGS: u32 = 25_000;
/// A reading above this is an alarm.
const HOT: u32 = 990;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_time()
        .build()?;
    runtime.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let bus = Bus::<u32>::builder().blocking(true).build()?;

    // A sum with a missing reading would be wrong, so the publishers wait for this subscriber.
    let all = bus.subscription("readings.*").overflow(Overflow::Block);
    let summing = tokio::spawn(sum_up(all.open()?));
    // This subscriber may miss some readings, and learns how many.
    let one = bus.subscription("readings.device-1").capacity(256).open()?;
    let watching = tokio::spawn(watch(one));

    let publishing: Vec<_> = (0..DEVICES)
        .map(|device| tokio::spawn(publish_readings(bus.clone(), device)))
        .collect();
    for device in publishing {
        device.await??;
    }

    // From now on the bus accepts no events. Accepted events enter the rings within this time, or
    // are lost.
    let report = tokio::task::spawn_blocking(move || bus.close_within(Duration::from_secs(10)));
    let report = report.await?;
    println!("{report:?}");

    let (count, sum) = summing.await?;
    println!("{count} readings, their sum is {sum}");
    assert_eq!(count, u64::from(DEVICES * READINGS));
    let (seen, missed, alarms) = watching.await?;
    println!("device 1: {seen} seen, of them {alarms} alarms; {missed} missed");
    assert_eq!(seen + missed, u64::from(READINGS));
    Ok(())
}

/// Waits, without blocking its thread, while the lane is full: a `Block` subscriber may be behind.
async fn publish_readings(bus: Bus<u32>, device: u32) -> Result<(), String> {
    let topic = format!("readings.device-{device}");
    let mut publisher = bus.publisher(); // this publisher has its own lane
    for n in 0..READINGS {
        let reading = (n * 7_919 + device) % 1_000;
        let accepted = publisher.publish_async(&*topic, reading).await;
        accepted.map_err(|refused| refused.to_string())?;
    }
    Ok(())
}

/// The loop to write with `recv_async`: a loss is not the end.
async fn watch(mut sub: Subscriber<u32>) -> (u64, u64, u64) {
    let (mut seen, mut missed, mut alarms) = (0, 0, 0);
    loop {
        match sub.recv_async().await {
            Ok(event) => {
                seen += 1;
                alarms += u64::from(*event.data() > HOT);
            }
            Err(RecvError::Lost(gap)) => missed += gap.count(),
            Err(_) => return (seen, missed, alarms),
        }
    }
}

/// Gets up to 64 events per wait. A stream ends with its subscription, and returns the reason.
async fn sum_up(sub: Subscriber<u32>) -> (u64, u64) {
    use smol::stream::StreamExt; // or from any other crate: all of them use the same trait `Stream`

    let mut batches = sub.into_batch_stream();
    let (mut count, mut sum) = (0, 0);
    while let Some(item) = batches.next().await {
        match item {
            Ok(batch) => {
                count += batch.len() as u64;
                sum += batch
                    .iter()
                    .map(|event| u64::from(*event.data()))
                    .sum::<u64>();
            }
            Err(gap) => eprintln!("{gap}: the sum is wrong"),
        }
    }
    assert_eq!(batches.ending(), Some(Ending::Closed));
    (count, sum)
}
