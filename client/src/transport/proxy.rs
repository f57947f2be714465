//! Through an HTTP proxy to the gateway (`CONNECT`, RFC 9110, 9.3.6).
//!
//! Invariant: behind a tunnel nothing of the proxy's own answer is left unread, and not a byte of the gateway's is read.

use std::io::{self, Read, Write};

/// Longest head of a proxy's answer, in bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Asks the proxy at the other end of `stream` for a tunnel to `authority`.
pub(super) fn tunnel(
    stream: &mut (impl Read + Write),
    proxy: &ureq::Proxy,
    authority: &str,
) -> io::Result<()> {
    let ask = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    stream.write_all(ask.as_bytes())?;
    stream.flush()?;
    let head = head(stream)?;
    let status = head.lines().next().unwrap_or_default();
    let opened = status
        .split(' ')
        .nth(1)
        .is_some_and(|code| code.starts_with('2'));
    match opened {
        true => Ok(()),
        false => {
            let shown: String = status.chars().filter(|c| !c.is_control()).collect();
            let text = format!("the proxy {} lets nobody through: {shown}", proxy.host());
            Err(io::Error::new(io::ErrorKind::ConnectionRefused, text))
        }
    }
}

/// Byte by byte: what follows the head is not the proxy's.
fn head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_BYTES_MAX {
            return Err(io::Error::other("the proxy's answer has no end"));
        }
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
