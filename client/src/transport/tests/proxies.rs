//! Live connections through a proxy.

use std::io::{self, Read, Write};

use crate::transport::proxy::tunnel;

/// What a proxy says, and what it was told.
struct Proxy {
    says: io::Cursor<Vec<u8>>,
    told: Vec<u8>,
}

impl Read for Proxy {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.says.read(buffer)
    }
}

impl Write for Proxy {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.told.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn asked(says: &str) -> (io::Result<()>, Proxy) {
    let mut proxy = Proxy {
        says: io::Cursor::new(says.as_bytes().to_vec()),
        told: Vec::new(),
    };
    let known = ureq::Proxy::new("http://proxy.test:3128").unwrap();
    let opened = tunnel(&mut proxy, &known, "gateway.test:443");
    (opened, proxy)
}

#[test]
fn a_tunnel_is_asked_for_and_what_comes_through_it_is_left_alone() {
    let (opened, mut proxy) =
        asked("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nhello from the gateway");
    opened.unwrap();
    assert_eq!(
        String::from_utf8(proxy.told.clone()).unwrap(),
        "CONNECT gateway.test:443 HTTP/1.1\r\nHost: gateway.test:443\r\n\r\n"
    );
    let mut rest = String::new();
    proxy.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "hello from the gateway");
}

#[test]
fn a_proxy_that_lets_nobody_through_is_an_error_with_its_word() {
    let (refused, _) = asked("HTTP/1.1 407 Sign in\r\n\r\n");
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("proxy.test") && text.contains("407 Sign in"),
        "{text}"
    );
    for nonsense in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "\r\n\r\n",
        "hello\r\n\r\n",
        &"x".repeat(9_000),
    ] {
        assert!(asked(nonsense).0.is_err(), "{}", nonsense.len());
    }
}
