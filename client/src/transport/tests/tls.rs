//! https and wss against a server with a certificate of a test authority.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use lakesync_proto::GatewayId;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::server::read_request;
use crate::HttpTransport;
use crate::transport::{Transport, TransportError};

const AUTHORITY: &[u8] = include_bytes!("tls/authority.pem");
const CERTIFICATE: &[u8] = include_bytes!("tls/cert.pem");
const KEY: &[u8] = include_bytes!("tls/key.pem");

fn config() -> Arc<rustls::ServerConfig> {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

type Secured = rustls::StreamOwned<rustls::ServerConnection, std::net::TcpStream>;

fn serving<T: Send + 'static>(
    talk: impl FnOnce(Secured) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let connection = rustls::ServerConnection::new(config()).unwrap();
        talk(rustls::StreamOwned::new(connection, stream))
    });
    (format!("https://localhost:{port}"), server)
}

fn transport(url: &str) -> HttpTransport {
    HttpTransport::new(url, GatewayId::parse("public").unwrap()).unwrap()
}

#[test]
fn a_given_authority_is_trusted_and_a_stranger_is_not() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"tables\":[]}";
    let (url, server) = serving(move |mut stream| {
        let request = read_request(&mut stream, 0).unwrap();
        std::io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
        request.line().to_owned()
    });
    let trusting = transport(&url).with_root_certificate(AUTHORITY).unwrap();
    assert!(trusting.schemas().unwrap().is_empty());
    assert_eq!(
        server.join().unwrap(),
        "GET /v1/sync/public/schema HTTP/1.1"
    );
    let (url, server) = serving(|mut stream| read_request(&mut stream, 0).is_none());
    let error = transport(&url).schemas().unwrap_err();
    assert!(
        matches!(error, TransportError::Unreachable { .. }),
        "{error:?}"
    );
    assert!(server.join().unwrap(), "no request was sent");
}

#[test]
fn what_is_no_certificate_is_refused_when_it_is_given() {
    let key = [
        &b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"[..],
        b"",
        b"hello",
        KEY,
        b"-----BEGIN CERTIFICATE-----\n",
    ];
    for pem in key {
        let error = transport("https://localhost")
            .with_root_certificate(pem)
            .unwrap_err();
        assert!(
            matches!(error, TransportError::Certificate { .. }),
            "{error:?}"
        );
    }
}

#[cfg(feature = "live")]
#[test]
fn live_pages_come_over_tls() {
    use lakesync_proto::{PageFrame, encode_page_frame};

    let (url, server) = serving(|stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        socket.read().unwrap();
        let page = encode_page_frame(1, PageFrame::Live, &super::page(5, false));
        socket.send(tungstenite::Message::binary(page)).unwrap();
        socket.read().unwrap().is_close()
    });
    let subscribe = crate::sync::Subscribe {
        client_id: super::client_id(),
        cursor: String::new(),
        schemas: super::schemas(),
    };
    let (wake, woken) = std::sync::mpsc::channel();
    let (events, replies) = crate::transport::LiveEvents::channel(move || {
        let _ = wake.send(());
    });
    let stranger = transport(&url);
    let trusting = stranger.clone().with_root_certificate(AUTHORITY).unwrap();
    let connection = trusting.live(&subscribe, events).unwrap();
    woken
        .recv_timeout(std::time::Duration::from_secs(20))
        .unwrap();
    let Some(crate::sync::Reply::Live(page)) = replies.take() else {
        panic!("no page");
    };
    assert_eq!(page.cursor.as_u64(), 5);
    drop(connection);
    assert!(server.join().unwrap(), "it said goodbye");
}
