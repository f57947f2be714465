//! WebSocket messages.
//!
//! ```text
//! client → gateway     01 SyncPush      02 SyncPull                         10 Frame
//! gateway → client     SyncResponse (an answer, without a tag)   03 SyncResponse (a broadcast)     10 Frame
//! ```
//! Legacy messages are a tag byte and a protobuf message; their answers have no tag and no request id, so there is one
//! request at a time. A protobuf message cannot begin with 03 (there is no field 0) and a `SyncResponse` not with 10
//! (field 2 is no varint), so the three kinds from the gateway cannot be confused.
//!
//! Invariant: the lists of a message are counted before any is built, inside a frame too. A frame has exactly one body:
//! protobuf would merge a second one into the first, past the count.

use prost::Message;

use crate::codec::error::{DecodeError, Fault};
use crate::codec::fields::each_field;
use crate::codec::generated as wire;
use crate::codec::generated::frame::Body;
use crate::codec::protobuf::{check_push, no_message};
use crate::codec::protobuf_answer::{check_answer, encode_page_protobuf};
use crate::codec::protobuf_write::{write_message, write_varint};
use crate::limits::PULL_MAX;
use crate::message::PullPage;

/// The tag of a legacy push.
pub const FRAME_PUSH: u8 = 0x01;
/// The tag of a legacy pull.
pub const FRAME_PULL: u8 = 0x02;
/// The tag of a legacy broadcast.
pub const FRAME_BROADCAST: u8 = 0x03;
/// The tag of a native message, in both directions.
pub const FRAME_NATIVE: u8 = 0x10;

/// The frame's field of a push.
const PUSH: u32 = 2;
/// The frame's field of an answer.
const ANSWER: u32 = 16;
/// The frame's field of a subscription's page.
const LIVE: u32 = 17;

/// The field numbers of a frame's body, the ones that are still free among them.
const BODY_FIELDS: std::ops::RangeInclusive<u64> = 2..=31;

/// What a client says.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientFrame<'a> {
    /// A push without a request id: the bytes of a `SyncPush`, for
    /// [`decode_push_protobuf`](crate::decode_push_protobuf).
    LegacyPush(&'a [u8]),
    /// A pull without a request id.
    LegacyPull(wire::SyncPull),
    /// A native request.
    Native {
        /// The client's number; its answer repeats it.
        request_id: u64,
        /// What it wants.
        body: ClientBody,
    },
}

/// What a native request wants.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientBody {
    /// To push; [`decode_push_message`](crate::decode_push_message) reads it, its lists are counted.
    Push(wire::SyncPush),
    /// To pull.
    Pull(wire::SyncPull),
    /// To be sent everything new as it comes.
    Subscribe {
        /// Where to go on, in the native form; empty is the beginning, none is now.
        cursor: Option<String>,
    },
    /// To know that the gateway is there.
    Ping,
}

/// What a gateway says.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerFrame {
    /// The answer to a legacy request.
    LegacyAnswer(wire::SyncResponse),
    /// A broadcast to legacy clients.
    LegacyBroadcast(wire::SyncResponse),
    /// A native message.
    Native {
        /// The number of the request that it answers; 0 for what nobody asked for.
        request_id: u64,
        /// What it says.
        body: ServerBody,
    },
}

/// What a native message of the gateway says.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerBody {
    /// The answer to a push or a pull.
    Answer(wire::SyncResponse),
    /// A page that a subscription brings.
    Live(wire::SyncResponse),
    /// The request was refused.
    Error(wire::ErrorBody),
    /// The answer to a ping.
    Pong,
    /// The token ends soon.
    Expiring {
        /// In how many seconds.
        seconds: u32,
    },
}

/// Reads what a client says.
///
/// # Errors
/// [`FrameError`]; [`FrameError::close_code`] tells how to close.
pub fn decode_client_frame(message: &[u8]) -> Result<ClientFrame<'_>, FrameError> {
    let (tag, payload) = parts(message)?;
    match tag {
        FRAME_PUSH => Ok(ClientFrame::LegacyPush(payload)),
        FRAME_PULL => {
            let pull = wire::SyncPull::decode(payload).map_err(undecodable)?;
            Ok(ClientFrame::LegacyPull(pull))
        }
        FRAME_NATIVE => {
            let (request_id, body) = native(payload)?;
            let body = match body {
                Body::Push(push) => ClientBody::Push(push),
                Body::Pull(pull) => ClientBody::Pull(pull),
                Body::Subscribe(wire::Subscribe { cursor }) => ClientBody::Subscribe { cursor },
                Body::Ping(_) => ClientBody::Ping,
                _ => return Err(Fault::malformed("this is for clients, not for a gateway").into()),
            };
            Ok(ClientFrame::Native { request_id, body })
        }
        tag => Err(FrameError::UnknownTag { tag }),
    }
}

/// Reads what a gateway says.
///
/// # Errors
/// [`FrameError`].
pub fn decode_server_frame(message: &[u8]) -> Result<ServerFrame, FrameError> {
    let (tag, payload) = parts(message)?;
    match tag {
        FRAME_BROADCAST => answer(payload).map(ServerFrame::LegacyBroadcast),
        FRAME_NATIVE => {
            let (request_id, body) = native(payload)?;
            let body = match body {
                Body::Answer(answer) => ServerBody::Answer(answer),
                Body::Live(page) => ServerBody::Live(page),
                Body::Error(error) => ServerBody::Error(error),
                Body::Pong(_) => ServerBody::Pong,
                Body::Expiring(wire::Expiring { seconds }) => ServerBody::Expiring { seconds },
                _ => return Err(Fault::malformed("this is for gateways, not for a client").into()),
            };
            Ok(ServerFrame::Native { request_id, body })
        }
        _ => answer(message).map(ServerFrame::LegacyAnswer),
    }
}

