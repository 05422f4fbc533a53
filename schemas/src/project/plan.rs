//! The plan's machine: a flat list of reads and skips over a datum.
//!
//! Invariant: every operation consumes at least a byte or ends in an error, so time is linear in the datum;
//! recursion is bounded by [`DEPTH_MAX`] calls and the schema's own nesting.

use super::Value;
use super::compile::{self, Missing, PlanError};
use crate::datum::{Cursor, DecodeError};

/// Nested calls of recursive types before a datum is refused.
pub(super) const DEPTH_MAX: usize = 64;

/// How a wanted scalar is read.
#[derive(Debug, Clone)]
pub(super) enum Scalar {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    String,
    Bytes,
    Fixed(usize),
    Enum(Box<[Box<str>]>),
    TimestampMillis,
    TimestampMicros,
    TimestampNanos,
}

/// One step over the datum.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// Reads a wanted scalar into a slot.
    Read(usize, Scalar),
    /// Skips bytes whose number the schema tells; never 0.
    SkipFixed(usize),
    /// Skips an integer.
    SkipVarint,
    /// Skips bytes behind their length.
    SkipBytes,
    /// Skips a string, checking that it is UTF-8.
    CheckString,
    /// Skips a boolean, checking that it is one.
    CheckBoolean,
    /// Skips an enum, checking the symbol.
    SkipEnum(usize),
    /// Takes the branch that the datum names.
    Union(Box<[Box<[Op]>]>),
    /// Skips an array's or a map's blocks; the items hold no wanted field.
    SkipBlocks(Box<[Op]>),
    /// Skips a named type by its routine: types may contain themselves.
    Call(usize),
}

/// A way through one writer's schema to the wanted fields, compiled once.
#[derive(Debug, Clone)]
pub struct AvroPlan {
    pub(super) ops: Box<[Op]>,
    pub(super) routines: Vec<Box<[Op]>>,
    /// `(from, to)`: slots of a path that is wanted more than once.
    pub(super) copies: Vec<(usize, usize)>,
    pub(super) slots: usize,
}

impl AvroPlan {
    /// How many wanted fields there are: slots that [`decode`](Self::decode) fills.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Compiles the writer's schema and the wanted fields, dotted paths into nested (also nullable) records.
    ///
    /// A field that the schema lacks, or that is no scalar, is refused by name.
    pub fn compile(writer_schema_json: &str, fields: &[&str]) -> Result<Self, PlanError> {
        Self::compile_with(writer_schema_json, fields, Missing::Refuse)
    }

    /// As [`compile`](Self::compile), choosing what a missing field means.
    pub fn compile_with(writer_schema_json: &str, fields: &[&str], missing: Missing) -> Result<Self, PlanError> {
        compile::compile(&compile::parse(writer_schema_json)?, fields, missing)
    }

    /// A plan that reads nothing and checks everything: a datum that passes can be read by any reader.
    #[cfg(feature = "arrow")]
    pub(crate) fn checking(schema: &apache_avro::Schema) -> Result<Self, PlanError> {
        compile::compile_checking(schema)
    }

    /// Reads the wanted fields of one whole datum; `out[i]` belongs to field `i`.
    ///
    /// After an error `out` holds no particular values.
    ///
    /// # Panics
    /// If `out` has not one slot per field.
    pub fn decode<'a>(&'a self, datum: &'a [u8], out: &mut [Value<'a>]) -> Result<(), DecodeError> {
        assert_eq!(out.len(), self.slots, "one slot per wanted field");
        out.fill(Value::Absent);
        let mut cursor = Cursor::new(datum);
        self.run(&self.ops, &mut cursor, out, 0)?;
        cursor.end()?;
        for &(from, to) in &self.copies {
            out[to] = out[from];
        }
        Ok(())
    }

    fn run<'a>(
        &'a self,
        ops: &'a [Op],
        cursor: &mut Cursor<'a>,
        out: &mut [Value<'a>],
        depth: usize,
    ) -> Result<(), DecodeError> {
        for op in ops {
            match op {
                Op::Read(slot, scalar) => out[*slot] = read(scalar, cursor)?,
                Op::SkipFixed(len) => drop(cursor.take(*len)?),
                Op::SkipVarint => drop(cursor.long()?),
                Op::SkipBytes => drop(cursor.bytes()?),
                Op::CheckBoolean => drop(cursor.boolean()?),
                Op::CheckString => drop(cursor.string()?),
                Op::SkipEnum(symbols) => {
                    let index = cursor.index()?;
                    if usize::try_from(index).map_or(true, |i| i >= *symbols) {
                        return Err(DecodeError::EnumSymbol { index, symbols: *symbols });
                    }
                }
                Op::Union(branches) => {
                    let index = cursor.index()?;
                    let branch = usize::try_from(index)
                        .ok()
                        .and_then(|i| branches.get(i))
                        .ok_or(DecodeError::UnionBranch { index, branches: branches.len() })?;
                    self.run(branch, cursor, out, depth)?;
                }
                Op::SkipBlocks(item) => self.skip_blocks(item, cursor, out, depth)?,
                Op::Call(routine) => {
                    if depth == DEPTH_MAX {
                        return Err(DecodeError::Depth(DEPTH_MAX));
                    }
                    self.run(&self.routines[*routine], cursor, out, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn skip_blocks<'a>(
        &'a self,
        item: &'a [Op],
        cursor: &mut Cursor<'a>,
        out: &mut [Value<'a>],
        depth: usize,
    ) -> Result<(), DecodeError> {
        loop {
            let (count, size) = cursor.block()?;
            match (count, size) {
                (0, None) => return Ok(()),
                (_, Some(size)) => drop(cursor.take(size)?),
                // Items of no size: any number of them is skipped at once.
                (_, None) if item.is_empty() => {}
                (_, None) => {
                    for _ in 0..count {
                        self.run(item, cursor, out, depth)?;
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn read<'a>(scalar: &'a Scalar, cursor: &mut Cursor<'a>) -> Result<Value<'a>, DecodeError> {
    Ok(match scalar {
        Scalar::Boolean => Value::Bool(cursor.boolean()?),
        Scalar::Int => Value::Long(i64::from(cursor.int()?)),
        Scalar::Long => Value::Long(cursor.long()?),
        Scalar::Float => Value::Double(f64::from(cursor.float()?)),
        Scalar::Double => Value::Double(cursor.double()?),
        Scalar::String => Value::Str(cursor.string()?),
        Scalar::Bytes => Value::Bytes(cursor.bytes()?),
        Scalar::Fixed(len) => Value::Bytes(cursor.take(*len)?),
        Scalar::Enum(symbols) => {
            let index = cursor.index()?;
            let symbol = usize::try_from(index).ok().and_then(|i| symbols.get(i));
            Value::Str(symbol.ok_or(DecodeError::EnumSymbol { index, symbols: symbols.len() })?)
        }
        Scalar::TimestampMillis => Value::TimestampMs(cursor.long()?),
        Scalar::TimestampMicros => Value::TimestampMs(cursor.long()?.div_euclid(1_000)),
        Scalar::TimestampNanos => Value::TimestampMs(cursor.long()?.div_euclid(1_000_000)),
    })
}
