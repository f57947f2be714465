//! The settings in force and where each came from: defaults, then the file, then the environment, then flags.
//!
//! ```text
//! lakesync.toml            environment                         flags
//! [flush]                  LAKESYNC_FLUSH__MAX_BYTES="1 GiB"   --set flush.max_bytes="1 GiB"
//! max_bytes = "64 MiB"
//! ```
//! **Invariant:** every name that is set exists, and every value is of its kind; anything else is an error that names
//! the place.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::{Table, Value as Toml};

use super::connectors::{self, Connectors};
use super::error::{ConfigError, Source};
use super::gateways::{self, GatewaySections};
use super::keys::{KEYS, Key, key, variable};
use super::kind::Setting;
use super::nearest::nearest;

/// The longest configuration file that is read, in bytes: many times one that sets everything.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 20;

/// Variables that begin so are settings when they also name a section.
const PREFIX: &str = "LAKESYNC_";

/// What a configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file and its text.
    pub file: Option<(PathBuf, String)>,
    /// The environment.
    pub variables: Vec<(String, String)>,
    /// Settings of the command line: flag, path, text.
    pub flags: Vec<(String, String, String)>,
    /// The data directory.
    pub dir: PathBuf,
}

/// The settings in force.
#[derive(Clone, Debug)]
pub(crate) struct Effective {
    settings: BTreeMap<&'static str, (Setting, Source)>,
    pub(crate) connectors: Connectors,
    pub(crate) gateways: GatewaySections,
    pub(crate) dir: PathBuf,
}

impl Effective {
    /// Puts the sources over each other.
    ///
    /// # Errors
    /// The first name that does not exist or value that does not fit.
    pub(crate) fn read(sources: &Sources) -> Result<Self, ConfigError> {
        let mut effective = Self {
            settings: BTreeMap::new(),
            connectors: Connectors::default(),
            gateways: GatewaySections::default(),
            dir: sources.dir.clone(),
        };
        for key in KEYS {
            let setting = match key.default {
                "" if key.kind.is_list() => key.kind.read_text(""),
                "" => Ok(Setting::Unset),
                text => key.kind.read_text(text),
            };
            let setting = setting.expect("a test reads every default");
            effective
                .settings
                .insert(key.path, (setting, Source::Default));
        }
        if let Some((path, text)) = &sources.file {
            let table: Table = toml::from_str(text).map_err(|error| ConfigError::File {
                path: path.clone(),
                reason: error.to_string(),
            })?;
            effective.file(&Source::File(path.clone()), table)?;
        }
        let mut variables = sources.variables.clone();
        variables.sort();
        for (name, text) in &variables {
            effective.variable(name, text)?;
        }
        for (flag, path, text) in &sources.flags {
            let source = Source::Flag(flag.clone());
            match path.strip_prefix("gateway.") {
                Some(rest) => effective.gateways.flag(&source, rest, text)?,
                None => effective.put(&source, path, text)?,
            }
        }
        Ok(effective)
    }

    /// The setting at `path` and where it came from.
    ///
    /// # Panics
    /// When the table of keys has no such path.
    pub(crate) fn get(&self, path: &str) -> (&Setting, &Source) {
        let (setting, source) = self.settings.get(path).expect("the table of keys has it");
        (setting, source)
    }

    /// An error about the setting at `path`.
    pub(crate) fn wrong(&self, path: &str, reason: impl Into<String>) -> ConfigError {
        let (_, source) = self.get(path);
        wrong(source, path, reason)
    }

    fn file(&mut self, source: &Source, mut table: Table) -> Result<(), ConfigError> {
        let actions = table.remove("actions");
        let gateways = table.remove("gateway");
        self.table(source, "", table)?;
        self.connectors.file(source, actions)?;
        self.gateways.file(source, gateways)
    }

    /// Every key of a table whose own path is `prefix`.
    fn table(&mut self, source: &Source, prefix: &str, table: Table) -> Result<(), ConfigError> {
        for (name, value) in table {
            let path = match prefix {
                "" => name,
                prefix => format!("{prefix}.{name}"),
            };
            match (key(&path), value) {
                (Some(key), value) => {
                    let setting = key.kind.read(&value);
                    let setting = setting.map_err(|reason| wrong(source, &path, reason))?;
                    self.settings.insert(key.path, (setting, source.clone()));
                }
                (None, Toml::Table(inner)) if is_section(&path) => {
                    self.table(source, &path, inner)?;
                }
                (None, _) => return Err(unknown(source, &path)),
            }
        }
        Ok(())
    }

    fn variable(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let source = Source::Variable(name.to_owned());
        if let Some(key) = KEYS.iter().find(|key| key.variable() == name) {
            return self.put(&source, key.path, text);
        }
        let Some(rest) = name.strip_prefix(PREFIX) else {
            return Ok(());
        };
        if let Some(rest) = rest.strip_prefix("ACTIONS__") {
            return self.connectors.variable(&source, rest, text);
        }
        if let Some(rest) = rest.strip_prefix("GATEWAY__") {
            return self.gateways.variable(&source, rest, text);
        }
        // Other names are other programs' or tests'; two underscores make it a setting.
        match rest.contains("__") {
            false => refuse_misspelt(&source, name),
            true => Err(unknown(
                &source,
                &rest.to_ascii_lowercase().replace("__", "."),
            )),
        }
    }

    fn put(&mut self, source: &Source, path: &str, text: &str) -> Result<(), ConfigError> {
        let Some(key) = key(path) else {
            return Err(unknown(source, path));
        };
        let setting = key.kind.read_text(text);
        let setting = setting.map_err(|reason| wrong(source, path, reason))?;
        self.settings.insert(key.path, (setting, source.clone()));
        Ok(())
    }
}

