//! The command line: arguments in, what is asked out. No I/O.
//!
//! There is one grammar. Of the subcommands only the one that was named is built, because building all of them takes
//! longer than the whole rest of a call that finds its token in the cache; help and errors see them all.

use std::borrow::Cow;
use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::commands::exec;
use crate::commands::token::{self, Format, Unwanted};
use crate::commands::{doctor, login, setup, status};
use crate::error::{Error, Kind};
use crate::profile;
use crate::protocol::docker::Verb;
use crate::supply::Choice;
use crate::token::Bearer;

/// What somebody asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// The options that say which token.
    pub choice: Choice,
    /// `--verbose`.
    pub verbose: bool,
    /// The subcommand.
    pub job: Job,
}

/// A subcommand with its options.
#[derive(Debug, PartialEq, Eq)]
pub enum Job {
    /// `kubectl`.
    Kubectl,
    /// `git`, with what git wants done: any word, because git may come to know others.
    Git(String),
    /// `docker`.
    Docker(Verb),
    /// `get`.
    Get,
    /// `token`.
    Token(token::Options),
    /// `doctor`.
    Doctor(doctor::Options),
    /// `setup`.
    Setup(setup::Options),
    /// `login`.
    Login(login::Login),
    /// `logout`.
    Logout,
    /// `completions`.
    Completions(Shell),
    /// `man`, with the subcommand whose page is wanted, if not the program's own.
    Man(Option<String>),
    /// `status`.
    Status(status::Format),
    /// `exec`.
    Exec(exec::Options),
}

/// Why there is nothing to do.
#[derive(Debug)]
pub enum Stop {
    /// Help or version was asked for: print this and succeed.
    Print(String),
    /// The arguments make no sense.
    Wrong(Error),
    /// Those of `docker` make no sense, whose exit status for that is another.
    WrongDocker(Error),
}

/// Understands the arguments, the first of which is the name of the program.
///
/// # Errors
/// [`Stop`].
pub fn parse(args: &[OsString]) -> Result<Asked, Stop> {
    let args = &*spelled_out(args);
    let name = named_subcommand(args);
    understood(name, args).map_err(|stop| match stop {
        Stop::Wrong(error) if name == Some("docker") => Stop::WrongDocker(usage(&error.what, DOCKER_USAGE)),
        Stop::Wrong(error) if name == Some("exec") && error.hint == LIST => Stop::Wrong(usage(&error.what, EXEC_USAGE)),
        stop => stop,
    })
}

fn understood(name: Option<&str>, args: &[OsString]) -> Result<Asked, Stop> {
    // Neither is dropped: the process ends soon, and to free their hundreds of small parts costs 7 % of a hit (20 000 of
    // 290 000 instructions, 2026-11-25).
    let mut grammar = ManuallyDrop::new(grammar(name));
    let matches = ManuallyDrop::new(grammar.try_get_matches_from_mut(args).map_err(stop)?);
    let text = |matches: &ArgMatches, id: &str| matches.get_one::<String>(id).cloned();
    let job = match matches.subcommand() {
        Some(("docker", docker)) => {
            let verb = text(docker, "verb").and_then(|name| Verb::named(&name));
            // Alone, `-v` asks for the version, as it does of every such helper.
            let is_version = docker.get_flag("version") || docker.get_flag("verbose");
            let verb = verb.or(is_version.then_some(Verb::Version));
            Job::Docker(verb.ok_or_else(|| Stop::Wrong(usage("no command was given", LIST)))?)
        }
        Some(("kubectl", _)) => Job::Kubectl,
        Some(("git", git)) => Job::Git(text(git, "operation").unwrap_or_default()),
        Some(("get", _)) => Job::Get,
        Some(("token", token)) => Job::Token(token::Options {
            format: text(token, "format").and_then(|name| Format::named(&name)).unwrap_or(Format::Plain),
            newline: !token.get_flag("no-newline"),
            unwanted: if token.get_flag("rejected-stdin") {
                Some(Unwanted::OnStdin)
            } else {
                token.get_flag("refresh").then_some(Unwanted::Cached)
            },
            min_validity: token.get_one::<Duration>("min-validity").copied(),
            url: text(token, "url"),
        }),
        Some(("doctor", doctor)) => Job::Doctor(doctor::Options {
            json: text(doctor, "format").as_deref() == Some("json"),
            audience: text(doctor, "audience"),
        }),
        Some(("setup", options)) => Job::Setup(setup::Options {
            tool: text(options, "tool")
                .and_then(|name| setup::Tool::named(&name))
                .ok_or_else(|| Stop::Wrong(usage("no tool was named", LIST)))?,
            print: options.get_flag("print"),
            undo: options.get_flag("undo"),
            context: text(options, "context"),
        }),
        Some(("login", login)) => Job::Login(login_of(login)),
        Some(("completions", completions)) => match completions.get_one::<Shell>("shell") {
            Some(shell) => Job::Completions(*shell),
            None => return Err(Stop::Wrong(usage("no shell was named", LIST))),
        },
        Some(("man", man)) => Job::Man(text(man, "command")),
        Some(("logout", _)) => Job::Logout,
        Some(("status", status)) => Job::Status(
            text(status, "format").and_then(|name| status::Format::named(&name)).unwrap_or(status::Format::Table),
        ),
        Some(("exec", exec)) => {
            let command: Vec<OsString> = exec.get_many("command").into_iter().flatten().cloned().collect();
            if command.first().is_none_or(|program| program.is_empty()) {
                return Err(Stop::Wrong(usage("there is no program to run", EXEC_USAGE)));
            }
            Job::Exec(exec::Options { variable: text(exec, "env"), command })
        }
        _ => return Err(Stop::Wrong(usage("no command was given", LIST))),
    };
    // Global options may stand on either side of the subcommand; clap hands them to both.
    let choice = Choice {
        profile: text(&matches, "profile"),
        config: matches.get_one::<PathBuf>("config").cloned(),
        bearer: text(&matches, "bearer").and_then(|name| Bearer::named(&name)),
    };
    Ok(Asked { choice, verbose: matches.get_flag("verbose"), job })
}

