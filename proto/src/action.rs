//! Actions: what a client asks the world behind the gateway to do, such as opening a ticket.
//!
//! Invariant: an action id names one content: the SHA-256 of one line of JSON with sorted keys and no spaces,
//!
//! ```text
//! {"actionType":…,"clientId":…,"connector":…,"hlc":"…","params":{…}}
//! ```
//!
//! so an action that is sent again is recognised by its id. The idempotency key is not hashed: it names the effect, and
//! two actions may have the same one.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::canonical::{write_canonical_json, write_string};
use crate::error::ErrorCode;
use crate::hex;
use crate::hlc::Hlc;
use crate::id::{ClientId, IdError};
use crate::limits::{ACTION_PARAMS_BYTES_MAX, ACTION_TEXT_BYTES_MAX};
use crate::seq::Seq;
use crate::value::Value;
use crate::value_read::ValueError;

/// The id of an action. Its text is 64 lower-case hexadecimal digits.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionId([u8; 32]);

impl ActionId {
    /// Takes the 32 bytes of a hash.
    pub fn from_bytes(bytes: [u8; 32]) -> ActionId {
        ActionId(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`IdError`] on anything else.
    pub fn parse(text: &str) -> Result<ActionId, IdError> {
        let refused = || IdError::new("action id", text, "64 hexadecimal digits are needed");
        hex::parse(text).map(ActionId).ok_or_else(refused)
    }
}

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(64);
        hex::write(&self.0, &mut text);
        f.write_str(&text)
    }
}

impl fmt::Debug for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActionId({self})")
    }
}

/// Any JSON value as text in the normal form of [`Value::json`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JsonText(String);

impl JsonText {
    /// Takes any JSON text and puts it into normal form.
    ///
    /// # Errors
    /// [`ValueError`] when it is no JSON, nested too deep, or too large.
    pub fn parse(text: &str) -> Result<JsonText, ValueError> {
        Ok(match Value::json(text)? {
            Value::Json(text) => JsonText(text),
            _ => JsonText("null".to_owned()),
        })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the value is an object.
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }
}

/// What an action does, without its names: what the id hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionContent {
    /// Who asks.
    pub client_id: ClientId,
    /// When.
    pub hlc: Hlc,
    /// Which connector is asked: 1 to [`ACTION_TEXT_BYTES_MAX`] bytes without control characters.
    pub connector: String,
    /// What it shall do: text of the same kind.
    pub action_type: String,
    /// With what: an object of at most [`ACTION_PARAMS_BYTES_MAX`] bytes.
    pub params: JsonText,
}

/// One action, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// The hash of the content.
    pub action_id: ActionId,
    /// The content.
    pub content: ActionContent,
    /// Names the effect, if the client gave it a name: an effect that has been brought about is not repeated.
    pub idempotency_key: Option<String>,
}

impl Action {
    /// An action with its id computed. An empty idempotency key is none.
    ///
    /// # Errors
    /// [`ActionError`] when a text is missing, too long or has control characters, or `params` is no object or too
    /// large.
    pub fn new(
        content: ActionContent,
        idempotency_key: Option<&str>,
    ) -> Result<Action, ActionError> {
        check_text("connector", &content.connector)?;
        check_text("actionType", &content.action_type)?;
        let key = idempotency_key.filter(|key| !key.is_empty());
        key.map_or(Ok(()), |key| check_text("idempotencyKey", key))?;
        let bytes = content.params.as_str().len();
        if !content.params.is_object() {
            return Err(ActionError::ParamsNoObject);
        }
        if bytes > ACTION_PARAMS_BYTES_MAX {
            return Err(ActionError::ParamsTooLarge { bytes });
        }
        Ok(Action {
            action_id: content.id(),
            content,
            idempotency_key: key.map(str::to_owned),
        })
    }

    /// The same, and the id must be `given`.
    ///
    /// # Errors
    /// [`ActionError`] as [`Action::new`], and [`ActionError::IdMismatch`].
    pub fn verified(
        given: ActionId,
        content: ActionContent,
        idempotency_key: Option<&str>,
    ) -> Result<Action, ActionError> {
        let action = Action::new(content, idempotency_key)?;
        let computed = action.action_id;
        match computed == given {
            true => Ok(action),
            false => Err(ActionError::IdMismatch { given, computed }),
        }
    }
}

impl ActionContent {
    fn id(&self) -> ActionId {
        let mut text = String::with_capacity(192 + self.params.as_str().len());
        text.push_str("{\"actionType\":");
        write_string(&self.action_type, &mut text);
        text.push_str(",\"clientId\":");
        write_string(self.client_id.as_str(), &mut text);
        text.push_str(",\"connector\":");
        write_string(&self.connector, &mut text);
        text.push_str(",\"hlc\":\"");
        text.push_str(&self.hlc.to_string());
        text.push_str("\",\"params\":");
        write_canonical_json(self.params.as_str(), &mut text);
        text.push('}');
        ActionId(Sha256::digest(text).into())
    }
}

fn check_text(field: &'static str, text: &str) -> Result<(), ActionError> {
    let bytes = text.len();
    let legal = (1..=ACTION_TEXT_BYTES_MAX).contains(&bytes) && !text.chars().any(char::is_control);
    match legal {
        true => Ok(()),
        false => Err(ActionError::Text { field, bytes }),
    }
}

/// A client's actions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionPush {
    /// Who asks.
    pub client_id: ClientId,
    /// The actions, in the client's order, at most [`ACTIONS_MAX`](crate::limits::ACTIONS_MAX).
    pub actions: Vec<Action>,
}

/// What became of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActionOutcome {
    /// It was done, or is accepted and will be.
    Done {
        /// What came back.
        data: JsonText,
    },
    /// It was not done.
    Failed {
        /// The kind of failure, a stable word such as `ACTION_NOT_SUPPORTED`.
        code: String,
        /// The failure in words.
        message: String,
        /// Whether the client may send it again.
        retryable: bool,
    },
}

/// The gateway's answer to a client's actions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionAnswer {
    /// One outcome an action, in the push's order.
    pub results: Vec<(ActionId, ActionOutcome)>,
    /// The cursor that the wire calls `serverHlc`.
    pub cursor: Seq,
}

/// Why an action was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// A text is missing, too long, or has control characters.
    #[error(
        "{field} has {bytes} bytes: it must be a non-empty text of at most {ACTION_TEXT_BYTES_MAX} bytes without \
         control characters"
    )]
    Text {
        /// Which text.
        field: &'static str,
        /// Its length, bytes.
        bytes: usize,
    },
    /// The params are no object.
    #[error("params must be an object")]
    ParamsNoObject,
    /// The params are too large.
    #[error("params have {bytes} bytes, {ACTION_PARAMS_BYTES_MAX} are allowed")]
    ParamsTooLarge {
        /// Their size, bytes.
        bytes: usize,
    },
    /// The id is not the hash of the content.
    #[error("the action id is {given}, but the content hashes to {computed}")]
    IdMismatch {
        /// What the sender claims.
        given: ActionId,
        /// What it is.
        computed: ActionId,
    },
}

impl ActionError {
    /// The wire code of this refusal.
    pub fn code(&self) -> ErrorCode {
        ErrorCode::ValidationError
    }

    /// The failing field.
    pub fn field(&self) -> &'static str {
        match self {
            ActionError::Text { field, .. } => field,
            ActionError::ParamsNoObject | ActionError::ParamsTooLarge { .. } => "params",
            ActionError::IdMismatch { .. } => "actionId",
        }
    }
}
