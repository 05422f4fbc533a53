//! From a writer's schema and the wanted fields to a plan.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, UuidSchema};

use super::Wanted;
use super::plan::{AvroPlan, Op, Scalar};

/// Why a schema and the wanted fields make no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not an Avro schema.
    #[error("not an Avro schema: {0}")]
    Schema(String),
    /// The schema's top level is no record.
    #[error("the schema describes {0}, not a record")]
    NotARecord(&'static str),
    /// The schema lacks a wanted field.
    #[error("field `{field}` is not in the schema; its fields are {}", available.join(", "))]
    MissingField {
        /// The wanted field.
        field: String,
        /// Fields of the top-level record.
        available: Vec<String>,
    },
    /// A wanted field is a record, an array or a map.
    #[error("field `{field}` is {found}, where a scalar is wanted")]
    NotAScalar {
        /// The wanted field.
        field: String,
        /// What it is.
        found: &'static str,
    },
    /// A path leads through something that is no record.
    #[error("field `{field}` is {found}, which has no fields of its own to name")]
    NoFields {
        /// The part of the path that leads nowhere.
        field: String,
        /// What it is.
        found: &'static str,
    },
    /// The schema names a type that it does not define.
    #[error("type `{0}` is not defined in the schema")]
    UnknownType(String),
}

/// What it means that a writer's schema lacks a wanted field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The plan is refused.
    Refuse,
    /// The field is absent in every record.
    Absent,
}

pub(super) fn parse(json: &str) -> Result<Schema, PlanError> {
    Schema::parse_str(json).map_err(|e| PlanError::Schema(e.to_string()))
}

pub(super) fn compile(schema: &Schema, fields: &[&str], missing: Missing) -> Result<AvroPlan, PlanError> {
    compile_with(schema, fields, missing, Compiler::default())
}

#[cfg(feature = "arrow")]
pub(super) fn compile_checking(schema: &Schema) -> Result<AvroPlan, PlanError> {
    compile_with(schema, &[], Missing::Absent, Compiler { check_strings: true, ..Compiler::default() })
}

fn compile_with<'s>(
    schema: &'s Schema,
    fields: &[&str],
    missing: Missing,
    mut compiler: Compiler<'s>,
) -> Result<AvroPlan, PlanError> {
    let Schema::Record(top) = schema else {
        return Err(PlanError::NotARecord(describe(schema)));
    };
    let wanted = Wanted::new(fields.iter().copied());
    compiler.found = vec![false; fields.len()];
    compiler.define(schema, None);
    let mut ops = Vec::new();
    compiler.emit(schema, None, Some(&wanted), "", &mut ops)?;
    if let (Missing::Refuse, Some(slot)) = (missing, compiler.found.iter().position(|found| !found)) {
        let available = top.fields.iter().map(|field| field.name.clone()).collect();
        return Err(PlanError::MissingField { field: fields[slot].to_owned(), available });
    }
    Ok(AvroPlan { ops: ops.into(), routines: compiler.routines, copies: copies(&wanted), slots: fields.len() })
}

fn copies(wanted: &Wanted) -> Vec<(usize, usize)> {
    let here = wanted.slots.iter().skip(1).map(|&to| (wanted.slots[0], to));
    here.chain(wanted.children.values().flat_map(copies)).collect()
}

#[derive(Default)]
struct Compiler<'s> {
    /// Named types with the namespace that they stand in.
    types: HashMap<String, (&'s Schema, Option<&'s str>)>,
    /// How named types are skipped, and which routine it is.
    routines: Vec<Box<[Op]>>,
    routine_of: HashMap<String, usize>,
    found: Vec<bool>,
    /// Whether strings that are skipped are checked too.
    check_strings: bool,
}

