//! Waiting for a signal, in a thread and in a task.
//!
//! Invariant: a raise after the reading of the generation always ends the waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use crate::watch::Signal;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_waker_is_woken_once_by_the_next_raise() {
    let (signal, count) = (Signal::default(), Arc::new(Count::default()));
    let waker = Waker::from(Arc::clone(&count));
    signal.register(&waker);
    signal.register(&waker);
    signal.raise();
    signal.raise();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    signal.register(&waker);
    signal.raise();
    assert_eq!(count.0.load(Ordering::SeqCst), 2);
    assert_eq!(signal.generation(), 3);
}

#[test]
fn wakers_of_ever_new_tasks_do_not_pile_up_and_none_is_forgotten() {
    let signal = Signal::default();
    let counts: Vec<Arc<Count>> = (0..5_000).map(|_| Arc::default()).collect();
    for count in &counts {
        signal.register(&Waker::from(Arc::clone(count)));
        let held = counts.iter().filter(|c| Arc::strong_count(c) > 1).count();
        assert!(held <= 1_024, "{held} wakers");
    }
    signal.raise();
    for count in &counts {
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }
}

#[cfg(feature = "http")]
#[test]
fn a_thread_waits_until_the_raise_and_not_for_one_that_was() {
    use std::time::Duration;

    let signal = Arc::new(Signal::default());
    let seen = signal.generation();
    signal.raise();
    assert_eq!(signal.wait_past(seen, None), 1, "raised before the waiting");
    assert_eq!(signal.wait_past(1, Some(Duration::from_millis(1))), 1);
    let other = Arc::clone(&signal);
    let waits = std::thread::spawn(move || other.wait_past(1, None));
    signal.raise();
    assert_eq!(waits.join().unwrap(), 2);
}
