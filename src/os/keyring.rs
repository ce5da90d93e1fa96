//! The keyring of the operating system: where `login` puts a client secret and a fetch reads it.
//!
//! An entry is bound to all that decides who gets to see the secret: the token endpoint, the client id, and the roots of
//! trust that a profile adds. Another configuration that names the same client and endpoint but another `ca_file` finds
//! nothing. The attributes on Linux are those that `secret-tool` shows: `service` and `username`.
//!
//! A keyring may hang in a hundred ways (a daemon that is stopped, a bus that is mute, a prompt that nobody sees), and
//! none of the libraries bounds them all. So each access runs in a thread that is abandoned when its time is up.

use std::time::Duration;

use super::{files, folders};
use crate::error::{Error, Result};
use crate::host::{Deadline, Host, run_until};

/// How long an access may take where nobody can answer a prompt. The call as a whole stays within three seconds.
const ALONE: Duration = Duration::from_millis(2500);

/// How long an access may take where somebody sits at a terminal or a display: time to type the keyring's password.
const ATTENDED: Duration = Duration::from_secs(60);

/// The place of one secret in the keyring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    service: String,
    username: String,
}

impl Entry {
    /// The place for this client of this endpoint, if the profile trusts these roots beside the system's.
    pub fn new(endpoint: &str, client_id: &str, roots: Option<&str>) -> Entry {
        let roots = roots.map_or_else(String::new, |roots| format!(" {roots}"));
        Entry { service: format!("runai-credential {endpoint}{roots}"), username: client_id.to_owned() }
    }

    /// Reads the secret. Beside it comes the deadline for what follows: later than `deadline` by the time that somebody
    /// needed to unlock the keyring, who `interactive` only where a call has nothing to go on with.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config), as for all of these.
    pub fn read(&self, interactive: bool, host: &dyn Host, deadline: Deadline) -> Result<(Vec<u8>, Deadline)> {
        let patience = Patience::of(interactive, host, deadline);
        let secret = self.access(patience, host, Act::Read)?;
        let deadline = if patience.is_attended { deadline.later_by(patience.spent()) } else { deadline };
        Ok((secret, deadline))
    }

    /// Keeps a secret, in the place of the one that is there.
    ///
    /// # Errors
    /// As for [`Entry::read`].
    pub fn store(&self, secret: &str, host: &dyn Host) -> Result<()> {
        let patience = Patience::of(true, host, Deadline::after(ATTENDED));
        self.access(patience, host, Act::Store(secret.to_owned())).map(drop)
    }

    /// Removes the secret; whether there was one.
    ///
    /// # Errors
    /// As for [`Entry::read`].
    pub fn remove(&self, host: &dyn Host) -> Result<bool> {
        let patience = Patience::of(true, host, Deadline::after(ATTENDED));
        Ok(!self.access(patience, host, Act::Remove)?.is_empty())
    }

    /// Does something with the entry in a thread of its own, within the time there is for it.
    fn access(&self, patience: Patience, host: &dyn Host, act: Act) -> Result<Vec<u8>> {
        let done = if matches!(act, Act::Read) { "read" } else { "written" };
        check_bus(host)?;
        let Entry { service, username } = self.clone();
        let answer = run_until(patience.deadline, "keyring", move || perform(&service, &username, act));
        let answer =
            answer.map_err(|error| Error::config(format!("the keyring cannot be {done}: {error}"), "try again"))?;
        match answer {
            Some(answer) => answer.map_err(|fault| self.explain(&fault, done)),
            None => Err(Error::config(
                format!("the keyring cannot be {done}: it did not answer within {} s", patience.seconds()),
                match patience.is_attended {
                    true => "answer its prompt, or see whether the keyring's daemon hangs",
                    false => {
                        "unlock it, or see whether its daemon hangs; where nobody can unlock a keyring, keep the secret \
                         in a file or a variable"
                    }
                },
            )),
        }
    }

    /// What a fault means for whoever has to mend it.
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
                format!("the keyring cannot be {done}: it is locked, and nobody unlocked it"),
                "unlock it, for example by logging in at the desktop; where nobody can, keep the secret in a file or a \
                 variable",
            ),
            KeyringError::System(why) if is_without_keyring(why) => {
                Error::config(format!("the keyring cannot be {done}: no keyring answers on the session bus"), ELSEWHERE)
            }
            KeyringError::System(why) => Error::config(format!("the keyring cannot be {done}: {why}"), ELSEWHERE),
        }
    }
}

/// Whether D-Bus says that nobody has the name of the Secret Service.
fn is_without_keyring(why: &str) -> bool {
    why.contains("ServiceUnknown") || why.contains("not provided by any .service")
}

/// What is done with an entry.
enum Act {
    /// Answers the secret.
    Read,
    /// Keeps this one.
    Store(String),
    /// Answers something if there was a secret to remove.
    Remove,
}

/// What may go wrong, whatever keyring it is.
enum KeyringError {
    Missing,
    Ambiguous(usize),
    Locked,
    System(String),
}

/// Asks the system's keyring, for as long as that takes.
fn perform(service: &str, username: &str, act: Act) -> Result<Vec<u8>, KeyringError> {
    let entry = keyring::Entry::new(service, username).map_err(fault)?;
    match act {
        Act::Read => entry.get_secret().map_err(fault),
        Act::Store(secret) => entry.set_password(&secret).map(|()| Vec::new()).map_err(fault),
        Act::Remove => match entry.delete_credential() {
            Err(keyring::Error::NoEntry) => Ok(Vec::new()),
            removed => removed.map(|()| vec![1]).map_err(fault),
        },
    }
}

/// The library's error in our words; never by its `Debug`, which holds the secret in some cases.
fn fault(error: keyring::Error) -> KeyringError {
    match error {
        keyring::Error::NoEntry => KeyringError::Missing,
        keyring::Error::Ambiguous(several) => KeyringError::Ambiguous(several.len()),
        keyring::Error::NoStorageAccess(_) => KeyringError::Locked,
        keyring::Error::PlatformFailure(cause) => KeyringError::System(cause.to_string()),
        _ => KeyringError::System("it holds something that is no secret of ours".to_owned()),
    }
}

/// How long an access may take.
#[derive(Clone, Copy)]
struct Patience {
    is_attended: bool,
    most: Duration,
    deadline: Deadline,
}

impl Patience {
    fn of(interactive: bool, host: &dyn Host, deadline: Deadline) -> Patience {
        let is_attended = interactive && is_attended(host);
        // Somebody who types is not bound by the time that a server has.
        let most = if is_attended { ATTENDED } else { deadline.left().min(ALONE) };
        Patience { is_attended, most, deadline: Deadline::after(most) }
    }

    fn spent(self) -> Duration {
        self.most.saturating_sub(self.deadline.left())
    }

    fn seconds(self) -> f64 {
        (self.most.as_secs_f64() * 10.0).round() / 10.0
    }
}

/// Whether somebody is there who could answer a prompt.
fn is_attended(host: &dyn Host) -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY"].into_iter().any(|name| host.var(name).is_some()) || host.terminal().is_some()
}

/// Refuses a session bus that is not a socket: the other kinds of address start programs (`unixexec:`, `autolaunch:`) or
/// go over the network, and whoever wrote a kubeconfig can set the variable. Without it libdbus looks for a socket in
/// `XDG_RUNTIME_DIR`, and would start a bus of its own if there is none.
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
                "the keyring was not asked: DBUS_SESSION_BUS_ADDRESS is not the address of a socket (unix:…)",
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
