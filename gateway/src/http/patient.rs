//! Connections that are given up when their peer takes nothing.
//!
//! A reader that has stopped reading holds its connection, its buffers and its place among the live connections, and a
//! stop of the process would wait for it. No handler can see that: what it has said stands in the socket's queue.
//!
//! **Invariant:** a write waits as long as the front's `stalled` for the peer to take a byte, and once the process is on
//! its way out no longer than [`GRACE`]; then it fails, which ends the connection and all that belongs to it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long a write waits beyond `stalled`, so that a WebSocket can say why it closes, and how long it may wait at all
/// once the process is on its way out.
const GRACE: Duration = Duration::from_secs(1);

/// A connection whose writes do not wait for ever. Made by [`Front::patient`](super::Front::patient).
pub struct Patient<Io> {
    io: Io,
    stalled: Duration,
    draining: watch::Receiver<bool>,
    /// Ends when the write that waits has waited for too long.
    patience: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<Io> Patient<Io> {
    pub(super) fn new(io: Io, stalled: Duration, draining: watch::Receiver<bool>) -> Self {
        Self {
            io,
            stalled: stalled.saturating_add(GRACE),
            draining,
            patience: None,
        }
    }

    /// `written`, or the end of the patience with a write that waits.
    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.patience = None;
            return written;
        }
        let (stalled, draining) = (self.stalled, &self.draining);
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(run_out(stalled, draining.clone())));
        ready!(patience.as_mut().poll(context));
        let text = "the peer took nothing for too long";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
    }
}

/// Until a write has waited for too long.
async fn run_out(stalled: Duration, mut draining: watch::Receiver<bool>) {
    let drained = async {
        if draining.wait_for(|draining| *draining).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    if timeout(stalled, drained).await.is_ok() {
        drop(timeout(GRACE, std::future::pending::<()>()).await);
    }
}

impl<Io> fmt::Debug for Patient<Io> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patient")
            .field("stalled", &self.stalled)
            .finish_non_exhaustive()
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Patient<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Patient<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.bounded(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.bounded(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_peer_that_takes_is_waited_for_and_one_that_does_not_ends_the_connection() {
        let (ours, mut theirs) = tokio::io::duplex(10);
        let (drain, draining) = watch::channel(false);
        let mut ours = Patient::new(ours, Duration::from_secs(3_600), draining);
        let mut taken = Vec::new();
        let (written, read) = tokio::join!(
            ours.write_all(&[7; 600]),
            timeout(GRACE / 2, theirs.read_to_end(&mut taken))
        );
        written.unwrap();
        assert!(read.is_err(), "it goes on");
        assert_eq!(taken.len(), 600);
        drain.send_replace(true);
        let error = ours.write_all(&[7; 60]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let (ours, _theirs) = tokio::io::duplex(10);
        let (_drain, draining) = watch::channel(false);
        let mut ours = Patient::new(ours, Duration::ZERO, draining);
        assert!(ours.write_all(&[7; 60]).await.is_err());
    }
}
