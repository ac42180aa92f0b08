//! Stress tests: user code blocks, panics and calls the bus at random, while threads are suspended
//! one at a time, or all threads share one processor. The delivery law must hold, and every call
//! must end.
//!
//! All tests are ignored by default, because they need their processor time for themselves. Each
//! runs for `FANOUT_STRESS_SECONDS` (5) seconds: `cargo test --all-features --test it stress:: --
//! --ignored --test-threads=1`.
//!
//! A test whose threads are suspended, or share one processor, runs again in a process of its own.
//! A thread is suspended as a debugger does it, with `ptrace`: a stop signal would stop all
//! threads.

use fanout::{
    Bus, Dispatch, Event, Overflow, RecvError, RecvTimeoutError, SlowLimit, Subscriber,
    SubscriptionHandle, TryRecvError, WeakBus,
};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::cell::Cell;
use std::future::Future;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::support::{FOR_EVER, MODES, PATIENCE, Random, ends_within, eventually, panics_quietly};

#[test]
#[ignore = "a stress test: see the top of the file"]
fn the_delivery_law_holds_while_threads_are_suspended() {
    run_alone("law::the_delivery_law_holds_under_churn", suspend_threads);
}

#[test]
#[ignore = "a stress test: see the top of the file"]
fn the_delivery_law_holds_on_one_processor() {
    on_one_processor("law::the_delivery_law_holds_under_churn");
}

#[test]
#[ignore = "a stress test: see the top of the file"]
fn hostile_user_code_harms_only_itself_while_threads_are_suspended() {
    run_alone(
        "stress::hostile_user_code_harms_only_itself",
        suspend_threads,
    );
}

#[test]
#[ignore = "a stress test: see the top of the file"]
fn hostile_user_code_harms_only_itself_on_one_processor() {
    on_one_processor("stress::hostile_user_code_harms_only_itself");
}

#[test]
#[ignore = "a stress test: see the top of the file"]
fn time_limits_are_kept_under_load_on_one_processor() {
    on_one_processor("stress::time_limits_are_kept_under_load");
}

fn seconds() -> u64 {
    std::env::var("FANOUT_STRESS_SECONDS").map_or(5, |text| text.parse().expect("a number"))
}

// ---- the machine --------------------------------------------------------------------------------

/// Runs a test in a process of its own, and fails if it fails. `disturb` is called with the
/// process.
fn run_alone(test: &str, disturb: impl FnOnce(&mut Child)) {
    let this_binary = std::env::current_exe().expect("known");
    let mut alone = Command::new(this_binary)
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env("FANOUT_LAW_SECONDS", seconds().to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdout = alone.stdout.take().expect("it is a pipe");
    let reading = thread::spawn(move || {
        let mut output = String::new();
        stdout.read_to_string(&mut output).map(|_| output)
    });
    disturb(&mut alone);
    let status = alone.wait().expect("it was started");
    let output = reading.join().expect("no panic").expect("it is text");
    assert!(
        status.success() && output.contains("1 passed"),
        "{status}: {output}"
    );
    println!("{output}");
}

/// Runs a test in a process whose threads may use one processor only.
fn on_one_processor(test: &'static str) {
    // On a thread of its own, whose processors the process inherits.
    let thread = thread::spawn(move || {
        let this_thread = Pid::from_raw(0);
        let usable = sched_getaffinity(this_thread).expect("Linux has it");
        let mut first = CpuSet::new();
        let index = (0..CpuSet::count()).find(|&index| usable.is_set(index) == Ok(true));
        first
            .set(index.expect("this thread runs"))
            .expect("in range");
        sched_setaffinity(this_thread, &first).expect("it was usable");
        run_alone(test, |_| {});
    });
    thread.join().expect("the test passes");
}

/// Suspends one thread of the process after the other, chosen at random, until the process ends.
/// Prefers the threads of buses.
fn suspend_threads(process: &mut Child) {
    let main = Pid::from_raw(process.id() as i32);
    let mut random = Random::new(1);
    let (mut all, mut of_buses) = (0, 0);
    let limit = Duration::from_secs(seconds()) + 10 * PATIENCE;
    let start = Instant::now();
    while process.try_wait().expect("it was started").is_none() {
        if start.elapsed() > limit {
            process.kill().expect("it runs");
            panic!("the process has not ended after {limit:?}");
        }
        let threads = threads_of(main);
        let of_bus: Vec<_> = threads.iter().filter(|(_, of_bus)| *of_bus).collect();
        let chosen = match of_bus[..] {
            [] => threads.get(random.below(threads.len().max(1))),
            _ if random.one_in(2) => threads.get(random.below(threads.len())),
            _ => Some(of_bus[random.below(of_bus.len())]),
        };
        // The main thread only waits, and its end is the end of the process.
        let Some(&(thread, of_bus)) = chosen.filter(|(thread, _)| *thread != main) else {
            thread::sleep(Duration::from_micros(100));
            continue;
        };
        let millis = if random.one_in(50) {
            300
        } else {
            random.below(15)
        };
        match suspend(thread, Duration::from_millis(millis as u64)) {
            Ok(()) => {
                all += 1;
                of_buses += usize::from(of_bus);
            }
            // It has ended, or (`EPERM`) it is about to. Where no thread can be suspended at all,
            // the count below fails.
            Err(Errno::ESRCH | Errno::ECHILD | Errno::EPERM) => {}
            Err(error) => panic!("thread {thread} cannot be suspended: {error}"),
        }
        thread::sleep(Duration::from_micros(random.below(2000) as u64));
    }
    println!("{all} times a thread was suspended, {of_buses} times one of a bus");
    assert!(of_buses >= 10, "too few to prove anything");
}

/// The threads of a process. `true`: the thread belongs to a bus.
fn threads_of(process: Pid) -> Vec<(Pid, bool)> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    tasks
        .filter_map(|task| {
            let task = task.ok()?;
            let number = task.file_name().to_str()?.parse().ok()?;
            let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
            Some((Pid::from_raw(number), name.starts_with("fanout-")))
        })
        .collect()
}

