//! Reading what older formats wrote: a field that a later format has added is its default there.
//!
//! Payloads do not describe themselves, so whoever reads one says which format it is in ([`reading`]), and a field that is newer is marked
//! `#[serde(deserialize_with = "in_4")]`: of an older payload nothing is read for it. A field that format 4 has no more is [`Until4`].

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

/// A number that format 4 has added, and that is 1 where nothing is known.
pub(crate) fn one_in_4<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    if FORMAT.get() < 4 { Ok(1.0) } else { f64::deserialize(deserializer) }
}

/// A field that format 4 has no more: it is read over in what is older, and nothing is written.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Until4<T>(PhantomData<T>);

impl<T> Serialize for Until4<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Until4<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if FORMAT.get() < 4 {
            T::deserialize(deserializer)?;
        }
        Ok(Self(PhantomData))
    }
}
