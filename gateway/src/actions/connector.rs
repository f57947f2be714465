//! Who carries actions out: the configured connectors, each a webhook.
//!
//! **Invariant:** what is in a [`Webhooks`] was checked, and all gateways of a process share it: its turns bound how
//! many deliveries run at once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use thiserror::Error;
use tokio::sync::Semaphore;
use ureq::Agent;

use crate::outbound::{self, agent, check_url};

/// Connectors of a process.
const CONNECTORS_MAX: usize = 100;

/// Action types of one connector.
const TYPES_MAX: usize = 100;

/// Bytes of a connector's or action type's name.
pub(super) const NAME_BYTES_MAX: usize = 64;

/// Deliveries that run at once in a process, each on a thread: they wait for others' servers most of the time.
const DELIVERIES_MAX: usize = 64;

/// Deliveries of one connector that run at once: a webhook that hangs must leave turns to the others.
const DELIVERIES_PER_CONNECTOR_MAX: usize = 8;

/// The longest time that one attempt may be given: a turn is held as long.
const TIMEOUT_MAX: Duration = Duration::from_secs(120);

/// Attempts that one action may be given.
const ATTEMPTS_MAX: u32 = 100;

/// A kind of action that a connector carries out.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionType {
    /// Its name.
    pub name: String,
    /// What it does, for people.
    pub description: String,
    /// A JSON schema of its params, for clients; this server does not check them by it.
    pub params_schema: Option<Json>,
}

/// A webhook and what it carries out.
#[derive(Clone, PartialEq)]
pub struct Connector {
    /// Its name.
    pub name: String,
    /// Where actions are sent, with `http://` or `https://`.
    pub url: String,
    /// What requests are signed with, so that the webhook knows them from others'. None signs nothing.
    pub secret: Option<String>,
    /// What it carries out.
    pub types: Vec<ActionType>,
    /// How long one attempt may take (default 10 s, at most 120 s). Longer ties up one of its 8 deliveries; shorter
    /// repeats what a slow webhook was about to answer.
    pub timeout: Duration,
    /// Attempts until an action is a dead letter (default 12, an hour and a half). More keeps trying what may never
    /// work; fewer gives up during a short outage.
    pub attempts_max: u32,
}

impl Connector {
    /// A connector with the default limits.
    #[must_use]
    pub fn new(name: &str, url: &str, types: Vec<ActionType>) -> Self {
        Self {
            name: name.to_owned(),
            url: url.to_owned(),
            secret: None,
            types,
            timeout: Duration::from_secs(10),
            attempts_max: 12,
        }
    }

