//! The machine against gateways that answer anything, and then against one that is well.

use super::*;
use crate::dice::Dice;
use crate::sync::options::Wish;

/// A machine with a file that is only facts.
struct World {
    machine: Machine,
    facts: Facts,
    now_ms: u64,
    asked: Vec<Ask>,
}

impl World {
    fn new(options: &SessionOptions) -> World {
        World {
            machine: Machine::new(options, 7),
            facts: Facts {
                outbox: OutboxMark::default(),
                schemas_known: false,
                loading: true,
            },
            now_ms: 1_000_000,
            asked: Vec::new(),
        }
    }

    /// A world that has synced.
    fn settled(options: &SessionOptions) -> World {
        let mut world = World::new(options);
        world.heal(50);
        world.asked.clear();
        world
    }

    fn ask(&mut self) -> Ask {
        let ask = self.machine.next(&self.facts, self.now_ms);
        self.asked.push(ask);
        ask
    }

    /// Asks until a wait, the gateway being well.
    fn run(&mut self) -> Ask {
        for _ in 0..100 {
            match self.ask() {
                Ask::Do(exchange) => self.answer_well(exchange),
                Ask::Unsubscribe => {}
                end => return end,
            }
        }
        panic!("no end in sight: {:?}", self.asked);
    }

    fn edit(&mut self) {
        self.facts.outbox.change += 1;
    }

    fn answer_well(&mut self, exchange: Exchange) {
        let (machine, now_ms) = (&mut self.machine, self.now_ms);
        let outbox = &mut self.facts.outbox;
        match exchange {
            Exchange::Push if (outbox.change, outbox.waiting.0) == (0, 0) => {
                machine.nothing_to_send(*outbox);
                return;
            }
            _ => assert!(machine.take_under_way(exchange)),
        }
        match exchange {
            Exchange::Push => {
                (outbox.change, outbox.waiting) = (0, (0, 0));
                machine.sent(Sent::Taken, now_ms);
            }
            Exchange::Pull => {
                machine.pulled(Read::Last, now_ms);
            }
            Exchange::Checkpoint => {
                machine.loaded(Read::More, now_ms);
            }
            Exchange::Chunk => {
                self.facts.loading = false;
                machine.loaded(Read::Last, now_ms);
            }
            Exchange::Schemas => {
                self.facts.schemas_known = true;
                self.facts.outbox.registry += 1;
                machine.heard_schemas(3);
            }
            Exchange::Subscribe => machine.subscribed(now_ms),
            Exchange::RefreshToken => machine.renewed(now_ms),
            Exchange::Digest => machine.verified(),
        }
    }

    /// The gateway is well, and every wait is waited for.
    fn heal(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.ask() {
                Ask::Do(exchange) => self.answer_well(exchange),
                Ask::Unsubscribe => {}
                Ask::Stopped => return,
                Ask::Wait { .. } if self.is_settled() => return,
                Ask::Wait { until_ms } => {
                    self.now_ms = until_ms.expect("a wait of an unsettled session ends by itself");
                }
            }
        }
        let tail = &self.asked[self.asked.len() - steps..];
        panic!("not settled after {steps} steps: {tail:?}");
    }

    fn is_settled(&self) -> bool {
        let live = self.machine.updates == Updates::Poll || self.machine.is_open();
        live && self.machine.is_up_to_date()
            && (self.facts.outbox.change, self.facts.outbox.waiting.0) == (0, 0)
    }

    fn asked(&mut self) -> Vec<Ask> {
        std::mem::take(&mut self.asked)
    }
}

fn do_all(exchanges: &[Exchange]) -> Vec<Ask> {
    exchanges
        .iter()
        .map(|exchange| Ask::Do(*exchange))
        .collect()
}

