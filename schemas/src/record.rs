//! Our own records: one file per kind, a struct whose fields stand in schema order.
//!
//! Encoding writes the fields one after the other into the caller's buffer; nothing looks a schema up on the way.
//! Invariant: the bytes are those of the current `.avsc` file, which apache-avro checks in the tests.
//! All instants are `i64` milliseconds since the epoch, UTC.

use crate::datum::DecodeError;
use crate::schema::Schema;

mod alert;
mod anomaly_kind;
mod beacon;
mod check;
mod dead_letter;
mod disorder;
mod forecast;
mod infrastructure;
mod late;
mod ledger;
mod score;
mod service_call;
mod state;
mod truth;
mod window_metric;

pub use alert::{
    Alert, AlertKind, AlertState, Breach, Correction, DetectorShare, MeasureShare, RecentWindow, Severity,
};
pub use anomaly_kind::AnomalyKind;
pub use beacon::Beacon;
pub use check::Check;
pub use dead_letter::{DeadLetter, DeadLetterHeader};
pub use disorder::Disorder;
pub use forecast::{Forecast, ForecastBand, ForecastPoint};
pub use infrastructure::Infrastructure;
pub use late::Late;
pub use ledger::Ledger;
pub use score::{Dimension, Score};
pub use service_call::ServiceCall;
pub use state::State;
pub use truth::Truth;
pub use window_metric::{DetectorScore, SeriesPoint, WindowMetric, WindowSpan};

/// A record kind with released schemas.
pub trait Record: Sized {
    /// Name of the kind: the folder of its `.avsc` files.
    const NAME: &'static str;
    /// CloudEvents type, with the current version.
    const TYPE: &'static str;
    /// The current schema.
    fn schema() -> &'static Schema;
    /// Appends the datum, without a frame.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads a whole datum of the current schema.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// Makes a struct a [`Datum`](crate::datum::Datum) whose fields are written in the order they are named here,
/// which is the schema's. A field left out does not compile.
macro_rules! fields {
    ($record:ident { $($field:ident),+ $(,)? }) => {
        impl $crate::datum::Datum for $record {
            fn write(&self, out: &mut Vec<u8>) {
                let Self { $($field),+ } = self;
                $($crate::datum::Datum::write($field, out);)+
            }
            fn read(cursor: &mut $crate::datum::Cursor<'_>) -> Result<Self, $crate::DecodeError> {
                Ok(Self { $($field: $crate::datum::Datum::read(cursor)?),+ })
            }
        }
    };
}

/// [`fields!`], and the struct is the top level record of a released schema.
macro_rules! record {
    ($name:literal, $type:literal, $record:ident { $($field:ident),+ $(,)? }) => {
        $crate::record::fields!($record { $($field),+ });
        impl $crate::Record for $record {
            const NAME: &'static str = $name;
            const TYPE: &'static str = $type;
            fn schema() -> &'static $crate::Schema {
                static CURRENT: std::sync::LazyLock<&'static $crate::Schema> =
                    std::sync::LazyLock::new(|| $crate::schema::current($name).expect("every kind is released"));
                &CURRENT
            }
            fn encode(&self, out: &mut Vec<u8>) {
                $crate::datum::Datum::write(self, out);
            }
            fn decode(bytes: &[u8]) -> Result<Self, $crate::DecodeError> {
                $crate::wire::decode_datum(bytes)
            }
        }
    };
}

/// An Avro enum: its symbols in schema order, lower case with underscores.
macro_rules! symbols {
    ($enum:ident { $($variant:ident = $symbol:literal),+ $(,)? }) => {
        impl $enum {
            /// Every value, in schema order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The schema's symbol.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $symbol),+ }
            }
        }
        impl std::fmt::Display for $enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl std::str::FromStr for $enum {
            type Err = $crate::record::UnknownSymbol;
            fn from_str(symbol: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|value| value.as_str() == symbol).ok_or_else(|| {
                    $crate::record::UnknownSymbol { symbol: symbol.to_owned(), symbols: &[$($symbol),+] }
                })
            }
        }
        impl $crate::datum::Datum for $enum {
            fn write(&self, out: &mut Vec<u8>) {
                $crate::datum::write_long(*self as i64, out);
            }
            fn read(cursor: &mut $crate::datum::Cursor<'_>) -> Result<Self, $crate::DecodeError> {
                let index = cursor.index()?;
                usize::try_from(index)
                    .ok()
                    .and_then(|index| Self::ALL.get(index).copied())
                    .ok_or($crate::DecodeError::EnumSymbol { index, symbols: Self::ALL.len() })
            }
        }
    };
}

pub(crate) use {fields, record, symbols};

/// A name that is none of an enum's symbols.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{symbol}` is none of {}", symbols.join(", "))]
pub struct UnknownSymbol {
    symbol: String,
    symbols: &'static [&'static str],
}
