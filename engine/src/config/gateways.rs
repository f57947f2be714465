//! `[gateway.NAME.sync]`: what the gateway NAME does otherwise than `[sync]` says, also when it is created later.
//!
//! ```text
//! [gateway.field-team.sync]
//! late_window = "90 days"
//! ```
//! **Invariant:** every name is one that a gateway may have; what a section does not set is as in `[sync]`.

use std::collections::BTreeMap;

use lakesync_gateway::GATEWAYS_MAX;
use lakesync_proto::GatewayId;
use toml::Value as Toml;

use super::effective::wrong;
use super::error::{ConfigError, Source};
use super::keys::{KEYS, Key};
use super::named::{self, Field, Named};

/// The section's root and how it is written.
const ROOT: (&str, &str) = ("gateway", "[gateway.NAME.sync]");
/// The one section of a gateway.
const SYNC: &str = "sync";
/// What a gateway may set for itself: the path in `[sync]`, and the path for suggestions.
const PATHS: [(&str, &str); 3] = [
    ("sync.drift", "gateway.NAME.sync.drift"),
    ("sync.late_window", "gateway.NAME.sync.late_window"),
    ("sync.delta_ids", "gateway.NAME.sync.delta_ids"),
];

/// The dotted paths of all settings of a gateway.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    PATHS.iter().map(|(_, path)| *path)
}

/// The settings of `[sync]` that a gateway may have for itself.
pub(crate) fn keys() -> impl Iterator<Item = &'static Key> + Clone {
    let own = |key: &&Key| PATHS.iter().any(|(path, _)| *path == key.path);
    KEYS.iter().filter(own)
}

fn fields() -> impl Iterator<Item = Field> + Clone {
    keys().map(|key| (key.split().1, key.kind))
}

/// The sections by gateway.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GatewaySections(BTreeMap<String, Named>);

impl GatewaySections {
    /// All of them, by the gateway's name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Named)> {
        self.0.iter()
    }

    /// Reads all of `[gateway]`.
    pub(crate) fn file(&mut self, source: &Source, value: Option<Toml>) -> Result<(), ConfigError> {
        for (name, value) in named::sections(source, ROOT, value, GATEWAYS_MAX)? {
            self.add(source, &name, value)?;
        }
        Ok(())
    }

    fn add(&mut self, source: &Source, name: &str, value: Toml) -> Result<(), ConfigError> {
        let outer = format!("gateway.{name}");
        check_name(source, name)?;
        let no_section =
            |path: &str| wrong(source, path, format!("should be a section, {}", ROOT.1));
        let Toml::Table(table) = value else {
            return Err(no_section(&outer));
        };
        let mut own = Named::new(source);
        for (inner, value) in table {
            if inner != SYNC {
                return Err(named::unknown(source, &outer, &inner, [SYNC].into_iter()));
            }
            let section = section(name);
            let Toml::Table(table) = value else {
                return Err(no_section(&section));
            };
            for (key, value) in table {
                let field = named::known(source, &section, &key, fields(), &[])?;
                own.put_value(source, &section, field, &value)?;
            }
        }
        self.0.insert(name.to_owned(), own);
        Ok(())
    }

    /// Reads `NAME__SYNC__KEY` of the environment; the section must be in the file, for a variable's name cannot tell
    /// `a-b` from `A_B`.
    pub(crate) fn variable(
        &mut self,
        source: &Source,
        rest: &str,
        text: &str,
    ) -> Result<(), ConfigError> {
        let Some((upper, key)) = rest.rsplit_once("__SYNC__") else {
            let reason = "should be LAKESYNC_GATEWAY__NAME__SYNC__KEY";
            return Err(wrong(source, ROOT.0, reason));
        };
        let (name, own) = named::of_variable(source, ROOT, &mut self.0, upper)?;
        let section = section(name);
        let key = key.to_ascii_lowercase();
        let field = named::known(source, &section, &key, fields(), &[])?;
        own.put_text(source, &section, field, text)
    }

    /// Reads `NAME.sync.KEY` of a flag, which may be the first to name the gateway.
    pub(crate) fn flag(
        &mut self,
        source: &Source,
        rest: &str,
        text: &str,
    ) -> Result<(), ConfigError> {
        let mut parts = rest.splitn(3, '.');
        let (Some(name), Some(SYNC), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong(source, ROOT.0, "should be gateway.NAME.sync.KEY"));
        };
        check_name(source, name)?;
        let section = section(name);
        let field = named::known(source, &section, key, fields(), &[])?;
        let own = self.0.entry(name.to_owned());
        let own = own.or_insert_with(|| Named::new(source));
        own.put_text(source, &section, field, text)
    }
}

