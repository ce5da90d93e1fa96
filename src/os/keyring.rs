//! The keyring of the operating system. `login` writes a client secret to it, and a fetch reads it.
//!
//! An entry is bound to everything that decides which server receives the secret: the token endpoint, the
//! client id, and the certificates that a profile adds. A configuration with the same client and endpoint but
//! another `ca_file` finds no entry. On Linux the attributes are the ones that `secret-tool` shows: `service`
//! and `username`.
//!
//! A keyring may hang: its daemon is stopped, the bus does not answer, or the user does not see its prompt.
//! No library limits the time of all these cases. So each access runs in a thread, and the thread is
//! abandoned after the time limit (docs/decisions/0010).

use std::time::Duration;

use super::{files, folders};
use crate::error::{Error, Result};
use crate::host::{Deadline, Host, run_until};

/// The time limit of an access if no user can answer a prompt.
///
/// It keeps the whole call within three seconds.
const UNATTENDED_TIMEOUT: Duration = Duration::from_millis(2500);

/// The time limit of an access if a user is at a terminal or a display.
///
/// It gives the user time to type the password of the keyring.
const ATTENDED_TIMEOUT: Duration = Duration::from_secs(60);

/// The keyring entry of one secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    service: String,
    username: String,
}

impl Entry {
    /// Returns the entry of this client at this endpoint.
    ///
    /// `roots` are the certificates that the profile trusts in addition to the system's.
    pub fn new(endpoint: &str, client_id: &str, roots: Option<&str>) -> Entry {
        let roots = roots.map_or_else(String::new, |roots| format!(" {roots}"));
        Entry { service: format!("runai-credential {endpoint}{roots}"), username: client_id.to_owned() }
    }

    /// Reads the secret. Returns it with the deadline for the request.
    ///
    /// If a user may answer an unlock prompt, the time of the access is added to `deadline`, so that the
    /// prompt does not shorten the request. A refresh sets `interactive` to false: it has a valid token and
    /// does not wait for a prompt.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if the entry is missing or ambiguous, or the keyring is
    /// locked,
    /// fails or does not answer in time.
    pub fn read(&self, interactive: bool, host: &dyn Host, deadline: Deadline) -> Result<(Vec<u8>, Deadline)> {
        let patience = Patience::of(interactive, host, deadline);
        let secret = self.access(patience, host, Operation::Read)?;
        let deadline = if patience.is_attended { deadline.later_by(patience.spent()) } else { deadline };
        Ok((secret, deadline))
    }

    /// Stores a secret, and replaces the one in the entry.
    ///
    /// # Errors
    /// As for [`Entry::read`].
    pub fn store(&self, secret: &str, host: &dyn Host) -> Result<()> {
        let patience = Patience::of(true, host, Deadline::after(ATTENDED_TIMEOUT));
        self.access(patience, host, Operation::Store(secret.to_owned())).map(drop)
    }

    /// Removes the secret. Returns whether there was one.
    ///
    /// # Errors
    /// As for [`Entry::read`].
    pub fn remove(&self, host: &dyn Host) -> Result<bool> {
        let patience = Patience::of(true, host, Deadline::after(ATTENDED_TIMEOUT));
        Ok(!self.access(patience, host, Operation::Remove)?.is_empty())
    }

    /// Runs one operation on the entry in a thread of its own, within the time limit.
    fn access(&self, patience: Patience, host: &dyn Host, operation: Operation) -> Result<Vec<u8>> {
        let done = if matches!(operation, Operation::Read) { "read" } else { "written" };
        check_bus(host)?;
        let Entry { service, username } = self.clone();
        let answer = run_until(patience.deadline, "keyring", move || perform(&service, &username, operation));
        let answer =
            answer.map_err(|error| Error::config(format!("the keyring cannot be {done}: {error}"), "try again"))?;
        match answer {
            Some(answer) => answer.map_err(|fault| self.explain(&fault, done)),
            None => Err(Error::config(
                format!("the keyring cannot be {done}: it did not answer within {} s", patience.seconds()),
                match patience.is_attended {
                    true => "answer its prompt, or see whether the keyring's daemon hangs",
                    false => "unlock it, see whether its daemon hangs, or keep the secret in a file or a variable",
                },
            )),
        }
    }

    /// Returns the error with its hint for the user.
    fn explain(&self, fault: &KeyringError, done: &str) -> Error {
        const ELSEWHERE: &str = "see whether a keyring runs (gnome-keyring, KWallet, KeePassXC), or keep the secret in a file or a variable";
        let Entry { service, username } = self;
        let whose = format!("{username} ({service})");
        match fault {
            KeyringError::Missing => Error::config(
                format!("the keyring has no secret for {whose}"),
                "run runai-credential login, which puts it there",
            ),
            KeyringError::Ambiguous(count) => Error::config(
                format!("the keyring has {count} secrets for {whose}"),
                "remove all but one with the keyring's own program, such as seahorse or secret-tool",
            ),
            KeyringError::Locked => Error::config(
                format!("the keyring cannot be {done}: it is locked, and the user did not unlock it"),
                "unlock it, for example by logging in at the desktop, or keep the secret in a file or a variable",
            ),
            KeyringError::System(why) if is_without_keyring(why) => {
                Error::config(format!("the keyring cannot be {done}: no keyring answers on the session bus"), ELSEWHERE)
            }
            KeyringError::System(why) => Error::config(format!("the keyring cannot be {done}: {why}"), ELSEWHERE),
        }
    }
}

