//! The same projection over JSON: one pass, no document tree; what is not wanted is parsed and dropped.
//!
//! Strings are borrowed from the message unless they have escapes; those are unescaped into the caller's scratch.
//! What is not wanted may be nested as deep as it likes: nothing recurses but the wanted paths. Of a key that is there twice the last
//! one counts.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{ReadError, Value, Wanted};

/// Strings of one message that could not be borrowed from it.
#[derive(Debug, Clone, Default)]
pub struct JsonScratch {
    strings: Vec<(usize, String)>,
}

/// Reads the wanted fields (dotted paths into nested objects) of JSON objects.
#[derive(Debug, Clone)]
pub struct JsonReader {
    wanted: Wanted,
    slots: usize,
}

impl JsonReader {
    /// A reader of these fields.
    pub fn new(fields: &[&str]) -> Self {
        Self { wanted: Wanted::new(fields.iter().copied()), slots: fields.len() }
    }

    /// Reads the wanted fields of one whole message; null and missing fields are absent.
    ///
    /// # Panics
    /// If `out` has not one slot per field.
    pub fn decode<'a>(
        &self,
        bytes: &'a [u8],
        scratch: &'a mut JsonScratch,
        out: &mut [Value<'a>],
    ) -> Result<(), ReadError> {
        assert_eq!(out.len(), self.slots, "one slot per wanted field");
        out.fill(Value::Absent);
        scratch.strings.clear();
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let object = Object { wanted: &self.wanted, path: None, out, strings: &mut scratch.strings };
        json.deserialize_map(object).and_then(|()| json.end()).map_err(refused)?;
        for (slot, text) in &scratch.strings {
            out[*slot] = Value::Str(text);
        }
        Ok(())
    }
}

/// How serde_json begins to say that no double holds a number.
const OUT_OF_RANGE: &str = "number out of range";

fn refused(error: serde_json::Error) -> ReadError {
    let text = error.to_string();
    if text.starts_with(OUT_OF_RANGE) { ReadError::JsonNumber(text) } else { ReadError::Json(text) }
}

/// The same error; where no double holds a number, with its field.
#[cold]
fn named<E: Error>(error: E, path: Path<'_>) -> E {
    match error.to_string().strip_prefix(OUT_OF_RANGE) {
        Some(place) => E::custom(format_args!("{OUT_OF_RANGE} in field `{path}`{place}")),
        None => error,
    }
}

/// The path of the field being read, for messages; linked, so that it costs nothing when there is no error.
#[derive(Clone, Copy)]
struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    name: &'p str,
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}.")?;
        }
        f.write_str(self.name)
    }
}

/// An object some of whose members are wanted.
struct Object<'p, 'o, 'a> {
    wanted: &'p Wanted,
    path: Option<&'p Path<'p>>,
    out: &'o mut [Value<'a>],
    strings: &'o mut Vec<(usize, String)>,
}

impl Object<'_, '_, '_> {
    /// Of an object's place that something else has taken: none of its members can be read.
    fn take_none<E>(self) -> Result<(), E> {
        mark(self.wanted, self.out, self.strings);
        Ok(())
    }
}

/// Notes that none of these fields is a scalar.
fn mark(wanted: &Wanted, out: &mut [Value<'_>], strings: &mut Vec<(usize, String)>) {
    strings.retain(|(slot, _)| !wanted.slots.contains(slot));
    wanted.slots.iter().for_each(|&slot| out[slot] = Value::NotScalar);
    wanted.children.values().for_each(|child| mark(child, out, strings));
}

impl<'a> Visitor<'a> for Object<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path {
            Some(path) => write!(f, "an object in field `{path}`"),
            None => f.write_str("a JSON object"),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.take_none()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.take_none()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.take_none()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.take_none()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.take_none()
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        self.take_none()
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            let Some(wanted) = self.wanted.children.get(key.as_ref()) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let path = Path { parent: self.path, name: &key };
            if wanted.children.is_empty() {
                map.next_value_seed(Scalar { wanted, path, out: self.out, strings: self.strings })?;
            } else {
                let path = Some(&path);
                map.next_value_seed(Object { wanted, path, out: self.out, strings: self.strings })?;
            }
        }
        Ok(())
    }
}

impl<'a> DeserializeSeed<'a> for Object<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

/// An object's key, borrowed where it can be.
struct Key<'a>(Cow<'a, str>);

impl<'a> serde::Deserialize<'a> for Key<'a> {
    fn deserialize<D: serde::Deserializer<'a>>(json: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'a> Visitor<'a> for KeyVisitor {
            type Value = Key<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E: Error>(self, key: &'a str) -> Result<Key<'a>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }
            fn visit_str<E: Error>(self, key: &str) -> Result<Key<'a>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        json.deserialize_str(KeyVisitor)
    }
}

/// A wanted value.
struct Scalar<'p, 'o, 'a> {
    wanted: &'p Wanted,
    path: Path<'p>,
    out: &'o mut [Value<'a>],
    strings: &'o mut Vec<(usize, String)>,
}

impl<'a> Scalar<'_, '_, 'a> {
    fn set(self, value: Value<'a>) {
        self.strings.retain(|(slot, _)| !self.wanted.slots.contains(slot));
        self.wanted.slots.iter().for_each(|&slot| self.out[slot] = value);
    }
}

impl<'a> DeserializeSeed<'a> for Scalar<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        let path = self.path;
        json.deserialize_any(self).map_err(|error| named(error, path))
    }
}

