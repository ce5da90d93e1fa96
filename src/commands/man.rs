//! `man`: prints a man page (troff, section 1), made from the grammar.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use clap_mangen::Man;

use super::subcommands;
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
                .value_parser(PossibleValuesParser::new(subcommands().map(|subcommand| subcommand.name)))
                .help("The command that it is about, if not the whole program"),
        )
        // For `make install`, and so for packagers.
        .arg(Arg::new("list").long("list").action(ArgAction::SetTrue).hide(true))
        .after_help("Example: runai-credential man token | man -l -")
}

/// Lists the subcommands, each followed by the further names of the program that stand for it.
fn list() -> String {
    let lines = subcommands().map(|subcommand| {
        let names = [subcommand.name].into_iter().chain(subcommand.program_names.iter().copied());
        names.collect::<Vec<_>>().join(" ") + "\n"
    });
    lines.collect()
}

fn run(matches: &ArgMatches, context: &Context<'_>) -> Result<Reply> {
    if matches.get_flag("list") {
        return Ok(Reply::of(list()));
    }
    let mut program = (context.whole_grammar)();
    program.build();
    let name = matches.get_one::<String>("command");
    let page = match name.and_then(|name| Some((name, program.find_subcommand(name)?))) {
        // Other pages refer to this page by its full name.
        Some((name, found)) => found.clone().display_name(format!("{PROGRAM}-{name}")),
        None => program,
    };
    let mut text = Vec::new();
    // A write to memory cannot fail.
    let _ = Man::new(page).render(&mut text);
    Ok(Reply::of(text))
}
