//! What a person reads when settings are refused: one line with the place, the setting, and the remedy.

use super::layers::{KeyPath, Layers};

/// Why settings were refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum SettingsError {
    /// A file that was asked for cannot be read.
    #[error("cannot read the settings file `{path}`: {problem}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system says.
        problem: String,
    },
    /// A file that is no TOML.
    #[error("{place}: {problem}")]
    NotToml {
        /// File and line.
        place: String,
        /// What the parser says.
        problem: String,
    },
    /// A key that nothing reads.
    #[error("{place}: unknown setting `{setting}`{remedy}")]
    Unknown {
        /// Where it is written.
        place: String,
        /// Its full name.
        setting: String,
        /// The nearest known key, or all of them.
        remedy: String,
    },
    /// A value that a setting does not take.
    #[error("{place}: `{setting}` {problem}")]
    Value {
        /// Where it is written.
        place: String,
        /// Its full name.
        setting: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Values that do not make sense together, in the words of the part that checks them.
    #[error("{0}")]
    Invalid(String),
}

impl SettingsError {
    /// Words what serde refused at `keys`.
    pub(crate) fn refused(keys: &[String], message: &str, layers: &Layers) -> Self {
        if let Some((unknown, known)) = unknown_field(message) {
            let mut keys: KeyPath = keys.to_vec();
            if keys.last() != Some(&unknown) {
                keys.push(unknown.clone());
            }
            let parent = &keys[..keys.len() - 1];
            let remedy = match nearest(&unknown, &known) {
                Some(near) => format!(", did you mean `{}`?", dotted_with(parent, near)),
                None => format!("; known here: {}", known.join(", ")),
            };
            return Self::Unknown { place: layers.origin(&keys).to_string(), setting: dotted(&keys), remedy };
        }
        Self::value(keys, reworded(message), layers)
    }

    /// A value that a setting does not take, where it is written.
    pub(crate) fn value(keys: &[String], problem: String, layers: &Layers) -> Self {
        Self::Value { place: layers.origin(keys).to_string(), setting: dotted(keys), problem }
    }
}

/// `unknown field `a`, expected one of `b`, `c`` -> (a, [b, c]).
pub(crate) fn unknown_field(message: &str) -> Option<(String, Vec<String>)> {
    let rest = message.lines().next()?.strip_prefix("unknown field `")?;
    let mut quoted = rest.split('`').step_by(2);
    let unknown = quoted.next()?.to_owned();
    let known = rest.split('`').skip(2).step_by(2).map(str::to_owned).collect();
    Some((unknown, known))
}

/// The known key that is so near that a slip of the keyboard explains it.
fn nearest<'a>(unknown: &str, known: &'a [String]) -> Option<&'a str> {
    let unknown = unknown.to_lowercase().replace('-', "_");
    let distance = |key: &&String| strsim::damerau_levenshtein(&unknown, key);
    let best = known.iter().min_by_key(distance)?;
    if distance(&best) <= 1 + unknown.len() / 4 {
        return Some(best);
    }
    known.iter().filter(|key| unknown.len() >= 4 && key.contains(&unknown)).min_by_key(distance).map(String::as_str)
}

/// `["stream", "0", "name"]` -> `stream[0].name`.
pub(crate) fn dotted(keys: &[String]) -> String {
    let mut name = String::new();
    for key in keys {
        match key.parse::<usize>() {
            Ok(index) => name.push_str(&format!("[{index}]")),
            Err(_) if name.is_empty() => name.push_str(key),
            Err(_) => name.push_str(&format!(".{key}")),
        }
    }
    if name.is_empty() { "(the whole file)".to_owned() } else { name }
}

fn dotted_with(parent: &[String], key: &str) -> String {
    let mut keys = parent.to_vec();
    keys.push(key.to_owned());
    dotted(&keys)
}