/// Any answer to `exchange`, and whether it brings the client on.
fn answer_anything(world: &mut World, exchange: Exchange, rng: &mut Dice) -> bool {
    let now_ms = world.now_ms;
    let (machine, outbox) = (&mut world.machine, &mut world.facts.outbox);
    if exchange == Exchange::Push && rng.below(3) == 0 {
        *outbox = OutboxMark {
            registry: outbox.registry,
            ..OutboxMark::default()
        };
        machine.nothing_to_send(*outbox);
        return true;
    }
    assert!(machine.take_under_way(exchange));
    if exchange == Exchange::RefreshToken {
        match rng.below(2) {
            0 => machine.renewed(now_ms),
            _ => machine.not_renewed(now_ms),
        }
        return false;
    }
    let failure = match rng.below(9) {
        0 => Failure::NoAnswer,
        1 => Failure::Token,
        2 => Failure::Refused {
            retry_after_ms: None,
        },
        3 => Failure::Refused {
            retry_after_ms: Some(rng.below(20_000)),
        },
        4 => Failure::Schema,
        5 => Failure::Garbled,
        6 => Failure::Local,
        _ => return answer_oddly(world, exchange, rng),
    };
    machine.failed(exchange, failure, now_ms);
    false
}

/// An answer that is no failure. Those bring the client on that take an edit out of the way or bring more of the log.
fn answer_oddly(world: &mut World, exchange: Exchange, rng: &mut Dice) -> bool {
    let now_ms = world.now_ms;
    let (machine, facts) = (&mut world.machine, &mut world.facts);
    let read = [Read::More, Read::Last, Read::Stale, Read::StartOver]
        [usize::try_from(rng.below(4)).unwrap()];
    facts.loading = match read {
        Read::StartOver => true,
        Read::Last => false,
        _ => facts.loading,
    };
    match exchange {
        Exchange::Push => {
            let sent = [Sent::Taken, Sent::Smaller, Sent::Restamped, Sent::Held]
                [usize::try_from(rng.below(4)).unwrap()];
            machine.sent(sent, now_ms);
            return sent != Sent::Restamped;
        }
        Exchange::Pull => {
            machine.pulled(read, now_ms);
        }
        Exchange::Checkpoint | Exchange::Chunk => {
            machine.loaded(read, now_ms);
        }
        Exchange::Schemas => {
            facts.schemas_known = true;
            facts.outbox.registry += 1;
            machine.heard_schemas(rng.below(2));
        }
        Exchange::Subscribe => machine.subscribed(now_ms),
        Exchange::Digest => match rng.below(2) {
            0 => machine.verified(),
            _ => machine.verify_again(),
        },
        Exchange::RefreshToken => machine.renewed(now_ms),
    }
    read == Read::More
}

fn anything_happens(world: &mut World, rng: &mut Dice) -> bool {
    let now_ms = world.now_ms;
    let machine = &mut world.machine;
    match rng.below(40) {
        0 => machine.wish(Wish::SyncNow),
        1 => machine.wish(Wish::Verify),
        2 => machine.wish(Wish::Live),
        3 => machine.wish(Wish::Poll),
        4 => world.edit(),
        5 => world.facts.outbox.registry += 1,
        6 => machine.want_schemas(),
        7 => world.now_ms = rng.below(2_000_000),
        8 if machine.is_open() => machine.live_ended(now_ms),
        9 if machine.is_open() => machine.live(Read::Last, now_ms),
        10 if machine.is_open() => machine.live(Read::StartOver, now_ms),
        11 if machine.is_open() => {
            machine.live_failed(Failure::Local, now_ms);
        }
        12 => machine.expiring(),
        _ => return false,
    }
    true
}

#[test]
fn whatever_a_gateway_answers_there_is_a_wait_and_when_it_is_well_everything_settles() {
    for seed in 0..2_000 {
        let mut rng = Dice(seed);
        let updates = [Updates::Live, Updates::Poll][usize::try_from(rng.below(2)).unwrap()];
        let mut world = World::new(&SessionOptions::default().with_updates(updates));
        world.edit();
        let mut in_vain = 0;
        for _ in 0..200 {
            if anything_happens(&mut world, &mut rng) {
                in_vain = 0;
            }
            let brings_on = match world.ask() {
                Ask::Do(exchange) => answer_anything(&mut world, exchange, &mut rng),
                Ask::Wait { until_ms } => {
                    let until_ms = until_ms.expect("nobody wished to be offline");
                    assert!(until_ms > world.now_ms, "seed {seed}: a wait that is over");
                    world.now_ms = until_ms;
                    true
                }
                Ask::Unsubscribe => false,
                Ask::Stopped => panic!("nobody wished to stop"),
            };
            in_vain = if brings_on { 0 } else { in_vain + 1 };
            assert!(
                in_vain < 30,
                "seed {seed}: {:?}",
                &world.asked[world.asked.len() - 30..]
            );
        }
        world.heal(60);
    }
}

