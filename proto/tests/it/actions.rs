//! Actions: ids as legacy clients compute them, both encodings, and what is refused.

use lakesync_proto::limits::{ACTION_PARAMS_BYTES_MAX, ACTION_TEXT_BYTES_MAX, ACTIONS_MAX};
use lakesync_proto::{
    Action, ActionAnswer, ActionContent, ActionError, ActionId, ActionOutcome, ActionPush,
    DecodeErrorKind, Hlc, JsonText, Seq, decode_action_answer_json, decode_action_answer_protobuf,
    decode_actions_json, decode_actions_protobuf, encode_action_answer_json,
    encode_action_answer_protobuf, encode_actions_json, encode_actions_protobuf, wire,
};
use proptest::prelude::*;
use prost::Message;

use crate::samples::json;

const HLC: u64 = 111_411_200_000_000_001;

/// SHA-256 of the sorted JSON, computed by another implementation.
const EMPTY: &str = "c7710af408a72c4a289e6327b888a4ad284fc95e11f6f804effecdb743f90e19";
const NESTED: &str = "c309097c513a158309a1b89bef1a416bb84f5c92267edc4e6122d66edb4fe2e7";

fn text(json: &str) -> JsonText {
    JsonText::parse(json).unwrap()
}

fn content(params: &str) -> ActionContent {
    ActionContent {
        client_id: "client-a".parse().unwrap(),
        hlc: Hlc::from_u64(HLC).unwrap(),
        connector: "github".to_owned(),
        action_type: "create_pr".to_owned(),
        params: text(params),
    }
}

fn push(actions: Vec<Action>) -> ActionPush {
    let client_id = "client-a".parse().unwrap();
    ActionPush { client_id, actions }
}

#[test]
fn the_id_is_the_hash_of_the_sorted_content() {
    let nested = r#"{"title":"é \"x\"","labels":["b","a"],"n":{"z":1,"a":null}}"#;
    for (params, id) in [("{}", EMPTY), (nested, NESTED)] {
        let action = Action::new(content(params), Some("key")).unwrap();
        assert_eq!(action.action_id.to_string(), id);
        assert_eq!(action.idempotency_key.as_deref(), Some("key"));
    }
    let other = Action::new(content("{}"), None).unwrap();
    assert_eq!(other.action_id.to_string(), EMPTY, "the key is not hashed");
    assert_eq!(ActionId::parse(EMPTY).unwrap(), other.action_id);
    assert!(ActionId::parse("d1").is_err());
}