/// Whether D-Bus reports that no process owns the name of the Secret Service.
fn is_without_keyring(why: &str) -> bool {
    why.contains("ServiceUnknown") || why.contains("not provided by any .service")
}

/// An operation on an entry.
enum Operation {
    /// Returns the secret.
    Read,
    /// Stores this secret.
    Store(String),
    /// Returns a byte if there was a secret to remove, otherwise none.
    Remove,
}

/// The failures of all kinds of keyring.
enum KeyringError {
    Missing,
    Ambiguous(usize),
    Locked,
    System(String),
}

/// Runs one operation without a time limit.
fn perform(service: &str, username: &str, operation: Operation) -> Result<Vec<u8>, KeyringError> {
    let entry = keyring::Entry::new(service, username).map_err(fault)?;
    match operation {
        Operation::Read => entry.get_secret().map_err(fault),
        Operation::Store(secret) => entry.set_password(&secret).map(|()| Vec::new()).map_err(fault),
        Operation::Remove => match entry.delete_credential() {
            Err(keyring::Error::NoEntry) => Ok(Vec::new()),
            removed => removed.map(|()| vec![1]).map_err(fault),
        },
    }
}

/// Converts the library's error. Never uses its `Debug`, which contains the secret in some cases.
fn fault(error: keyring::Error) -> KeyringError {
    match error {
        keyring::Error::NoEntry => KeyringError::Missing,
        keyring::Error::Ambiguous(several) => KeyringError::Ambiguous(several.len()),
        keyring::Error::NoStorageAccess(_) => KeyringError::Locked,
        keyring::Error::PlatformFailure(cause) => KeyringError::System(cause.to_string()),
        _ => KeyringError::System("it refuses the entry or the secret as invalid".to_owned()),
    }
}

/// The time limit of one access.
#[derive(Clone, Copy)]
struct Patience {
    is_attended: bool,
    most: Duration,
    deadline: Deadline,
}

impl Patience {
    fn of(interactive: bool, host: &dyn Host, deadline: Deadline) -> Patience {
        let is_attended = interactive && is_attended(host);
        // While a user types, the time limit of the request does not count.
        let most = if is_attended { ATTENDED_TIMEOUT } else { deadline.left().min(UNATTENDED_TIMEOUT) };
        Patience { is_attended, most, deadline: Deadline::after(most) }
    }

    fn spent(self) -> Duration {
        self.most.saturating_sub(self.deadline.left())
    }

    fn seconds(self) -> f64 {
        (self.most.as_secs_f64() * 10.0).round() / 10.0
    }
}

/// Whether a user may be there to answer a prompt.
fn is_attended(host: &dyn Host) -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY"].into_iter().any(|name| host.var(name).is_some()) || host.terminal().is_some()
}

/// Refuses a session bus whose address is not a socket.
///
/// The other kinds of address start programs (`unixexec:`, `autolaunch:`) or go over the network, and the
/// author of a kubeconfig can set the variable. Without the variable, libdbus looks for a socket in
/// `XDG_RUNTIME_DIR`. It starts a bus of its own if there is none, so a missing socket is an error here.
///
/// Source: D-Bus specification, "Server Addresses"; `dbus-sysdeps-unix.c`.
#[cfg(target_os = "linux")]
fn check_bus(host: &dyn Host) -> Result<()> {
    const HINT: &str =
        "run in a session with a keyring (dbus-run-session makes one), or keep the secret in a file or a variable";
    if let Some(addresses) = host.var_os("DBUS_SESSION_BUS_ADDRESS").filter(|value| !value.is_empty()) {
        let addresses = addresses.to_string_lossy();
        if !addresses.split(';').filter(|address| !address.is_empty()).all(|address| address.starts_with("unix:")) {
            return Err(Error::config(
                "the keyring was not opened: DBUS_SESSION_BUS_ADDRESS is not the address of a socket (unix:…)",
                HINT,
            ));
        }
        return Ok(());
    }
    let socket = folders::runtime(host).map(|dir| dir.join("bus"));
    match socket.is_some_and(|socket| files::is_own_socket(&socket)) {
        true => Ok(()),
        false => Err(Error::config("there is no keyring: no session bus is running for this user here", HINT)),
    }
}

#[cfg(not(target_os = "linux"))]
fn check_bus(_: &dyn Host) -> Result<()> {
    Ok(())
}
