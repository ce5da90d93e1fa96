//! The client secret: a type that does not show it, and the sources that it comes from.
//!
//! A profile holds a [`Source`], never the secret. The program opens no file or keyring and runs no command
//! before it has to fetch a token.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::host::{Deadline, Host};
use crate::os::files::{self, Trust};
use crate::os::keyring;
use crate::os::process::{self, RunError};

/// Maximum length of a client secret in bytes.
pub const MAX_SECRET: usize = 8 * 1024;

/// Maximum length of a client assertion in bytes.
///
/// A JWT with an RSA signature and many claims is much shorter.
pub const MAX_ASSERTION: usize = 16 * 1024;

/// A text that must not be shown.
///
/// It has no `Display`, no `Serialize` and no `Deref`. Only [`Secret::expose`] returns the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes one line of at most `max` bytes of printable ASCII.
    ///
    /// One newline at the end (LF or CRLF) is not part of the secret.
    ///
    /// # Errors
    /// The fault, without the text.
    pub fn new(bytes: &[u8], max: usize) -> Result<Secret, &'static str> {
        let line = match bytes.strip_suffix(b"\n") {
            Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
            None => bytes,
        };
        if line.is_empty() {
            return Err("is empty");
        }
        if line.len() > max {
            return Err("is too long");
        }
        if line.contains(&b'\n') || line.contains(&b'\r') {
            return Err("has more than one line");
        }
        if !line.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return Err("has a character that is not printable ASCII");
        }
        // ASCII is valid UTF-8, so this cannot fail. An error instead of a panic also covers a changed check above.
        String::from_utf8(line.to_vec()).map(Secret).map_err(|_| "is not text")
    }

    /// Returns the text. Only the request that carries the secret may use it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The source of a client secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The keyring of the operating system: the entry for the endpoint and the client id.
    Keyring,
    /// The file at this path, which holds the secret as its only line.
    File(PathBuf),
    /// The environment variable of this name.
    Env(String),
    /// The standard output of a program: its absolute path and its arguments. It runs without a shell.
    Command(Vec<String>),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Keyring => f.write_str("the keyring"),
            Source::File(path) => write!(f, "the file {}", path.display()),
            Source::Env(name) => write!(f, "the variable {name}"),
            Source::Command(argv) => write!(f, "the command {}", argv.first().map_or("", String::as_str)),
        }
    }
}

impl Source {
    /// Reads the secret within `deadline`. Returns it with the deadline for the request.
    ///
    /// `entry` is its entry in the keyring. The time that the user spends in an unlock prompt of the keyring is
    /// added to `deadline`. Without `interactive` the call does not wait for a prompt; see
    /// [`keyring::Entry::read`].
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) with the source, if the secret is missing, unsafe, late
    /// or malformed.
    pub fn read(
        &self,
        entry: &keyring::Entry,
        interactive: bool,
        host: &dyn Host,
        mut deadline: Deadline,
    ) -> Result<(Secret, Deadline)> {
        let (bytes, hint) = match self {
            Source::Keyring => {
                let bytes;
                (bytes, deadline) = entry.read(interactive, host, deadline)?;
                (bytes, "run runai-credential login, which replaces it")
            }
            Source::File(path) => (
                read_file("client secret", path, MAX_SECRET)?,
                "put the secret alone on the first line of the file, at most 8 KiB of printable ASCII",
            ),
            Source::Env(name) => {
                let value = host.var_os(name).filter(|value| !value.is_empty()).ok_or_else(|| {
                    Error::config(
                        format!("the variable {name}, which should hold the client secret, is not set"),
                        format!("set {name}, or name another client_secret in the profile"),
                    )
                })?;
                (value.into_encoded_bytes(), "set the variable to the secret and nothing else")
            }
            Source::Command(argv) => (
                run(argv, host, deadline)?,
                "make the command print the secret on one line of standard output and nothing else, at most 8 KiB of \
                 printable ASCII",
            ),
        };
        let secret = Secret::new(&bytes, MAX_SECRET)
            .map_err(|fault| Error::config(format!("the client secret from {self} {fault}; it was not sent"), hint))?;
        Ok((secret, deadline))
    }
}

