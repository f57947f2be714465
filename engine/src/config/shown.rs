//! The settings in force as TOML that a person can read, change and use as the file.
//!
//! **Invariant:** what is printed reads back as the same settings, but for secrets and the paths of
//! webhooks, which are masked.

use std::fmt::Write as _;

use super::connectors::{CONNECTOR_KEYS, Connector};
use super::effective::Effective;
use super::error::Source;
use super::gateways;
use super::keys::KEYS;
use super::kind::{MASK, Setting};

/// Where comments are wrapped, in characters.
const WIDTH: usize = 100;

const HEAD: &str = "The settings in force, and behind each where it came from. Later wins: default, file, environment \
     (in capitals above each), flag (`--set section.key=value`). Sizes and times are in human units.";

/// The whole of it.
pub(crate) fn shown(effective: &Effective) -> String {
    let mut out = String::new();
    comment(&mut out, HEAD);
    let mut section = "";
    for key in KEYS {
        let (within, name) = key.split();
        if within != section {
            section = within;
            out.push_str("\n\n");
            writeln!(out, "[{section}]").expect(FITS);
        }
        out.push('\n');
        comment(&mut out, key.doc);
        comment(&mut out, &key.variable());
        line(&mut out, name, effective.get(key.path));
    }
    gateway_sections(&mut out, effective);
    actions(&mut out, effective);
    out
}

const FITS: &str = "a text takes everything";

fn gateway_sections(out: &mut String, effective: &Effective) {
    out.push_str("\n\n");
    comment(
        out,
        "Gateways with settings of their own: gateway NAME takes these in place of those of [sync], also when it is \
         created later; what is not set is as there. Their variables are LAKESYNC_GATEWAY__NAME__SYNC__DRIFT and so on.",
    );
    for (name, own) in effective.gateways.iter() {
        writeln!(out, "\n[gateway.{name}.sync]").expect(FITS);
        for key in gateways::keys() {
            let (_, name) = key.split();
            line(out, name, own.get(name));
        }
    }
    if effective.gateways.iter().next().is_none() {
        comment(out, "[gateway.NAME.sync]");
        for key in gateways::keys() {
            comment(out, &format!("{} = (as in [sync])", key.split().1));
        }
    }
}

fn actions(out: &mut String, effective: &Effective) {
    out.push_str("\n\n");
    comment(
        out,
        "Connectors: an action that names connector NAME is sent to its URL, signed, and tried again until it is \
         taken. A type's name is what clients say; its params_schema is shown to them.",
    );
    for (name, connector) in effective.connectors.iter() {
        connector_section(out, name, connector);
    }
    if effective.connectors.len() == 0 {
        comment(out, "[actions.NAME]");
        for key in CONNECTOR_KEYS {
            comment(out, &format!("{}: {}", key.name, key.doc));
        }
        comment(out, "[[actions.NAME.types]]");
        comment(out, "name, description, params_schema");
    }
}

fn connector_section(out: &mut String, name: &str, connector: &Connector) {
    writeln!(out, "\n[actions.{name}]").expect(FITS);
    for key in CONNECTOR_KEYS {
        out.push('\n');
        comment(out, key.doc);
        match connector.get(key.name) {
            (Setting::Text(url), source) if key.name == "url" => {
                let masked = Setting::Text(masked_url(url));
                line(out, key.name, (&masked, source));
            }
            setting => line(out, key.name, setting),
        }
    }
    for action in &connector.types {
        writeln!(out, "\n[[actions.{name}.types]]").expect(FITS);
        let text = |text: &str| toml::Value::String(text.to_owned());
        writeln!(out, "name = {}", text(&action.name)).expect(FITS);
        writeln!(out, "description = {}", text(&action.description)).expect(FITS);
        let schema = action.params_schema.as_ref();
        // It came from TOML, so it is TOML.
        if let Some(schema) = schema.and_then(|schema| toml::Value::try_from(schema).ok()) {
            writeln!(out, "params_schema = {schema}").expect(FITS);
        }
    }
}

