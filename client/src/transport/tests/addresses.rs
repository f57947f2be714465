//! Which addresses are taken, and what is said of the others.

use lakesync_proto::GatewayId;

use crate::HttpTransport;
use crate::transport::TransportError;
use crate::transport::address::Address;
use crate::transport::date::seconds_since_1970;

#[test]
fn an_address_that_is_none_is_refused_with_what_to_write_instead() {
    for (url, next) in [
        ("example.org", "http://"),
        ("", "http://"),
        ("ftp://example.org", "http:// or https://"),
        ("http://", "host"),
        ("http://host?x=1", "a host and a port"),
        ("http://host/#top", "a host and a port"),
        ("http://me:secret@host", "token"),
        ("ws://host", "http or https"),
        ("wss://host/sync", "http or https"),
        ("http://host/v1/sync/public", "leave away /v1"),
        ("http://host/base/v1/sync/public/push", "leave away /v1"),
        ("http://ho st", "http://host:port"),
    ] {
        let gateway = GatewayId::parse("public").unwrap();
        let error = HttpTransport::new(url, gateway).unwrap_err();
        assert!(
            matches!(error, TransportError::Address { .. }) && error.to_string().contains(next),
            "{url}: {error}"
        );
    }
}

#[test]
fn an_address_makes_the_urls_of_its_paths() {
    for (base, url) in [
        ("http://host", "http://host:80/v1/x"),
        ("http://host:7420/", "http://host:7420/v1/x"),
        (
            "http://host/behind/a/proxy/",
            "http://host:80/behind/a/proxy/v1/x",
        ),
        ("http://[::1]:7420", "http://[::1]:7420/v1/x"),
        (" http://host ", "http://host:80/v1/x"),
    ] {
        assert_eq!(Address::parse(base).unwrap().url("/v1/x"), url);
    }
    assert!(Address::parse("http://[::1]:1").unwrap().is_loopback());
    assert!(Address::parse("http://127.0.0.1").unwrap().is_loopback());
    assert!(!Address::parse("http://128.0.0.1").unwrap().is_loopback());
}

#[cfg(all(feature = "live", feature = "tls"))]
#[test]
fn a_secure_address_has_a_secure_socket() {
    let address = Address::parse("https://host/base").unwrap();
    assert_eq!(address.url("/x"), "https://host:443/base/x");
    assert_eq!(address.socket_url("/x"), "wss://host:443/base/x");
}

#[test]
fn dates_are_read_and_what_is_none_is_no_time() {
    for (date, seconds) in [
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
        ("Wed, 01 Mar 2000 00:00:00 GMT", 951_868_800),
        ("Tue, 24 Nov 2026 12:00:00 GMT", 1_795_521_600),
        ("Mon, 01 Mar 2100 00:00:00 GMT", 4_107_542_400),
    ] {
        assert_eq!(seconds_since_1970(date), Some(seconds), "{date}");
    }
    for none in [
        "",
        "now",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Now 1994 08:49:37 GMT",
        "Sun, 06 Nov 1969 08:49:37 GMT",
        "Sun, 06 Nov +994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT x",
    ] {
        assert_eq!(seconds_since_1970(none), None, "{none}");
    }
}