/// The name of the program.
const PROGRAM: &str = "runai-credential";

/// The names that stand for the program and a subcommand. A name picks a dialect and nothing else.
const DIALECTS: [(&str, &str); 2] = [("docker-credential-runai", "docker"), ("git-credential-runai", "git")];

/// The arguments with the subcommand that the program's name stands for.
fn spelled_out(args: &[OsString]) -> Cow<'_, [OsString]> {
    let name = args.first().and_then(|name| Path::new(name).file_stem());
    match DIALECTS.iter().find(|(dialect, _)| name.is_some_and(|name| name == *dialect)) {
        None => args.into(),
        Some((_, subcommand)) => {
            let mut args = args.to_vec();
            args.insert(1, (*subcommand).into());
            args.into()
        }
    }
}

/// A subcommand's name and how it is built.
type Subcommand = (&'static str, fn() -> Command);

/// All subcommands, in the order of the help.
const SUBCOMMANDS: &[Subcommand] = &[
    ("kubectl", kubectl),
    ("git", git),
    ("docker", docker),
    ("get", get),
    ("token", token_grammar),
    ("login", login_grammar),
    ("logout", logout_grammar),
    ("status", status_grammar),
    ("doctor", doctor_grammar),
    ("setup", setup_grammar),
    ("completions", completions_grammar),
    ("man", man_grammar),
    ("exec", exec_grammar),
];

/// The subcommand that the arguments name, if the way to it is plain: only options that are known to be global may stand
/// before it. Anything else gets the whole grammar, which can say what is wrong.
fn named_subcommand(args: &[OsString]) -> Option<&'static str> {
    let mut args = args.iter().skip(1);
    loop {
        match args.next()?.to_str()? {
            "--profile" | "--config" | "--bearer" => drop(args.next()?),
            "-v" | "--verbose" => {}
            arg if ["--profile=", "--config=", "--bearer="].iter().any(|option| arg.starts_with(option)) => {}
            arg => return SUBCOMMANDS.iter().map(|(name, _)| *name).find(|name| *name == arg),
        }
    }
}

/// The grammar, with one subcommand or with all of them.
fn grammar(only: Option<&str>) -> Command {
    let subcommands = SUBCOMMANDS.iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
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
        .subcommands(subcommands.map(|(_, build)| build()))
}

const DOCKER_USAGE: &str = "usage: docker-credential-runai get|store|erase|list|version";

fn docker() -> Command {
    Command::new("docker")
        .about("Answer docker, skopeo and other clients of registries (docker-credential-helpers)")
        .arg(
            Arg::new("verb")
                .value_name("COMMAND")
                .value_parser(PossibleValuesParser::new(Verb::NAMES))
                .help("What is asked; the server comes on standard input"),
        )
        .arg(Arg::new("version").long("version").action(ArgAction::SetTrue).help("The same as version"))
        .after_help(
            "Called by docker under the name docker-credential-runai; see integrations/docker\n\
             Example: echo registry.acme.example | docker-credential-runai get",
        )
}

