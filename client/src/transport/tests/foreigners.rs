//! Answers of somebody else: proxies, login pages, other servers. None of them may condemn an edit.

use super::server::{Answer, serving};
use super::{pull, push, transport};
use crate::transport::{Transport, TransportError};

fn pushed(answer: Answer) -> TransportError {
    let (url, _server) = serving(vec![answer]);
    transport(&url).push(&push(1)).unwrap_err()
}

#[test]
fn a_web_page_is_told_from_a_gateway() {
    let page = "<!doctype html><title>Welcome to the hotel</title>";
    for answer in [
        Answer::new("200 OK", &["Content-Type: text/html; charset=utf-8"], page),
        Answer::new("404 Not Found", &["Content-Type: text/html"], page),
        Answer::new("403 Forbidden", &[], page),
        Answer::new("405 Method Not Allowed", &[], page),
        Answer::new("422 Unprocessable Entity", &[], page),
    ] {
        let error = pushed(answer);
        assert!(
            matches!(error, TransportError::Foreign { .. }) && error.is_retryable(),
            "{error:?}"
        );
        assert!(error.to_string().contains("web page"), "{error}");
    }
}

#[test]
fn a_redirect_says_where_to() {
    let error = pushed(Answer::new(
        "301 Moved Permanently",
        &["Location: https://sync.example.org/v1"],
        "",
    ));
    assert!(
        error.to_string().contains("https://sync.example.org/v1"),
        "{error}"
    );
    assert!(error.is_retryable());
}

#[test]
fn another_servers_json_is_no_refusal() {
    for body in [
        r#"{"message":"Not Found"}"#,
        "null",
        "7",
        r#"{"code":7}"#,
        "",
    ] {
        let error = pushed(Answer::json("404 Not Found", body));
        assert!(
            matches!(error, TransportError::Foreign { status: 404, .. }),
            "{body}: {error:?}"
        );
        let (url, _server) = serving(vec![Answer::json("200 OK", body)]);
        let error = transport(&url).pull(&pull()).unwrap_err();
        assert!(
            matches!(error, TransportError::Foreign { status: 200, .. }),
            "{body}: {error:?}"
        );
    }
}

#[test]
fn what_a_proxy_says_for_a_gateway_is_heard() {
    for (status, retryable) in [
        ("401 Unauthorized", false),
        ("413 Payload Too Large", false),
        ("429 Too Many Requests", true),
        ("502 Bad Gateway", true),
        ("504 Gateway Timeout", true),
    ] {
        let error = pushed(Answer::new(
            status,
            &[
                "Date: Tue, 24 Nov 2026 12:00:00 GMT",
                "Retry-After: Tue, 24 Nov 2026 12:01:30 GMT",
            ],
            "<html>".repeat(1_000),
        ));
        assert_eq!(error.is_retryable(), retryable, "{status}");
        let text = error.to_string();
        assert!(text.starts_with("<html>") && text.len() < 300, "{text}");
        let TransportError::Refused(refusal) = error else {
            panic!("{status} is no refusal");
        };
        assert_eq!(refusal.retry_after.map(|after| after.as_secs()), Some(90));
        assert_eq!((refusal.code.as_str(), refusal.index), ("", None));
    }
}

#[test]
fn what_is_no_http_is_no_answer() {
    for raw in [
        "",
        "hello\r\n\r\n",
        "HTTP/1.1 banana\r\n\r\n",
        "SSH-2.0-x\r\n",
    ] {
        let error = pushed(Answer::raw(raw));
        assert!(
            matches!(error, TransportError::Unreachable { .. }),
            "{raw}: {error:?}"
        );
    }
    let short = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 10\r\n\
        Connection: close\r\n\r\nabc";
    let error = pushed(Answer::raw(short));
    assert!(
        matches!(error, TransportError::Unreachable { .. }),
        "{error:?}"
    );
}

#[test]
fn control_characters_of_others_reach_no_terminal() {
    let error = pushed(Answer::new("400 Bad Request", &[], "\x1b[2Jgone\r\n"));
    assert!(!error.to_string().contains(char::is_control), "{error:?}");
}