    fn check(&self) -> Result<(), String> {
        check_name("connector", &self.name)?;
        check_url(&self.url).map_err(|reason| format!("`url`: {reason}"))?;
        if self.secret.as_deref().is_some_and(str::is_empty) {
            return Err("`secret` is empty: give one or leave it out".to_owned());
        }
        if self.types.is_empty() || self.types.len() > TYPES_MAX {
            let n = self.types.len();
            return Err(format!(
                "it has {n} action types, 1 to {TYPES_MAX} are needed"
            ));
        }
        for (i, action) in self.types.iter().enumerate() {
            check_name("action type", &action.name)?;
            if self.types[..i]
                .iter()
                .any(|other| other.name == action.name)
            {
                return Err(format!("its action type `{}` stands twice", action.name));
            }
        }
        if self.timeout.is_zero() || self.timeout > TIMEOUT_MAX {
            let (given, most) = (self.timeout, TIMEOUT_MAX);
            return Err(format!(
                "`timeout` is {given:?}, more than 0 and at most {most:?} are allowed"
            ));
        }
        match self.attempts_max {
            1..=ATTEMPTS_MAX => Ok(()),
            n => Err(format!(
                "`attempts_max` is {n}, 1 to {ATTEMPTS_MAX} are allowed"
            )),
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("name", &self.name)
            .field("url", &outbound::shown(&self.url))
            .field("secret", &self.secret.as_ref().map(|_| "***"))
            .field("types", &self.types)
            .field("timeout", &self.timeout)
            .field("attempts_max", &self.attempts_max)
            .finish()
    }
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
    match !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(legal) {
        true => Ok(()),
        false => Err(format!(
            "`{name}` is no {what} name: 1 to {NAME_BYTES_MAX} letters, digits and _ - . : are"
        )),
    }
}

/// A connector that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("actions.{connector}: {reason}")]
pub struct ConnectorError {
    /// Its name.
    pub connector: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A connector and the connections to its webhook.
pub(super) struct Webhook {
    pub(super) connector: Connector,
    pub(super) agent: Agent,
    pub(super) turns: Arc<Semaphore>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The connections may name a proxy and its password.
        f.debug_struct("Webhook")
            .field("connector", &self.connector)
            .finish_non_exhaustive()
    }
}

/// The connectors of a process, shared by its gateways.
#[derive(Debug)]
pub struct Webhooks {
    by_name: BTreeMap<String, Arc<Webhook>>,
    pub(super) turns: Arc<Semaphore>,
}

impl Webhooks {
    /// Checks the connectors and takes them. None at all is fine: then no action is supported.
    ///
    /// # Errors
    /// [`ConnectorError`] names the connector and the field at fault.
    pub fn new(connectors: Vec<Connector>) -> Result<Arc<Self>, ConnectorError> {
        let fault = |connector: &Connector, reason: String| ConnectorError {
            connector: connector.name.clone(),
            reason,
        };
        let mut by_name = BTreeMap::new();
        for connector in connectors {
            connector
                .check()
                .map_err(|reason| fault(&connector, reason))?;
            if by_name.len() >= CONNECTORS_MAX {
                return Err(fault(
                    &connector,
                    format!("more than {CONNECTORS_MAX} connectors"),
                ));
            }
            let agent = agent(&connector.url, connector.timeout);
            let webhook = Arc::new(Webhook {
                connector,
                agent,
                turns: Arc::new(Semaphore::new(DELIVERIES_PER_CONNECTOR_MAX)),
            });
            let name = webhook.connector.name.clone();
            if by_name.insert(name, Arc::clone(&webhook)).is_some() {
                return Err(fault(
                    &webhook.connector,
                    "its name stands twice".to_owned(),
                ));
            }
        }
        Ok(Arc::new(Self {
            by_name,
            turns: Arc::new(Semaphore::new(DELIVERIES_MAX)),
        }))
    }

    pub(super) fn named(&self, name: &str) -> Option<&Arc<Webhook>> {
        self.by_name.get(name)
    }

    /// The webhook for an action, or why there is none.
    pub(super) fn find(&self, connector: &str, action_type: &str) -> Result<&Arc<Webhook>, String> {
        let webhook = self
            .by_name
            .get(connector)
            .ok_or_else(|| format!("there is no connector `{}` here", shown(connector)))?;
        let mut types = webhook.connector.types.iter();
        match types.any(|known| known.name == action_type) {
            true => Ok(webhook),
            false => Err(format!(
                "the connector `{connector}` has no action type `{}`",
                shown(action_type)
            )),
        }
    }

    /// What clients may ask for: `{"connectors":{name:[{actionType,description,paramsSchema?}]}}`.
    #[must_use]
    pub fn describe(&self) -> Json {
        let action = |action: &ActionType| {
            let mut entry = json!({"actionType": action.name, "description": action.description});
            if let Some(schema) = &action.params_schema {
                entry["paramsSchema"] = schema.clone();
            }
            entry
        };
        let connectors: serde_json::Map<String, Json> = self
            .by_name
            .iter()
            .map(|(name, webhook)| {
                let types = webhook.connector.types.iter().map(action).collect();
                (name.clone(), Json::Array(types))
            })
            .collect();
        json!({ "connectors": connectors })
    }
}

/// A name from outside, cut to what a name may be.
fn shown(name: &str) -> String {
    name.chars().take(NAME_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_of_a_connector_shows_of_its_address_only_scheme_and_host() {
        let url = "https://user:pw@hooks.example:8443/services/T0/token?key=token#token";
        let send = ActionType {
            name: "send".to_owned(),
            description: String::new(),
            params_schema: None,
        };
        let mut connector = Connector::new("mail", url, vec![send]);
        connector.secret = Some("token".to_owned());
        let webhooks = Webhooks::new(vec![connector.clone()]).unwrap();
        for shown in [format!("{connector:?}"), format!("{webhooks:?}")] {
            assert!(shown.contains("\"https://hooks.example\""), "{shown}");
            for hidden in ["token", "pw", "user:", "services"] {
                assert!(!shown.contains(hidden), "{hidden}: {shown}");
            }
        }
        connector.url = "no address: token".to_owned();
        assert!(!format!("{connector:?}").contains("token"));
        let refused = Webhooks::new(vec![connector]).unwrap_err();
        assert!(!refused.to_string().contains("token"), "{refused}");
    }
}
