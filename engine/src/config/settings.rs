//! The settings as the program uses them: checked against each other, in the types of whoever takes them.
//!
//! **Invariant:** a `Config` that exists can be served, but for what only the machine can say (a taken port, a full disk).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use lakesync_gateway::actions::{Connector, Webhooks};
use lakesync_gateway::auth::AuthConfig;
use lakesync_gateway::http::{ConnectionLimits, Cors, HttpConfig, Rate};
use lakesync_gateway::{DeltaIds, FlushFormat, FlushPolicy, GatewayConfig, PressureLimits};
use lakesync_proto::GatewayId;
use tracing_subscriber::EnvFilter;

use super::auth::auth;
use super::connectors::Connector as Section;
use super::effective::{Effective, wrong};
use super::error::{ConfigError, Source};
use super::kind::{MASK, Setting};
use super::maintenance::maintenance;
use super::{read_bounded, read_named};
use crate::maintenance::MaintenanceSettings;
use crate::server::StatementLimits;

/// Everything that can be configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listener.
    pub server: ServerSettings,
    /// How tokens are checked; none serves this machine only.
    pub auth: Option<AuthConfig>,
    /// The gateways that exist from the start.
    pub gateways: Vec<GatewayId>,
    /// The settings of every gateway.
    pub gateway: GatewayConfig,
    /// Those of gateways that have their own, whether they exist yet or not.
    pub gateway_overrides: BTreeMap<GatewayId, GatewayConfig>,
    /// What all gateways may hold together.
    pub limits: PressureLimits,
    /// The limits of the routes.
    pub http: HttpConfig,
    /// Where actions are delivered.
    pub connectors: Vec<Connector>,
    /// How many statements of SQL run, and for how long.
    pub statements: StatementLimits,
    /// How tables are maintained.
    pub maintenance: MaintenanceSettings,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// The listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The certificate and its key; none serves plain HTTP.
    pub tls: Option<TlsFiles>,
    /// How long a stop waits for requests under way.
    pub drain: Duration,
    /// How long a connection may wait with a request.
    pub idle: Duration,
    /// How many TCP connections are open at most.
    pub tcp_connections: usize,
}

/// A certificate chain and its private key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// How.
    pub format: LogFormat,
    /// What, as a filter: `info`, or by module.
    pub level: String,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Checks and resolves the settings.
    pub(super) fn resolve(effective: &Effective) -> Result<Self, ConfigError> {
        let auth = auth(effective)?;
        let gateway = gateway(effective)?;
        Ok(Self {
            server: server(effective)?,
            http: http(effective, auth.as_ref())?,
            auth,
            gateways: gateways(effective)?,
            gateway_overrides: gateway_overrides(effective, &gateway)?,
            gateway,
            limits: pressure(effective, "limits.process_hot_soft", "limits.process_hot")?,
            connectors: connectors(effective)?,
            statements: StatementLimits {
                process: limit(effective, "sql.statements")?,
                subject: limit(effective, "sql.statements_per_subject")?,
                timeout: positive(effective, "sql.timeout")?,
            },
            maintenance: maintenance(effective)?,
            log: log(effective)?,
        })
    }
}

/// Reading the table: that a path has this kind is the table's promise, and a test resolves all of them.
impl Effective {
    pub(super) fn size(&self, path: &str) -> u64 {
        match self.get(path).0 {
            Setting::Size(bytes) => *bytes,
            other => unreachable!("`{path}` is a size, not {other:?}"),
        }
    }

    pub(super) fn count(&self, path: &str) -> u64 {
        match self.get(path).0 {
            Setting::Count(count) => *count,
            other => unreachable!("`{path}` is a number, not {other:?}"),
        }
    }