#[test]
fn the_json_forms_are_the_contracts() {
    let written = String::from_utf8(encode_actions_json(&push(vec![
        Action::new(content(r#"{ "a": 1 }"#), Some("k")).unwrap(),
        Action::new(content("{}"), Some("")).unwrap(),
    ])))
    .unwrap();
    let (first, second) = written.split_once("},{").unwrap();
    assert!(
        first.starts_with(r#"{"clientId":"client-a","actions":[{"actionId":""#),
        "{first}"
    );
    let rest = r#","clientId":"client-a","hlc":"111411200000000001","connector":"github","actionType":"create_pr","params":{"a":1},"idempotencyKey":"k""#;
    assert!(first.ends_with(rest), "{first}");
    assert!(
        second.ends_with(r#""params":{}}]}"#),
        "an empty key is none: {second}"
    );

    let id = ActionId::parse(EMPTY).unwrap();
    let answer = ActionAnswer {
        results: vec![
            (
                id,
                ActionOutcome::Done {
                    data: text(r#"{"url":"x"}"#),
                },
            ),
            (
                id,
                ActionOutcome::Failed {
                    code: "ACTION_NOT_SUPPORTED".to_owned(),
                    message: "no \"such\" type".to_owned(),
                    retryable: false,
                },
            ),
        ],
        cursor: Seq::from_u64(4).unwrap(),
    };
    let expected = format!(
        r#"{{"results":[{{"actionId":"{EMPTY}","data":{{"url":"x"}},"serverHlc":"4"}},{{"actionId":"{EMPTY}","code":"ACTION_NOT_SUPPORTED","message":"no \"such\" type","retryable":false}}],"serverHlc":"4"}}"#
    );
    assert_eq!(
        String::from_utf8(encode_action_answer_json(&answer)).unwrap(),
        expected
    );
}

fn action() -> impl Strategy<Value = Action> {
    let params = prop::collection::btree_map(any::<String>(), json(2), 0..3);
    let word = || "[^\\p{Cc}]{1,9}";
    let key = prop::option::of(word());
    (word(), word(), word(), params, key, 0..i64::MAX as u64).prop_map(
        |(client, connector, action_type, params, key, hlc)| {
            let params = serde_json::to_string(&params).unwrap();
            let content = ActionContent {
                client_id: client.parse().unwrap(),
                hlc: Hlc::from_u64(hlc).unwrap(),
                connector,
                action_type,
                params: text(&params),
            };
            Action::new(content, key.as_deref()).unwrap()
        },
    )
}

fn outcome() -> impl Strategy<Value = ActionOutcome> {
    let done = json(2).prop_map(|data| ActionOutcome::Done {
        data: text(&data.to_string()),
    });
    let failed =
        (any::<String>(), any::<String>(), any::<bool>()).prop_map(|(code, message, retryable)| {
            ActionOutcome::Failed {
                code,
                message,
                retryable,
            }
        });
    prop_oneof![done, failed]
}

proptest! {
    #[test]
    fn actions_come_back(actions in prop::collection::vec(action(), 0..4)) {
        let push = push(actions);
        prop_assert_eq!(&decode_actions_json(&encode_actions_json(&push)).unwrap(), &push);
        prop_assert_eq!(&decode_actions_protobuf(&encode_actions_protobuf(&push)).unwrap(), &push);
    }

    #[test]
    fn answers_come_back(outcomes in prop::collection::vec((any::<[u8; 32]>(), outcome()), 0..4), cursor in 0..i64::MAX) {
        let results = outcomes.into_iter().map(|(id, outcome)| (ActionId::from_bytes(id), outcome));
        let answer = ActionAnswer { results: results.collect(), cursor: Seq::from_i64(cursor).unwrap() };
        prop_assert_eq!(&decode_action_answer_json(&encode_action_answer_json(&answer)).unwrap(), &answer);
        prop_assert_eq!(&decode_action_answer_protobuf(&encode_action_answer_protobuf(&answer)).unwrap(), &answer);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in any::<Vec<u8>>()) {
        let _ = decode_actions_protobuf(&bytes);
        let _ = decode_action_answer_protobuf(&bytes);
        let _ = decode_actions_json(&bytes);
    }
}

#[test]
fn what_is_wrong_is_named_by_action_and_field() {
    let good = String::from_utf8(encode_actions_json(&push(vec![
        Action::new(content("{}"), None).unwrap(),
        Action::new(content("{}"), None).unwrap(),
    ])))
    .unwrap();
    let cases = [
        (EMPTY, NESTED, "actionId", "hashes to"),
        (EMPTY, "d1", "actionId", "64 hexadecimal"),
        (r#""client-a""#, r#""""#, "clientId", "non-empty"),
        (r#""111411200000000001""#, r#""-1""#, "hlc", "unsigned"),
        (r#""github""#, r#""""#, "connector", "non-empty"),
        (r#""github""#, r#""git\u0000hub""#, "connector", "control"),
        (r#""create_pr""#, "7", "actionType", "expected a string"),
        (r#""params":{}"#, r#""params":[]"#, "params", "object"),
        (r#""params":{}"#, r#""params":null"#, "params", "Missing"),
        (
            r#""params":{}"#,
            r#""params":{},"idempotencyKey":7"#,
            "idempotencyKey",
            "string",
        ),
    ];
    for (from, to, field, reason) in cases {
        let (at, _) = good.rmatch_indices(from).next().unwrap();
        let body = format!("{}{to}{}", &good[..at], &good[at + from.len()..]);
        let error = decode_actions_json(body.as_bytes()).unwrap_err();
        assert_eq!(
            (error.field(), error.delta()),
            (Some(field), Some(1)),
            "{to}"
        );
        assert!(error.to_string().starts_with("action 1, "), "{error}");
        assert!(error.reason().contains(reason), "{error}");
        assert!(error.position().is_some(), "{error}");
    }
    for (body, field) in [
        ("{}", "clientId"),
        (r#"{"clientId":"a"}"#, "actions"),
        ("[]", "body"),
    ] {
        let error = decode_actions_json(body.as_bytes()).unwrap_err();
        assert_eq!((error.field(), error.delta()), (Some(field), None));
    }
}

#[test]
fn what_is_wrong_in_protobuf_is_named_too() {
    type Break = fn(&mut wire::Action);
    let cases: [(Break, &str); 5] = [
        (|action| action.action_id.clear(), "actionId"),
        (|action| action.client_id.clear(), "clientId"),
        (|action| action.hlc = u64::MAX, "hlc"),
        (|action| action.params.clear(), "params"),
        (|action| action.params = b"{".to_vec(), "params"),
    ];
    for (wrong, field) in cases {
        let good = push(vec![Action::new(content("{}"), None).unwrap()]);
        let mut message = wire::ActionPush::decode(&*encode_actions_protobuf(&good)).unwrap();
        wrong(&mut message.actions[0]);
        let error = decode_actions_protobuf(&message.encode_to_vec()).unwrap_err();
        assert_eq!(
            (error.field(), error.delta()),
            (Some(field), Some(0)),
            "{error}"
        );
    }
}

#[test]
fn everything_has_a_limit() {
    let one = Action::new(content("{}"), None).unwrap();
    let many = push(vec![one; ACTIONS_MAX + 1]);
    for error in [
        decode_actions_json(&encode_actions_json(&many)).unwrap_err(),
        decode_actions_protobuf(&encode_actions_protobuf(&many)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), DecodeErrorKind::TooMany);
        assert_eq!(error.reason(), "Too many actions: 101, 100 are allowed");
    }
    let large = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - r#"{"a":""}"#.len()));
    assert!(Action::new(content(&large(ACTION_PARAMS_BYTES_MAX)), None).is_ok());
    let bytes = ACTION_PARAMS_BYTES_MAX + 1;
    assert_eq!(
        Action::new(content(&large(bytes)), None),
        Err(ActionError::ParamsTooLarge { bytes })
    );
    let key = "k".repeat(ACTION_TEXT_BYTES_MAX + 1);
    let field = "idempotencyKey";
    let bytes = key.len();
    assert_eq!(
        Action::new(content("{}"), Some(&key)),
        Err(ActionError::Text { field, bytes })
    );
}
