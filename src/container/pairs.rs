//! Annotations as they stand in a state or a `config.json`.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// A JSON object of strings; values of other kinds are not annotations.
pub(super) struct Annotations(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Annotations;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
                let mut pairs = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    pairs.push((key, map.next_value::<String>()?));
                }
                Ok(Annotations(pairs))
            }

            fn visit_unit<E>(self) -> Result<Annotations, E> {
                Ok(Annotations(Vec::new()))
            }
        }
        deserializer.deserialize_any(Pairs)
    }
}