impl<'a> Visitor<'a> for Scalar<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a string, number, boolean or null in field `{}`", self.path)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.set(Value::Absent);
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.set(Value::Bool(value));
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.set(Value::Long(value));
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.set(i64::try_from(value).map_or(Value::Unsigned(value), Value::Long));
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.set(Value::Double(value));
        Ok(())
    }

    fn visit_borrowed_str<E: Error>(self, value: &'a str) -> Result<(), E> {
        self.set(Value::Str(value));
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        let Self { wanted, strings, .. } = self;
        strings.retain(|(slot, _)| !wanted.slots.contains(slot));
        strings.extend(wanted.slots.iter().map(|&slot| (slot, value.to_owned())));
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.set(Value::NotScalar);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        self.set(Value::NotScalar);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fields: &[&str], json: &str, expected: Result<&[Value<'_>], &str>) {
        let mut scratch = JsonScratch::default();
        let mut out = vec![Value::Absent; fields.len()];
        let result = JsonReader::new(fields).decode(json.as_bytes(), &mut scratch, &mut out);
        match expected {
            Ok(values) => {
                assert_eq!(result, Ok(()), "{json}");
                assert_eq!(out, values, "{json}");
            }
            Err(text) => {
                let error = result.unwrap_err().to_string();
                assert!(error.contains(text), "{error}");
            }
        }
    }

    #[test]
    fn fields_are_projected() {
        let json = r#"{"a": {"b": "x", "z": [1, {"b": 2}]}, "n": -3, "f": 1.5, "t": true, "big": 18446744073709551615, "bigger": 18446744073709551616}"#;
        check(
            &["n", "a.b", "f", "t", "big", "bigger", "gone", "a.gone", "n"],
            json,
            Ok(&[
                Value::Long(-3),
                Value::Str("x"),
                Value::Double(1.5),
                Value::Bool(true),
                Value::Unsigned(u64::MAX),
                Value::Double(18_446_744_073_709_551_616.0),
                Value::Absent,
                Value::Absent,
                Value::Long(-3),
            ]),
        );
    }

    #[test]
    fn escapes_nulls_and_repeated_keys() {
        check(&["a"], r#"{"a": "x\n\u00e9"}"#, Ok(&[Value::Str("x\né")]));
        check(&["\u{e9}"], r#"{"\u00e9": 1}"#, Ok(&[Value::Long(1)]));
        check(&["a", "b.c"], r#"{"a": null, "b": null}"#, Ok(&[Value::Absent, Value::Absent]));
        check(&["a"], r#"{"a": "x\n", "a": 1}"#, Ok(&[Value::Long(1)]));
        check(&["a"], r#"{"a": 1, "a": "\t"}"#, Ok(&[Value::Str("\t")]));
    }

    #[test]
    fn what_is_wrong_names_the_field() {
        check(&["a"], "[1]", Err("a JSON object"));
        check(&["a"], "null", Err("JSON object"));
        check(&["a"], r#"{"a": 1} x"#, Err("trailing"));
        check(&["a"], "", Err("EOF"));
        check(&["a.b"], r#"{"a": {"b": 1e999}}"#, Err("number out of range in field `a.b` at line 1"));
        check(&["a"], r#"{"b": 1e999, "a": 1}"#, Ok(&[Value::Long(1)]));
    }

    #[test]
    fn what_no_double_holds_is_told_apart() {
        let read = |json: &'static str| {
            JsonReader::new(&["a"]).decode(json.as_bytes(), &mut JsonScratch::default(), &mut [Value::Absent])
        };
        assert!(matches!(read(r#"{"a": -1e400}"#), Err(ReadError::JsonNumber(_))));
        assert!(matches!(read(r#"{"a": -}"#), Err(ReadError::Json(_))));
    }

    #[test]
    fn what_is_no_scalar_is_said_to_be_none() {
        let none = [Value::NotScalar, Value::NotScalar];
        check(&["a", "b"], r#"{"a": {"b": 1}, "b": [1, [2]]}"#, Ok(&none));
        check(&["a.b"], r#"{"a": {"b": [1]}}"#, Ok(&none[..1]));
        for on_the_way in ["5", "-5", "1.5", "true", r#""x""#, r#""\t""#, "[{}]"] {
            check(&["a.b", "a.c.d"], &format!(r#"{{"a": {on_the_way}}}"#), Ok(&none));
        }
        check(&["a.b"], r#"{"a": {"b": "\t"}, "a": 5}"#, Ok(&none[..1]));
        check(&["a"], r#"{"a": [1], "a": "\t"}"#, Ok(&[Value::Str("\t")]));
        let deep = format!(
            r#"{{"a": {}{}, "b": {}1{}}}"#,
            "[".repeat(10_000),
            "]".repeat(10_000),
            r#"{"b":"#.repeat(10_000),
            "}".repeat(10_000)
        );
        check(&["a", "b"], &deep, Ok(&none));
        check(&["a.b.b", "b.b.b"], &deep, Ok(&none));
    }

    #[test]
    fn hostile_nesting_is_refused() {
        let deep = format!("{{\"z\": {}", "[".repeat(100_000));
        check(&["a"], &deep, Err(""));
        let mut bytes = br#"{"a": ""#.to_vec();
        bytes.extend([0xff, b'"', b'}']);
        let mut scratch = JsonScratch::default();
        assert!(JsonReader::new(&["a"]).decode(&bytes, &mut scratch, &mut [Value::Absent]).is_err());
    }
}
