//! The error type of the program: what went wrong, and what the user can do.
//!
//! The [`Kind`] names who has to act, and decides the exit status. Both texts are one line each. Every text
//! for a terminal or a client passes through [`printable`], because a server or the author of a URL wrote
//! parts of it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The kind of an [`Error`], by who has to act. The exit codes are part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The command line is wrong: exit 2.
    Usage,
    /// The configuration or the source of the client secret is wrong: exit 3.
    Config,
    /// Two profiles of the configuration claim the requested origin: exit 3.
    Ambiguous,
    /// The server refused the client's credentials: exit 4.
    Denied,
    /// The server could not be reached, or gave no usable answer in time: exit 5.
    Unreachable,
    /// The requested origin or cluster does not belong to the profile: exit 6.
    NotOurs,
    /// No token lives as long as the caller requires: exit 7.
    TooShort,
    /// Standard output or the file of a CI runner could not be written: exit 74 (`EX_IOERR` of `sysexits.h`).
    Output,
}

/// A failure with its remedy. Neither text ever contains a secret or a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// Decides the exit status.
    pub kind: Kind,
    /// What went wrong, and where. One line, no full stop.
    pub what: String,
    /// What to do, in the imperative. One line, no full stop.
    pub hint: String,
}

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns an error of `kind`.
    ///
    /// Both texts become printable and single-line here, so that no caller can forget it.
    pub fn new(kind: Kind, what: impl AsRef<str>, hint: impl AsRef<str>) -> Self {
        Error { kind, what: printable(what.as_ref(), MAX_TEXT), hint: printable(hint.as_ref(), MAX_TEXT) }
    }

    /// Returns a [`Kind::Config`] error.
    pub fn config(what: impl AsRef<str>, hint: impl AsRef<str>) -> Self {
        Error::new(Kind::Config, what, hint)
    }

    /// Returns a [`Kind::Unreachable`] error.
    pub fn unreachable(what: impl AsRef<str>, hint: impl AsRef<str>) -> Self {
        Error::new(Kind::Unreachable, what, hint)
    }

    /// Returns the exit status of a process that ends with this error.
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

    /// Returns the two lines for standard error.
    pub fn lines(&self) -> String {
        format!("runai-credential: error: {}\nhint: {}\n", self.what, self.hint)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Error {}

/// A token request that failed.
#[derive(Debug)]
pub struct FailedRequest {
    /// The failure.
    pub error: Error,
    /// How long the server wants no further request (`Retry-After`).
    pub retry_after: Duration,
}

impl From<Error> for FailedRequest {
    fn from(error: Error) -> Self {
        FailedRequest { error, retry_after: Duration::ZERO }
    }
}

/// Longest text of a message in characters: enough for two URLs and a reason.
const MAX_TEXT: usize = 600;

/// Returns `text` on one line, safe for a terminal and cut after `max` characters.
///
/// A run of control characters, line separators, or invisible characters that reorder or hide text becomes
/// one space.
///
/// Strangers write server answers and URLs. Attackers have used escape sequences in the output of helpers to
/// rewrite terminals and prompts (CVE-2024-52005 is one example).
pub fn printable(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut kept = 0;
    let mut gap = false;
    for c in text.chars() {
        let is_hidden = c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
        if is_hidden {
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
    fn printable_drops_terminal_control_characters() {
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
    fn kind_has_its_documented_exit_code() {
        let codes = [
            (Kind::Usage, 2),
            (Kind::Config, 3),
            (Kind::Ambiguous, 3),
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