fn is_section(path: &str) -> bool {
    let within = |key: &str| {
        key.strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    KEYS.iter().any(|key| within(key.path))
}

fn unknown(source: &Source, path: &str) -> ConfigError {
    let sections = KEYS.iter().map(|key| key.split().0);
    let known = KEYS.iter().map(|key| key.path).chain(sections);
    let known = known.chain(connectors::paths()).chain(gateways::paths());
    let known = known.chain(["actions", "gateway"]);
    let suggestion = nearest(path, known.filter(|known| !known.is_empty()));
    ConfigError::Unknown {
        place: source.clone(),
        path: path.to_owned(),
        suggestion: suggestion.map(|name| match source {
            Source::Variable(_) => variable(name),
            _ => name.to_owned(),
        }),
    }
}

/// An error about a value.
pub(crate) fn wrong(source: &Source, path: &str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Wrong {
        place: source.clone(),
        path: path.to_owned(),
        reason: reason.into(),
    }
}

/// Refuses the variable of a setting that lacks an underscore between section and key.
fn refuse_misspelt(source: &Source, name: &str) -> Result<(), ConfigError> {
    let mut variables = KEYS.iter().map(Key::variable);
    match variables.find(|variable| variable.replace("__", "_") == name && variable != name) {
        None => Ok(()),
        Some(meant) => Err(wrong(
            source,
            name,
            format!("is no setting: two underscores stand between section and key, as in {meant}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sources(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Sources {
        Sources {
            file: Some(("lakesync.toml".into(), file.to_owned())),
            variables: variables
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect(),
            flags: flags
                .iter()
                .map(|(path, text)| ("--set".to_owned(), (*path).to_owned(), (*text).to_owned()))
                .collect(),
            dir: PathBuf::new(),
        }
    }

    #[test]
    fn flags_stand_over_the_environment_over_the_file_over_defaults() {
        let file = "gateways = [\"a\"]\n[flush]\nmax_bytes = \"1 MiB\"\nmax_age = \"1s\"\nmax_rows = 1\n[server.tls]\ncert = \"c.pem\"";
        let effective = Effective::read(&sources(
            file,
            &[
                ("LAKESYNC_FLUSH__MAX_AGE", "2s"),
                ("LAKESYNC_FLUSH__MAX_ROWS", "2"),
                ("LAKESYNC_SERVER__TLS__KEY", "k.pem"),
                ("LAKESYNC_SEEDS", "100"),
                ("HOME", "/"),
            ],
            &[("flush.max_rows", "3")],
        ))
        .unwrap();
        let time = |seconds| Setting::Time(Duration::from_secs(seconds));
        for (path, setting, source) in [
            (
                "gateways",
                Setting::Texts(vec!["a".to_owned()]),
                "lakesync.toml",
            ),
            ("flush.max_bytes", Setting::Size(1 << 20), "lakesync.toml"),
            ("flush.max_age", time(2), "$LAKESYNC_FLUSH__MAX_AGE"),
            ("flush.max_rows", Setting::Count(3), "--set"),
            (
                "server.tls.cert",
                Setting::Path("c.pem".into()),
                "lakesync.toml",
            ),
            (
                "server.tls.key",
                Setting::Path("k.pem".into()),
                "$LAKESYNC_SERVER__TLS__KEY",
            ),
            ("server.timeout", time(30), "default"),
        ] {
            let (found, from) = effective.get(path);
            assert_eq!(
                (found, from.to_string().as_str()),
                (&setting, source),
                "{path}"
            );
        }
    }

    #[test]
    fn a_name_that_does_not_exist_is_refused_with_the_nearest_that_does() {
        for (sources, said) in [
            (
                sources("", &[("LAKESYNC_FLUSH_MAX_AGE", "2s")], &[]),
                ["`LAKESYNC_FLUSH_MAX_AGE`", "LAKESYNC_FLUSH__MAX_AGE"],
            ),
            (
                sources("[flush]\nmax_byte = 1", &[], &[]),
                ["`flush.max_byte`", "`flush.max_bytes`"],
            ),
            (
                sources("[flsh]\nmax_bytes = 1", &[], &[]),
                ["`flsh`", "`flush`"],
            ),
            (
                sources("[flush.max_bytes]\nx = 1", &[], &[]),
                ["`flush.max_bytes`", "64 MiB"],
            ),
            (sources("flush = 1", &[], &[]), ["`flush`", "lakesync.toml"]),
            (
                sources("[server.tsl]\ncert = 1", &[], &[]),
                ["`server.tsl`", "`server.tls`"],
            ),
            (
                sources("", &[("LAKESYNC_LOG__LEVLE", "info")], &[]),
                ["$LAKESYNC_LOG__LEVLE", "`LAKESYNC_LOG__LEVEL`"],
            ),
            (
                sources("", &[], &[("log.lvel", "info")]),
                ["--set", "`log.level`"],
            ),
            (
                sources("[flush]\nmax_bytes = true", &[], &[]),
                ["`flush.max_bytes`", "64 MiB"],
            ),
            (
                sources("", &[("LAKESYNC_FLUSH__MAX_AGE", "60")], &[]),
                ["unit", "$LAKESYNC_FLUSH__MAX_AGE"],
            ),
            (sources("[flush\n", &[], &[]), ["lakesync.toml", "line 1"]),
        ] {
            let error = Effective::read(&sources).unwrap_err().to_string();
            for said in said {
                assert!(error.contains(said), "{error} lacks {said}");
            }
        }
    }
}
