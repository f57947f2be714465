//! Names of tables as of a past moment: `t@seq:5`, `t@hlc:7`, `t@timestamp:2026-01-01T00:00:00Z`, `t@version:41`,
//! `t@ref:audit`, and an arrival coordinate with an HLC, `t@seq:5@hlc:7`.
//!
//! They are what the planner resolves and what `EXPLAIN` shows. `@` and `:` cannot stand in the name of a table of ours;
//! in that of a tag or branch `@` is written `%40`, and `%` is `%25`.
//!
//! **Invariant:** a name gives back what it was made of.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use datafusion::common::ScalarValue;
use lakesync_proto::{Hlc, Seq};

use super::moment::micros_of;

/// How much of what arrived a read sees.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Arrival {
    /// Every delta up to this one.
    Seq(Seq),
    /// What had arrived by this moment, in microseconds since 1970, at the gateway: nothing from the first delta on
    /// that arrived later.
    Timestamp(i64),
    /// What a snapshot of base or log covers.
    Version(i64),
    /// What the snapshot of a tag or branch of base or log covers.
    Ref(String),
}

/// A past moment: by arrival, by the writers' clocks, or by both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AsOf {
    /// What the gateway had accepted.
    Arrival(Arrival),
    /// What was stamped up to this HLC, as far as it is known now.
    Hlc(Hlc),
    /// What was stamped up to this HLC, as far as it had been accepted then.
    Both(Arrival, Hlc),
}

impl AsOf {
    /// Both coordinates together; none without any.
    #[must_use]
    pub fn new(arrival: Option<Arrival>, hlc: Option<Hlc>) -> Option<Self> {
        match (arrival, hlc) {
            (Some(arrival), Some(hlc)) => Some(Self::Both(arrival, hlc)),
            (Some(arrival), None) => Some(Self::Arrival(arrival)),
            (None, Some(hlc)) => Some(Self::Hlc(hlc)),
            (None, None) => None,
        }
    }

    /// The coordinate of arrival.
    #[must_use]
    pub fn arrival(&self) -> Option<&Arrival> {
        match self {
            Self::Arrival(arrival) | Self::Both(arrival, _) => Some(arrival),
            Self::Hlc(_) => None,
        }
    }

    /// The coordinate of the writers' clocks.
    #[must_use]
    pub fn hlc(&self) -> Option<Hlc> {
        match self {
            Self::Hlc(hlc) | Self::Both(_, hlc) => Some(*hlc),
            Self::Arrival(_) => None,
        }
    }
}

/// A table name with the moment that a statement pinned it to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The table's name.
    pub table: String,
    /// The moment.
    pub as_of: AsOf,
}

impl Pinned {
    /// The name under which the pinned table is planned. No table of ours can have such a name.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}@{}", self.table, self.as_of)
    }

    /// What [`Pinned::name`] was made of; `None` for every other name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (table, coordinates) = name.split_once('@')?;
        let (mut arrival, mut hlc) = (None, None);
        for coordinate in coordinates.split('@') {
            let (kind, value) = coordinate.split_once(':')?;
            let known = match kind {
                "hlc" => hlc.replace(value.parse().ok()?).is_some(),
                kind => arrival.replace(arrival_of(kind, value)?).is_some(),
            };
            if known {
                return None;
            }
        }
        Some(Self {
            table: (!table.is_empty()).then(|| table.to_owned())?,
            as_of: AsOf::new(arrival, hlc)?,
        })
    }
}

fn arrival_of(kind: &str, value: &str) -> Option<Arrival> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    match kind {
        "seq" => {
            let seq = digits.then(|| value.parse().ok()).flatten()?;
            Some(Arrival::Seq(Seq::from_u64(seq).ok()?))
        }
        "version" if digits => Some(Arrival::Version(value.parse().ok()?)),
        "timestamp" => {
            let micros = micros_of(&ScalarValue::from(value)).ok()?;
            Some(Arrival::Timestamp(micros))
        }
        "ref" if !value.is_empty() => {
            let name = value.replace("%40", "@").replace("%25", "%");
            Some(Arrival::Ref(name))
        }
        _ => None,
    }
}

impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(arrival) = self.arrival() {
            match arrival {
                Arrival::Seq(seq) => write!(f, "seq:{seq}"),
                Arrival::Timestamp(micros) => write!(f, "timestamp:{}", time_text(*micros)),
                Arrival::Version(id) => write!(f, "version:{id}"),
                Arrival::Ref(name) => {
                    let name = name.replace('%', "%25").replace('@', "%40");
                    write!(f, "ref:{name}")
                }
            }?;
        }
        match self {
            Self::Arrival(_) => Ok(()),
            Self::Hlc(hlc) => write!(f, "hlc:{hlc}"),
            Self::Both(_, hlc) => write!(f, "@hlc:{hlc}"),
        }
    }
}

/// A moment in microseconds since 1970 as people and pinned names write it, in UTC.
pub(crate) fn time_text(micros: i64) -> String {
    match DateTime::<Utc>::from_timestamp_micros(micros) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        None => format!("{micros} µs since 1970"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_name_gives_back_its_parts() {
        let seq = Arrival::Seq(Seq::from_u64(5).unwrap());
        let hlc = Hlc::new(1_700_000_000_000, 7).unwrap();
        let arrivals = [
            (seq, "seq:5"),
            (Arrival::Version(41), "version:41"),
            (Arrival::Timestamp(0), "timestamp:1970-01-01T00:00:00Z"),
            (
                Arrival::Timestamp(1_700_000_000_123_456),
                "timestamp:2023-11-14T22:13:20.123456Z",
            ),
            (Arrival::Ref("audit".to_owned()), "ref:audit"),
            (
                Arrival::Ref("a%40b@hlc:7:%".to_owned()),
                "ref:a%2540b%40hlc:7:%25",
            ),
        ];
        for (arrival, shown) in arrivals {
            let both = AsOf::Both(arrival.clone(), hlc);
            for (as_of, after) in [
                (AsOf::Arrival(arrival), ""),
                (both, "@hlc:111411200000000007"),
            ] {
                let table = "t".to_owned();
                let pinned = Pinned { table, as_of };
                assert_eq!(pinned.name(), format!("t@{shown}{after}"));
                assert_eq!(Pinned::parse(&pinned.name()), Some(pinned));
            }
        }
        let alone = Pinned::parse("t@hlc:111411200000000007").map(|pinned| pinned.as_of);
        assert_eq!(alone, Some(AsOf::Hlc(hlc)));
    }

    #[test]
    fn no_other_name_is_pinned() {
        for name in [
            "t",
            "@seq:5",
            "t@seq",
            "t@seq:",
            "t@seq:x",
            "t@seq:-1",
            "t@version:x",
            "t@hlc:x",
            "t@ref:",
            "t@seq:5@version:7",
            "t@hlc:5@hlc:7",
            "t@seq:5@",
            "t@timestamp:soon",
            "t@x:5",
            "t@seq:99999999999999999999",
            "t@hlc:18446744073709551615",
        ] {
            assert_eq!(Pinned::parse(name), None, "{name}");
        }
    }
}