fn kubectl() -> Command {
    Command::new("kubectl").about("Answer kubectl, helm and other Kubernetes clients (ExecCredential)").after_help(
        "Called by kubectl from the exec entry of a kubeconfig; see integrations/kubectl\n\
             Example: runai-credential setup kubectl",
    )
}

fn git() -> Command {
    Command::new("git")
        .about("Answer git (credential helper)")
        .arg(
            Arg::new("operation")
                .value_name("OPERATION")
                .required(true)
                .help("What git wants: get, store, erase or capability; others are ignored"),
        )
        .after_help(
            "Called by git by the name git-credential-runai; see integrations/git\n\
             Example: printf 'protocol=https\\nhost=gitlab.acme.example\\n\\n' | runai-credential git get",
        )
}

fn get() -> Command {
    Command::new("get")
        .about("Answer Bazel and other HTTP tools (EngFlow credential helper)")
        .after_help(
            "Called by a tool that wants the headers for a URL. Example, for Bazel: --credential_helper=*.acme.example=/path/to/runai-credential",
        )
}

fn token_grammar() -> Command {
    Command::new("token")
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

/// The options of `login` that are a key of the profile: the key, the option, what stands for the value, and what it is.
const LOGIN_TEXTS: [(&str, &str, &str, &str); 8] = [
    ("url", "url", "URL", "The control plane: the address of Run:ai in the browser"),
    ("realm", "realm", "REALM", "The realm (Settings > General > Researcher Authentication)"),
    ("client_id", "client-id", "ID", "The application's name, or client id (Settings > Applications)"),
    ("api", "api", "API", "Which token endpoint; without it, the one that answers is found"),
    ("token_url", "token-url", "URL", "The endpoint itself, for api oauth2"),
    ("scope", "scope", "SCOPE", "Sent as it is"),
    ("ca_file", "ca-file", "FILE", "PEM certificates to trust beside the system's"),
    ("proxy", "proxy", "URL", "The proxy, or none"),
];

fn login_grammar() -> Command {
    let texts = LOGIN_TEXTS.map(|(key, long, value, help)| {
        let arg = Arg::new(key).long(long).value_name(value).help(help);
        if key == "api" { arg.value_parser(PossibleValuesParser::new(profile::Api::NAMES)) } else { arg }
    });
    Command::new("login")
        .about("Make a profile that works: ask for what is missing, get one token as proof, keep the secret in the keyring")
        .args(texts)
        .arg(
            Arg::new("host")
                .long("host")
                .value_name("ORIGIN")
                .action(ArgAction::Append)
                .help("A host that may have the token through git, docker and get, such as https://gitlab.acme.example"),
        )
        .arg(
            Arg::new("secret-stdin")
                .long("secret-stdin")
                .action(ArgAction::SetTrue)
                .help("Read the secret from standard input"),
        )
        .arg(
            Arg::new("secret-file")
                .long("secret-file")
                .value_name("FILE")
                .conflicts_with("secret-stdin")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Read the secret from this file"),
        )
        .arg(
            Arg::new("store")
                .long("store")
                .value_name("WHERE")
                .default_value("keyring")
                .value_parser(PossibleValuesParser::new(login::Store::NAMES))
                .help("Where to keep the secret"),
        )
        .after_help("Example: runai-credential login --profile prod --url https://app.run.ai --realm acme")
}

fn login_of(login: &ArgMatches) -> login::Login {
    let text = |id: &str| login.get_one::<String>(id).cloned();
    login::Login {
        texts: LOGIN_TEXTS.iter().filter_map(|(key, ..)| Some((*key, text(key)?))).collect(),
        hosts: login.get_many::<String>("host").into_iter().flatten().cloned().collect(),
        secret: match (login.get_flag("secret-stdin"), login.get_one::<PathBuf>("secret-file")) {
            (true, _) => login::From::Stdin,
            (false, Some(path)) => login::From::File(path.clone()),
            (false, None) => login::From::Prompt,
        },
        store: text("store").and_then(|name| login::Store::named(&name)).unwrap_or_default(),
    }
}

fn logout_grammar() -> Command {
    Command::new("logout")
        .about("Undo login: remove the secret, the cached token and the profile")
        .after_help("Example: runai-credential logout --profile prod")
}

fn status_grammar() -> Command {
    Command::new("status")
        .about("Say what there is: profiles, where their secrets are, how long their tokens live, what failed last")
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .default_value("table")
                .value_parser(PossibleValuesParser::new(status::Format::NAMES))
                .help("How to print it"),
        )
        .after_help("Example: runai-credential status --format json")
}

