//! The layers of settings as one tree that remembers where each value came from.
//!
//! Invariant: a later layer replaces values, and whole lists, of an earlier one; tables are joined key by key. Nothing here knows
//! what a setting means: [`Layers::read`] gives the tree to serde and words what serde refuses, with the place a person wrote it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use toml::de::DeValue;
use toml::{Table, Value};

use super::error::{self, SettingsError};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nowhere: the program's own.
    Default,
    /// A settings file, and the line.
    File(PathBuf, usize),
    /// An environment variable of this name.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the defaults"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// The keys from the root to a value; an index of a list is a key too.
pub(crate) type KeyPath = Vec<String>;

/// What separates the levels of a setting in the name of an environment variable.
const ENV_NESTING: &str = "__";
/// What such a variable begins with. Variables without a level (`TIDEWATCH_CONFIG`) are the command line's.
const ENV_PREFIX: &str = "TIDEWATCH_";

/// The joined layers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layers {
    tree: Table,
    origins: BTreeMap<KeyPath, Origin>,
    /// Text of environment variables that was read as something other than text: if a setting wants text, it gets that.
    texts: BTreeMap<KeyPath, String>,
}

impl Layers {
    /// The first layer.
    pub(crate) fn from_defaults(defaults: Table) -> Self {
        let mut layers = Self::default();
        layers.join(Vec::new(), defaults, &|_| Origin::Default);
        layers
    }

    /// Adds the text of a settings file.
    ///
    /// # Errors
    /// If it is no TOML: file, line, and what is wrong.
    pub(crate) fn add_file(&mut self, path: &Path, text: &str) -> Result<(), SettingsError> {
        let broken = |error: toml::de::Error| SettingsError::NotToml {
            place: format!("{}:{}", path.display(), error.span().map_or(1, |span| line_of(text, span.start))),
            problem: error.message().to_owned(),
        };
        let table: Table = text.parse().map_err(broken)?;
        let spanned = toml::de::DeTable::parse(text).map_err(broken)?;
        let root = spanned.get_ref();
        let origin = |keys: &[String]| Origin::File(path.to_path_buf(), find_line(text, root, keys));
        self.join(Vec::new(), table, &origin);
        Ok(())
    }