fn section(name: &str) -> String {
    format!("gateway.{name}.{SYNC}")
}

fn check_name(source: &Source, name: &str) -> Result<(), ConfigError> {
    let parsed = GatewayId::parse(name);
    parsed.map(drop).map_err(|error| {
        let reason = format!("is no name of a gateway: {error}");
        wrong(source, &format!("gateway.{name}"), reason)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use lakesync_gateway::{DeltaIds, GatewayConfig};
    use lakesync_proto::{
        ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, ManualClock, Op, Push, RowDelta, RowId,
        Seq, TableName, Value,
    };

    use super::super::{Config, Sources};
    use super::*;
    use crate::lake::Lake;

    fn sources(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Sources {
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        let flags = flags.iter().map(owned);
        Sources {
            file: Some(("lakesync.toml".into(), file.to_owned())),
            variables: variables.iter().map(owned).collect(),
            flags: flags
                .map(|(path, text)| ("--set".to_owned(), path, text))
                .collect(),
            dir: std::path::PathBuf::new(),
        }
    }

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    const FILE: &str = "[sync]\ndrift = \"2s\"\nlate_window = \"10 days\"\n[gateway.a-b.sync]\nlate_window = \"1 day\"\n\
                        [gateway.c.sync]\nlate_window = \"none\"\ndelta_ids = \"accept\"\n[gateway.d]\n";

    #[test]
    fn a_gateway_has_its_own_settings_over_those_of_all() {
        let variable = ("LAKESYNC_GATEWAY__A_B__SYNC__DRIFT", "3s");
        let variables = [variable, ("LAKESYNC_GATEWAY__D__SYNC__DRIFT", "9s")];
        let flags = [
            ("gateway.d.sync.drift", "4s"),
            ("gateway.New.sync.drift", "5s"),
        ];
        let config = Config::read(&sources(FILE, &variables, &flags)).unwrap();
        let (verify, accept) = (DeltaIds::Verify, DeltaIds::Accept);
        let expected = [
            ("New", (5, Some(10 * DAY), verify)),
            ("a-b", (3, Some(DAY), verify)),
            ("c", (2, None, accept)),
            ("d", (4, Some(10 * DAY), verify)),
        ];
        assert_eq!(config.gateway_overrides.len(), expected.len());
        for (name, (drift, late_window, delta_ids)) in expected {
            let own = GatewayConfig {
                drift: Duration::from_secs(drift),
                late_window,
                delta_ids,
                ..config.gateway.clone()
            };
            assert_eq!(config.gateway_overrides[name], own, "{name}");
        }
        assert_eq!(config.gateway.late_window, Some(10 * DAY));
    }

    fn refused(sources: &Sources, said: &str) {
        let error = Config::read(sources).unwrap_err().to_string();
        assert!(error.contains(said), "{error} lacks {said}");
    }

    #[test]
    fn what_the_file_may_not_say_of_a_gateway_is_named() {
        for (file, said) in [
            ("[gateway.g.sync]\ndrif = 1", "mean `gateway.g.sync.drift`"),
            ("[gateway.g.snyc]\ndrift = 1", "mean `gateway.g.sync`"),
            ("[gatway.g.sync]\ndrift = 1", "mean `gateway`"),
            (
                "[gateway.g.sync]\nclock_jump = 1",
                "no setting `gateway.g.sync.clock_jump`",
            ),
            ("[gateway.g.sync]\ndrift = 1", "`gateway.g.sync.drift` "),
            (
                "[gateway.g]\nsync = 1",
                "`gateway.g.sync` should be a section",
            ),
            ("[gateway]\ng = 1", "`gateway.g` should be a section"),
            ("gateway = 1", "[gateway.NAME.sync]"),
            (
                "[gateway.\"a b\".sync]",
                "`gateway.a b` is no name of a gateway",
            ),
        ] {
            refused(&sources(file, &[], &[]), said);
        }
    }

    #[test]
    fn what_variables_and_flags_may_not_say_of_a_gateway_is_named() {
        let file = "[gateway.g]\n[gateway.a-b]\n[gateway.a_b]";
        for (variable, said) in [
            ("OTHER__SYNC__DRIFT", "only the file makes"),
            ("G__DRIFT", "NAME__SYNC__KEY"),
            ("G__SYNC__DRIF", "mean `gateway.g.sync.drift`"),
            ("A_B__SYNC__DRIFT", "could be `a-b` or `a_b`"),
        ] {
            let name = format!("LAKESYNC_GATEWAY__{variable}");
            refused(&sources(file, &[(&name, "1s")], &[]), said);
        }
        for (flag, said) in [
            ("gateway.-g.sync.drift", "no name of a gateway"),
            ("gateway.g.drift", "gateway.NAME.sync.KEY"),
            ("gateway.g.sync.drft", "mean `gateway.g.sync.drift`"),
        ] {
            refused(&sources("", &[], &[(flag, "1s")]), said);
        }
    }

    #[test]
    fn every_key_is_one_of_sync() {
        assert_eq!(keys().count(), PATHS.len());
        for (path, own) in PATHS {
            assert_eq!(own, format!("gateway.NAME.{path}"));
        }
    }

    const NOW_MS: u64 = 1_700_000_000_000;

    fn push_of_days_ago(days: u32) -> Push {
        let ago_ms = u64::try_from((days * DAY).as_millis()).unwrap();
        let key = DeltaKey {
            table: TableName::parse("t").unwrap(),
            row_id: RowId::parse("1").unwrap(),
            client_id: ClientId::parse("ana").unwrap(),
            hlc: Hlc::new(NOW_MS - ago_ms, 0).unwrap(),
        };
        let change = ColumnChange {
            column: ColumnName::parse("v").unwrap(),
            value: Value::Long(1),
        };
        Push {
            client_id: key.client_id.clone(),
            deltas: vec![RowDelta::new(Op::Insert, key, vec![change])],
            last_seen: Seq::ZERO,
            schemas: None,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn gateways_of_one_lake_take_an_old_delta_by_their_own_late_window() {
        let config = Config::read(&sources(FILE, &[], &[])).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::builder(folder.path())
            .with_clock(Arc::new(ManualClock::new(NOW_MS)))
            .with_config(GatewayConfig {
                clock_jump: None,
                ..config.gateway.clone()
            })
            .with_gateway(GatewayId::parse("a-b").unwrap());
        let overrides = config.gateway_overrides.into_iter();
        let lake = overrides.fold(lake, |lake, (id, own)| {
            let own = GatewayConfig {
                clock_jump: None,
                ..own
            };
            lake.with_gateway_config(id, own)
        });
        let lake = lake.open().await.unwrap();
        let table = r#"{"table": "t", "columns": [{"name": "v", "type": "long"}]}"#;
        let table = serde_json::from_str(table).unwrap();
        // `a-b` was there when the lake was opened; `c` is created now.
        for (name, days, taken) in [
            ("a-b", 2, false),
            ("public", 2, true),
            ("public", 20, false),
            ("c", 2, true),
            ("c", 20, true),
        ] {
            let id = GatewayId::parse(name).unwrap();
            let gateway = lake.registry().create(id).await.unwrap();
            gateway.put_schema(&table).await.unwrap();
            match gateway.push(push_of_days_ago(days)).await {
                Ok(ack) => assert!(taken && ack.accepted == 1, "{name} {days}"),
                Err(error) => {
                    let said = error.to_string();
                    assert!(!taken && said.contains("late_window"), "{name}: {said}");
                }
            }
        }
    }
}