#[test]
fn a_gateway_that_fails_always_is_asked_ever_more_seldom_and_always_again() {
    for failure in [
        Failure::NoAnswer,
        Failure::Token,
        Failure::Refused {
            retry_after_ms: None,
        },
        Failure::Schema,
        Failure::Garbled,
    ] {
        let mut world = World::new(&SessionOptions::default());
        world.edit();
        let (start_ms, mut asked) = (world.now_ms, 0);
        while world.now_ms < start_ms + 3_600_000 {
            match world.ask() {
                Ask::Do(exchange) => {
                    asked += 1;
                    assert!(world.machine.take_under_way(exchange));
                    match exchange {
                        Exchange::RefreshToken => world.machine.renewed(world.now_ms),
                        _ => {
                            world.machine.failed(exchange, failure, world.now_ms);
                        }
                    }
                }
                Ask::Wait { until_ms } => world.now_ms = until_ms.unwrap(),
                other => panic!("{other:?}"),
            }
        }
        assert!(
            (60..1_000).contains(&asked),
            "{failure:?}: {asked} in an hour"
        );
    }
}

#[test]
fn a_new_database_asks_for_schemas_then_sends_and_loads_in_turns_and_goes_live() {
    let mut world = World::new(&SessionOptions::default());
    world.edit();
    let wait = world.run();
    assert_eq!(
        wait,
        Ask::Wait {
            until_ms: Some(1_060_000)
        }
    );
    use Exchange::*;
    let mut want = do_all(&[Schemas, Push, Checkpoint, Push, Chunk, Pull, Subscribe]);
    want.push(wait);
    assert_eq!(world.asked(), want);
}

#[test]
fn edits_made_while_pages_come_are_sent_between_them() {
    let mut world = World::settled(&SessionOptions::default());
    world.machine.wish(Wish::SyncNow);
    let mut order = Vec::new();
    for _ in 0..6 {
        world.edit();
        let Ask::Do(exchange) = world.ask() else {
            panic!("{:?}", world.asked)
        };
        order.push(exchange);
        match exchange {
            Exchange::Pull => {
                assert!(world.machine.take_under_way(exchange));
                world.machine.pulled(Read::More, world.now_ms);
            }
            other => world.answer_well(other),
        }
    }
    use Exchange::{Pull, Push};
    assert_eq!(order, [Push, Pull, Push, Pull, Push, Pull]);
}

#[test]
fn a_session_of_one_sync_ends_when_all_is_sent_and_here() {
    let mut world = World::new(&SessionOptions::once());
    world.edit();
    assert_eq!(world.run(), Ask::Stopped);
    assert_eq!((world.facts.outbox.change, world.facts.loading), (0, false));
}

#[test]
fn a_session_of_one_sync_waits_when_something_failed() {
    let mut world = World::new(&SessionOptions::once());
    world.edit();
    for exchange in [Exchange::Schemas, Exchange::Push] {
        assert_eq!(world.ask(), Ask::Do(exchange));
        if exchange == Exchange::Schemas {
            world.answer_well(exchange);
        }
    }
    assert!(world.machine.take_under_way(Exchange::Push));
    let refused = Failure::Refused {
        retry_after_ms: Some(9_000),
    };
    world.machine.failed(Exchange::Push, refused, world.now_ms);
    let wait = world.run();
    assert_eq!(
        wait,
        Ask::Wait {
            until_ms: Some(1_009_000)
        }
    );
    assert!(
        world.machine.is_up_to_date(),
        "what others wrote comes nevertheless"
    );
}

