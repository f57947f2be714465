//! Sections whose name a person chooses: `[actions.NAME]`, `[gateway.NAME.sync]`.
//!
//! **Invariant:** every setting of such a section has a known name and is of its kind.

use std::collections::BTreeMap;

use toml::{Table, Value as Toml};

use super::effective::wrong;
use super::error::{ConfigError, Source};
use super::keys::variable;
use super::kind::{Kind, Setting};
use super::nearest::nearest;

/// A setting that such a section may have: its name within the section, and its kind.
pub(crate) type Field = (&'static str, Kind);

/// The settings of one section.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named {
    /// Where the section stands.
    pub(crate) source: Source,
    settings: BTreeMap<&'static str, (Setting, Source)>,
}

impl Named {
    /// A section that sets nothing.
    pub(crate) fn new(source: &Source) -> Self {
        Self {
            source: source.clone(),
            settings: BTreeMap::new(),
        }
    }

    /// A setting and where it came from; [`Setting::Unset`] when nothing sets it.
    pub(crate) fn get(&self, name: &str) -> (&Setting, &Source) {
        match self.settings.get(name) {
            Some((setting, source)) => (setting, source),
            None => (&Setting::Unset, &Source::Default),
        }
    }

    /// Sets `name` to what was read.
    pub(crate) fn put(&mut self, source: &Source, name: &'static str, setting: Setting) {
        self.settings.insert(name, (setting, source.clone()));
    }

    /// Sets a field of `section` to a value of the file.
    pub(crate) fn put_value(
        &mut self,
        source: &Source,
        section: &str,
        (name, kind): Field,
        value: &Toml,
    ) -> Result<(), ConfigError> {
        let setting = kind.read(value);
        let setting =
            setting.map_err(|reason| wrong(source, &format!("{section}.{name}"), reason))?;
        self.put(source, name, setting);
        Ok(())
    }

    /// Sets a field of `section` to the text of a variable or a flag.
    pub(crate) fn put_text(
        &mut self,
        source: &Source,
        section: &str,
        (name, kind): Field,
        text: &str,
    ) -> Result<(), ConfigError> {
        let setting = kind.read_text(text);
        let setting =
            setting.map_err(|reason| wrong(source, &format!("{section}.{name}"), reason))?;
        self.put(source, name, setting);
        Ok(())
    }
}

/// The field `name` of `section`; `others` are what it may hold beside fields.
pub(crate) fn known(
    source: &Source,
    section: &str,
    name: &str,
    fields: impl Iterator<Item = Field> + Clone,
    others: &[&'static str],
) -> Result<Field, ConfigError> {
    let found = fields.clone().find(|(field, _)| *field == name);
    let names = fields.map(|(field, _)| field);
    found.ok_or_else(|| unknown(source, section, name, names.chain(others.iter().copied())))
}

/// An error about a name within `section` that is none of `names`.
pub(crate) fn unknown<'a>(
    source: &Source,
    section: &str,
    name: &str,
    names: impl Iterator<Item = &'a str>,
) -> ConfigError {
    ConfigError::Unknown {
        place: source.clone(),
        path: format!("{section}.{name}"),
        suggestion: nearest(name, names).map(|name| format!("{section}.{name}")),
    }
}

/// The value of `root` in the file as its sections by name; `shape` is how one is written, and `max` of them may be.
pub(crate) fn sections(
    source: &Source,
    (root, shape): (&str, &str),
    value: Option<Toml>,
    max: usize,
) -> Result<Table, ConfigError> {
    match value {
        None => Ok(Table::new()),
        Some(Toml::Table(table)) if table.len() > max => {
            Err(wrong(source, root, format!("may hold {max} sections")))
        }
        Some(Toml::Table(table)) => Ok(table),
        Some(_) => Err(wrong(source, root, format!("should be a section, {shape}"))),
    }
}

/// The section that `upper` of a variable's name means, as in [`sections`].
pub(crate) fn of_variable<'a, T>(
    source: &Source,
    (root, shape): (&str, &str),
    sections: &'a mut BTreeMap<String, T>,
    upper: &str,
) -> Result<(&'a String, &'a mut T), ConfigError> {
    let lower = upper.to_ascii_lowercase();
    let path = format!("{root}.{lower}");
    let wanted = variable(&lower);
    let mut found = sections
        .iter_mut()
        .filter(|(name, _)| variable(name) == wanted);
    match (found.next(), found.next()) {
        (Some(section), None) => Ok(section),
        (None, _) => {
            let reason =
                format!("names what no {shape} of the file has; only the file makes such sections");
            Err(wrong(source, &path, reason))
        }
        (Some((one, _)), Some((other, _))) => {
            let reason = format!("could be `{one}` or `{other}`; set it in the file");
            Err(wrong(source, &path, reason))
        }
    }
}
