//! Dead letters in the hands of a person.

use std::sync::{Arc, Mutex};

use lakesync_proto::{ClientId, ErrorCode, ManualClock, Value};

use super::world::{NOW_MS, refusal, todos};
use crate::outbox::{self, EntryState, Refused};
use crate::{ClientError, LocalDb};

struct Desk {
    db: LocalDb,
    clock: Arc<ManualClock>,
}

impl Desk {
    fn new() -> Desk {
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let client = ClientId::parse("ada").unwrap();
        let db = LocalDb::open(":memory:", client, Arc::clone(&clock) as _).unwrap();
        db.register(&todos()).unwrap();
        Desk { db, clock }
    }

    /// Pushes everything; the gateway refuses the first edit.
    fn refuse_first(&self, code: ErrorCode) -> Refused {
        let batch = self.db.keep(|work| outbox::take(work, 100)).unwrap();
        let batch = batch.expect("there is something to push");
        let refusal = refusal(422, code, Some(0));
        let refused = self.db.keep(|work| outbox::refuse(work, &batch, &refusal));
        refused.unwrap()
    }

    fn title(&self) -> Option<Value> {
        let rows = self.db.rows("todos").unwrap();
        let row = rows.values().next()?;
        let mut cells = row.iter();
        let title = cells.find(|(column, _)| column.as_str() == "title");
        title.map(|(_, value)| value.clone())
    }
}

#[test]
fn a_late_edit_is_sent_again_as_one_of_now() {
    let desk = Desk::new();
    desk.db
        .insert("todos", &[("title", Value::from("Buy milk"))])
        .unwrap();
    let before = desk.db.outbox(10).unwrap().remove(0);
    desk.refuse_first(ErrorCode::LateDelta);
    assert_eq!(desk.title(), None);
    let letters = desk.db.dead_letters(10).unwrap();
    assert!(letters[0].is_too_late());
    assert_eq!(letters[0].op, Some(before.op));
    assert_eq!(letters[0].columns, before.columns);

    desk.clock.advance(60_000);
    assert_eq!(desk.db.retry_all_too_late().unwrap(), 1);
    assert_eq!(desk.title(), Some(Value::from("Buy milk")));
    let after = desk.db.outbox(10).unwrap().remove(0);
    assert_eq!(after.row_id, before.row_id);
    assert_eq!(after.hlc.wall_ms(), NOW_MS + 60_000);
    let waits = EntryState::Pending {
        in_doubt: false,
        held: false,
    };
    assert_eq!(after.state, waits);
    assert_eq!(desk.db.dead_letters(10).unwrap(), []);
    assert_eq!(desk.db.outbox_counts().unwrap().pending, 1);
}

#[test]
fn retry_all_spares_what_was_refused_for_another_reason() {
    let desk = Desk::new();
    let row = desk
        .db
        .insert("todos", &[("title", Value::from("1"))])
        .unwrap();
    desk.refuse_first(ErrorCode::ValidationError);
    desk.db
        .execute("INSERT INTO todos (title) VALUES ('2')", [])
        .unwrap();
    desk.refuse_first(ErrorCode::LateDelta);
    assert_eq!(desk.db.retry_all_too_late().unwrap(), 1);
    let letters = desk.db.dead_letters(10).unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].row_id, row.as_str());
    desk.db.retry(letters[0].entry).unwrap();
    assert_eq!(desk.db.outbox_counts().unwrap().pending, 2);
}

#[test]
fn a_retried_edit_does_not_undo_what_came_after_it() {
    let desk = Desk::new();
    let row = desk
        .db
        .insert("todos", &[("title", Value::from("old"))])
        .unwrap();
    desk.refuse_first(ErrorCode::LateDelta);
    let letter = desk.db.dead_letters(1).unwrap().remove(0);
    desk.db.retry(letter.entry).unwrap();
    desk.db
        .update("todos", row.as_str(), &[("title", Value::from("new"))])
        .unwrap();
    assert_eq!(desk.title(), Some(Value::from("new")));
    let stamps: Vec<_> = (desk.db.outbox(10).unwrap().iter())
        .map(|entry| entry.hlc)
        .collect();
    assert!(stamps.is_sorted());
}

#[test]
fn a_discarded_letter_is_gone_and_cannot_be_retried() {
    let desk = Desk::new();
    desk.db
        .insert("todos", &[("title", Value::from("1"))])
        .unwrap();
    let pending = desk.db.outbox(1).unwrap()[0].entry;
    let no_letter = |error: ClientError| matches!(error, ClientError::NoDeadLetter { entry } if entry == pending);
    assert!(
        no_letter(desk.db.discard(pending).unwrap_err()),
        "it is no dead letter"
    );
    assert!(no_letter(desk.db.retry(pending).unwrap_err()));
    desk.refuse_first(ErrorCode::ValidationError);
    desk.db.discard(pending).unwrap();
    assert!(no_letter(desk.db.discard(pending).unwrap_err()));
    assert_eq!(desk.db.outbox_counts().unwrap().rejected, 0);
    assert_eq!(desk.title(), None);
}

#[test]
fn what_never_fitted_is_listed_with_its_values_and_cannot_be_sent() {
    let desk = Desk::new();
    let table = desk.db.keep(|work| {
        let name = lakesync_proto::TableName::parse("todos").unwrap();
        let table = Arc::clone(work.registry.table(&name)?);
        outbox::add_rejected(work, &table, "x", ("title = x'ff'", "title is no UTF-8"))?;
        Ok(table)
    });
    assert_eq!(table.unwrap().schema.table.as_str(), "todos");
    let letter = desk.db.dead_letters(1).unwrap().remove(0);
    assert_eq!(
        (letter.op, letter.captured.as_deref()),
        (None, Some("title = x'ff'"))
    );
    assert_eq!(letter.reason.message, "title is no UTF-8");
    let refused = desk.db.retry(letter.entry).unwrap_err();
    assert!(matches!(refused, ClientError::NeverAnEdit { .. }));
    desk.db.discard(letter.entry).unwrap();
}

#[test]
fn callbacks_hear_of_each_letter_once_and_may_use_the_database() {
    let desk = Desk::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let subscription = desk.db.on_dead_letter({
        let (db, heard) = (desk.db.clone(), Arc::clone(&heard));
        move |letter| {
            let rejected = db.outbox_counts().unwrap().rejected;
            heard.lock().unwrap().push((letter.entry, rejected));
            db.discard(letter.entry).unwrap();
        }
    });
    desk.db
        .insert("todos", &[("title", Value::from("1"))])
        .unwrap();
    let Refused::Rejected { entry } = desk.refuse_first(ErrorCode::ValidationError) else {
        panic!("it is refused");
    };
    assert_eq!(*heard.lock().unwrap(), [(entry, 1)]);
    assert_eq!(desk.db.dead_letters(10).unwrap(), []);

    drop(subscription);
    desk.db
        .insert("todos", &[("title", Value::from("2"))])
        .unwrap();
    desk.refuse_first(ErrorCode::ValidationError);
    assert_eq!(heard.lock().unwrap().len(), 1);
    assert_eq!(desk.db.dead_letters(10).unwrap().len(), 1);
}