#[test]
fn a_refused_token_is_renewed_once_and_then_there_is_a_wait() {
    let mut world = World::settled(&SessionOptions::default());
    world.edit();
    let mut order = Vec::new();
    let wait = loop {
        match world.ask() {
            Ask::Do(Exchange::RefreshToken) => {
                order.push(Exchange::RefreshToken);
                world.answer_well(Exchange::RefreshToken);
            }
            Ask::Do(exchange) => {
                order.push(exchange);
                assert!(world.machine.take_under_way(exchange));
                world.machine.failed(exchange, Failure::Token, world.now_ms);
            }
            other => break other,
        }
    };
    assert_eq!(
        order,
        [Exchange::Push, Exchange::RefreshToken, Exchange::Push]
    );
    assert!(matches!(wait, Ask::Wait { until_ms: Some(_) }), "{wait:?}");
    world.machine.wish(Wish::Online);
    world.heal(10);
}

#[test]
fn without_a_live_connection_the_gateway_is_polled_and_the_connection_tried_again() {
    let mut world = World::settled(&SessionOptions::default());
    world.machine.live_ended(world.now_ms);
    let mut polls = 0;
    let start_ms = world.now_ms;
    while world.now_ms < start_ms + 600_000 {
        match world.ask() {
            Ask::Do(Exchange::Subscribe) => {
                assert!(world.machine.take_under_way(Exchange::Subscribe));
                let refused = Failure::Refused {
                    retry_after_ms: None,
                };
                world
                    .machine
                    .failed(Exchange::Subscribe, refused, world.now_ms);
            }
            Ask::Do(exchange) => {
                polls += u32::from(exchange == Exchange::Pull);
                world.answer_well(exchange);
            }
            Ask::Wait { until_ms } => world.now_ms = until_ms.unwrap(),
            other => panic!("{other:?}"),
        }
    }
    assert!((50..75).contains(&polls), "{polls} polls in ten minutes");
    world.heal(20);
}

#[test]
fn offline_asks_nothing_and_stop_closes_what_is_open() {
    let mut world = World::settled(&SessionOptions::default());
    world.machine.wish(Wish::Offline);
    world.edit();
    assert_eq!(world.ask(), Ask::Unsubscribe);
    assert_eq!(world.ask(), Ask::Wait { until_ms: None });
    world.machine.wish(Wish::Online);
    world.heal(10);
    world.machine.wish(Wish::Stop);
    world.machine.wish(Wish::Online);
    assert_eq!((world.ask(), world.ask()), (Ask::Unsubscribe, Ask::Stopped));
}

#[test]
fn a_clock_set_back_puts_no_try_off() {
    let mut world = World::settled(&SessionOptions::default().with_updates(Updates::Poll));
    world.now_ms -= 500_000;
    assert_eq!(world.ask(), Ask::Do(Exchange::Pull));
    assert!(world.machine.take_under_way(Exchange::Pull));
    world
        .machine
        .failed(Exchange::Pull, Failure::NoAnswer, world.now_ms);
    assert!(matches!(world.ask(), Ask::Wait { .. }));
    world.now_ms -= 1;
    assert_eq!(world.ask(), Ask::Do(Exchange::Pull));
}

#[test]
fn a_step_that_was_lost_is_asked_for_again_and_a_broken_stream_opened_anew() {
    let mut world = World::new(&SessionOptions::default());
    for _ in 0..3 {
        assert_eq!(world.ask(), Ask::Do(Exchange::Schemas));
    }
    world.answer_well(Exchange::Schemas);
    assert_eq!(world.ask(), Ask::Do(Exchange::Push));
    world.answer_well(Exchange::Push);
    assert_eq!(world.ask(), Ask::Do(Exchange::Checkpoint));
    world.answer_well(Exchange::Checkpoint);
    assert_eq!(world.ask(), Ask::Do(Exchange::Chunk));
    assert_eq!(world.ask(), Ask::Do(Exchange::Checkpoint));
    assert!(!world.machine.take_under_way(Exchange::Pull));
    assert!(world.machine.take_under_way(Exchange::Chunk));
}