/// Writes a native request.
pub fn encode_client_frame(request_id: u64, body: ClientBody) -> Vec<u8> {
    encode_native(
        request_id,
        match body {
            ClientBody::Push(push) => Body::Push(push),
            ClientBody::Pull(pull) => Body::Pull(pull),
            ClientBody::Subscribe { cursor } => Body::Subscribe(wire::Subscribe { cursor }),
            ClientBody::Ping => Body::Ping(wire::Ping {}),
        },
    )
}

/// Writes a native message of the gateway. One that several connections share has the request id 0.
pub fn encode_server_frame(request_id: u64, body: ServerBody) -> Vec<u8> {
    encode_native(
        request_id,
        match body {
            ServerBody::Answer(answer) => Body::Answer(answer),
            ServerBody::Live(page) => Body::Live(page),
            ServerBody::Error(error) => Body::Error(error),
            ServerBody::Pong => Body::Pong(wire::Pong {}),
            ServerBody::Expiring { seconds } => Body::Expiring(wire::Expiring { seconds }),
        },
    )
}

/// What a page in a native message is.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub enum PageFrame {
    /// The answer to a pull.
    Answer,
    /// What a subscription brings.
    Live,
}

/// Writes a page as a native message: [`encode_server_frame`] with its [`page_message`](crate::page_message), without
/// building one.
pub fn encode_page_frame(request_id: u64, kind: PageFrame, page: &PullPage) -> Vec<u8> {
    let page = encode_page_protobuf(page);
    let mut out = Vec::with_capacity(page.len() + 32);
    out.push(FRAME_NATIVE);
    write_varint(1, request_id, &mut out);
    let number = match kind {
        PageFrame::Answer => ANSWER,
        PageFrame::Live => LIVE,
    };
    write_message(number, &page, &mut out);
    out
}

/// Writes a broadcast to legacy clients. A legacy answer is
/// [`encode_page_protobuf`](crate::encode_page_protobuf) or [`encode_ack_protobuf`](crate::encode_ack_protobuf) alone.
pub fn encode_broadcast(page: &PullPage) -> Vec<u8> {
    let page = encode_page_protobuf(page);
    [&[FRAME_BROADCAST], page.as_slice()].concat()
}

fn encode_native(request_id: u64, body: Body) -> Vec<u8> {
    let body = Some(body);
    tagged(FRAME_NATIVE, &wire::Frame { request_id, body })
}

fn tagged(tag: u8, message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.push(tag);
    message
        .encode(&mut bytes)
        .expect("a vector grows as far as it must");
    bytes
}

fn parts(message: &[u8]) -> Result<(u8, &[u8]), FrameError> {
    match message {
        [tag, payload @ ..] if !payload.is_empty() => Ok((*tag, payload)),
        _ => Err(FrameError::TooShort {
            bytes: message.len(),
        }),
    }
}

fn answer(bytes: &[u8]) -> Result<wire::SyncResponse, FrameError> {
    check_answer(bytes, PULL_MAX).map_err(DecodeError::from)?;
    wire::SyncResponse::decode(bytes).map_err(undecodable)
}

fn native(payload: &[u8]) -> Result<(u64, Body), FrameError> {
    check_body(payload).map_err(DecodeError::from)?;
    let frame = wire::Frame::decode(payload).map_err(undecodable)?;
    let nothing = || Fault::malformed("the frame says nothing that is known here");
    let body = frame.body.ok_or_else(nothing).map_err(DecodeError::from)?;
    Ok((frame.request_id, body))
}

/// Bounds what a frame holds before it is built.
fn check_body(payload: &[u8]) -> Result<(), Fault> {
    let mut bodies = 0;
    let mut checked = Ok(());
    let read = each_field(payload, |number, bytes| {
        bodies += usize::from(BODY_FIELDS.contains(&number));
        if checked.is_ok() && bodies == 1 {
            checked = match u32::try_from(number).unwrap_or(0) {
                PUSH => check_push(bytes),
                ANSWER | LIVE => check_answer(bytes, PULL_MAX),
                _ => Ok(()),
            };
        }
    });
    match (read, bodies) {
        (None, _) => Err(Fault::malformed("Invalid protobuf: it is no frame")),
        (_, 0 | 1) => checked,
        _ => Err(Fault::malformed("a frame says one thing, not several")),
    }
}

fn undecodable(error: prost::DecodeError) -> FrameError {
    FrameError::Decode(no_message(error).into())
}

/// Why a WebSocket message was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It is no tag and a message.
    #[error("a message has a tag byte and a body; this one has {bytes} bytes")]
    TooShort {
        /// Its length, bytes.
        bytes: usize,
    },
    /// The tag means nothing.
    #[error("unknown message tag {tag:#04x}; 0x01 is a push, 0x02 a pull, 0x10 a native message")]
    UnknownTag {
        /// The tag.
        tag: u8,
    },
    /// The body is no such message, or too much of one.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl From<Fault> for FrameError {
    fn from(fault: Fault) -> FrameError {
        FrameError::Decode(fault.into())
    }
}

impl FrameError {
    /// The WebSocket close code that the contract has for it: 1002 for no message at all, 1008 for a wrong one.
    pub fn close_code(&self) -> u16 {
        match self {
            FrameError::TooShort { .. } | FrameError::UnknownTag { .. } => 1002,
            FrameError::Decode(_) => 1008,
        }
    }
}