fn setup_grammar() -> Command {
    Command::new("setup")
        .about("Tell kubectl, git or docker to ask runai-credential")
        .arg(
            Arg::new("tool")
                .value_name("TOOL")
                .required(true)
                .value_parser(PossibleValuesParser::new(setup::Tool::NAMES))
                .help("Whom to tell"),
        )
        .arg(Arg::new("print").long("print").action(ArgAction::SetTrue).help("Show what would be done, and do nothing"))
        .arg(Arg::new("undo").long("undo").action(ArgAction::SetTrue).help("Restore what was there before"))
        .arg(
            Arg::new("context")
                .long("context")
                .value_name("NAME")
                .help("kubectl: the context that is to use the token [default: the current one]"),
        )
        .after_help("Example: runai-credential setup kubectl --context acme")
}

fn completions_grammar() -> Command {
    Command::new("completions")
        .about("Print the completions of a shell")
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(clap::value_parser!(Shell))
                .help("The shell they are for"),
        )
        .after_help(
            "Example: runai-credential completions bash > ~/.local/share/bash-completion/completions/runai-credential",
        )
}

fn man_grammar() -> Command {
    Command::new("man")
        .about("Print a man page, in troff")
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .value_parser(PossibleValuesParser::new(SUBCOMMANDS.iter().map(|(name, _)| *name)))
                .help("The command that it is about, if not the whole program"),
        )
        .after_help("Example: runai-credential man token | man -l -")
}

/// The completions for a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut grammar(None), PROGRAM, &mut text);
    text
}

/// The man page of a subcommand, or of the program: troff, section 1.
pub fn man(subcommand: Option<&str>) -> Vec<u8> {
    let mut program = grammar(None);
    program.build();
    let found = subcommand.and_then(|name| program.find_subcommand(name));
    let page = match (found, subcommand) {
        // The name in full is that of the page, by which other pages refer to it.
        (Some(found), Some(name)) => found.clone().display_name(format!("{PROGRAM}-{name}")),
        _ => program,
    };
    let mut text = Vec::new();
    // It is written to memory, which does not fail.
    let _ = Man::new(page).render(&mut text);
    text
}

fn doctor_grammar() -> Command {
    Command::new("doctor")
        .about("Go through every step of a real call and say what is wrong and what to do")
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .default_value("text")
                .value_parser(["text", "json"])
                .help("How to print it"),
        )
        .arg(
            Arg::new("audience")
                .long("audience")
                .value_name("CLIENT")
                .help("What the API server of the cluster wants in aud (its --oidc-client-id) [default: runai]"),
        )
        .after_help("Example: runai-credential doctor --profile prod")
}

const EXEC_USAGE: &str = "write the program after --: runai-credential exec -- PROGRAM ARGUMENTS";

fn exec_grammar() -> Command {
    Command::new("exec")
        .about("Run a program beside a file with a token that stays fresh")
        .override_usage("runai-credential exec [OPTIONS] -- PROGRAM [ARGUMENTS]...")
        .arg(
            Arg::new("env")
                .long("env")
                .value_name("NAME")
                .value_parser(exec::variable)
                .help("Put the token into this variable, too; there it is not renewed and ends while the program runs"),
        )
        .arg(
            Arg::new("command")
                .value_name("PROGRAM")
                .last(true)
                .num_args(1..)
                .value_parser(clap::value_parser!(OsString))
                .help("The program and its arguments"),
        )
        .after_help(
            "The program finds the file's name in BEARER_TOKEN_FILE and reads the file before each use.\n\
             Example: runai-credential exec -- python3 train.py",
        )
}

/// Sorts what clap stops for into what we print and what we fail with.
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
        (ErrorKind::MissingSubcommand, _) => return Stop::Wrong(usage("no command was given", LIST)),
        (_, Some(suggested)) => format!("did you mean {suggested}?"),
        _ => text
            .lines()
            .find_map(|line| line.trim().strip_prefix("[possible values: "))
            .map_or_else(|| LIST.to_owned(), |values| format!("possible are {}", values.trim_end_matches(']'))),
    };
    Stop::Wrong(usage(what, &hint))
}