impl<'s> Compiler<'s> {
    /// Notes every named type's definition.
    fn define(&mut self, schema: &'s Schema, namespace: Option<&'s str>) {
        let mut inner = namespace;
        if let (Some(name), false) = (schema.name(), matches!(schema, Schema::Ref { .. })) {
            self.types.insert(name.fullname(namespace), (schema, namespace));
            inner = name.namespace().or(namespace);
        }
        match schema {
            Schema::Record(record) => record.fields.iter().for_each(|field| self.define(&field.schema, inner)),
            Schema::Union(union) => union.variants().iter().for_each(|branch| self.define(branch, inner)),
            Schema::Array(array) => self.define(&array.items, inner),
            Schema::Map(map) => self.define(&map.types, inner),
            _ => {}
        }
    }

    fn resolve(
        &self,
        schema: &'s Schema,
        namespace: Option<&'s str>,
    ) -> Result<(&'s Schema, Option<&'s str>), PlanError> {
        match schema {
            Schema::Ref { name } => {
                let name = name.fullname(namespace);
                self.types.get(&name).copied().ok_or(PlanError::UnknownType(name))
            }
            other => Ok((other, namespace)),
        }
    }

    /// Appends what reads `wanted` out of a value of `schema`, or skips it.
    fn emit(
        &mut self,
        schema: &'s Schema,
        namespace: Option<&'s str>,
        wanted: Option<&Wanted>,
        path: &str,
        ops: &mut Vec<Op>,
    ) -> Result<(), PlanError> {
        let Some(wanted) = wanted else {
            return self.emit_skip(schema, namespace, ops);
        };
        let (schema, namespace) = self.resolve(schema, namespace)?;
        match schema {
            Schema::Record(record) if wanted.slots.is_empty() => {
                let inner = record.name.namespace().or(namespace);
                for field in &record.fields {
                    let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
                    self.emit(&field.schema, inner, wanted.children.get(&field.name), &path, ops)?;
                }
                return Ok(());
            }
            Schema::Union(union) => {
                let branches = union.variants().iter().map(|branch| {
                    let mut ops = Vec::new();
                    self.emit(branch, namespace, Some(wanted), path, &mut ops)?;
                    Ok(ops.into())
                });
                let branches: Vec<Box<[Op]>> = branches.collect::<Result<_, _>>()?;
                ops.push(Op::Union(branches.into()));
                return Ok(());
            }
            Schema::Null => {}
            _ if !wanted.children.is_empty() => {
                return Err(PlanError::NoFields { field: path.to_owned(), found: describe(schema) });
            }
            _ => {
                let scalar = scalar(schema)
                    .ok_or_else(|| PlanError::NotAScalar { field: path.to_owned(), found: describe(schema) })?;
                ops.push(Op::Read(wanted.slots[0], scalar));
            }
        }
        wanted.slots.iter().for_each(|&slot| self.found[slot] = true);
        Ok(())
    }

    fn emit_skip(
        &mut self,
        schema: &'s Schema,
        namespace: Option<&'s str>,
        ops: &mut Vec<Op>,
    ) -> Result<(), PlanError> {
        match schema {
            Schema::Ref { name } => return self.emit_call(&name.fullname(namespace), ops),
            Schema::Record(record) => {
                let inner = record.name.namespace().or(namespace);
                return record.fields.iter().try_for_each(|field| self.emit_skip(&field.schema, inner, ops));
            }
            Schema::Union(union) => {
                let branches = union.variants().iter().map(|branch| self.skip_of(branch, namespace));
                let branches: Vec<Box<[Op]>> = branches.collect::<Result<_, _>>()?;
                ops.push(Op::Union(branches.into()));
            }
            Schema::Array(array) => {
                let item = self.skip_of(&array.items, namespace)?;
                ops.push(Op::SkipBlocks(item));
            }
            Schema::Map(map) => {
                let mut item = vec![self.skip_string()];
                self.emit_skip(&map.types, namespace, &mut item)?;
                ops.push(Op::SkipBlocks(item.into()));
            }
            Schema::Null => {}
            Schema::Boolean => ops.push(Op::CheckBoolean),
            Schema::Float => skip_fixed(4, ops),
            Schema::Double => skip_fixed(8, ops),
            Schema::Enum(symbols) => ops.push(Op::SkipEnum(symbols.symbols.len())),
            other => match scalar(other) {
                Some(Scalar::Fixed(len)) => skip_fixed(len, ops),
                Some(Scalar::String) => ops.push(self.skip_string()),
                Some(Scalar::Bytes) => ops.push(Op::SkipBytes),
                _ => ops.push(Op::SkipVarint),
            },
        }
        Ok(())
    }

