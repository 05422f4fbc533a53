//! Settings as they are in force, each with the place it came from, for people: secrets are not shown.

use std::fmt::Write as _;

use toml::{Table, Value};

use super::Layers;
use super::layers::{KeyPath, Origin};

/// What stands in place of a secret.
const REDACTED: &str = "<redacted>";

/// The tree as TOML; values that are not defaults say where they were set.
pub(crate) fn show(layers: &Layers) -> String {
    let mut text = String::new();
    let mut tree = layers.tree().clone();
    let streams = tree.remove("stream");
    table(&mut text, layers, &Vec::new(), &tree);
    if let Some(streams) = streams {
        let origin = layers.origin(&["stream".to_owned()]);
        let _ = writeln!(text, "\n# streams from {origin}");
        let all = Table::from_iter([("stream".to_owned(), streams)]);
        text.push_str(&toml::to_string(&all).unwrap_or_default());
    }
    text
}

fn table(text: &mut String, layers: &Layers, at: &KeyPath, values: &Table) {
    let is_section = |value: &Value| value.as_table().is_some_and(|inner| !inner.is_empty());
    if values.values().any(|value| !is_section(value)) && !at.is_empty() {
        let name: Vec<String> = at.iter().map(|key| key_text(key)).collect();
        let _ = writeln!(text, "{}[{}]", if text.is_empty() { "" } else { "\n" }, name.join("."));
    }
    for (key, value) in values.iter().filter(|(_, value)| !is_section(value)) {
        let mut keys = at.clone();
        keys.push(key.clone());
        let shown = if is_secret(key) { Value::String(REDACTED.to_owned()) } else { value.clone() };
        let origin = match layers.origin(&keys) {
            Origin::Default => String::new(),
            origin => format!("   # {origin}"),
        };
        let _ = writeln!(text, "{} = {shown}{origin}", key_text(key));
    }
    for (key, value) in values {
        if let Value::Table(inner) = value
            && !inner.is_empty()
        {
            let mut keys = at.clone();
            keys.push(key.clone());
            table(text, layers, &keys, inner);
        }
    }
}

fn key_text(key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { key.to_owned() } else { Value::String(key.to_owned()).to_string() }
}

/// Whether a key, ours or a client property, holds what nobody may see. Rather one too many than one too few.
fn is_secret(key: &str) -> bool {
    let key = key.replace('.', "_");
    let said = ["password", "secret", "passphrase", "credential", "oauthbearer_config", "key_pem", "jaas"];
    said.iter().any(|word| key.contains(word)) || key.ends_with("token")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::load;

    #[test]
    fn secrets_are_not_shown_wherever_they_come_from() {
        let environment = [
            ("TIDEWATCH_KAFKA__SASL_PASSWORD", "hunter2"),
            ("TIDEWATCH_KAFKA__SASL_USERNAME", "me"),
            ("TIDEWATCH_KAFKA__SASL_OAUTHBEARER_CLIENT_SECRET", "hunter2"),
            ("TIDEWATCH_KAFKA__SASL_OAUTHBEARER_CONFIG", "principal=hunter2"),
            ("TIDEWATCH_KAFKA__SSL_KEY_PASSWORD", "hunter2"),
            (
                "TIDEWATCH_KAFKA__PROPERTIES",
                "{ \"ssl.key.password\" = \"hunter2\", \"ssl.key.pem\" = \"hunter2\", \"linger.ms\" = \"20\" }",
            ),
        ];
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let loaded = load(Some(Path::new("/dev/null")), environment, []).unwrap();
        let text = show(&loaded.layers);
        assert!(!text.contains("hunter2"), "{text}");
        assert!(!format!("{:?}", loaded.settings).contains("hunter2"));
        assert!(
            text.contains("sasl_password = \"<redacted>\"   # environment TIDEWATCH_KAFKA__SASL_PASSWORD\n"),
            "{text}"
        );
        assert!(text.contains("\"linger.ms\" = \"20\""), "{text}");
        assert!(text.contains("sasl_username = \"me\""));
    }

    #[test]
    fn what_is_shown_can_be_used_as_a_file() {
        let shown = show(&load(Some(Path::new("/dev/null")), std::iter::empty(), []).unwrap().layers);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shown.toml");
        std::fs::write(&file, &shown).unwrap();
        let again = load(Some(&file), std::iter::empty(), []).unwrap();
        assert_eq!(again.settings.streams.len(), 4);
        assert!(shown.contains("\n[sink.roll]\n"), "{shown}");
    }
}