fn suspend(thread: Pid, time: Duration) -> Result<(), Errno> {
    ptrace::seize(thread, ptrace::Options::empty())?;
    let interrupted = ptrace::interrupt(thread);
    // If the thread has ended instead, this waits for its end.
    waitpid(thread, Some(WaitPidFlag::__WALL))?;
    interrupted?;
    thread::sleep(time);
    ptrace::detach(thread, None).inspect_err(|_| {
        // The process has ended meanwhile, and waits until this thread has taken note of that.
        let _ = waitpid(thread, Some(WaitPidFlag::__WALL));
    })
}

// ---- hostile user code --------------------------------------------------------------------------

#[test]
#[ignore = "a stress test: see the top of the file"]
fn hostile_user_code_harms_only_itself() {
    repeat(hostile_episode);
}

/// Runs episodes in all dispatch modes, each at least once, until the time is over.
fn repeat(episode: impl Fn(Dispatch, u64) -> u64 + Copy + Send + 'static) {
    let start = Instant::now();
    let (mut episodes, mut events) = (0, 0);
    for seed in 1.. {
        for mode in MODES {
            if seed > 1 && start.elapsed() > Duration::from_secs(seconds()) {
                println!("{episodes} episodes, {events} events");
                return;
            }
            let what = format!("{mode:?}, seed {seed}");
            println!("{what}");
            events += ends_within(2 * PATIENCE, &what, move || episode(mode, seed));
            episodes += 1;
        }
    }
}

/// What all user code of an episode shares.
struct World {
    random: AtomicU64,
    bus: Mutex<Option<WeakBus<Payload>>>,
    handles: Mutex<Vec<SubscriptionHandle<Payload>>>,
    /// The number of payloads that were created and not dropped.
    alive: AtomicI64,
    calls: AtomicUsize,
}

