//! One event in the three forms that it can leave in.

use std::time::{Duration, SystemTime};

use super::Level;
use crate::error::Error;

/// How many bytes of text an event keeps, message and values together. It bounds the forms below: a journal datagram
/// stays under the socket's buffer, a JSON line under the smallest allowed log file.
const MAX_TEXT: usize = 8 * 1024;
/// How many fields an event keeps.
const MAX_FIELDS: usize = 32;
/// How many bytes of a field name are kept; with its prefix it fits the journal's limit of 64.
const MAX_NAME: usize = 48;

/// One event, cut to its bounds.
pub(super) struct Line<'a> {
    level: Level,
    /// Since 1970, UTC.
    time: Duration,
    message: Text<'a>,
    fields: Vec<(&'a str, Text<'a>)>,
}

/// A text, and whether the end was cut off.
struct Text<'a>(&'a str, bool);

impl Text<'_> {
    fn mark(&self) -> &'static str {
        if self.1 { "…" } else { "" }
    }
}

impl<'a> Line<'a> {
    pub(super) fn new(level: Level, message: &'a str, fields: &[(&'a str, &'a str)]) -> Self {
        let mut room = MAX_TEXT;
        let mut cut = |text: &'a str, most: usize| {
            let kept = prefix(text, room.min(most));
            room -= kept.len();
            Text(kept, kept.len() < text.len())
        };
        // Fields say what happened to whom; a long message must not push them out.
        let message = cut(message, MAX_TEXT / 2);
        let fields = fields.iter().take(MAX_FIELDS);
        Self {
            level,
            time: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            message,
            fields: fields.map(|(name, value)| (prefix(name, MAX_NAME), cut(value, MAX_TEXT))).collect(),
        }
    }

    /// The event in the journal's native protocol: `NAME=value` lines, and for values with a newline the name, a
    /// newline, the length as 64 bits little-endian and the value.
    pub(super) fn journal(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let mut put = |name: &dyn Fn(&mut Vec<u8>), text: &Text<'_>| {
            name(&mut out);
            let (value, mark) = (text.0, text.mark());
            if value.as_bytes().contains(&b'\n') {
                out.push(b'\n');
                out.extend_from_slice(&((value.len() + mark.len()) as u64).to_le_bytes());
            } else {
                out.push(b'=');
            }
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(mark.as_bytes());
            out.push(b'\n');
        };
        let priority = [b'0' + self.level as u8];
        // `journalctl` shows the message alone: it must say who, what and why by itself.
        let message = self.words();
        put(&|out| out.extend_from_slice(b"MESSAGE"), &Text(&message, false));
        put(
            &|out| out.extend_from_slice(b"PRIORITY"),
            &Text(std::str::from_utf8(&priority).unwrap_or("6"), false),
        );
        put(&|out| out.extend_from_slice(b"SYSLOG_IDENTIFIER"), &Text("plimsoll", false));
        for (name, value) in &self.fields {
            put(
                &|out| {
                    out.extend_from_slice(b"PLIMSOLL_");
                    out.extend(name.bytes().map(|byte| match byte.to_ascii_uppercase() {
                        byte @ (b'A'..=b'Z' | b'0'..=b'9') => byte,
                        _ => b'_',
                    }));
                },
                value,
            );
        }
        out
    }

    /// The event as one line of JSON: `ts`, `level`, `msg`, then the fields.
    pub(super) fn json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(b"{\"ts\":\"");
        out.extend_from_slice(rfc3339(self.time).as_bytes());
        out.extend_from_slice(b"\",\"level\":\"");
        out.extend_from_slice(self.level.name().as_bytes());
        out.extend_from_slice(b"\",\"msg\":");
        quote(&mut out, self.message.0, self.message.mark());
        for (name, value) in &self.fields {
            out.push(b',');
            // A name must not stand for two things.
            let tail = if matches!(*name, "ts" | "level" | "msg") { "_" } else { "" };
            quote(&mut out, name, tail);
            out.push(b':');
            quote(&mut out, value.0, value.mark());
        }
        out.extend_from_slice(b"}\n");
        out
    }

    /// The event as one line for people, with the reason why it is not in the log.
    pub(super) fn plain(&self, error: &Error) -> Vec<u8> {
        let (level, error) = (self.level.name(), error.to_string());
        format!("plimsoll: {level}: {} (not in the log: {})\n", self.words(), error.escape_debug())
            .into_bytes()
    }

    /// Message and fields in one line.
    fn words(&self) -> String {
        let mut words = self.message.0.escape_debug().to_string();
        for (name, value) in &self.fields {
            words.push_str(&format!(" {}={:?}", name.escape_debug(), value.0));
        }
        words
    }
}

