//! The released schemas: every version of every record kind, by name and by fingerprint.
//!
//! Invariant: a released file never changes; a new version is a new file and a new line here.
//! Source: Apache Avro 1.12 specification, "Parsing Canonical Form" and "Schema Fingerprints" (CRC-64-AVRO).

use std::sync::LazyLock;

use apache_avro::rabin::Rabin;

/// One released version of one record kind's schema.
#[derive(Debug)]
pub struct Schema {
    name: &'static str,
    version: u32,
    json: &'static str,
    fingerprint: u64,
    parsed: apache_avro::Schema,
}

impl Schema {
    /// Record kind, such as `alert`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Released version, from 1.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The `.avsc` file's text.
    pub fn json(&self) -> &'static str {
        self.json
    }

    /// CRC-64-AVRO of the parsing canonical form.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The schema as apache-avro reads it.
    pub fn parsed(&self) -> &apache_avro::Schema {
        &self.parsed
    }

    fn released(name: &'static str, version: u32, json: &'static str) -> Self {
        let parsed = apache_avro::Schema::parse_str(json).expect("a released schema is valid Avro");
        let fingerprint = fingerprint_of(&parsed);
        Self { name, version, json, fingerprint, parsed }
    }
}

/// CRC-64-AVRO of a schema that need not be ours.
///
/// # Errors
/// If the text is no Avro schema.
pub fn fingerprint(json: &str) -> Result<u64, apache_avro::Error> {
    Ok(fingerprint_of(&apache_avro::Schema::parse_str(json)?))
}

/// CRC-64-AVRO of a schema's parsing canonical form.
pub(crate) fn fingerprint_of(schema: &apache_avro::Schema) -> u64 {
    let bytes: [u8; 8] = schema.fingerprint::<Rabin>().bytes.try_into().expect("CRC-64-AVRO is 8 bytes long");
    u64::from_le_bytes(bytes)
}

macro_rules! released {
    ($($name:literal: $($version:literal)+;)+) => {
        vec![$($(Schema::released(
            $name,
            $version,
            include_str!(concat!("../avsc/", $name, "/v", $version, ".avsc")),
        ),)+)+]
    };
}

/// By name, versions ascending.
static RELEASED: LazyLock<Vec<Schema>> = LazyLock::new(|| {
    released! {
        "service-call": 1;
        "infrastructure": 1;
        "beacon": 1;
        "check": 1;
        "window-metric": 1 2 3;
        "forecast": 1 2 3;
        "alert": 1 2 3 4;
        "late": 1 2;
        "dead-letter": 1;
        "state": 1;
        "ledger": 1;
        "truth": 1;
        "disorder": 1;
        "score": 1 2;
    }
});

/// Every released schema.
pub fn all() -> &'static [Schema] {
    &RELEASED
}

/// All released versions of a record kind, oldest first; empty for a name that is not ours.
pub fn versions(name: &str) -> impl DoubleEndedIterator<Item = &'static Schema> + use<'_> {
    RELEASED.iter().filter(move |schema| schema.name == name)
}

/// The newest released version of a record kind.
pub fn current(name: &str) -> Option<&'static Schema> {
    versions(name).next_back()
}

/// The released schema with this fingerprint.
pub fn by_fingerprint(fingerprint: u64) -> Option<&'static Schema> {
    RELEASED.iter().find(|schema| schema.fingerprint == fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_tell_the_schemas_apart() {
        for schema in all() {
            assert!(std::ptr::eq(by_fingerprint(schema.fingerprint()).unwrap(), schema));
        }
        assert!(!all().is_empty());
        assert_eq!(versions("no-such").count(), 0);
    }

    #[test]
    fn every_field_is_documented() {
        fn check(value: &serde_json::Value) {
            match value {
                serde_json::Value::Array(items) => items.iter().for_each(check),
                serde_json::Value::Object(map) => {
                    let named = ["record", "enum"].iter().any(|t| map.get("type").is_some_and(|v| v == t));
                    let field = map.contains_key("name") && map.get("type") != Some(&"fixed".into());
                    if named || field {
                        assert!(map.get("doc").is_some_and(|d| d.as_str() != Some("")), "no doc: {value}");
                    }
                    map.values().for_each(check);
                }
                _ => {}
            }
        }
        for schema in all() {
            check(&serde_json::from_str(schema.json()).unwrap());
        }
    }
}
