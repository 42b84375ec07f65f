//! The configuration as a commented file.

use super::kind::Kind;
use super::section::Section;
use super::sections::Config;

/// A commented TOML file in the making.
pub(super) struct Sheet {
    text: String,
    /// Whether keys get their explanation.
    pub(super) explain: bool,
}

impl Sheet {
    /// Writes one key: what it means, what is allowed, its default, its value. A key that is not set is written as a
    /// comment.
    pub(super) fn leaf<T>(&mut self, key: &str, about: &[&str], value: &T, default: &T, kind: &impl Kind<T>) {
        if self.explain {
            self.comment(about);
            let default = kind.literal(default).unwrap_or_else(|| "unset".to_owned());
            self.comment(&[&format!(" Allowed: {}. Default: {default}.", kind.allowed())]);
        }
        let line = match kind.literal(value) {
            Some(literal) => format!("{key} = {literal}\n"),
            None => format!("# {key} =\n"),
        };
        self.text.push_str(&line);
    }

    /// Writes a key that has no explanation and no default of its own.
    pub(super) fn entry<T>(&mut self, key: &str, value: &T, kind: &impl Kind<T>) {
        if let Some(literal) = kind.literal(value) {
            self.text.push_str(&format!("{key} = {literal}\n"));
        }
    }

    /// Writes a table inside a table.
    pub(super) fn table<S: Section>(
        &mut self,
        table: &str,
        key: &str,
        about: &[&str],
        value: &S,
        default: &S,
    ) {
        let dot = if table.is_empty() { "" } else { "." };
        let path = format!("{table}{dot}{key}");
        self.text.push('\n');
        self.comment(about);
        self.text.push_str(&format!("[{path}]\n"));
        value.show(default, &path, self);
    }

    fn comment(&mut self, lines: &[&str]) {
        for line in lines {
            self.text.push('#');
            self.text.push_str(line);
            self.text.push('\n');
        }
    }
}

impl Config {
    /// The configuration as a TOML file with every key, its meaning, unit, range and default. Reading it gives the
    /// same configuration back.
    pub fn to_toml(&self) -> String {
        let mut sheet = Sheet { text: String::new(), explain: true };
        sheet.comment(&[
            " The configuration of Plimsoll on this node. Every key may be left out. Files config.d/*.toml beside this",
            " one are read after it, in the order of their names, and win key by key. `plimsoll config check` finds",
            " mistakes.",
        ]);
        sheet.text.push('\n');
        self.show(&Self::default(), "", &mut sheet);
        sheet.text
    }

    /// The configuration of a node without configuration, as [`Config::to_toml`] writes it.
    pub fn defaults_toml() -> String {
        Self::default().to_toml()
    }
}
