//! `[actions.NAME]`: the webhooks that actions are delivered to.
//!
//! ```text
//! [actions.mail]
//! url = "https://hooks.example/mail"
//! secret_file = "mail.secret"
//! [[actions.mail.types]]
//! name = "send"
//! description = "Sends a mail"
//! params_schema = { type = "object", required = ["to"] }
//! ```
//! **Invariant:** every connector has a name, a URL and at least one action type.

use std::collections::BTreeMap;

use lakesync_gateway::actions::ActionType;
use toml::{Table, Value as Toml};

use super::effective::wrong;
use super::error::{ConfigError, Source};
use super::kind::{Kind, Setting};
use super::named::{self, Field, Named};

/// How many connectors a configuration may name: each has a queue and a table of its types.
const CONNECTORS_MAX: usize = 100;
/// How many action types a connector may have: they are listed in one answer.
const TYPES_MAX: usize = 100;
/// The section's root and how it is written.
const ROOT: (&str, &str) = ("actions", "[actions.NAME]");
/// What a connector holds beside its settings.
const TYPES: &str = "types";

/// A setting of a connector: name, kind, default, what it is.
pub(crate) struct ConnectorKey {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
    pub(crate) doc: &'static str,
    /// For suggestions and messages.
    path: &'static str,
}

/// The settings of a connector beside its types.
pub(crate) const CONNECTOR_KEYS: &[ConnectorKey] = &[
    ConnectorKey {
        name: "url",
        kind: Kind::Text,
        default: "",
        doc: "Where actions are sent, by POST.",
        path: "actions.NAME.url",
    },
    ConnectorKey {
        name: "secret",
        kind: Kind::Secret,
        default: "",
        doc: "Signs every request (X-LakeSync-Signature). Without it the receiver cannot tell who sends.",
        path: "actions.NAME.secret",
    },
    ConnectorKey {
        name: "secret_file",
        kind: Kind::Path,
        default: "",
        doc: "A file that holds the secret instead.",
        path: "actions.NAME.secret_file",
    },
    ConnectorKey {
        name: "timeout",
        kind: Kind::Time,
        default: "10s",
        doc: "How long one delivery may take. Shorter retries what was only slow; longer keeps clients waiting.",
        path: "actions.NAME.timeout",
    },
    ConnectorKey {
        name: "attempts_max",
        kind: Kind::Count,
        default: "12",
        doc: "How often a delivery is tried before it becomes a dead letter. Fewer gives up during a short outage; more \
              hammers a receiver that is gone.",
        path: "actions.NAME.attempts_max",
    },
];

/// The dotted paths of all settings of a connector.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    CONNECTOR_KEYS.iter().map(|key| key.path)
}

/// One connector as configured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Connector {
    pub(crate) settings: Named,
    pub(crate) types: Vec<ActionType>,
}

impl Connector {
    /// A setting and where it came from; [`Setting::Unset`] when nothing sets it.
    pub(crate) fn get(&self, name: &str) -> (&Setting, &Source) {
        self.settings.get(name)
    }
}

/// The connectors by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Connectors(BTreeMap<String, Connector>);

impl Connectors {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Connector)> {
        self.0.iter()
    }

    /// Reads all of `[actions]`.
    pub(crate) fn file(&mut self, source: &Source, value: Option<Toml>) -> Result<(), ConfigError> {
        for (name, value) in named::sections(source, ROOT, value, CONNECTORS_MAX)? {
            self.add(source, &name, value)?;
        }
        Ok(())
    }

    fn add(&mut self, source: &Source, name: &str, value: Toml) -> Result<(), ConfigError> {
        let section = format!("actions.{name}");
        if !is_name(name) {
            let reason = "is no name of a connector: letters, digits, `_` and `-`, at most 64";
            return Err(wrong(source, &section, reason));
        }
        let Toml::Table(table) = value else {
            return Err(wrong(
                source,
                &section,
                "should be a section, [actions.NAME]",
            ));
        };
        let mut connector = Connector {
            settings: Named::new(source),
            types: Vec::new(),
        };
        for key in CONNECTOR_KEYS.iter().filter(|key| !key.default.is_empty()) {
            let setting = key.kind.read_text(key.default);
            let setting = setting.expect("a test reads every default");
            connector.settings.put(&Source::Default, key.name, setting);
        }
        for (key, value) in table {
            if key == TYPES {
                connector.types = types(source, &format!("{section}.{key}"), value)?;
                continue;
            }
            let field = named::known(source, &section, &key, fields(), &[TYPES])?;
            let settings = &mut connector.settings;
            settings.put_value(source, &section, field, &value)?;
        }
        self.0.insert(name.to_owned(), connector);
        Ok(())
    }

    /// Reads `NAME__KEY` of the environment; the connector must be in the file.
    pub(crate) fn variable(
        &mut self,
        source: &Source,
        rest: &str,
        text: &str,
    ) -> Result<(), ConfigError> {
        let Some((upper, key)) = rest.rsplit_once("__") else {
            let reason = "should be LAKESYNC_ACTIONS__NAME__KEY";
            return Err(wrong(source, ROOT.0, reason));
        };
        let (name, connector) = named::of_variable(source, ROOT, &mut self.0, upper)?;
        let section = format!("actions.{name}");
        let key = key.to_ascii_lowercase();
        let field = named::known(source, &section, &key, fields(), &[TYPES])?;
        let settings = &mut connector.settings;
        settings.put_text(source, &section, field, text)
    }
}

