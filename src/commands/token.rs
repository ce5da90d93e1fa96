//! `token`: prints the token in a form that a script can use.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde::Serialize;

use crate::broker::{Exclude, TokenRequirements};
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::profile;
use crate::reply::{Append, Reply};
use crate::session::Session;
use crate::subcommand::{Context, Subcommand};
use crate::token::{LiveToken, MAX_TOKEN, Token, rfc3339};

/// The subcommand.
pub static SUBCOMMAND: Subcommand =
    Subcommand { name: "token", program_names: &[], grammar, run, usage_error: Reply::from };

fn grammar(command: Command) -> Command {
    command
        .about("Print the bearer token")
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .value_parser(PossibleValuesParser::new(Format::NAMES))
                .help("How to print it [default: plain]"),
        )
        .arg(Arg::new("no-newline").short('n').action(ArgAction::SetTrue).help("Print no newline at the end"))
        .arg(
            Arg::new("refresh")
                .long("refresh")
                .action(ArgAction::SetTrue)
                .help("Get another token than the cached one"),
        )
        .arg(
            Arg::new("rejected-stdin")
                .long("rejected-stdin")
                .conflicts_with("refresh")
                .action(ArgAction::SetTrue)
                .help("Get another token than the one on standard input, which a server refused"),
        )
        .arg(
            Arg::new("min-validity")
                .long("min-validity")
                .value_name("DURATION")
                .value_parser(|text: &str| profile::duration(text).ok_or("write it like 500ms, 90s, 10m or 2h"))
                .help("Fail (exit 7) unless the token lives this long, such as 10m"),
        )
        .arg(
            Arg::new("url")
                .long("url")
                .value_name("URL")
                .help("Print the token that may go to this URL, or fail (exit 6)"),
        )
        .after_help("Example: runai-credential token --format header | curl -H @- https://app.run.ai/api/v1/...")
}

/// Reads the options.
fn options(matches: &ArgMatches) -> Options {
    let text = |id: &str| matches.get_one::<String>(id).cloned();
    Options {
        format: text("format").and_then(|name| Format::named(&name)).unwrap_or(Format::Plain),
        newline: !matches.get_flag("no-newline"),
        unwanted: if matches.get_flag("rejected-stdin") {
            Some(Unwanted::OnStdin)
        } else {
            matches.get_flag("refresh").then_some(Unwanted::Cached)
        },
        min_validity: matches.get_one::<Duration>("min-validity").copied(),
        url: text("url"),
    }
}

/// The options of `token`.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    /// `--format`.
    format: Format,
    /// Whether a newline ends the output; `-n` omits it.
    newline: bool,
    /// `--refresh` or `--rejected-stdin`.
    unwanted: Option<Unwanted>,
    /// `--min-validity`.
    min_validity: Option<Duration>,
    /// `--url`: the URL to which the caller sends the token.
    url: Option<String>,
}

/// A token that the caller does not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unwanted {
    /// The token in the cache.
    Cached,
    /// The token on standard input.
    OnStdin,
}

/// How the token is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// The token alone.
    Plain,
    /// A JSON object with the token and its times.
    Json,
    /// A header line, for `curl -H @-`.
    Header,
    /// A line of a curl configuration, for `curl -K -`.
    Curl,
    /// An assignment for a POSIX shell. fish accepts it, too.
    Env,
    /// A command that masks the token in the log of a GitHub Actions job, and a variable for its later steps.
    GithubActions,
}

names!(Format {
    Plain: "plain",
    Json: "json",
    Header: "header",
    Curl: "curl",
    Env: "env",
    GithubActions: "github-actions"
});

/// Preferred remaining validity if the script requires none: one minute for its work, and the margin of 10 s.
const SCRIPT_VALIDITY: Duration = Duration::from_secs(70);

/// Prints the token.
fn run(matches: &ArgMatches, context: &Context<'_>) -> Result<Reply> {
    let options = options(matches);
    let (choice, host) = (&context.choice, context.host);
    // Checked before the fetch, because a token that cannot be delivered is useless.
    let then = if options.format == Format::GithubActions { Some(job_environment(host)?) } else { None };
    let exclude = match options.unwanted {
        None => None,
        Some(Unwanted::Cached) => Some(Exclude::Cached),
        Some(Unwanted::OnStdin) => Some(Exclude::This(rejected(host)?)),
    };
    let profile = match &options.url {
        None => choice.profile(host)?,
        Some(url) => choice.profile_for_url(url, host)?,
    };
    let want = TokenRequirements {
        bearer: choice.bearer(&profile),
        preferred_validity: if options.min_validity.is_some() { Duration::ZERO } else { SCRIPT_VALIDITY },
        min_validity: options.min_validity,
        exclude,
        detect_rejection: false,
    };
    let held = Session::new(&profile, host).token(&want)?;
    let stdout = answer(&held, options.format, options.newline);
    let then = then.map(|path| Append { path, line: format!("{VARIABLE}={}\n", held.token.expose()) });
    Ok(Reply { stdout, then, ..Reply::default() })
}

/// The variable that the formats `env` and `github-actions` set.
const VARIABLE: &str = "RUNAI_TOKEN";

