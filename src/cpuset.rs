//! Sets of CPUs in the kernel's list format (`0-3,8`).

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// The highest CPU number accepted anywhere: the largest `NR_CPUS` mainline x86-64 can be built with, less one.
pub const MAX_CPU: usize = 8191;

/// A set of CPU numbers, each in `0..=`[`MAX_CPU`].
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CpuSet {
    /// Bit `c % 64` of word `c / 64` stands for CPU `c`; no trailing zero words.
    words: Vec<u64>,
}

impl CpuSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a CPU; numbers above [`MAX_CPU`] are left out.
    pub fn insert(&mut self, cpu: usize) {
        if cpu > MAX_CPU {
            return;
        }
        let word = cpu / 64;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if let Some(w) = self.words.get_mut(word) {
            *w |= 1 << (cpu % 64);
        }
    }

    /// Whether the CPU is in the set.
    pub fn contains(&self, cpu: usize) -> bool {
        self.words.get(cpu / 64).is_some_and(|w| w & (1 << (cpu % 64)) != 0)
    }

    /// How many CPUs are in the set.
    pub fn len(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Whether there is no CPU in the set.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The CPUs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words
            .iter()
            .enumerate()
            .flat_map(|(i, w)| (0..64).filter(move |b| w & (1 << b) != 0).map(move |b| i * 64 + b))
    }

    /// The CPUs in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a | b)
    }

    /// The CPUs in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a & b)
    }

    /// The CPUs in this set and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a & !b)
    }

    /// Whether every CPU of this set is in the other.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.difference(other).is_empty()
    }

    /// Whether no CPU is in both sets.
    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.intersection(other).is_empty()
    }

    fn combine(&self, other: &Self, op: impl Fn(u64, u64) -> u64) -> Self {
        let len = self.words.len().max(other.words.len());
        let word = |set: &Self, i: usize| set.words.get(i).copied().unwrap_or(0);
        let mut words: Vec<u64> = (0..len).map(|i| op(word(self, i), word(other, i))).collect();
        while words.last() == Some(&0) {
            words.pop();
        }
        Self { words }
    }
}

impl FromIterator<usize> for CpuSet {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> Self {
        let mut set = Self::new();
        for cpu in cpus {
            set.insert(cpu);
        }
        set
    }
}

/// Parses the list format: decimal numbers and ascending ranges, separated by commas. Blanks around the whole text
/// are not part of it; an empty text is the empty set, as the kernel prints it.
impl FromStr for CpuSet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: String| Error::invalid(format!("CPU list {:?}", shorten(text)), why);
        let mut set = Self::new();
        if text.is_empty() {
            return Ok(set);
        }
        // A list that names every CPU one by one stays under this; anything longer is not a CPU list.
        if text.len() > 5 * (MAX_CPU + 1) {
            return Err(bad(format!("{} bytes is too long for a CPU list", text.len())));
        }
        let number = |digits: &str| -> Result<usize, Error> {
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad(format!("{:?} is not a CPU number", shorten(digits))));
            }
            match digits.parse::<usize>() {
                Ok(cpu) if cpu <= MAX_CPU => Ok(cpu),
                _ => Err(bad(format!("CPU {} is above {MAX_CPU}", shorten(digits)))),
            }
        };
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(bad(format!("range {first}-{last} runs backwards")));
            }
            for cpu in first..=last {
                set.insert(cpu);
            }
        }
        Ok(set)
    }
}

fn shorten(text: &str) -> String {
    const LIMIT: usize = 40;
    if text.chars().count() <= LIMIT {
        text.to_owned()
    } else {
        format!("{}…", text.chars().take(LIMIT).collect::<String>())
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut first = true;
        while let Some(start) = cpus.next() {
            let mut end = start;
            while cpus.peek() == Some(&(end + 1)) {
                end += 1;
                cpus.next();
            }
            if !first {
                f.write_str(",")?;
            }
            first = false;
            if start == end {
                write!(f, "{start}")?;
            } else {
                write!(f, "{start}-{end}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuSet({self})")
    }
}

/// Serialises a set as its list format, for `#[serde(with = "…")]`.
pub mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::CpuSet;

    /// Writes the list format.
    pub fn serialize<S: Serializer>(set: &CpuSet, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(set)
    }

    /// Reads the list format.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<CpuSet, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> CpuSet {
        text.parse().unwrap()
    }

    #[test]
    fn prints_the_kernels_list_format() {
        for (given, printed) in
            [("", ""), ("5", "5"), ("5,3,1,0", "0-1,3,5"), ("1-2,3-5", "1-5"), ("0-1,0", "0-1")]
        {
            assert_eq!(set(given).to_string(), printed);
        }
    }

    #[test]
    fn refuses_what_is_no_list() {
        for bad in ["abc", "3-1", "1-3-4", "0-4294967295", "1,", ",", "-1", "1-", " 1", "0x1", "8192", "1\0"]
        {
            assert!(bad.parse::<CpuSet>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn set_algebra() {
        let (a, b) = (set("0-3,64-65"), set("2-5,65"));
        assert_eq!(a.union(&b), set("0-5,64-65"));
        assert_eq!(a.intersection(&b), set("2-3,65"));
        assert_eq!(a.difference(&b), set("0-1,64"));
        assert!(set("2").is_subset(&a) && !b.is_subset(&a));
        assert!(set("0-1").is_disjoint(&b));
        assert_eq!(a.len(), 6);
        // Equality does not depend on how a set came about.
        assert_eq!(a.difference(&set("64-65")), set("0-3"));
    }
}
