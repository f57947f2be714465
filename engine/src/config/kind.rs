//! What a setting may be, how a person writes it, and how it is shown.
//!
//! **Invariant:** what is shown of a setting that is no secret reads back as the same setting; a secret is never shown.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use toml::Value as Toml;

/// What stands for a secret wherever settings are shown.
pub(crate) const MASK: &str = "***";

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for whoever signs or verifies with it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// What a setting may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A text.
    Text,
    /// A list of texts.
    Texts,
    /// An IP address and a port.
    Address,
    /// The path of a file; a relative one begins where the configuration file is, or at the working directory when
    /// the environment or a flag says it.
    Path,
    /// A secret.
    Secret,
    /// A list of secrets.
    Secrets,
    /// A number of bytes.
    Size,
    /// A length of time.
    Time,
    /// A length of time, or `none`.
    TimeOrNone,
    /// A whole number.
    Count,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// A setting that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    Unset,
    Text(String),
    Texts(Vec<String>),
    Address(SocketAddr),
    Path(PathBuf),
    Secret(Secret),
    Secrets(Vec<Secret>),
    Size(u64),
    Time(Duration),
    Never,
    Count(u64),
}

impl Kind {
    /// Whether it is a list, which may be empty.
    pub(crate) fn is_list(self) -> bool {
        matches!(self, Self::Texts | Self::Secrets)
    }

    /// Reads a setting from a text, as environment variables, flags and defaults give it: lists with commas between
    /// their members, or as a TOML array.
    ///
    /// # Errors
    /// What it should have been.
    pub(crate) fn read_text(self, text: &str) -> Result<Setting, String> {
        let text = text.trim();
        match self {
            Self::Texts | Self::Secrets if text.starts_with('[') => {
                let parsed: Result<toml::Table, _> = toml::from_str(&format!("list = {text}"));
                let mut parsed = parsed.map_err(|_| self.wanted())?;
                self.read(&parsed.remove("list").ok_or_else(|| self.wanted())?)
            }
            Self::Texts | Self::Secrets => {
                let members = text.split(',').map(str::trim);
                let members = members.filter(|member| !member.is_empty());
                self.list(members.map(str::to_owned).collect())
            }
            Self::Count => self.read(&Toml::Integer(text.parse().map_err(|_| self.wanted())?)),
            _ => self.read(&Toml::String(text.to_owned())),
        }
    }

    /// Reads a setting from the file.
    ///
    /// # Errors
    /// What it should have been.
    pub(crate) fn read(self, value: &Toml) -> Result<Setting, String> {
        match (self, value) {
            (Self::Size, Toml::Integer(bytes)) => u64::try_from(*bytes)
                .map(Setting::Size)
                .map_err(|_| self.wanted()),
            (Self::Count, Toml::Integer(count)) => u64::try_from(*count)
                .map(Setting::Count)
                .map_err(|_| self.wanted()),
            (Self::Texts | Self::Secrets, Toml::Array(members)) => {
                let members = members.iter().map(|member| member.as_str());
                let members: Option<Vec<_>> = members.map(|m| m.map(str::to_owned)).collect();
                self.list(members.ok_or_else(|| self.wanted())?)
            }
            (_, Toml::String(text)) => self.scalar(text),
            _ => Err(self.wanted()),
        }
    }

    fn scalar(self, text: &str) -> Result<Setting, String> {
        Ok(match self {
            Self::Text => Setting::Text(non_empty(text)?.to_owned()),
            Self::Path => Setting::Path(non_empty(text)?.into()),
            Self::Secret => Setting::Secret(secret(text)?),
            Self::Address => Setting::Address(text.parse().map_err(|_| self.wanted())?),
            Self::Size => {
                let size: ByteSize = text.parse().map_err(|_| self.wanted())?;
                Setting::Size(size.as_u64())
            }
            Self::TimeOrNone if text == "none" => Setting::Never,
            Self::Time | Self::TimeOrNone => {
                Setting::Time(humantime::parse_duration(text).map_err(|_| self.wanted())?)
            }
            Self::Word(words) if words.contains(&text) => Setting::Text(text.to_owned()),
            Self::Texts | Self::Secrets | Self::Count | Self::Word(_) => return Err(self.wanted()),
        })
    }

    fn list(self, members: Vec<String>) -> Result<Setting, String> {
        match self {
            Self::Secrets => {
                let members: Result<_, _> = members.iter().map(|member| secret(member)).collect();
                Ok(Setting::Secrets(members?))
            }
            _ => Ok(Setting::Texts(members)),
        }
    }

    fn wanted(self) -> String {
        match self {
            Self::Text | Self::Secret => "should be a text".to_owned(),
            Self::Texts | Self::Secrets => {
                "should be a list of texts, as in [\"a\", \"b\"]".to_owned()
            }
            Self::Address => {
                "should be an IP address and a port, as in \"127.0.0.1:7420\"".to_owned()
            }
            Self::Path => "should be the path of a file".to_owned(),
            Self::Size => "should be a size, as in \"64 MiB\", or a number of bytes".to_owned(),
            Self::Time => {
                "should be a length of time with its unit, as in \"30s\" or \"7 days\"".to_owned()
            }
            Self::TimeOrNone => {
                "should be a length of time with its unit, as in \"30 days\", or \"none\""
                    .to_owned()
            }
            Self::Count => "should be a whole number, 0 or more".to_owned(),
            Self::Word(words) => format!("should be one of: {}", words.join(", ")),
        }
    }
}

