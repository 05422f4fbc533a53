//! Every record kind as columns: the cells are what apache-avro's value tree says.
#![cfg(feature = "arrow")]
#![allow(clippy::unwrap_used)]

mod samples;

use apache_avro::types::Value;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampMillisecondType};
use samples::{Draw, Tree, sample};
use tidewatch_schemas::columns::{ColumnDecoder, ColumnsError};
use tidewatch_schemas::record::*;
use tidewatch_schemas::wire::{self, Framing};

fn check_cell(array: &dyn Array, row: usize, expected: &Value) {
    let expected = match expected {
        Value::Union(_, inner) => inner,
        other => other,
    };
    if matches!(expected, Value::Null) {
        assert!(array.is_null(row));
        return;
    }
    assert!(!array.is_null(row), "{expected:?}");
    match (array.data_type(), expected) {
        (DataType::Int32, Value::Int(x)) => assert_eq!(array.as_primitive::<Int32Type>().value(row), *x),
        (DataType::Int64, Value::Long(x)) => assert_eq!(array.as_primitive::<Int64Type>().value(row), *x),
        (DataType::Timestamp(_, Some(_)), Value::Long(x)) => {
            assert_eq!(array.as_primitive::<TimestampMillisecondType>().value(row), *x);
        }
        (DataType::Float64, Value::Double(x)) => assert_eq!(array.as_primitive::<Float64Type>().value(row), *x),
        (DataType::Boolean, Value::Boolean(x)) => assert_eq!(array.as_boolean().value(row), *x),
        (DataType::Utf8, Value::String(x)) => assert_eq!(array.as_string::<i32>().value(row), x),
        (DataType::Binary, Value::Bytes(x)) => assert_eq!(array.as_binary::<i32>().value(row), x),
        (DataType::FixedSizeBinary(_), Value::Fixed(_, x)) => assert_eq!(array.as_fixed_size_binary().value(row), x),
        (DataType::Dictionary(..), Value::Enum(_, symbol)) => {
            let dictionary = array.as_dictionary::<Int32Type>();
            let key = usize::try_from(dictionary.keys().value(row)).unwrap();
            assert_eq!(dictionary.values().as_string::<i32>().value(key), symbol);
        }
        (DataType::List(_), Value::Array(items)) => {
            let list = array.as_list::<i32>().value(row);
            assert_eq!(list.len(), items.len());
            items.iter().enumerate().for_each(|(i, item)| check_cell(list.as_ref(), i, item));
        }
        (DataType::Map(..), Value::Map(entries)) => {
            let map = array.as_map().value(row);
            assert_eq!(map.len(), entries.len());
            for i in 0..map.len() {
                let key = map.column(0).as_string::<i32>().value(i);
                check_cell(map.column(1).as_ref(), i, &entries[key]);
            }
        }
        (DataType::Struct(_), Value::Record(fields)) => {
            for (name, value) in fields {
                check_cell(array.as_struct().column_by_name(name).unwrap().as_ref(), row, value);
            }
        }
        (found, wanted) => panic!("{found} for {wanted:?}"),
    }
}

fn check_batch<R: Tree>(batch: &RecordBatch, records: &[R]) {
    assert_eq!(batch.num_rows(), records.len());
    for (row, record) in records.iter().enumerate() {
        let Value::Record(fields) = record.tree() else { unreachable!() };
        assert_eq!(batch.num_columns(), fields.len());
        for (name, value) in &fields {
            check_cell(batch.column_by_name(name).unwrap().as_ref(), row, value);
        }
    }
}

fn check_kind<R: Record + Draw + Tree>() {
    let records: Vec<R> = (0..40).map(sample).collect();
    let mut decoder = ColumnDecoder::new(R::schema(), records.len()).unwrap();
    for round in 0..2 {
        for (i, record) in records.iter().enumerate() {
            let framing = if i % 3 == round { Framing::Confluent { schema_id: 5 } } else { Framing::SingleObject };
            let mut framed = Vec::new();
            wire::encode(record, framing, &mut framed);
            // A message cut short is refused and leaves the batch as it was.
            let cut = decoder.push(&framed[..framed.len() - 1]);
            assert!(matches!(cut, Err(ColumnsError::Message(_))), "{cut:?}");
            decoder.push(&framed).unwrap();
            assert_eq!(decoder.rows(), i + 1);
        }
        assert!(matches!(decoder.push(&[0, 0, 0, 0, 5]), Err(ColumnsError::Full(40))));
        let batch = decoder.flush().unwrap().unwrap();
        assert_eq!(batch.schema(), decoder.arrow_schema());
        check_batch(&batch, &records);
        assert!(decoder.flush().unwrap().is_none());
    }
    assert!(matches!(decoder.push(b"{}"), Err(ColumnsError::Message(_))));
    assert!(matches!(decoder.push(&[0xc3, 1, 1, 2, 3, 4, 5, 6, 7, 8]), Err(ColumnsError::Message(_))));
}

macro_rules! kind {
    ($name:ident, $record:ident) => {
        #[test]
        fn $name() {
            check_kind::<$record>();
        }
    };
}
every_kind!(kind);
