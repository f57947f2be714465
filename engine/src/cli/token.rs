//! `lakesync token`: mints a token for development, and for the tools of this machine.
//!
//! **Invariant:** it signs with the first configured secret and with nothing else; the secret itself is never shown.

use std::time::Duration;

use clap::Args;
use lakesync_gateway::auth::{AuthConfig, MintClaims, Role, mint};
use lakesync_proto::{ClientId, GatewayId, WallClock as _};
use serde_json::Value as Json;

use super::settings::ConfigArgs;
use super::{CliError, DirArgs};
use crate::clock::SystemClock;
use crate::config::FILE_NAME;

/// How long a token may be good for: a development token that outlives its purpose is a lost key.
const TTL_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// What `lakesync token` is asked for.
#[derive(Args, Debug)]
pub struct TokenArgs {
    /// Who it is for: the client id of a client.
    #[arg(long, value_name = "CLIENT")]
    sub: String,
    /// The gateway that it is good for; may be given several times.
    #[arg(long, value_name = "NAME", default_value = "public")]
    gateway: Vec<String>,
    /// What it may do: reader, client, ingest or admin.
    #[arg(long, default_value = "client", value_parser = clap::value_parser!(RoleArg))]
    role: RoleArg,
    /// How long it is good for, as in 30m, 12h, 7 days.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// A claim for sync rules, as in team=red, level=3 or tags=["a","b"]; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_claim)]
    claim: Vec<(String, Json)>,
    /// The data directory whose lakesync.toml has the secret.
    #[arg(long, value_name = "DIR", default_value = "lakesync-data")]
    dir: std::path::PathBuf,
    #[command(flatten)]
    settings: ConfigArgs,
}

/// A role as an argument.
#[derive(Clone, Copy, Debug)]
struct RoleArg(Role);

impl std::str::FromStr for RoleArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

/// `name=value`: the value is JSON when it is a number, a boolean or a list, else a text.
fn parse_claim(text: &str) -> Result<(String, Json), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(format!("`{text}` should be NAME=VALUE, as in team=red"));
    };
    let value = match serde_json::from_str(value) {
        Ok(json @ (Json::Number(_) | Json::Bool(_) | Json::Array(_) | Json::String(_))) => json,
        _ => Json::String(value.to_owned()),
    };
    Ok((name.to_owned(), value))
}

/// Prints a token.
///
/// # Errors
/// When no secret is configured, or an argument is wrong.
pub fn run(args: &TokenArgs) -> Result<(), CliError> {
    let place = DirArgs {
        dir: args.dir.clone(),
        gateway: String::new(),
    };
    let config = args.settings.read(&place)?;
    let Some(auth) = config.auth.filter(|auth| !auth.hs256.is_empty()) else {
        return Err(format!(
            "there is no secret to sign with; put `hs256_secrets = [\"…\"]` into the section [auth] of {}, or set \
             LAKESYNC_AUTH__HS256_SECRETS (32 bytes at least, as `openssl rand -base64 32` makes them)",
            args.dir.join(FILE_NAME).display()
        )
        .into());
    };
    if args.ttl.is_zero() || args.ttl > TTL_MAX {
        return Err("--ttl should be between 1 second and 366 days".into());
    }
    let names = args.gateway.iter().map(|name| GatewayId::parse(name));
    let gateways = names.collect::<Result<Vec<_>, _>>()?;
    let subject = ClientId::parse(&args.sub)?;
    let mut claims = claims(&auth, (subject, gateways, args.role.0), args.ttl);
    for (name, value) in &args.claim {
        claims = claims.with_claim(name, value.clone())?;
    }
    #[expect(clippy::print_stdout, reason = "the token is the data of this command")]
    {
        println!("{}", mint(&auth.hs256[0], &claims));
    }
    Ok(())
}

/// The claims of a token that begins now.
fn claims(
    auth: &AuthConfig,
    (subject, gateways, role): (ClientId, Vec<GatewayId>, Role),
    ttl: Duration,
) -> MintClaims {
    let now_s = SystemClock.now_ms() / 1000;
    let ends_s = now_s + ttl.as_secs().max(1);
    let mut claims = MintClaims::new(subject, gateways, role, now_s, ends_s);
    claims.issuer.clone_from(&auth.issuer);
    claims.audience.clone_from(&auth.audience);
    claims
}

/// An admin token of one minute for one request of the tools of this machine, when the configuration has a secret.
pub(super) fn of_this_machine(auth: &AuthConfig, gateway: GatewayId) -> Option<String> {
    const TTL: Duration = Duration::from_secs(60);
    let secret = auth.hs256.first()?;
    let subject = ClientId::parse("lakesync-cli").expect("it is a client id");
    let claims = claims(auth, (subject, vec![gateway], Role::Admin), TTL);
    Some(mint(secret, &claims))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use lakesync_gateway::auth::Secret;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_token_of_the_tools_is_for_one_gateway_and_one_minute() {
        let secret = Secret::parse("0123456789abcdef0123456789abcdef").unwrap();
        let auth = AuthConfig {
            hs256: vec![secret],
            ..AuthConfig::default()
        };
        let gateway = GatewayId::parse("one").unwrap();
        let token = of_this_machine(&auth, gateway).unwrap();
        let claims = token.split('.').nth(1).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
        let claims: Json = serde_json::from_slice(&claims).unwrap();
        let gateways = [json!("one"), json!(["one"])];
        assert!(gateways.contains(&claims["gw"]), "{claims}");
        let lives = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert_eq!(lives, 60);
    }

    #[test]
    fn claims_are_json_where_they_look_like_it_and_text_elsewhere() {
        for (text, value) in [
            ("team=red", json!("red")),
            ("level=3", json!(3)),
            ("on=true", json!(true)),
            ("tags=[\"a\",\"b\"]", json!(["a", "b"])),
            ("quoted=\"3\"", json!("3")),
            ("eq=a=b", json!("a=b")),
            ("null=null", json!("null")),
            ("object={}", json!("{}")),
        ] {
            let (name, parsed) = parse_claim(text).unwrap();
            assert_eq!(
                (name.as_str(), parsed),
                (text.split_once('=').unwrap().0, value)
            );
        }
        parse_claim("team").unwrap_err();
    }
}
