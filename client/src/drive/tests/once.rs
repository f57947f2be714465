//! One sync in the caller's thread.

use super::gateway::{Gateway, Weather};
use super::{add, database, titles, todos};
use crate::{ErrorKind, Synced};

#[test]
fn edits_go_and_come_and_are_counted() {
    let gateway = Gateway::new(vec![todos()]);
    let (ada, ben) = (database("ada"), database("ben"));
    add(&ada, "milk");
    add(&ada, "bread");
    let synced = ada.sync(&gateway).unwrap();
    assert_eq!((synced.acknowledged, synced.rejected), (2, 0));
    add(&ben, "tea");
    let synced = ben.sync(&gateway).unwrap();
    assert_eq!(synced.acknowledged, 1);
    assert!(synced.applied >= 2, "{synced:?}");
    assert_eq!(titles(&ben), ["bread", "milk", "tea"]);
    assert!(ada.sync(&gateway).unwrap().applied >= 1);
    assert_eq!(titles(&ada), titles(&ben));
    let synced = ada.sync(&gateway).unwrap();
    assert_eq!(synced, Synced::default(), "nothing is new");
}

#[test]
fn what_keeps_it_from_being_done_is_an_error_and_nothing_is_lost() {
    let gateway = Gateway::new(vec![todos()]);
    let ada = database("ada");
    add(&ada, "milk");
    gateway.set(Weather::Down);
    let error = ada.sync(&gateway).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retryable, "{error:?}");
    gateway.set(Weather::Fair);
    assert_eq!(ada.sync(&gateway).unwrap().acknowledged, 1);
}

#[test]
fn refused_edits_are_counted_and_no_error() {
    let gateway = Gateway::new(vec![todos()]);
    let ada = database("ada");
    add(&ada, "milk");
    add(&ada, "bread");
    gateway.set(Weather::Refusing);
    let synced = ada.sync(&gateway).unwrap();
    assert_eq!((synced.acknowledged, synced.rejected), (0, 2));
    assert!(titles(&ada).is_empty(), "the rows fall back");
}