thread_local! {
    /// How many calls of user code this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

impl World {
    fn random(&self) -> Random {
        Random::new(self.random.fetch_add(1, Ordering::Relaxed))
    }

    /// What user code may do: mostly nothing. It blocks, calls the bus, or panics with a value that
    /// panics when it is dropped.
    fn run_user_code(self: &Arc<Self>, one_in: usize) {
        let mut random = self.random();
        if !random.one_in(one_in) || thread::panicking() || DEPTH.get() > 2 {
            return;
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        DEPTH.set(DEPTH.get() + 1);
        match random.below(4) {
            0 => thread::sleep(Duration::from_micros(random.below(2000) as u64)),
            1 | 2 => self.call_the_bus(&mut random),
            _ => {
                DEPTH.set(DEPTH.get() - 1);
                panics_quietly();
            }
        }
        DEPTH.set(DEPTH.get() - 1);
    }

    fn call_the_bus(self: &Arc<Self>, random: &mut Random) {
        let weak = self.bus.lock().expect("no panic").clone();
        let Some(bus) = weak.and_then(|weak| weak.upgrade()) else {
            return;
        };
        let brief = Duration::from_micros(random.below(1000) as u64);
        match random.below(12) {
            0 => drop(bus.try_publish("a.b", Payload::new(self))),
            1 => drop(bus.publish_timeout("a.b", Payload::new(self), brief)),
            2 => drop(bus.publish("a.c", Payload::new(self))),
            3 => drop(bus.subscribe("a.*").map(|mut sub| sub.try_recv().is_ok())),
            4 => drop(
                bus.subscribe("a.*")
                    .map(|mut sub| sub.recv_timeout(brief).is_ok()),
            ),
            5 => drop(bus.flush_within(brief)),
            6 => drop(bus.stats()),
            7 => drop(bus.has_subscribers("a.b")),
            8 => drop(bus.drive()),
            9 => drop(bus.on("a.b", |_| {})),
            10 => drop(bus.publisher().publish("a.b", Payload::new(self))),
            _ => {
                let handles = self.handles.lock().expect("no panic");
                let handle = handles.get(random.below(handles.len().max(1))).cloned();
                drop(handles);
                if let Some(handle) = handle.filter(|_| random.one_in(20)) {
                    handle.cancel();
                }
            }
        }
    }
}

struct Payload(Arc<World>);

impl Payload {
    fn new(world: &Arc<World>) -> Self {
        world.alive.fetch_add(1, Ordering::Relaxed);
        Self(world.clone())
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::Relaxed);
        self.0.run_user_code(500);
    }
}

/// A waker that runs user code whenever it is cloned, dropped or called.
struct HostileWaker(Arc<World>, Waker);

impl Wake for HostileWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It wakes even if the rest panics: a waker that does not wake harms its own task.
        self.1.wake_by_ref();
        self.0.run_user_code(20);
    }
}

impl Drop for HostileWaker {
    fn drop(&mut self) {
        self.0.run_user_code(20);
    }
}

/// Wakes a thread.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread, with a new waker for each call of `poll`.
fn block_on<F: Future>(world: &Arc<World>, future: F) -> F::Output {
    let mut future = pin!(future);
    let unpark = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        let waker = Waker::from(Arc::new(HostileWaker(world.clone(), unpark.clone())));
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        drop_quietly(waker);
        match polled {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Drops something whose drop may panic, which is not the concern of the bus.
fn drop_quietly(value: impl Sized) {
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(value)));
    let _ = dropped.map_err(std::mem::forget);
}