/// An error as runc writes one to its log (logrus' JSON and text formatters).
pub(super) fn of_runtime(message: &str, as_json: bool) -> Vec<u8> {
    let time = rfc3339(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    let mut out = Vec::with_capacity(512);
    if as_json {
        out.extend_from_slice(b"{\"level\":\"error\",\"msg\":");
        quote(&mut out, message, "");
        out.extend_from_slice(format!(",\"time\":\"{time}\"}}\n").as_bytes());
    } else {
        out.extend_from_slice(format!("time=\"{time}\" level=error msg=").as_bytes());
        quote(&mut out, message, "");
        out.push(b'\n');
    }
    out
}

/// The longest prefix of at most `most` bytes that cuts no character.
fn prefix(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Appends a JSON string (RFC 8259, 7).
fn quote(out: &mut Vec<u8>, text: &str, tail: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend(*b"\\n"),
            b'\t' => out.extend(*b"\\t"),
            0..=0x1f | 0x7f => {
                let digit = |value: u8| char::from_digit(u32::from(value), 16).map_or(b'0', |c| c as u8);
                out.extend([b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.extend_from_slice(tail.as_bytes());
    out.push(b'"');
}

/// A time as RFC 3339 has it, in UTC with milliseconds.
fn rfc3339(time: Duration) -> String {
    let seconds = time.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = time.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is their last day, and in eras of 400 years, which are all
/// 146,097 days long (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day - (153 * march_month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (1_735_689_600, "2025-01-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), text);
        }
        assert_eq!(rfc3339(Duration::from_millis(1_007)), "1970-01-01T00:00:01.007Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = civil(0);
        for day in 1..200_000 {
            let next = civil(day);
            let (year, month, date) = last;
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            let expected = match (date == length, month) {
                (false, _) => (year, month, date + 1),
                (true, 12) => (year + 1, 1, 1),
                (true, _) => (year, month + 1, 1),
            };
            assert_eq!(next, expected, "day {day}");
            last = next;
        }
    }

    #[test]
    fn json_says_what_was_given() {
        let nasty: String = (0..0x100).filter_map(char::from_u32).chain("\u{2028}é漢🦀".chars()).collect();
        let line = Line::new(Level::Warning, &nasty, &[("class", "LS"), ("msg", &nasty)]).json();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["msg"], nasty);
        assert_eq!(value["msg_"], nasty);
        assert_eq!((&value["level"], &value["class"]), (&"warning".into(), &"LS".into()));
    }

    #[test]
    fn no_event_outgrows_the_smallest_log() {
        for text in ["\u{1}", "é", "\"", "\n"] {
            let text = text.repeat(1 << 20);
            let fields: Vec<_> = (0..1000).map(|_| (text.as_str(), text.as_str())).collect();
            let line = Line::new(Level::Info, &text, &fields);
            for form in [line.json(), line.journal()] {
                assert!(form.len() < 65_536, "{}", form.len());
            }
            serde_json::from_slice::<serde_json::Value>(&line.json()).unwrap();
        }
    }

    #[test]
    fn a_long_message_leaves_room_for_the_fields() {
        let line = Line::new(Level::Error, &"m".repeat(1 << 20), &[("container", "c1")]).json();
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["container"], "c1");
        assert!(value["msg"].as_str().unwrap().ends_with("m…"));
    }
}