    pub(super) fn time(&self, path: &str) -> Duration {
        match self.get(path).0 {
            Setting::Time(time) => *time,
            other => unreachable!("`{path}` is a length of time, not {other:?}"),
        }
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        match self.get(path).0 {
            Setting::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn texts(&self, path: &str) -> &[String] {
        match self.get(path).0 {
            Setting::Texts(texts) => texts,
            other => unreachable!("`{path}` is a list, not {other:?}"),
        }
    }

    pub(super) fn path(&self, path: &str) -> Option<PathBuf> {
        match self.get(path) {
            (Setting::Path(file), source) => Some(beside(file.clone(), source)),
            _ => None,
        }
    }
}

/// A relative path of the configuration file begins where that file is.
pub(super) fn beside(path: PathBuf, source: &Source) -> PathBuf {
    match source {
        Source::File(file) => file
            .parent()
            .map_or(path.clone(), |folder| folder.join(&path)),
        _ => path,
    }
}

fn server(effective: &Effective) -> Result<ServerSettings, ConfigError> {
    let listen = match effective.get("server.listen").0 {
        Setting::Address(address) => *address,
        other => unreachable!("`server.listen` is an address, not {other:?}"),
    };
    let (cert, key) = (
        effective.path("server.tls.cert"),
        effective.path("server.tls.key"),
    );
    let tls = match (cert, key) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
        (None, None) => None,
        (Some(_), None) => {
            return Err(effective.wrong("server.tls.cert", "needs server.tls.key beside it"));
        }
        (None, Some(_)) => {
            return Err(effective.wrong("server.tls.key", "needs server.tls.cert beside it"));
        }
    };
    for file in tls.iter().flat_map(|tls| [&tls.cert, &tls.key]) {
        read_named(file)?;
    }
    Ok(ServerSettings {
        listen,
        tls,
        drain: effective.time("server.drain"),
        idle: positive(effective, "server.idle")?,
        tcp_connections: limit(effective, "limits.tcp_connections")?,
    })
}

fn positive(effective: &Effective, path: &str) -> Result<Duration, ConfigError> {
    match effective.time(path) {
        Duration::ZERO => Err(effective.wrong(path, "should be longer than nothing")),
        time => Ok(time),
    }
}

fn gateways(effective: &Effective) -> Result<Vec<GatewayId>, ConfigError> {
    let names = effective.texts("gateways").iter();
    let names = names
        .map(|name| GatewayId::parse(name).map_err(|error| format!("holds `{name}`: {error}")));
    let names: Result<Vec<_>, String> = names.collect();
    names.map_err(|reason| effective.wrong("gateways", reason))
}

fn gateway(effective: &Effective) -> Result<GatewayConfig, ConfigError> {
    Ok(GatewayConfig {
        drift: effective.time("sync.drift"),
        delta_ids: delta_ids(effective.get("sync.delta_ids").0),
        late_window: time_or_none(effective.get("sync.late_window").0),
        clock_jump: time_or_none(effective.get("sync.clock_jump").0),
        pull_window: effective.time("sync.pull_window"),
        feed_bytes_max: usize::try_from(effective.size("limits.feed")).unwrap_or(usize::MAX),
        flush: FlushPolicy {
            bytes: effective.size("flush.max_bytes"),
            rows: effective.count("flush.max_rows"),
            age: effective.time("flush.max_age"),
            ..FlushPolicy::default()
        },
        flush_format: match effective.text("flush.format") {
            Some("ndjson") => FlushFormat::Ndjson {
                folder: effective.dir.join("ndjson"),
            },
            _ => FlushFormat::Parquet,
        },
        pressure: pressure(effective, "limits.hot_soft", "limits.hot")?,
        ..GatewayConfig::default()
    })
}

pub(super) fn time_or_none(setting: &Setting) -> Option<Duration> {
    match setting {
        Setting::Time(time) => Some(*time),
        _ => None,
    }
}

fn delta_ids(setting: &Setting) -> DeltaIds {
    match setting {
        Setting::Text(word) if word == "accept" => DeltaIds::Accept,
        _ => DeltaIds::Verify,
    }
}

/// The settings of gateways that have their own: what they do not set is as in `all`.
fn gateway_overrides(
    effective: &Effective,
    all: &GatewayConfig,
) -> Result<BTreeMap<GatewayId, GatewayConfig>, ConfigError> {
    let mut overrides = BTreeMap::new();
    for (name, own) in effective.gateways.iter() {
        let id = GatewayId::parse(name);
        let id = id.map_err(|error| wrong(&own.source, "gateway", error.to_string()))?;
        let mut config = all.clone();
        if let Setting::Time(drift) = own.get("drift").0 {
            config.drift = *drift;
        }
        match own.get("late_window").0 {
            Setting::Unset => {}
            set => config.late_window = time_or_none(set),
        }
        match own.get("delta_ids").0 {
            Setting::Unset => {}
            set => config.delta_ids = delta_ids(set),
        }
        overrides.insert(id, config);
    }
    Ok(overrides)
}

fn pressure(effective: &Effective, soft: &str, hard: &str) -> Result<PressureLimits, ConfigError> {
    let limits = PressureLimits {
        hot_bytes_soft: effective.size(soft),
        hot_bytes_hard: effective.size(hard),
        disk_reserve_bytes: effective.size("limits.disk_reserve"),
    };
    match limits.hot_bytes_soft > limits.hot_bytes_hard {
        true => Err(effective.wrong(soft, format!("should not be above {hard}"))),
        false => Ok(limits),
    }
}

fn http(effective: &Effective, auth: Option<&AuthConfig>) -> Result<HttpConfig, ConfigError> {
    let size = |path: &str| usize::try_from(effective.size(path)).unwrap_or(usize::MAX);
    Ok(HttpConfig {
        timeout: positive(effective, "server.timeout")?,
        cors: cors(effective, auth)?,
        rate: match number(effective, "rate.requests_per_second")? {
            0 => None,
            _ => Some(Rate {
                requests_per_second: at_least_one(effective, "rate.requests_per_second")?,
                burst: at_least_one(effective, "rate.burst")?,
            }),
        },
        connections: ConnectionLimits {
            process: limit(effective, "limits.connections")?,
            gateway: limit(effective, "limits.connections_per_gateway")?,
            subject: limit(effective, "limits.connections_per_subject")?,
        },
        messages_per_second: at_least_one(effective, "limits.messages_per_second")?,
        message_bytes_max: size("limits.message"),
        frames_bytes_max: size("limits.frames"),
        stalled: positive(effective, "limits.stalled")?,
    })
}

fn cors(effective: &Effective, auth: Option<&AuthConfig>) -> Result<Cors, ConfigError> {
    let origins = effective.texts("server.cors");
    let any = origins.iter().any(|origin| origin == "*");
    match origins {
        [] => Ok(Cors::Loopback),
        [_] if any && auth.is_some() => Ok(Cors::Any),
        [_] if any => {
            let reason = "may only be [\"*\"] with [auth]: else every page that you visit could read and write your data";
            Err(effective.wrong("server.cors", reason))
        }
        _ if any => Err(effective.wrong(
            "server.cors",
            "holds \"*\" beside others; leave one or the other out",
        )),
        origins => match origins.iter().find(|origin| !is_origin(origin)) {
            Some(origin) => {
                let reason = format!(
                    "holds `{origin}`, which is no origin; write it as https://app.example"
                );
                Err(effective.wrong("server.cors", reason))
            }
            None => Ok(Cors::Origins(origins.to_vec())),
        },
    }
}

/// A scheme and a host, and perhaps a port: what a browser says of a page.
fn is_origin(text: &str) -> bool {
    let host = text.split_once("://").map(|(_, host)| host);
    host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', ' ']))
}

pub(super) fn number(effective: &Effective, path: &str) -> Result<u32, ConfigError> {
    let number = u32::try_from(effective.count(path));
    number.map_err(|_| effective.wrong(path, format!("should be at most {}", u32::MAX)))
}

fn at_least_one(effective: &Effective, path: &str) -> Result<NonZeroU32, ConfigError> {
    let number = NonZeroU32::new(number(effective, path)?);
    number.ok_or_else(|| effective.wrong(path, "should be 1 or more"))
}

fn limit(effective: &Effective, path: &str) -> Result<usize, ConfigError> {
    let number = at_least_one(effective, path)?.get();
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}

/// The webhooks, checked.
fn connectors(effective: &Effective) -> Result<Vec<Connector>, ConfigError> {
    let read = effective.connectors.iter();
    let read = read.map(|(name, section)| connector(name, section));
    let connectors = read.collect::<Result<Vec<_>, _>>()?;
    match Webhooks::new(connectors.clone()) {
        Ok(_) => Ok(connectors),
        Err(error) => {
            let sections = effective.connectors.iter();
            let mut sections = sections.filter(|(name, _)| **name == error.connector);
            let source = sections.next().map_or(Source::Default, |(_, section)| {
                section.settings.source.clone()
            });
            Err(wrong(
                &source,
                &format!("actions.{}", error.connector),
                error.reason,
            ))
        }
    }
}

fn connector(name: &str, section: &Section) -> Result<Connector, ConfigError> {
    let at = |key: &str, reason: &str| {
        Err(wrong(
            &section.settings.source,
            &format!("actions.{name}.{key}"),
            reason,
        ))
    };
    let Setting::Text(url) = section.get("url").0 else {
        return at("url", "is missing: where should its actions be sent?");
    };
    if url.contains(MASK) {
        return at(
            "url",
            "is what `lakesync config` shows in place of an address; give the address",
        );
    }
    let secret = match (section.get("secret").0, section.get("secret_file")) {
        (Setting::Secret(secret), (Setting::Unset, _)) => Some(secret.reveal().to_owned()),
        (Setting::Unset, (Setting::Path(file), source)) => Some(
            read_bounded(&beside(file.clone(), source))?
                .trim()
                .to_owned(),
        ),
        (Setting::Unset, _) => None,
        _ => return at("secret_file", "and secret are both set; keep one"),
    };
    let mut connector = Connector::new(name, url, section.types.clone());
    connector.secret = secret;
    if let Setting::Time(timeout) = section.get("timeout").0 {
        connector.timeout = *timeout;
    }
    if let Setting::Count(attempts) = section.get("attempts_max").0 {
        connector.attempts_max = u32::try_from(*attempts).unwrap_or(u32::MAX);
    }
    Ok(connector)
}

fn log(effective: &Effective) -> Result<LogSettings, ConfigError> {
    let level = effective.text("log.level").unwrap_or_default().to_owned();
    let filter = EnvFilter::builder().parse(&level);
    filter.map_err(|error| {
        effective.wrong("log.level", format!("cannot be read as a filter: {error}"))
    })?;
    Ok(LogSettings {
        format: match effective.text("log.format") {
            Some("json") => LogFormat::Json,
            _ => LogFormat::Text,
        },
        level,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Sources;
    use super::*;
    use lakesync_gateway::auth::JwksSource;

    fn read(file: &str) -> Result<Config, ConfigError> {
        Config::read(&Sources {
            file: Some(("lakesync.toml".into(), file.to_owned())),
            ..Sources::default()
        })
    }

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn without_a_file_the_defaults_are_those_of_the_parts() {
        let config = Config::read(&Sources::default()).unwrap();
        assert!(config.auth.is_none());
        // Only a machine's own clock can be watched for jumps, and a process has that one.
        let gateway = GatewayConfig {
            clock_jump: Some(Duration::from_secs(10)),
            ..GatewayConfig::default()
        };
        assert_eq!(config.gateway, gateway);
        assert_eq!(config.maintenance, MaintenanceSettings::default().agreed());
        assert_eq!(config.gateways, [GatewayId::parse("public").unwrap()]);
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:7420");
        assert_eq!(config.log.format, LogFormat::Text);
        assert_eq!(config.statements, StatementLimits::default());
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused_with_the_place() {
        for (file, said) in [
            ("[server.tls]\ncert = \"c.pem\"", "server.tls.key"),
            ("[server.tls]\nkey = \"k.pem\"", "server.tls.cert"),
            (
                "[server.tls]\nkey = \"none.pem\"\ncert = \"none.pem\"",
                "none.pem",
            ),
            ("[server]\ntimeout = \"0s\"", "`server.timeout`"),
            ("[auth]\nissuer = \"i\"", "auth.hs256_secrets"),
            ("[auth]\nhs256_secrets = [\"short\"]", "32 are needed"),
            (
                "[auth]\nhs256_secrets_file = \"missing.txt\"",
                "missing.txt",
            ),
            ("gateways = [\"a b\"]", "`a b`"),
            ("[log]\nlevel = \"info,a=b=c\"", "`log.level`"),
        ] {
            let error = read(file).unwrap_err().to_string();
            assert!(error.contains(said), "{error} lacks {said}");
            assert!(
                !error.contains("short") || !file.contains("short"),
                "{error} shows a secret"
            );
        }
        let three = format!("[auth]\nhs256_secrets = [\"{SECRET}\", \"{SECRET}\", \"{SECRET}\"]");
        let error = read(&three).unwrap_err().to_string();
        assert!(error.contains("3 HS256 secrets"), "{error}");
        assert!(!error.contains(SECRET), "{error}");
    }

    #[test]
    fn files_that_the_file_names_lie_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lakesync.toml");
        std::fs::write(
            folder.path().join("secrets"),
            format!("{SECRET}\n\n{SECRET}x\n"),
        )
        .unwrap();
        let text = "[auth]\nhs256_secrets_file = \"secrets\"\njwks = \"keys.json\"";
        let config = Config::read(&Sources {
            file: Some((file, text.to_owned())),
            ..Sources::default()
        });
        let auth = config.unwrap().auth.unwrap();
        assert_eq!(auth.hs256.len(), 2);
        let keys = folder.path().join("keys.json");
        assert_eq!(auth.jwks, Some(JwksSource::File(keys)));
    }
}