/// Scheme and host of a webhook: users, paths and queries of such addresses are often keys.
fn masked_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return MASK.to_owned();
    };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, more) = rest.split_at(end);
    let (user, host) = match authority.rsplit_once('@') {
        Some((_, host)) => (format!("{MASK}@"), host),
        None => (String::new(), authority),
    };
    let more = match more {
        "" | "/" => more.to_owned(),
        _ => format!("/{MASK}"),
    };
    format!("{scheme}://{user}{host}{more}")
}

fn line(out: &mut String, name: &str, (setting, source): (&Setting, &Source)) {
    match setting {
        Setting::Unset => comment(out, &format!("{name} = (not set)")),
        setting => writeln!(out, "{name} = {setting}  # {source}").expect(FITS),
    }
}

fn comment(out: &mut String, text: &str) {
    let mut width = 0;
    for word in text.split_whitespace() {
        if width == 0 || width + 1 + word.len() > WIDTH {
            out.push_str(if width == 0 { "#" } else { "\n#" });
            width = 1;
        }
        out.push(' ');
        out.push_str(word);
        width += 1 + word.len();
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::effective::Sources;
    use super::super::keys::Key;
    use super::*;

    fn read(text: &str) -> Effective {
        Effective::read(&Sources {
            file: Some(("lakesync.toml".into(), text.to_owned())),
            ..Sources::default()
        })
        .unwrap()
    }

    #[test]
    fn what_is_shown_is_a_file_with_the_same_settings() {
        let text = "gateways = [\"a\", \"b\"]\n[sync]\nlate_window = \"none\"\n[server.tls]\ncert = \"c.pem\"\nkey = \"k.pem\"\n\
                    [gateway.a-b.sync]\nlate_window = \"none\"\ndrift = \"1m\"\n[gateway.c.sync]\ndelta_ids = \"accept\"\n\
                    [gateway.d.sync]\nlate_window = \"90 days\"\n\
                    [actions.mail]\nurl = \"https://a.example\"\n[[actions.mail.types]]\nname = \"send\"\n\
                    params_schema = { type = \"object\", required = [\"to\"] }";
        for text in [text, ""] {
            let (before, printed) = (read(text), shown(&read(text)));
            let after = read(&printed);
            for Key { path, .. } in KEYS {
                assert_eq!(
                    before.get(path).0,
                    after.get(path).0,
                    "{path} in\n{printed}"
                );
            }
            let types = |effective: &Effective| {
                let types = effective.connectors.iter().map(|(_, c)| c.types.clone());
                types.collect::<Vec<_>>()
            };
            assert_eq!(types(&before), types(&after), "{printed}");
            assert_eq!(before.gateways, after.gateways, "{printed}");
        }
    }

    #[test]
    fn of_a_webhook_only_scheme_and_host_are_shown() {
        for (url, shown) in [
            ("https://a.example", "https://a.example"),
            ("https://a.example:8443/", "https://a.example:8443/"),
            ("https://a.example/hooks/T0/KEY", "https://a.example/***"),
            ("https://a.example?key=KEY", "https://a.example/***"),
            ("https://a.example#KEY", "https://a.example/***"),
            ("https://me:KEY@a.example/x", "https://***@a.example/***"),
            ("https://KEY@KEY@a.example", "https://***@a.example"),
            ("KEY", "***"),
        ] {
            assert_eq!(masked_url(url), shown, "{url}");
            let printed = super::shown(&read(&format!("[actions.m]\nurl = \"{url}\"")));
            assert!(
                !printed.contains("KEY@") && !printed.contains("/KEY"),
                "{printed}"
            );
            assert!(printed.contains(&format!("url = \"{shown}\"")), "{printed}");
        }
    }

    #[test]
    fn secrets_are_masked_and_every_value_says_where_it_came_from() {
        let printed = shown(&read(
            "[auth]\nhs256_secrets = [\"hush-hush\"]\n[actions.m]\nurl = \"https://a.example\"\nsecret = \"hush-too\"",
        ));
        assert!(!printed.contains("hush"), "{printed}");
        for said in [
            "hs256_secrets = [\"***\"]  # lakesync.toml",
            "secret = \"***\"  # lakesync.toml",
            "max_bytes = \"64 MiB\"  # default",
            "# LAKESYNC_FLUSH__MAX_BYTES",
            "# issuer = (not set)",
        ] {
            assert!(printed.contains(said), "{said} is not in\n{printed}");
        }
    }
}
