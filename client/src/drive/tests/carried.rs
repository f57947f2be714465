//! Steps over a transport, one by one.

use std::sync::Arc;

use lakesync_proto::TableName;

use super::gateway::{Gateway, Weather};
use super::todos;
use crate::drive::carrier::Carrier;
use crate::sync::{CheckpointRequest, Reply, Step, Subscribe};
use crate::watch::Signal;

fn schemas() -> Arc<dyn lakesync_proto::Schemas + Send + Sync> {
    let schema = todos();
    Arc::new(std::collections::BTreeMap::from([(
        schema.table.clone(),
        Arc::new(schema),
    )]))
}

fn checkpoint() -> Step {
    Step::Checkpoint(CheckpointRequest {
        client_id: "ada".parse().unwrap(),
        tables: Vec::<TableName>::new(),
        resume: None,
        schemas: schemas(),
    })
}

fn subscribe() -> Step {
    Step::Subscribe(Subscribe {
        client_id: "ada".parse().unwrap(),
        cursor: String::new(),
        schemas: schemas(),
    })
}

#[test]
fn a_checkpoint_is_open_until_its_last_chunk() {
    let gateway = Gateway::new(vec![todos()]);
    let mut carrier = Carrier::new(Arc::new(Signal::default()));
    let more = |reply: Option<Reply>| match reply {
        Some(Reply::Chunk(Ok(Some(page)))) => Some(page.has_more),
        _ => None,
    };
    assert_eq!(more(carrier.carry(&gateway, &checkpoint())), Some(true));
    assert_eq!(more(carrier.carry(&gateway, &Step::Chunk)), Some(false));
    let after = carrier.carry(&gateway, &Step::Chunk);
    assert!(matches!(after, Some(Reply::Chunk(Err(_)))), "{after:?}");
    assert_eq!(more(carrier.carry(&gateway, &checkpoint())), Some(true));
    let wait = Step::Wait { until_ms: None };
    assert!(carrier.carry(&gateway, &wait).is_none());
    let after = carrier.carry(&gateway, &Step::Chunk);
    assert!(matches!(after, Some(Reply::Chunk(Err(_)))), "{after:?}");
    assert_eq!(more(carrier.carry(&gateway, &checkpoint())), Some(true));
    assert_eq!(
        more(carrier.carry(&gateway, &checkpoint())),
        Some(true),
        "the one that was open is forgotten"
    );
}

#[test]
fn what_a_closed_connection_told_is_never_handed_on() {
    let gateway = Gateway::new(vec![todos()]);
    let signal = Arc::new(Signal::default());
    let mut carrier = Carrier::new(Arc::clone(&signal));
    let subscribed = carrier.carry(&gateway, &subscribe());
    assert!(matches!(subscribed, Some(Reply::Subscribed(Ok(())))));
    assert_eq!(signal.generation(), 1, "a page has come");
    assert!(carrier.carry(&gateway, &Step::Unsubscribe).is_none());
    assert!(carrier.told().is_none());
    carrier.carry(&gateway, &subscribe());
    carrier.carry(&gateway, &subscribe());
    assert!(matches!(carrier.told(), Some(Reply::Live(_))));
    assert!(carrier.told().is_none(), "one connection is open, not two");
    gateway.hang_up();
    let mut told = None;
    super::until(|| {
        told = carrier.told();
        told.is_some()
    });
    assert!(matches!(told, Some(Reply::LiveEnded(_))));
    let text = format!("{carrier:?}");
    assert!(text.contains("live: false"), "it is let go: {text}");
    assert!(carrier.carry(&gateway, &Step::Stopped).is_none());
    assert!(carrier.told().is_none());
}

#[test]
fn every_step_that_has_a_reply_gets_one_in_bad_weather_too() {
    let gateway = Gateway::new(vec![todos()]);
    gateway.set(Weather::Down);
    let mut carrier = Carrier::new(Arc::new(Signal::default()));
    for (step, name) in [
        (checkpoint(), "Chunk(Err"),
        (Step::Chunk, "Chunk(Err"),
        (Step::Schemas, "Schemas(Err"),
        (subscribe(), "Subscribed(Err"),
        (Step::RefreshToken, "Token(false"),
        (
            Step::Digest {
                client_id: "ada".parse().unwrap(),
            },
            "Digest(Err",
        ),
    ] {
        let reply = format!("{:?}", carrier.carry(&gateway, &step));
        assert!(reply.contains(name), "{step:?}: {reply}");
    }
    let wait = Step::Wait { until_ms: None };
    assert!(carrier.carry(&gateway, &wait).is_none());
}

#[test]
fn a_connection_that_goes_without_a_word_has_ended_once() {
    let (events, replies) = crate::LiveEvents::channel(|| {});
    assert!(events.tell(Reply::Expiring));
    drop(events);
    assert!(matches!(replies.take(), Some(Reply::Expiring)));
    assert!(matches!(replies.take(), Some(Reply::LiveEnded(_))));
    assert!(replies.take().is_none());
}
