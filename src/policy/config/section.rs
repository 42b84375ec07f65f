//! A table of the configuration: its keys, and how they are read and shown.

use toml::Spanned;
use toml::de::DeValue;

use super::reader::Reader;
use super::show::Sheet;

/// A table with known keys.
pub(super) trait Section {
    /// The names of the keys, leaves first.
    const KEYS: &'static [&'static str];

    /// Takes over the value of one key; false where there is no such key. A wrong value goes to the reader's list and
    /// changes nothing.
    fn set(&mut self, table: &str, key: &str, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> bool;

    /// Writes the keys with their values; `defaults` is what the same table holds in an empty configuration.
    fn show(&self, defaults: &Self, table: &str, sheet: &mut Sheet);
}

/// Makes a struct, its defaults and its [`Section`] from one list: documentation, name, type, default and
/// [kind](super::kind) of each key, then the tables inside.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $(#[serde($($serde:tt)+)])?
                $key:ident: $type:ty = $default:expr, $kind:expr;
            )*
            $( tables { $( $(#[doc = $inner_doc:literal])+ $inner:ident: $inner_type:ty; )+ } )?
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
        pub struct $name {
            $( $(#[doc = $doc])+ $(#[serde($($serde)+)])? pub $key: $type, )*
            $( $( $(#[doc = $inner_doc])+ pub $inner: $inner_type, )+ )?
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $( $key: $default, )*
                    $( $( $inner: <$inner_type>::default(), )+ )?
                }
            }
        }

        impl $crate::policy::config::section::Section for $name {
            const KEYS: &'static [&'static str] =
                &[$( stringify!($key), )* $( $( stringify!($inner), )+ )?];

            fn set(
                &mut self,
                table: &str,
                key: &str,
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                reader: &mut $crate::policy::config::reader::Reader<'_>,
            ) -> bool {
                match key {
                    $( stringify!($key) => reader.leaf(&mut self.$key, &$kind, table, key, value), )*
                    $( $( stringify!($inner) => reader.table(&mut self.$inner, table, key, value), )+ )?
                    _ => return false,
                }
                true
            }

            fn show(&self, defaults: &Self, table: &str, sheet: &mut $crate::policy::config::show::Sheet) {
                $( sheet.leaf(stringify!($key), &[$($doc),+], &self.$key, &defaults.$key, &$kind); )*
                $( $( sheet.table(table, stringify!($inner), &[$($inner_doc),+], &self.$inner, &defaults.$inner); )+ )?
                let _ = table;
            }
        }
    };
}
pub(super) use section;
