//! The gateway that a client database syncs with: `_lakesync_remote`, a table of this command line in the file itself.
//!
//! ```text
//! name        value
//! url         http://localhost:7420
//! gateway     public
//! token_file  the path of a file that holds a token, when there is one
//! ```
//! Invariant: a token itself is never kept; the file that holds it, or the environment, is read at every request for one.

use std::path::{Path, PathBuf};

use clap::Args;
use lakesync_client::{ClientError, HttpTransport, LocalDb};
use lakesync_proto::GatewayId;

use super::explained;
use crate::cli::CliError;

/// The variable that a token is taken from.
const TOKEN_VARIABLE: &str = "LAKESYNC_TOKEN";

const TABLE: &str = "CREATE TABLE IF NOT EXISTS _lakesync_remote (
    name TEXT PRIMARY KEY, value TEXT NOT NULL
) STRICT, WITHOUT ROWID;";

/// Where a client database syncs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) url: String,
    pub(super) gateway: GatewayId,
    pub(super) token_file: Option<PathBuf>,
}

/// A token for this command.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct TokenArgs {
    /// The token to show the gateway, for this command only [default: the token file's, else LAKESYNC_TOKEN].
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

impl Address {
    /// What `init` has told the file.
    pub(super) fn of(db: &LocalDb, file: &Path) -> Result<Address, CliError> {
        let found = db.with_connection(|connection| {
            connection.execute_batch(TABLE)?;
            let mut statement = connection.prepare("SELECT name, value FROM _lakesync_remote")?;
            let settings = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let settings = settings.collect::<Result<Vec<(String, String)>, _>>()?;
            Ok::<_, ClientError>(settings)
        });
        let found = found.map_err(explained)?;
        let setting = |name: &str| {
            let mut settings = found.iter();
            let setting = settings.find(|(known, _)| known == name);
            setting.map(|(_, value)| value.clone())
        };
        let (Some(url), Some(gateway)) = (setting("url"), setting("gateway")) else {
            return Err(format!(
                "{file} does not know its gateway; tell it with `lakesync client init {file} --client-id {} --url …`",
                db.client_id(),
                file = file.display(),
            )
            .into());
        };
        Ok(Address {
            url,
            gateway: GatewayId::parse(&gateway)?,
            token_file: setting("token_file").map(PathBuf::from),
        })
    }

    /// Tells the file.
    pub(super) fn keep(&self, db: &LocalDb) -> Result<(), ClientError> {
        let token_file = self.token_file.as_ref();
        let token_file = token_file.map(|path| path.display().to_string());
        let settings = [
            ("url", Some(self.url.as_str())),
            ("gateway", Some(self.gateway.as_ref())),
            ("token_file", token_file.as_deref()),
        ];
        db.with_connection(|connection| {
            connection.execute_batch(TABLE)?;
            connection.execute("DELETE FROM _lakesync_remote", [])?;
            for (name, value) in settings {
                if let Some(value) = value {
                    let sql = "INSERT INTO _lakesync_remote VALUES (?1, ?2)";
                    connection.execute(sql, [name, value])?;
                }
            }
            Ok(())
        })
    }

    /// The way there.
    pub(super) fn transport(&self, token: &TokenArgs) -> Result<HttpTransport, CliError> {
        let transport = HttpTransport::new(&self.url, self.gateway.clone())?;
        if let Some(token) = &token.token {
            return Ok(transport.with_token(token));
        }
        if let Some(file) = self.token_file.clone() {
            // Whoever renews the token writes the file; a long sync finds the new one there.
            return Ok(transport.with_token_source(move || read_token(&file)));
        }
        match std::env::var(TOKEN_VARIABLE) {
            Ok(token) if !token.is_empty() => Ok(transport.with_token(&token)),
            _ => Ok(transport),
        }
    }
}

/// The token in a file.
pub(super) fn read_token(file: &Path) -> Result<String, CliError> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("the token file {}: {error}", file.display()))?;
    match text.trim() {
        "" => Err(format!("the token file {} is empty", file.display()).into()),
        token => Ok(token.to_owned()),
    }
}

/// What to do about a gateway that is not there, or wants another token.
pub(super) fn hint(error: CliError) -> CliError {
    let text = error.to_string();
    if text.contains("InvalidContentType") {
        return format!("{text}; that port speaks no TLS: its address begins with http://").into();
    }
    if text.starts_with("no answer from") {
        return format!(
            "{text}; is a server running there? `lakesync serve` starts one, and `lakesync client init` tells the file \
             another address"
        )
        .into();
    }
    if text.contains("status 401") {
        return format!(
            "{text}; a token comes from --token, from the file that `lakesync client init --token-file` names, or from \
             {TOKEN_VARIABLE}, and `lakesync token --sub CLIENT` makes one on the server"
        )
        .into();
    }
    error
}
