//! A checkpoint's stream: messages behind their length.
//!
//! ```text
//! length (4 bytes BE) │ SyncResponse     length │ SyncResponse     …
//! ```
//! Each message is a page whose deltas are rows' states ([`row_deltas`](crate::row_deltas)). All of a page's deltas carry
//! the checkpoint's seq: they have no arrival of their own. The last page has `has_more` false and the cursor to go on
//! from.
//!
//! Invariant: a reader holds one message and what was fed last, never the stream. A length beyond the limit is refused
//! before a byte of its message is kept.

use crate::codec::Schemas;
use crate::codec::error::DecodeError;
use crate::codec::protobuf_answer::{decode_page, encode_page_protobuf};
use crate::limits::{CHUNK_BYTES_MAX, CHUNK_DELTAS_MAX};
use crate::message::PullPage;

/// Bytes of a message's length.
const LENGTH_BYTES: usize = 4;

/// Writes one message of a checkpoint, with its length before it.
///
/// # Errors
/// [`ChunkError::TooLarge`] beyond [`CHUNK_BYTES_MAX`]: cut the page earlier. A page of one delta of
/// [`row_deltas`](crate::row_deltas) never is.
pub fn encode_chunk(page: &PullPage) -> Result<Vec<u8>, ChunkError> {
    let message = encode_page_protobuf(page);
    let length = checked(message.len())?;
    let mut chunk = Vec::with_capacity(LENGTH_BYTES + message.len());
    chunk.extend(length.to_be_bytes());
    chunk.extend(message);
    Ok(chunk)
}

/// Reads one message of a checkpoint, without its length. The deltas' ids are opaque: they are not the hash of what the
/// deltas hold.
///
/// # Errors
/// [`DecodeError`] by kind, with the place.
pub fn decode_chunk(message: &[u8], schemas: &dyn Schemas) -> Result<PullPage, DecodeError> {
    decode_page(message, CHUNK_DELTAS_MAX, schemas)
}

/// Splits a checkpoint's stream into messages, whatever the pieces in which it arrives.
///
/// ```
/// use lakesync_proto::ChunkReader;
/// let mut reader = ChunkReader::new();
/// reader.feed(&[0, 0, 0, 2, 7]);
/// assert_eq!(reader.next_message()?, None);
/// reader.feed(&[8, 0, 0]);
/// assert_eq!(reader.next_message()?, Some(vec![7, 8]));
/// assert_eq!(reader.next_message()?, None);
/// assert!(reader.finish().is_err(), "the stream ended inside a length");
/// # Ok::<(), lakesync_proto::ChunkError>(())
/// ```
#[derive(Debug, Default)]
pub struct ChunkReader {
    fed: Vec<u8>,
    /// How much of `fed` has been handed out.
    taken: usize,
}

impl ChunkReader {
    /// At the beginning of a stream.
    pub fn new() -> ChunkReader {
        ChunkReader::default()
    }

    /// Adds what has arrived. Take all messages before feeding more, so that no more than one is ever held.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.fed.drain(..self.taken);
        self.taken = 0;
        self.fed.extend_from_slice(bytes);
    }

    /// The next whole message, without its length; none when it has not arrived yet.
    ///
    /// # Errors
    /// [`ChunkError::TooLarge`]; the stream cannot be read any further.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, ChunkError> {
        let rest = &self.fed[self.taken..];
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        checked(length)?;
        let Some(message) = rest.get(..length) else {
            return Ok(None);
        };
        self.taken += LENGTH_BYTES + length;
        Ok(Some(message.to_vec()))
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// [`ChunkError::Truncated`] when it stopped inside a message.
    pub fn finish(self) -> Result<(), ChunkError> {
        match self.fed.len() - self.taken {
            0 => Ok(()),
            bytes => Err(ChunkError::Truncated { bytes }),
        }
    }
}

fn checked(bytes: usize) -> Result<u32, ChunkError> {
    match u32::try_from(bytes) {
        Ok(length) if bytes <= CHUNK_BYTES_MAX => Ok(length),
        _ => Err(ChunkError::TooLarge { bytes }),
    }
}

/// Why a checkpoint's stream cannot be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// A message is too large, or the stream is none of a checkpoint.
    #[error("a message of a checkpoint has {bytes} bytes, {CHUNK_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its size, bytes.
        bytes: usize,
    },
    /// The stream ended inside a message.
    #[error(
        "the checkpoint ends in the middle of a message, {bytes} bytes into it; load it again, from the last chunk's \
         resume token on"
    )]
    Truncated {
        /// How much of the message had arrived, bytes.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(messages: &[&[u8]]) -> Vec<u8> {
        let mut stream = Vec::new();
        for message in messages {
            stream.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
            stream.extend_from_slice(message);
        }
        stream
    }

    fn read(stream: &[u8], piece: usize) -> Result<Vec<Vec<u8>>, ChunkError> {
        let mut reader = ChunkReader::new();
        let mut messages = Vec::new();
        for piece in stream.chunks(piece) {
            reader.feed(piece);
            while let Some(message) = reader.next_message()? {
                messages.push(message);
            }
        }
        reader.finish().map(|()| messages)
    }

    #[test]
    fn messages_come_back_from_pieces_of_any_size() {
        let messages: [&[u8]; 4] = [b"one", b"", b"three is longer", b"4"];
        let stream = stream(&messages);
        for piece in 1..=stream.len() {
            assert_eq!(read(&stream, piece).unwrap(), messages, "{piece}");
        }
        assert!(read(&[], 1).unwrap().is_empty());
    }

    #[test]
    fn a_stream_that_ends_early_is_no_whole_one() {
        let whole = stream(&[b"one", b"two"]);
        for cut in 1..whole.len() {
            let read = read(&whole[..cut], 3);
            match cut == 7 {
                true => assert_eq!(read.unwrap(), [b"one"], "between two messages"),
                false => assert!(matches!(read, Err(ChunkError::Truncated { .. })), "{cut}"),
            }
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_at_once() {
        let bytes = CHUNK_BYTES_MAX + 1;
        let mut reader = ChunkReader::new();
        reader.feed(&u32::try_from(bytes).unwrap().to_be_bytes());
        assert_eq!(reader.next_message(), Err(ChunkError::TooLarge { bytes }));
        let mut reader = ChunkReader::new();
        reader.feed(&u32::try_from(CHUNK_BYTES_MAX).unwrap().to_be_bytes());
        assert_eq!(reader.next_message(), Ok(None), "exactly the limit passes");
    }

    #[test]
    fn what_was_taken_is_not_kept() {
        let mut reader = ChunkReader::new();
        for _ in 0..100 {
            reader.feed(&stream(&[&[7; 1_000]]));
            assert_eq!(reader.next_message().unwrap().unwrap().len(), 1_000);
        }
        assert!(reader.fed.capacity() < 10_000, "{}", reader.fed.capacity());
    }
}
