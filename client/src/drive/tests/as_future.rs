//! Syncing as a future: on tokio, and on runtimes of the test's own.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::gateway::{Gateway, Weather};
use super::{PATIENCE, add, database, titles, todos, until, wait_for};
use crate::{AsyncSync, Phase, Runtime, SessionOptions, Wish};

struct Tokio;

impl Runtime for Tokio {
    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(work);
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a runtime's sleep is what the driver asks for"
    )]
    fn sleep(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(time))
    }
}

#[tokio::test]
async fn two_databases_sync_on_tokio_until_they_are_told_to_stop() {
    let gateway = Gateway::new(vec![todos()]);
    let (ada, ben) = (database("ada"), database("ben"));
    let options = SessionOptions::default;
    let at_ada = AsyncSync::new(ada.clone(), gateway.clone(), options());
    let at_ben = AsyncSync::new(ben.clone(), gateway.clone(), options());
    let remotes = [at_ada.remote(), at_ben.remote()];
    let running = [
        tokio::spawn(async move { at_ada.run(&Tokio).await }),
        tokio::spawn(async move { at_ben.run(&Tokio).await }),
    ];
    let work = tokio::task::spawn_blocking(move || {
        add(&ada, "milk");
        wait_for(&ben, &["milk"]);
        add(&ben, "tea");
        wait_for(&ada, &["milk", "tea"]);
    });
    work.await.unwrap();
    for remote in &remotes {
        remote.wish(Wish::Stop);
    }
    for running in running {
        let status = tokio::time::timeout(PATIENCE, running).await;
        assert_eq!(status.unwrap().unwrap().phase, Phase::Stopped);
    }
    assert_eq!(gateway.transports(), 1);
}

/// Threads for work, and a thread that counts time: a runtime in twenty lines.
struct Threads {
    timer: Sender<(Instant, Waker)>,
}

impl Threads {
    fn new() -> Threads {
        let (timer, due) = channel::<(Instant, Waker)>();
        thread::spawn(move || {
            let mut waiting: Vec<(Instant, Waker)> = Vec::new();
            loop {
                let next = waiting.iter().map(|(at, _)| *at).min();
                let left = next.map_or(PATIENCE, |at| at.saturating_duration_since(Instant::now()));
                match due.recv_timeout(left) {
                    Ok(sleeper) => waiting.push(sleeper),
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
                }
                let now = Instant::now();
                waiting
                    .extract_if(.., |(at, _)| *at <= now)
                    .for_each(|(_, waker)| waker.wake());
            }
        });
        Threads { timer }
    }
}

struct Sleep {
    at: Instant,
    timer: Sender<(Instant, Waker)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.at {
            return Poll::Ready(());
        }
        self.timer.send((self.at, context.waker().clone())).unwrap();
        Poll::Pending
    }
}

impl Runtime for Threads {
    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        thread::spawn(work);
    }

    fn sleep(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let at = Instant::now() + time;
        let timer = self.timer.clone();
        Box::pin(Sleep { at, timer })
    }
}

struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Parked(thread::current())));
    let mut future = pin!(future);
    let begun = Instant::now();
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "the future is never ready");
        thread::park_timeout(PATIENCE);
    }
}

#[test]
fn it_needs_nothing_of_tokio_and_survives_a_gateway_that_is_down() {
    let gateway = Gateway::new(vec![todos()]);
    let (ada, ben) = (database("ada"), database("ben"));
    gateway.set(Weather::Down);
    add(&ada, "milk");
    let sync = AsyncSync::new(ada, gateway.clone(), SessionOptions::default());
    let remote = sync.remote();
    let helper = {
        let gateway = gateway.clone();
        thread::spawn(move || {
            gateway.wait_for("schemas");
            gateway.set(Weather::Fair);
            gateway.wait_for("live");
            remote.wish(Wish::Stop);
        })
    };
    let status = block_on(sync.run(&Threads::new()));
    helper.join().unwrap();
    assert_eq!(status.phase, Phase::Stopped);
    ben.sync(&gateway).unwrap();
    assert_eq!(titles(&ben), ["milk"]);
}

/// A runtime that is shutting down.
struct Gone;

impl Runtime for Gone {
    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        drop(work);
    }

    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }
}

#[test]
fn a_runtime_that_gives_up_work_ends_the_sync() {
    let gateway = Gateway::new(vec![todos()]);
    let sync = AsyncSync::new(database("ada"), gateway.clone(), SessionOptions::default());
    let status = block_on(sync.run(&Gone));
    assert_ne!(status.phase, Phase::Stopped);
    assert_eq!(gateway.transports(), 1);
}

#[test]
fn a_future_that_is_dropped_finishes_its_exchange_and_no_more() {
    let gateway = Gateway::new(vec![todos()]);
    let ada = database("ada");
    add(&ada, "milk");
    gateway.set(Weather::Slow);
    let sync = AsyncSync::new(ada.clone(), gateway.clone(), SessionOptions::default());
    {
        let threads = Threads::new();
        let mut running = Box::pin(sync.run(&threads));
        let waker = Waker::from(Arc::new(Parked(thread::current())));
        let begun = Instant::now();
        while ada.status().counts.in_flight == 0 {
            assert!(
                running
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            assert!(begun.elapsed() < PATIENCE, "nothing was sent");
            thread::park_timeout(Duration::from_millis(10));
        }
        gateway.wait_for("push");
    }
    gateway.set(Weather::Fair);
    until(|| gateway.transports() == 1);
    assert_eq!(ada.status().counts.in_flight, 0, "the answer was taken");
}
