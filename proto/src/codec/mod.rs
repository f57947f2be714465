//! The wire: domain messages to bytes and back, as JSON and as protobuf.
//!
//! Invariant: decoding never panics and takes memory in proportion to the bytes it is given; what it refuses it names
//! by delta, table, row and field. Values are read by the table's schema and never rewritten.

mod action_json;
mod action_protobuf;
mod chunk;
mod error;
mod fields;
mod frame;
/// The protobuf messages of `proto/lakesync.proto` as prost structs, generated and committed.
#[rustfmt::skip]
pub mod generated;
mod json_body;
mod json_notes;
mod json_read;
mod json_shape;
mod json_write;
mod protobuf;
mod protobuf_answer;
mod protobuf_write;
mod resolve;

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;

pub use action_json::{
    decode_action_answer_json, decode_actions_json, encode_action_answer_json, encode_actions_json,
};
pub use action_protobuf::{
    decode_action_answer_protobuf, decode_actions_protobuf, encode_action_answer_protobuf,
    encode_actions_protobuf,
};
pub use chunk::{ChunkError, ChunkReader, decode_chunk, encode_chunk};
pub use error::{DecodeError, DecodeErrorKind};
pub use frame::{
    ClientBody, ClientFrame, FRAME_BROADCAST, FRAME_NATIVE, FRAME_PULL, FRAME_PUSH, FrameError,
    PageFrame, ServerBody, ServerFrame, decode_client_frame, decode_server_frame, encode_broadcast,
    encode_client_frame, encode_page_frame, encode_server_frame,
};
pub use json_read::{decode_ack_json, decode_page_json, decode_push_json};
pub use json_write::{encode_ack_json, encode_page_json, encode_push_json};
pub use protobuf::{
    decode_batch, decode_push_message, decode_push_protobuf, encode_batch, encode_push_protobuf,
    push_message,
};
pub use protobuf_answer::{
    ack_message, decode_ack_message, decode_ack_protobuf, decode_page_message,
    decode_page_protobuf, encode_ack_protobuf, encode_page_protobuf, page_message,
};

use crate::id::TableName;
use crate::schema::TableSchema;

/// Who knows the tables' schemas: decoding needs them to type values.
pub trait Schemas {
    /// The table's schema, if there is such a table.
    fn schema(&self, table: &TableName) -> Option<Arc<TableSchema>>;
}

impl Schemas for BTreeMap<TableName, Arc<TableSchema>> {
    fn schema(&self, table: &TableName) -> Option<Arc<TableSchema>> {
        self.get(table).map(Arc::clone)
    }
}

impl<S: BuildHasher> Schemas for HashMap<TableName, Arc<TableSchema>, S> {
    fn schema(&self, table: &TableName) -> Option<Arc<TableSchema>> {
        self.get(table).map(Arc::clone)
    }
}
