//! What a client asks for and what it is told.
//!
//! **Invariant:** an action id is the hash of what is asked, by whom and when.

use lakesync_proto::{ClientId, Hlc};
use serde_json::Value as Json;

/// One command.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// The hash of its content.
    pub action_id: String,
    /// Who asks.
    pub client_id: ClientId,
    /// When.
    pub hlc: Hlc,
    /// Which connector.
    pub connector: String,
    /// What to do.
    pub action_type: String,
    /// With what.
    pub params: Json,
    /// The client's own name for it: another action of the same client with the same one is the same.
    pub idempotency_key: Option<String>,
}

/// The commands of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionPush {
    /// Who asks.
    pub client_id: ClientId,
    /// The commands, in the order in which they are carried out.
    pub actions: Vec<Action>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum ActionOutcome {
    /// It was carried out, or it is queued: then `data` is `{"status":"queued"}`.
    Done {
        /// What the webhook answered.
        data: Json,
    },
    /// It was not.
    Failed {
        /// The kind of failure.
        code: String,
        /// The failure in words.
        message: String,
        /// Whether the same request may succeed later.
        retryable: bool,
    },
}
