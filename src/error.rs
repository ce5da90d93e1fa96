//! The one error type: what went wrong, and what to do about it.
//!
//! A [`Kind`] says who has to act and so decides the exit status; the two texts are one line each. Everything that
//! reaches a terminal or a client goes through [`printable`], because much of it was written by a server or by
//! whoever wrote a URL.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Who has to do something about an [`Error`]. The exit codes are part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The command line is wrong: exit 2.
    Usage,
    /// The configuration or the source of the client secret is wrong: exit 3.
    Config,
    /// Two profiles of the configuration claim the asked origin: exit 3.
    Ambiguous,
    /// The server refused the client's credentials: exit 4.
    Denied,
    /// The server was not reached, or gave no usable answer in time: exit 5.
    Unreachable,
    /// The asked origin or cluster is not one of the profile's: exit 6.
    NotOurs,
    /// No token lives as long as was asked for: exit 7.
    TooShort,
    /// Standard output could not be written: exit 74 (`EX_IOERR` of `sysexits.h`).
    Output,
}

/// A failure with its remedy. Neither text ever holds a secret or a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// Decides the exit status.
    pub kind: Kind,
    /// What went wrong, and where. One line, no full stop.
    pub what: String,
    /// What to do, in the imperative. One line, no full stop.
    pub hint: String,
}

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; both texts are made printable and single-line here, so that no caller can forget it.
    pub fn new(kind: Kind, what: impl AsRef<str>, hint: impl AsRef<str>) -> Self {
        Error { kind, what: printable(what.as_ref(), MAX_TEXT), hint: printable(hint.as_ref(), MAX_TEXT) }
    }

    /// A [`Kind::Config`] error.
    pub fn config(what: impl AsRef<str>, hint: impl AsRef<str>) -> Self {
        Error::new(Kind::Config, what, hint)
    }

    /// A [`Kind::Unreachable`] error.
    pub fn unreachable(what: impl AsRef<str>, hint: impl AsRef<str>) -> Self {
        Error::new(Kind::Unreachable, what, hint)
    }

    /// The exit status of a process that ends with this error.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Usage => 2,
            Kind::Config | Kind::Ambiguous => 3,
            Kind::Denied => 4,
            Kind::Unreachable => 5,
            Kind::NotOurs => 6,
            Kind::TooShort => 7,
            Kind::Output => 74,
        }
    }

    /// The two lines for standard error.
    pub fn lines(&self) -> String {
        format!("runai-credential: error: {}\nhint: {}\n", self.what, self.hint)
    }
}

/// A token request that failed.
#[derive(Debug)]
pub struct FailedRequest {
    /// Why.
    pub error: Error,
    /// How long the server wants to be left alone.
    pub retry_after: Duration,
}

impl From<Error> for FailedRequest {
    fn from(error: Error) -> Self {
        FailedRequest { error, retry_after: Duration::ZERO }
    }
}

/// Longest text of a message in characters: enough for two URLs and a reason.
const MAX_TEXT: usize = 600;

/// `text` on one line and fit for a terminal: runs of control characters, line separators and the invisible characters
/// that reorder or hide text become one space, and more than `max` characters are cut.
///
/// Servers and URLs are written by strangers; escape sequences in what a helper prints have been used to rewrite
/// terminals and prompts (CVE-2024-52005 is one of the class).
pub fn printable(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut kept = 0;
    let mut gap = false;
    for c in text.chars() {
        let hidden = c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
        if hidden {
            gap = true;
            continue;
        }
        if std::mem::take(&mut gap) && !out.is_empty() && c != ' ' {
            out.push(' ');
            kept += 1;
        }
        if kept >= max {
            out.push('…');
            break;
        }
        out.push(c);
        kept += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_keeps_plain_text_and_drops_what_a_terminal_would_obey() {
        for (given, wanted) in [
            ("plain text", "plain text"),
            ("two\nlines\r\n", "two lines"),
            ("\x1b[31mred\x1b[0m", "[31mred [0m"),
            ("\u{9b}31m", "31m"),
            ("evil\u{202e}txt", "evil txt"),
            ("Zürich ✓", "Zürich ✓"),
            ("\u{feff}bom", "bom"),
        ] {
            assert_eq!(printable(given, 100), wanted, "{given:?}");
        }
        assert_eq!(printable(&"x".repeat(50), 10), format!("{}…", "x".repeat(10)));
    }

    #[test]
    fn each_kind_has_the_exit_code_of_the_contract() {
        let codes = [
            (Kind::Usage, 2),
            (Kind::Config, 3),
            (Kind::Denied, 4),
            (Kind::Unreachable, 5),
            (Kind::NotOurs, 6),
            (Kind::TooShort, 7),
            (Kind::Output, 74),
        ];
        for (kind, code) in codes {
            assert_eq!(Error::new(kind, "", "").exit_code(), code);
        }
    }
}
