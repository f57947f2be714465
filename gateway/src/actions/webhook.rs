//! One attempt: an HTTP POST to a webhook, and what its answer means.
//!
//! ```text
//! POST <url>                       Content-Type: application/json
//!   Idempotency-Key: the same for every attempt of an action, and for what its client calls the same; a hash that no
//!                    other gateway or client shares
//!   X-LakeSync-Attempt: 1, 2, …
//!   X-LakeSync-Signature: t=<seconds since 1970>,v1=<hex HMAC-SHA256 of "<t>.<body>" by the connector's secret>
//!   {"actionId","gateway","clientId","hlc","connector","actionType","params","idempotencyKey"?}
//! ```
//! **Invariant:** 2xx is done and 4xx is refused, whatever the body says; all else may be tried again. A body that
//! cannot be read never turns what was done into something to repeat.

use std::time::Duration;

use hmac::{Hmac, Mac};
use lakesync_proto::{GatewayId, JsonText};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use ureq::Body;
use ureq::http::Response;

use super::connector::Webhook;
use super::store::Job;
use crate::outbound::{ReadError, read_bounded};

/// Bytes of a webhook's answer that are read: it is stored, and sent to the client.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Characters of a webhook's refusal that are repeated to the client.
const REASON_CHARS_MAX: usize = 500;

/// The longest `Retry-After` that is believed.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// What came of an attempt.
#[derive(Debug, PartialEq)]
pub(super) enum Delivery {
    /// It was carried out.
    Done(JsonText),
    /// The webhook does not want it: trying again would change nothing.
    Refused(String),
    /// It may work later.
    Failed {
        /// What went wrong.
        reason: String,
        /// How long the webhook asks to wait.
        retry_after: Option<Duration>,
    },
}

/// Sends an action. It blocks for the connector's timeout at most.
pub(super) fn deliver(webhook: &Webhook, gateway: &GatewayId, job: &Job, now_s: u64) -> Delivery {
    let connector = &webhook.connector;
    let body = body(gateway, job);
    let mut request = webhook
        .agent
        .post(&connector.url)
        .header("Content-Type", "application/json")
        .header("Accept", "application/json")
        .header("Idempotency-Key", idempotency_key(gateway, job))
        .header("X-LakeSync-Attempt", job.attempts.to_string());
    if let Some(secret) = &connector.secret {
        request = request.header("X-LakeSync-Signature", signature(secret, now_s, &body));
    }
    match request.send(body.as_bytes()) {
        Ok(answer) => outcome(answer),
        Err(error) => Delivery::Failed {
            reason: format!("the webhook cannot be reached: {error}"),
            retry_after: None,
        },
    }
}

/// What is sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    action_id: &'a str,
    gateway: &'a GatewayId,
    client_id: &'a str,
    hlc: String,
    connector: &'a str,
    action_type: &'a str,
    params: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
}

fn body(gateway: &GatewayId, job: &Job) -> String {
    let message = Message {
        action_id: &job.action_id,
        gateway,
        client_id: &job.client_id,
        hlc: job.hlc.to_string(),
        connector: &job.connector,
        action_type: &job.action_type,
        // As it was stored: numbers keep their digits.
        params: serde_json::from_str(&job.params).ok(),
        idempotency_key: job.idempotency_key.as_deref(),
    };
    serde_json::to_string(&message).expect("texts and JSON become JSON")
}