const LIST: &str = "runai-credential --help lists commands and options";

fn usage(what: &str, hint: &str) -> Error {
    Error::new(Kind::Usage, what, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Asked, String> {
        let args: Vec<OsString> = line.split(' ').filter(|arg| !arg.is_empty()).map(OsString::from).collect();
        parse(&args).map_err(|stop| match stop {
            Stop::Print(text) => text,
            Stop::Wrong(error) | Stop::WrongDocker(error) => format!("{} / {}", error.what, error.hint),
        })
    }

    #[test]
    fn the_grammar_is_sound() {
        grammar(None).debug_assert();
    }

    #[test]
    fn global_options_stand_on_either_side() {
        for line in [
            "rc --profile p --bearer id_token -v kubectl",
            "rc kubectl --profile p --bearer id_token --verbose",
            "rc --profile=p kubectl --bearer=id_token -v",
        ] {
            let asked = parsed(line).unwrap();
            let choice = Choice { profile: Some("p".to_owned()), config: None, bearer: Some(Bearer::IdToken) };
            assert_eq!(asked, Asked { choice, verbose: true, job: Job::Kubectl }, "{line}");
        }
    }

    #[test]
    fn the_options_of_token() {
        let job = |line: &str| parsed(line).map(|asked| asked.job);
        let token = |format, newline, unwanted, min_validity| {
            Ok(Job::Token(token::Options { format, newline, unwanted, min_validity, url: None }))
        };
        assert_eq!(job("rc token"), token(Format::Plain, true, None, None));
        assert_eq!(job("rc token --format json --refresh"), token(Format::Json, true, Some(Unwanted::Cached), None));
        assert_eq!(job("rc token --rejected-stdin"), token(Format::Plain, true, Some(Unwanted::OnStdin), None));
        assert!(job("rc token --rejected-stdin --refresh").is_err());
        assert_eq!(
            job("rc token -n --min-validity 10m --format=header"),
            token(Format::Header, false, None, Some(Duration::from_secs(600)))
        );
    }

    #[test]
    fn the_verbs_of_docker() {
        let job = |line: &str| parsed(line).map(|asked| (asked.job, asked.verbose));
        for (line, verb, verbose) in [
            ("rc docker get", Verb::Get, false),
            ("/usr/bin/docker-credential-runai store", Verb::Store, false),
            ("docker-credential-runai --profile p erase", Verb::Erase, false),
            ("docker-credential-runai -v list", Verb::List, true),
            ("docker-credential-runai version", Verb::Version, false),
            ("docker-credential-runai --version", Verb::Version, false),
            ("docker-credential-runai -v", Verb::Version, true),
            ("rc docker --version", Verb::Version, false),
        ] {
            assert_eq!(job(line), Ok((Job::Docker(verb), verbose)), "{line}");
        }
        for line in ["", " get get", " gte", " --get", " get --config"] {
            let args: Vec<OsString> = format!("docker-credential-runai{line}").split(' ').map(OsString::from).collect();
            let Err(Stop::WrongDocker(error)) = parse(&args) else { panic!("{line}") };
            assert_eq!((error.kind, error.hint.as_str()), (Kind::Usage, DOCKER_USAGE), "{line}");
        }
    }

    #[test]
    fn only_the_named_subcommand_is_built() {
        let named = |line: &str| {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            named_subcommand(&args)
        };
        assert_eq!(named("rc --profile token kubectl"), Some("kubectl"));
        assert_eq!(named("rc -v --config=/x token"), Some("token"));
        assert_eq!(named("rc --unknown token"), None);
        assert_eq!(named("rc tokn"), None);
        assert_eq!(named("rc"), None);
    }

    #[test]
    fn mistakes_are_one_line_with_a_remedy() {
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
            assert_eq!(parsed(line).unwrap_err(), wanted, "{line}");
        }
    }

    #[test]
    fn every_subcommand_shows_an_example() {
        for (name, _) in SUBCOMMANDS {
            let help = parsed(&format!("rc {name} --help")).unwrap_err();
            assert!(help.contains("Example"), "{help}");
        }
    }

    #[test]
    fn help_lists_every_subcommand() {
        let help = parsed("rc --help").unwrap_err();
        assert!(SUBCOMMANDS.iter().all(|(name, _)| help.contains(name)), "{help}");
        assert_eq!(parsed("rc --version").unwrap_err(), format!("runai-credential {}\n", env!("CARGO_PKG_VERSION")));
    }
}
