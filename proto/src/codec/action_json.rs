//! Actions and their answers as JSON.
//!
//! ```text
//! {"clientId","actions":[{"actionId","clientId","hlc","connector","actionType","params":{…},"idempotencyKey"?}…]}
//! {"results":[{"actionId","data","serverHlc"} or {"actionId","code","message","retryable"}…],"serverHlc"}
//! ```
//! Invariant: an action that was read has the id of its content.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::action::{
    Action, ActionAnswer, ActionContent, ActionId, ActionOutcome, ActionPush, JsonText,
};
use crate::canonical::write_string;
use crate::codec::error::{DecodeError, Fault};
use crate::codec::json_body::{Body, Raw};
use crate::codec::json_write::{separate, write_seq};
use crate::hlc::Hlc;
use crate::id::ClientId;
use crate::limits::ACTIONS_MAX;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePush<'b> {
    #[serde(borrow)]
    client_id: Raw<'b>,
    #[serde(borrow)]
    actions: Raw<'b>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAction<'b> {
    #[serde(borrow)]
    action_id: Raw<'b>,
    #[serde(borrow)]
    client_id: Raw<'b>,
    #[serde(borrow)]
    hlc: Raw<'b>,
    #[serde(borrow)]
    connector: Raw<'b>,
    #[serde(borrow)]
    action_type: Raw<'b>,
    #[serde(borrow)]
    params: Raw<'b>,
    #[serde(borrow)]
    idempotency_key: Raw<'b>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAnswer<'b> {
    #[serde(borrow)]
    results: Raw<'b>,
    #[serde(borrow)]
    server_hlc: Raw<'b>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireResult<'b> {
    #[serde(borrow)]
    action_id: Raw<'b>,
    #[serde(borrow)]
    data: Raw<'b>,
    #[serde(borrow)]
    code: Raw<'b>,
    #[serde(borrow)]
    message: Raw<'b>,
    #[serde(borrow)]
    retryable: Raw<'b>,
}

/// Writes a client's actions.
pub fn encode_actions_json(push: &ActionPush) -> Vec<u8> {
    let mut out = String::from("{\"clientId\":");
    write_string(push.client_id.as_str(), &mut out);
    out.push_str(",\"actions\":[");
    for (i, action) in push.actions.iter().enumerate() {
        separate(i, &mut out);
        write_action(action, &mut out);
    }
    out.push_str("]}");
    out.into_bytes()
}

fn write_action(action: &Action, out: &mut String) {
    let content = &action.content;
    out.push_str(&format!(
        "{{\"actionId\":\"{}\",\"clientId\":",
        action.action_id
    ));
    write_string(content.client_id.as_str(), out);
    out.push_str(&format!(",\"hlc\":\"{}\",\"connector\":", content.hlc));
    write_string(&content.connector, out);
    out.push_str(",\"actionType\":");
    write_string(&content.action_type, out);
    out.push_str(",\"params\":");
    out.push_str(content.params.as_str());
    if let Some(key) = &action.idempotency_key {
        out.push_str(",\"idempotencyKey\":");
        write_string(key, out);
    }
    out.push('}');
}

/// Reads a client's actions; each is checked, its id too.
///
/// # Errors
/// [`DecodeError`] by kind, with the place; its index is the action's.
pub fn decode_actions_json(body: &[u8]) -> Result<ActionPush, DecodeError> {
    let body = Body::new(body)?;
    let wire: WirePush<'_> = body.object(body.root()?, "body")?;
    let client_id = client(&body, wire.client_id)?;
    let mut actions = Vec::new();
    let list = body.list(wire.actions, "actions", ACTIONS_MAX)?;
    for (index, raw) in list.into_iter().enumerate() {
        let action = read_action(&body, raw).map_err(|fault| fault.or_at(body.at(Some(raw))));
        actions.push(action.map_err(|fault| fault.in_action(index))?);
    }
    Ok(ActionPush { client_id, actions })
}

fn read_action<'b>(body: &Body<'b>, raw: &'b RawValue) -> Result<Action, Fault> {
    let wire: WireAction<'b> = body.object(raw, "actions")?;
    let given = action_id(body, wire.action_id)?;
    let client_id = client(body, wire.client_id)?;
    let hlc = Hlc::from_u64(body.integer(wire.hlc, "hlc")?)
        .map_err(|e| Fault::bad("hlc", e.to_string()).or_at(body.at(wire.hlc)))?;
    let connector = body.string(wire.connector, "connector")?.into_owned();
    let action_type = body.string(wire.action_type, "actionType")?.into_owned();
    let params = json_text(body, wire.params, "params")?;
    let key: Option<Cow<'_, str>> = match wire.idempotency_key {
        Some(_) => Some(body.string(wire.idempotency_key, "idempotencyKey")?),
        None => None,
    };
    let content = ActionContent {
        client_id,
        hlc,
        connector,
        action_type,
        params,
    };
    Action::verified(given, content, key.as_deref())
        .map_err(|e| Fault::bad(e.field(), e.to_string()))
}