fn non_empty(text: &str) -> Result<&str, String> {
    match text.is_empty() {
        true => Err("should not be empty; leave it out instead".to_owned()),
        false => Ok(text),
    }
}

fn secret(text: &str) -> Result<Secret, String> {
    match non_empty(text)? {
        MASK => {
            Err("is what `lakesync config` shows in place of a secret; give the secret".to_owned())
        }
        text => Ok(Secret::new(text)),
    }
}

/// As TOML writes it.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => Ok(()),
            Self::Text(text) => quoted(f, text),
            Self::Path(path) => quoted(f, &path.to_string_lossy()),
            Self::Address(address) => quoted(f, &address.to_string()),
            Self::Texts(texts) => list(f, texts.iter().map(String::as_str)),
            Self::Secret(_) => quoted(f, MASK),
            Self::Secrets(secrets) => list(f, secrets.iter().map(|_| MASK)),
            Self::Size(bytes) => match exact_size(*bytes) {
                Some(text) => quoted(f, &text),
                None => write!(f, "{bytes}"),
            },
            Self::Time(time) => quoted(f, &humantime::format_duration(*time).to_string()),
            Self::Never => quoted(f, "none"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    write!(f, "{}", Toml::String(text.to_owned()))
}

fn list<'a>(f: &mut fmt::Formatter<'_>, texts: impl Iterator<Item = &'a str>) -> fmt::Result {
    f.write_char('[')?;
    for (index, text) in texts.enumerate() {
        f.write_str(if index == 0 { "" } else { ", " })?;
        quoted(f, text)?;
    }
    f.write_char(']')
}

/// `64 MiB`, when that is all of it.
fn exact_size(bytes: u64) -> Option<String> {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let (unit, shift) = units
        .into_iter()
        .find(|(_, shift)| bytes != 0 && bytes.trailing_zeros() >= *shift)?;
    Some(format!("{} {unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_in_the_units_that_people_use() {
        for (text, bytes) in [
            ("64 MiB", 64 << 20),
            ("64MiB", 64 << 20),
            ("1 GB", 1_000_000_000),
            ("1 gib", 1 << 30),
            ("512", 512),
            ("1.5 KiB", 1536),
        ] {
            assert_eq!(
                Kind::Size.read_text(text),
                Ok(Setting::Size(bytes)),
                "{text}"
            );
        }
        assert_eq!(Kind::Size.read(&Toml::Integer(7)), Ok(Setting::Size(7)));
        for (text, seconds) in [
            ("30s", 30),
            ("2 min", 120),
            ("7 days", 604_800),
            ("1h 30m", 5_400),
        ] {
            let time = Duration::from_secs(seconds);
            assert_eq!(
                Kind::Time.read_text(text),
                Ok(Setting::Time(time)),
                "{text}"
            );
        }
        assert_eq!(Kind::TimeOrNone.read_text("none"), Ok(Setting::Never));
    }

    #[test]
    fn what_does_not_fit_says_what_would() {
        let wrong: [(Kind, Toml, &str); 10] = [
            (Kind::Size, "much".into(), "64 MiB"),
            (Kind::Size, Toml::Integer(-1), "64 MiB"),
            (Kind::Time, "30".into(), "with its unit"),
            (Kind::Time, Toml::Integer(30), "with its unit"),
            (Kind::Time, "none".into(), "with its unit"),
            (Kind::Count, Toml::Integer(-1), "0 or more"),
            (Kind::Word(&["json", "text"]), "xml".into(), "json, text"),
            (Kind::Address, "localhost".into(), "127.0.0.1:7420"),
            (Kind::Texts, "a".into(), "one of"),
            (Kind::Secret, "***".into(), "in place of a secret"),
        ];
        for (kind, value, said) in wrong {
            let error = kind.read(&value).unwrap_err();
            let listed = kind == Kind::Texts && error.contains("list of texts");
            assert!(error.contains(said) || listed, "{kind:?} {value}: {error}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_except_for_secrets() {
        let cases = [
            (Kind::Size, "64 MiB"),
            (Kind::Size, "1000"),
            (Kind::Size, "0"),
            (Kind::Time, "1h 1m 1s"),
            (Kind::Time, "0s"),
            (Kind::TimeOrNone, "none"),
            (Kind::Texts, r#"["a\"b", "c, d"]"#),
            (Kind::Texts, "a, b"),
            (Kind::Text, "back\\slash \"quotes\" ünïcode"),
            (Kind::Address, "[::1]:80"),
            (Kind::Count, "12"),
        ];
        for (kind, text) in cases {
            let setting = kind.read_text(text).unwrap();
            let shown = format!("v = {setting}");
            let read: toml::Table = toml::from_str(&shown).unwrap();
            assert_eq!(kind.read(&read["v"]), Ok(setting), "{shown}");
        }
        let secrets = Kind::Secrets.read_text("hush, quiet").unwrap();
        assert_eq!(secrets.to_string(), r#"["***", "***"]"#);
        assert!(!format!("{secrets:?}").contains("hush"));
    }
}
