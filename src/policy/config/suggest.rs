//! Which known name a mistyped one may have meant.

/// The nearest of the known names, where it is near enough to be worth naming. Case, and `-` for `_`, do not count.
pub(super) fn closest(typed: &str, known: &[&'static str]) -> Option<&'static str> {
    // No key is that long; and the work below grows with the length.
    if typed.len() > 40 {
        return None;
    }
    known
        .iter()
        .map(|name| (distance(typed, name), *name))
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many letters to add, drop, change or swap with their neighbour to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let fold = |text: &str| -> Vec<u8> {
        let fold = |byte: u8| {
            if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() }
        };
        text.bytes().map(fold).collect()
    };
    let (a, b) = (fold(a), fold(b));
    // Three rows of the usual table: the swap looks two rows back.
    let mut two_back: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
            let mut best = cell(&previous, j) + usize::from(x != y);
            best = best.min(cell(&previous, j + 1) + 1).min(cell(&row, j) + 1);
            if i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x) {
                best = best.min(cell(&two_back, j - 1) + 1);
            }
            row.push(best);
        }
        two_back = std::mem::replace(&mut previous, row);
    }
    previous.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{closest, distance};

    #[test]
    fn counts_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("journal", "journl", 1),
            ("burst", "brust", 1),
            ("max-bytes", "MAX_BYTES", 0),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (edits, edits), "{a} {b}");
        }
    }

    #[test]
    fn names_only_what_is_near() {
        let known = ["LSE", "LSR", "LS", "BE", "SYSTEM"];
        assert_eq!(closest("ls", &known), Some("LS"));
        assert_eq!(closest("SYSTM", &known), Some("SYSTEM"));
        assert_eq!(closest("guaranteed", &known), None);
        assert_eq!(closest(&"LS".repeat(100_000), &known), None);
    }
}