fn client<'b>(body: &Body<'b>, raw: Raw<'b>) -> Result<ClientId, Fault> {
    ClientId::parse(&body.string(raw, "clientId")?)
        .map_err(|e| Fault::bad("clientId", e.to_string()).or_at(body.at(raw)))
}

fn action_id<'b>(body: &Body<'b>, raw: Raw<'b>) -> Result<ActionId, Fault> {
    ActionId::parse(&body.string(raw, "actionId")?)
        .map_err(|e| Fault::bad("actionId", e.to_string()).or_at(body.at(raw)))
}

fn json_text<'b>(body: &Body<'b>, raw: Raw<'b>, field: &str) -> Result<JsonText, Fault> {
    let value = raw.ok_or_else(|| Fault::missing(field))?;
    JsonText::parse(value.get()).map_err(|e| Fault::bad(field, e.to_string()).or_at(body.at(raw)))
}

/// Writes the answer to a client's actions.
pub fn encode_action_answer_json(answer: &ActionAnswer) -> Vec<u8> {
    let mut out = String::from("{\"results\":[");
    for (i, (action_id, outcome)) in answer.results.iter().enumerate() {
        separate(i, &mut out);
        out.push_str(&format!("{{\"actionId\":\"{action_id}\""));
        match outcome {
            ActionOutcome::Done { data } => {
                out.push_str(",\"data\":");
                out.push_str(data.as_str());
                out.push_str(",\"serverHlc\":");
                write_seq(answer.cursor, &mut out);
            }
            ActionOutcome::Failed {
                code,
                message,
                retryable,
            } => {
                out.push_str(",\"code\":");
                write_string(code, &mut out);
                out.push_str(",\"message\":");
                write_string(message, &mut out);
                out.push_str(&format!(",\"retryable\":{retryable}"));
            }
        }
        out.push('}');
    }
    out.push_str("],\"serverHlc\":");
    write_seq(answer.cursor, &mut out);
    out.push('}');
    out.into_bytes()
}

/// Reads the answer to a client's actions.
///
/// # Errors
/// [`DecodeError`] by kind, with the place; its index is the action's.
pub fn decode_action_answer_json(body: &[u8]) -> Result<ActionAnswer, DecodeError> {
    let body = Body::new(body)?;
    let wire: WireAnswer<'_> = body.object(body.root()?, "body")?;
    let cursor = body.seq(wire.server_hlc, "serverHlc")?;
    let mut results = Vec::new();
    let list = body.list(wire.results, "results", ACTIONS_MAX)?;
    for (index, raw) in list.into_iter().enumerate() {
        results.push(read_result(&body, raw).map_err(|fault| fault.in_action(index))?);
    }
    Ok(ActionAnswer { results, cursor })
}

fn read_result<'b>(body: &Body<'b>, raw: &'b RawValue) -> Result<(ActionId, ActionOutcome), Fault> {
    let wire: WireResult<'b> = body.object(raw, "results")?;
    let outcome = match wire.code {
        Some(_) => ActionOutcome::Failed {
            code: body.string(wire.code, "code")?.into_owned(),
            message: body.string(wire.message, "message")?.into_owned(),
            retryable: body.boolean(wire.retryable, "retryable")?,
        },
        // Null and a missing key are one: a connector that had nothing to say.
        None => ActionOutcome::Done {
            data: json_text(body, wire.data.or(Some(RawValue::NULL)), "data")?,
        },
    };
    Ok((action_id(body, wire.action_id)?, outcome))
}