    fn skip_string(&self) -> Op {
        if self.check_strings { Op::CheckString } else { Op::SkipBytes }
    }

    fn skip_of(&mut self, schema: &'s Schema, namespace: Option<&'s str>) -> Result<Box<[Op]>, PlanError> {
        let mut ops = Vec::new();
        self.emit_skip(schema, namespace, &mut ops)?;
        Ok(ops.into())
    }

    /// Skips a type by name. Its routine is compiled once; inside itself it is called, not expanded.
    fn emit_call(&mut self, name: &str, ops: &mut Vec<Op>) -> Result<(), PlanError> {
        let routine = match self.routine_of.get(name) {
            Some(&routine) => routine,
            None => {
                let (schema, namespace) =
                    self.types.get(name).copied().ok_or_else(|| PlanError::UnknownType(name.to_owned()))?;
                let routine = self.routines.len();
                // While it is compiled, the routine stands for itself, so that it does not look empty.
                self.routines.push(Box::new([Op::Call(routine)]));
                self.routine_of.insert(name.to_owned(), routine);
                self.routines[routine] = self.skip_of(schema, namespace)?;
                routine
            }
        };
        if !self.routines[routine].is_empty() {
            ops.push(Op::Call(routine));
        }
        Ok(())
    }
}

/// Neighbouring fixed sizes are skipped in one step; a size of 0 is no step at all.
fn skip_fixed(len: usize, ops: &mut Vec<Op>) {
    match ops.last_mut() {
        Some(Op::SkipFixed(before)) if before.checked_add(len).is_some() => *before += len,
        _ if len == 0 => {}
        _ => ops.push(Op::SkipFixed(len)),
    }
}

fn scalar(schema: &Schema) -> Option<Scalar> {
    Some(match schema {
        Schema::Boolean => Scalar::Boolean,
        Schema::Int | Schema::Date | Schema::TimeMillis => Scalar::Int,
        Schema::Long | Schema::TimeMicros => Scalar::Long,
        Schema::Float => Scalar::Float,
        Schema::Double => Scalar::Double,
        Schema::String | Schema::Uuid(UuidSchema::String) => Scalar::String,
        Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => Scalar::Bytes,
        Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => {
            Scalar::Fixed(fixed.size)
        }
        Schema::Decimal(decimal) => match &decimal.inner {
            InnerDecimalSchema::Bytes => Scalar::Bytes,
            InnerDecimalSchema::Fixed(fixed) => Scalar::Fixed(fixed.size),
        },
        Schema::Enum(symbols) => Scalar::Enum(symbols.symbols.iter().map(|s| s.as_str().into()).collect()),
        Schema::TimestampMillis | Schema::LocalTimestampMillis => Scalar::TimestampMillis,
        Schema::TimestampMicros | Schema::LocalTimestampMicros => Scalar::TimestampMicros,
        Schema::TimestampNanos | Schema::LocalTimestampNanos => Scalar::TimestampNanos,
        Schema::Null
        | Schema::Array(_)
        | Schema::Map(_)
        | Schema::Union(_)
        | Schema::Record(_)
        | Schema::Ref { .. } => return None,
    })
}

fn describe(schema: &Schema) -> &'static str {
    match schema {
        Schema::Record(_) => "a record",
        Schema::Array(_) => "an array",
        Schema::Map(_) => "a map",
        Schema::Union(_) => "a union",
        Schema::Enum(_) => "an enum",
        _ => "a scalar",
    }
}

#[cfg(test)]
mod tests;
