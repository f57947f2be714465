//! Where tokens come from, and when another one is asked for.

use std::sync::Mutex;

use super::server::{Answer, serving};
use super::transport;
use crate::transport::{Transport, TransportError};

const NO_TABLES: &str = r#"{"tables":[]}"#;

#[test]
fn a_source_is_asked_before_the_first_request_and_when_it_is_told_to() {
    let answers = (0..4).map(|_| Answer::json("200 OK", NO_TABLES)).collect();
    let (url, server) = serving(answers);
    let tokens = Mutex::new(vec![
        Err("signed out"),
        Ok("third"),
        Ok("second"),
        Ok("second"),
        Ok("first"),
    ]);
    let transport = transport(&url).with_token_source(move || {
        let token = tokens.lock().unwrap().pop().unwrap();
        Ok(token.map(str::to_owned)?)
    });
    transport.schemas().unwrap();
    transport.schemas().unwrap();
    assert!(transport.refresh_token());
    transport.schemas().unwrap();
    assert!(!transport.refresh_token(), "it is the same again");
    assert!(transport.refresh_token());
    transport.schemas().unwrap();
    let bearers: Vec<bool> = server
        .join()
        .unwrap()
        .iter()
        .zip(["first", "first", "second", "third"])
        .map(|(request, token)| request.has(&format!("authorization: bearer {token}")))
        .collect();
    assert_eq!(bearers, [true; 4]);
    assert!(!transport.refresh_token());
}

#[test]
fn a_source_that_fails_is_asked_again_and_its_reason_is_told() {
    let (url, server) = serving(vec![Answer::json("200 OK", NO_TABLES)]);
    let tokens = Mutex::new(vec![Ok("one"), Err("still signed out"), Err("signed out")]);
    let transport = transport(&url).with_token_source(move || {
        let token = tokens.lock().unwrap().pop().unwrap();
        Ok(token.map(str::to_owned)?)
    });
    let error = transport.schemas().unwrap_err();
    assert!(
        matches!(error, TransportError::Token { .. }) && error.is_retryable(),
        "{error:?}"
    );
    assert!(error.to_string().ends_with("signed out"), "{error}");
    assert!(!transport.refresh_token());
    transport.schemas().unwrap();
    server.join().unwrap();
}

#[test]
fn no_token_is_shown_anywhere() {
    let (url, _server) = serving(vec![]);
    let transport = transport(&url).with_token("hush-hush");
    assert!(!format!("{transport:?}").contains("hush"), "{transport:?}");
    for bad in ["", "hush hush", "hush\r\nX-Admin: 1", "hüsh"] {
        let error = transport.clone().with_token(bad).schemas().unwrap_err();
        assert!(
            matches!(error, TransportError::Token { .. }),
            "{bad}: {error:?}"
        );
        assert!(!format!("{error:?}").contains("sh\""), "{error:?}");
    }
    assert!(!transport.refresh_token(), "there is nobody to ask");
}