fn fields() -> impl Iterator<Item = Field> + Clone {
    CONNECTOR_KEYS.iter().map(|key| (key.name, key.kind))
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !name.is_empty() && name.len() <= 64 && name.chars().all(allowed)
}

fn types(source: &Source, path: &str, value: Toml) -> Result<Vec<ActionType>, ConfigError> {
    let wanted =
        "should be sections [[actions.NAME.types]] with name, description and params_schema";
    let Toml::Array(members) = value else {
        return Err(wrong(source, path, wanted));
    };
    if members.len() > TYPES_MAX {
        return Err(wrong(source, path, format!("may hold {TYPES_MAX} types")));
    }
    let mut types = Vec::with_capacity(members.len());
    for member in members {
        let Toml::Table(table) = member else {
            return Err(wrong(source, path, wanted));
        };
        types.push(action_type(source, path, table)?);
    }
    Ok(types)
}

fn action_type(source: &Source, path: &str, table: Table) -> Result<ActionType, ConfigError> {
    let mut action = ActionType {
        name: String::new(),
        description: String::new(),
        params_schema: None,
    };
    for (key, value) in table {
        match (key.as_str(), value) {
            ("name", Toml::String(text)) => action.name = text,
            ("description", Toml::String(text)) => action.description = text,
            ("params_schema", value @ Toml::Table(_)) => {
                let json = serde_json::to_value(value);
                let json = json.map_err(|error| wrong(source, path, error.to_string()))?;
                action.params_schema = Some(json);
            }
            (key @ ("name" | "description" | "params_schema"), _) => {
                let kind = if key == "params_schema" {
                    "section"
                } else {
                    "text"
                };
                return Err(wrong(
                    source,
                    &format!("{path}.{key}"),
                    format!("should be a {kind}"),
                ));
            }
            (key, _) => {
                let known = ["name", "description", "params_schema"];
                return Err(named::unknown(source, path, key, known.into_iter()));
            }
        }
    }
    match action.name.is_empty() {
        true => Err(wrong(source, path, "has a type without a name")),
        false => Ok(action),
    }
}

#[cfg(test)]
mod tests {
    use super::super::effective::{Effective, Sources};
    use super::*;

    fn read(file: &str, variables: &[(&str, &str)]) -> Result<Effective, ConfigError> {
        let variables = variables.iter();
        Effective::read(&Sources {
            file: Some(("lakesync.toml".into(), file.to_owned())),
            variables: variables
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect(),
            ..Sources::default()
        })
    }

    const MAIL: &str = "[actions.send-mail]\nurl = \"https://a.example\"\n[[actions.send-mail.types]]\nname = \"send\"\n\
                        params_schema = { type = \"object\", required = [\"to\"] }\n";

    #[test]
    fn a_connector_is_made_by_the_file_and_changed_by_the_environment() {
        let secret = ("LAKESYNC_ACTIONS__SEND_MAIL__SECRET", "hush");
        let effective = read(MAIL, &[secret]).unwrap();
        let (name, connector) = effective.connectors.iter().next().unwrap();
        assert_eq!(name, "send-mail");
        assert_eq!(
            connector.get("url").0,
            &Setting::Text("https://a.example".to_owned())
        );
        assert_eq!(
            connector.get("attempts_max"),
            (&Setting::Count(12), &Source::Default)
        );
        let (Setting::Secret(secret), Source::Variable(_)) = connector.get("secret") else {
            panic!("{connector:?}");
        };
        assert_eq!(secret.reveal(), "hush");
        let schema = serde_json::json!({"type": "object", "required": ["to"]});
        assert_eq!(connector.types[0].params_schema, Some(schema));
    }

    #[test]
    fn what_a_connector_may_not_say_is_named() {
        for (file, variables, said) in [
            ("[actions.m]\nurll = \"x\"", vec![], "`actions.m.url`"),
            (
                "[actions.m]\nurl = 1",
                vec![],
                "`actions.m.url` should be a text",
            ),
            (
                "[actions.\"a b\"]\nurl = \"x\"",
                vec![],
                "no name of a connector",
            ),
            ("[actions]\nm = 1", vec![], "[actions.NAME]"),
            (
                "[[actions.m.types]]\nnam = \"x\"",
                vec![],
                "`actions.m.types.name`",
            ),
            (
                "[[actions.m.types]]\ndescription = \"x\"",
                vec![],
                "without a name",
            ),
            (
                MAIL,
                vec![("LAKESYNC_ACTIONS__OTHER__URL", "x")],
                "only the file makes such sections",
            ),
            (
                MAIL,
                vec![("LAKESYNC_ACTIONS__SEND_MAIL__URI", "x")],
                "`actions.send-mail.url`",
            ),
        ] {
            let error = read(file, &variables).unwrap_err().to_string();
            assert!(error.contains(said), "{error} lacks {said}");
        }
    }
}
