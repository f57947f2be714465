//! What the routes can be told, as plain data.
//!
//! **Invariant:** every limit of the HTTP side that an operator may move is a field here, with its default and what
//! gets worse at each end.

use std::num::NonZeroU32;
use std::time::Duration;

/// The settings of the routes of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// How long an ordinary request may take before it is answered 504 (default 30 s). Live connections, long polls
    /// and checkpoints are not bound by it. Shorter gives up on large pushes; longer holds on to what hangs.
    pub timeout: Duration,
    /// The origins whose pages may ask (default: none but this machine's).
    pub cors: Cors,
    /// How many requests a subject may send (default: as many as it likes).
    pub rate: Option<Rate>,
    /// How many live connections are held at most.
    pub connections: ConnectionLimits,
    /// How many messages a WebSocket may send in one second (default 50). Fewer closes busy clients; more lets one
    /// connection keep a core busy.
    pub messages_per_second: NonZeroU32,
    /// How many bytes one WebSocket message may have (default 1 MiB; 16 MiB is what a push over HTTP may have). Fewer
    /// refuses large pushes; each connection may hold that much while it reads, before it counts against the memory
    /// that all bodies share.
    pub message_bytes_max: usize,
    /// How many bytes of encoded live frames a gateway keeps for readers that are a little behind (default 32 MiB).
    /// Fewer encodes frames twice; more is memory.
    pub frames_bytes_max: usize,
    /// How long a reader, live or not, may take nothing of what it is sent, or of a checkpoint a chunk, before it is closed
    /// (default 10 s). Shorter drops phones in tunnels; longer keeps the dead, and the slots that they hold.
    pub stalled: Duration,
}

/// The limits of live connections: WebSocket, SSE and long polls alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In the whole process (default 10,000): each is a descriptor and some kilobytes.
    pub process: usize,
    /// To one gateway (default 5,000), so that one tenant leaves room for others.
    pub gateway: usize,
    /// Of one subject to one gateway (default 100): tabs and devices of one person.
    pub subject: usize,
}

/// Which origins' pages may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// Only pages of this machine (`localhost` and loopback addresses).
    #[default]
    Loopback,
    /// Those, and pages of these origins, such as `https://app.example.com`.
    Origins(Vec<String>),
    /// Every page: right only when tokens protect everything.
    Any,
}

/// A limit of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many requests a second a subject may send for long.
    pub requests_per_second: NonZeroU32,
    /// How many it may send at once.
    pub burst: NonZeroU32,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            process: 10_000,
            gateway: 5_000,
            subject: 100,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            cors: Cors::default(),
            rate: None,
            connections: ConnectionLimits::default(),
            messages_per_second: const { NonZeroU32::new(50).expect("50 is not 0") },
            message_bytes_max: 1 << 20,
            frames_bytes_max: 32 << 20,
            stalled: Duration::from_secs(10),
        }
    }
}