    /// Adds the variables of the form `TIDEWATCH_KAFKA__CLIENT_ID`; others are not ours.
    pub(crate) fn add_environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix(ENV_PREFIX).filter(|rest| rest.contains(ENV_NESTING)) else { continue };
            let keys: KeyPath = rest.split(ENV_NESTING).map(str::to_lowercase).collect();
            let value = match format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v")) {
                Some(value) if !value.is_str() && !value.is_datetime() => {
                    self.texts.insert(keys.clone(), text);
                    value
                }
                Some(Value::String(quoted)) => Value::String(quoted),
                _ => Value::String(text),
            };
            self.set(keys, value, Origin::Environment(name));
        }
    }

    /// Adds one value of the command line.
    pub(crate) fn add_flag(&mut self, keys: &[&str], value: impl Into<Value>, flag: &'static str) {
        self.set(keys.iter().map(|&key| key.to_owned()).collect(), value.into(), Origin::Flag(flag));
    }

    fn set(&mut self, keys: KeyPath, value: Value, origin: Origin) {
        let mut nested = value;
        for key in keys.iter().rev() {
            nested = Value::Table(Table::from_iter([(key.clone(), nested)]));
        }
        if let Value::Table(table) = nested {
            self.join(Vec::new(), table, &|_| origin.clone());
        }
    }

    fn join(&mut self, at: KeyPath, table: Table, origin: &dyn Fn(&[String]) -> Origin) {
        for (key, value) in table {
            let mut keys = at.clone();
            keys.push(key);
            match value {
                Value::Table(inner) if !inner.is_empty() => self.join(keys, inner, origin),
                value => {
                    self.origins.retain(|known, _| !known.starts_with(&keys));
                    note_origins(&mut self.origins, keys.clone(), &value, origin);
                    place(&mut self.tree, &keys, value);
                }
            }
        }
    }

    /// The tree, for `config show`.
    pub(crate) const fn tree(&self) -> &Table {
        &self.tree
    }

    /// Where the value at `keys`, or the list or table that it stands in, was written.
    pub(crate) fn origin(&self, keys: &[String]) -> Origin {
        if let Some(found) = (0..=keys.len()).rev().find_map(|length| self.origins.get(&keys[..length])) {
            return found.clone();
        }
        // A table has no origin of its own; the latest of what stands in it explains why it is there.
        let inside = self.origins.iter().filter(|(known, _)| known.starts_with(keys)).map(|(_, origin)| origin);
        inside
            .fold(Origin::Default, |best, origin| if matches!(origin, Origin::Default) { best } else { origin.clone() })
    }

    /// Whether a person set this, anywhere.
    pub(crate) fn origin_is_set(&self, keys: &[&str]) -> bool {
        let keys: KeyPath = keys.iter().map(|&key| key.to_owned()).collect();
        self.origin(&keys) != Origin::Default
    }

    /// Reads the tree as `T`.
    ///
    /// # Errors
    /// An unknown key, with the nearest known one; a value of a wrong type or out of its range. Both say where it was written.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, SettingsError> {
        let mut layers = self.clone();
        let mut first_refusal = None;
        loop {
            let tree = Value::Table(layers.tree.clone());
            let refused = match serde_path_to_error::deserialize(tree) {
                Ok(settings) => return Ok(settings),
                Err(refused) => refused,
            };
            let keys = keys_of(refused.path());
            let message = refused.inner().message();
            let error = match layers.names_wanted::<T>(&keys, message) {
                Some(problem) => SettingsError::value(&keys, problem, self),
                None => SettingsError::refused(&keys, message, self),
            };
            // `TIDEWATCH_KAFKA__SASL_PASSWORD=12345` was read as a number, and the setting wants text.
            let Some(text) = layers.texts.remove(&keys) else { return Err(first_refusal.unwrap_or(error)) };
            first_refusal.get_or_insert(error);
            place(&mut layers.tree, &keys, Value::String(text));
        }
    }

    /// What is wrong with a value that is none of the names which its setting takes: serde tells them only to a text.
    fn names_wanted<T: DeserializeOwned>(&self, keys: &[String], message: &str) -> Option<String> {
        if !error::is_no_name(message) {
            return None;
        }
        let mut tree = Value::Table(self.tree.clone());
        let value = keys.iter().try_fold(&mut tree, |inside, key| match inside {
            Value::Array(items) => items.get_mut(key.parse::<usize>().ok()?),
            other => other.get_mut(key),
        })?;
        let found = error::value_in_words(value);
        *value = Value::String(String::new());
        let refused = serde_path_to_error::deserialize::<_, T>(tree).err()?;
        let names = error::names_wanted(refused.inner().message())?;
        Some(format!("is {found}, expected {names}"))
    }
}

fn note_origins(
    origins: &mut BTreeMap<KeyPath, Origin>,
    keys: KeyPath,
    value: &Value,
    origin: &dyn Fn(&[String]) -> Origin,
) {
    origins.insert(keys.clone(), origin(&keys));
    let nested: Vec<(String, &Value)> = match value {
        Value::Array(items) => items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect(),
        Value::Table(table) => table.iter().map(|(key, item)| (key.clone(), item)).collect(),
        _ => return,
    };
    for (key, item) in nested {
        let mut inner = keys.clone();
        inner.push(key);
        note_origins(origins, inner, item, origin);
    }
}

fn place(tree: &mut Table, keys: &[String], value: Value) {
    match keys {
        [] => {}
        [last] => {
            tree.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let entry = tree.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            if let Value::Table(inner) = entry {
                place(inner, rest, value);
            }
        }
    }
}

