//! JSON as Go's `encoding/json` reads it into a struct, since that is what wrote and tested these annotations: keys match
//! without regard to case, `null` leaves a field unset, unknown fields are skipped, anything after the value is an error.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serializer};

use crate::cpuset::CpuSet;
use crate::error::{Error, Result};

/// The longest annotation value that is read, in bytes.
pub const MAX_VALUE: usize = 64 * 1024;

/// How much of someone else's text is repeated in an error, in characters.
const MAX_ERROR: usize = 200;

/// The error for the annotation `key`.
pub(crate) fn invalid(key: &str, why: impl fmt::Display) -> Error {
    let mut why = why.to_string();
    if let Some((cut, _)) = why.char_indices().nth(MAX_ERROR) {
        why.truncate(cut);
        why.push('…');
    }
    Error::invalid(format!("annotation {key}"), why)
}

/// The value, if its size is bounded and it holds no NUL byte.
pub(crate) fn bounded<'a>(key: &str, value: &'a str) -> Result<&'a str> {
    if value.len() > MAX_VALUE {
        return Err(invalid(key, format_args!("{} bytes are more than {MAX_VALUE}", value.len())));
    }
    if value.bytes().any(|b| b == 0) {
        return Err(invalid(key, "holds a NUL byte"));
    }
    Ok(value)
}

/// Reads the JSON value of the annotation `key`.
pub(crate) fn read<'a, T: Deserialize<'a> + Default>(key: &str, value: &'a str) -> Result<T> {
    serde_json::from_str::<Option<T>>(bounded(key, value)?)
        .map(Option::unwrap_or_default)
        .map_err(|e| invalid(key, e))
}

/// Refuses a number outside the range; the error is the reason.
pub(crate) fn in_range(
    field: &str,
    number: Option<i64>,
    range: std::ops::RangeInclusive<i64>,
) -> std::result::Result<(), String> {
    match number {
        Some(n) if !range.contains(&n) => {
            Err(format!("{field} {n} is not in {}..={}", range.start(), range.end()))
        }
        _ => Ok(()),
    }
}

/// Reads a key as the one of the names that it matches.
pub(crate) struct OneOf(pub(crate) &'static [&'static str]);

impl<'de> DeserializeSeed<'de> for OneOf {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for OneOf {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().copied().find(|name| name.eq_ignore_ascii_case(key)))
    }
}

/// Implements `Deserialize` for a struct with a `Default`: `field = "key"`, or `field = "key" via Type` where `Type`
/// is read and turned into the field.
macro_rules! go_object {
    ($type:ident { $($field:ident = $key:literal $(via $via:ty)?),+ $(,)? }) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Object;
                impl<'de> serde::de::Visitor<'de> for Object {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$type, A::Error> {
                        let mut out = $type::default();
                        while let Some(key) = map.next_key_seed($crate::annotations::json::OneOf(&[$($key),+]))? {
                            match key {
                                $(Some($key) => {
                                    out.$field = $crate::annotations::json::go_object!(@value map $($via)?);
                                })+
                                _ => {
                                    map.next_value::<serde::de::IgnoredAny>()?;
                                }
                            }
                        }
                        Ok(out)
                    }
                }
                deserializer.deserialize_map(Object)
            }
        }
    };
    (@value $map:ident $via:ty) => { $map.next_value::<Option<$via>>()?.unwrap_or_default().into() };
    (@value $map:ident) => { $map.next_value::<Option<_>>()?.unwrap_or_default() };
}
pub(crate) use go_object;

/// A list of which every element may be `null`, which Go reads as an element with nothing set.
#[derive(Default)]
pub(crate) struct Elements<T>(Vec<T>);

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Elements<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let elements = Vec::<Option<T>>::deserialize(deserializer)?;
        Ok(Self(elements.into_iter().map(Option::unwrap_or_default).collect()))
    }
}

impl<T> From<Elements<T>> for Vec<T> {
    fn from(elements: Elements<T>) -> Self {
        elements.0
    }
}

/// A map of which every value may be `null`, which Go reads as a value with nothing set.
pub(crate) struct Entries<T>(std::collections::BTreeMap<String, T>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(std::collections::BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = std::collections::BTreeMap::<String, Option<T>>::deserialize(deserializer)?;
        Ok(Self(entries.into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect()))
    }
}

impl<T> From<Entries<T>> for std::collections::BTreeMap<String, T> {
    fn from(entries: Entries<T>) -> Self {
        entries.0
    }
}

/// A CPU list in a JSON string.
#[derive(Default)]
pub(crate) struct CpuList(CpuSet);

impl<'de> Deserialize<'de> for CpuList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

impl From<CpuList> for CpuSet {
    fn from(list: CpuList) -> Self {
        list.0
    }
}

/// Writes CPUs as a JSON string.
pub(crate) fn write_cpus<S: Serializer>(cpus: &CpuSet, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(cpus)
}
