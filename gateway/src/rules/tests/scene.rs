//! What the scenarios of rules are made of: a gateway in a folder, clients, deltas, and what a page tells.
//!
//! **Invariant:** everything goes through the doors that clients use.

use std::sync::Arc;

use lakesync_proto::{
    ClaimValue, Claims, ClientId, ColumnChange, DeltaKey, Hlc, ManualClock, Op, PullPage, Push,
    PushAck, RowDelta, RowId, Seq, TableDefinition, TableName, Value,
};
use tempfile::TempDir;

use super::histories::{NOW_MS, open};
use crate::auth::{Identity, Role, Scope};
use crate::config::GatewayConfig;
use crate::error::{Error, Refusal, Result};
use crate::gateway::Gateway;
use crate::pull::{Pull, Since};
use crate::rules::RuleSet;

pub(super) const MINE: &str = r#"{"version": 1, "buckets": [{"name": "mine", "tables": ["t"],
    "filters": [{"column": "owner", "op": "eq", "value": "jwt:sub"}], "write": true}]}"#;

pub(super) struct Place {
    pub(super) folder: TempDir,
    pub(super) clock: Arc<ManualClock>,
    pub(super) config: GatewayConfig,
}

impl Place {
    pub(super) fn new() -> Place {
        Place {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::new(NOW_MS)),
            config: GatewayConfig::default(),
        }
    }

    pub(super) async fn open(&self) -> Arc<Gateway> {
        let gateway = open(self.folder.path(), &self.clock, &self.config).await;
        table(&gateway, "t").await;
        gateway
    }

    pub(super) fn database(&self) -> std::path::PathBuf {
        self.folder.path().join("g.db")
    }
}

pub(super) async fn table(gateway: &Arc<Gateway>, name: &str) {
    let json = format!(
        r#"{{"table": "{name}", "columns": [{{"name": "owner", "type": "string"}}, {{"name": "v", "type": "long"}}]}}"#
    );
    let definition: TableDefinition = serde_json::from_str(&json).unwrap();
    gateway.put_schema(&definition).await.unwrap();
}

pub(super) async fn set(gateway: &Arc<Gateway>, json: &str) -> Result<u64> {
    let set = RuleSet::from_json(json.as_bytes())?;
    Ok(gateway.set_rules(set).await?.version())
}

pub(super) fn who(sub: &str, role: Role) -> Identity {
    let mut claims = Claims::new();
    claims.set("sub", vec![ClaimValue::Text(sub.to_owned())]);
    Identity {
        subject: Some(ClientId::parse(sub).unwrap()),
        role,
        scope: Scope::All,
        claims,
        expires_s: None,
    }
}

pub(super) fn client(sub: &str) -> Identity {
    who(sub, Role::Client)
}

/// An update of row `row` by `by` at millisecond `at`; `owner` none leaves the column out.
pub(super) fn delta(by: &str, (row, at): (&str, u64), owner: Option<&str>, v: i64) -> RowDelta {
    let change = |column: &str, value| ColumnChange {
        column: column.parse().unwrap(),
        value,
    };
    let mut columns = vec![change("v", Value::Long(v))];
    columns.extend(owner.map(|owner| change("owner", Value::from(owner))));
    RowDelta::new(Op::Update, key(by, row, at), columns)
}

pub(super) fn gone(by: &str, row: &str, at: u64) -> RowDelta {
    RowDelta::new(Op::Delete, key(by, row, at), Vec::new())
}

pub(super) fn key(by: &str, row: &str, at: u64) -> DeltaKey {
    DeltaKey {
        table: TableName::parse("t").unwrap(),
        row_id: RowId::parse(row).unwrap(),
        client_id: ClientId::parse(by).unwrap(),
        hlc: Hlc::new(NOW_MS + at, 0).unwrap(),
    }
}

pub(super) async fn push(
    gateway: &Gateway,
    identity: &Identity,
    deltas: Vec<RowDelta>,
) -> Result<PushAck> {
    let push = Push {
        client_id: identity.subject.clone().unwrap(),
        deltas,
        last_seen: Seq::ZERO,
        schemas: None,
    };
    gateway.push_by(push, identity).await
}

pub(super) async fn pull(gateway: &Gateway, identity: &Identity, since: Since) -> Result<PullPage> {
    let pull = Pull {
        since,
        limit: 100,
        schemas: None,
    };
    let id = identity.subject.clone().unwrap();
    gateway.pull_by(&pull, identity, &id).await
}

/// `+row` for a delta, `-row` for a removed row or a DELETE.
pub(super) fn heard(page: &PullPage) -> Vec<String> {
    let deltas = page.deltas.iter().map(|delta| match delta.delta.op {
        Op::Delete => (delta.seq, format!("-{}", delta.delta.row_id)),
        _ => (delta.seq, format!("+{}", delta.delta.row_id)),
    });
    let removed = page.removed.iter();
    let removed = removed.map(|removed| (removed.seq, format!("-{}", removed.row_id)));
    let mut all: Vec<_> = deltas.chain(removed).collect();
    all.sort_by_key(|(seq, _)| *seq);
    all.into_iter().map(|(_, text)| text).collect()
}

pub(super) fn refusal<T: std::fmt::Debug>(result: Result<T>) -> Refusal {
    match result.unwrap_err() {
        Error::Refused(refusal) => refusal,
        other => panic!("refused as {other}"),
    }
}

pub(super) fn start(gateway: &Gateway) -> Since {
    Since::Seq(Seq::from_u64(gateway.live().seq().as_u64()).unwrap())
}