fn hostile_episode(mode: Dispatch, seed: u64) -> u64 {
    const PUBLISHERS: u64 = 3;
    const EVENTS: u64 = 4000;
    let mut random = Random::new(seed);
    let world = Arc::new(World {
        random: AtomicU64::new(seed << 32),
        bus: Mutex::new(None),
        handles: Mutex::new(Vec::new()),
        alive: AtomicI64::new(0),
        calls: AtomicUsize::new(0),
    });
    let breaks = random.one_in(4);
    let user_code_in = |one_in| {
        let world = world.clone();
        move || world.run_user_code(one_in)
    };
    let (in_observer, in_slow, in_clock) = (user_code_in(3), user_code_in(3), user_code_in(100));
    let weighed = AtomicU64::new(0);
    let bus = Bus::<Payload>::builder()
        .blocking(true)
        .dispatch(mode)
        .dispatchers(1 + random.below(3))
        .handler_threads(2)
        .max_handler_threads(8)
        .lane_capacity([4, 64, 1024][random.below(3)])
        .observer(move |_| in_observer())
        .on_slow(SlowLimit::percent(50), move |_| in_slow())
        .clock(move || {
            in_clock();
            SystemTime::now()
        })
        .weigh(move |_| {
            if breaks && weighed.fetch_add(1, Ordering::Relaxed) == EVENTS * 2 {
                panics_quietly();
            }
            0
        })
        .build()
        .expect("in range");
    *world.bus.lock().expect("no panic") = Some(bus.downgrade());

    for n in 0..8 {
        let in_handler = user_code_in(50);
        let overflow = [Overflow::Block, Overflow::DropNewest, Overflow::DropOldest][n % 3];
        let handler = bus
            .subscription("a.*")
            .capacity(64)
            .overflow(overflow)
            .block_timeout(Duration::from_millis(5));
        let handler = if n == 7 { handler.dedicated() } else { handler };
        let guard = handler.handler(move |_: &Event<Payload>| {
            in_handler();
            Err::<(), _>("an error")
        });
        let handle = guard.expect("open").detach();
        world.handles.lock().expect("no panic").push(handle);
    }
    let receivers: Vec<_> = (0..8)
        .map(|n| {
            let overflow = [
                Overflow::Block,
                Overflow::DropNewest,
                Overflow::DropOldest,
                Overflow::Conflate,
                Overflow::Disconnect,
            ][n % 5];
            let sub = bus
                .subscription("a.*")
                .capacity(100)
                .overflow(overflow)
                .block_timeout(Duration::from_millis(5))
                .open()
                .expect("open");
            let handle = sub.handle();
            world.handles.lock().expect("no panic").push(handle);
            let world = world.clone();
            thread::spawn(move || receive(&world, sub, n % 2 == 0))
        })
        .collect();
    let over = Arc::new(AtomicBool::new(false));
    let driver = {
        let (weak, over) = (bus.downgrade(), over.clone());
        thread::spawn(move || {
            while mode == Dispatch::Manual && !over.load(Ordering::Relaxed) {
                let driven = weak.upgrade().is_some_and(|bus| bus.drive());
                if !driven {
                    thread::yield_now();
                }
            }
        })
    };
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|n| {
            let (world, bus) = (world.clone(), bus.clone());
            thread::spawn(move || {
                let mut own = bus.publisher();
                for i in 0..EVENTS {
                    let payload = Payload::new(&world);
                    let topic = ["a.b", "a.c", "a.d", "nobody"][(i % 4) as usize];
                    let refused = match n {
                        0 => bus.publish(topic, payload).err().map(drop_quietly),
                        1 => block_on(&world, bus.publish_async(topic, payload))
                            .err()
                            .map(drop_quietly),
                        _ => own.publish(topic, payload).err().map(drop_quietly),
                    };
                    if refused.is_some() {
                        return;
                    }
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.join().expect("no panic of the bus");
    }
    let report = bus.close_within(PATIENCE);
    let stats = bus.stats();
    let broken = breaks && stats.unsequenced > 0;
    assert!(report.in_time || broken, "{report:?} {stats:?}");
    for receiver in receivers {
        receiver.join().expect("no panic of the bus");
    }
    over.store(true, Ordering::Relaxed);
    driver.join().expect("no panic of the bus");
    let stats = bus.stats();
    assert_eq!(
        stats.published,
        stats.sequenced + stats.unsequenced,
        "{stats:?}"
    );
    if !broken {
        eventually("the handlers have ended", || {
            bus.close_within(FOR_EVER).in_time
        });
        let stats = bus.stats();
        assert_eq!(
            stats.matched,
            stats.received + stats.lost + stats.superseded + stats.unread,
            "{stats:?}"
        );
        for handle in world.handles.lock().expect("no panic").iter() {
            let stats = handle.stats();
            assert_eq!(
                stats.matched,
                stats.received + stats.lost + stats.superseded + stats.unread,
                "{stats:?}"
            );
        }
    }
    world.handles.lock().expect("no panic").clear();
    drop(bus);
    eventually("every payload was dropped", || {
        world.alive.load(Ordering::Relaxed) == 0
    });
    assert!(world.calls.load(Ordering::Relaxed) > 0);
    stats.published
}

/// Receives to the end, and checks the ids.
fn receive(world: &Arc<World>, mut sub: Subscriber<Payload>, as_task: bool) {
    let (mut last, mut received, mut lost) = (0, 0, 0);
    loop {
        let mut random = world.random();
        let item = match random.below(3) {
            _ if as_task => block_on(world, sub.recv_async()).map(Event::id),
            0 => sub.recv().map(Event::id),
            1 => match sub.try_recv().map(Event::id) {
                Ok(id) => Ok(id),
                Err(TryRecvError::Empty) => continue,
                Err(TryRecvError::Lost(gap)) => Err(RecvError::Lost(gap)),
                Err(_) => sub.recv().map(Event::id),
            },
            _ => match sub.recv_timeout(Duration::from_micros(200)).map(Event::id) {
                Ok(id) => Ok(id),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Lost(gap)) => Err(RecvError::Lost(gap)),
                Err(_) => sub.recv().map(Event::id),
            },
        };
        match item {
            Ok(id) => {
                // A topic of a `Conflate` subscriber keeps its place, and its event changes.
                assert!(last < id || sub.stats().overflow == Overflow::Conflate);
                last = id;
                received += 1;
            }
            Err(RecvError::Lost(gap)) => lost += gap.count(),
            Err(_) => break,
        }
    }
    let stats = sub.stats();
    assert_eq!(stats.received, received, "{stats:?}");
    assert!(stats.lost >= lost, "{stats:?}");
}

// ---- limits in time -----------------------------------------------------------------------------

#[test]
#[ignore = "a stress test: see the top of the file"]
fn time_limits_are_kept_under_load() {
    repeat(limits_episode);
}

/// What is allowed beyond a limit: one call of user code takes 1 ms at most, and the thread has to
/// wait for a processor. How long that takes is measured at the same time.
const ALLOWANCE: Duration = Duration::from_millis(250);

/// A payload whose drop takes a while, now and then.
struct Slow(u64);

impl Drop for Slow {
    fn drop(&mut self) {
        if self.0.is_multiple_of(1000) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The largest overruns over a limit so far, by the name of the call.
#[derive(Default)]
struct Overruns(Vec<(&'static str, Duration)>);

impl Overruns {
    fn measure<R>(&mut self, call: &'static str, limit: Duration, body: impl FnOnce() -> R) {
        let start = Instant::now();
        body();
        self.0.push((call, start.elapsed().saturating_sub(limit)));
    }
}

/// Publishers and many subscribers keep the bus busy, and the calls with a limit must end.
fn limits_episode(mode: Dispatch, seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let bus = Bus::<Slow>::builder()
        .blocking(true)
        .dispatch(mode)
        .dispatchers(1 + random.below(3))
        .handler_threads(2)
        .build()
        .expect("in range");
    let cheap: Vec<_> = (0..300)
        .map(|_| bus.subscription("a").overflow(Overflow::DropOldest))
        .map(|sub| sub.capacity(64).open().expect("open"))
        .collect();
    let full = bus.subscription("b").capacity(1).overflow(Overflow::Block);
    let full = full.block_timeout(Duration::from_millis(2));
    let full = full.open().expect("open");
    let slow = bus.on("a", |event| {
        if event.id().is_multiple_of(64) {
            thread::sleep(Duration::from_millis(1));
        }
    });
    let slow = slow.expect("open");
    let over = AtomicBool::new(false);
    let mut overruns = Overruns::default();
    let worst_delay = thread::scope(|scope| {
        let publishers: Vec<_> = (0..4)
            .map(|n| {
                let (bus, over) = (&bus, &over);
                scope.spawn(move || {
                    let topic = if n == 0 { "b" } else { "a" };
                    for n in 0.. {
                        let accepted = bus.publish_timeout(topic, Slow(n), ALLOWANCE);
                        if over.load(Ordering::Relaxed) || accepted.is_err() && bus.is_closed() {
                            break;
                        }
                    }
                })
            })
            .collect();
        // How long a thread waits for a processor.
        let delay = scope.spawn(|| {
            const SLEEP: Duration = Duration::from_millis(1);
            let mut worst = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let start = Instant::now();
                thread::sleep(SLEEP);
                worst = worst.max(start.elapsed().saturating_sub(SLEEP));
            }
            worst
        });
        let mut own = bus.publisher();
        let mut idle = bus.subscribe("nothing").expect("open");
        for _ in 0..60 {
            let limit = Duration::from_millis(random.below(10) as u64);
            match random.below(8) {
                0 | 1 => overruns.measure("flush", limit, || bus.flush_within(limit)),
                2 => overruns.measure("recv", limit, || idle.recv_timeout(limit).is_ok()),
                3 => overruns.measure("batch", limit, || idle.next_batch_timeout(limit).is_ok()),
                4 => overruns.measure("publish", limit, || {
                    bus.publish_timeout("b", Slow(1), limit).is_ok()
                }),
                5 => overruns.measure("publisher", limit, || {
                    own.publish_timeout("b", Slow(1), limit).is_ok()
                }),
                6 => {
                    let handle = full.handle();
                    overruns.measure("wait_ended", limit, || handle.wait_ended(limit));
                }
                _ => {
                    let brief = bus.on("a", |_| thread::sleep(Duration::from_millis(1)));
                    let brief = brief.expect("open");
                    overruns.measure("cancel", limit, || brief.cancel_and_wait(limit));
                }
            }
        }
        let limit = Duration::from_millis(random.below(10) as u64);
        overruns.measure("close", limit, || bus.close_within(limit));
        over.store(true, Ordering::Relaxed);
        publishers
            .into_iter()
            .for_each(|publisher| publisher.join().expect("no panic"));
        delay.join().expect("no panic")
    });
    let allowed = ALLOWANCE + 20 * worst_delay;
    for (call, overruns) in &overruns.0 {
        assert!(
            overruns < &allowed,
            "{call}: {overruns:?} beyond its limit, {allowed:?} allowed"
        );
    }
    let worst = overruns.0.iter().max_by_key(|(_, overruns)| overruns);
    println!("{worst:?}, a thread waited {worst_delay:?}");
    drop((cheap, full, slow));
    bus.stats().published
}
