//! Line endings.

use similar::{ChangeTag, TextDiff};

/// The text with line feeds only.
pub(super) fn unix(text: &str) -> String {
    text.replace("\r\n", "\n")
}

/// The new text, each line that was there before with the ending it had, and the others with the most common one.
pub(super) fn as_before(before: &str, new: &str) -> String {
    let returns = before.matches("\r\n").count();
    if returns == 0 {
        return new.to_owned();
    }
    let ending = if returns * 2 >= before.matches('\n').count() { "\r\n" } else { "\n" };
    let old = unix(before);
    let mut endings = before.split_inclusive('\n');
    let mut text = String::with_capacity(new.len() + returns);
    for change in TextDiff::from_lines(old.as_str(), new).iter_all_changes() {
        let line = change.value();
        match change.tag() {
            ChangeTag::Equal => text.push_str(endings.next().unwrap_or(line)),
            ChangeTag::Delete => {
                endings.next();
            }
            ChangeTag::Insert => match line.strip_suffix('\n') {
                Some(line) => {
                    text.push_str(line);
                    text.push_str(ending);
                }
                None => text.push_str(line),
            },
        }
    }
    text
}
