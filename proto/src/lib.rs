//! **The agreement**: everything that a LakeSync client and gateway must do alike, and nothing else.
//!
//! Pure and synchronous: no I/O, no async, no clock is read here; time is an argument. Everybody imports this crate, so
//! it imports nobody.
//!
//! ```text
//!   a write                    on the wire                     in every store
//!
//!  HlcClock ──┐             ┌► encode_push_json      ┐        ┌► RowState::apply   by row, any order
//!             ├► RowDelta ──┤                        ├► Push ─┤        │
//!  Value ─────┘   │         └► encode_push_protobuf  ┘        │        ▼ exists, visible
//!  (ColumnType)   │                    decode_push_… ▲        └► fold_row          into a base without clocks
//!                 └ DeltaId = SHA-256     verify_delta┘
//!                   of the canonical text   TableSchema::check, DeltaId
//! ```
//!
//! | to … | see |
//! |---|---|
//! | stamp a write, learn from a stamp | [`HlcClock`], [`Hlc`], [`WallClock`] |
//! | name things | [`TableName`], [`ColumnName`], [`RowId`], [`ClientId`], [`GatewayId`], [`DeltaId`], [`Epoch`] |
//! | count arrivals | [`Seq`], the only cursor |
//! | hold a value with its type | [`Value`], [`ColumnType`], [`Decimal`] |
//! | describe and change a table | [`TableDefinition`], [`TableSchema`], [`Evolution`], [`PartitionField`], [`SortField`] |
//! | make a row id from a key, and back | [`row_id_of`], [`TableSchema::key_values`] |
//! | check what came from outside | [`verify_delta`], [`limits`] |
//! | merge, and take a merged row apart again | [`RowState`], [`Stamp`], [`fold_row`], [`row_deltas`] |
//! | talk | [`Push`], [`PushAck`], [`PullPage`], the `encode_` and `decode_` functions, [`wire`] |
//! | ask for something to be done | [`ActionPush`], [`Action`], [`ActionAnswer`] |
//! | carry a checkpoint | [`row_deltas`], [`encode_chunk`], [`ChunkReader`] |
//! | talk over a WebSocket | [`ClientFrame`], [`ServerFrame`] |
//!
//! **Invariants.** Merging is commutative, associative and idempotent. A delta id names one content. A value reads back
//! as it was written. Decoding never panics. All of them are properties in this crate's tests.
//!
//! Two clients edit one row offline; whatever order the gateway sees them in, the result is one:
//!
//! ```
//! use lakesync_proto::{
//!     ClientId, ColumnChange, ColumnName, DeltaKey, HlcClock, Op, Push, RowDelta, RowId, RowState, Seq,
//!     TableDefinition, TableName, TableSchema, Value, decode_push_json, encode_push_json, verify_delta,
//! };
//! use std::{collections::BTreeMap, sync::Arc};
//!
//! let body = br#"{"table":"todos","columns":[{"name":"title","type":"string"},{"name":"done","type":"boolean"}]}"#;
//! let schema = Arc::new(TableSchema::from_definition(&TableDefinition::from_json(body)?)?);
//! let schemas = BTreeMap::from([(schema.table.clone(), Arc::clone(&schema))]);
//!
//! let write = |client: &str, wall_ms: u64, column: &str, value: Value| {
//!     let key = DeltaKey {
//!         table: TableName::parse("todos")?,
//!         row_id: RowId::parse("row-1")?,
//!         client_id: ClientId::parse(client)?,
//!         hlc: HlcClock::new().now(wall_ms)?,
//!     };
//!     let change = ColumnChange { column: ColumnName::parse(column)?, value };
//!     Ok::<_, Box<dyn std::error::Error>>(RowDelta::new(Op::Update, key, vec![change]))
//! };
//! let title = write("ada", 1_000, "title", Value::from("Buy milk"))?;
//! let later = write("ben", 2_000, "title", Value::from("Buy oat milk"))?;
//! let done = write("ada", 1_500, "done", Value::from(true))?;
//!
//! // Over the wire and back.
//! let client_id = ClientId::parse("ada")?;
//! let push = Push { client_id, deltas: vec![title, done], last_seen: Seq::ZERO, schemas: None };
//! let received = decode_push_json(&encode_push_json(&push), &schemas)?;
//! assert_eq!(received, push);
//!
//! let mut row = RowState::default();
//! for delta in received.deltas.iter().chain([&later]).rev() {
//!     verify_delta(delta, &schema)?;
//!     row.apply(delta);
//! }
//! assert_eq!(row.visible(&ColumnName::parse("title")?), Some(&Value::from("Buy oat milk")));
//! assert_eq!(row.visible(&ColumnName::parse("done")?), Some(&Value::Boolean(true)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod action;
mod calendar;
mod canonical;
mod check;
mod checksum;
mod claims;
mod clock;
mod codec;
mod column_type;
pub mod columns;
mod cursor;
mod decimal;
mod definition;
mod delta;
mod delta_id;
mod digest;
mod error;
mod evolve;
mod fold;
mod hex;
mod hlc;
mod id;
mod key;
mod layout;
mod layout_error;
pub mod limits;
mod merge;
mod message;
mod number;
mod row_deltas;
mod row_id;
mod schema;
mod seq;
mod value;
mod value_read;

