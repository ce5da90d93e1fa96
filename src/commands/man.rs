//! `man`: a man page, made from the grammar: troff, section 1.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};
use clap_mangen::Man;

use super::names;
use crate::error::Result;
use crate::reply::Reply;
use crate::subcommand::{Context, PROGRAM, Subcommand};

/// The subcommand.
pub static SUBCOMMAND: Subcommand =
    Subcommand { name: "man", program_names: &[], grammar, run, usage_error: Reply::from };

fn grammar(command: Command) -> Command {
    command
        .about("Print a man page, in troff")
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .value_parser(PossibleValuesParser::new(names()))
                .help("The command that it is about, if not the whole program"),
        )
        .after_help("Example: runai-credential man token | man -l -")
}

fn run(matches: &ArgMatches, context: &Context<'_>) -> Result<Reply> {
    let mut program = (context.whole_grammar)();
    program.build();
    let name = matches.get_one::<String>("command");
    let page = match name.and_then(|name| Some((name, program.find_subcommand(name)?))) {
        // The name in full is that of the page, by which other pages refer to it.
        Some((name, found)) => found.clone().display_name(format!("{PROGRAM}-{name}")),
        None => program,
    };
    let mut text = Vec::new();
    // It is written to memory, which does not fail.
    let _ = Man::new(page).render(&mut text);
    Ok(Reply::of(text))
}
