//! A container id that is safe as a file name.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// The longest id; a file name has 255 bytes, and ours adds an ending and a temporary one.
const MAX: usize = 200;

/// A container id: letters, digits and `_+-.`, as runc allows (libcontainer's `validateID`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(String);

impl ContainerId {
    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ContainerId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fits = !text.is_empty()
            && text.len() <= MAX
            && !text.starts_with('.')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-.".contains(&b));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            let shown: String = text.chars().take(40).collect();
            Err(Error::invalid(
                "container id",
                format!(
                    "{shown:?} is not 1 to {MAX} letters, digits, '_', '+', '-' or '.', not starting with '.'"
                ),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_never_a_path() {
        for bad in ["", ".", "..", "a/b", "../x", "a b", "a\0", ".tmp", &"x".repeat(201)] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad:?}");
        }
        assert!("3f4a_B+c-d.e".parse::<ContainerId>().is_ok());
    }
}
