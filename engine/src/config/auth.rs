//! From `[auth]` to what checks tokens.
//!
//! **Invariant:** a secret comes from the setting or from the file that it names, never from both.

use lakesync_gateway::auth::{AuthConfig, AuthConfigError, JwksSource, Secret as AuthSecret};

use super::effective::Effective;
use super::error::ConfigError;
use super::kind::{Secret, Setting};
use super::read_bounded;
use super::settings::beside;

/// How tokens are checked; none without a secret and a key set.
pub(super) fn auth(effective: &Effective) -> Result<Option<AuthConfig>, ConfigError> {
    let hs256 = secrets(effective)?;
    let jwks = effective
        .text("auth.jwks")
        .map(|text| match text.contains("://") {
            true => JwksSource::Url(text.to_owned()),
            false => JwksSource::File(beside(text.into(), effective.get("auth.jwks").1)),
        });
    let text = |path: &str| effective.text(path).map(str::to_owned);
    let (issuer, audience) = (text("auth.issuer"), text("auth.audience"));
    if hs256.is_empty() && jwks.is_none() {
        let lone = [("auth.issuer", &issuer), ("auth.audience", &audience)];
        return match lone.into_iter().find(|(_, set)| set.is_some()) {
            Some((path, _)) => Err(effective.wrong(
                path,
                "needs a key that tokens are checked with: auth.hs256_secrets or auth.jwks",
            )),
            None => Ok(None),
        };
    }
    Ok(Some(AuthConfig {
        hs256,
        jwks,
        issuer,
        audience,
        ..AuthConfig::default()
    }))
}

/// The secrets, from the setting or from the file that it names.
fn secrets(effective: &Effective) -> Result<Vec<AuthSecret>, ConfigError> {
    const HERE: &str = "auth.hs256_secrets";
    const FILE: &str = "auth.hs256_secrets_file";
    let here: &[Secret] = match effective.get(HERE).0 {
        Setting::Secrets(secrets) => secrets,
        _ => &[],
    };
    let (path, texts) = match (here, effective.path(FILE)) {
        (here, None) => (
            HERE,
            here.iter()
                .map(|secret| secret.reveal().to_owned())
                .collect(),
        ),
        ([], Some(file)) => {
            let text = read_bounded(&file)?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            (FILE, lines.map(str::to_owned).collect::<Vec<_>>())
        }
        (_, Some(_)) => {
            return Err(effective.wrong(FILE, "and auth.hs256_secrets are both set; keep one"));
        }
    };
    if path == FILE && texts.is_empty() {
        return Err(effective.wrong(path, "holds no secret"));
    }
    if texts.len() > 2 {
        let reason = AuthConfigError::TooManySecrets(texts.len()).to_string();
        return Err(effective.wrong(path, reason));
    }
    let secrets = texts.iter().map(|text| AuthSecret::parse(text));
    let secrets: Result<Vec<_>, String> = secrets.collect();
    secrets.map_err(|reason| effective.wrong(path, format!("is refused: {reason}")))
}
