//! The command line: from arguments to a subcommand with its arguments. No I/O.
//!
//! There is one grammar. A call builds only the subcommand that it names: building all of them takes longer
//! than the rest of a call that finds its token in the cache. Help and errors see all subcommands
//! (docs/decisions/0003).

use std::borrow::Cow;
use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::commands::subcommands;
use crate::error::{Error, Kind};
use crate::session::Choice;
use crate::subcommand::{PROGRAM, Subcommand, USAGE_HINT};
use crate::token::Bearer;

/// The parsed command line.
pub struct Invocation {
    /// The subcommand.
    pub subcommand: &'static Subcommand,
    /// Its arguments. They are not dropped, see [`parse_matches`].
    matches: ManuallyDrop<ArgMatches>,
    /// The global options that choose a token.
    pub choice: Choice,
    /// `--verbose`.
    pub verbose: bool,
}

impl Invocation {
    /// Returns the arguments of the subcommand.
    pub fn arguments(&self) -> &ArgMatches {
        // The grammar requires a subcommand.
        self.matches.subcommand().map_or(&self.matches, |(_, arguments)| arguments)
    }
}

/// The reason why there is no subcommand to run.
#[derive(Debug)]
pub enum Stop {
    /// The user asked for help or the version: print this and succeed.
    Print(String),
    /// The arguments are wrong.
    Usage(Error),
}

/// Parses the arguments. The first one is the name of the program.
///
/// # Errors
/// [`Stop`], with the subcommand that the arguments name, if they name one.
pub fn parse(args: &[OsString]) -> Result<Invocation, (Stop, Option<&'static Subcommand>)> {
    let args = &*expand_alias(args);
    let named = named_subcommand(args);
    parse_matches(named, args).map_err(|stop| (stop, named))
}

fn parse_matches(named: Option<&'static Subcommand>, args: &[OsString]) -> Result<Invocation, Stop> {
    // Neither value is dropped. The process ends soon, and freeing their hundreds of small parts costs 7 % of
    // a hit (20 000 of 290 000 instructions, 2026-11-25).
    let mut grammar = ManuallyDrop::new(grammar(named));
    let matches = ManuallyDrop::new(grammar.try_get_matches_from_mut(args).map_err(stop)?);
    let name = matches.subcommand_name();
    let found = named.or_else(|| subcommands().find(|subcommand| Some(subcommand.name) == name));
    let subcommand = found.ok_or_else(|| Stop::Usage(usage("no command was given", USAGE_HINT)))?;
    // Global options may stand before or after the subcommand; clap reports them in both places.
    let text = |id: &str| matches.get_one::<String>(id).cloned();
    let choice = Choice {
        profile: text("profile"),
        config: matches.get_one::<PathBuf>("config").cloned(),
        bearer: text("bearer").and_then(|name| Bearer::named(&name)),
    };
    let verbose = matches.get_flag("verbose");
    Ok(Invocation { subcommand, matches, choice, verbose })
}

/// Inserts the subcommand that the program's name stands for. The name has no other effect.
fn expand_alias(args: &[OsString]) -> Cow<'_, [OsString]> {
    let Some(name) = args.first().and_then(|name| Path::new(name).file_stem()) else { return args.into() };
    let is_alias = |subcommand: &&Subcommand| subcommand.program_names.iter().any(|alias| name == *alias);
    match subcommands().find(is_alias) {
        None => args.into(),
        Some(subcommand) => {
            let mut args = args.to_vec();
            args.insert(1, subcommand.name.into());
            args.into()
        }
    }
}

/// Returns the subcommand that the arguments name, if only known global options stand before it.
///
/// For any other arguments the whole grammar is built, which can explain the error.
fn named_subcommand(args: &[OsString]) -> Option<&'static Subcommand> {
    let mut args = args.iter().skip(1);
    loop {
        match args.next()?.to_str()? {
            "--profile" | "--config" | "--bearer" => drop(args.next()?),
            "-v" | "--verbose" => {}
            arg if ["--profile=", "--config=", "--bearer="].iter().any(|option| arg.starts_with(option)) => {}
            arg => return subcommands().find(|subcommand| subcommand.name == arg),
        }
    }
}

/// Builds the grammar of the whole program.
pub fn whole_grammar() -> Command {
    grammar(None)
}

/// Builds the grammar with one subcommand, or with all of them.
fn grammar(only: Option<&Subcommand>) -> Command {
    let named = subcommands().filter(|subcommand| only.is_none_or(|only| only.name == subcommand.name));
    Command::new(PROGRAM)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Gets a Run:ai token and hands it to the tool that asks")
        .disable_help_subcommand(only.is_some())
        .subcommand_required(true)
        .arg(
            Arg::new("profile")
                .long("profile")
                .value_name("NAME")
                .global(true)
                .help("Use this profile of the configuration [env: RUNAI_PROFILE]"),
        )
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .global(true)
                .value_parser(clap::value_parser!(PathBuf))
                .help("Read this configuration file [env: RUNAI_CREDENTIAL_CONFIG]"),
        )
        .arg(
            Arg::new("bearer")
                .long("bearer")
                .value_name("TOKEN")
                .global(true)
                .value_parser(PossibleValuesParser::new(Bearer::NAMES))
                .help("Hand out this token of the server's answer"),
        )
        .arg(
            Arg::new("verbose")
                .long("verbose")
                .short('v')
                .global(true)
                .action(ArgAction::SetTrue)
                .help("Say each step on standard error, never a secret"),
        )
        .after_help(
            "Configuration: ~/.config/runai-credential/config.json, or the variables RUNAI_URL, RUNAI_CLIENT_ID, ...",
        )
        .subcommands(named.map(|subcommand| (subcommand.grammar)(Command::new(subcommand.name))))
}

