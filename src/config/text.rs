//! Parses JSON and keeps positions: each value is a slice of the text, which gives its line and column.

use std::borrow::Cow;
use std::path::Path;

use serde_json::value::RawValue;

use crate::error::Error;
use crate::patch::{self, Key};
use crate::profile::{self, InvalidValue};

/// An error in the text, with its position. Line 0 stands for an error without a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ConfigSyntaxError {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) what: String,
    pub(super) hint: String,
}

impl ConfigSyntaxError {
    /// Returns the error with the path of the file and the position in front of the message.
    pub(super) fn in_file(self, path: &Path) -> Error {
        let ConfigSyntaxError { line, column, what, hint } = self;
        let shown = path.display();
        Error::config(
            if line == 0 { format!("{shown}: {what}") } else { format!("{shown}:{line}:{column}: {what}") },
            hint,
        )
    }

    /// Returns an error without a position, such as a wrong profile name on the command line.
    pub(super) fn without_position(what: impl Into<String>, hint: impl Into<String>) -> ConfigSyntaxError {
        ConfigSyntaxError { line: 0, column: 0, what: what.into(), hint: hint.into() }
    }
}

pub(super) type Parsed<T> = std::result::Result<T, ConfigSyntaxError>;

/// Returns line and column of the character after `before`.
///
/// The column counts characters. Both start at 1.
pub(super) fn position(before: &str) -> (usize, usize) {
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.bytes().filter(|byte| *byte == b'\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The text of the configuration file, which turns slices of it into positions.
#[derive(Clone, Copy)]
pub(super) struct Text<'a>(pub(super) &'a str);

/// A member of an object.
pub(super) struct Member<'a> {
    pub(super) key: Cow<'a, str>,
    /// Byte offset of the key in the text. For a key with escapes it is the offset of the value.
    pub(super) at: usize,
    pub(super) raw: &'a RawValue,
}

impl<'a> Text<'a> {
    /// Returns the byte offset of `part`, which must be a slice of this text.
    pub(super) fn offset(self, part: &str) -> usize {
        (part.as_ptr() as usize).saturating_sub(self.0.as_ptr() as usize)
    }

    /// Returns an error at a byte offset.
    pub(super) fn wrong(self, at: usize, what: impl Into<String>, hint: impl Into<String>) -> ConfigSyntaxError {
        let (line, column) = position(self.0.get(..at).unwrap_or(self.0));
        ConfigSyntaxError { line, column, what: what.into(), hint: hint.into() }
    }

    /// Returns an error at a value.
    pub(super) fn wrong_value(
        self,
        raw: &RawValue,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) -> ConfigSyntaxError {
        self.wrong(self.offset(raw.get()), what, hint)
    }

    /// Parses the value of `key` as a `T`. Messages call the type `name`.
    pub(super) fn value<T: serde::Deserialize<'a>>(self, key: &str, raw: &'a RawValue, name: &str) -> Parsed<T> {
        serde_json::from_str(raw.get()).map_err(|error| self.mistyped(key, raw, name, &error))
    }

    /// Parses the value of `key` as a string. It is borrowed unless it contains escapes.
    pub(super) fn text(self, key: &str, raw: &'a RawValue) -> Parsed<Cow<'a, str>> {
        self.value::<Key<'_>>(key, raw, "a text").map(|key| key.0)
    }

    /// Parses the value of `key` as a list of strings. Returns each string with its slice of the text.
    pub(super) fn list(self, key: &str, raw: &'a RawValue) -> Parsed<Vec<(&'a RawValue, Cow<'a, str>)>> {
        let items: Vec<&RawValue> = self.value(key, raw, "a list of texts")?;
        let text = |item: &'a RawValue| match kind(item) {
            "a text" => Ok((item, self.text(key, item)?)),
            other => Err(self.wrong_value(item, format!("{key} has {other} in it, not a text"), "make it a text")),
        };
        items.into_iter().map(text).collect()
    }

    /// Returns the only member of an object that must have exactly one, with a known key.
    pub(super) fn only_member(self, owner: &str, raw: &'a RawValue, known: &[&str], hint: &str) -> Parsed<Member<'a>> {
        if kind(raw) != "an object" {
            return Err(self.wrong_value(raw, format!("{owner} is {}, not an object", kind(raw)), hint));
        }
        let mut members = self.members(owner, raw)?;
        if let Some(member) = members.iter().find(|member| !known.contains(&member.key.as_ref())) {
            return Err(self.unknown(member, owner, known));
        }
        match (members.pop(), members.is_empty()) {
            (Some(member), true) => Ok(member),
            (None, _) => Err(self.wrong_value(raw, format!("{owner} is empty"), hint)),
            (Some(second), false) => {
                Err(self.wrong(second.at, format!("{owner} has more than one source"), format!("keep one: {hint}")))
            }
        }
    }

    /// Returns the error for a value that does not have the type `name`.
    pub(super) fn mistyped(
        self,
        key: &str,
        raw: &RawValue,
        name: &str,
        error: &serde_json::Error,
    ) -> ConfigSyntaxError {
        if error.is_data() {
            self.wrong_value(raw, format!("{key} is {}, not {name}", kind(raw)), format!("make it {name}"))
        } else {
            // The first parse has checked the syntax of the whole text but decoded no escapes. So only an escape that
            // stands for no character can fail here.
            self.wrong_value(raw, format!("{key} has an escape that is no character"), "write the character itself")
        }
    }

    /// Returns the members of an object, in order.
    ///
    /// # Errors
    /// The value is not an object, or a key occurs twice: one of the two is a mistake.
    pub(super) fn members(self, owner: &str, raw: &'a RawValue) -> Parsed<Vec<Member<'a>>> {
        let pairs = patch::members(raw).map_err(|error| self.mistyped(owner, raw, "an object", &error))?;
        let mut members: Vec<Member<'a>> = Vec::with_capacity(pairs.len());
        for (key, raw) in pairs {
            let at = match &key {
                // The quotation mark is one byte before the key.
                Cow::Borrowed(key) => self.offset(key).saturating_sub(1),
                Cow::Owned(_) => self.offset(raw.get()),
            };
            members.push(Member { key, at, raw });
        }
        let mut seen: Vec<(&str, usize)> = members.iter().map(|member| (member.key.as_ref(), member.at)).collect();
        seen.sort_unstable();
        match seen.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => {
                Err(self.wrong(pair[1].1, format!("{:?} stands twice in {owner}", pair[1].0), "remove one of the two"))
            }
            None => Ok(members),
        }
    }

    /// Returns the error for an unknown key, with the most similar known key as the hint.
    pub(super) fn unknown(self, member: &Member<'_>, owner: &str, known: &[&str]) -> ConfigSyntaxError {
        let normalized = member.key.to_ascii_lowercase().replace('-', "_");
        let near = known.iter().map(|name| (strsim::jaro_winkler(&normalized, name), *name));
        let hint = match near.max_by(|a, b| a.0.total_cmp(&b.0)) {
            Some((score, name)) if score > 0.75 => format!("did you mean {name:?}?"),
            _ => format!("known keys: {}", known.join(", ")),
        };
        self.wrong(member.at, format!("unknown key {:?} in {owner}", member.key), hint)
    }
}

