//! The profile that the `RUNAI_*` variables define.

use std::borrow::Cow;

use super::draft::{Draft, InvalidValue, absolute};
use super::{ENVIRONMENT, Profile};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::secret::Source;

/// Name of the profile that the `RUNAI_*` variables define.
pub const ENV: &str = "env";

/// The variables of the profile [`ENV`], each with the key that it sets.
const VARIABLES: [(&str, &str); 8] = [
    ("RUNAI_URL", "url"),
    ("RUNAI_BASE_URL", "url"),
    ("RUNAI_REALM", "realm"),
    ("RUNAI_CLIENT_ID", "client_id"),
    ("RUNAI_API", "api"),
    ("RUNAI_TOKEN_URL", "token_url"),
    ("RUNAI_SCOPE", "scope"),
    ("RUNAI_CA_FILE", "ca_file"),
];

/// Returns the profile that the environment defines, or `None` if `RUNAI_CLIENT_ID` is not set.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) with the variable that is missing or wrong.
pub fn from_env(host: &dyn Host) -> Result<Option<Profile>> {
    if host.var("RUNAI_CLIENT_ID").is_none() {
        return Ok(None);
    }
    let mut draft = Draft::default();
    let wrong = |name: &str, fault: &str| {
        let verb = if host.var(name).is_some() { "correct" } else { "set" };
        Error::config(
            format!("{name} {fault}"),
            format!("{verb} {name}, or unset RUNAI_CLIENT_ID to use the configuration file"),
        )
    };
    // The error shows the value, unless it has an @ and so may hold a password.
    let refused = |name: &str, value: &str, fault: InvalidValue| {
        if value.contains('@') { wrong(name, &fault.what) } else { wrong(name, &format!("({value:?}) {}", fault.what)) }
    };
    for (name, key) in VARIABLES {
        let is_second = name == "RUNAI_BASE_URL" && host.var("RUNAI_URL").is_some();
        if let Some(value) = host.var(name).filter(|_| !is_second) {
            draft.text(key, Cow::Owned(value.clone())).map_err(|fault| refused(name, &value, fault))?;
        }
    }
    for host in host.var("RUNAI_HOSTS").unwrap_or_default().split(',').map(str::trim).filter(|host| !host.is_empty()) {
        draft.host(host).map_err(|fault| refused("RUNAI_HOSTS", host, fault))?;
    }
    const FILE: &str = "RUNAI_CLIENT_SECRET_FILE";
    let source = match (host.var("RUNAI_CLIENT_SECRET"), host.var(FILE)) {
        (Some(_), _) => Source::Env("RUNAI_CLIENT_SECRET".to_owned()),
        // The error does not show the value: a user may have set this variable to the secret itself.
        (None, Some(file)) => Source::File(absolute("", &file).map_err(|fault| wrong(FILE, &fault.what))?),
        (None, None) => {
            return Err(Error::config(
                "RUNAI_CLIENT_ID is set, but neither RUNAI_CLIENT_SECRET nor RUNAI_CLIENT_SECRET_FILE",
                "set one of them, or unset RUNAI_CLIENT_ID to use the configuration file",
            ));
        }
    };
    let profile = draft
        .secret(source)
        .and_then(|()| draft.finish(ENV, ENVIRONMENT))
        .map_err(|fault| wrong(variable(fault.key), &fault.what))?;
    Ok(Some(profile))
}

/// Returns the variable for `key`, for messages.
fn variable(key: &str) -> &str {
    match key {
        "client_secret" => "RUNAI_CLIENT_SECRET",
        _ => VARIABLES.iter().find(|(_, known)| *known == key).map_or(key, |(name, _)| name),
    }
}
