//! An idle bus uses almost no processor time. The test reads the processor time of each thread from
//! the kernel of Linux.

use fanout::{Dispatch, Overflow, SlowLimit};
use std::collections::HashMap;
use std::fs;
use std::thread;
use std::time::Duration;

use crate::support::{FOR_EVER, bus, eventually};

const WINDOW: Duration = Duration::from_secs(3);

/// 2 ms of processor time in 10 s, for all threads together.
const BOUND: Duration = Duration::from_micros(2000 * WINDOW.as_secs() / 10);

#[test]
#[ignore = "measures all threads of its process for some seconds: run it alone"]
fn an_idle_bus_uses_next_to_no_processor_time() {
    for mode in [Dispatch::Adaptive, Dispatch::Pool, Dispatch::Inline] {
        for (dispatchers, watched, stalled) in [
            (1, false, false),
            (3, false, false),
            (1, true, false),
            (1, false, true),
            (3, false, true),
        ] {
            let bus = bus::<u64>(|b| {
                let b = b.dispatch(mode).dispatchers(dispatchers).handler_threads(2);
                match watched {
                    true => b.on_slow(SlowLimit::percent(50), |_| {}),
                    false => b,
                }
            });
            let mut publisher = bus.publisher();
            let receiving: Vec<_> = (0..8)
                .map(|_| bus.subscribe("a").expect("open"))
                .map(|mut sub| {
                    let receiving = thread::Builder::new().name("fanout-receiver".into());
                    receiving
                        .spawn(move || while sub.recv().is_ok() {})
                        .expect("a thread")
                })
                .collect();
            for _ in 0..100 {
                bus.on("a", |_| {}).expect("open").detach();
            }
            // All threads were awake once, and sleep again.
            (0..1000).for_each(|n| publisher.publish("a", n).expect("open"));
            // The shard waits for room, until a distant deadline.
            let hangs = stalled.then(|| {
                let block = bus.subscription("b").capacity(1).overflow(Overflow::Block);
                let hangs = block.block_timeout(FOR_EVER).open().expect("open");
                (0..2).for_each(|n| publisher.publish("b", n).expect("open"));
                hangs
            });
            eventually("all threads sleep", || {
                let before = processor_times();
                thread::sleep(Duration::from_millis(50));
                before == processor_times()
            });
            let before = processor_times();
            let handling = 2 + 1;
            assert_eq!(
                before.len(),
                8 + dispatchers + handling + usize::from(watched),
                "receivers, the pool, the workers of handlers and their monitor, the monitor of slow subscribers"
            );
            thread::sleep(WINDOW);
            let after = processor_times();
            let used: u64 = after
                .iter()
                .map(|(thread, time)| time - before[thread])
                .sum();
            let used = Duration::from_nanos(used);
            println!(
                "{mode:?} with {dispatchers} dispatchers, watched: {watched}, stalled: {stalled}: \
                 {used:?} in {WINDOW:?}"
            );
            assert!(used <= BOUND, "{used:?} is more than {BOUND:?}");
            drop(hangs);
            bus.close();
            receiving
                .into_iter()
                .for_each(|thread| thread.join().expect("closed"));
        }
    }
}

/// The processor time of each thread of the bus and of the receivers, in nanoseconds, by name.
fn processor_times() -> HashMap<String, u64> {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux has it");
    tasks
        .filter_map(|task| {
            let path = task.ok()?.path();
            let is_ours = fs::read_to_string(path.join("comm"))
                .ok()?
                .starts_with("fanout-");
            let account = fs::read_to_string(path.join("schedstat")).ok()?;
            let time = account.split(' ').next()?.parse().ok()?;
            is_ours.then(|| (path.display().to_string(), time))
        })
        .collect()
}
