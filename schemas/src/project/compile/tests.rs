use super::*;
use crate::datum::{DecodeError, write_bytes, write_long};
use crate::project::Value;

fn plan(schema: &str, fields: &[&str]) -> AvroPlan {
    AvroPlan::compile(schema, fields).unwrap()
}

fn check(schema: &str, fields: &[&str], datum: &[u8], expected: Result<&[Value<'_>], DecodeError>) {
    let plan = plan(schema, fields);
    let mut out = vec![Value::Absent; fields.len()];
    let result = plan.decode(datum, &mut out);
    match expected {
        Ok(values) => {
            assert_eq!(result, Ok(()));
            assert_eq!(out, values);
        }
        Err(error) => assert_eq!(result, Err(error)),
    }
}

/// `{"type": "record", "name": "R", "fields": [...]}` with a type for each name.
fn record(fields: &[(&str, &str)]) -> String {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, kind)| {
            let quote = if kind.starts_with(['{', '[']) { "" } else { "\"" };
            format!(r#"{{"name": "{name}", "type": {quote}{kind}{quote}}}"#)
        })
        .collect();
    format!(r#"{{"type": "record", "name": "R", "fields": [{}]}}"#, fields.join(","))
}

#[test]
fn instants_are_floored_to_milliseconds() {
    for (logical, raw, ms) in [
        ("timestamp-millis", -1, -1),
        ("timestamp-micros", -1, -1),
        ("timestamp-micros", 1_999, 1),
        ("timestamp-nanos", -1, -1),
        ("timestamp-nanos", 1_999_999, 1),
        ("local-timestamp-millis", 5, 5),
        ("local-timestamp-micros", 5_000, 5),
        ("local-timestamp-nanos", -5_000_001, -6),
    ] {
        let schema = record(&[("t", &format!(r#"{{"type": "long", "logicalType": "{logical}"}}"#))]);
        let mut datum = Vec::new();
        write_long(raw, &mut datum);
        check(&schema, &["t"], &datum, Ok(&[Value::TimestampMs(ms)]));
    }
}

#[test]
fn nested_nullable_and_repeated_paths() {
    let inner = r#"["null", {"type": "record", "name": "I", "fields": [{"name": "b", "type": ["string", "null"]}]}]"#;
    let schema = record(&[("a", inner), ("n", "int")]);
    let fields = ["n", "a.b", "n"];
    check(&schema, &fields, &[2, 0, 2, b'x', 6], Ok(&[Value::Long(3), Value::Str("x"), Value::Long(3)]));
    check(&schema, &fields, &[2, 2, 6], Ok(&[Value::Long(3), Value::Absent, Value::Long(3)]));
    check(&schema, &fields, &[0, 6], Ok(&[Value::Long(3), Value::Absent, Value::Long(3)]));
    check(&schema, &fields, &[4, 6], Err(DecodeError::UnionBranch { index: 2, branches: 2 }));
    check(&schema, &fields, &[0, 6, 0], Err(DecodeError::Trailing(1)));
}

#[test]
fn blocks_are_skipped_by_items_and_by_size() {
    let schema = record(&[
        ("list", r#"{"type": "array", "items": "string"}"#),
        ("map", r#"{"type": "map", "values": "double"}"#),
        ("nothing", r#"{"type": "array", "items": "null"}"#),
        ("n", "long"),
    ]);
    let mut datum = Vec::new();
    write_long(1, &mut datum);
    write_bytes(b"one", &mut datum);
    write_long(-1, &mut datum);
    write_long(2, &mut datum);
    datum.extend([2, b'x', 0]);
    write_long(1, &mut datum);
    write_bytes(b"k", &mut datum);
    datum.extend(1.0f64.to_le_bytes());
    datum.push(0);
    write_long(i64::MAX, &mut datum);
    datum.push(0);
    write_long(7, &mut datum);
    check(&schema, &["n"], &datum, Ok(&[Value::Long(7)]));
}

#[test]
fn a_recursive_type_is_skipped_to_a_depth() {
    let schema = r#"{"type": "record", "name": "Node", "namespace": "x", "fields": [
        {"name": "n", "type": "int"}, {"name": "next", "type": ["null", "Node"]}]}"#;
    check(schema, &["n"], &[2, 2, 4, 2, 6, 0], Ok(&[Value::Long(1)]));
    check(schema, &["next.n"], &[2, 2, 4, 2, 6, 0], Ok(&[Value::Long(2)]));
    let deep = [2; 1_000_000];
    check(schema, &["n"], &deep, Err(DecodeError::Depth(super::super::plan::DEPTH_MAX)));
}

#[test]
fn enums_fixed_and_bytes() {
    let schema = record(&[
        ("e", r#"{"type": "enum", "name": "E", "symbols": ["A", "B"]}"#),
        ("f", r#"{"type": "fixed", "name": "F", "size": 2}"#),
        ("b", "bytes"),
        ("u", r#"["null", "E"]"#),
    ]);
    let datum = [2, 9, 8, 2, 7, 2, 0];
    let fields = ["e", "f", "b", "u"];
    let values = [Value::Str("B"), Value::Bytes(&[9, 8]), Value::Bytes(&[7]), Value::Str("A")];
    check(&schema, &fields, &datum, Ok(&values));
    check(&schema, &["b"], &datum, Ok(&[Value::Bytes(&[7])]));
    check(&schema, &["b"], &[4, 9, 8, 2, 7, 0], Err(DecodeError::EnumSymbol { index: 2, symbols: 2 }));
}

#[test]
fn what_cannot_be_planned_is_named() {
    let schema = record(&[("a", r#"{"type": "array", "items": "int"}"#), ("s", "string")]);
    for (fields, text) in [
        (&["x"][..], "field `x` is not in the schema; its fields are a, s"),
        (&["a"], "field `a` is an array, where a scalar is wanted"),
        (&["s.t"], "field `s` is a scalar, which has no fields of its own to name"),
    ] {
        assert_eq!(AvroPlan::compile(&schema, fields).unwrap_err().to_string(), text);
    }
    assert!(matches!(AvroPlan::compile("\"int\"", &[]), Err(PlanError::NotARecord(_))));
    assert!(matches!(AvroPlan::compile("{", &[]), Err(PlanError::Schema(_))));
    assert!(AvroPlan::compile_with(&schema, &["x"], Missing::Absent).is_ok());
}