/// Converts a result of clap into a text to print or a usage error.
fn stop(error: clap::Error) -> Stop {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Stop::Print(error.render().to_string());
    }
    let text = error.render().to_string();
    let what = text.lines().next().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(what);
    let suggested = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue]
        .into_iter()
        .find_map(|kind| error.get(kind));
    let hint = match (error.kind(), suggested) {
        (ErrorKind::MissingSubcommand, _) => return Stop::Usage(usage("no command was given", USAGE_HINT)),
        (_, Some(suggested)) => format!("did you mean {suggested}?"),
        _ => text
            .lines()
            .find_map(|line| line.trim().strip_prefix("[possible values: "))
            .map_or_else(|| USAGE_HINT.to_owned(), |values| format!("possible are {}", values.trim_end_matches(']'))),
    };
    Stop::Usage(usage(what, &hint))
}

fn usage(what: &str, hint: &str) -> Error {
    Error::new(Kind::Usage, what, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Invocation, String> {
        let args: Vec<OsString> = line.split(' ').filter(|arg| !arg.is_empty()).map(OsString::from).collect();
        parse(&args).map_err(|(stop, _)| match stop {
            Stop::Print(text) => text,
            Stop::Usage(error) => format!("{} / {}", error.what, error.hint),
        })
    }

    fn refused(line: &str) -> String {
        parsed(line).err().unwrap_or_default()
    }

    #[test]
    fn grammar_passes_clap_debug_assertions() {
        grammar(None).debug_assert();
    }

    #[test]
    fn global_option_on_either_side_counts() {
        for line in [
            "rc --profile p --bearer id_token -v kubectl",
            "rc kubectl --profile p --bearer id_token --verbose",
            "rc --profile=p kubectl --bearer=id_token -v",
        ] {
            let invocation = parsed(line).unwrap();
            let choice = Choice { profile: Some("p".to_owned()), config: None, bearer: Some(Bearer::IdToken) };
            assert_eq!(
                (invocation.subcommand.name, invocation.choice, invocation.verbose),
                ("kubectl", choice, true),
                "{line}"
            );
        }
    }

    #[test]
    fn program_name_picks_the_subcommand() {
        for (line, wanted) in [
            ("rc docker get", "docker"),
            ("/usr/bin/docker-credential-runai store", "docker"),
            ("docker-credential-runai --profile p erase", "docker"),
            ("git-credential-runai get", "git"),
            ("other-name token", "token"),
        ] {
            assert_eq!(parsed(line).map(|invocation| invocation.subcommand.name), Ok(wanted), "{line}");
        }
    }

    #[test]
    fn names_of_subcommands_and_programs_are_unique() {
        let mut names: Vec<&str> = subcommands()
            .flat_map(|subcommand| subcommand.program_names.iter().copied().chain([subcommand.name]))
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn only_the_named_subcommand_is_built() {
        let named = |line: &str| {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            named_subcommand(&args).map(|subcommand| subcommand.name)
        };
        assert_eq!(named("rc --profile token kubectl"), Some("kubectl"));
        assert_eq!(named("rc -v --config=/x token"), Some("token"));
        assert_eq!(named("rc --unknown token"), None);
        assert_eq!(named("rc tokn"), None);
        assert_eq!(named("rc"), None);
    }

    #[test]
    fn mistake_prints_one_line_and_remedy() {
        for (line, wanted) in [
            ("rc", "no command was given / runai-credential --help lists commands and options"),
            ("rc tokn", "unrecognized subcommand 'tokn' / did you mean token?"),
            ("rc token --fromat json", "unexpected argument '--fromat' found / did you mean --format?"),
            (
                "rc token --format yaml",
                "invalid value 'yaml' for '--format <FORMAT>' / possible are plain, json, header, curl, env, github-actions",
            ),
            (
                "rc token --min-validity 10",
                "invalid value '10' for '--min-validity <DURATION>': write it like 500ms, 90s, 10m or 2h / \
                 runai-credential --help lists commands and options",
            ),
            (
                "rc kubectl extra",
                "unexpected argument 'extra' found / runai-credential --help lists commands and options",
            ),
        ] {
            assert_eq!(refused(line), wanted, "{line}");
        }
    }

    #[test]
    fn subcommand_help_shows_an_example() {
        for name in subcommands().map(|subcommand| subcommand.name) {
            let help = refused(&format!("rc {name} --help"));
            assert!(help.contains("Example"), "{help}");
        }
    }

    #[test]
    fn help_lists_every_subcommand() {
        let help = refused("rc --help");
        assert!(subcommands().all(|subcommand| help.contains(subcommand.name)), "{help}");
        assert_eq!(refused("rc --version"), format!("runai-credential {}\n", env!("CARGO_PKG_VERSION")));
    }
}