fn keys_of(path: &serde_path_to_error::Path) -> KeyPath {
    let name = |segment: &Segment| match segment {
        Segment::Map { key } => Some(key.clone()),
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().filter_map(name).collect()
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

/// The line of the deepest part of `keys` that is in the file.
fn find_line(text: &str, root: &toml::de::DeTable<'_>, keys: &[String]) -> usize {
    let mut line = 1;
    let mut table = Some(root);
    let mut list: Option<&toml::de::DeArray<'_>> = None;
    for key in keys {
        let value = match (table, list) {
            (Some(inside), _) => match inside.iter().find(|(name, _)| name.get_ref() == key.as_str()) {
                Some((name, value)) => {
                    line = line_of(text, name.span().start);
                    value
                }
                None => break,
            },
            (None, Some(items)) => match key.parse::<usize>().ok().and_then(|index| items.get(index)) {
                Some(value) => {
                    line = line_of(text, value.span().start);
                    value
                }
                None => break,
            },
            (None, None) => break,
        };
        (table, list) = match value.get_ref() {
            DeValue::Table(inner) => (Some(inner), None),
            DeValue::Array(items) => (None, Some(items)),
            _ => (None, None),
        };
    }
    line
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Part {
        name: String,
        size: u32,
        #[serde(default)]
        properties: BTreeMap<String, String>,
        #[serde(default)]
        item: Vec<Item>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Item {
        kind: String,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Whole {
        part: Part,
    }

    fn layers(file: &str, environment: &[(&str, &str)]) -> Layers {
        let mut layers = Layers::from_defaults("[part]\nname = \"a\"\nsize = 1".parse().unwrap());
        layers.add_file(Path::new("t.toml"), file).unwrap();
        layers.add_environment(environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        layers
    }

    fn check_refused(file: &str, environment: &[(&str, &str)], expected: &str) {
        assert_eq!(layers(file, environment).read::<Whole>().unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_later_layer_wins_and_says_where_it_stands() {
        let mut layers = layers(
            "\n[part]\nsize = 2\n",
            &[("TIDEWATCH_PART__NAME", "from env"), ("TIDEWATCH_CONFIG", "x"), ("HOME", "y")],
        );
        let read: Whole = layers.read().unwrap();
        assert_eq!((read.part.name.as_str(), read.part.size), ("from env", 2));
        let size = ["part".to_owned(), "size".to_owned()];
        assert_eq!(layers.origin(&size), Origin::File("t.toml".into(), 3));
        layers.add_flag(&["part", "size"], 9, "--size");
        assert_eq!(layers.read::<Whole>().unwrap().part.size, 9);
        assert_eq!(layers.origin(&size), Origin::Flag("--size"));
    }

    #[test]
    fn the_environment_is_read_as_what_the_setting_wants() {
        let layers = layers(
            "",
            &[
                ("TIDEWATCH_PART__NAME", "12345"),
                ("TIDEWATCH_PART__SIZE", "7"),
                ("TIDEWATCH_PART__PROPERTIES", "{ \"a.b\" = \"1\" }"),
            ],
        );
        let read: Whole = layers.read().unwrap();
        assert_eq!((read.part.name.as_str(), read.part.size), ("12345", 7));
        assert_eq!(read.part.properties["a.b"], "1");
    }

    #[test]
    fn refusals_name_place_key_and_remedy() {
        check_refused("[part]\nsise = 2", &[], "t.toml:2: unknown setting `part.sise`, did you mean `part.size`?");
        check_refused("[port]\nsize = 2", &[], "t.toml:2: unknown setting `port`, did you mean `part`?");
        check_refused(
            "[part]\nzzzzzzzz = 2",
            &[],
            "t.toml:2: unknown setting `part.zzzzzzzz`; known here: name, size, properties, item",
        );
        check_refused(
            "[part]\nsize = \"big\"",
            &[],
            "t.toml:2: `part.size` is the text \"big\", expected a whole number",
        );
        check_refused("[part]\nname = 3", &[], "t.toml:2: `part.name` is the number 3, expected text in quotes");
        check_refused(
            "[part]\nsize = -1",
            &[],
            "t.toml:2: `part.size` is the number -1, expected a whole number from 0 to 4294967295",
        );
        check_refused(
            "[part]\n[[part.item]]\nkind = \"a\"\n[[part.item]]\nkin = \"b\"",
            &[],
            "t.toml:5: unknown setting `part.item[1].kin`, did you mean `part.item[1].kind`?",
        );
        check_refused("[part]\n[[part.item]]\n", &[], "t.toml:2: `part.item[0]` lacks `kind`");
        check_refused(
            "",
            &[("TIDEWATCH_PART__SISE", "1")],
            "environment TIDEWATCH_PART__SISE: unknown setting `part.sise`, did you mean `part.size`?",
        );
        check_refused(
            "",
            &[("TIDEWATCH_PART__SIZE", "big")],
            "environment TIDEWATCH_PART__SIZE: `part.size` is the text \"big\", expected a whole number",
        );
        check_refused(
            "",
            &[("TIDEWATCH_PART__SIZE", "true")],
            "environment TIDEWATCH_PART__SIZE: `part.size` is true, expected a whole number",
        );
    }

    #[test]
    fn broken_toml_names_the_line() {
        let mut layers = Layers::default();
        let error = layers.add_file(Path::new("t.toml"), "a = 1\nb = \n").unwrap_err().to_string();
        assert!(error.starts_with("t.toml:2: "), "{error}");
    }
}
