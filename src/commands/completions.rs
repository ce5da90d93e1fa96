//! `completions`: prints the completions for a shell, made from the grammar.

use clap::{Arg, ArgMatches, Command};
use clap_complete::Shell;

use crate::error::{Error, Kind, Result};
use crate::reply::Reply;
use crate::subcommand::{Context, PROGRAM, Subcommand, USAGE_HINT};

/// The subcommand.
pub static SUBCOMMAND: Subcommand =
    Subcommand { name: "completions", program_names: &[], grammar, run, usage_error: Reply::from };

fn grammar(command: Command) -> Command {
    command
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

fn run(matches: &ArgMatches, context: &Context<'_>) -> Result<Reply> {
    let Some(shell) = matches.get_one::<Shell>("shell") else {
        return Err(Error::new(Kind::Usage, "no shell was named", USAGE_HINT));
    };
    let mut text = Vec::new();
    clap_complete::generate(*shell, &mut (context.whole_grammar)(), PROGRAM, &mut text);
    Ok(Reply::of(text))
}