pub use action::{
    Action, ActionAnswer, ActionContent, ActionError, ActionId, ActionOutcome, ActionPush, JsonText,
};
pub use check::{CheckError, DeltaError, verify_delta};
pub use checksum::{page_checksum, schemas_hash};
pub use claims::{ClaimValue, Claims};
pub use clock::{HlcClock, ManualClock, WallClock, check_drift};
pub use codec::generated as wire;
pub use codec::{ChunkError, ChunkReader, decode_chunk, encode_chunk};
pub use codec::{
    ClientBody, ClientFrame, FRAME_BROADCAST, FRAME_NATIVE, FRAME_PULL, FRAME_PUSH, FrameError,
    PageFrame, ServerBody, ServerFrame, decode_client_frame, decode_server_frame, encode_broadcast,
    encode_client_frame, encode_page_frame, encode_server_frame,
};
pub use codec::{
    DecodeError, DecodeErrorKind, Schemas, ack_message, decode_ack_json, decode_ack_message,
    decode_ack_protobuf, decode_batch, decode_page_json, decode_page_message, decode_page_protobuf,
    decode_push_json, decode_push_message, decode_push_protobuf, encode_ack_json,
    encode_ack_protobuf, encode_batch, encode_page_json, encode_page_protobuf, encode_push_json,
    encode_push_protobuf, page_message, push_message,
};
pub use codec::{
    decode_action_answer_json, decode_action_answer_protobuf, decode_actions_json,
    decode_actions_protobuf, encode_action_answer_json, encode_action_answer_protobuf,
    encode_actions_json, encode_actions_protobuf,
};
pub use column_type::{ColumnType, ColumnTypeError};
pub use cursor::{Cursor, CursorError};
pub use decimal::Decimal;
pub use definition::{ColumnDefinition, TableDefinition};
pub use delta::{ColumnChange, DeltaKey, Op, RowDelta};
pub use delta_id::DeltaId;
pub use digest::cell_digest;
pub use error::ErrorCode;
pub use evolve::{Evolution, SchemaChange};
pub use fold::{Folded, InBase, RowFold, Source, fold_row};
pub use hlc::{Hlc, HlcError};
pub use id::{ClientId, ColumnName, Epoch, GatewayId, IdError, RowId, TableName};
pub use layout::{NullOrder, PartitionField, PartitionTransform, SortDirection, SortField};
pub use layout_error::LayoutError;
pub use merge::{Cell, RowState, Stamp};
pub use message::{Notes, Outcome, PullPage, Push, PushAck, Removed, SchemaNote, SeqDelta};
pub use row_deltas::row_deltas;
pub use row_id::{RowIdError, row_id_of};
pub use schema::{Column, SchemaError, TableSchema};
pub use seq::Seq;
pub use value::Value;
pub use value_read::ValueError;