/// Returns the file by which a step of a GitHub Actions job sets variables for later steps.
///
/// Source: GitHub's documentation, "Workflow commands for GitHub Actions".
///
/// # Errors
/// [`Kind::Usage`] outside of such a job. The mask is a line with the token on standard output, and only a
/// runner removes it from the log.
fn job_environment(host: &dyn Host) -> Result<PathBuf> {
    let wrong = |what: &str| {
        Error::new(
            Kind::Usage,
            format!("--format github-actions works in a step of a GitHub Actions job only: {what}"),
            "elsewhere use --format env, or another one of token --help",
        )
    };
    if host.var("GITHUB_ACTIONS").as_deref() != Some("true") {
        return Err(wrong("GITHUB_ACTIONS is not true"));
    }
    let path = host.dir("GITHUB_ENV").ok_or_else(|| wrong("GITHUB_ENV names no file"))?;
    if !path.is_file() {
        return Err(wrong("the file of GITHUB_ENV is not there"));
    }
    Ok(path)
}

/// Reads the token that a server rejected from standard input.
fn rejected(host: &dyn Host) -> Result<Token> {
    let wrong = |what: String| {
        Error::new(Kind::Usage, what, "pipe the refused token to --rejected-stdin, for example from a variable")
    };
    let bytes = host
        .read_stdin(MAX_TOKEN + 2)
        .map_err(|error| wrong(format!("the refused token on standard input cannot be read: {error}")))?;
    let text = String::from_utf8_lossy(&bytes);
    Token::new(text.trim_end_matches(['\r', '\n']))
        .map_err(|fault| wrong(format!("the refused token on standard input {fault}")))
}

/// The JSON answer: the names of RFC 6749 §5.1, and the expiry in the two forms that scripts compare.
#[derive(Serialize)]
struct Answer<'a> {
    access_token: &'a str,
    token_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_on: Option<i64>,
}

/// Returns the token in the given format. All times are the true ones, without a margin.
///
/// Without `newline` the output has no line end, for tools that fail on one.
fn answer(held: &LiveToken, format: Format, newline: bool) -> Vec<u8> {
    let token = held.token.expose();
    let mut text = match format {
        Format::Plain => token.to_owned(),
        Format::Header => format!("Authorization: Bearer {token}"),
        // A token has no character with a meaning between these quotation marks.
        Format::Curl => format!("header = \"Authorization: Bearer {token}\""),
        // Quoted, because a shell would expand a tilde at the beginning.
        Format::Env => format!("export {VARIABLE}='{token}'"),
        // One line. The runner reads it before the variable is set.
        Format::GithubActions => return format!("::add-mask::{token}\n").into_bytes(),
        Format::Json => {
            let answer = Answer {
                access_token: token,
                token_type: "Bearer",
                expires_in: held.validity.map(|life| life.left().as_secs()),
                expires_at: held.expires_at().map(rfc3339),
                expires_on: held.expires_at(),
            };
            serde_json::to_string(&answer).unwrap_or_default()
        }
    };
    if newline {
        text.push('\n');
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Moment;
    use crate::token::{Token, Validity};
    use std::time::Duration;

    #[test]
    fn answer_has_the_requested_format() {
        let mut held = LiveToken {
            token: Token::new("t0k.en").unwrap(),
            validity: Some(Validity { lifetime: Duration::from_secs(3600), age: Duration::from_secs(600) }),
            now: Moment { unix_ms: 1_795_291_200_000, boot_ms: 0 },
            is_new: false,
        };
        let text = |held: &LiveToken, format, newline| String::from_utf8(answer(held, format, newline)).unwrap();
        assert_eq!(text(&held, Format::Plain, true), "t0k.en\n");
        assert_eq!(text(&held, Format::Plain, false), "t0k.en");
        assert_eq!(text(&held, Format::Header, true), "Authorization: Bearer t0k.en\n");
        assert_eq!(text(&held, Format::Curl, true), "header = \"Authorization: Bearer t0k.en\"\n");
        assert_eq!(text(&held, Format::Env, true), "export RUNAI_TOKEN='t0k.en'\n");
        assert_eq!(text(&held, Format::GithubActions, false), "::add-mask::t0k.en\n");
        assert_eq!(
            text(&held, Format::Json, true),
            "{\"access_token\":\"t0k.en\",\"token_type\":\"Bearer\",\"expires_in\":3000,\
             \"expires_at\":\"2026-11-21T20:50:00Z\",\"expires_on\":1795294200}\n"
        );
        held.validity = None;
        assert_eq!(text(&held, Format::Json, true), "{\"access_token\":\"t0k.en\",\"token_type\":\"Bearer\"}\n");
    }

    #[test]
    fn options_are_read_from_the_command_line() {
        let of = |line: &str| {
            let command = grammar(Command::new("token"));
            command.try_get_matches_from(line.split(' ')).map(|matches| options(&matches)).ok()
        };
        let token = |format, newline, unwanted, min_validity| {
            Some(Options { format, newline, unwanted, min_validity, url: None })
        };
        assert_eq!(of("token"), token(Format::Plain, true, None, None));
        assert_eq!(of("token --format json --refresh"), token(Format::Json, true, Some(Unwanted::Cached), None));
        assert_eq!(of("token --rejected-stdin"), token(Format::Plain, true, Some(Unwanted::OnStdin), None));
        assert_eq!(of("token --rejected-stdin --refresh"), None);
        let ten_minutes = Some(Duration::from_secs(600));
        assert_eq!(of("token -n --min-validity 10m --format=header"), token(Format::Header, false, None, ten_minutes));
    }
}
