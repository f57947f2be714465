//! Actions against a webhook of the test's own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use lakesync_proto::{
    Action, ActionContent, ActionOutcome, ActionPush, ClientId, Hlc, JsonText, ManualClock,
};
use tokio::sync::oneshot;

use super::store::{Admitted, State, Store, totals};
use super::verdict::Verdict;
use super::*;
use crate::auth::{Identity, Role, Scope};
use crate::outbound::scripted::{Answer, Request, Server};

const NOW_MS: u64 = 1_700_000_000_000;

fn action(client: &str, n: u64, key: Option<&str>) -> Action {
    to("tickets", "open", client, n, key)
}

fn to(connector: &str, kind: &str, client: &str, n: u64, key: Option<&str>) -> Action {
    let content = ActionContent {
        client_id: ClientId::parse(client).unwrap(),
        hlc: Hlc::new(NOW_MS, u16::try_from(n).unwrap()).unwrap(),
        connector: connector.to_owned(),
        action_type: kind.to_owned(),
        params: JsonText::parse(&format!(r#"{{"n":{n},"big":9007199254740993}}"#)).unwrap(),
    };
    Action::new(content, key).unwrap()
}

fn push(actions: Vec<Action>) -> ActionPush {
    let client_id = actions[0].content.client_id.clone();
    ActionPush { client_id, actions }
}

fn data(text: &str) -> ActionOutcome {
    let data = JsonText::parse(text).unwrap();
    ActionOutcome::Done { data }
}

fn queued() -> ActionOutcome {
    data(r#"{"status":"queued"}"#)
}

#[track_caller]
fn assert_failed(outcome: &ActionOutcome, wanted_code: &str, part: &str) {
    match outcome {
        ActionOutcome::Failed { code, message, .. } => {
            assert_eq!(code, wanted_code, "{message}");
            assert!(message.contains(part), "{message}");
        }
        done => panic!("{done:?}"),
    }
}

fn types() -> Vec<ActionType> {
    let name = "open".to_owned();
    let params_schema = Some(serde_json::json!({"type": "object"}));
    vec![ActionType {
        name,
        description: "Opens a ticket".to_owned(),
        params_schema,
    }]
}

fn connector(name: &str, url: &str) -> Connector {
    let mut connector = Connector::new(name, url, types());
    connector.attempts_max = 3;
    connector
}

/// A gateway's actions, its clock and its webhook.
struct Fixture {
    actions: Arc<Actions>,
    clock: Arc<ManualClock>,
    server: Server,
}

impl Fixture {
    fn new(answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::over(Store::in_memory().unwrap(), answer)
    }

    fn over(
        store: Store,
        answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let server = Server::start(answer);
        let mut tickets = connector("tickets", &server.url());
        tickets.secret = Some("whsec_test".to_owned());
        let webhooks = Webhooks::new(vec![tickets, connector("mail", &server.url())]).unwrap();
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let seen: Arc<ManualClock> = Arc::clone(&clock);
        let actions = Actions::with_store(store, "shop".parse().unwrap(), webhooks, seen);
        Self {
            actions: Arc::new(actions),
            clock,
            server,
        }
    }

    async fn submit(&self, actions: Vec<Action>) -> Vec<ActionOutcome> {
        let push = push(actions);
        self.actions
            .submit(&push, &Identity::anyone())
            .await
            .unwrap()
    }

    /// Makes every attempt that is due.
    async fn deliver_due(&self) -> usize {
        let started = self.actions.start_due().await.unwrap();
        let n = started.len();
        for attempt in join_all(started).await {
            attempt.unwrap();
        }
        n
    }

    /// Numbers (`n` of the params) in the order in which they came.
    fn delivered(&self) -> Vec<u64> {
        let number = |request: &Request| {
            let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
            body["params"]["n"].as_u64().unwrap()
        };
        self.server.requests().iter().map(number).collect()
    }
}

fn ok(body: &str) -> Answer {
    ("200 OK".to_owned(), body.as_bytes().to_vec())
}

fn status(line: &str) -> Answer {
    (line.to_owned(), Vec::new())
}

#[tokio::test]
async fn actions_are_delivered_in_order_and_answered_with_what_the_webhook_says() {
    let fixture = Fixture::new(|_, before| ok(&format!(r#"{{"ticket":{before}}}"#)));
    let outcomes = fixture
        .submit((1..=5).map(|n| action("ada", n, None)).collect())
        .await;
    let expected: Vec<_> = (0..5)
        .map(|n| data(&format!(r#"{{"ticket":{n}}}"#)))
        .collect();
    assert_eq!(outcomes, expected);
    assert_eq!(fixture.delivered(), [1, 2, 3, 4, 5]);

    let request = &fixture.server.requests()[0];
    let first = action("ada", 1, None);
    assert!(
        request.head.starts_with("POST /hook HTTP/1.1"),
        "{}",
        request.head
    );
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(request.headers["idempotency-key"].len(), 64, "a hash");
    assert_eq!(request.headers["x-lakesync-attempt"], "1");
    let signature = &request.headers["x-lakesync-signature"];
    assert!(signature.starts_with("t=1700000000,v1="), "{signature}");
    let body = format!(
        r#"{{"actionId":"{}","gateway":"shop","clientId":"ada","hlc":"{}","connector":"tickets","actionType":"open","params":{}}}"#,
        first.action_id,
        first.content.hlc,
        first.content.params.as_str()
    );
    assert_eq!(request.body, body);
    assert!(body.contains("9007199254740993"), "digits are kept: {body}");
}

#[tokio::test]
async fn what_came_before_is_answered_and_not_delivered_again() {
    let fixture = Fixture::new(|_, before| ok(&format!(r#"{{"ticket":{before}}}"#)));
    let first = fixture
        .submit(vec![action("ada", 1, Some("order-7"))])
        .await;
    assert_eq!(first, [data(r#"{"ticket":0}"#)]);
    // The same action; another one with the same key; both in one push, and twice.
    let again = vec![
        action("ada", 1, Some("order-7")),
        action("ada", 2, Some("order-7")),
        action("ada", 1, None),
    ];
    assert_eq!(
        fixture.submit(again).await,
        vec![data(r#"{"ticket":0}"#); 3]
    );
    // What another client calls the same is not the same, for the webhook neither.
    let other = fixture
        .submit(vec![action("ben", 1, Some("order-7"))])
        .await;
    assert_eq!(other, [data(r#"{"ticket":1}"#)]);
    let twice = vec![action("ada", 9, None), action("ada", 9, None)];
    assert_eq!(
        fixture.submit(twice).await,
        vec![data(r#"{"ticket":2}"#); 2]
    );
    let keys: BTreeSet<String> = fixture
        .server
        .requests()
        .iter()
        .map(|request| request.headers["idempotency-key"].clone())
        .collect();
    assert_eq!(keys.len(), 3);
}

#[tokio::test]
async fn a_refusal_is_final_and_remembered() {
    let fixture = Fixture::new(|_, _| {
        let body = br#"{"error":"no such\u0000 project"}"#.to_vec();
        ("422 Unprocessable".to_owned(), body)
    });
    for _ in 0..2 {
        let outcomes = fixture.submit(vec![action("ada", 1, None)]).await;
        assert_failed(
            &outcomes[0],
            "ACTION_REFUSED",
            "answered 422: no such project",
        );
    }
    assert_eq!(fixture.delivered(), [1]);
    assert_eq!(fixture.deliver_due().await, 0);
}

#[tokio::test]
async fn what_is_not_supported_is_neither_stored_nor_in_the_way_of_the_rest() {
    let fixture = Fixture::new(|_, _| ok("1"));
    let outcomes = fixture
        .submit(vec![
            to("fax", "open", "ada", 1, None),
            action("ada", 2, None),
            to("tickets", "burn", "ada", 3, None),
        ])
        .await;
    assert_failed(&outcomes[0], "ACTION_NOT_SUPPORTED", "no connector `fax`");
    assert_eq!(outcomes[1], data("1"));
    assert_failed(
        &outcomes[2],
        "ACTION_NOT_SUPPORTED",
        "no action type `burn`",
    );
    assert_eq!(fixture.delivered(), [2]);
    let described = fixture.actions.describe().to_string();
    let entry = r#"[{"actionType":"open","description":"Opens a ticket","paramsSchema":{"type":"object"}}]"#;
    assert_eq!(
        described,
        format!(r#"{{"connectors":{{"mail":{entry},"tickets":{entry}}}}}"#)
    );
}

#[tokio::test]
async fn a_client_cannot_act_as_another_one() {
    let fixture = Fixture::new(|_, _| ok("1"));
    let identity = |role| Identity {
        subject: Some("ada".parse().unwrap()),
        role,
        scope: Scope::Only(BTreeSet::from(["shop".parse().unwrap()])),
        ..Identity::anyone()
    };
    let forged = push(vec![action("ada", 1, None), action("ben", 2, None)]);
    let refused = fixture
        .actions
        .submit(&forged, &identity(Role::Client))
        .await;
    match refused.unwrap_err() {
        crate::Error::Refused(refusal) => {
            assert_eq!(
                (refusal.code.as_str(), refusal.index),
                ("FORBIDDEN", Some(1))
            );
            assert!(refusal.message.contains("Client ID mismatch"));
        }
        other => panic!("{other}"),
    }
    assert!(fixture.delivered().is_empty(), "all or nothing");
    let taken = fixture
        .actions
        .submit(&forged, &identity(Role::Ingest))
        .await;
    assert_eq!(taken.unwrap(), vec![data("1"); 2]);
}

#[tokio::test]
async fn a_failure_is_queued_and_tried_again_until_it_works() {
    let fixture = Fixture::new(|_, before| match before {
        0 => status("503 Away"),
        1 => status("429 Slow\r\nRetry-After: 120"),
        _ => ok(r#"{"ticket":7}"#),
    });
    assert_eq!(
        fixture.submit(vec![action("ada", 1, None)]).await,
        [queued()]
    );
    assert_eq!(
        fixture.submit(vec![action("ada", 1, None)]).await,
        [queued()]
    );
    assert_eq!(fixture.deliver_due().await, 0, "not before its wait");
    fixture.clock.advance(1_000);
    assert_eq!(fixture.deliver_due().await, 1);
    fixture.clock.advance(119_999);
    assert_eq!(
        fixture.deliver_due().await,
        0,
        "the webhook asked for two minutes"
    );
    fixture.clock.advance(1);
    assert_eq!(fixture.deliver_due().await, 1);
    let again = fixture.submit(vec![action("ada", 1, None)]).await;
    assert_eq!(again, [data(r#"{"ticket":7}"#)]);
    let attempts: Vec<_> = fixture
        .server
        .requests()
        .iter()
        .map(|request| {
            let header = |name: &str| request.headers[name].clone();
            (header("x-lakesync-attempt"), header("idempotency-key"))
        })
        .collect();
    let key = attempts[0].1.clone();
    let expected = ["1", "2", "3"].map(|n| (n.to_owned(), key.clone()));
    assert_eq!(attempts, expected);
}

#[tokio::test]
async fn used_up_attempts_make_a_dead_letter_that_can_be_retried_or_discarded() {
    let fixture = Fixture::new(|_, before| match before {
        0..6 => status("500 Broken"),
        _ => ok("1"),
    });
    let push = || vec![action("ada", 1, None), action("ada", 2, None)];
    assert_eq!(fixture.submit(push()).await, [queued(), queued()]);
    for _ in 0..2 {
        fixture.clock.advance(60_000);
        assert_eq!(fixture.deliver_due().await, 2);
    }
    fixture.clock.advance(3_600_000);
    assert_eq!(fixture.deliver_due().await, 0, "no fourth attempt");
    for outcome in fixture.submit(push()).await {
        assert_failed(&outcome, "DEAD_LETTERED", "answered 500");
    }
    let dead = fixture.actions.list_dead(0).await.unwrap();
    let told: Vec<_> = dead
        .iter()
        .map(|letter| {
            (
                letter.client_id.as_str(),
                letter.attempts,
                letter.connector.as_str(),
            )
        })
        .collect();
    assert_eq!(told, [("ada", 3, "tickets"); 2]);
    assert_eq!(
        fixture.actions.list_dead(dead[0].number).await.unwrap(),
        dead[1..]
    );

    let (first, second) = (&dead[0].action_id, &dead[1].action_id);
    assert!(fixture.actions.discard(first).await.unwrap());
    assert!(!fixture.actions.discard(first).await.unwrap());
    assert!(fixture.actions.retry(second).await.unwrap());
    assert!(!fixture.actions.retry("nothing").await.unwrap());
    assert_eq!(fixture.deliver_due().await, 1);
    let outcomes = fixture.submit(push()).await;
    assert_failed(&outcomes[0], "DEAD_LETTERED", "discarded");
    assert_eq!(outcomes[1], data("1"));
    assert!(fixture.actions.list_dead(0).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_webhook_answers_never_repeats_what_was_done() {
    let cases: [(Answer, &str); 5] = [
        (ok(""), "null"),
        (ok("fine"), r#""fine""#),
        (ok("[1,2]"), "[1,2]"),
        (("201 Created".to_owned(), vec![0xff]), "\"\u{fffd}\""),
        (ok(&"x".repeat((1 << 20) + 1)), "larger than 1048576 bytes"),
    ];
    for (answer, part) in cases {
        let fixture = Fixture::new(move |_, _| answer.clone());
        match &fixture.submit(vec![action("ada", 1, None)]).await[..] {
            [ActionOutcome::Done { data }] => assert!(data.as_str().contains(part), "{data:?}"),
            other => panic!("{part}: {other:?}"),
        }
        assert_eq!(fixture.deliver_due().await, 0, "{part}");
    }
    // A redirect is not followed: the action stays with us until the address is mended.
    let fixture = Fixture::new(|_, _| status("307 Elsewhere\r\nLocation: http://127.0.0.1:1/"));
    assert_eq!(
        fixture.submit(vec![action("ada", 1, None)]).await,
        [queued()]
    );
    assert_eq!(fixture.delivered(), [1]);
}

#[tokio::test]
async fn a_crash_loses_no_action_that_was_stored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.actions.db");
    let mut store = Store::open(&path).unwrap();
    // Stored and on its way when the process ends.
    let now_ms = i64::try_from(NOW_MS).unwrap();
    let admitted = store.admit(&[action("ada", 1, Some("k"))], now_ms).unwrap();
    assert!(matches!(admitted[..], [Admitted::New(_)]));
    drop(store);

    let fixture = Fixture::over(Store::open(&path).unwrap(), |_, _| ok("1"));
    assert_eq!(
        fixture.submit(vec![action("ada", 1, Some("k"))]).await,
        [queued()]
    );
    assert_eq!(fixture.deliver_due().await, 1);
    assert_eq!(
        fixture.server.requests()[0].headers["x-lakesync-attempt"],
        "2"
    );
    drop(fixture);

    let fixture = Fixture::over(Store::open(&path).unwrap(), |_, _| ok("2"));
    assert_eq!(
        fixture.submit(vec![action("ada", 1, Some("k"))]).await,
        [data("1")]
    );
    assert!(fixture.delivered().is_empty());
}

#[tokio::test]
async fn an_action_of_a_connector_that_is_gone_ends_as_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.actions.db");
    let fixture = Fixture::over(Store::open(&path).unwrap(), |_, _| status("500 Broken"));
    assert_eq!(
        fixture.submit(vec![action("ada", 1, None)]).await,
        [queued()]
    );
    let clock = Arc::clone(&fixture.clock);
    drop(fixture);
    let webhooks = Webhooks::new(Vec::new()).unwrap();
    let gateway = "shop".parse().unwrap();
    let seen: Arc<ManualClock> = Arc::clone(&clock);
    let actions = Actions::open(&path, gateway, webhooks, seen).unwrap();
    for _ in 0..20 {
        clock.advance(3_600_000);
        join_all(actions.start_due().await.unwrap()).await;
    }
    let dead = actions.list_dead(0).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert!(
        dead[0].last_error.contains("not configured"),
        "{}",
        dead[0].last_error
    );
}

/// A webhook that holds its answers until told, and says when it was asked.
fn gated(
    answer: Answer,
) -> (
    impl Fn(&Request, usize) -> Answer + Send + Sync,
    Receiver<()>,
    Sender<()>,
) {
    let (asked, was_asked) = channel();
    let (go, gate) = channel();
    let gate = Mutex::new(gate);
    let hook = move |_: &Request, _: usize| {
        // The test may have heard enough.
        let _ = asked.send(());
        gate.lock().unwrap().recv().unwrap();
        answer.clone()
    };
    (hook, was_asked, go)
}

async fn wait_for(asked: Receiver<()>, times: usize) -> Receiver<()> {
    let waiting = tokio::task::spawn_blocking(move || {
        for _ in 0..times {
            asked.recv_timeout(Duration::from_secs(30)).unwrap();
        }
        asked
    });
    waiting.await.unwrap()
}

#[tokio::test]
async fn whoever_hangs_up_or_waits_too_long_does_not_stop_an_attempt() {
    let (hook, asked, go) = gated(ok("1"));
    let server = Server::start(hook);
    let mut tickets = connector("tickets", &server.url());
    tickets.timeout = Duration::from_secs(100);
    let webhooks = Webhooks::new(vec![tickets]).unwrap();
    let clock: Arc<ManualClock> = Arc::new(ManualClock::new(NOW_MS));
    let gateway = "shop".parse().unwrap();
    let actions = Actions::with_store(Store::in_memory().unwrap(), gateway, webhooks, clock);
    let actions = Arc::new(actions.with_inline_wait(Duration::from_millis(20)));

    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(Arc::clone(&actions).run(async { drop(stopped.await) }));

    // Waits too long: what was begun goes on, the rest is left for the background.
    let both = push(vec![action("ada", 1, None), action("ada", 2, None)]);
    let outcomes = actions.submit(&both, &Identity::anyone()).await.unwrap();
    assert_eq!(outcomes, [queued(), queued()]);
    let asked = wait_for(asked, 2).await;
    // Hangs up.
    let gone = tokio::spawn({
        let actions = Arc::clone(&actions);
        let third = push(vec![action("ada", 3, None)]);
        async move { actions.submit(&third, &Identity::anyone()).await.map(drop) }
    });
    wait_for(asked, 1).await;
    gone.abort();
    drop(gone.await);

    for _ in 0..3 {
        go.send(()).unwrap();
    }
    stop.send(()).unwrap();
    running.await.unwrap();
    // What `run` began is written down; inline attempts may still be on their way.
    let all = push((1..=3).map(|n| action("ada", n, None)).collect());
    loop {
        let outcomes = actions.submit(&all, &Identity::anyone()).await.unwrap();
        if outcomes == vec![data("1"); 3] {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(server.requests().len(), 3, "each was delivered once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_hangs_leaves_turns_to_the_others() {
    let (hook, asked, go) = gated(ok("1"));
    let hanging = Server::start(hook);
    let quick = Server::start(|_, _| ok("2"));
    let connectors = vec![
        connector("tickets", &hanging.url()),
        connector("mail", &quick.url()),
    ];
    let webhooks = Webhooks::new(connectors).unwrap();
    let clock: Arc<ManualClock> = Arc::new(ManualClock::new(NOW_MS));
    let gateway = "shop".parse().unwrap();
    let actions = Actions::with_store(Store::in_memory().unwrap(), gateway, webhooks, clock);
    let actions = Arc::new(actions.with_inline_wait(Duration::from_secs(120)));
    let waiting: Vec<_> = (1..=20)
        .map(|n| {
            let (actions, push) = (Arc::clone(&actions), push(vec![action("ada", n, None)]));
            tokio::spawn(async move { actions.submit(&push, &Identity::anyone()).await.unwrap() })
        })
        .collect();
    wait_for(asked, 8).await;
    let mail = push(vec![to("mail", "open", "ada", 1, None)]);
    let outcomes = actions.submit(&mail, &Identity::anyone()).await.unwrap();
    assert_eq!(outcomes, [data("2")]);
    assert_eq!(hanging.requests().len(), 8);
    for _ in 0..20 {
        go.send(()).unwrap();
    }
    for outcome in join_all(waiting).await {
        assert_eq!(outcome.unwrap(), [data("1")]);
    }
}

#[tokio::test]
async fn retries_run_in_the_background() {
    let (asked, was_asked) = channel();
    let fixture = Fixture::new(move |_, before| {
        asked.send(()).unwrap();
        match before {
            0 => status("500 Broken"),
            _ => ok("1"),
        }
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(Arc::clone(&fixture.actions).run(async { drop(stopped.await) }));
    assert_eq!(
        fixture.submit(vec![action("ada", 1, None)]).await,
        [queued()]
    );
    fixture.clock.advance(60_000);
    // Any change wakes it.
    assert!(!fixture.actions.retry("nothing").await.unwrap());
    wait_for(was_asked, 2).await;
    stop.send(()).unwrap();
    running.await.unwrap();
    assert_eq!(
        fixture.submit(vec![action("ada", 1, None)]).await,
        [data("1")]
    );
}

#[tokio::test]
async fn a_wall_clock_that_was_set_back_does_not_hold_actions() {
    let fixture = Fixture::new(|_, before| match before {
        0 => status("500 Broken"),
        _ => ok("1"),
    });
    assert_eq!(
        fixture.submit(vec![action("ada", 1, None)]).await,
        [queued()]
    );
    fixture.clock.set(NOW_MS - 30 * 24 * 3_600_000);
    assert_eq!(fixture.deliver_due().await, 1);
}

#[tokio::test]
async fn when_too_much_waits_new_actions_are_told_to_come_back() {
    let mut store = Store::in_memory().unwrap();
    store.limits.waiting = (2, 1 << 20);
    let fixture = Fixture::over(store, |_, _| status("500 Broken"));
    let all = || (1..=3).map(|n| action("ada", n, None)).collect::<Vec<_>>();
    for _ in 0..2 {
        let outcomes = fixture.submit(all()).await;
        assert_eq!(outcomes[..2], [queued(), queued()]);
        assert_failed(&outcomes[2], "BACKPRESSURE_ERROR", "nothing was stored");
        assert!(matches!(
            outcomes[2],
            ActionOutcome::Failed {
                retryable: true,
                ..
            }
        ));
    }
    assert_eq!(fixture.delivered(), [1, 2]);
}

#[test]
fn old_answers_and_too_many_are_forgotten() {
    let mut store = Store::in_memory().unwrap();
    store.limits.finished = (600, 1 << 30);
    store.limits.dead = (300, 1 << 30);
    let day_ms = 24 * 3_600_000;
    for n in 0..2_000_u64 {
        let now_ms = i64::try_from(n).unwrap() * 1_000;
        let admitted = store.admit(&[action("ada", n, None)], now_ms).unwrap();
        let [Admitted::New(job)] = &admitted[..] else {
            panic!("{admitted:?}");
        };
        let verdict = match n % 2 {
            0 => Verdict::Done(JsonText::parse("1").unwrap()),
            _ => Verdict::Dead("gone".to_owned()),
        };
        store.settle(job.number, &verdict, now_ms).unwrap();
    }
    store.forget(2_000_000).unwrap();
    assert!(totals(&store.db, &[State::Done, State::Failed]).unwrap().0 < 600);
    assert!(totals(&store.db, &[State::Dead]).unwrap().0 < 300);
    // The newest are known, the oldest are not.
    let known = |store: &mut Store, n| {
        matches!(
            store.admit(&[action("ada", n, None)], 2_000_000).unwrap()[..],
            [Admitted::Known(_)]
        )
    };
    assert!(known(&mut store, 1_999));
    assert!(!known(&mut store, 0));
    store.forget(2_000_000 + 7 * day_ms + 1_000).unwrap();
    assert_eq!(
        totals(&store.db, &[State::Done, State::Failed]).unwrap(),
        (0, 0)
    );
    assert!(
        totals(&store.db, &[State::Dead]).unwrap().0 > 0,
        "dead letters have no age"
    );
}

/// What the model knows of an action.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Waiting,
    Finished,
    Dead,
}

/// A store, a map that should say the same, and the jobs that are out.
struct History {
    path: std::path::PathBuf,
    store: Store,
    model: BTreeMap<String, Known>,
    flying: Vec<(String, i64)>,
    now_ms: i64,
    seed: u64,
}

impl History {
    fn random(&mut self, below: u64) -> u64 {
        let seed = self.seed.wrapping_mul(6_364_136_223_846_793_005);
        self.seed = seed.wrapping_add(1);
        (self.seed >> 33) % below
    }

    fn some_action(&mut self) -> (Action, String) {
        let some = action("ada", self.random(40), None);
        let id = some.action_id.to_string();
        (some, id)
    }

    fn admit(&mut self) {
        let (some, id) = self.some_action();
        let known = self.model.contains_key(&id);
        match &self.store.admit(&[some], self.now_ms).unwrap()[..] {
            [Admitted::New(job)] => {
                assert!(!known);
                self.flying.push((id.clone(), job.number));
                self.model.insert(id, Known::Waiting);
            }
            other => assert!(known, "{other:?}"),
        }
    }

    fn claim(&mut self) {
        for job in self.store.claim("tickets", self.now_ms, 5).unwrap() {
            assert_eq!(self.model[&job.action_id], Known::Waiting);
            let out = self.flying.iter().any(|(id, _)| *id == job.action_id);
            assert!(!out, "two attempts at once");
            self.flying.push((job.action_id, job.number));
        }
    }

    fn settle(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        let at = self.random(self.flying.len() as u64);
        let (id, number) = self.flying.swap_remove(usize::try_from(at).unwrap());
        let (verdict, known) = match self.random(4) {
            0 => (
                Verdict::Done(JsonText::parse("1").unwrap()),
                Known::Finished,
            ),
            1 => (Verdict::Dead("no".to_owned()), Known::Dead),
            _ => {
                let wait = Duration::from_millis(self.random(3_000));
                let reason = "later".to_owned();
                (Verdict::Again { wait, reason }, Known::Waiting)
            }
        };
        self.store.settle(number, &verdict, self.now_ms).unwrap();
        self.model.insert(id, known);
    }

    fn decide_dead(&mut self) {
        let (_, id) = self.some_action();
        let was_dead = self.model.get(&id) == Some(&Known::Dead);
        let (done, known) = match self.random(2) {
            0 => (self.store.retry(&id, self.now_ms), Known::Waiting),
            _ => (self.store.discard(&id, self.now_ms), Known::Finished),
        };
        assert_eq!(done.unwrap(), was_dead);
        if was_dead {
            self.model.insert(id, known);
        }
    }

    fn restart(&mut self) {
        self.store = Store::open(&self.path).unwrap();
        self.flying.clear();
    }

    fn check(&self) {
        let known = |wanted: Known| {
            self.model
                .values()
                .filter(|known| **known == wanted)
                .count()
        };
        let rows = |states: &[State]| {
            let (rows, _) = totals(&self.store.db, states).unwrap();
            usize::try_from(rows).unwrap()
        };
        assert_eq!(rows(&[State::Waiting]), known(Known::Waiting));
        assert_eq!(rows(&[State::Done, State::Failed]), known(Known::Finished));
        assert_eq!(rows(&[State::Dead]), known(Known::Dead));
    }
}

#[test]
fn random_histories_agree_with_a_map_of_states() {
    for seed in 1..=3 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let mut history = History {
            store: Store::open(&path).unwrap(),
            path,
            model: BTreeMap::new(),
            flying: Vec::new(),
            now_ms: 0,
            seed,
        };
        for _ in 0..600 {
            history.now_ms += i64::try_from(history.random(2_000)).unwrap();
            match history.random(60) {
                0..20 => history.admit(),
                20..30 => history.claim(),
                30..45 => history.settle(),
                45..59 => history.decide_dead(),
                _ => history.restart(),
            }
            history.check();
        }
        let db = &history.store.db;
        let bytes = "select sum(bytes) from actions";
        let counted: i64 = db.query_row(bytes, [], |row| row.get(0)).unwrap();
        let all = [State::Waiting, State::Done, State::Failed, State::Dead];
        assert_eq!(totals(db, &all).unwrap().1, counted, "seed {seed}");
    }
}

#[test]
fn a_database_that_is_none_or_newer_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| Store::open(path).unwrap_err().to_string();
    let text = folder.path().join("text.db");
    std::fs::write(&text, "this is no database, whatever its name says").unwrap();
    assert!(refused(&text).contains("no delta"));
    let newer = folder.path().join("newer.db");
    let db = rusqlite::Connection::open(&newer).unwrap();
    db.pragma_update(None, "user_version", 2).unwrap();
    drop(db);
    assert!(refused(&newer).contains("has format 2, this program knows 1"));
}

#[test]
fn connectors_that_cannot_work_are_refused_by_name_and_field() {
    let good = || connector("tickets", "https://hooks.example/x");
    type Change = fn(&mut Connector);
    let changes: [(Change, &str); 11] = [
        (|c| c.name = "a b".to_owned(), "no connector name"),
        (|c| c.name = String::new(), "no connector name"),
        (|c| c.url = "ftp://x".to_owned(), "`url`"),
        (|c| c.url = "https://".to_owned(), "`url`"),
        (|c| c.url = "https://a b/".to_owned(), "`url`"),
        (|c| c.secret = Some(String::new()), "`secret`"),
        (|c| c.types.clear(), "0 action types"),
        (|c| c.types.push(c.types[0].clone()), "stands twice"),
        (|c| c.timeout = Duration::ZERO, "`timeout`"),
        (|c| c.timeout = Duration::from_secs(121), "`timeout`"),
        (|c| c.attempts_max = 0, "`attempts_max`"),
    ];
    for (change, part) in changes {
        let mut connector = good();
        change(&mut connector);
        let error = Webhooks::new(vec![connector]).unwrap_err().to_string();
        assert!(
            error.starts_with("actions.") && error.contains(part),
            "{error}"
        );
    }
    let twice = Webhooks::new(vec![good(), good()]).unwrap_err().to_string();
    assert!(twice.contains("stands twice"), "{twice}");
    let mut secret = good();
    secret.secret = Some("whsec_test".to_owned());
    assert!(!format!("{secret:?}").contains("whsec"), "{secret:?}");
}
