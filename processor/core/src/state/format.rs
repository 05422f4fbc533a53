//! Reading what older formats wrote: a field that a later format has added is its default there.
//!
//! Payloads do not describe themselves, so whoever reads one says which format it is in ([`reading`]), and a field that is newer is marked
//! `#[serde(deserialize_with = "in_4")]`: of an older payload nothing is read for it. A field that format 4 has no more is
//! [`Until<4, _>`](Until).

use std::cell::Cell;
use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::FORMAT_VERSION;

thread_local! {
    /// The format of the payload that this thread reads.
    static FORMAT: Cell<i32> = const { Cell::new(FORMAT_VERSION) };
}

/// Reads a payload of this format.
pub(super) fn reading<T>(format: i32, read: impl FnOnce() -> T) -> T {
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            FORMAT.set(FORMAT_VERSION);
        }
    }
    let _back = Back;
    FORMAT.set(format);
    read()
}

/// A field that format 4 has added.
pub(crate) fn in_4<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    if FORMAT.get() < 4 { Ok(T::default()) } else { T::deserialize(deserializer) }
}

/// A field that format 5 has added.
pub(crate) fn in_5<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    if FORMAT.get() < 5 { Ok(T::default()) } else { T::deserialize(deserializer) }
}

/// A number that format 4 has added, and that is 1 where nothing is known.
pub(crate) fn one_in_4<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    if FORMAT.get() < 4 { Ok(1.0) } else { f64::deserialize(deserializer) }
}

/// A field that format `N` has no more: it is read over in what is older, and nothing is written.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Until<const N: i32, T>(PhantomData<T>);

impl<const N: i32, T> Serialize for Until<N, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de, const N: i32, T: Deserialize<'de>> Deserialize<'de> for Until<N, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if FORMAT.get() < N {
            T::deserialize(deserializer)?;
        }
        Ok(Self(PhantomData))
    }
}

/// The forecaster of formats before 5, field by field, so that it can be read over.
pub(crate) type HoltWinters = (HoltWintersParams, i64, [u32; 3], [f64; 3], Remainders, Vec<Cycle>, HoltWintersRest);
type HoltWintersParams = (Vec<u32>, [f64; 3], Option<[f64; 2]>, u32);
type Remainders = (u32, [f64; 2]);
type Cycle = (u32, Vec<f64>);
type HoltWintersRest =
    (Option<(Cycle, Vec<f64>, u32)>, (u32, f64, Option<Cycle>, Vec<f64>, [f64; 2]), (u32, f64), bool);