/// Serde's words for a wrong value in the words of a settings file.
fn reworded(message: &str) -> String {
    let message = message.lines().next().unwrap_or(message);
    if let Some(field) = message.strip_prefix("missing field `") {
        return format!("lacks `{}`", field.trim_end_matches('`'));
    }
    if let Some((found, expected)) = parts(message, "invalid type: ") {
        return format!("is {}, expected {}", found_in_words(found), expected_in_words(expected));
    }
    if let Some((found, expected)) = parts(message, "invalid value: ") {
        let range = range_in_words(expected);
        return format!("is {}, expected {}{range}", found_in_words(found), expected_in_words(expected));
    }
    if let Some((found, expected)) = parts(message, "invalid length ") {
        let expected = expected.strip_prefix("an array of length ").unwrap_or("fewer");
        return format!("has {found} in its list, expected {expected}");
    }
    if let Some(rest) = message.strip_prefix("unknown variant `")
        && let Some((found, expected)) = rest.split_once("`, expected ")
    {
        return format!("is \"{found}\", expected {expected}");
    }
    format!("is not usable: {message}")
}

/// `<kind>a, expected b` -> (a, b).
fn parts<'a>(message: &'a str, kind: &str) -> Option<(&'a str, &'a str)> {
    message.strip_prefix(kind)?.split_once(", expected ")
}

/// Whether serde says of a value that it is none of a few names, without naming them.
pub(crate) fn is_no_name(message: &str) -> bool {
    let said = ["invalid type: unit variant", "wanted exactly 1 element", "expected table, found"];
    said.iter().any(|words| message.starts_with(words))
}

/// The names that a setting takes, from serde's refusal of an empty text.
pub(crate) fn names_wanted(message: &str) -> Option<&str> {
    message.lines().next()?.strip_prefix("unknown variant ``, expected ")
}

/// A value as it is told of.
pub(crate) fn value_in_words(value: &toml::Value) -> String {
    match value {
        toml::Value::Table(_) => "a table".to_owned(),
        toml::Value::Array(_) => "a list".to_owned(),
        toml::Value::String(text) => format!("the text {text:?}"),
        toml::Value::Integer(number) => format!("the number {number}"),
        toml::Value::Float(number) => format!("the number {number}"),
        other => other.to_string(),
    }
}

fn found_in_words(found: &str) -> String {
    if let Some(text) = found.strip_prefix("string ") {
        return format!("the text {text}");
    }
    for (serde, ours) in [("integer `", "the number "), ("floating point `", "the number "), ("boolean `", "")] {
        if let Some(value) = found.strip_prefix(serde) {
            return format!("{ours}{}", value.trim_end_matches('`'));
        }
    }
    match found {
        "map" => "a table".to_owned(),
        "sequence" => "a list".to_owned(),
        other => other.to_owned(),
    }
}

fn expected_in_words(expected: &str) -> String {
    let words = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "text in quotes",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => match other.strip_prefix("an array of length ") {
            Some(length) => return format!("a list of {length}"),
            None => other,
        },
    };
    words.to_owned()
}

/// What a whole number may be, behind its kind.
fn range_in_words(expected: &str) -> &'static str {
    match expected {
        "u8" => " from 0 to 255",
        "u16" => " from 0 to 65535",
        "u32" => " from 0 to 4294967295",
        "u64" | "usize" => " of at least 0",
        "i32" => " from -2147483648 to 2147483647",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_fields_are_read_from_the_message() {
        let parsed = unknown_field("unknown field `a`, expected one of `b`, `c`\nin `x`");
        assert_eq!(parsed, Some(("a".to_owned(), vec!["b".to_owned(), "c".to_owned()])));
        assert_eq!(unknown_field("unknown field `a`, expected `b`"), Some(("a".to_owned(), vec!["b".to_owned()])));
        assert_eq!(unknown_field("unknown field `a`, there are no fields"), Some(("a".to_owned(), vec![])));
        assert_eq!(unknown_field("missing field `a`"), None);
    }

    #[test]
    fn only_a_near_key_is_suggested() {
        let known = ["bootstrap_servers".to_owned(), "client_id".to_owned()];
        for (unknown, expected) in [
            ("bootstrap_server", Some("bootstrap_servers")),
            ("bootstrap-servers", Some("bootstrap_servers")),
            ("servers", Some("bootstrap_servers")),
            ("cleint_id", Some("client_id")),
            ("password", None),
            ("id", None),
        ] {
            assert_eq!(nearest(unknown, &known), expected, "{unknown}");
        }
    }
}
