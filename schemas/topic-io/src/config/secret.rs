//! A secret in a settings file: read as it is, written as `<redacted>`.

use secrecy::SecretString;
use serde::{Deserialize as _, Deserializer, Serializer};

pub(super) const REDACTED: &str = "<redacted>";

pub(super) fn serialize<S: Serializer>(secret: &Option<SecretString>, to: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(_) => to.serialize_str(REDACTED),
        None => to.serialize_none(),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(SecretString::from))
}