#[test]
fn a_page_that_no_schema_explains_is_asked_for_again_when_a_table_is_registered() {
    let mut world = World::settled(&SessionOptions::default());
    world.machine.wish(Wish::SyncNow);
    let mut order = Vec::new();
    let fail = |world: &mut World, order: &mut Vec<Exchange>| loop {
        match world.ask() {
            Ask::Do(Exchange::Pull) => {
                order.push(Exchange::Pull);
                assert!(world.machine.take_under_way(Exchange::Pull));
                world
                    .machine
                    .failed(Exchange::Pull, Failure::Schema, world.now_ms);
            }
            Ask::Do(exchange) => {
                order.push(exchange);
                world.answer_well(exchange);
            }
            _ => break,
        }
    };
    fail(&mut world, &mut order);
    use Exchange::{Pull, Push, Schemas};
    assert_eq!(order, [Push, Pull, Schemas, Push, Pull]);
    world.facts.outbox.registry += 1;
    order.clear();
    fail(&mut world, &mut order);
    assert_eq!(order[..2], [Push, Pull], "without a wait");
}

/// Asks for an hour, the answers being `answer`'s; how often it asked and how often it waited.
fn an_hour(world: &mut World, mut answer: impl FnMut(&mut World, Exchange)) -> (u32, u32) {
    let (start_ms, mut asked, mut waited) = (world.now_ms, 0, 0);
    while world.now_ms < start_ms + 3_600_000 {
        match world.ask() {
            Ask::Do(exchange) => {
                asked += 1;
                answer(world, exchange);
            }
            Ask::Wait { until_ms } => {
                waited += 1;
                world.now_ms = until_ms.unwrap();
            }
            Ask::Unsubscribe => {}
            Ask::Stopped => panic!("nobody wished to stop"),
        }
        assert!(
            waited < 1_000 && asked < 200_000,
            "{asked} asked, {waited} waits"
        );
    }
    (asked, waited)
}

#[test]
fn a_gateway_whose_cursors_never_hold_is_asked_for_checkpoints_ever_more_seldom() {
    let mut world = World::new(&SessionOptions::default().with_updates(Updates::Poll));
    let (asked, _) = an_hour(&mut world, |world, exchange| match exchange {
        Exchange::Pull => {
            assert!(world.machine.take_under_way(exchange));
            world.facts.loading = true;
            world.machine.pulled(Read::StartOver, world.now_ms);
        }
        other => world.answer_well(other),
    });
    assert!((100..600).contains(&asked), "{asked} in an hour");
}

#[test]
fn refusals_without_end_are_answered_ever_more_seldom() {
    for (sent, most) in [
        (Sent::Restamped, 2_000),
        (Sent::Held, 8_000),
        (Sent::Smaller, 200_000),
    ] {
        let mut world = World::new(&SessionOptions::default().with_updates(Updates::Poll));
        world.edit();
        let (asked, _) = an_hour(&mut world, |world, exchange| match exchange {
            Exchange::Push => {
                assert!(world.machine.take_under_way(exchange));
                world.machine.sent(sent, world.now_ms);
            }
            other => world.answer_well(other),
        });
        assert!((100..most).contains(&asked), "{sent:?}: {asked} in an hour");
    }
}

#[test]
fn a_connection_that_says_that_its_token_ends_is_heard_once() {
    let mut world = World::settled(&SessionOptions::default());
    for _ in 0..3 {
        world.machine.expiring();
        if world.ask() == Ask::Do(Exchange::RefreshToken) {
            assert!(world.machine.take_under_way(Exchange::RefreshToken));
            world.machine.not_renewed(world.now_ms);
        }
    }
    let tokens = world.asked().into_iter();
    let tokens = tokens.filter(|ask| *ask == Ask::Do(Exchange::RefreshToken));
    assert_eq!(tokens.count(), 1);
}

#[test]
fn a_checkpoint_is_not_held_open_through_a_wait() {
    let mut world = World::new(&SessionOptions::default());
    while world.ask() != Ask::Do(Exchange::Checkpoint) {
        let Some(exchange) = world.machine.under_way() else {
            panic!("{:?}", world.asked);
        };
        world.answer_well(exchange);
    }
    world.answer_well(Exchange::Checkpoint);
    world.machine.wish(Wish::Offline);
    assert_eq!(world.ask(), Ask::Wait { until_ms: None });
    world.machine.wish(Wish::Online);
    let next = loop {
        match world.ask() {
            Ask::Do(Exchange::Push) => world.answer_well(Exchange::Push),
            other => break other,
        }
    };
    assert_eq!(next, Ask::Do(Exchange::Checkpoint));
}