/// Hashed with the gateway and the client: a webhook that serves several tenants must not take the action of one for
/// that of another, though both call it the same or made the same action id.
fn idempotency_key(gateway: &GatewayId, job: &Job) -> String {
    let (kind, name) = match &job.idempotency_key {
        Some(key) => ("key", key),
        None => ("action", &job.action_id),
    };
    let mut hash = Sha256::new();
    for part in [gateway.as_str(), &job.client_id, kind, name] {
        // The length first, so that no part can run into the next.
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

fn signature(secret: &str, now_s: u64, body: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(format!("{now_s}.{body}").as_bytes());
    format!("t={now_s},v1={}", hex(&mac.finalize().into_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn outcome(mut answer: Response<Body>) -> Delivery {
    let status = answer.status().as_u16();
    let retry_after = answer
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    let body = read_bounded(answer.body_mut().as_reader(), ANSWER_BYTES_MAX);
    match status {
        200..=299 => Delivery::Done(data(body)),
        408 | 425 | 429 => Delivery::Failed {
            reason: format!("the webhook answered {status}"),
            retry_after,
        },
        400..=499 => Delivery::Refused(reason(status, body)),
        _ => Delivery::Failed {
            reason: reason(status, body),
            retry_after,
        },
    }
}

/// What the client is told of an action that was carried out: the answer when it is JSON, else its text.
fn data(body: Result<Vec<u8>, ReadError>) -> JsonText {
    let text = match body {
        Ok(bytes) if bytes.is_empty() => return null(),
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            let note = format!("carried out, but the webhook's answer was not kept: {error}");
            json!({"status": "done", "note": note}).to_string()
        }
    };
    JsonText::parse(&text)
        .or_else(|_| JsonText::parse(&Json::String(text).to_string()))
        .unwrap_or_else(|_| null())
}

/// No data.
pub(super) fn null() -> JsonText {
    JsonText::parse("null").expect("null is JSON")
}

/// What a webhook that did not do it said: the `message` or `error` of its answer, or its text.
fn reason(status: u16, body: Result<Vec<u8>, ReadError>) -> String {
    let bytes = body.unwrap_or_default();
    let json = serde_json::from_slice::<Json>(&bytes).ok();
    let said = json
        .as_ref()
        .and_then(|json| {
            ["message", "error"]
                .iter()
                .find_map(|name| json.get(name)?.as_str())
        })
        .map_or_else(
            || String::from_utf8_lossy(&bytes).into_owned(),
            str::to_owned,
        );
    let said: String = said
        .chars()
        .filter(|c| !c.is_control())
        .take(REASON_CHARS_MAX)
        .collect();
    match said.trim() {
        "" => format!("the webhook answered {status}"),
        said => format!("the webhook answered {status}: {said}"),
    }
}

#[cfg(test)]
mod tests {
    use lakesync_proto::Hlc;

    use super::*;

    #[test]
    fn two_tenants_never_share_an_idempotency_key() {
        let key = |gateway: &str, client: &str, action: &str, key: Option<&str>| {
            let job = Job {
                number: 1,
                action_id: action.to_owned(),
                client_id: client.to_owned(),
                idempotency_key: key.map(str::to_owned),
                connector: "mail".to_owned(),
                action_type: "send".to_owned(),
                hlc: Hlc::ZERO,
                params: "{}".to_owned(),
                attempts: 1,
            };
            idempotency_key(&GatewayId::parse(gateway).unwrap(), &job)
        };
        let keys = [
            key("shop", "ada", "a1", None),
            key("farm", "ada", "a1", None),
            key("shop", "ben", "a1", None),
            key("shop", "ada", "a2", None),
            key("shop", "ada", "a1", Some("a1")),
            key("shop", "ada", "a1", Some("k")),
            key("farm", "ada", "a1", Some("k")),
            key("shop", "ben", "a1", Some("k")),
        ];
        let distinct: std::collections::HashSet<&String> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len(), "{keys:?}");
        let again = key("shop", "ada", "another action", Some("k"));
        assert_eq!(again, keys[5], "what a client calls the same is the same");
    }

    #[test]
    fn the_signature_is_over_the_time_and_the_body() {
        // Made with: printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac whsec_test
        assert_eq!(
            signature("whsec_test", 1_700_000_000, r#"{"a":1}"#),
            "t=1700000000,v1=38877139021993b830af32feea6e18a8da83eb2f6e49ee50bd9e4cf4ca4d3789"
        );
    }
}
