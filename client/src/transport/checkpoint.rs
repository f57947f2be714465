//! A checkpoint as it comes: a stream of pages, read one by one.
//!
//! Invariant: one page and one piece of the stream are held, whatever the checkpoint's size. A stream that ends before its
//! last page is an error, never an end.

use std::io::Read;
use std::sync::Arc;

use lakesync_proto::{ChunkError, ChunkReader, PullPage, Schemas, decode_chunk};

use crate::transport::exchange::{Opened, unreachable};
use crate::transport::{Chunks, TransportError};

/// Bytes read at once: what a socket's buffer commonly holds.
const PIECE_BYTES: usize = 64 << 10;

/// A checkpoint that is being read.
pub(super) struct HttpChunks {
    opened: Opened,
    schemas: Arc<dyn Schemas + Send + Sync>,
    chunks: ChunkReader,
    piece: Vec<u8>,
    ended: bool,
}

impl HttpChunks {
    pub(super) fn new(opened: Opened, schemas: Arc<dyn Schemas + Send + Sync>) -> HttpChunks {
        HttpChunks {
            opened,
            schemas,
            chunks: ChunkReader::new(),
            piece: vec![0; PIECE_BYTES],
            ended: false,
        }
    }

    fn message(&mut self) -> Result<Vec<u8>, TransportError> {
        self.opened.until.renew();
        loop {
            let message = self.chunks.next_message();
            if let Some(message) = message.map_err(|error| self.broken(error))? {
                return Ok(message);
            }
            let read = self.opened.body.read(&mut self.piece);
            let bytes = read.map_err(|source| unreachable(&self.opened.url, source))?;
            if bytes == 0 {
                let cut = "the checkpoint broke off before its last page; it goes on from there";
                return Err(unreachable(&self.opened.url, cut));
            }
            self.chunks.feed(&self.piece[..bytes]);
        }
    }

    fn broken(&self, error: ChunkError) -> TransportError {
        TransportError::Answer {
            url: self.opened.url.clone(),
            reason: error.to_string(),
        }
    }
}

impl Chunks for HttpChunks {
    fn next(&mut self) -> Result<Option<PullPage>, TransportError> {
        if self.ended {
            return Ok(None);
        }
        // After an error the stream is at no known place.
        self.ended = true;
        let message = self.message()?;
        let page = decode_chunk(&message, self.schemas.as_ref())?;
        self.ended = !page.has_more;
        Ok(Some(page))
    }
}
