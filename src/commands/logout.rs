//! `logout`: removes the secret, the cached token and the profile that `login` made.

use clap::{ArgMatches, Command};

use super::login::is_shared;
use super::secret_file;
use crate::config::ConfigFile;
use crate::error::{Error, Result};
use crate::profile::Proof;
use crate::reply::Reply;
use crate::secret::Source;
use crate::session::Session;
use crate::subcommand::{Context, Subcommand};

/// The subcommand.
pub static SUBCOMMAND: Subcommand =
    Subcommand { name: "logout", program_names: &[], grammar, run, usage_error: Reply::from };

fn grammar(command: Command) -> Command {
    command
        .about("Undo login: remove the secret, the cached token and the profile")
        .after_help("Example: runai-credential logout --profile prod")
}

/// Removes the secret, the cached token and the profile.
fn run(_: &ArgMatches, context: &Context<'_>) -> Result<Reply> {
    let (choice, host) = (&context.choice, context.host);
    let file = ConfigFile::open(choice.config.as_deref(), host)?;
    let (profiles, default) = file.profiles()?;
    let name = choice.profile.clone().or_else(|| host.var("RUNAI_PROFILE")).or(default).ok_or_else(|| {
        Error::config(
            format!("{} has no profile, or several and no default", file.path().display()),
            "name the one to log out of with --profile",
        )
    })?;
    let profile = match profiles.into_iter().find(|profile| profile.name == name) {
        Some(profile) => profile,
        None => file.profile(&name)?,
    };
    let file = file.without(&name)?;
    let mut report = String::new();
    match &profile.proof {
        Proof::Secret(Source::Keyring, _) if is_shared(&file, &profile, host)? => {
            report += "  secret: stays in the keyring, another profile uses it\n";
        }
        Proof::Secret(Source::Keyring, _) => {
            let removed = profile.keyring_entry(host).remove(host)?;
            report +=
                if removed { "  secret: removed from the keyring\n" } else { "  secret: was not in the keyring\n" };
        }
        Proof::Secret(Source::File(path), _) if *path == secret_file::path(&file, &name) => {
            match secret_file::other_reader(path, &name, &file.profiles()?.0) {
                Some(other) => {
                    report += &format!("  secret: {} stays, profile {:?} reads it\n", path.display(), other.name);
                }
                None => match std::fs::remove_file(path) {
                    Ok(()) => report += &format!("  secret: removed {}\n", path.display()),
                    Err(error) => report += &format!("  secret: {} stays: {error}\n", path.display()),
                },
            }
        }
        Proof::Secret(source, _) => report += &format!("  secret: stays where it is, in {source}\n"),
        Proof::Assertion(path) => report += &format!("  assertion: stays where it is, in {}\n", path.display()),
    }
    Session::new(&profile, host).clear();
    file.save()?;
    report += &format!("  config: the profile is gone from {}\n", file.path().display());
    Ok(Reply::of(format!(
        "Logged out of profile {name}. A token that was handed out stays good until it ends.\n{report}"
    )))
}
