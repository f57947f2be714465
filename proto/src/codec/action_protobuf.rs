//! Actions and their answers as protobuf: the messages of `proto/lakesync.proto`.
//!
//! Invariant: an action that was read has the id of its content.

use prost::Message;

use crate::action::{
    Action, ActionAnswer, ActionContent, ActionId, ActionOutcome, ActionPush, JsonText,
};
use crate::codec::error::{DecodeError, Fault};
use crate::codec::generated as wire;
use crate::codec::generated::action_response_entry::Result as Entry;
use crate::codec::protobuf::{check_list, no_message};
use crate::hlc::Hlc;
use crate::id::ClientId;
use crate::limits::ACTIONS_MAX;
use crate::seq::Seq;

/// Writes a client's actions.
pub fn encode_actions_protobuf(push: &ActionPush) -> Vec<u8> {
    let action = |action: &Action| wire::Action {
        action_id: action.action_id.to_string(),
        client_id: action.content.client_id.to_string(),
        hlc: action.content.hlc.as_u64(),
        connector: action.content.connector.clone(),
        action_type: action.content.action_type.clone(),
        params: action.content.params.as_str().as_bytes().to_vec(),
        idempotency_key: action.idempotency_key.clone().unwrap_or_default(),
    };
    let message = wire::ActionPush {
        client_id: push.client_id.to_string(),
        actions: push.actions.iter().map(action).collect(),
    };
    message.encode_to_vec()
}

/// Reads a client's actions; each is checked, its id too.
///
/// # Errors
/// [`DecodeError`] by kind; its index is the action's.
pub fn decode_actions_protobuf(body: &[u8]) -> Result<ActionPush, DecodeError> {
    check_list(body, 2, "actions", ACTIONS_MAX)?;
    let message = wire::ActionPush::decode(body).map_err(no_message)?;
    let client_id = client(&message.client_id)?;
    let actions = message.actions.into_iter().enumerate();
    let actions =
        actions.map(|(index, action)| read_action(action).map_err(|fault| fault.in_action(index)));
    Ok(ActionPush {
        client_id,
        actions: actions.collect::<Result<_, _>>()?,
    })
}

fn read_action(message: wire::Action) -> Result<Action, Fault> {
    let given = action_id(&message.action_id)?;
    let content = ActionContent {
        client_id: client(&message.client_id)?,
        hlc: Hlc::from_u64(message.hlc).map_err(|e| Fault::bad("hlc", e.to_string()))?,
        connector: message.connector,
        action_type: message.action_type,
        params: json_text(&message.params, "params")?,
    };
    Action::verified(given, content, Some(&message.idempotency_key))
        .map_err(|e| Fault::bad(e.field(), e.to_string()))
}

fn client(text: &str) -> Result<ClientId, Fault> {
    if text.is_empty() {
        return Err(Fault::missing("clientId"));
    }
    ClientId::parse(text).map_err(|e| Fault::bad("clientId", e.to_string()))
}

fn action_id(text: &str) -> Result<ActionId, Fault> {
    if text.is_empty() {
        return Err(Fault::missing("actionId"));
    }
    ActionId::parse(text).map_err(|e| Fault::bad("actionId", e.to_string()))
}

fn json_text(bytes: &[u8], field: &str) -> Result<JsonText, Fault> {
    if bytes.is_empty() {
        return Err(Fault::missing(field));
    }
    let text = str::from_utf8(bytes).map_err(|e| Fault::bad(field, e.to_string()))?;
    JsonText::parse(text).map_err(|e| Fault::bad(field, e.to_string()))
}

/// Writes the answer to a client's actions.
pub fn encode_action_answer_protobuf(answer: &ActionAnswer) -> Vec<u8> {
    let server_hlc = answer.cursor.as_u64();
    let entry = |(action_id, outcome): &(ActionId, ActionOutcome)| {
        let action_id = action_id.to_string();
        let result = match outcome {
            ActionOutcome::Done { data } => Entry::Success(wire::ActionResultMsg {
                action_id,
                data: data.as_str().as_bytes().to_vec(),
                server_hlc,
            }),
            ActionOutcome::Failed {
                code,
                message,
                retryable,
            } => Entry::Error(wire::ActionErrorMsg {
                action_id,
                code: code.clone(),
                message: message.clone(),
                retryable: *retryable,
            }),
        };
        let result = Some(result);
        wire::ActionResponseEntry { result }
    };
    let message = wire::ActionResponse {
        results: answer.results.iter().map(entry).collect(),
        server_hlc,
    };
    message.encode_to_vec()
}

/// Reads the answer to a client's actions.
///
/// # Errors
/// [`DecodeError`] by kind; its index is the action's.
pub fn decode_action_answer_protobuf(body: &[u8]) -> Result<ActionAnswer, DecodeError> {
    check_list(body, 1, "results", ACTIONS_MAX)?;
    let message = wire::ActionResponse::decode(body).map_err(no_message)?;
    let cursor =
        Seq::from_u64(message.server_hlc).map_err(|e| Fault::bad("serverHlc", e.to_string()))?;
    let entries = message.results.into_iter().enumerate();
    let results =
        entries.map(|(index, entry)| read_entry(entry).map_err(|fault| fault.in_action(index)));
    Ok(ActionAnswer {
        results: results.collect::<Result<_, _>>()?,
        cursor,
    })
}

fn read_entry(entry: wire::ActionResponseEntry) -> Result<(ActionId, ActionOutcome), Fault> {
    match entry.result {
        None => Err(Fault::missing("result")),
        Some(Entry::Success(success)) => {
            let data = json_text(&success.data, "data")?;
            Ok((action_id(&success.action_id)?, ActionOutcome::Done { data }))
        }
        Some(Entry::Error(error)) => {
            let outcome = ActionOutcome::Failed {
                code: error.code,
                message: error.message,
                retryable: error.retryable,
            };
            Ok((action_id(&error.action_id)?, outcome))
        }
    }
}
