//! `status`: prints the state of all profiles, one line each. It calls no server and opens no keyring.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};
use serde::Serialize;

use crate::error::Result;
use crate::host::Host;
use crate::profile::{Profile, Proof};
use crate::reply::Reply;
use crate::session::{Choice, Session};
use crate::subcommand::{Context, Subcommand};
use crate::token::rfc3339;

/// The subcommand.
pub static SUBCOMMAND: Subcommand =
    Subcommand { name: "status", program_names: &[], grammar, run, usage_error: Reply::from };

fn grammar(command: Command) -> Command {
    command
        .about("Say what there is: profiles, where their secrets are, how long their tokens live, what failed last")
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .default_value("table")
                .value_parser(PossibleValuesParser::new(Format::NAMES))
                .help("How to print it"),
        )
        .after_help("Example: runai-credential status --format json")
}

/// The state of one profile.
#[derive(Serialize)]
struct Row {
    profile: String,
    default: bool,
    endpoint: String,
    api: &'static str,
    client_id: String,
    secret: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Cached>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failure: Option<LastFailure>,
}

/// A token in the cache that a call could return.
#[derive(Serialize)]
struct Cached {
    expires_in: u64,
    expires_at: Option<String>,
}

/// The last failure, unless a token came after it.
#[derive(Serialize)]
struct LastFailure {
    seconds_ago: u64,
    error: String,
    hint: String,
}

/// The format of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// A table for people.
    Table,
    /// A list of objects.
    Json,
}

names!(Format { Table: "table", Json: "json" });

/// Prints the state of all profiles.
fn run(matches: &ArgMatches, context: &Context<'_>) -> Result<Reply> {
    let (choice, host) = (&context.choice, context.host);
    let format = matches.get_one::<String>("format").and_then(|name| Format::named(name)).unwrap_or(Format::Table);
    let profiles = choice.profiles(host)?;
    // A call that names no profile uses this one. Several profiles without a default are no error here.
    let default = choice.profile(host).ok().map(|profile| profile.name);
    let rows: Vec<Row> =
        profiles.iter().map(|profile| row(profile, default.as_deref() == Some(&profile.name), choice, host)).collect();
    Ok(Reply::of(match format {
        Format::Json => serde_json::to_string_pretty(&rows).unwrap_or_default() + "\n",
        Format::Table => table(&rows),
    }))
}

fn row(profile: &Profile, default: bool, choice: &Choice, host: &dyn Host) -> Row {
    let session = Session::new(profile, host);
    let held = session.cached(choice.bearer(profile)).filter(|held| held.validity.is_some_and(|life| life.usable()));
    Row {
        profile: profile.name.clone(),
        default,
        endpoint: profile.endpoint.clone(),
        api: profile.api.name(),
        client_id: profile.client_id.clone(),
        secret: match &profile.proof {
            Proof::Secret(source, _) => source.to_string(),
            Proof::Assertion(path) => format!("the assertion in {}", path.display()),
        },
        token: held.and_then(|held| {
            let left = held.validity?.left();
            Some(Cached { expires_in: left.as_secs(), expires_at: held.expires_at().map(rfc3339) })
        }),
        last_failure: session.last_failure().map(|failure| LastFailure {
            seconds_ago: failure.age.as_secs(),
            error: failure.error.what,
            hint: failure.error.hint,
        }),
    }
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "There is no profile; runai-credential login makes one.\n".to_owned();
    }
    let mut lines = vec![["PROFILE", "CLIENT", "ENDPOINT", "SECRET", "TOKEN", "LAST FAILURE"].map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        [
            format!("{}{}", row.profile, if row.default { " *" } else { "" }),
            row.client_id.clone(),
            row.endpoint.clone(),
            row.secret.clone(),
            row.token.as_ref().map_or_else(|| "none".to_owned(), |token| format!("{} left", time(token.expires_in))),
            row.last_failure.as_ref().map_or_else(
                || "none".to_owned(),
                |failure| format!("{} ago: {}", time(failure.seconds_ago), failure.error),
            ),
        ]
    }));
    let mut widths = [0; 6];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let padded = |line: &[String; 6]| {
        let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    let mut text: String = lines.iter().map(padded).collect();
    if rows.iter().any(|row| row.default) && rows.len() > 1 {
        text.push_str("* is used by a call that names no profile\n");
    }
    text
}

/// Returns a duration for people, in seconds, minutes, hours or days.
fn time(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