/// Returns the type of a JSON value in words, from its first byte.
pub(super) fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'"') => "a text",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

impl<'a> Text<'a> {
    /// Returns the error for a text that is not JSON. The most common mistakes have messages of their own.
    pub(super) fn malformed(self, error: &serde_json::Error) -> ConfigSyntaxError {
        if self.0.trim().is_empty() {
            return self.wrong(0, "the file is empty", "write a configuration (see the README)");
        }
        if self.0.starts_with('\u{feff}') {
            return self.wrong(0, "the file begins with a byte order mark", "save it as UTF-8 without one");
        }
        let line_start: usize = self.0.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let mut at = (line_start + error.column().saturating_sub(1)).min(self.0.len());
        while !self.0.is_char_boundary(at) {
            at -= 1;
        }
        let (before, after) = self.0.split_at(at);
        if before.trim_end().ends_with(',') && after.starts_with(['}', ']']) {
            let comma = before.trim_end().len() - 1;
            return self.wrong(comma, "not JSON: nothing follows this comma", "remove the comma");
        }
        if after.starts_with(['/', '#']) {
            return self.wrong(at, "not JSON: it has no comments", "remove the comment");
        }
        if error.is_eof() {
            let hint = "complete it: a quotation mark, a bracket or a brace is not closed";
            return self.wrong(self.0.len(), "not JSON: the file ends too early", hint);
        }
        let message = error.to_string();
        if message.starts_with("control character") {
            let at = at + after.find(char::is_control).unwrap_or(0);
            let hint = "write it as an escape, such as \\n or \\t, or close the text before it";
            return self.wrong(at, "not JSON: a control character in a text", hint);
        }
        let what = message.split(" at line ").next().unwrap_or(&message);
        self.wrong(at, format!("not JSON: {what}"), "correct the syntax there, or just before it")
    }

    /// Returns the error for a value that breaks the rule of its key.
    pub(super) fn refused(self, profile: &str, raw: &'a RawValue, fault: &InvalidValue) -> ConfigSyntaxError {
        // The message shows a short string without `@`. The URL of a proxy may contain a password before the `@`.
        let is_shown = raw.get().len() < 200 && self.text("", raw).is_ok_and(|value| !value.contains('@'));
        let value = if is_shown { format!(": {}", raw.get()) } else { String::new() };
        self.wrong_value(
            raw,
            format!("{} of profile {profile:?}{value} {}", fault.key, fault.what),
            profile::remedy(fault.key),
        )
    }

    /// Returns the error for values that do not fit together.
    ///
    /// Its position is the key in `fault`, or the profile if that key is missing.
    pub(super) fn unfit(self, profile: &str, raw: &'a RawValue, fault: &InvalidValue) -> ConfigSyntaxError {
        let members = self.members("", raw).unwrap_or_default();
        let (at, hint) = match members.iter().find(|member| member.key == fault.key) {
            Some(member) => (member.at, format!("remove {}, or change the key that conflicts with it", fault.key)),
            None => (self.offset(raw.get()), format!("add {} to the profile", fault.key)),
        };
        self.wrong(at, format!("{} of profile {profile:?} {}", fault.key, fault.what), hint)
    }
}
