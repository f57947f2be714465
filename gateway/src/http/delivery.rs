//! A long body, whose chunks a task makes one ahead of its reader.
//!
//! A server asks a body for its next chunk when the connection has room. One whose reader has stopped is asked no more,
//! so it could not end by itself what it holds: a slot, a pinned view, a sort.
//!
//! **Invariant:** what the chunks hold is given up when one is not taken in time, and when nobody may read on; a body
//! that was not given whole ends with an error.

use std::io;
use std::time::Duration;

use axum::body::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// The chunks of a body that is being made.
pub(super) type Chunks = BoxStream<'static, io::Result<Bytes>>;

enum Part {
    Chunk(Bytes),
    End,
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
enum BrokenOff {
    #[error("its reader took no chunk for {} ms", .0.as_millis())]
    Stalled(Duration),
    #[error("the token of its reader has ended")]
    Over,
    #[error(transparent)]
    Failed(#[from] io::Error),
}

/// The body of `chunks`. It breaks off when one is not taken within `stalled`, or as soon as `is_over` says that the
/// reader may read no more.
pub(super) fn deliver(
    name: String,
    chunks: Chunks,
    stalled: Duration,
    is_over: impl Fn() -> bool + Send + Sync + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = channel(1);
    tokio::spawn(async move {
        match pass_on(chunks, &sender, stalled, is_over).await {
            // What the chunks held is free by now: the end may wait for its reader.
            Ok(()) => drop(sender.send(Part::End).await),
            Err(reason) => tracing::warn!(body = name, %reason, "a body broke off"),
        }
    });
    // Who compresses a body asks it once more after its end.
    stream::unfold(Some(receiver), next).fuse()
}

async fn pass_on(
    mut chunks: Chunks,
    sender: &Sender<Part>,
    stalled: Duration,
    is_over: impl Fn() -> bool,
) -> Result<(), BrokenOff> {
    loop {
        let chunk = tokio::select! {
            chunk = chunks.next() => chunk,
            () = sender.closed() => return Ok(()),
        };
        let Some(chunk) = chunk.transpose()? else {
            return Ok(());
        };
        if is_over() {
            return Err(BrokenOff::Over);
        }
        match tokio::time::timeout(stalled, sender.send(Part::Chunk(chunk))).await {
            Ok(Ok(())) => {}
            // Nobody reads any more.
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(BrokenOff::Stalled(stalled)),
        }
    }
}

type Left = Option<Receiver<Part>>;

async fn next(left: Left) -> Option<(io::Result<Bytes>, Left)> {
    let mut receiver = left?;
    match receiver.recv().await {
        Some(Part::Chunk(bytes)) => Some((Ok(bytes), Some(receiver))),
        Some(Part::End) => None,
        None => {
            let text = "the body broke off before its end; resume it behind its last chunk";
            Some((Err(io::Error::other(text)), None))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    /// So long that a test that waits for it hangs.
    const LONG: Duration = Duration::from_secs(3_600);

    /// `count` chunks that hold a permit of `slots`.
    fn chunks(slots: &Arc<Semaphore>, count: usize) -> Chunks {
        let slot = Arc::clone(slots).try_acquire_owned().unwrap();
        let chunk = move |nth: usize| {
            let _slot = &slot;
            Ok(Bytes::from(nth.to_string()))
        };
        stream::iter(0..count).map(chunk).boxed()
    }

    #[tokio::test]
    async fn a_reader_that_stops_gives_its_slot_up_and_finds_the_body_broken_off() {
        let slots = Arc::new(Semaphore::new(1));
        let made = chunks(&slots, usize::MAX);
        let body = deliver("b".to_owned(), made, Duration::from_millis(5), || false);
        let mut body = std::pin::pin!(body);
        assert_eq!(body.next().await.unwrap().unwrap(), "0");
        drop(slots.acquire().await.unwrap());
        let rest: Vec<_> = body.collect().await;
        assert!(rest.len() <= 2, "at most one chunk was ahead: {rest:?}");
        assert!(rest.last().unwrap().is_err());
    }

    #[tokio::test]
    async fn a_body_ends_with_its_readers_token_and_with_its_reader() {
        let (slots, over) = (
            Arc::new(Semaphore::new(1)),
            Arc::new(AtomicBool::new(false)),
        );
        let is_over = Arc::clone(&over);
        let made = chunks(&slots, usize::MAX);
        let body = deliver("b".to_owned(), made, LONG, move || {
            is_over.load(Ordering::SeqCst)
        });
        let mut body = std::pin::pin!(body);
        assert!(body.next().await.unwrap().is_ok());
        over.store(true, Ordering::SeqCst);
        let rest: Vec<_> = body.collect().await;
        assert!(rest.last().unwrap().is_err());
        drop(slots.acquire().await.unwrap());
        drop(deliver(
            "b".to_owned(),
            chunks(&slots, usize::MAX),
            LONG,
            || false,
        ));
        drop(slots.acquire().await.unwrap());
    }

    #[tokio::test]
    async fn a_body_that_has_ended_may_be_asked_again() {
        let slots = Arc::new(Semaphore::new(1));
        let body = deliver("b".to_owned(), chunks(&slots, 1), LONG, || false);
        let mut body = std::pin::pin!(body);
        assert_eq!(body.next().await.unwrap().unwrap(), "0");
        assert!(body.next().await.is_none());
        assert!(body.next().await.is_none());
    }

    #[tokio::test]
    async fn a_body_that_is_taken_is_whole_and_a_fault_is_not_taken_for_its_end() {
        let slots = Arc::new(Semaphore::new(1));
        let body = deliver("b".to_owned(), chunks(&slots, 3), LONG, || false);
        let whole: Vec<_> = body.map(Result::unwrap).collect().await;
        assert_eq!(whole, ["0", "1", "2"]);
        let fault = stream::iter([Err(io::Error::other("no lake"))]);
        let made = chunks(&slots, 2).chain(fault).boxed();
        let broken: Vec<_> = deliver("b".to_owned(), made, LONG, || false)
            .collect()
            .await;
        let ok: Vec<bool> = broken.iter().map(Result::is_ok).collect();
        assert_eq!(ok, [true, true, false]);
    }
}