/// Reads the client assertion (RFC 7523 §2.2), a JWT that another program renews in its file.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config), as for a secret file.
pub fn read_assertion(path: &Path) -> Result<Secret> {
    let bytes = read_file("client assertion", path, MAX_ASSERTION)?;
    let secret = Secret::new(&bytes, MAX_ASSERTION).map_err(|fault| {
        Error::config(
            format!("the client assertion in {} {fault}; it was not sent", path.display()),
            "point client_assertion at a file that holds one JWT",
        )
    })?;
    let jwt = secret.expose();
    let shaped = jwt.split('.').count() == 3
        && jwt.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if !shaped {
        return Err(Error::config(
            format!("the client assertion in {} is not a JWT; it was not sent", path.display()),
            "point client_assertion at a file that holds one JWT, such as a projected service-account token",
        ));
    }
    Ok(secret)
}

/// Reads a small file that holds `what`.
///
/// Links are followed, because Kubernetes mounts secrets through them. A file that all users may write is
/// refused.
fn read_file(what: &str, path: &Path, max: usize) -> Result<Vec<u8>> {
    files::read(path, Trust::NotWritableByAll, max as u64 + 2).map_err(|error| {
        Error::config(
            format!("cannot use the {what} file {}: {error}", path.display()),
            format!(
                "name an existing regular file that you may read, that not everybody may write, and that holds one line \
                 of at most {} KiB",
                max / 1024
            ),
        )
    })
}

/// The variables that a secret command inherits.
///
/// All others are removed, above all those with our own secrets. The author of a kubeconfig could set `PATH`
/// and the variables of the loader, which would then decide which program runs.
const KEPT: [&str; 7] = ["HOME", "USER", "LOGNAME", "LANG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "TZ"];

/// The `PATH` of a secret command.
const SAFE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a secret command. Returns its standard output: at most [`MAX_SECRET`] bytes and a line end.
fn run(argv: &[String], host: &dyn Host, deadline: Deadline) -> Result<Vec<u8>> {
    let Some((program, args)) = argv.split_first() else {
        return Err(Error::config("the secret command is empty", "give it an absolute path"));
    };
    let fault = |what: String| {
        Error::config(format!("the secret command {program} {what}"), format!("run it by hand to see why: {program}"))
    };
    let kept: Vec<(&str, OsString)> = KEPT.iter().filter_map(|name| Some((*name, host.var_os(name)?))).collect();
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(kept).env("PATH", SAFE_PATH).current_dir("/");
    let ended = process::run_in_group(&mut command, MAX_SECRET + 2, deadline);
    let (status, output) = ended.map_err(|error| match error {
        RunError::Start(error) => fault(format!("cannot be started: {error}")),
        RunError::Read(error) => fault(format!("could not be read: {error}")),
        RunError::TooMuch => fault("printed more than 8 KiB, the longest secret".to_owned()),
        RunError::Late => Error::config(
            format!("the secret command {program} did not end in time"),
            "see that it asks for nothing, such as a passphrase; a slow one can be given more time with timeout",
        ),
    })?;
    if !status.success() {
        return Err(fault(format!("failed ({status})")));
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_other_than_ascii_line_is_refused() {
        for (given, wanted) in [
            (&b"s3cret"[..], Ok("s3cret")),
            (b"s3cret\n", Ok("s3cret")),
            (b"s3cret\r\n", Ok("s3cret")),
            (b"with space and ~!@#$%^&*", Ok("with space and ~!@#$%^&*")),
            (b"", Err("is empty")),
            (b"\n", Err("is empty")),
            (b"a\nb", Err("has more than one line")),
            (b"a\n\n", Err("has more than one line")),
            (b"a\r", Err("has more than one line")),
            (b"a\n\r\n", Err("has more than one line")),
            (b"tab\there", Err("has a character that is not printable ASCII")),
            (b"nul\0", Err("has a character that is not printable ASCII")),
            ("café".as_bytes(), Err("has a character that is not printable ASCII")),
        ] {
            let secret = Secret::new(given, 64);
            assert_eq!(secret.as_ref().map(Secret::expose).map_err(|e| *e), wanted, "{given:?}");
        }
        assert_eq!(Secret::new(&[b'x'; 65], 64), Err("is too long"));
        assert!(Secret::new(&[b'x'; 64], 64).is_ok());
    }

    #[test]
    fn secret_debug_output_hides_the_text() {
        let secret = Secret::new(b"canary", 64);
        assert!(!format!("{secret:?}").contains("canary"));
    }
}
